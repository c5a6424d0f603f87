//! The configuration of a peer.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// A peer's name, addresses and routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name in the lab.
    pub name: String,
    /// Name of its interface in reports: `eth0`.
    pub interface: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
    /// The segment's subnet.
    pub subnet: Ipv4Net,
    /// Next hop of its default route.
    pub gateway: Option<Ipv4Addr>,
    /// Further routes: prefix and next hop; `None`: on the link.
    pub routes: Vec<(Ipv4Net, Option<Ipv4Addr>)>,
    /// Most bytes of an IP packet.
    pub mtu: u16,
}
