//! Counters.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{
    block::Block,
    policy::{DropReason, LinkState},
};

/// All counters of a wire, since it started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// By name of the port.
    pub ports: IndexMap<String, PortStats>,
    /// By name of the segment.
    pub segments: IndexMap<String, SegmentStats>,
}

/// Counters of a port. "rx" is what came from the host, "tx" what was queued to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortStats {
    /// The port's segment.
    pub segment: String,
    /// Whether the host's end is connected.
    pub connected: bool,
    /// How often it connected.
    pub connections: u64,
    /// Which directions carry frames; see [`crate::Wire::set_link`].
    pub link: LinkState,
    /// Frames from the host, dropped ones included.
    pub rx_frames: u64,
    /// Bytes of these, Ethernet headers included.
    pub rx_bytes: u64,
    /// Frames to the host.
    pub tx_frames: u64,
    /// Bytes of these.
    pub tx_bytes: u64,
    /// Frames dropped at this port, in both directions. Reasons that never occurred are left out.
    pub drops: BTreeMap<DropReason, u64>,
}

/// Counters of a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentStats {
    /// Stations in the forwarding database.
    pub stations: usize,
    /// How often a station was not learned because the database was full.
    pub not_learned: u64,
    /// MAC of the gateway's stand-in.
    pub gateway_mac: Option<[u8; 6]>,
    /// Frames that the gateway's stand-in received.
    pub gateway_rx_frames: u64,
    /// Frames that it sent.
    pub gateway_tx_frames: u64,
    /// Answers that it did not send, because it has no route to the packet's source.
    pub gateway_no_route: u64,
    /// The blocks in force.
    pub blocks: Vec<Block>,
}

/// A port's counters while it runs.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) rx_frames: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_frames: u64,
    pub(crate) tx_bytes: u64,
    drops: [u64; DropReason::ALL.len()],
}

impl Counters {
    pub(crate) fn dropped(&mut self, reason: DropReason, count: usize) {
        self.drops[reason as usize] += count as u64;
    }

    pub(crate) fn drops(&self) -> BTreeMap<DropReason, u64> {
        DropReason::ALL.into_iter().zip(self.drops).filter(|(_, count)| *count > 0).collect()
    }
}
