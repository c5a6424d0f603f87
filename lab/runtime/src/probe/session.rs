//! One who probes: the agent of a host for all endpoints there, or a peer for itself.

use std::{collections::BTreeMap, time::Duration};

use lab_agent::{
    client::ProbeClient,
    protocol::{ProbeSession, Shot, ShotResult, Sighting},
};

use super::{Hosts, shots::Orders};
use crate::{Error, host::RunningHost, peers::Peers};

/// An open session.
pub struct Probing<'h> {
    party: Party<'h>,
    shots: Vec<Shot>,
}

enum Party<'h> {
    Host(&'h RunningHost, ProbeClient),
    Peer(lab_peer::Session),
}

impl<'h> Probing<'h> {
    /// Opens what a host or peer has to do; `None` where it does not run.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn open(
        hosts: &'h Hosts,
        peers: &Peers,
        name: String,
        run: u64,
        orders: Orders,
    ) -> Result<Option<Self>, Error> {
        let Orders { endpoints, listeners, shots } = orders;
        let party = if let Some(peer) = peers.get(&name) {
            let ports = listeners.into_iter().map(|l| (l.protocol, l.port)).collect();
            Party::Peer(peer.open(run, ports)?)
        } else if let Some(host) = hosts.get(&name) {
            let session = ProbeSession { run, endpoints, listeners };
            Party::Host(host, host.agent.probe(session).await.map_err(host.failed())?)
        } else {
            return Ok(None);
        };
        Ok(Some(Self { party, shots }))
    }

    /// Endpoints where it can neither listen nor watch, nor send, and why.
    pub fn absent(&self) -> BTreeMap<String, String> {
        match &self.party {
            Party::Host(_, client) => client.absent().clone(),
            Party::Peer(_) => BTreeMap::new(),
        }
    }

    /// Fires its shots, all at once; what stays silent is waited for `timeout`.
    ///
    /// # Errors
    /// It does not answer any more.
    pub async fn fire(&mut self, timeout: Duration) -> Result<Vec<ShotResult>, Error> {
        let shots = std::mem::take(&mut self.shots);
        if shots.is_empty() {
            return Ok(Vec::new());
        }
        match &mut self.party {
            Party::Host(host, client) => {
                let deadline = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
                client.fire(shots, deadline).await.map_err(host.failed())
            }
            Party::Peer(session) => Ok(session.fire(shots, timeout).await?),
        }
    }

    /// What it saw of the run.
    ///
    /// # Errors
    /// It does not answer any more.
    pub async fn sightings(&mut self) -> Result<Vec<Sighting>, Error> {
        match &mut self.party {
            Party::Host(host, client) => client.sightings().await.map_err(host.failed()),
            Party::Peer(session) => Ok(session.sightings().await?),
        }
    }
}
