//! The lab's peers: plugged into the wire, and asked when it is probed.

use std::{os::unix::net::UnixStream, sync::Arc};

use indexmap::IndexMap;
use lab_model::Lab;
use lab_peer::{Config, Gone, Peer};
use lab_wire::{PortSpec, Transport, Wire};

use crate::Error;

/// The running peers of a lab by name.
pub type Peers = IndexMap<String, Arc<Peer>>;

/// Plugs every peer of a lab into its segment. Taking the wire away, or dropping them, ends them.
///
/// # Errors
/// A port that the wire refuses, or no descriptors.
pub fn plug_in(lab: &Lab, wire: &Wire) -> Result<Peers, Error> {
    lab.peers.iter().map(|(name, peer)| Ok((name.clone(), Arc::new(plug(lab, name, peer, wire)?)))).collect()
}

fn plug(lab: &Lab, name: &str, peer: &lab_model::Peer, wire: &Wire) -> Result<Peer, Error> {
    let failed = |why: &dyn std::fmt::Display| Error::Wire(format!("peer {name}: {why}"));
    let nic = &peer.nic;
    let segment = lab.segments.get(&nic.segment).ok_or_else(|| failed(&"its segment is not there"))?;
    let (ours, theirs) = UnixStream::pair().map_err(|e| failed(&e))?;
    let port = PortSpec {
        name: port(name, peer),
        segment: nic.segment.clone(),
        mac: nic.mac,
        transport: Transport::Connected(theirs),
    };
    wire.add_port(port).map_err(|e| failed(&e))?;
    let config = Config {
        name: name.to_owned(),
        interface: nic.name.clone(),
        mac: nic.mac,
        address: nic.address,
        subnet: segment.subnet,
        gateway: peer.gateway,
        routes: peer.routes.iter().map(|r| (r.to, r.via)).collect(),
        mtu: nic.mtu,
    };
    Peer::start(config, ours).map_err(|e| failed(&e))
}

/// The name of a peer's port on the wire, as that of a host's NIC: `client/eth0`.
pub fn port(name: &str, peer: &lab_model::Peer) -> String {
    format!("{name}/{}", peer.nic.name)
}

impl From<Gone> for Error {
    fn from(gone: Gone) -> Self {
        Error::Wire(gone.to_string())
    }
}
