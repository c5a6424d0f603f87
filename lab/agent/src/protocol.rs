//! What labctl and the agent say to each other.
//!
//! One byte stream per host carries a yamux session, which [`crate::preamble`] begins; labctl opens every yamux stream.
//! A stream begins with one
//! [`Request`] as a line of JSON (at most [`MAX_LINE`] bytes, LF-terminated); the agent answers with one
//! [`Reply`] line. What follows depends on the request: nothing, raw bytes, or further lines.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use lab_model::{Interface, Protocol, Route, Tools};
use serde::{Deserialize, Serialize};

/// Version of the protocol; both sides must have the same.
pub const VERSION: u32 = 1;

/// The longest line either side accepts, in bytes, LF included.
pub const MAX_LINE: usize = 4 << 20;

/// Name of the virtio-serial port that carries the agent's stream in a vm.
pub const VIRTIO_PORT: &str = "labctl.agent";

/// Where a host keeps what its dockerd says.
pub const DOCKERD_LOG: &str = "/var/log/dockerd.log";

/// The OCI runtime of labctl's own image, by the name that every dockerd knows it by which an agent starts. It is a small
/// program, where runc, which every other image gets, takes most of a container's start without KVM.
pub const BUILTIN_RUNTIME: &str = "crun";

/// MAC of the NIC with this index in a machine that is saved to be restored as any host. A restored machine still has
/// it, until [`Request::Configure`] gives the NIC its own.
pub fn template_mac(index: usize) -> [u8; 6] {
    [0x02, 0x6c, 0x61, 0xff, 0xff, u8::try_from(index).unwrap_or(u8::MAX)]
}

/// The first line of a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// Who is there. Answered with [`Hello`] as the reply's value.
    Hello {
        /// labctl's protocol version.
        version: u32,
    },
    /// Makes this machine the host that the lab calls it. Idempotent.
    Configure(Box<HostConfig>),
    /// (Re)starts dockerd with this daemon.json and answers once its socket answers `_ping`. A dockerd that already
    /// runs with the same contents is left alone, and one that was just restored not even asked. On failure the error carries the tail of dockerd's log. Answered with
    /// the newest version of the API that it speaks, such as `1.45`.
    Docker {
        /// Contents of daemon.json.
        daemon_json: serde_json::Map<String, serde_json::Value>,
    },
    /// Ends dockerd and waits until it is gone; none that runs is no error.
    EndDocker {
        /// By SIGKILL, which spares what it has started: containerd and the containers.
        kill: bool,
    },
    /// Starts dockerd with the daemon.json that is there, unless it runs.
    StartDocker,
    /// Sets the clock of a vm. [`Request::Configure`] does so too, but may be under way for long on a busy machine.
    Clock {
        /// Wall clock of labctl's machine when this was sent, ns since the epoch.
        clock_ns: u64,
    },
    /// Gets ready for being saved: a restored machine must be able to take on an identity of its own quickly.
    Settle,
    /// After the reply the stream is a raw two-way pipe to this unix socket of the host.
    DialUnix {
        /// Path in the host, such as `/var/run/docker.sock`.
        path: String,
    },
    /// Runs a command of the host's own. After the reply, [`ExecIn`] lines go in and [`ExecOut`] lines come out.
    Exec(Exec),
    /// A probe session: after the reply, [`ProbeIn`] lines go in and [`ProbeOut`] lines come out. The reply maps the
    /// names of endpoints that could not be entered (their process is gone) to the reason.
    Probe(ProbeSession),
    /// Reads facts of a namespace; answered with [`NetnsFacts`].
    Facts {
        /// Whose.
        netns: Netns,
    },
    /// Names in the /etc/hosts that a process sees, as a sorted list.
    HostsFile {
        /// Process id in the host.
        pid: u32,
    },
    /// Adds or removes a route in the host's own namespace.
    Route {
        /// Add, or else remove.
        add: bool,
        /// The route.
        route: Route,
    },
    /// Makes or removes an interface in the host's own namespace.
    Interface {
        /// Make, or else remove.
        add: bool,
        /// The interface, its parent named as in the host.
        interface: Interface,
    },
    /// Sends a frame by an interface; the reply comes when all is sent. Closing the stream ends it.
    Send(SendFrame),
    /// Watches for frames: after the reply, [`WatchIn`] lines go in, and each is answered by lines of [`SeenFrame`] lists,
    /// the last of them empty. The reply maps the names of endpoints that could not be entered to the reason.
    Watch(FrameWatch),
    /// Makes a VTEP in the host's own namespace that is there until the stream is closed.
    Vtep(ScratchVtep),
    /// Syncs nothing and powers the machine off (vm only).
    PowerOff,
}

impl Request {
    /// Its name, as on the wire.
    pub fn op(&self) -> &'static str {
        match self {
            Request::Hello { .. } => "hello",
            Request::Configure(_) => "configure",
            Request::Docker { .. } => "docker",
            Request::EndDocker { .. } => "end-docker",
            Request::StartDocker => "start-docker",
            Request::Clock { .. } => "clock",
            Request::Settle => "settle",
            Request::DialUnix { .. } => "dial-unix",
            Request::Exec(_) => "exec",
            Request::Probe(_) => "probe",
            Request::Facts { .. } => "facts",
            Request::HostsFile { .. } => "hosts-file",
            Request::Route { .. } => "route",
            Request::Interface { .. } => "interface",
            Request::Send(_) => "send",
            Request::Watch(_) => "watch",
            Request::Vtep(_) => "vtep",
            Request::PowerOff => "power-off",
        }
    }
}

/// The agent's first answer on a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It worked; the value belongs to the request, often null.
    Ok(serde_json::Value),
    /// It did not, and why, in words for a person.
    Err(String),
}

/// Answer to [`Request::Hello`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Protocol version.
    pub version: u32,
    /// Kernel release, as uname gives it.
    pub kernel: String,
    /// Host name at this moment.
    pub hostname: String,
}

/// What a host is to be. Everything but NIC names and MACs may be repeated to change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostConfig {
    /// Host name.
    pub hostname: String,
    /// Wall clock of labctl's machine when this was sent, ns since the epoch.
    pub clock_ns: u64,
    /// 32 fresh random octets, hex: mixed into the kernel's random generator (clones of a machine share its state).
    pub entropy: String,
    /// 32 hex digits for /etc/machine-id.
    pub machine_id: String,
    /// dockerd's id: a UUID.
    pub engine_id: String,
    /// NICs, found by MAC (their own, or [`template_mac`] of their index) and renamed.
    pub nics: Vec<NicConfig>,
    /// Interfaces on top of them.
    pub interfaces: Vec<Interface>,
    /// Default route's next hop.
    pub gateway: Option<Ipv4Addr>,
    /// Further routes.
    pub routes: Vec<Route>,
    /// Kernel settings, `net.ipv4.ip_forward` to value.
    pub sysctls: BTreeMap<String, String>,
    /// Names of all lab hosts with their first address, for /etc/hosts.
    pub hosts: BTreeMap<String, Ipv4Addr>,
}

/// One NIC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NicConfig {
    /// MAC by which it is found.
    pub mac: [u8; 6],
    /// Interface name that it gets.
    pub name: String,
    /// Address and prefix length.
    pub address: Ipv4Net,
    /// Point-to-point peer.
    pub peer: Option<Ipv4Addr>,
    /// MTU in bytes.
    pub mtu: u16,
}

/// A network namespace of the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Netns {
    /// The host's own.
    Host,
    /// That of this process (a container's, by its pid in the host).
    Pid(u32),
}

/// A command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments; looked up in PATH.
    pub argv: Vec<String>,
    /// Network namespace that it runs in.
    pub netns: Netns,
    /// Where the namespace is that of a process: [`Tools::Own`] for a program among that process's files, which sees these
    /// files and that process's environment, as with `docker exec`.
    pub tools: Tools,
    /// Allocate a terminal of this many rows and columns; its output then all comes as stdout.
    pub tty: Option<(u16, u16)>,
    /// Added environment.
    pub env: BTreeMap<String, String>,
}

/// What labctl sends to a running command. Octets are base64.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExecIn {
    /// Bytes for its stdin.
    Stdin(String),
    /// End of its stdin.
    Eof,
    /// New size of the terminal.
    Resize(u16, u16),
}

/// What a running command sends. Octets are base64. When labctl closes the stream the command is killed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExecOut {
    /// Bytes of its stdout. None at all says only that the command still runs.
    Stdout(String),
    /// Bytes of its stderr.
    Stderr(String),
    /// It ended: exit status, 128 + signal where a signal ended it. Nothing follows.
    Exit(i32),
}

/// A probe session: the endpoints of one host that take part in one run. While the stream is open the agent listens
/// and watches in each of them; closing the stream ends all that.
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
    /// Process whose /etc/hosts and /etc/resolv.conf it uses; the agent's own where absent.
    pub pid: Option<u32>,
}

/// A port to answer on in an endpoint. One that something else already listens on is left to that; of endpoints that
/// share a namespace the first listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Listener {
    /// Endpoint.
    pub endpoint: String,
    /// Transport.
    pub protocol: Protocol,
    /// Port.
    pub port: u16,
    /// Bytes that a TCP listener sends back after it has said who it is; 0: it closes the connection.
    pub size: u32,
}

/// labctl to agent within a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeIn {
    /// Fires all of these at once; each is answered by one [`ProbeOut::Result`], at the latest when the deadline ends.
    Fire {
        /// How long what stays silent is waited for, ms from now.
        deadline_ms: u32,
        /// The cells.
        shots: Vec<Shot>,
    },
    /// Asks for what was seen so far; answered by any number of [`ProbeOut::Sightings`], the last of them empty.
    Sightings,
}

/// One cell to probe.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shot {
    /// Number of the cell, unique in the run over all agents.
    pub cell: u32,
    /// Endpoint that sends.
    pub from: String,
    /// What is sent.
    pub kind: ShotKind,
    /// ICMP and UDP: bytes of the IP packet, which is never fragmented; TCP: bytes that must come back from the run's
    /// listener. 0: no more than it takes.
    pub size: u32,
    /// Where to.
    pub to: ShotTarget,
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
    /// Only the look-up of the target's name.
    Dns,
}

/// Where a shot goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShotTarget {
    /// An address.
    Address(Ipv4Addr),
    /// A name, looked up by the endpoint's own /etc/hosts, then its resolvers.
    Name(String),
}

/// Agent to labctl within a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeOut {
    /// How a shot came out at the sender.
    Result(ShotResult),
    /// What the watchers saw, or a part of it, in order of time.
    Sightings(Vec<Sighting>),
}

/// How a shot came out at the sender.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShotResult {
    /// Cell.
    pub cell: u32,
    /// Address that was probed, after the look-up.
    pub address: Option<Ipv4Addr>,
    /// All addresses that the name resolved to.
    pub resolved: Vec<Ipv4Addr>,
    /// Source port, for TCP and UDP, host order.
    pub source_port: Option<u16>,
    /// What happened.
    pub outcome: Outcome,
}

/// What a sender knows of its shot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Answered.
    Answered {
        /// Round trip in µs.
        rtt_us: u64,
        /// What the answering listener said, where it was one of the run's own (TCP and UDP).
        by: Option<Taker>,
    },
    /// RST, or ICMP port unreachable.
    Refused {
        /// Who said so, where known.
        from: Option<Ipv4Addr>,
    },
    /// ICMP destination unreachable, time exceeded or the like.
    Unreachable {
        /// Who said so, where known.
        from: Option<Ipv4Addr>,
        /// ICMP type.
        icmp_type: u8,
        /// ICMP code.
        icmp_code: u8,
    },
    /// The sender's own kernel has no route (ENETUNREACH).
    NoRoute,
    /// The next hop (given) did not answer ARP: EHOSTUNREACH, or its neighbour entry was still INCOMPLETE or FAILED
    /// at the deadline.
    ArpFailed {
        /// Next hop.
        next_hop: Option<Ipv4Addr>,
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
    /// The name did not resolve, and the resolver's word for it (NXDOMAIN, no answer, …).
    NoName {
        /// Why.
        why: String,
    },
    /// Only for [`ShotKind::Dns`]: it resolved (see [`ShotResult::resolved`]).
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

/// What a listener of the run says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taker {
    /// The endpoint that it listens in.
    pub name: String,
    /// The address that the request came from, as it sees it.
    pub source: Ipv4Addr,
}

/// A packet of this run as a watcher saw it pass an interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sighting {
    /// Endpoint whose namespace it was seen in; endpoints that share one each get a sighting.
    pub endpoint: String,
    /// Interface.
    pub interface: String,
    /// Whether it came in on the interface, or else left by it.
    pub inbound: bool,
    /// Whether the destination address belongs to this namespace (so that this endpoint is who got it).
    pub local: bool,
    /// Whether it is the answer, or else the request.
    pub answer: bool,
    /// Which shot: the cell for ICMP and UDP (from the nonce).
    pub cell: Option<u32>,
    /// Which shot: for TCP, the requester's port, the port probed and its address.
    pub tcp: Option<TcpTrace>,
    /// Source address in the packet.
    pub source: Ipv4Addr,
    /// Destination address in the packet.
    pub destination: Ipv4Addr,
}

/// Identifies a TCP attempt by its ports: requester's and probed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TcpTrace {
    /// Requester's port.
    pub client: u16,
    /// Probed port.
    pub server: u16,
}

/// Answer to [`Request::Facts`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsFacts {
    /// Interface names.
    pub interfaces: Vec<String>,
    /// IPv4 addresses with prefix lengths, with the name of the interface.
    pub addresses: Vec<(String, Ipv4Net)>,
    /// MAC addresses by interface.
    pub macs: BTreeMap<String, [u8; 6]>,
}

/// Most frames that one [`SendFrame`] sends.
pub const MAX_FRAMES: u32 = 10_000_000;

/// Longest that one [`SendFrame`] takes, s.
pub const MAX_SENDING_S: u64 = 60;

/// Frames to send as they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SendFrame {
    /// Whose interface.
    pub netns: Netns,
    /// Its name.
    pub interface: String,
    /// What is sent.
    pub frames: Outgoing,
    /// How many times each, all of them together at most [`MAX_FRAMES`].
    pub count: u32,
    /// How many frames a second, at least 1; none: as fast as they go.
    pub rate: Option<u32>,
}

/// What is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outgoing {
    /// Frames in turn, each from the Ethernet header on, without FCS; base64.
    Built(Vec<String>),
    /// One, no two of it alike.
    Varied {
        /// The frame, in the text form of [`vxlan::Stack`].
        frame: String,
        /// What varies, each as [`vxlan::Vary`] is written.
        vary: Vec<String>,
    },
}

/// Frames to watch for: those with a mark of this run ([`crate::probe::nonce`], kind `Frame`), and those with these
/// bytes anywhere in them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrameWatch {
    /// Endpoints of this host to watch in.
    pub endpoints: Vec<Endpoint>,
    /// Random number that marks the run's frames.
    pub run: u64,
    /// Bytes by which a frame without a mark is known; base64.
    pub needle: Option<String>,
    /// UDP ports whose datagrams are VXLAN.
    pub vxlan_ports: Vec<u16>,
}

/// labctl to agent within a watch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchIn {
    /// Asks for what was seen so far.
    Seen,
}

/// Agent to labctl within a watch: what was seen so far, in parts, the last of which is [`WatchOut::All`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchOut {
    /// A part of it.
    Seen(Vec<SeenFrame>),
    /// That was all.
    All {
        /// Endpoints, and how many frames, of the run or not, came faster than they could be looked at.
        missed: BTreeMap<String, u64>,
    },
}

/// Frames that were seen and are alike in everything but their bytes: same place, direction, mark and layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenFrame {
    /// Endpoints that live in the namespace.
    pub endpoints: Vec<String>,
    /// Interface.
    pub interface: String,
    /// Whether it came in by the interface, or else left by it.
    pub inbound: bool,
    /// Whether it came in for this interface's own MAC or a group, so that the namespace took it.
    pub for_us: bool,
    /// The number in its mark; none where it was known by the needle.
    pub mark: Option<u32>,
    /// How many.
    pub count: u64,
    /// The first of them as it was there; base64.
    pub frame: String,
}

/// A VTEP for a while.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScratchVtep {
    /// Name of its interface; one of that name that is there is replaced.
    pub name: String,
    /// VNI, 24 bits.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Its MAC.
    pub mac: [u8; 6],
}
