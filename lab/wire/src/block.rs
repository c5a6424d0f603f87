//! What a segment drops on purpose: a port, a protocol, VXLAN alone; everywhere, or from or to one host.

use std::{collections::VecDeque, net::IpAddr};

use labctl_model::{Protocol, Traffic};
use serde::{Deserialize, Serialize};
use vxlan::{
    IpView, UdpView,
    checksum::Addresses,
    proto::{self, dot1q, ethertype, icmp, icmpv6, ip_protocol},
};

use crate::{frame::Frame, port::PortId};

/// Fragmented datagrams that a block remembers. A lab never sends more at once.
const MOST_FRAGMENTED: usize = 256;

/// Something that a segment drops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Which packets.
    pub filter: Traffic,
    /// Name of the port they come in by; absent: any.
    pub from: Option<String>,
    /// Name of the port they would leave by; absent: any, and they are dropped as they come in.
    pub to: Option<String>,
}

/// Identifies the fragments of a datagram (RFC 791 section 3.2, RFC 8200 section 4.5).
type Datagram = (IpAddr, IpAddr, u8, u32);

/// A block with the switch's port numbers.
pub(crate) struct Rule {
    pub(crate) filter: Traffic,
    pub(crate) from: Option<PortId>,
    pub(crate) to: Option<PortId>,
    /// Datagrams whose first fragment was dropped; later fragments have no ports to match.
    begun: VecDeque<Datagram>,
}

/// All blocks of a segment.
#[derive(Default)]
pub(crate) struct Blocks(Vec<Rule>);

impl Blocks {
    /// Blocks these filters at every port.
    pub(crate) fn everywhere(filters: &[Traffic]) -> Self {
        let mut blocks = Self::default();
        filters.iter().for_each(|filter| blocks.add(*filter, None, None));
        blocks
    }

    /// Adds a block, unless it is there already.
    pub(crate) fn add(&mut self, filter: Traffic, from: Option<PortId>, to: Option<PortId>) {
        if !self.0.iter().any(|r| (r.filter, r.from, r.to) == (filter, from, to)) {
            self.0.push(Rule { filter, from, to, begun: VecDeque::new() });
        }
    }

    /// Removes the blocks with the given filter and ports; `None` means any. Returns how many.
    pub(crate) fn remove(
        &mut self,
        filter: Option<Traffic>,
        from: Option<PortId>,
        to: Option<PortId>,
    ) -> usize {
        let before = self.0.len();
        let covered = |r: &Rule| {
            filter.is_none_or(|f| r.filter == f)
                && from.is_none_or(|p| r.from == Some(p))
                && to.is_none_or(|p| r.to == Some(p))
        };
        self.0.retain(|r| !covered(r));
        before - self.0.len()
    }

    /// Removes the blocks of a port that is gone.
    pub(crate) fn forget(&mut self, port: PortId) {
        self.0.retain(|r| r.from != Some(port) && r.to != Some(port));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    /// Whether a frame is stopped as it comes in at `from`; without that, the stand-in sent it.
    pub(crate) fn at_ingress(&mut self, from: Option<PortId>, frame: &Frame<'_>) -> bool {
        self.stopped(frame, |r| r.to.is_none() && r.from.is_none_or(|p| from == Some(p)))
    }

    /// Whether a frame is stopped on its way out to `to`.
    pub(crate) fn at_egress(&mut self, from: Option<PortId>, to: PortId, frame: &Frame<'_>) -> bool {
        self.stopped(frame, |r| r.to == Some(to) && r.from.is_none_or(|p| from == Some(p)))
    }

    fn stopped(&mut self, frame: &Frame<'_>, here: impl Fn(&Rule) -> bool) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let Some(packet) = packet(frame) else { return false };
        // Every rule looks, so that each remembers the datagrams that it began to drop.
        self.0.iter_mut().filter(|r| here(r)).fold(false, |stopped, r| r.stops(&packet) | stopped)
    }
}

impl Rule {
    fn stops(&mut self, packet: &IpView<'_>) -> bool {
        if let Traffic::Ip(protocol) = self.filter {
            return packet.protocol() == protocol;
        }
        let datagram = (packet.src(), packet.dst(), packet.protocol(), packet.id());
        if packet.fragment_offset() != 0 {
            return self.begun.contains(&datagram);
        }
        let stopped = matches(self.filter, packet);
        if packet.more_fragments() {
            // The identification will be used again, maybe by a datagram that may pass.
            self.begun.retain(|d| *d != datagram);
            if stopped {
                if self.begun.len() == MOST_FRAGMENTED {
                    self.begun.pop_front();
                }
                self.begun.push_back(datagram);
            }
        }
        stopped
    }
}

/// Whether a whole packet, or the first fragment of one, matches the filter.
fn matches(filter: Traffic, packet: &IpView<'_>) -> bool {
    let (protocol, port) = match filter {
        Traffic::Ip(protocol) => return packet.protocol() == protocol,
        Traffic::TooBig => return says_too_big(packet),
        Traffic::Port(Protocol::Tcp, port) => (ip_protocol::TCP, port),
        Traffic::Port(Protocol::Udp, port) | Traffic::Vxlan(port) => (ip_protocol::UDP, port),
    };
    // TCP's ports are where UDP's are.
    let to = packet.payload().get(2..4).map(|b| u16::from_be_bytes([b[0], b[1]]));
    if packet.protocol() != protocol || to != Some(port) {
        return false;
    }
    !matches!(filter, Traffic::Vxlan(_)) || is_vxlan(packet.payload())
}

/// Whether it says how large a packet may be.
fn says_too_big(packet: &IpView<'_>) -> bool {
    let known = match packet.addresses() {
        Addresses::V4 { .. } => [icmp::UNREACHABLE, icmp::unreachable::FRAGMENTATION_NEEDED],
        Addresses::V6 { .. } => [icmpv6::PACKET_TOO_BIG, 0],
    };
    packet.is_icmp() && packet.payload().first_chunk::<2>() == Some(&known)
}

/// Whether a UDP datagram carries a VXLAN header that Linux would accept.
fn is_vxlan(datagram: &[u8]) -> bool {
    let header = UdpView::header_checked(datagram).ok().map(|udp| udp.payload());
    header
        .and_then(|bytes| proto::vxlan::parse(bytes).ok())
        .is_some_and(|packet| proto::vxlan::is_strict(&packet))
}

/// The IP packet in a frame, behind up to two VLAN tags.
fn packet<'a>(frame: &Frame<'a>) -> Option<IpView<'a>> {
    let payload = frame.eth.payload();
    let (kind, packet) = match frame.eth.ethertype() {
        ethertype::DOT1Q | ethertype::DOT1AD => {
            let kind = payload.get(2..4).map(|b| u16::from_be_bytes([b[0], b[1]]))?;
            (kind, payload.get(dot1q::TAG_LEN..)?)
        }
        kind => (kind, payload),
    };
    let packet = IpView::header_checked(packet).ok()?;
    (kind == packet.addresses().ethertype()).then_some(packet)
}
