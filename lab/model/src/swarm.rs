//! The swarm of a lab.

use std::net::Ipv4Addr;

use indexmap::IndexMap;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// A Docker swarm over hosts of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swarm {
    /// The nodes by host: managers first, of which the first initializes the swarm; then workers.
    pub nodes: IndexMap<String, Node>,
    /// UDP port of VXLAN; 4789 where absent.
    pub data_path_port: Option<u16>,
    /// Pools that overlay networks without a subnet are cut from; Docker's own (10.0.0.0/8) where empty.
    pub default_addr_pool: Vec<Ipv4Net>,
    /// Prefix length of those networks; Docker's own (24) where absent.
    pub subnet_size: Option<u8>,
}

/// A node of the swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What it is when the lab comes up.
    pub role: Role,
    /// The address that it tells the others.
    pub advertise: Ipv4Addr,
    /// Where VXLAN leaves and arrives; the advertised one where absent.
    pub data_path: Option<Ipv4Addr>,
    /// Where it listens for the others; all addresses where absent.
    pub listen: Option<Ipv4Addr>,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Keeps the swarm's state; runs tasks as well.
    Manager,
    /// Runs tasks.
    Worker,
}

impl Swarm {
    /// The managers, in order.
    pub fn managers(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|(_, n)| n.role == Role::Manager).map(|(h, _)| h.as_str())
    }
}
