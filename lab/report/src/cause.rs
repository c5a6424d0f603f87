//! Causes: what explains that cells got no answer. One cause often explains many cells.

use std::fmt;

use labctl_model::Direction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A cause, as it was while the cells were probed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Cause {
    /// A host's link is cut, and the wire dropped frames there.
    Cut {
        /// Host.
        host: String,
        /// The segment that it is cut off from.
        segment: String,
        /// What does not pass, as the host sees it.
        #[schemars(with = "String", extend("enum" = ["both", "inbound", "outbound"]))]
        direction: Direction,
        /// The port of its NIC: `host2/eth0`.
        port: String,
    },
    /// The wire dropped frames that a block covers.
    Blocked {
        /// Segment.
        segment: String,
        /// The blocks in force that may have dropped them, in words: `esp`, `udp/53 from host1/eth0`.
        blocks: Vec<String>,
    },
    /// The wire dropped packets that are larger than the segment's MTU.
    Mtu {
        /// Segment.
        segment: String,
        /// Its MTU in bytes.
        mtu: u16,
    },
    /// Port security dropped frames that a NIC sent from another MAC than its own.
    ForeignSource {
        /// The port of the NIC.
        port: String,
    },
    /// Port security kept frames from a NIC that were for another MAC than its own.
    ForeignDestination {
        /// The port of the NIC.
        port: String,
    },
    /// A host does not run.
    HostDown {
        /// Host.
        host: String,
    },
    /// A container does not run.
    NotRunning {
        /// Container.
        container: String,
        /// Its state, as Docker says it: `exited`; `absent` if there is none.
        status: String,
    },
    /// The agent or dockerd of a host does not answer.
    Unseen {
        /// Host.
        host: String,
        /// Why, in words.
        why: String,
    },
}

impl Cause {
    /// The action that ends it, if there is one.
    pub fn way_out(&self) -> Option<String> {
        match self {
            Self::Cut { host, .. } => Some(format!("heal {host}")),
            Self::Blocked { segment, blocks } => match blocks.as_slice() {
                [one] if !one.contains(' ') => Some(format!("unblock {one} on {segment}")),
                _ => Some("unblock all".to_owned()),
            },
            Self::HostDown { host } => Some(format!("start {host}")),
            Self::NotRunning { container, status } if status == "absent" => {
                Some(format!("create {container}"))
            }
            Self::NotRunning { container, .. } => Some(format!("start {container}")),
            Self::Mtu { .. }
            | Self::ForeignSource { .. }
            | Self::ForeignDestination { .. }
            | Self::Unseen { .. } => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { host, segment, direction, port } => {
                let way = match direction {
                    Direction::Both => "",
                    Direction::Inbound => " inbound",
                    Direction::Outbound => " outbound",
                };
                write!(f, "{host} is cut off from {segment}{way} ({port})")
            }
            Self::Blocked { segment, blocks } if blocks.is_empty() => write!(f, "{segment} blocked frames"),
            Self::Blocked { segment, blocks } => write!(f, "{segment} blocks {}", blocks.join(", ")),
            Self::Mtu { segment, mtu } => write!(f, "{segment} carries no packet larger than {mtu} bytes"),
            Self::ForeignSource { port } => {
                write!(f, "port security lets {port} send only from its NIC's own MAC")
            }
            Self::ForeignDestination { port } => {
                write!(f, "port security lets {port} receive only what is for its NIC's own MAC")
            }
            Self::HostDown { host } => write!(f, "{host} is down"),
            Self::NotRunning { container, status } => write!(f, "{container} is {status}"),
            Self::Unseen { why, .. } => f.write_str(why),
        }
    }
}
