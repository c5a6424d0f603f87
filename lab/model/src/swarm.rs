//! The swarm of a lab.

use std::net::IpAddr;

use indexmap::IndexMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A Docker swarm over hosts of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swarm {
    /// The nodes by host: managers first, of which the first initializes the swarm; then workers.
    pub nodes: IndexMap<String, SwarmNode>,
    /// UDP port of VXLAN; 4789 if absent.
    pub data_path_port: Option<u16>,
    /// Pools from which overlay networks without a subnet get one; empty: Docker's own (10.0.0.0/8).
    pub default_addr_pool: Vec<IpNet>,
    /// Prefix length of those networks; Docker's own (24) if absent.
    pub subnet_size: Option<u8>,
}

/// A node of the swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmNode {
    /// Its role when the lab comes up.
    pub role: Role,
    /// The address that it advertises to the other nodes.
    pub advertise: IpAddr,
    /// Its address for VXLAN; the advertised one if absent.
    pub data_path: Option<IpAddr>,
    /// The address on which it listens for the other nodes; all if absent.
    pub listen: Option<IpAddr>,
}

/// Role of a node.
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
