//! Hosts and peers: their NICs, interfaces and routes.

use std::net::IpAddr;

use indexmap::IndexMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    engine::Engine,
    family::{Family, OfFamily, PerFamily},
};

/// A lab host: one kernel, one dockerd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// NICs, in order. The first with a gateway provides the default route.
    pub nics: Vec<Nic>,
    /// Interfaces made on top of NICs (a macvlan shim, a VLAN sub-interface).
    pub interfaces: Vec<Interface>,
    /// Routes beyond the connected ones and the default.
    pub routes: Vec<Route>,
    /// Contents of /etc/docker/daemon.json; an object, may be empty.
    pub daemon_json: serde_json::Map<String, serde_json::Value>,
    /// Kernel settings, `net.ipv4.ip_forward` to value.
    pub sysctls: IndexMap<String, String>,
    /// Which dockerd runs, and so the node image.
    pub engine: Engine,
    /// Memory of the machine in MiB (vm runtime).
    pub memory_mib: u32,
}

/// An endpoint that lives on the wire: a TCP/IP stack that probes and is probed, without a host below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its only NIC.
    pub nic: Nic,
    /// Next hop of its default route: the topology's, else the segment's gateway.
    pub gateway: PerFamily<IpAddr>,
    /// Routes beyond the connected one and the default.
    pub routes: Vec<Route>,
}

/// A NIC of a host; its other end is a port of the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nic {
    /// Interface name inside the host: `eth0`, `eth1`, … in order, unless the topology names it (`tun0`).
    pub name: String,
    /// The segment that it is plugged into.
    pub segment: String,
    /// Its addresses, with the prefix length of the segment's subnet, or that of one address alone if the family has a
    /// `peer`.
    pub addresses: PerFamily<IpNet>,
    /// Point-to-point: the addresses of the other side (`ip address add ADDRESS peer PEER`).
    pub peer: PerFamily<IpAddr>,
    /// Largest IP packet in bytes that the host sends through it: the segment's unless the topology gives another.
    pub mtu: u16,
    /// MAC address, six octets, unique in the lab and locally administered.
    pub mac: [u8; 6],
}

impl std::fmt::Display for Nic {
    /// `eth0 192.168.56.3/24 on lan`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} on {}", self.name, self.addresses, self.segment)
    }
}

impl Nic {
    /// Its address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.get(family).map(|net| net.addr())
    }

    /// Its addresses, without prefix lengths.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.addresses.iter().map(|net| net.addr())
    }

    /// Whether it has this address.
    pub fn has(&self, address: IpAddr) -> bool {
        self.address(address.family()) == Some(address)
    }
}

impl Host {
    /// The bridge that has a NIC as its port, and so speaks for it.
    pub fn bridge_of(&self, nic: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.has_port(nic))
    }

    /// Its first address, by which other hosts know its name: of its first NIC.
    pub fn first_address(&self) -> Option<IpAddr> {
        self.nics.first()?.ips().next()
    }
}

/// An interface that the host makes on top of others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name in the host, at most 15 bytes.
    pub name: String,
    /// What it is.
    pub kind: InterfaceKind,
    /// Names of the interfaces that it sits on: one, or the ports of a bridge.
    #[serde(alias = "parent", deserialize_with = "one_or_many")]
    pub on: Vec<String>,
    /// Its addresses with prefix lengths; may be empty.
    pub addresses: Vec<IpNet>,
    /// Made only by a step (`do: create interface HOST NAME`), not when the lab comes up.
    pub deferred: bool,
}

/// Checkpoints from before there were bridges have one name there.
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Names::deserialize(deserializer)? {
        Names::One(name) => vec![name],
        Names::Many(names) => names,
    })
}

/// The kinds of extra interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceKind {
    /// A macvlan in bridge mode: the usual way for a host to reach its own macvlan containers.
    Macvlan,
    /// An ipvlan in l2 mode.
    Ipvlan,
    /// An 802.1Q sub-interface with this VLAN id (1 to 4094).
    Vlan(u16),
    /// A bridge between NICs, which has their addresses.
    Bridge,
}

impl Interface {
    /// The interface that it sits on, of a bridge the first port.
    pub fn parent(&self) -> &str {
        self.on.first().map_or("", String::as_str)
    }

    /// Whether it is a bridge with this port.
    pub fn has_port(&self, name: &str) -> bool {
        self.kind == InterfaceKind::Bridge && self.on.iter().any(|port| port == name)
    }
}

/// A route of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub to: IpNet,
    /// Next hop.
    pub via: Option<IpAddr>,
    /// Interface name.
    pub dev: Option<String>,
    /// Metric: of two routes to one destination the kernel takes the lower; absent: 0.
    pub metric: Option<u32>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_interface_of_an_older_checkpoint_has_one_parent() {
        let text =
            r#"{ "name": "shim", "kind": "macvlan", "parent": "eth0", "addresses": [], "deferred": false }"#;
        let shim: Interface = serde_json::from_str(text).unwrap();
        assert_eq!(shim.on, ["eth0"]);
        let again: Interface = serde_json::from_str(&serde_json::to_string(&shim).unwrap()).unwrap();
        assert_eq!(again, shim);
    }
}
