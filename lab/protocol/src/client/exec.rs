//! A command that runs in a host, as labctl sees it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::io::{BufReader, ReadHalf, WriteHalf, split};

use super::{AgentStream, ClientError};
use crate::{
    lines,
    messages::{ExecIn, ExecOut},
};

pub(super) const OP: &str = "exec";

/// Largest piece of stdin in one line.
const PIECE: usize = 32 << 10;

/// Most bytes that [`ExecSession::output`] keeps of stdout, and of stderr.
const MAX_OUTPUT: usize = 16 << 20;

/// A running command. Dropping both halves kills it.
#[derive(Debug)]
pub struct ExecSession {
    input: ExecInput,
    output: ExecOutput,
}

/// Input of a running command.
#[derive(Debug)]
pub struct ExecInput(WriteHalf<AgentStream>);

/// Output of a running command.
#[derive(Debug)]
pub struct ExecOutput(BufReader<ReadHalf<AgentStream>>);

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit status, or 128 + signal.
    pub status: i32,
    /// Its stdout, at most 16 MiB of it.
    pub stdout: Vec<u8>,
    /// Its stderr, at most 16 MiB of it.
    pub stderr: Vec<u8>,
}

/// One event from a command, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecEvent {
    /// Bytes of stdout.
    Stdout(Vec<u8>),
    /// Bytes of stderr.
    Stderr(Vec<u8>),
    /// It ended with this status.
    Exit(i32),
}

fn failed(why: impl ToString) -> ClientError {
    ClientError::Garbled { op: OP, why: why.to_string() }
}

impl ExecSession {
    pub(super) fn new(stream: AgentStream) -> Self {
        let (read, write) = split(stream);
        Self { input: ExecInput(write), output: ExecOutput(BufReader::new(read)) }
    }

    /// Splits it into both directions, for use on two tasks.
    pub fn split(self) -> (ExecInput, ExecOutput) {
        (self.input, self.output)
    }

    /// Closes stdin, waits for the end and collects the output.
    pub async fn output(mut self) -> Result<Output, ClientError> {
        self.input.eof().await?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            let (kept, bytes) = match self.output.next().await? {
                ExecEvent::Stdout(bytes) => (&mut stdout, bytes),
                ExecEvent::Stderr(bytes) => (&mut stderr, bytes),
                ExecEvent::Exit(status) => return Ok(Output { status, stdout, stderr }),
            };
            let room = MAX_OUTPUT - kept.len();
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

impl ExecInput {
    /// Sends a line as it is.
    pub async fn send(&mut self, line: &ExecIn) -> Result<(), ClientError> {
        lines::write(&mut self.0, line).await.map_err(failed)
    }

    /// Writes to the command's stdin.
    pub async fn stdin(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        for piece in bytes.chunks(PIECE) {
            self.send(&ExecIn::Stdin(STANDARD.encode(piece))).await?;
        }
        Ok(())
    }

    /// Ends the command's stdin.
    pub async fn eof(&mut self) -> Result<(), ClientError> {
        self.send(&ExecIn::Eof).await
    }

    /// Resizes the terminal.
    pub async fn resize(&mut self, rows: u16, columns: u16) -> Result<(), ClientError> {
        self.send(&ExecIn::Resize(rows, columns)).await
    }
}

impl ExecOutput {
    /// The next line as it is; an error if the stream ends before the command does.
    pub async fn next_line(&mut self) -> Result<ExecOut, ClientError> {
        match lines::read(&mut self.0).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => {
                Err(ClientError::Gone { op: OP, why: "the stream ended before the command did".into() })
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The next event. Nothing follows [`ExecEvent::Exit`].
    pub async fn next(&mut self) -> Result<ExecEvent, ClientError> {
        let decode = |text: String| STANDARD.decode(text).map_err(failed);
        loop {
            match self.next_line().await? {
                // Only says that the command still runs.
                ExecOut::Stdout(text) if text.is_empty() => {}
                ExecOut::Stdout(text) => return Ok(ExecEvent::Stdout(decode(text)?)),
                ExecOut::Stderr(text) => return Ok(ExecEvent::Stderr(decode(text)?)),
                ExecOut::Exit(status) => return Ok(ExecEvent::Exit(status)),
            }
        }
    }
}
