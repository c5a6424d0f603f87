//! Lines of JSON on a byte stream, as the protocol frames them.

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

use crate::messages::MAX_LINE;

/// Why a line could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The stream failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The line is longer than [`MAX_LINE`].
    #[error("a line of more than {MAX_LINE} bytes")]
    TooLong,
    /// The stream ended in the middle of a line.
    #[error("the stream ended within a line")]
    Torn,
    /// The line is not the expected JSON.
    #[error("not a line of the protocol: {0}")]
    Json(#[from] serde_json::Error),
}

/// Reads the next line; `None` at the end of the stream. Safe to cancel only together with the stream.
pub async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncBufRead + Unpin),
) -> Result<Option<T>, LineError> {
    let mut line = Vec::new();
    loop {
        let seen = stream.fill_buf().await?;
        if seen.is_empty() {
            return if line.is_empty() { Ok(None) } else { Err(LineError::Torn) };
        }
        let end = seen.iter().position(|&b| b == b'\n');
        let part = end.map_or(seen, |at| &seen[..at]);
        if line.len() + part.len() >= MAX_LINE {
            return Err(LineError::TooLong);
        }
        line.extend_from_slice(part);
        let used = end.map_or(seen.len(), |at| at + 1);
        stream.consume(used);
        if end.is_some() {
            return Ok(Some(serde_json::from_slice(&line)?));
        }
    }
}

/// Writes one line and flushes it.
pub async fn write<T: Serialize>(stream: &mut (impl AsyncWrite + Unpin), value: &T) -> Result<(), LineError> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    if line.len() > MAX_LINE {
        return Err(LineError::TooLong);
    }
    stream.write_all(&line).await?;
    stream.flush().await?;
    Ok(())
}

/// Passes on every line until the stream ends; an error if it ends within a line or a line is invalid.
pub async fn pump<T: DeserializeOwned>(
    mut stream: impl AsyncBufRead + Unpin,
    to: mpsc::Sender<T>,
) -> Result<(), LineError> {
    while let Some(line) = read(&mut stream).await? {
        // If the receiver is gone, we still wait for the stream's end.
        let _ = to.send(line).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn lines_are_read_one_by_one_and_what_follows_stays() {
        let mut bytes: &[u8] = b"[1,2]\n\"a\"\nraw";
        assert_eq!(read::<Vec<u8>>(&mut bytes).await.unwrap(), Some(vec![1, 2]));
        assert_eq!(read::<String>(&mut bytes).await.unwrap(), Some("a".into()));
        assert_eq!(bytes, b"raw");
        assert!(matches!(read::<String>(&mut bytes).await, Err(LineError::Torn)));
        assert!(read::<String>(&mut &b""[..]).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused_at_the_limit() {
        let mut endless = tokio::io::BufReader::new(tokio::io::repeat(b'x'));
        assert!(matches!(read::<String>(&mut endless).await, Err(LineError::TooLong)));
    }
}
