//! Followers: fields that the stack leaves unset, so that they are computed from other fields and change with them.

use std::ops::Range;

use super::sums::{Sums, Touched};
use crate::proto::{Kind, Layer};
use crate::proto::{dot1q, ethernet, ipv4, ipv6, vxlan};

/// A field that follows others.
#[derive(Debug, Clone)]
pub(super) struct Follow {
    how: How,
    /// Where the field is.
    at: usize,
    /// The bytes it depends on; empty once the field was asked for itself.
    looks_at: Range<usize>,
    pub(super) touched: Touched,
    /// How many checksums are further in; it may depend on them.
    pub(super) sums_inside: usize,
    /// Followers that depend on this field, one bit each.
    pub(super) reaches: u32,
}

#[derive(Debug, Clone, Copy)]
enum How {
    /// A source port under VXLAN of this kind: a hash of the flow in the packet here, up to its layer's end.
    Port { tunnel: Kind, packet: usize, end: usize },
    /// An Ethernet destination: the group address of the IPv4 destination here.
    Group4(usize),
    /// The same for IPv6.
    Group6(usize),
    /// An ARP sender: a copy of the Ethernet source here.
    Sender(usize),
}

impl How {
    /// Bytes of the field.
    fn len(self) -> usize {
        if matches!(self, Self::Port { .. }) { 2 } else { 6 }
    }
}

impl Follow {
    /// The bytes that it writes.
    pub(super) fn target(&self) -> Range<usize> {
        self.at..self.at + self.how.len()
    }

    /// Stops following if the field is `range`.
    pub(super) fn stop_if(&mut self, range: &Range<usize>) {
        if self.target() == *range {
            self.looks_at = 0..0;
        }
    }

    /// Its value now; `None` if it no longer follows.
    pub(super) fn value(&self, frame: &[u8]) -> Option<u64> {
        if self.looks_at.is_empty() {
            return None;
        }
        let octets = match self.how {
            How::Port { tunnel, packet, end } => {
                return Some(vxlan::source_port(tunnel, &frame[packet..end]).into());
            }
            How::Group4(at) => ethernet::group_of_ipv4(octets::<4>(frame, at).into()).octets(),
            How::Group6(at) => ethernet::group_of_ipv6(octets::<16>(frame, at).into()).octets(),
            How::Sender(at) => octets(frame, at),
        };
        Some(super::load(&octets))
    }
}

fn octets<const N: usize>(frame: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| frame[at + i])
}

/// Which of `follows` depend on `range`, one bit each.
pub(super) fn interested(follows: &[Follow], range: &Range<usize>) -> u32 {
    let looks = |follow: &Follow| follow.looks_at.start < range.end && range.start < follow.looks_at.end;
    follows.iter().enumerate().fold(0, |bits, (bit, follow)| bits | u32::from(looks(follow)) << bit)
}

/// All followers of a frame, innermost first. Each depends on something further in, or on an Ethernet source. There is
/// at most one per layer, so one bit each fits 32 bits.
pub(super) fn all(layers: &[Layer], rooms: &[Range<usize>], frame: &[u8], sums: &Sums) -> Vec<Follow> {
    let found = layers.iter().enumerate().rev().filter_map(|(index, layer)| {
        let (room, above) = (&rooms[index], &layers[index + 1..]);
        let (how, at, looks_at) = match layer {
            Layer::Udp(udp) if udp.src_port.is_none() => {
                let tunnel = above.first().map(Layer::kind).filter(|kind| kind.is_tunnel())?;
                let packet = rooms[index + 1].start;
                let end = flow_end(above, &rooms[index + 1..], frame).unwrap_or(room.end);
                (How::Port { tunnel, packet, end: room.end }, room.start, packet + vxlan::HEADER_LEN..end)
            }
            Layer::Ether(ether) if ether.dst.is_none() => {
                let reached = above.iter().position(|layer| layer.kind() != Kind::Dot1q)?;
                let ip = rooms[index + 1 + reached].start;
                match &above[reached] {
                    // An unset destination is zero, which is no group; it can be set to one.
                    Layer::Ipv4(_) => (How::Group4(ip + 16), room.start, ip + 16..ip + 20),
                    Layer::Ipv6(_) => (How::Group6(ip + 24), room.start, ip + 24..ip + 40),
                    _ => return None,
                }
            }
            Layer::Arp(arp) if arp.sender_mac.is_none() => {
                let frame = layers[..index].iter().rposition(|layer| layer.kind() == Kind::Ether)?;
                let from = rooms[frame].start + 6;
                (How::Sender(from), room.start + 8, from..from + 6)
            }
            _ => return None,
        };
        let touched = sums.touched_by(&(at..at + how.len()));
        Some(Follow { how, at, looks_at, touched, sums_inside: sums.inside(room.start), reaches: 0 })
    });
    found.collect()
}

/// Where the input of the flow's hash ends in a usual frame: addresses and ports come first. `None` in an unusual frame,
/// where any byte may count.
fn flow_end(tunnel_and_above: &[Layer], rooms: &[Range<usize>], frame: &[u8]) -> Option<usize> {
    let packet = vxlan::parse(&frame[rooms.first()?.clone()]).ok()?;
    if vxlan::inner(&packet, tunnel_and_above.first()?.kind()) != Some(Kind::Ether) {
        return None;
    }
    let Layer::Ether(ethernet::Ether { ethertype: None, .. }) = tunnel_and_above.get(1)? else { return None };
    let tagged = matches!(tunnel_and_above.get(2), Some(Layer::Dot1q(dot1q::Dot1q { ethertype: None, .. })));
    let network = if tagged { 3 } else { 2 };
    let room = rooms.get(network)?;
    let header = match tunnel_and_above.get(network)? {
        Layer::Arp(_) => return Some(room.start),
        Layer::Ipv4(ip) if ip.ihl.is_none() => ipv4::HEADER_LEN + ip.options.len(),
        Layer::Ipv6(_) => ipv6::HEADER_LEN,
        _ => return None,
    };
    Some((room.start + header + 4).min(room.end))
}
