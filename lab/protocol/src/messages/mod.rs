//! The protocol between labctl and the agent.
//!
//! One byte stream per host carries a yamux session, which [`crate::preamble`] begins; labctl opens every yamux stream.
//! A stream begins with one [`Request`] as a line of JSON (at most [`MAX_LINE`] bytes, LF-terminated); the agent
//! answers with one [`Reply`] line. What follows depends on the request: nothing, raw bytes, or further lines.

mod frames;
mod probing;

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use labctl_model::{Interface, PerFamily, Route, Tools};
use serde::{Deserialize, Serialize};

pub use frames::*;
pub use probing::*;

use crate::made::NotesRequest;

/// Version of the protocol; both sides must have the same.
pub const VERSION: u32 = 7;

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
    /// Asks of processes whether they are still in the cgroup of their container. Answered with a bool for each.
    InContainers {
        /// Process ids in the host, each with the id of a container.
        processes: Vec<(u32, String)>,
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
            Request::InContainers { .. } => "in-containers",
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
