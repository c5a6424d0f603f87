//! Frames that are sent and watched for.

use std::collections::BTreeMap;

use labctl_model::Family;
use serde::{Deserialize, Serialize};

use super::{Endpoint, Netns};

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
    /// The family of outer packets that it takes.
    pub family: Family,
}
