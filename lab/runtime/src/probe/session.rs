//! A prober: the agent of a host for all endpoints there, or a peer for itself.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use labctl_protocol::{
    client::ProbeClient,
    messages::{Outcome, ProbeSession, Shot, ShotResult, Sighting},
};

use super::shots::Orders;
use crate::{Error, host::RunningHost, view::View};

/// An open session. If it fails, only its own cells and endpoints say why.
pub struct Probing<'h> {
    party: Party<'h>,
    endpoints: Vec<String>,
    shots: Vec<Shot>,
}

enum Party<'h> {
    Host(&'h RunningHost, ProbeClient),
    Peer(labctl_peer::Session),
    Failed(String),
}

impl<'h> Probing<'h> {
    /// Opens the session of a host or peer; `None` if it does not run.
    pub async fn open(view: &'h View<'_>, name: String, run: u64, orders: Orders) -> Option<Self> {
        let Orders { endpoints, listeners, shots } = orders;
        let mut names: Vec<String> = endpoints.iter().map(|e| e.name.clone()).collect();
        let opened = if let Some(peer) = view.peers.get(&name) {
            let ports = listeners.into_iter().map(|l| (l.protocol, l.port)).collect();
            names.push(name);
            peer.open(run, ports).map(Party::Peer).map_err(Error::from)
        } else {
            let host = view.hosts.get(&name)?;
            let session = ProbeSession { run, endpoints, listeners };
            let opened = host.agent.probe(session).await.map_err(host.failed());
            opened.map(|client| Party::Host(host, client))
        };
        let party = opened.unwrap_or_else(|e| Party::Failed(e.to_string()));
        Some(Self { party, endpoints: names, shots })
    }

    /// Endpoints where it could not listen, watch or send, and why.
    pub fn absent(&self) -> BTreeMap<String, String> {
        match &self.party {
            Party::Host(_, client) => client.absent().clone(),
            Party::Peer(_) => BTreeMap::new(),
            Party::Failed(why) => self.endpoints.iter().map(|e| (e.clone(), why.clone())).collect(),
        }
    }

    /// Fires its shots, all at once, and waits `timeout` for those that stay silent.
    pub async fn fire(&mut self, timeout: Duration) -> Vec<ShotResult> {
        let shots = std::mem::take(&mut self.shots);
        if shots.is_empty() {
            return Vec::new();
        }
        let numbers: Vec<u32> = shots.iter().map(|s| s.cell).collect();
        let fired = match &mut self.party {
            Party::Host(host, client) => {
                let deadline = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
                client.fire(shots, deadline).await.map_err(host.failed())
            }
            Party::Peer(session) => session.fire(shots, timeout).await.map_err(Error::from),
            Party::Failed(_) => Ok(Vec::new()),
        };
        let results = self.or_fail(fired);
        let Party::Failed(why) = &self.party else { return results };
        let failed = |cell| ShotResult {
            cell,
            address: None,
            resolved: Vec::new(),
            source_port: None,
            outcome: Outcome::Failed { why: why.clone() },
        };
        numbers.into_iter().map(failed).collect()
    }

    /// What it saw in the run; of the cells in `brief` at least what shows who got the request.
    pub async fn sightings(&mut self, brief: &HashSet<u32>) -> Vec<Sighting> {
        let seen = match &mut self.party {
            Party::Host(host, client) => client.sightings(brief.clone()).await.map_err(host.failed()),
            Party::Peer(session) => session.sightings().await.map_err(Error::from),
            Party::Failed(_) => Ok(Vec::new()),
        };
        self.or_fail(seen)
    }

    /// Unwraps the result; after an error the session counts as failed.
    fn or_fail<T>(&mut self, told: Result<Vec<T>, Error>) -> Vec<T> {
        told.unwrap_or_else(|error| {
            self.party = Party::Failed(error.to_string());
            Vec::new()
        })
    }
}
