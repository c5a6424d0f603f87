//! What may pass a port: an ordered pipeline of policies, the same for incoming and outgoing frames.
//!
//! Blocks belong to the segment ([`crate::block`]), since both ends of a frame's way decide. To add a policy (VLAN
//! filter, loss), add a variant of [`Policy`] at its place in the order. A policy that delays or duplicates also needs a
//! variant of [`Verdict`], which the switch carries out.

use std::fmt;

use serde::{Deserialize, Serialize};
use vxlan::MacAddr;

use crate::frame::Frame;

/// Why a frame went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DropReason {
    /// Truncated, from a group or zero address, or with a malformed offload header.
    Malformed,
    /// The port is cut ([`crate::Wire::set_link`]).
    LinkDown,
    /// Port security: its source MAC is not the NIC's own.
    ForeignSource,
    /// Port security: its destination MAC is neither the NIC's own nor a group.
    ForeignDestination,
    /// Larger than the segment's MTU.
    Mtu,
    /// Its destination is behind the port that it came in by.
    SamePort,
    /// Nothing is connected to the port.
    NotConnected,
    /// The port takes frames more slowly than they come.
    QueueFull,
    /// The segment blocks it ([`crate::Wire::block`]).
    Blocked,
    /// It is for a group, and MLD snooping knows nobody who listens.
    NoListener,
}

impl DropReason {
    /// All of them, in the order of their declaration.
    pub(crate) const ALL: [Self; 10] = [
        Self::Malformed,
        Self::LinkDown,
        Self::ForeignSource,
        Self::ForeignDestination,
        Self::Mtu,
        Self::SamePort,
        Self::NotConnected,
        Self::QueueFull,
        Self::Blocked,
        Self::NoListener,
    ];
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::LinkDown => "the port is cut",
            Self::ForeignSource => "port security: source MAC is not the NIC's own",
            Self::ForeignDestination => "port security: destination MAC is not the NIC's own",
            Self::Mtu => "larger than the segment's MTU",
            Self::SamePort => "destination is behind the port it came from",
            Self::NotConnected => "nothing is connected",
            Self::QueueFull => "queue full",
            Self::Blocked => "blocked on the wire",
            Self::NoListener => "nobody listens to its group",
        })
    }
}

/// Which directions of a port carry frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// Frames that the host sends.
    pub from_host: bool,
    /// Frames to the host.
    pub to_host: bool,
}

impl LinkState {
    /// Healed.
    pub const UP: Self = Self { from_host: true, to_host: true };
    /// Cut.
    pub const DOWN: Self = Self { from_host: false, to_host: false };
}

/// Which way a frame passes a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// From the host into the switch.
    Ingress,
    /// From the switch to the host.
    Egress,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// On to the next policy.
    Pass,
    /// No further.
    Drop(DropReason),
}

/// One member of a pipeline.
enum Policy {
    Link(LinkState),
    /// Like a hypervisor's vSwitch that rejects forged transmits and promiscuous mode: in only frames from this MAC, out
    /// only frames to it or a group.
    PortSecurity(MacAddr),
    /// Most bytes after Ethernet header and tags. The drop is silent: a switch is no router.
    Mtu(usize),
}

impl Policy {
    fn judge(&self, stage: Stage, frame: &Frame<'_>) -> Verdict {
        let dropped = match (self, stage) {
            (Self::Link(link), Stage::Ingress) => (!link.from_host).then_some(DropReason::LinkDown),
            (Self::Link(link), Stage::Egress) => (!link.to_host).then_some(DropReason::LinkDown),
            (Self::PortSecurity(own), Stage::Ingress) => {
                (frame.src != *own).then_some(DropReason::ForeignSource)
            }
            (Self::PortSecurity(own), Stage::Egress) => {
                (frame.dst != *own && !frame.dst.is_multicast()).then_some(DropReason::ForeignDestination)
            }
            (Self::Mtu(mtu), _) => (frame.l3_len > *mtu).then_some(DropReason::Mtu),
        };
        dropped.map_or(Verdict::Pass, Verdict::Drop)
    }
}

/// The policies of one port, in order.
pub(crate) struct Pipeline(Vec<Policy>);

impl Pipeline {
    /// Makes the pipeline. The cut comes first, like a pulled cable. `port_security` is the NIC's MAC if it is on.
    pub(crate) fn new(port_security: Option<MacAddr>, mtu: u16) -> Self {
        let mut policies = vec![Policy::Link(LinkState::UP)];
        policies.extend(port_security.map(Policy::PortSecurity));
        policies.push(Policy::Mtu(usize::from(mtu)));
        Self(policies)
    }

    /// Returns the first verdict that is not [`Verdict::Pass`], if any.
    pub(crate) fn judge(&self, stage: Stage, frame: &Frame<'_>) -> Verdict {
        for policy in &self.0 {
            let verdict = policy.judge(stage, frame);
            if verdict != Verdict::Pass {
                return verdict;
            }
        }
        Verdict::Pass
    }

    pub(crate) fn set_link(&mut self, state: LinkState) {
        for policy in &mut self.0 {
            if let Policy::Link(link) = policy {
                *link = state;
            }
        }
    }

    pub(crate) fn link(&self) -> LinkState {
        let cut = self.0.iter().find_map(|policy| match policy {
            Policy::Link(link) => Some(*link),
            _ => None,
        });
        cut.unwrap_or(LinkState::UP)
    }
}
