//! The configuration of a peer.

use std::net::IpAddr;

use ipnet::IpNet;
use labctl_model::{Family, OfFamily, PerFamily};

/// A peer's name, addresses and routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name in the lab.
    pub name: String,
    /// Name of its interface in reports: `eth0`.
    pub interface: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its addresses, with the prefix lengths of the segment's subnets.
    pub addresses: PerFamily<IpNet>,
    /// Next hops of its default routes.
    pub gateway: PerFamily<IpAddr>,
    /// Further routes: prefix and next hop; `None`: on the link.
    pub routes: Vec<(IpNet, Option<IpAddr>)>,
    /// Most bytes of an IP packet.
    pub mtu: u16,
}

impl Config {
    /// Its address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.get(family).map(|net| net.addr())
    }

    /// Whether this is an address of its own.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.address(address.family()) == Some(address)
    }
}
