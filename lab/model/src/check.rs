//! What must hold: matrices of probes, and facts about endpoints.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// How long a matrix or an injection waits for silent cells, unless the topology says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
use crate::{
    family::{Probed, is_link_local},
    inject::{Inject, OnWire},
};

/// One entry of `expect`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Cells that are all probed at once.
    Matrix(Matrix),
    /// Something that is read rather than probed.
    Fact(Fact),
    /// A frame that is sent.
    Inject(Inject),
}

impl Check {
    /// Gives all of it one line.
    pub fn set_line(&mut self, line: u32) {
        match self {
            Self::Matrix(m) => {
                m.line = line;
                m.cells.iter_mut().for_each(|c| c.line = line);
            }
            Self::Fact(f) => f.line = line,
            Self::Inject(i) => i.line = line,
        }
    }

    /// The same check, decided by its first look.
    pub fn at_once(mut self) -> Self {
        match &mut self {
            Check::Matrix(m) => m.within = Duration::ZERO,
            Check::Fact(f) => f.within = Duration::ZERO,
            Check::Inject(_) => {}
        }
        self
    }
}

/// A set of cells with one probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// What is sent.
    pub probe: Probe,
    /// Size of what is sent, in bytes. `icmp` and `udp`: the IP packet with its headers, which must not be fragmented on
    /// its way; the answer has the same size. `tcp`: what is sent over the connection and must all come back. Absent: the
    /// least that carries a nonce.
    pub size: Option<u32>,
    /// Which address families are probed.
    #[serde(default)]
    pub family: Probed,
    /// Whether the destination is reached by address or by name.
    pub by: By,
    /// How long we wait for silent cells; one deadline for the whole matrix.
    pub timeout: Duration,
    /// How long the matrix may take to hold: it is probed again until it does. Zero: the first look decides.
    pub within: Duration,
    /// The cells.
    pub cells: Vec<Cell>,
    /// Conditions on answers; cells refer to them by index.
    #[serde(default)]
    pub answers: Vec<Answers>,
    /// What the wire must and must not carry meanwhile.
    pub wire: Vec<OnWire>,
    /// Line in the topology where this matrix begins, 1-based.
    pub line: u32,
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Name of a host, container or peer.
    pub from: String,
    /// What it probes.
    pub to: Target,
    /// What must come out.
    pub expected: Expected,
    /// Index into [`Matrix::answers`], for a `yes` with further conditions.
    #[serde(default)]
    pub answers: Option<usize>,
    /// Line in the topology, 1-based.
    pub line: u32,
}

/// Conditions on the answers of one rule or table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// Who may answer: hosts, containers, peers, services (any of their tasks) and tasks, by name. Empty: the destination.
    pub by: Vec<String>,
    /// The source that the answering side must see.
    pub source: Option<SourceSeen>,
    /// Requests for each cell, sent all at once; at least 1.
    pub requests: u32,
    /// Whether each of `by` must answer at least once, over all requests of the cells that share these conditions.
    pub every: bool,
}

/// The source of a request, as a backend must see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceSeen {
    /// This address.
    Address(IpAddr),
    /// An address in this prefix.
    Subnet(IpNet),
    /// An address of this endpoint.
    Endpoint(String),
    /// An address in a subnet of this network: a key of the topology, or `ingress` for the routing mesh.
    Network(String),
}

/// The network of the routing mesh, as topologies and Docker call it.
pub const INGRESS: &str = "ingress";

impl fmt::Display for SourceSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceSeen::Address(a) => write!(f, "{a}"),
            SourceSeen::Subnet(n) => write!(f, "{n}"),
            SourceSeen::Endpoint(name) => f.write_str(name),
            SourceSeen::Network(name) => write!(f, "network {name}"),
        }
    }
}

/// The far end of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A host, container, peer or service: by its address on what it shares with the source, or with `name@network` or
    /// `name@segment` by its address there.
    Endpoint {
        /// Host, container, peer or service.
        name: String,
        /// Docker network or segment whose address is meant.
        at: Option<String>,
    },
    /// An address as written.
    Address(IpAddr),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Endpoint { name, at: None } => f.write_str(name),
            Target::Endpoint { name, at: Some(at) } => write!(f, "{name}@{at}"),
            Target::Address(a) => write!(f, "{a}"),
        }
    }
}

/// Reads a target as tables write it: an address, `name` or `name@network`.
impl From<&str> for Target {
    fn from(text: &str) -> Self {
        if let Ok(address) = text.parse() {
            return Target::Address(address);
        }
        match text.split_once('@') {
            None => Target::Endpoint { name: text.to_owned(), at: None },
            Some((name, at)) => Target::Endpoint { name: name.to_owned(), at: Some(at.to_owned()) },
        }
    }
}

/// What is sent for a cell. Text form: `icmp`, `tcp/80`, `udp/53`, `dns/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// ICMP echo, of ICMPv6 over IPv6.
    Icmp,
    /// A TCP connection to this port.
    Tcp(u16),
    /// A UDP datagram to this port, proved by its nonce at the destination.
    Udp(u16),
    /// A look-up of this name with the source's resolver configuration; it must resolve to the destination.
    Dns(String),
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Icmp => f.write_str("icmp"),
            Probe::Tcp(p) => write!(f, "tcp/{p}"),
            Probe::Udp(p) => write!(f, "udp/{p}"),
            Probe::Dns(n) => write!(f, "dns/{n}"),
        }
    }
}

/// Why a text is no probe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProbe {
    /// The word before the slash is unknown, or its port or name is missing.
    #[error("there is no probe `{0}`")]
    Unknown(String),
    /// The text after the slash is no port.
    #[error("`{0}` is no port")]
    Port(String),
    /// The text after `dns/` is no name.
    #[error("`{0}` is no name to look up")]
    Name(String),
}

impl FromStr for Probe {
    type Err = NoProbe;

    fn from_str(text: &str) -> Result<Self, NoProbe> {
        let port = |text: &str| parse_port(text).ok_or_else(|| NoProbe::Port(text.to_owned()));
        match text.split_once('/') {
            None if text == "icmp" => Ok(Probe::Icmp),
            Some(("tcp", number)) => port(number).map(Probe::Tcp),
            Some(("udp", number)) => port(number).map(Probe::Udp),
            // A dot at the end marks an absolute name.
            Some(("dns", name)) if is_dns_name(name.strip_suffix('.').unwrap_or(name)) => {
                Ok(Probe::Dns(name.to_owned()))
            }
            Some(("dns", name)) => Err(NoProbe::Name(name.to_owned())),
            _ => Err(NoProbe::Unknown(text.to_owned())),
        }
    }
}

/// Reads a port: 1 to 65535, only digits.
pub fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|p| *p > 0 && text.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a resolver accepts this name: labels of letters, digits, `-` and `_` (RFC 1123, and `_` as in compose).
pub fn is_dns_name(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// How the destination is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// By the address that Docker or the topology gave it.
    #[default]
    Address,
    /// By its name, looked up in the source's /etc/hosts and resolvers.
    Name,
}

/// How a probe went wrong. The words are those of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum No {
    /// Answered with TCP RST or ICMP port unreachable by the destination itself.
    Refused,
    /// An ICMP unreachable or the like, from a router or the destination; the detail says from whom.
    Unreachable,
    /// The source's own kernel has no route (ENETUNREACH).
    NoRoute,
    /// The next hop did not answer ARP.
    Arp,
    /// The next hop did not answer IPv6's neighbour discovery.
    Neighbour,
    /// Nothing came back, and the request was not seen at the destination.
    Silent,
    /// The request arrived somewhere else; the detail says where.
    Misdelivered,
    /// The request arrived at the destination, but the answer did not come back.
    Asymmetric,
    /// The connection was made, but not all that was then sent over it came back.
    Stalled,
    /// The name did not resolve.
    NoName,
    /// The source or the destination does not run. A plain `no` does not accept this: a crashed container must not pass
    /// for an isolated one.
    Down,
}

impl No {
    /// Every reason with its word in tables.
    pub const ALL: [(No, &'static str); 11] = [
        (No::Refused, "refused"),
        (No::Unreachable, "unreachable"),
        (No::NoRoute, "no-route"),
        (No::Arp, "arp"),
        (No::Neighbour, "neighbour"),
        (No::Silent, "silent"),
        (No::Misdelivered, "misdelivered"),
        (No::Asymmetric, "asymmetric"),
        (No::Stalled, "stalled"),
        (No::NoName, "no-name"),
        (No::Down, "down"),
    ];

    /// The word in tables and reports.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(n, _)| *n == self).map_or("no", |(_, w)| w)
    }
}

/// The result that a cell must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// The request arrives and is answered.
    Yes,
    /// A `no` for any reason but [`No::Down`].
    No,
    /// A `no` for this reason.
    Because(No),
}

impl Expected {
    /// The verdict of a word of the tables.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "yes" => Some(Expected::Yes),
            "no" => Some(Expected::No),
            other => No::ALL.iter().find(|(_, w)| *w == other).map(|(n, _)| Expected::Because(*n)),
        }
    }

    /// Every word of the tables.
    pub fn words() -> impl Iterator<Item = &'static str> {
        ["yes", "no"].into_iter().chain(No::ALL.iter().map(|(_, word)| *word))
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Expected::Yes => "yes",
            Expected::No => "no",
            Expected::Because(n) => n.word(),
        })
    }
}

/// The result that a cell has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observed {
    /// The request arrived, and the right one answered.
    Yes,
    /// It did not, for this reason.
    No(No),
    /// The probe itself could not be made: a fault of the lab. Never meets an expectation.
    Failed,
}

impl Observed {
    /// Whether this is what was expected.
    pub fn meets(self, expected: Expected) -> bool {
        match (self, expected) {
            (Observed::Yes, Expected::Yes) => true,
            (Observed::No(no), Expected::No) => no != No::Down,
            (Observed::No(a), Expected::Because(b)) => a == b,
            _ => false,
        }
    }

    /// The word in tables and reports.
    pub fn word(self) -> &'static str {
        match self {
            Observed::Yes => "yes",
            Observed::No(n) => n.word(),
            Observed::Failed => "error",
        }
    }
}

/// A fact that is read, not probed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// What is read, and where.
    pub subject: Subject,
    /// What must be true of it.
    pub must: Must,
    /// How long it may take to become true.
    pub within: Duration,
    /// Line in the topology, 1-based.
    pub line: u32,
}

/// What a fact is about. Reading it gives a list of strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// Interface names in the network namespace of a host or container, sorted.
    Interfaces(String),
    /// Addresses (without prefix length) in the network namespace of a host or container, sorted: those that [`is_told`] lets through.
    Addresses(String),
    /// Names in the /etc/hosts of a container, sorted.
    Hosts(String),
    /// Names of a host's Docker networks other than bridge, host and none, sorted.
    Networks(String),
    /// Subnets of a Docker network, on the first host that has it.
    Subnets(String),
    /// State of a container: `running`, `exited`, `created`, …; `absent` if there is none.
    Status(String),
    /// Lines that a command prints, trimmed, without empty ones, in order.
    Exec {
        /// The command.
        command: Command,
        /// The exit status that it must have.
        exits: u8,
    },
    /// Hosts whose nodes are ready, as a manager sees them.
    Nodes(String),
    /// Names of a service's running tasks, as a manager sees them.
    Tasks(String),
    /// Addresses of the nodes on an overlay, as a host knows them from gossip, its own included.
    NetworkPeers {
        /// Key of the network.
        network: String,
        /// Host that we ask.
        host: String,
    },
    /// Addresses of both families that a name resolves to for an endpoint, sorted.
    Resolves {
        /// The name.
        name: String,
        /// Who looks it up.
        from: String,
    },
}

/// Whether the fact `addresses` has this address. What the kernel gives every interface by itself is left out: IPv6's
/// link-local addresses, and its loopback.
pub fn is_told(address: IpAddr) -> bool {
    !is_link_local(address) && (address.is_ipv4() || !address.is_loopback())
}

/// A command that is run in a host or container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Host or container.
    pub place: String,
    /// Whose program is run.
    pub tools: Tools,
    /// Program and arguments.
    pub argv: Vec<String>,
}

/// Whose program a command in a container runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tools {
    /// The container's own, with its files and its environment.
    #[default]
    Own,
    /// The host's, with the host's files: only the network is the container's.
    Host,
}

impl fmt::Display for Command {
    /// `ip route in c1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.argv.join(" "), self.place)
    }
}

/// What must be true of a list of strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Must {
    /// The same set.
    Equal(Vec<String>),
    /// All of these are in it.
    Contain(Vec<String>),
    /// None of these is in it.
    Lack(Vec<String>),
    /// The list is not empty, and every subnet or address in it lies inside this one.
    Inside(IpNet),
    /// The same set as this subject has for another endpoint (a container with `container:X` has the addresses of X).
    Same(String),
    /// This text is part of what a command prints; empty: only the exit status counts.
    Print(String),
}
