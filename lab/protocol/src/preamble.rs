//! How a session begins on a stream that may still hold bytes of an earlier one.
//!
//! A virtio-serial port outlives labctl, and a restored machine may be in the middle of a forgotten session. So before
//! yamux begins, both sides exchange these lines, each with the session's random number:
//!
//! ```text
//! labctl  → agent   labctl-session hello <32 hex digits>      repeated until it is answered
//! agent   → labctl  labctl-session heard <the same>           for each hello
//! labctl  → agent   labctl-session begin <the same>
//! agent   → labctl  labctl-session ready <the same>
//! ```
//!
//! Each side skips everything before the line it waits for. An agent in an old session takes the first hello for a
//! broken frame, ends that session and hears the next hello. Padding of 0xFF, with which no frame begins, completes a
//! frame that the old session was reading.

use std::time::Duration;

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout},
};

const MAGIC: &str = "labctl-session ";
const ID_LEN: usize = 32;
const WORD_LEN: usize = 6;
const LINE_LEN: usize = MAGIC.len() + WORD_LEN + ID_LEN + 1;

const HELLO: &str = "hello ";
const HEARD: &str = "heard ";
const BEGIN: &str = "begin ";
const READY: &str = "ready ";

/// Pause after the first hello, and the longest pause: an agent in an old session hears the second hello, and a booting
/// machine needs no hurry.
const FIRST_REPEAT: Duration = Duration::from_millis(20);
const REPEAT: Duration = Duration::from_millis(100);

/// Bytes of padding, more than yamux's largest frame (16 KiB and its header). They go before the second hello and again
/// before every [`PAD_EVERY`]th, for an agent that came later.
const PADDING: usize = 17 << 10;
const PAD_EVERY: u32 = 32;

type Id = [u8; ID_LEN];

/// Why no session began.
#[derive(Debug, thiserror::Error)]
pub enum PreambleError {
    /// The stream failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The stream ended.
    #[error("the stream ended before a session began")]
    Ended,
    /// Nobody answered in time.
    #[error("no agent answered within {0:?}")]
    Silent(Duration),
}

/// labctl's side: returns once the agent is ready for a session, within `limit`.
pub async fn begin(
    stream: &mut (impl AsyncBufRead + AsyncWrite + Unpin),
    limit: Duration,
) -> Result<(), PreambleError> {
    let id: Id = hex_digits(rand::random());
    let deadline = Instant::now() + limit;
    let exchange = async {
        let mut scanner = Scanner::default();
        for attempt in 0_u32.. {
            if attempt % PAD_EVERY == 1 {
                stream.write_all(&[0xFF; PADDING]).await?;
            }
            send(stream, HELLO, &id).await?;
            let pause = FIRST_REPEAT.saturating_mul(attempt + 1).min(REPEAT);
            // Without an answer in time, send the next hello.
            if let Ok(heard) = timeout(pause, scanner.wait_for(stream, HEARD, &id)).await {
                heard?;
                break;
            }
        }
        send(stream, BEGIN, &id).await?;
        scanner.wait_for(stream, READY, &id).await
    };
    match tokio::time::timeout_at(deadline, exchange).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(PreambleError::Silent(limit)),
    }
}

/// The agent's side, when its process begins: ends a session that an earlier agent on this port has left, because labctl
/// does not notice that agent's death. In a session this is a broken frame; before one it is skipped.
pub async fn end_earlier(stream: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    stream.write_all(&[0xFF; PADDING]).await?;
    stream.flush().await
}

/// The agent's side: waits without limit for somebody to begin a session.
pub async fn await_begin(stream: &mut (impl AsyncBufRead + AsyncWrite + Unpin)) -> Result<(), PreambleError> {
    let mut scanner = Scanner::default();
    let mut hello: Option<Id> = None;
    loop {
        let (word, id) = scanner.next(stream).await?;
        match word {
            HELLO => {
                hello = Some(id);
                send(stream, HEARD, &id).await?;
            }
            BEGIN if hello == Some(id) => return Ok(send(stream, READY, &id).await?),
            _ => {}
        }
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), word: &str, id: &Id) -> std::io::Result<()> {
    let mut line = Vec::with_capacity(LINE_LEN);
    line.extend_from_slice(MAGIC.as_bytes());
    line.extend_from_slice(word.as_bytes());
    line.extend_from_slice(id);
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

fn hex_digits(number: u128) -> Id {
    let mut id = [0; ID_LEN];
    for (digit, text) in id.iter_mut().zip(format!("{number:032x}").bytes()) {
        *digit = text;
    }
    id
}

/// Finds the preamble's lines among other bytes. Keeps its place when cancelled.
#[derive(Default)]
struct Scanner {
    /// The last bytes seen, at most one line.
    tail: Vec<u8>,
}

impl Scanner {
    async fn wait_for(
        &mut self,
        stream: &mut (impl AsyncBufRead + Unpin),
        word: &'static str,
        id: &Id,
    ) -> Result<(), PreambleError> {
        while self.next(stream).await? != (word, *id) {}
        Ok(())
    }

    async fn next(
        &mut self,
        stream: &mut (impl AsyncBufRead + Unpin),
    ) -> Result<(&'static str, Id), PreambleError> {
        loop {
            let seen = stream.fill_buf().await?;
            if seen.is_empty() {
                return Err(PreambleError::Ended);
            }
            let end = seen.iter().position(|&b| b == b'\n').map_or(seen.len(), |at| at + 1);
            self.tail.extend_from_slice(&seen[..end]);
            stream.consume(end);
            let excess = self.tail.len().saturating_sub(LINE_LEN);
            self.tail.drain(..excess);
            if let Some(found) = parse(&self.tail) {
                self.tail.clear();
                return Ok(found);
            }
        }
    }
}

fn parse(line: &[u8]) -> Option<(&'static str, Id)> {
    let rest = line.strip_prefix(MAGIC.as_bytes())?.strip_suffix(b"\n")?;
    let (word, id) = rest.split_at_checked(WORD_LEN)?;
    let word = [HELLO, HEARD, BEGIN, READY].into_iter().find(|w| w.as_bytes() == word)?;
    let id: Id = id.try_into().ok()?;
    id.iter().all(u8::is_ascii_hexdigit).then_some((word, id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{BufReader, duplex};

    #[tokio::test]
    async fn both_sides_find_each_other_through_garbage() {
        let (near, far) = duplex(1 << 16);
        let (mut near, mut far) = (BufReader::new(near), BufReader::new(far));
        near.write_all(b"\0\0left over\nlabctl-session hello 0123").await.unwrap();
        far.write_all(&[0; 5000]).await.unwrap();
        let other = hex_digits(7);
        send(&mut far, READY, &other).await.unwrap();
        let (a, b) = tokio::join!(begin(&mut near, Duration::from_secs(5)), await_begin(&mut far));
        a.unwrap();
        b.unwrap();
        near.write_all(b"x").await.unwrap();
        assert_eq!(far.fill_buf().await.unwrap(), b"x", "nothing of the preamble is left");
    }

    #[tokio::test]
    async fn hellos_that_were_answered_late_do_not_reach_the_session() {
        let (near, far) = duplex(1 << 20);
        let (mut near, mut far) = (BufReader::new(near), BufReader::new(far));
        let late = async {
            tokio::time::sleep(REPEAT * 3).await;
            await_begin(&mut far).await
        };
        let (a, b) = tokio::join!(begin(&mut near, Duration::from_secs(5)), late);
        a.unwrap();
        b.unwrap();
        far.write_all(b"y").await.unwrap();
        near.write_all(b"x").await.unwrap();
        assert_eq!(near.fill_buf().await.unwrap(), b"y");
        assert_eq!(far.fill_buf().await.unwrap(), b"x");
    }

    #[tokio::test]
    async fn silence_ends_at_the_limit() {
        let (near, _far) = duplex(1 << 20);
        let limit = Duration::from_millis(250);
        let error = begin(&mut BufReader::new(near), limit).await.unwrap_err();
        assert!(matches!(error, PreambleError::Silent(_)), "{error}");
    }
}
