//! labctl's side of sending, watching and decapsulating frames.

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader},
    time::timeout,
};

use super::{AgentClient, AgentStream, ClientError, ORDINARY};
use crate::{
    lines::{self, LineError},
    messages::{
        CaptureOut, FrameWatch, MAX_SENDING_S, Outgoing, Request, ScratchVtep, SeenFrame, SendFrame, WatchIn,
        WatchOut,
    },
};

const OP: &str = "watch";

/// An open watch. Dropping it closes its sockets.
#[derive(Debug)]
pub struct WatchClient {
    stream: AgentStream,
    absent: BTreeMap<String, String>,
    missed: BTreeMap<String, u64>,
}

/// A VTEP that lives until this is dropped.
#[derive(Debug)]
pub struct VtepClient {
    _stream: AgentStream,
}

/// A capture of what a machine sends through an interface. Dropping it ends it.
#[derive(Debug)]
pub struct CaptureClient {
    stream: AgentStream,
}

impl CaptureClient {
    /// Its two halves: what comes out, and where a byte asks for all that was sent so far.
    pub fn split(self) -> (CaptureReader, impl AsyncWrite + Send + Unpin) {
        let (read, write) = tokio::io::split(self.stream);
        (CaptureReader(BufReader::new(Box::new(read))), write)
    }
}

/// What comes out of a capture.
pub struct CaptureReader(BufReader<Box<dyn AsyncRead + Send + Unpin>>);

impl CaptureReader {
    /// The next line; `None` once the capture or the session has ended. Not cancel-safe.
    pub async fn next(&mut self) -> Option<CaptureOut> {
        lines::read(&mut self.0).await.ok().flatten()
    }
}

impl AgentClient {
    /// Captures what the machine sends through an interface; once this returns, no frame is missed.
    pub async fn capture(&self, interface: &str, snaplen: usize) -> Result<CaptureClient, ClientError> {
        let request = Request::Capture { interface: interface.to_owned(), snaplen };
        Ok(CaptureClient { stream: self.open(&request).await?.1 })
    }

    /// Sends frames through an interface; returns when all are sent. Dropping the future ends it.
    pub async fn send_frame(&self, frame: SendFrame) -> Result<(), ClientError> {
        let kinds = match &frame.frames {
            Outgoing::Built(frames) => u32::try_from(frames.len()).unwrap_or(u32::MAX),
            Outgoing::Varied { .. } => 1,
        };
        let all = kinds.saturating_mul(frame.count);
        let flat_out = Duration::from_secs(MAX_SENDING_S);
        let takes = frame.rate.map_or(flat_out, |rate| Duration::from_secs(1) * all / rate.max(1));
        self.request_within(&Request::Send(frame), ORDINARY + takes).await.map(drop)
    }

    /// Begins to watch for frames; once this returns, the sockets are open.
    pub async fn watch_frames(&self, watch: FrameWatch) -> Result<WatchClient, ClientError> {
        let (absent, stream) = self.open(&Request::Watch(watch)).await?;
        let absent = serde_json::from_value(absent)
            .map_err(|e| ClientError::Garbled { op: OP, why: e.to_string() })?;
        Ok(WatchClient { stream, absent, missed: BTreeMap::new() })
    }

    /// Makes a VTEP in the host's own namespace.
    pub async fn vtep(&self, vtep: ScratchVtep) -> Result<VtepClient, ClientError> {
        Ok(VtepClient { _stream: self.open(&Request::Vtep(vtep)).await?.1 })
    }
}

impl WatchClient {
    /// Endpoints that we could not enter, and why: nobody watches there.
    pub fn absent(&self) -> &BTreeMap<String, String> {
        &self.absent
    }

    /// Frames, of this run or not, that came too fast to be looked at, by endpoint; as of the last
    /// [`seen`](Self::seen).
    pub fn missed(&self) -> &BTreeMap<String, u64> {
        &self.missed
    }

    /// Asks for the frames seen so far.
    pub async fn seen(&mut self) -> Result<Vec<SeenFrame>, ClientError> {
        let exchange = async {
            let mut all = Vec::new();
            lines::write(&mut self.stream, &WatchIn::Seen).await?;
            loop {
                match lines::read(&mut self.stream).await? {
                    Some(WatchOut::Seen(part)) => all.extend(part),
                    Some(WatchOut::All { missed }) => return Ok((all, missed)),
                    None => return Err(LineError::Torn),
                }
            }
        };
        match timeout(ORDINARY, exchange).await {
            Ok(Ok((all, missed))) => {
                self.missed = missed;
                Ok(all)
            }
            Ok(Err(LineError::Io(e))) => Err(ClientError::Gone { op: OP, why: e.to_string().into() }),
            Ok(Err(e)) => Err(ClientError::Garbled { op: OP, why: e.to_string() }),
            Err(_elapsed) => Err(ClientError::Timeout { op: OP, limit: ORDINARY }),
        }
    }
}
