//! What a lab makes on a machine that is not labctl's own, as it is noted there before it is made.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use labctl_model::Route;
use serde::{Deserialize, Serialize};

/// Word for the agent's command line: serve a machine that is not labctl's own.
pub const FOREIGN: &str = "--foreign";

/// Word for the agent's command line: serve a machine that was made for a lab.
pub const OWN: &str = "--own";

/// Name of the lab's nftables table on such a machine, in the family `netdev`.
pub fn table(lab: &str) -> String {
    format!("labctl_{}", lab.replace('-', "_"))
}

/// Something that a lab made there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Made {
    /// An address of an interface.
    Address {
        /// Interface.
        interface: String,
        /// The address and its prefix length.
        address: IpNet,
        /// Point-to-point peer.
        peer: Option<IpAddr>,
    },
    /// An interface was set up.
    Up(String),
    /// A route.
    Route(Route),
    /// An interface.
    Interface(String),
    /// A kernel setting, and the value that it had before.
    Sysctl {
        /// Its name.
        key: String,
        /// The value before.
        before: String,
    },
    /// The lab's nftables table.
    Table,
    /// An image that dockerd did not have.
    Image(String),
    /// A network that dockerd makes by itself for a swarm.
    Network(String),
    /// A swarm that this machine was made a node of. These are the addresses of all nodes of the lab.
    Swarm(Vec<IpAddr>),
}

impl Made {
    /// Whether dockerd removes it. The agent removes all the rest.
    pub fn is_dockers(&self) -> bool {
        matches!(self, Made::Image(_) | Made::Network(_) | Made::Swarm(_))
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Made::Address { interface, address, .. } => write!(f, "address {address} on {interface}"),
            Made::Up(interface) => write!(f, "interface {interface} set up"),
            Made::Route(route) => write!(f, "route to {}", route.to),
            Made::Interface(name) => write!(f, "interface {name}"),
            Made::Sysctl { key, .. } => write!(f, "sysctl {key}"),
            Made::Table => f.write_str("the lab's nftables table"),
            Made::Image(name) => write!(f, "image {name}"),
            Made::Network(name) => write!(f, "network {name}"),
            Made::Swarm(_) => f.write_str("the swarm"),
        }
    }
}

/// The notes about one lab on one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    /// Whose lab it is: user, machine and folder.
    pub owner: String,
    /// What it made, in order.
    pub made: Vec<Made>,
}

/// What is done with the notes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotesRequest {
    /// Begins them, unless they are there. Refused if they are another owner's. Answered with null.
    Begin {
        /// Whose lab it is.
        owner: String,
    },
    /// Notes something that is about to be made.
    Add(Made),
    /// Reads them; answered with [`Notes`], or null if there are none.
    Read,
    /// Undoes, in reverse order, what the agent itself made. Answered with a list of what could not be undone, in words.
    Undo,
    /// Removes them: nothing of the lab is left.
    End,
}
