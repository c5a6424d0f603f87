//! What became of a frame. Serialized as it is, this is the `--format json` of `send`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A frame that was sent, and what was seen of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SendReport {
    /// Where it was sent: `host1`, `c1:eth1`, `wire:lan`.
    pub from: String,
    /// The frame as it was sent, in the text form.
    pub frame: String,
    /// Its length in bytes.
    pub bytes: usize,
    /// How many times it was sent.
    pub count: u32,
    /// Where frames, of this order or not, came too fast or in too many kinds to be tracked, and how many: counts there
    /// are too low. Endpoints, and `wire:SEGMENT`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub missed: BTreeMap<String, u64>,
    /// Whether all who must got it, each time, and none who must not.
    pub holds: bool,
    /// Where it passed in hosts and containers, in their order.
    pub receipts: Vec<Receipt>,
    /// Where it entered the wire, and what became of it there.
    pub wire: Vec<Passage>,
    /// What was expected.
    pub expected: Vec<Arrival>,
}

/// A frame that came by an interface of a host or container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Receipt {
    /// Host; for a peer its own name.
    pub host: String,
    /// The endpoint in whose network namespace it was: host, container or peer.
    pub endpoint: String,
    /// Interface.
    pub interface: String,
    /// Whether the endpoint received it: it came in for this interface or a group. Else it left, or came in for another.
    pub received: bool,
    /// Whether it came in (else it left).
    pub inbound: bool,
    /// The form it had.
    pub how: How,
    /// How many times.
    pub count: u64,
    /// The first of them as it was there, in the text form.
    pub frame: String,
}

/// The form of a frame when it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// In the layers it was sent in.
    AsSent,
    /// Decapsulated from a tunnel.
    Decapsulated {
        /// The VNI it came with.
        vni: u32,
    },
    /// In a tunnel that it was not sent in.
    Encapsulated {
        /// The VNI of that tunnel.
        vni: u32,
    },
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AsSent => f.write_str("as sent"),
            Self::Decapsulated { vni } => write!(f, "out of VXLAN, vni {vni}"),
            Self::Encapsulated { vni } => write!(f, "in VXLAN, vni {vni}"),
        }
    }
}

/// A frame that entered the wire.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Passage {
    /// Segment.
    pub segment: String,
    /// Port that it came in by: `host1/eth0`.
    pub port: String,
    /// What became of it there, in words: `to host2/eth0`.
    pub fate: String,
    /// Whether the wire dropped it.
    pub dropped: bool,
    /// How many times.
    pub count: u64,
}

/// Whether an endpoint received a frame that it must, or must not, receive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// Host, container or peer.
    pub endpoint: String,
    /// Must, or must not.
    pub must: bool,
    /// How many it received.
    pub received: u64,
    /// Whether that is as it must be.
    pub holds: bool,
    /// Whether it was watched and missed nothing; an endpoint that does not run proves nothing.
    pub watched: bool,
}

impl SendReport {
    /// Who received it, in a few words each.
    pub fn observed(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .receipts
            .iter()
            .filter(|r| r.received)
            .map(|r| format!("{} {} {}{}", r.endpoint, r.interface, r.how, times(r.count)))
            .collect();
        all.extend(self.expected.iter().filter(|a| !a.watched).map(|a| match self.missed.get(&a.endpoint) {
            Some(missed) => format!("{} missed {missed} frames", a.endpoint),
            None => format!("{} does not run", a.endpoint),
        }));
        if all.is_empty() {
            all.push("received by nobody".to_owned());
            all.extend(self.wire.iter().map(|p| format!("wire {}: {} {}", p.segment, p.port, p.fate)));
        }
        all
    }
}

fn times(count: u64) -> String {
    if count == 1 { String::new() } else { format!(" {count} times") }
}
