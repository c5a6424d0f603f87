//! The lab's peers: plugged into the wire, and probed from there.

use std::{net::IpAddr, os::unix::net::UnixStream, sync::Arc};

use indexmap::IndexMap;
use labctl_model::Lab;
use labctl_peer::{
    Config, Gone, Peer,
    link::{Hop, Link},
};
use labctl_wire::{PortSpec, Transport, Wire};

use crate::Error;

/// The running peers of a lab by name.
pub type Peers = IndexMap<String, Arc<Peer>>;

/// Plugs every peer of a lab into its segment. Taking the wire away, or dropping them, ends them.
///
/// # Errors
/// The wire refuses a port, or there are no file descriptors left.
pub async fn plug_in(lab: &Lab, wire: &Wire) -> Result<Peers, Error> {
    let mut peers = Peers::default();
    for (name, peer) in &lab.peers {
        peers.insert(name.clone(), Arc::new(plug(name, peer, wire).await?));
    }
    Ok(peers)
}

async fn plug(name: &str, peer: &labctl_model::Peer, wire: &Wire) -> Result<Peer, Error> {
    let failed = |why: &dyn std::fmt::Display| Error::Wire(format!("peer {name}: {why}"));
    let nic = &peer.nic;
    let config = config(name, peer);
    let (ours, theirs) = UnixStream::pair().map_err(|e| failed(&e))?;
    let port = PortSpec {
        name: port(name, peer),
        segment: nic.segment.clone(),
        mac: nic.mac,
        transport: Transport::Connected(theirs),
    };
    wire.add_port(port).await.map_err(|e| failed(&e))?;
    Peer::start(config, ours).map_err(|e| failed(&e))
}

fn config(name: &str, peer: &labctl_model::Peer) -> Config {
    let nic = &peer.nic;
    Config {
        name: name.to_owned(),
        interface: nic.name.clone(),
        mac: nic.mac,
        addresses: nic.addresses,
        gateway: peer.gateway,
        routes: peer.routes.iter().map(|r| (r.to, r.via)).collect(),
        mtu: nic.mtu,
    }
}

/// The address on its segment to which a peer sends packets for `to`; `None` if it has no route.
pub fn next_hop(lab: &Lab, name: &str, to: IpAddr) -> Option<IpAddr> {
    match Link::new(&config(name, lab.peers.get(name)?)).hop(to) {
        Hop::Own => Some(to),
        Hop::Neighbour(hop) => Some(hop),
        Hop::NoRoute => None,
    }
}

/// The name of a peer's port on the wire, in the form of a host's NIC: `client/eth0`.
pub fn port(name: &str, peer: &labctl_model::Peer) -> String {
    format!("{name}/{}", peer.nic.name)
}

impl From<Gone> for Error {
    fn from(gone: Gone) -> Self {
        Error::Wire(gone.to_string())
    }
}
