//! labctl's side of a probe session.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufRead, BufReader, split},
    time::timeout,
};

use super::{AgentStream, ClientError};
use crate::{
    lines,
    messages::{ProbeIn, ProbeOut, Shot, ShotResult, Sighting},
};

const OP: &str = "probe";

/// Most shots in one line, well under the longest line.
const SHOTS: usize = 10_000;

/// How long an agent may take beyond the deadline to look up neighbours and to answer.
const SLACK: Duration = Duration::from_secs(30);

/// An open probe session. Dropping it closes its listeners and watchers.
#[derive(Debug)]
pub struct ProbeClient {
    stream: AgentStream,
    absent: BTreeMap<String, String>,
}

impl ProbeClient {
    pub(super) fn new(absent: Value, stream: AgentStream) -> Result<Self, ClientError> {
        let absent = serde_json::from_value(absent)
            .map_err(|e| ClientError::Garbled { op: OP, why: e.to_string() })?;
        Ok(Self { stream, absent })
    }

    /// Endpoints that we could not enter, and why: their shots fail and nobody watches there.
    pub fn absent(&self) -> &BTreeMap<String, String> {
        &self.absent
    }

    /// Fires all shots at once and waits for every result, in order of arrival. Silent shots take `deadline_ms`.
    pub async fn fire(&mut self, shots: Vec<Shot>, deadline_ms: u32) -> Result<Vec<ShotResult>, ClientError> {
        let expected = shots.len();
        let limit = Duration::from_millis(deadline_ms.into()) + SLACK;
        let mut results = Vec::with_capacity(expected);
        // Results come while shots are still sent: if nobody read them, the agent would stop reading. Once all are read, nothing
        // comes unasked, so this reader leaves nothing behind.
        let (read, mut write) = split(&mut self.stream);
        let mut read = BufReader::new(read);
        let ordering = async {
            for shots in shots.chunks(SHOTS) {
                let order = ProbeIn::Fire { deadline_ms, shots: shots.to_vec() };
                lines::write(&mut write, &order).await.map_err(failed)?;
            }
            Ok(())
        };
        let reading = async {
            while results.len() < expected {
                if let ProbeOut::Results(some) = next(&mut read).await? {
                    results.extend(some);
                }
            }
            Ok(())
        };
        let exchange = async { tokio::try_join!(ordering, reading).map(drop) };
        timeout(limit, exchange).await.unwrap_or(Err(ClientError::Timeout { op: OP, limit }))?;
        Ok(results)
    }

    /// The sightings so far, in order of time within a namespace. Between namespaces the order is right only for packets
    /// that came after the kernel had begun to stamp them. `brief`: see [`ProbeIn::Sightings`].
    pub async fn sightings(&mut self, brief: HashSet<u32>) -> Result<Vec<Sighting>, ClientError> {
        let mut all = Vec::new();
        let exchange = async {
            lines::write(&mut self.stream, &ProbeIn::Sightings { brief }).await.map_err(failed)?;
            loop {
                match next(&mut self.stream).await? {
                    ProbeOut::Sightings(part) if part.is_empty() => return Ok(()),
                    ProbeOut::Sightings(part) => all.extend(part),
                    ProbeOut::Results(_) => {}
                }
            }
        };
        timeout(SLACK, exchange).await.unwrap_or(Err(ClientError::Timeout { op: OP, limit: SLACK }))?;
        Ok(all)
    }
}

async fn next(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<ProbeOut, ClientError> {
    match lines::read(stream).await {
        Ok(Some(line)) => Ok(line),
        Ok(None) => Err(ClientError::Gone { op: OP, why: "the stream ended within the session".into() }),
        Err(error) => Err(failed(error)),
    }
}

fn failed(why: lines::LineError) -> ClientError {
    match why {
        lines::LineError::Io(e) => ClientError::Gone { op: OP, why: e.to_string().into() },
        other => ClientError::Garbled { op: OP, why: other.to_string() },
    }
}
