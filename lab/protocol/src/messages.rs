//! The protocol between labctl and the agent.
//!
//! One byte stream per host carries a yamux session, which [`crate::preamble`] begins; labctl opens every yamux stream.
//! A stream begins with one [`Request`] as a line of JSON (at most [`MAX_LINE`] bytes, LF-terminated); the agent
//! answers with one [`Reply`] line. What follows depends on the request: nothing, raw bytes, or further lines.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use labctl_model::{Family, Interface, PerFamily, Protocol, Route, Tools};
use serde::{Deserialize, Serialize};

use crate::made::NotesRequest;

/// Version of the protocol; both sides must have the same.
pub const VERSION: u32 = 5;

/// The longest line either side accepts, in bytes, LF included.
pub const MAX_LINE: usize = 4 << 20;

/// Name of the virtio-serial port that carries the agent's stream in a vm.
pub const VIRTIO_PORT: &str = "labctl.agent";

/// dockerd's log in the host.
pub const DOCKERD_LOG: &str = "/var/log/dockerd.log";

/// Word on a vm's kernel command line: the agent may stand before the engine's programs, to save an emulated processor's
/// time (docs/vanilla.md).
pub const SHORTCUTS: &str = "labctl.shortcuts";

/// Name of the OCI runtime of labctl's own image in a host with shortcuts. It is a small program; runc, which runs every
/// other image, takes most of a container's start without KVM.
pub const BUILTIN_RUNTIME: &str = "crun";

/// MAC of the NIC with this index in a saved machine. A restored machine has it until [`Request::Configure`] gives the
/// NIC its own.
pub fn template_mac(index: usize) -> [u8; 6] {
    [0x02, 0x6c, 0x61, 0xff, 0xff, u8::try_from(index).unwrap_or(u8::MAX)]
}

/// The first line of a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// Asks who is there. Answered with [`Hello`] as the reply's value.
    Hello {
        /// labctl's protocol version.
        version: u32,
    },
    /// Makes this machine the configured host. Idempotent.
    Configure(Box<HostConfig>),
    /// (Re)starts dockerd with this daemon.json and replies once its socket answers `_ping`. A dockerd that already runs
    /// with the same contents is left alone; one that was just restored is not even pinged. Answered with its newest API
    /// version, such as `1.45`. An error carries the tail of dockerd's log.
    Docker {
        /// Contents of daemon.json.
        daemon_json: serde_json::Map<String, serde_json::Value>,
    },
    /// Ends dockerd and waits until it is gone; it is no error if none runs.
    EndDocker {
        /// Whether by SIGKILL, which leaves containerd and the containers running.
        kill: bool,
    },
    /// Starts dockerd with the daemon.json that is there, unless it runs.
    StartDocker,
    /// Sets the clock of a vm. [`Request::Configure`] does so too, but can take long on a busy machine.
    Clock {
        /// Wall clock of labctl's machine when this was sent, ns since the epoch.
        clock_ns: u64,
    },
    /// Makes a machine that was restored as it was one of now: sets its clock and reseeds its random generator.
    Wake {
        /// Wall clock of labctl's machine when this was sent, ns since the epoch.
        clock_ns: u64,
        /// Fresh random octets, in hex.
        entropy: String,
    },
    /// Prepares the machine for being saved, so that a restored one can quickly take its own identity.
    Settle,
    /// Connects to a unix socket of the host: after the reply the stream is a raw two-way pipe to it.
    DialUnix {
        /// Path in the host, such as `/var/run/docker.sock`.
        path: String,
    },
    /// Runs a command in the host. After the reply, [`ExecIn`] lines go in and [`ExecOut`] lines come out.
    Exec(Exec),
    /// Begins a probe session: after the reply, [`ProbeIn`] lines go in and [`ProbeOut`] lines come out. The reply maps
    /// endpoints that we could not enter (their process is gone) to the reason.
    Probe(ProbeSession),
    /// Reads facts of a namespace; answered with [`NetnsFacts`].
    Facts {
        /// The namespace.
        netns: Netns,
    },
    /// Reads the names in the /etc/hosts that a process sees; answered with a sorted list.
    HostsFile {
        /// Process id in the host.
        pid: u32,
    },
    /// Adds or removes a route in the host's own namespace.
    Route {
        /// Whether to add or to remove it.
        add: bool,
        /// The route.
        route: Route,
    },
    /// Makes or removes an interface in the host's own namespace.
    Interface {
        /// Whether to make or to remove it.
        add: bool,
        /// The interface, its parent named as in the host.
        interface: Interface,
    },
    /// Sends frames through an interface; the reply comes when all are sent. Closing the stream ends it.
    Send(SendFrame),
    /// Watches for frames: after the reply, [`WatchIn`] lines go in and [`WatchOut`] lines come out. The reply maps
    /// endpoints that we could not enter to the reason.
    Watch(FrameWatch),
    /// Makes a VTEP in the host's own namespace, which lives until the stream is closed.
    Vtep(ScratchVtep),
    /// Syncs nothing and powers the machine off (vm only).
    PowerOff,
    /// Works on the notes of a machine that is not labctl's own.
    Notes(NotesRequest),
    /// Replaces the lab's nftables table on a machine that is not labctl's own; without rules, removes it.
    Table {
        /// The contents of the table, in nft(8)'s language.
        rules: Option<String>,
        /// Interfaces that they cut.
        cut: Vec<String>,
    },
    /// Captures what a machine sends through an interface: after the reply, [`CaptureOut`] lines come out. Each byte that
    /// goes in asks for all that was sent so far.
    Capture {
        /// Interface of the host's own namespace.
        interface: String,
        /// Bytes kept of each frame.
        snaplen: usize,
    },
}

impl Request {
    /// The request's name in the protocol.
    pub fn op(&self) -> &'static str {
        match self {
            Request::Hello { .. } => "hello",
            Request::Configure(_) => "configure",
            Request::Docker { .. } => "docker",
            Request::EndDocker { .. } => "end-docker",
            Request::StartDocker => "start-docker",
            Request::Clock { .. } => "clock",
            Request::Wake { .. } => "wake",
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
            Request::Notes(_) => "notes",
            Request::Table { .. } => "table",
            Request::Capture { .. } => "capture",
        }
    }
}

/// The agent's first answer on a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Success; the value depends on the request and is often null.
    Ok(serde_json::Value),
    /// Failure, with the reason in words for a person.
    Err(String),
}

/// Answer to [`Request::Hello`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Protocol version.
    pub version: u32,
    /// Kernel release, as uname gives it.
    pub kernel: String,
    /// Current host name.
    pub hostname: String,
    /// Whether this host's engine has shortcuts, [`BUILTIN_RUNTIME`] among them.
    pub shortcuts: bool,
    /// Whether the machine is not labctl's own.
    pub foreign: bool,
}

/// What comes out of a capture.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptureOut {
    /// A frame.
    Frame(SentFrame),
    /// All that was sent before the question has come out.
    All,
}

/// A frame that a machine sent through an interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SentFrame {
    /// When, in ns since the epoch.
    pub time_ns: u64,
    /// Its length in bytes.
    pub length: usize,
    /// Its first bytes, as many as are kept; base64.
    pub data: String,
    /// Frames lost since the one before.
    pub lost_before: u64,
}

/// Configuration of a host. Sending it again changes everything but NIC names and MACs.
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
    /// The id that a dockerd takes if it starts after this: a UUID.
    pub engine_id: String,
    /// NICs, found by MAC (their own, or [`template_mac`] of their index) and renamed.
    pub nics: Vec<NicConfig>,
    /// Interfaces on top of them.
    pub interfaces: Vec<Interface>,
    /// Next hops of the default routes.
    pub gateway: PerFamily<IpAddr>,
    /// Further routes.
    pub routes: Vec<Route>,
    /// Kernel settings, `net.ipv4.ip_forward` to value.
    pub sysctls: BTreeMap<String, String>,
    /// All lab hosts with their first address, for /etc/hosts.
    pub hosts: BTreeMap<String, IpAddr>,
}

impl HostConfig {
    /// Whether it gives the host an IPv6 address.
    pub fn has_v6(&self) -> bool {
        let nics = self.nics.iter().flat_map(|n| n.addresses.iter());
        nics.chain(self.interfaces.iter().flat_map(|i| i.addresses.iter().copied()))
            .any(|net| net.addr().is_ipv6())
    }
}

/// One NIC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NicConfig {
    /// MAC by which we find it.
    pub mac: [u8; 6],
    /// Its new interface name.
    pub name: String,
    /// Addresses with their prefix lengths.
    pub addresses: PerFamily<IpNet>,
    /// Point-to-point peers.
    pub peer: PerFamily<IpAddr>,
    /// MTU in bytes.
    pub mtu: u16,
}

/// A network namespace of the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Netns {
    /// The host's own.
    Host,
    /// The namespace of this process (a container's, by its pid in the host).
    Pid(u32),
}

/// A command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exec {
    /// Program, looked up in PATH, and arguments.
    pub argv: Vec<String>,
    /// Network namespace that it runs in.
    pub netns: Netns,
    /// Whose program runs in the namespace of a process: with [`Tools::Own`] that process's, with its files and
    /// environment, as with `docker exec`.
    pub tools: Tools,
    /// Rows and columns of a terminal for it; all output then comes as stdout.
    pub tty: Option<(u16, u16)>,
    /// Variables added to its environment.
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

/// What a running command sends. Octets are base64. The command is killed when labctl closes the stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExecOut {
    /// Bytes of its stdout. An empty one only says that the command still runs.
    Stdout(String),
    /// Bytes of its stderr.
    Stderr(String),
    /// It ended with this exit status, or 128 + signal. Nothing follows.
    Exit(i32),
}

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
    /// Fires all shots at once; each is answered by one [`ProbeOut::Result`], at the latest at the deadline.
    Fire {
        /// How long to wait for silent shots, in ms from now.
        deadline_ms: u32,
        /// The cells.
        shots: Vec<Shot>,
    },
    /// Asks for the sightings so far; answered by any number of [`ProbeOut::Sightings`], the last of them empty.
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
    /// Size in bytes. ICMP and UDP: the IP packet, which is never fragmented; TCP: what the run's listener must echo.
    /// 0: the least possible.
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
    /// Result of a shot at the sender.
    Result(ShotResult),
    /// Part of what the watchers saw, in order of time.
    Sightings(Vec<Sighting>),
}

/// Result of a shot at the sender.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// A packet of this run that a watcher saw pass an interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// Answer to [`Request::Facts`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsFacts {
    /// Interface names.
    pub interfaces: Vec<String>,
    /// Interface names, each with an address and its prefix length; no link-local ones.
    pub addresses: Vec<(String, IpNet)>,
    /// The same for IPv6's link-local addresses.
    #[serde(default)]
    pub link_local: Vec<(String, IpNet)>,
    /// MAC addresses by interface.
    pub macs: BTreeMap<String, [u8; 6]>,
    /// MTUs in bytes by interface.
    pub mtus: BTreeMap<String, u32>,
}

/// Most frames that one [`SendFrame`] may send.
pub const MAX_FRAMES: u32 = 10_000_000;

/// Longest time that one [`SendFrame`] may take, in s.
pub const MAX_SENDING_S: u64 = 60;

/// Frames to send as they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SendFrame {
    /// Namespace of the interface.
    pub netns: Netns,
    /// Its name.
    pub interface: String,
    /// What is sent.
    pub frames: Outgoing,
    /// How many times to send each; together at most [`MAX_FRAMES`].
    pub count: u32,
    /// Frames per second, at least 1; absent: as fast as possible.
    pub rate: Option<u32>,
}

/// What is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outgoing {
    /// Frames to send in turn, each from the Ethernet header on, without FCS; base64.
    Built(Vec<String>),
    /// One frame with fields that vary.
    Varied {
        /// The frame, in the text form of [`vxlan::Stack`].
        frame: String,
        /// What varies, in the text form of [`vxlan::Vary`].
        vary: Vec<String>,
    },
}

/// Frames to watch for: those with a mark of this run ([`crate::probe::nonce`], kind `Frame`), and those that contain
/// the needle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrameWatch {
    /// Endpoints of this host to watch in.
    pub endpoints: Vec<Endpoint>,
    /// Random number that marks the run's frames.
    pub run: u64,
    /// Bytes by which we recognise a frame without a mark; base64.
    pub needle: Option<String>,
    /// UDP ports whose datagrams we read as VXLAN.
    pub vxlan_ports: Vec<u16>,
}

/// What labctl sends within a watch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchIn {
    /// Asks for the frames seen so far.
    Seen,
}

/// What the agent sends within a watch: the frames seen so far, in parts that end with [`WatchOut::All`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchOut {
    /// Some of the frames.
    Seen(Vec<SeenFrame>),
    /// There are no more.
    All {
        /// Frames, of the run or not, that came too fast to be looked at, by endpoint.
        missed: BTreeMap<String, u64>,
    },
}

/// Frames that were seen and have the same place, direction, mark and layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenFrame {
    /// Endpoints that live in the namespace.
    pub endpoints: Vec<String>,
    /// Interface.
    pub interface: String,
    /// Whether they came in through the interface or left through it.
    pub inbound: bool,
    /// Whether they came in for this interface's own MAC or a group, so that the namespace took them.
    pub for_us: bool,
    /// The number in the mark; none for frames recognised by the needle.
    pub mark: Option<u32>,
    /// How many.
    pub count: u64,
    /// The first of them as it was seen there; base64.
    pub frame: String,
}

/// A temporary VTEP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScratchVtep {
    /// Name of its interface; an existing one of that name is replaced.
    pub name: String,
    /// VNI, 24 bits.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Its MAC.
    pub mac: [u8; 6],
}
