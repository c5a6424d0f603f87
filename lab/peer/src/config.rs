//! What is given of a peer.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Who a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name in the lab.
    pub name: String,
    /// What its interface is called in reports: `eth0`.
    pub interface: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
    /// The segment's subnet.
    pub subnet: Ipv4Net,
    /// Next hop of its default route.
    pub gateway: Option<Ipv4Addr>,
    /// Further routes: prefix and next hop, or on the link.
    pub routes: Vec<(Ipv4Net, Option<Ipv4Addr>)>,
    /// Bytes of an IP packet at most.
    pub mtu: u16,
}
