//! The protocol between clients and a lab's supervisor on the lab's control socket (unix, mode 0600).
//!
//! One connection per request. The client sends one [`Request`] line of JSON; the supervisor answers with [`Answer`]
//! lines, the last of which is [`Answer::Done`] or [`Answer::Error`]. For [`Request::Exec`] the client then also
//! sends [`labctl_protocol::messages::ExecIn`] lines.

use std::{collections::BTreeMap, path::PathBuf};

use ipnet::IpNet;
use labctl_machines::Event;
use labctl_model::{Action, Command, Nic};
use labctl_protocol::messages::ExecOut;
use labctl_report::{Report, sent::SendReport, tunnels::VxlanReport};
use labctl_state::Runtime;
use serde::{Deserialize, Serialize};

use crate::{Checking, Expectations, error::Failure, lab::Saved};

/// A client's request to a supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Follows the bring-up: every event so far and to come, until it is done. `own`: if the client goes away before
    /// that, the lab is taken down.
    Follow {
        /// Whether the lab ends with this client.
        own: bool,
    },
    /// Asks for the lab's status; answered by one [`Answer::Status`].
    Status,
    /// Runs the lab's expectations, and its steps if asked; answered by [`Answer::Report`].
    Check(Checking),
    /// Runs other expectations, which must be of the same lab; answered by [`Answer::Report`].
    CheckOther {
        /// How.
        how: Checking,
        /// What is expected.
        expectations: Box<Expectations>,
    },
    /// Runs a command in a host or container.
    Exec {
        /// The command.
        command: Command,
        /// Rows and columns of the terminal, if there is one.
        tty: Option<(u16, u16)>,
    },
    /// Captures a segment, as [`Answer::Frame`], until the limits are reached or the client goes away.
    Capture {
        /// Segment.
        segment: String,
        /// At most this many frames.
        count: Option<u64>,
        /// For at most this long, ms.
        duration_ms: Option<u64>,
        /// Bytes kept of each frame.
        snaplen: u32,
        /// Only frames that match this filter, which may contain names.
        filter: Option<String>,
    },
    /// Sends a frame and reports who gets it; answered by [`Answer::Sent`].
    Send(Box<Send>),
    /// Sends VXLAN probes between hosts; answered by [`Answer::Vxlan`].
    Vxlan {
        /// Only from this host.
        from: Option<String>,
        /// Only to this host.
        to: Option<String>,
        /// The port besides VXLAN's own.
        port: Option<u16>,
    },
    /// Runs an action of a step.
    Do {
        /// The action, with names of this lab.
        action: Action,
    },
    /// Saves the lab as a checkpoint; answered by [`Answer::Saved`].
    Save {
        /// The checkpoint's name.
        name: String,
    },
    /// Makes the lab what it was.
    Reset {
        /// When this checkpoint was saved; absent: at the end of `up`.
        name: Option<String>,
    },
    /// Takes the lab down and ends the supervisor.
    Down {
        /// Who asks, shown to those who use the lab: `` `labctl down x` (process 7)``.
        by: String,
    },
}

/// A frame to send.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Send {
    /// Where it is sent: `host1`, `c1:eth1`, `wire:lan`.
    pub from: String,
    /// The frame in the text form; may contain names.
    pub frame: String,
    /// How many times.
    pub count: u32,
    /// Frames a second; none: as fast as possible.
    pub rate: Option<u32>,
    /// Fields that change from one to the next, as [`vxlan::Vary`] is written.
    pub vary: Vec<String>,
    /// Whether a mark may follow it.
    pub mark: bool,
    /// Hosts and containers that must receive it.
    pub received_by: Vec<String>,
    /// Hosts and containers that must not.
    pub not_received_by: Vec<String>,
    /// How long to wait for arrival and silence, ms.
    pub within_ms: u64,
}

/// A supervisor's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Progress.
    Event(Event),
    /// Answer to [`Request::Status`].
    Status(Box<Status>),
    /// Answer to [`Request::Check`] and [`Request::CheckOther`].
    Report(Box<Report>),
    /// Answer to [`Request::Send`].
    Sent(Box<SendReport>),
    /// Answer to [`Request::Vxlan`].
    Vxlan(Box<VxlanReport>),
    /// Answer to [`Request::Save`].
    Saved(Saved),
    /// [`Request::Reset`] is done.
    Reset,
    /// Output of a command.
    Exec(ExecOut),
    /// The ports of a segment, before its first frame: index to `host/nic`.
    Ports(Vec<String>),
    /// A frame.
    Frame(Frame),
    /// It is done; nothing follows.
    Done,
    /// It failed; nothing follows.
    Error(Failure),
}

/// A captured frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frame {
    /// ns since the epoch.
    pub time_ns: u64,
    /// Index of the port that it came in by.
    pub port: usize,
    /// Bytes on the wire.
    pub length: u32,
    /// The first `snaplen` bytes, base64.
    pub data: String,
    /// What became of it, in words: `to host2/eth0`, `dropped at host1/eth0: port security`.
    pub fate: String,
    /// Whether the wire dropped it.
    pub dropped: bool,
    /// Frames lost since the previous one because the reader was too slow.
    pub lost_before: u64,
}

/// Status of a lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The name by which clients know it, that of its folder.
    pub lab: String,
    /// Runtime.
    pub runtime: Runtime,
    /// The topology file.
    pub topology: PathBuf,
    /// Stage.
    pub stage: Stage,
    /// Process id of the supervisor.
    pub supervisor: u32,
    /// When it began, in seconds since the epoch.
    pub since: u64,
    /// Its hosts.
    pub hosts: BTreeMap<String, HostStatus>,
    /// Its peers, each with its NIC in the form of a host's.
    #[serde(default)]
    pub peers: BTreeMap<String, String>,
    /// Its segments.
    pub segments: Vec<String>,
    /// What is cut or blocked on its wire, in words.
    #[serde(default)]
    pub impaired: Vec<String>,
}

/// Stage of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Being brought up.
    Starting,
    /// Up.
    Up,
    /// It did not come up, and what was made was kept for inspection.
    Partial,
    /// Being taken down.
    Stopping,
    /// Its supervisor is gone: only `down` makes sense.
    Dead,
}

/// A NIC of a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NicStatus {
    /// Name.
    pub interface: String,
    /// Addresses that the topology gives it, with prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Segment that it is on.
    pub segment: String,
}

impl From<&Nic> for NicStatus {
    fn from(nic: &Nic) -> Self {
        let addresses = nic.addresses.iter().collect();
        Self { interface: nic.name.clone(), addresses, segment: nic.segment.clone() }
    }
}

impl std::fmt::Display for NicStatus {
    /// `eth0 192.168.56.3/24 on lan`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { interface, addresses, segment } = self;
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        write!(f, "{interface} {} on {segment}", addresses.join(", "))
    }
}

/// Status of a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its NICs.
    pub nics: Vec<NicStatus>,
    /// Containers of the topology that should run on it.
    pub containers: Vec<String>,
    /// Its Docker socket on this machine.
    pub docker_socket: PathBuf,
    /// Its console log on this machine, if the runtime has one.
    pub console: Option<PathBuf>,
    /// Process id of its machine, if it has one.
    pub pid: Option<u32>,
    /// Why it no longer runs, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<String>,
}
