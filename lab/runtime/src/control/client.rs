//! The client's side of the control socket.

use std::io::{self, ErrorKind};

use futures::{SinkExt, StreamExt};
use labctl_protocol::messages::ExecIn;
use labctl_state::LabDir;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use super::{
    MAX_LINE,
    protocol::{Answer, Request},
};
use crate::Error;

/// One request to a supervisor.
#[derive(Debug)]
pub struct Client {
    lines: Framed<UnixStream, LinesCodec>,
}

impl Client {
    /// Connects to a lab's supervisor.
    ///
    /// # Errors
    /// If nobody listens, [`Dead`](labctl_state::Error::Dead) or [`TakenDown`](labctl_state::Error::TakenDown).
    pub async fn connect(dir: &LabDir) -> Result<Self, Error> {
        match UnixStream::connect(dir.control_socket()).await {
            Ok(stream) => Ok(Self { lines: Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE)) }),
            Err(_) => Err(dir.gone().into()),
        }
    }

    /// Sends the request. One per connection.
    pub async fn send(&mut self, request: &Request) -> Result<(), Error> {
        self.send_line(request).await.map_err(broken)
    }

    /// Sends input to a command started by [`Request::Exec`]. A supervisor that has hung up is no error here: a refusal
    /// or the command's end came first, and [`Client::next`] still yields it.
    pub async fn send_exec(&mut self, input: &ExecIn) -> Result<(), Error> {
        match self.send_line(input).await {
            Err(LinesCodecError::Io(e))
                if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
            {
                Ok(())
            }
            sent => sent.map_err(broken),
        }
    }

    async fn send_line(&mut self, value: &impl Serialize) -> Result<(), LinesCodecError> {
        let line = serde_json::to_string(value).map_err(io::Error::from)?;
        self.lines.send(line).await
    }

    /// The next answer; `None` once the supervisor has hung up. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Answer>, Error> {
        match self.lines.next().await {
            None => Ok(None),
            Some(line) => {
                let line = line.map_err(broken)?;
                serde_json::from_str(&line).map(Some).map_err(|e| Error::Control(e.to_string()))
            }
        }
    }
}

fn broken(error: LinesCodecError) -> Error {
    Error::Control(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::error::Failure;

    /// A refusal may come while the command's input is still on its way: what counts is the refusal.
    #[tokio::test]
    async fn a_supervisor_that_hung_up_is_heard_to_the_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client { lines: Framed::new(ours, LinesCodec::new_with_max_length(MAX_LINE)) };
        client.send_exec(&ExecIn::Stdin("bGVmdCB1bnJlYWQ=".to_owned())).await.unwrap();
        let refusal = Answer::Error(Failure { message: "it is a peer".to_owned(), exit_code: 2 });
        theirs.write_all(format!("{}\n", serde_json::to_string(&refusal).unwrap()).as_bytes()).await.unwrap();
        drop(theirs);
        client.send_exec(&ExecIn::Eof).await.unwrap();
        let heard = client.next().await.unwrap();
        assert!(matches!(&heard, Some(Answer::Error(f)) if f.message == "it is a peer"), "{heard:?}");
        assert!(client.send(&Request::Status).await.is_err(), "a request that nobody takes is an error");
    }
}
