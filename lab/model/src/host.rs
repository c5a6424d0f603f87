//! Hosts and peers: their NICs, interfaces and routes.

use std::net::Ipv4Addr;

use indexmap::IndexMap;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;

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
    pub gateway: Option<Ipv4Addr>,
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
    /// Its address. The prefix length is the segment's unless `peer` is set.
    pub address: Ipv4Addr,
    /// Prefix length in bits.
    pub prefix_len: u8,
    /// Point-to-point: the address of the other side (`ip address add ADDRESS peer PEER`).
    pub peer: Option<Ipv4Addr>,
    /// Largest IP packet in bytes that the host sends through it: the segment's unless the topology gives another.
    pub mtu: u16,
    /// MAC address, six octets, unique in the lab and locally administered.
    pub mac: [u8; 6],
}

impl std::fmt::Display for Nic {
    /// `eth0 192.168.56.3/24 on lan`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{} on {}", self.name, self.address, self.prefix_len, self.segment)
    }
}

/// An interface that the host makes on top of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name in the host, at most 15 bytes.
    pub name: String,
    /// What it is.
    pub kind: InterfaceKind,
    /// Name of the interface it sits on.
    pub parent: String,
    /// Its addresses with prefix lengths; may be empty.
    pub addresses: Vec<Ipv4Net>,
    /// Made only by a step (`do: create interface HOST NAME`), not when the lab comes up.
    pub deferred: bool,
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
}

/// A route of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub to: Ipv4Net,
    /// Next hop.
    pub via: Option<Ipv4Addr>,
    /// Interface name.
    pub dev: Option<String>,
    /// Metric: of two routes to one destination the kernel takes the lower; absent: 0.
    pub metric: Option<u32>,
}
