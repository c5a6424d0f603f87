//! What a wire has learned and was told: what another one needs to go on in its place.

use std::{collections::BTreeMap, net::Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::{Block, LinkState};

/// The state of a wire without its counters, frames in flight, and what its gateways' stand-ins remember of their
/// neighbours, which they ask for again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireState {
    /// Which directions of each port carry frames, by name of the port.
    pub links: BTreeMap<String, LinkState>,
    /// The blocks in force, by segment.
    pub blocks: BTreeMap<String, Vec<Block>>,
    /// The forwarding databases, by segment.
    pub stations: BTreeMap<String, Vec<Station>>,
    /// Who listens to IPv6 groups, by segment.
    #[serde(default)]
    pub listeners: BTreeMap<String, Vec<Listener>>,
}

/// A port behind which somebody listens to a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener {
    /// VLAN; 0 without a tag.
    pub vid: u16,
    /// The group.
    pub group: Ipv6Addr,
    /// Name of the port.
    pub port: String,
}

/// A station that a segment has heard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Station {
    /// VLAN; 0 without a tag.
    pub vid: u16,
    /// Its address.
    pub mac: [u8; 6],
    /// Name of the port that leads to it.
    pub port: String,
}
