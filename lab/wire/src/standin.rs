//! The stand-in for a segment's gateway and for what lies behind it.
//!
//! It answers ARP for the gateway, and pings of the gateway and of the outside. It refuses TCP and UDP there: a lab sees
//! an internet that answers but is closed. It routes nothing: addresses in the lab's segments are unreachable through
//! it, and no packet leaves the process.

use std::{net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;
use vxlan::{
    EthernetFrame, Ipv4View, MacAddr, TcpFlags, TcpView,
    proto::{arp, ethertype, icmp::unreachable, ip_protocol, tcp},
    reply::{self, IcmpError},
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
    address: Ipv4Addr,
    subnet: Ipv4Net,
    outside: Vec<Ipv4Net>,
    /// Subnets of all segments of the lab.
    inside: Arc<[Ipv4Net]>,
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
        address: Ipv4Addr,
        subnet: Ipv4Net,
        outside: Vec<Ipv4Net>,
        inside: Arc<[Ipv4Net]>,
    ) -> Self {
        Self {
            mac,
            address,
            subnet,
            outside,
            inside,
            neighbours: Neighbours::default(),
            errors: ErrorBudget::default(),
            rx_frames: 0,
            tx_frames: 0,
            no_route: 0,
        }
    }

    /// Takes a frame to the gateway's MAC or to all. Puts frames to send into `out`.
    pub(crate) fn receive(&mut self, frame: &EthernetFrame<'_>, now: u32, out: &mut Vec<Vec<u8>>) {
        self.rx_frames += 1;
        match frame.ethertype() {
            ethertype::ARP => self.arp(frame, now, out),
            ethertype::IPV4 if frame.dst() == self.mac => {
                if let Ok(packet) = Ipv4View::new_checked(frame.payload())
                    && let Some(answer) = self.answer(frame, &packet, now)
                {
                    self.send(answer, packet.src(), now, out);
                }
            }
            _ => {}
        }
    }

    fn arp(&mut self, frame: &EthernetFrame<'_>, now: u32, out: &mut Vec<Vec<u8>>) {
        let Ok(arp) = arp::parse(frame.payload()) else { return };
        let (ip, mac) = (arp.get_sender_proto_addr(), MacAddr::from(arp.get_sender_hw_addr()));
        let to_us = arp.get_target_proto_addr() == self.address;
        if self.is_neighbour(ip) && mac.is_unicast() {
            self.neighbours.heard(ip, mac, to_us, now, out);
        }
        if to_us {
            out.extend(reply::arp_reply_to(frame, self.mac));
        }
    }

    /// Whether the gateway reaches `ip` by this segment. It has no other route to the lab.
    fn is_neighbour(&self, ip: Ipv4Addr) -> bool {
        self.subnet.contains(&ip) && ip != self.address
    }

    fn send(&mut self, answer: Vec<u8>, to: Ipv4Addr, now: u32, out: &mut Vec<Vec<u8>>) {
        if !self.is_neighbour(to) {
            self.no_route += 1;
            return;
        }
        match self.neighbours.resolve(to, answer, now) {
            Next::Send(answer) => out.push(answer),
            Next::Ask => out.push(reply::arp_request(self.mac, self.address, to)),
            Next::Wait => {}
        }
    }

    /// The answer to a packet; the destination MAC is not set yet.
    fn answer(&mut self, frame: &EthernetFrame<'_>, packet: &Ipv4View<'_>, now: u32) -> Option<Vec<u8>> {
        let dst = packet.dst();
        if dst != self.address {
            if packet.ttl() <= 1 {
                return self.error(frame, self.address, IcmpError::TimeExceeded, now);
            }
            let inside = self.inside.iter().any(|subnet| subnet.contains(&dst));
            if inside || !self.outside.iter().any(|subnet| subnet.contains(&dst)) {
                return self.error(frame, self.address, IcmpError::Unreachable(unreachable::HOST), now);
            }
        }
        match packet.protocol() {
            ip_protocol::ICMP => reply::icmp_echo_reply_to(frame, self.mac),
            ip_protocol::TCP => reset(packet).map(|segment| {
                let answer = reply::ipv4(dst, packet.src(), ip_protocol::TCP, 64, &segment);
                reply::ethernet(frame.src(), self.mac, frame.vlan(), ethertype::IPV4, &answer)
            }),
            ip_protocol::UDP => self.error(frame, dst, IcmpError::Unreachable(unreachable::PORT), now),
            _ => self.error(frame, dst, IcmpError::Unreachable(unreachable::PROTOCOL), now),
        }
    }

    fn error(
        &mut self,
        frame: &EthernetFrame<'_>,
        from: Ipv4Addr,
        error: IcmpError,
        now: u32,
    ) -> Option<Vec<u8>> {
        let message = reply::icmp_error_to(frame, self.mac, from, error)?;
        self.errors.take(now).then_some(message)
    }
}

/// The reset with which a closed port answers a segment (RFC 9293, 3.10.7.1).
fn reset(packet: &Ipv4View<'_>) -> Option<Vec<u8>> {
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
