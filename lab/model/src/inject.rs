//! Frames that checks send into the lab, who must receive them, and what a segment must or must not carry.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::draft::Draft;

/// A frame to send, and who must and must not receive it. An endpoint receives it if the frame, or its inner frame,
/// comes in at an interface of its namespace, addressed to that interface or to a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inject {
    /// Where it is sent.
    pub from: Source,
    /// The frame; omitted fields are filled in for the sender.
    pub frame: Draft,
    /// How many times it is sent.
    pub count: u32,
    /// Frames per second.
    pub rate: u32,
    /// Hosts, containers and peers that must receive it.
    pub received_by: Vec<String>,
    /// Those that must not receive it.
    pub not_received_by: Vec<String>,
    /// How long to wait for silence after it was sent.
    pub timeout: Duration,
    /// How long the receivers may take, if that is longer.
    pub within: Duration,
    /// What the wire must and must not carry meanwhile.
    pub wire: Vec<OnWire>,
    /// Line in the topology, 1-based.
    pub line: u32,
}

/// Where a frame is sent. Text forms: `host1`, `c1:eth1`, `wire:lan`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// From an interface of a host, container or peer.
    Endpoint {
        /// Host, container or peer.
        name: String,
        /// Interface; its first if absent.
        interface: Option<String>,
    },
    /// From the switch of this segment itself, as a station that belongs to no host.
    Wire(String),
}

/// Prefix of a segment's name that stands for the wire itself.
pub const WIRE: &str = "wire:";

impl Source {
    /// Reads a text form, without a check that the lab has such an endpoint or segment.
    pub fn parse(text: &str) -> Self {
        if let Some(segment) = text.strip_prefix(WIRE) {
            return Self::Wire(segment.to_owned());
        }
        match text.split_once(':') {
            Some((name, interface)) => {
                Self::Endpoint { name: name.to_owned(), interface: Some(interface.to_owned()) }
            }
            None => Self::Endpoint { name: text.to_owned(), interface: None },
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(segment) => write!(f, "{WIRE}{segment}"),
            Self::Endpoint { name, interface: None } => f.write_str(name),
            Self::Endpoint { name, interface: Some(interface) } => write!(f, "{name}:{interface}"),
        }
    }
}

/// What a segment must, or must not, carry while a check runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnWire {
    /// Segment.
    pub segment: String,
    /// Which frames are meant.
    pub filter: Draft,
    /// Whether at least one such frame must be there, or none.
    pub must: bool,
    /// Line in the topology, 1-based.
    pub line: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_read_back_from_what_they_print() {
        for text in ["host1", "c1:eth1", "wire:lan"] {
            assert_eq!(Source::parse(text).to_string(), text);
        }
        assert_eq!(Source::parse("wire:lan"), Source::Wire("lan".into()));
        assert_eq!(
            Source::parse("c1:eth1"),
            Source::Endpoint { name: "c1".into(), interface: Some("eth1".into()) }
        );
    }
}
