//! Probe sessions.

use std::{collections::HashSet, net::IpAddr};

use labctl_model::{Family, Protocol};
use serde::{Deserialize, Serialize};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use super::Netns;

/// A probe session: the endpoints of one host that take part in one run. While the stream is open, the agent listens
/// and watches in each of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeSession {
    /// Random number that marks this run's packets.
    pub run: u64,
    /// Endpoints of this host: sources, destinations, and those that only watch.
    pub endpoints: Vec<Endpoint>,
    /// Listeners to open.
    pub listeners: Vec<Listener>,
}

/// An endpoint that takes part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its name in the lab.
    pub name: String,
    /// Its namespace.
    pub netns: Netns,
    /// Process whose /etc/hosts and /etc/resolv.conf it uses; the agent's own if absent.
    pub pid: Option<u32>,
}

/// A port on which the agent answers in an endpoint, unless something else already listens there. Of endpoints that
/// share a namespace, the first listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Listener {
    /// Endpoint.
    pub endpoint: String,
    /// Transport.
    pub protocol: Protocol,
    /// Port.
    pub port: u16,
    /// Address families; one that the kernel does not have is left out.
    pub families: Vec<Family>,
    /// Bytes that a TCP listener echoes after its greeting; 0: it closes the connection.
    pub size: u32,
}

/// What labctl sends within a probe session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeIn {
    /// Fires all shots at once; each has one result in [`ProbeOut::Results`], at the latest at the deadline.
    Fire {
        /// How long to wait for silent shots, in ms from now.
        deadline_ms: u32,
        /// The cells.
        shots: Vec<Shot>,
    },
    /// Asks for the sightings so far; answered by any number of [`ProbeOut::Sightings`], the last of them empty.
    Sightings {
        /// Cells of ICMP and UDP whose way does not matter: of them those alone that show who got the request.
        brief: HashSet<u32>,
    },
}

/// One cell to probe.
#[derive(Clone, Debug, Serialize_tuple, Deserialize_tuple)]
pub struct Shot {
    /// Number of the cell, unique in the run over all agents.
    pub cell: u32,
    /// Endpoint that sends.
    pub from: String,
    /// What is sent.
    pub kind: ShotKind,
    /// Size in bytes. ICMP and UDP: the IP packet, which is never fragmented; TCP: what the run's listener must echo.
    /// 0: the least possible.
    pub size: u32,
    /// Where to.
    pub to: ShotTarget,
    /// Whether a port of a host leads to who is meant. Then only a greeting tells who took a connection: behind a proxy it
    /// is another one.
    pub relayed: bool,
}

/// What is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShotKind {
    /// ICMP echo.
    Icmp,
    /// TCP connection to this port.
    Tcp(u16),
    /// UDP datagram to this port.
    Udp(u16),
    /// Only a look-up of the target's name.
    Dns,
}

/// Where a shot goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShotTarget {
    /// An address.
    Address(IpAddr),
    /// A name, whose addresses of a family are looked up in the endpoint's /etc/hosts, then by its resolvers.
    Name(String, Family),
}

/// What the agent sends within a probe session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeOut {
    /// Results of shots at their senders, as many as there are by now.
    Results(Vec<ShotResult>),
    /// Part of what the watchers saw, in order of time.
    Sightings(Vec<Sighting>),
}

/// Result of a shot at the sender.
#[derive(Clone, Debug, Serialize_tuple, Deserialize_tuple)]
pub struct ShotResult {
    /// Cell.
    pub cell: u32,
    /// Address that was probed, after the look-up.
    pub address: Option<IpAddr>,
    /// All addresses that the name resolved to.
    pub resolved: Vec<IpAddr>,
    /// Source port, for TCP and UDP, host order.
    pub source_port: Option<u16>,
    /// What happened.
    pub outcome: Outcome,
}

/// Outcome of a shot, as its sender knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Answered.
    Answered {
        /// Round trip in µs.
        rtt_us: u64,
        /// What the answering listener said, if it is one of the run's (TCP and UDP).
        by: Option<Taker>,
    },
    /// RST, or port unreachable of ICMP or ICMPv6.
    Refused {
        /// Who sent it, if known.
        from: Option<IpAddr>,
    },
    /// Destination unreachable, time exceeded or the like, of ICMP or, if the probed address is IPv6, of ICMPv6.
    Unreachable {
        /// Who sent it, if known.
        from: Option<IpAddr>,
        /// ICMP type.
        icmp_type: u8,
        /// ICMP code.
        icmp_code: u8,
    },
    /// The sender's own kernel has no route (ENETUNREACH).
    NoRoute,
    /// The next hop did not answer ARP or neighbour discovery: EHOSTUNREACH, or its neighbour entry was INCOMPLETE or FAILED at the deadline.
    NeighborFailed {
        /// Next hop.
        next_hop: Option<IpAddr>,
    },
    /// Nothing came back before the deadline.
    Silent,
    /// Only for TCP with a size: the connection was made, but not all bytes came back before the deadline.
    Stalled {
        /// Time to connect, in µs.
        rtt_us: u64,
        /// Bytes that came back.
        back: u32,
        /// Bytes that were to come back.
        of: u32,
    },
    /// The name did not resolve, for the resolver's reason (NXDOMAIN, no answer, …).
    NoName {
        /// Why.
        why: String,
    },
    /// Only for [`ShotKind::Dns`]: the name resolved (see [`ShotResult::resolved`]).
    Resolved {
        /// Time in µs.
        rtt_us: u64,
    },
    /// The probe itself could not be made: a fault of the lab, not of the network.
    Failed {
        /// Why.
        why: String,
    },
}

/// How a listener of the run names itself and its client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taker {
    /// The endpoint that it listens in.
    pub name: String,
    /// The address that the request came from, as it sees it.
    pub source: IpAddr,
}

/// A packet of this run that a watcher saw pass an interface. There are up to eight for each cell, so a line has their
/// fields without names, and so it has those of shots and results.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize_tuple, Deserialize_tuple)]
pub struct Sighting {
    /// Endpoint in whose namespace it was seen; endpoints that share one each get a sighting.
    pub endpoint: String,
    /// Interface.
    pub interface: String,
    /// Whether it came in through the interface or left through it.
    pub inbound: bool,
    /// Whether the destination address belongs to this namespace (then this endpoint received it).
    pub local: bool,
    /// Whether it is the answer or the request.
    pub answer: bool,
    /// For ICMP and UDP: the shot's cell, from the nonce.
    pub cell: Option<u32>,
    /// For TCP: the attempt, by its ports.
    pub tcp: Option<TcpTrace>,
    /// Source address in the packet.
    pub source: IpAddr,
    /// Destination address in the packet.
    pub destination: IpAddr,
}

/// Identifies a TCP attempt by the requester's port and the probed port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TcpTrace {
    /// Requester's port.
    pub client: u16,
    /// Probed port.
    pub server: u16,
}
