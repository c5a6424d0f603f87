//! What must hold: matrices of probes, and facts about endpoints.

use std::{fmt, net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// How long what stays silent is waited for, unless the topology says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
use crate::inject::{Inject, OnWire};

/// One entry of `expect`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Cells that are probed all at once.
    Matrix(Matrix),
    /// Something that is read rather than probed.
    Fact(Fact),
    /// A frame that is sent.
    Inject(Inject),
}

/// A set of cells with one probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// What is sent.
    pub probe: Probe,
    /// How large what is sent is. `icmp` and `udp`: bytes of the IP packet, headers included, which must not be
    /// fragmented on its way; an answer of the same size comes back. `tcp`: bytes that are sent over the connection
    /// and must all come back over it. The least that carries a nonce where absent.
    pub size: Option<u32>,
    /// Whether the destination is reached by address or by name.
    pub by: By,
    /// How long what stays silent is waited for; one deadline for the whole matrix.
    pub timeout: Duration,
    /// How long the matrix may take to become what is expected (probed again until it holds); zero: it must hold at
    /// the first look.
    pub within: Duration,
    /// The cells.
    pub cells: Vec<Cell>,
    /// What is asked of answers; cells refer to these by index.
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
    /// Index into [`Matrix::answers`], for a `yes` of which more is asked than that.
    #[serde(default)]
    pub answers: Option<usize>,
    /// Line in the topology, 1-based.
    pub line: u32,
}

/// What is asked of the answers of one rule, or of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// Who may answer: names of hosts, containers, peers, services (any of their tasks) and tasks. Empty: whoever is meant.
    pub by: Vec<String>,
    /// Whom the one that answers must take for the source.
    pub source: Option<SourceSeen>,
    /// How many requests are sent for each cell, all at once; 1 at least.
    pub requests: u32,
    /// Each of `by` must answer at least once over all requests of the cells that share this.
    pub every: bool,
}

/// Whom a backend must take for the source of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceSeen {
    /// This address.
    Address(Ipv4Addr),
    /// An address in this prefix.
    Subnet(Ipv4Net),
    /// An address of this endpoint.
    Endpoint(String),
    /// An address in a subnet of this network: a key of the topology's, or `ingress` for the routing mesh's own.
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
    /// A host, container, peer or service, by the address that it shares with the source or, `name@network` or `name@segment`, by
    /// its address there.
    Endpoint {
        /// Host, container, peer or service.
        name: String,
        /// Docker network or segment whose address is meant.
        at: Option<String>,
    },
    /// An address as written.
    Address(Ipv4Addr),
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

/// As tables have it: an address, `name` or `name@network`.
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
    /// ICMP echo.
    Icmp,
    /// A TCP connection to this port.
    Tcp(u16),
    /// A UDP datagram to this port, proved by its nonce at the destination.
    Udp(u16),
    /// A look-up of this name with the source's own resolver configuration; the destination is what it must resolve to.
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
    /// Nothing came back, and the request was not seen at the destination.
    Silent,
    /// Somebody else got it; the detail says who.
    Misdelivered,
    /// The request arrived at the destination, the answer did not come back.
    Asymmetric,
    /// The connection was made, but not all that was then sent over it came back.
    Stalled,
    /// The name did not resolve.
    NoName,
    /// The source or the destination does not run. A plain `no` does not accept this one: a crashed container must
    /// not pass for an isolated one.
    Down,
}

impl No {
    /// Every reason with its word in tables.
    pub const ALL: [(No, &'static str); 10] = [
        (No::Refused, "refused"),
        (No::Unreachable, "unreachable"),
        (No::NoRoute, "no-route"),
        (No::Arp, "arp"),
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

/// What a cell must come out as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// Arrives and is answered.
    Yes,
    /// Any `no` will do.
    No,
    /// A `no` for this reason.
    Because(No),
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

/// What a cell came out as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observed {
    /// Arrived and was answered by whom it should.
    Yes,
    /// Did not, and how.
    No(No),
    /// The probe itself could not be made: a fault of the lab. Never what was expected.
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

/// Something read, not probed.
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

/// What a fact is about: each reads as a list of strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// Interface names in the network namespace of a host or container, sorted.
    Interfaces(String),
    /// IPv4 addresses (without prefix length) in the network namespace of a host or container, sorted.
    Addresses(String),
    /// Names in the /etc/hosts of a container, sorted.
    Hosts(String),
    /// Names of a host's Docker networks other than bridge, host and none, sorted.
    Networks(String),
    /// Subnets of a Docker network, on the first host that has it.
    Subnets(String),
    /// `running`, `exited`, `created`, … of a container; `absent` where there is none.
    Status(String),
    /// Lines that a command prints, without blanks at either end, empty ones left out; in order, not sorted.
    Exec {
        /// The command.
        command: Command,
        /// The status that it must end with.
        exits: u8,
    },
    /// Hosts whose nodes are ready, as a manager sees them.
    Nodes(String),
    /// Names of the tasks of a service that run, as a manager sees them.
    Tasks(String),
    /// Addresses of the nodes that a host knows to be on an overlay, itself among them: what the gossip has told it.
    NetworkPeers {
        /// Key of the network.
        network: String,
        /// Host that is asked.
        host: String,
    },
}

/// A command that is run in a host or container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Host or container.
    pub place: String,
    /// Whose program it is.
    pub tools: Tools,
    /// Program and arguments.
    pub argv: Vec<String>,
}

/// Whose program a command is, where it runs in a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tools {
    /// The container's own, among its files and in its environment.
    #[default]
    Own,
    /// The host's, among the host's files: only the network is the container's.
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
    /// Not empty, and every subnet or address of it lies inside this one.
    Inside(Ipv4Net),
    /// The same set as the same subject of another endpoint (`container:X` shares its addresses, for one).
    Same(String),
    /// This is part of what a command prints; of nothing, that it ends as it must is enough.
    Print(String),
}
