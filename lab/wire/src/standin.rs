//! The stand-in for a segment's gateway and for what lies behind it.
//!
//! It answers ARP and IPv6's neighbour discovery for the gateway, and pings of the gateway and of the outside. It refuses TCP and UDP there: a lab sees
//! an internet that answers but is closed. It routes nothing: addresses in the lab's segments are unreachable through
//! it, and no packet leaves the process.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use labctl_model::{OfFamily, PerFamily};
use vxlan::{
    EthernetFrame, IpView, MacAddr, TcpFlags, TcpView,
    proto::{icmpv6, ip_protocol, tcp},
    reply::{self, ALL_NODES, IcmpError, Neighbors},
};

use crate::neighbours::{Neighbours, Next};

/// Name of the stand-in's port in captures.
pub const GATEWAY_PORT: &str = "gateway";
/// Most ICMP errors per second. Linux sends 1,000 per second in all, and one per second to each peer. We have no limit
/// per peer: a matrix probes all its cells at once, and chance must not decide which are refused.
const ERRORS_PER_SECOND: u32 = 1000;

/// One segment's gateway.
pub(crate) struct StandIn {
    pub(crate) mac: MacAddr,
    addresses: PerFamily<IpAddr>,
    subnets: PerFamily<IpNet>,
    outside: Vec<IpNet>,
    /// Subnets of all segments of the lab.
    inside: Arc<[IpNet]>,
    neighbours: Neighbours,
    errors: ErrorBudget,
    pub(crate) rx_frames: u64,
    pub(crate) tx_frames: u64,
    pub(crate) no_route: u64,
}

#[derive(Default)]
struct ErrorBudget {
    second: u32,
    spent: u32,
}

impl ErrorBudget {
    fn take(&mut self, now: u32) -> bool {
        if self.second != now {
            *self = Self { second: now, spent: 0 };
        }
        self.spent += 1;
        self.spent <= ERRORS_PER_SECOND
    }
}

impl StandIn {
    pub(crate) fn new(
        mac: MacAddr,
        addresses: PerFamily<IpAddr>,
        subnets: PerFamily<IpNet>,
        outside: Vec<IpNet>,
        inside: Arc<[IpNet]>,
    ) -> Self {
        Self {
            mac,
            addresses,
            subnets,
            outside,
            inside,
            neighbours: Neighbours::default(),
            errors: ErrorBudget::default(),
            rx_frames: 0,
            tx_frames: 0,
            no_route: 0,
        }
    }

    /// Whether a frame to this MAC is for the gateway: its own, that of all, or that of a group it listens to.
    pub(crate) fn hears(&self, dst: MacAddr) -> bool {
        dst == self.mac || dst.is_broadcast() || dst.is_multicast() && self.is_in_group(dst)
    }

    fn is_in_group(&self, dst: MacAddr) -> bool {
        self.addresses.iter().any(|own| match own {
            IpAddr::V4(_) => false,
            IpAddr::V6(own) => [ALL_NODES, icmpv6::solicited_node(own)]
                .into_iter()
                .any(|group| icmpv6::group_mac(group) == dst),
        })
    }

    /// Takes a frame that it [hears](Self::hears). Puts frames to send into `out`.
    pub(crate) fn receive(&mut self, frame: &EthernetFrame<'_>, now: u32, out: &mut Vec<Vec<u8>>) {
        self.rx_frames += 1;
        if let Some(asked) = Neighbors::read(frame) {
            return self.discover(frame, &asked, now, out);
        }
        if frame.dst() == self.mac
            && let Ok(packet) = IpView::new_checked(frame.payload())
            && packet.addresses().ethertype() == frame.ethertype()
            && let Some(answer) = self.answer(frame, &packet, now)
        {
            self.send(answer, packet.src(), now, out);
        }
    }

    /// Takes a question or an answer of ARP or neighbour discovery.
    fn discover(&mut self, frame: &EthernetFrame<'_>, asked: &Neighbors, now: u32, out: &mut Vec<Vec<u8>>) {
        let to_us = self.is_own(asked.target);
        if let Some((ip, mac)) = asked.tells.filter(|(ip, _)| self.is_neighbour(*ip)) {
            self.neighbours.heard(ip, mac, to_us, now, out);
        }
        if to_us {
            out.extend(asked.answer(frame, self.mac, true));
        }
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        self.addresses.get(ip.family()) == Some(ip)
    }

    /// Whether the gateway reaches `ip` by this segment. It has no other route to the lab.
    fn is_neighbour(&self, ip: IpAddr) -> bool {
        self.subnets.covers(ip) && !self.is_own(ip)
    }

    fn send(&mut self, answer: Vec<u8>, to: IpAddr, now: u32, out: &mut Vec<Vec<u8>>) {
        let Some(own) = self.addresses.get(to.family()).filter(|_| self.is_neighbour(to)) else {
            self.no_route += 1;
            return;
        };
        match self.neighbours.resolve(to, answer, now) {
            Next::Send(answer) => out.push(answer),
            Next::Ask => out.extend(reply::who_has(self.mac, own, to)),
            Next::Wait => {}
        }
    }

    /// The answer to a packet; the destination MAC is not set yet.
    fn answer(&mut self, frame: &EthernetFrame<'_>, packet: &IpView<'_>, now: u32) -> Option<Vec<u8>> {
        let dst = packet.dst();
        let own = self.addresses.get(dst.family())?;
        if dst != own {
            if packet.hops() <= 1 {
                return self.error(frame, own, IcmpError::TimeExceeded, now);
            }
            let inside = self.inside.iter().any(|subnet| subnet.contains(&dst));
            if inside || !self.outside.iter().any(|subnet| subnet.contains(&dst)) {
                return self.error(frame, own, IcmpError::HostUnreachable, now);
            }
        }
        match packet.protocol() {
            _ if packet.is_icmp() => reply::icmp_echo_reply_to(frame, self.mac),
            ip_protocol::TCP => reset(packet).map(|segment| {
                let answer = reply::ip(packet.addresses().back(), ip_protocol::TCP, 64, &segment);
                reply::ethernet(frame.src(), self.mac, frame.vlan(), frame.ethertype(), &answer)
            }),
            ip_protocol::UDP => self.error(frame, dst, IcmpError::PortUnreachable, now),
            _ => self.error(frame, dst, IcmpError::ProtocolUnreachable, now),
        }
    }

    fn error(
        &mut self,
        frame: &EthernetFrame<'_>,
        from: IpAddr,
        error: IcmpError,
        now: u32,
    ) -> Option<Vec<u8>> {
        let message = reply::icmp_error_to(frame, self.mac, from, error)?;
        self.errors.take(now).then_some(message)
    }
}

/// The reset with which a closed port answers a segment (RFC 9293, 3.10.7.1).
fn reset(packet: &IpView<'_>) -> Option<Vec<u8>> {
    if packet.is_fragment() || !packet.checksum_ok() {
        return None;
    }
    let asked = TcpView::new_checked(packet.payload()).ok()?;
    let flags = asked.flags();
    if flags.contains(TcpFlags::RST) || !asked.checksum_ok(packet.addresses()) {
        return None;
    }
    let (seq, ack, flags) = if flags.contains(TcpFlags::ACK) {
        (asked.ack(), 0, TcpFlags::RST)
    } else {
        // SYN and FIN each take a sequence number (RFC 9293, 3.4).
        let controls = u32::from(flags.contains(TcpFlags::SYN)) + u32::from(flags.contains(TcpFlags::FIN));
        let len = asked.payload().len() as u32 + controls;
        (0, asked.seq().wrapping_add(len), TcpFlags::RST | TcpFlags::ACK)
    };
    let mut segment = vec![0; tcp::HEADER_LEN];
    segment[0..2].copy_from_slice(&asked.dst_port().to_be_bytes());
    segment[2..4].copy_from_slice(&asked.src_port().to_be_bytes());
    segment[4..8].copy_from_slice(&seq.to_be_bytes());
    segment[8..12].copy_from_slice(&ack.to_be_bytes());
    segment[12] = ((tcp::HEADER_LEN / 4) as u8) << 4;
    segment[13] = flags.0;
    // The order of the two addresses does not change the pseudo-header's sum.
    let sum = packet.addresses().checksum(ip_protocol::TCP, &segment, 16);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    Some(segment)
}
