//! `swarm`.

use std::net::IpAddr;

use ipnet::IpNet;
use labctl_yaml::{At, Cx, FromNode, Map, OneOrMany, Value, Yaml, inline_schema, raw};
use schemars::json_schema;

raw! {
    /// A Docker swarm over hosts of the lab.
    Swarm, "a swarm" {
        /// Hosts that are managers; the first initializes the swarm. Default: the first host.
        managers: Option<OneOrMany<At<String>>>,
        /// Hosts that are workers. Default: all other hosts.
        workers: Option<Vec<At<String>>>,
        /// The address that each node tells the others: a segment, or a segment or address for each host. Default: that
        /// of the host's first NIC.
        advertise_addr: Option<Addresses>,
        /// Where VXLAN leaves and arrives: as `advertise_addr`, which is its default.
        data_path_addr: Option<Addresses>,
        /// Where each node listens for the others: as `advertise_addr`. Default: on all addresses.
        listen_addr: Option<Addresses>,
        /// UDP port of VXLAN, 1024 to 49151. Default 4789.
        data_path_port: Option<At<u32>>,
        /// Pools that overlay networks without a subnet are cut from. Default 10.0.0.0/8.
        default_addr_pool: Option<OneOrMany<At<IpNet>>>,
        /// Prefix length of those networks, at most 29. Default 24.
        subnet_size: Option<At<u32>>,
    }
}

/// Addresses of the nodes: one segment for all, or for each host a segment or an address.
#[derive(Clone, Debug)]
pub(crate) enum Addresses {
    /// A segment, or the address of the only node.
    All(At<String>),
    /// By host.
    Each(Map<At<String>>),
}

impl FromNode for Addresses {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        match node.value {
            Value::Map(_) => Map::from_node(node, cx).map(Self::Each),
            _ => At::from_node(node, cx).map(Self::All),
        }
    }
}

inline_schema!(Addresses, g => {
    let map = g.subschema_for::<Map<At<String>>>();
    json_schema!({ "anyOf": [{ "type": "string" }, map] })
});

/// An address or the name of a segment.
pub(crate) fn as_address(text: &At<String>) -> Option<IpAddr> {
    text.value.parse().ok()
}
