//! The frames that a gateway, or a stand-in for one, sends and answers with.
//!
//! The `…_to` functions answer a frame. They return `None` if the frame is not one to answer that way, so a caller can
//! try each in turn. The answer has the question's VLAN tag.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::Addresses;
use crate::proto::{arp, ethertype, icmp, icmpv6, ip_protocol, ipv4, ipv6};
use crate::{
    Arp, Dot1q, Ether, EthernetFrame, IcmpView, IpView, Ipv4, Ipv6, MacAddr, Payload, Stack, VlanTag,
};

/// Most bytes of an ICMP error's packet, quoted bytes included (RFC 1812, section 4.3.2.3).
const MAX_ERROR_LEN: usize = 576;
/// Most bytes of an ICMPv6 error's packet (RFC 4443, section 2.4).
const MAX_ERROR_LEN_V6: usize = 1280;
/// Every IPv6 station of a link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Hops that answers may take.
const TTL: u8 = 64;

/// Builds a stack. Cannot fail here: no field can be too large, since payloads are cut to fit.
fn built(stack: &Stack) -> Vec<u8> {
    stack.build().expect("addresses, flags and a payload that fits always build")
}

/// A frame from header fields and payload. A tag's priority and VLAN id are cut to the bits that fit.
#[must_use]
pub fn ethernet(dst: MacAddr, src: MacAddr, tag: Option<VlanTag>, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let header = |ethertype| Ether { dst: Some(dst), src: Some(src), ethertype: Some(ethertype) };
    let payload = Payload::from(payload);
    built(&match tag {
        None => header(ethertype) / payload,
        Some(tag) => {
            let (pcp, vid) = (tag.pcp & 7, tag.vid & 0xfff);
            header(tag.tpid) / Dot1q { pcp, dei: tag.dei, vid, ethertype: Some(ethertype) } / payload
        }
    })
}

/// An IPv4 packet without options. Don't-fragment is set, so it needs no identification (RFC 6864). A payload over
/// 65,515 bytes is cut.
#[must_use]
pub fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(usize::from(u16::MAX) - ipv4::HEADER_LEN)];
    let header =
        Ipv4 { src: Some(src), dst: Some(dst), protocol: Some(protocol), ttl, df: true, ..Ipv4::default() };
    built(&(header / Payload::from(payload)))
}

/// An IP packet of either family, without options. IPv4 has don't-fragment set. A payload too long for its header is cut.
#[must_use]
pub fn ip(ends: Addresses, protocol: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    match ends {
        Addresses::V4 { src, dst } => ipv4(src, dst, protocol, hops, payload),
        Addresses::V6 { src, dst } => {
            let payload = &payload[..payload.len().min(usize::from(u16::MAX))];
            let header = Ipv6 {
                src: Some(src),
                dst: Some(dst),
                hop_limit: hops,
                next_header: Some(protocol),
                ..Ipv6::default()
            };
            built(&(header / Payload::from(payload)))
        }
    }
}

/// An ARP packet, without frame.
fn arp_packet(operation: u16, sender: (MacAddr, Ipv4Addr), target: (MacAddr, Ipv4Addr)) -> Vec<u8> {
    built(&Stack::from(Arp {
        operation,
        sender_mac: Some(sender.0),
        sender_ip: Some(sender.1),
        target_mac: target.0,
        target_ip: target.1,
        ..Arp::default()
    }))
}

/// A broadcast that asks who has `who`. With `ip` as `who` it is an announcement, with 0.0.0.0 as `ip` a probe (RFC
/// 5227).
#[must_use]
pub fn arp_request(mac: MacAddr, ip: Ipv4Addr, who: Ipv4Addr) -> Vec<u8> {
    let packet = arp_packet(arp::REQUEST, (mac, ip), (MacAddr::ZERO, who));
    ethernet(MacAddr::BROADCAST, mac, None, ethertype::ARP, &packet)
}

/// An answer to `to_mac`, who has `to_ip`: `ip` is at `mac`.
#[must_use]
pub fn arp_reply(mac: MacAddr, ip: Ipv4Addr, to_mac: MacAddr, to_ip: Ipv4Addr) -> Vec<u8> {
    let packet = arp_packet(arp::REPLY, (mac, ip), (to_mac, to_ip));
    ethernet(to_mac, mac, None, ethertype::ARP, &packet)
}

/// The answer to an ARP request, whichever address it asks for: that address is at `mac`. The caller decides whether to
/// answer for it (its target).
#[must_use]
pub fn arp_reply_to(frame: &EthernetFrame<'_>, mac: MacAddr) -> Option<Vec<u8>> {
    if frame.ethertype() != ethertype::ARP {
        return None;
    }
    let ask = arp::parse(frame.payload()).ok()?;
    let asker = MacAddr::from(ask.get_sender_hw_addr());
    if ask.get_operation().0 != arp::REQUEST || !asker.is_unicast() {
        return None;
    }
    let packet =
        arp_packet(arp::REPLY, (mac, ask.get_target_proto_addr()), (asker, ask.get_sender_proto_addr()));
    Some(ethernet(asker, mac, frame.vlan(), ethertype::ARP, &packet))
}

/// A frame with an ICMP echo request. `from` and `to` are the two ends; through a gateway, `to.0` is the gateway's.
#[must_use]
pub fn icmp_echo_request(
    from: (MacAddr, Ipv4Addr),
    to: (MacAddr, Ipv4Addr),
    id: u16,
    seq: u16,
    payload: &[u8],
) -> Vec<u8> {
    let packet = ipv4(from.1, to.1, ip_protocol::ICMP, TTL, &icmp::echo_request(id, seq, payload));
    ethernet(to.0, from.0, None, ethertype::IPV4, &packet)
}

/// The answer to an ICMP echo request to any unicast address, from that address at `mac`. The caller decides whether to
/// answer for it ([`IpView::dst`]). Fragments are not answered.
#[must_use]
pub fn icmp_echo_reply_to(frame: &EthernetFrame<'_>, mac: MacAddr) -> Option<Vec<u8>> {
    let ask = answerable(frame)?;
    if ask.is_fragment() || !ask.is_icmp() {
        return None;
    }
    let ends = ask.addresses();
    let (request, answer) = match ends {
        Addresses::V4 { .. } => (icmp::ECHO_REQUEST, icmp::ECHO_REPLY),
        Addresses::V6 { .. } => (icmpv6::ECHO_REQUEST, icmpv6::ECHO_REPLY),
    };
    let ping = IcmpView::new_checked(ask.payload()).ok()?;
    if ping.icmp_type() != request || !ends.icmp_checksum_ok(ask.payload()) {
        return None;
    }
    let rest = icmp::id_and_seq(ping.id(), ping.seq());
    let pong = ends.back().icmp_message(answer, 0, rest, ping.payload());
    Some(back(frame, mac, &ip(ends.back(), ends.icmp(), TTL, &pong)))
}

/// The kind of an ICMP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// The host does not answer ARP or neighbour discovery.
    HostUnreachable,
    /// The host does not speak the protocol.
    ProtocolUnreachable,
    /// Nobody listens on the port.
    PortUnreachable,
    /// Too big, and must not be fragmented; the next hop's MTU in bytes.
    TooBig(u16),
    /// Out of hops.
    TimeExceeded,
}

impl IcmpError {
    /// Type, code and bytes 4 to 7 in the ICMP of these addresses' family.
    fn header(self, ends: Addresses) -> (u8, u8, [u8; 4]) {
        use icmp::unreachable as v4;
        use icmpv6::unreachable as v6;
        let none = [0; 4];
        let in_v4 = |code| (icmp::UNREACHABLE, code, none);
        let in_v6 = |code| (icmpv6::UNREACHABLE, code, none);
        match (self, ends) {
            (Self::HostUnreachable, Addresses::V4 { .. }) => in_v4(v4::HOST),
            (Self::ProtocolUnreachable, Addresses::V4 { .. }) => in_v4(v4::PROTOCOL),
            (Self::PortUnreachable, Addresses::V4 { .. }) => in_v4(v4::PORT),
            (Self::TooBig(mtu), Addresses::V4 { .. }) => {
                let [high, low] = mtu.to_be_bytes();
                (icmp::UNREACHABLE, v4::FRAGMENTATION_NEEDED, [0, 0, high, low])
            }
            (Self::TimeExceeded, Addresses::V4 { .. }) => (icmp::TIME_EXCEEDED, 0, none),
            (Self::HostUnreachable, Addresses::V6 { .. }) => in_v6(v6::ADDRESS),
            (Self::ProtocolUnreachable, Addresses::V6 { .. }) => {
                // Points to the field that names the protocol.
                (icmpv6::PARAMETER_PROBLEM, icmpv6::UNKNOWN_NEXT_HEADER, 6u32.to_be_bytes())
            }
            (Self::PortUnreachable, Addresses::V6 { .. }) => in_v6(v6::PORT),
            (Self::TooBig(mtu), Addresses::V6 { .. }) => {
                (icmpv6::PACKET_TOO_BIG, 0, u32::from(mtu).to_be_bytes())
            }
            (Self::TimeExceeded, Addresses::V6 { .. }) => (icmpv6::TIME_EXCEEDED, 0, none),
        }
    }
}

/// The error that a router at `mac` and `from` sends about a frame.
///
/// `None` if no error may be sent about the frame (RFC 1122, section 3.2.2; RFC 4443, section 2.4): errors, groups and
/// broadcasts, later fragments, senders that are no single host. Also if `from` is of another family.
#[must_use]
pub fn icmp_error_to(
    frame: &EthernetFrame<'_>,
    mac: MacAddr,
    from: IpAddr,
    error: IcmpError,
) -> Option<Vec<u8>> {
    let about = answerable(frame)?;
    if about.fragment_offset() != 0 {
        return None;
    }
    let ends = Addresses::of(from, about.src())?;
    let is_error = |icmp_type: &u8| match ends {
        Addresses::V4 { .. } => icmp::is_error(*icmp_type),
        Addresses::V6 { .. } => *icmp_type < icmpv6::ECHO_REQUEST,
    };
    if about.is_icmp() && about.payload().first().is_none_or(is_error) {
        return None;
    }
    let (icmp_type, code, rest) = error.header(ends);
    let room = match ends {
        Addresses::V4 { .. } => MAX_ERROR_LEN - ipv4::HEADER_LEN,
        Addresses::V6 { .. } => MAX_ERROR_LEN_V6 - ipv6::HEADER_LEN,
    };
    let quoted = about.bytes();
    let quoted = &quoted[..quoted.len().min(room - icmp::HEADER_LEN)];
    let message = ends.icmp_message(icmp_type, code, rest, quoted);
    Some(back(frame, mac, &ip(ends, ends.icmp(), TTL, &message)))
}

/// A frame back to the sender of `frame`, with its tag.
fn back(frame: &EthernetFrame<'_>, mac: MacAddr, packet: &[u8]) -> Vec<u8> {
    ethernet(frame.src(), mac, frame.vlan(), frame.ethertype(), packet)
}

/// The packet in `frame` if it is IP, well-formed, from one host and to one station.
fn answerable<'a>(frame: &EthernetFrame<'a>) -> Option<IpView<'a>> {
    if frame.dst().is_multicast() || !frame.src().is_unicast() {
        return None;
    }
    let packet = IpView::new_checked(frame.payload()).ok()?;
    if frame.ethertype() != packet.addresses().ethertype() {
        return None;
    }
    let (src, dst) = (packet.src(), packet.dst());
    let everybody = |address| matches!(address, IpAddr::V4(a) if a.is_broadcast());
    let sender = !(src.is_unspecified() || everybody(src) || src.is_multicast() || src.is_loopback());
    (sender && packet.checksum_ok() && !dst.is_multicast() && !everybody(dst)).then_some(packet)
}

/// A multicast that asks who has `who`; `ip` at `mac` asks. With `::` as `ip` it asks whether somebody else has it (RFC
/// 4862).
#[must_use]
pub fn neighbor_solicitation(mac: MacAddr, ip: Ipv6Addr, who: Ipv6Addr) -> Vec<u8> {
    let group = icmpv6::solicited_node(who);
    let ends = Addresses::V6 { src: ip, dst: group };
    let mut body = who.octets().to_vec();
    if !ip.is_unspecified() {
        body.extend(mac_option(icmpv6::option::SOURCE_MAC, mac));
    }
    let message = ends.icmp_message(icmpv6::NEIGHBOR_SOLICITATION, 0, [0; 4], &body);
    let packet = self::ip(ends, ip_protocol::ICMPV6, icmpv6::ON_LINK_HOPS, &message);
    ethernet(icmpv6::group_mac(group), mac, None, ethertype::IPV6, &packet)
}

/// Says to `to`, or to all if it has no address yet, that `ip` is at `mac`. `router`: whether that is a router.
#[must_use]
pub fn neighbor_advertisement(mac: MacAddr, ip: Ipv6Addr, to: (MacAddr, Ipv6Addr), router: bool) -> Vec<u8> {
    let asked = !to.1.is_unspecified();
    let (to_mac, dst) = match asked {
        true => to,
        false => (icmpv6::group_mac(ALL_NODES), ALL_NODES),
    };
    let flags = u8::from(router) << 7 | u8::from(asked) << 6 | 1 << 5;
    let ends = Addresses::V6 { src: ip, dst };
    let body = [&ip.octets()[..], &mac_option(icmpv6::option::TARGET_MAC, mac)].concat();
    let message = ends.icmp_message(icmpv6::NEIGHBOR_ADVERTISEMENT, 0, [flags, 0, 0, 0], &body);
    let packet = self::ip(ends, ip_protocol::ICMPV6, icmpv6::ON_LINK_HOPS, &message);
    ethernet(to_mac, mac, None, ethertype::IPV6, &packet)
}

/// The question who has `who`, in the way of its family; `None` if `ip` is of another.
#[must_use]
pub fn who_has(mac: MacAddr, ip: IpAddr, who: IpAddr) -> Option<Vec<u8>> {
    match (ip, who) {
        (IpAddr::V4(ip), IpAddr::V4(who)) => Some(arp_request(mac, ip, who)),
        (IpAddr::V6(ip), IpAddr::V6(who)) => Some(neighbor_solicitation(mac, ip, who)),
        _ => None,
    }
}

/// A question or an answer of ARP or neighbour discovery: who has an address, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbors {
    /// Whether it asks.
    pub asks: bool,
    /// The address that is asked for, or that the answer is for.
    pub target: IpAddr,
    /// What it tells: an address and its MAC.
    pub tells: Option<(IpAddr, MacAddr)>,
    /// The one who asks; `::` or 0.0.0.0 if it has no address yet.
    pub sender: IpAddr,
}

impl Neighbors {
    /// Reads a frame; `None` if it is neither ARP nor neighbour discovery.
    #[must_use]
    pub fn read(frame: &EthernetFrame<'_>) -> Option<Self> {
        if frame.ethertype() == ethertype::ARP {
            let arp = arp::parse(frame.payload()).ok()?;
            let (sender, mac) =
                (IpAddr::from(arp.get_sender_proto_addr()), MacAddr::from(arp.get_sender_hw_addr()));
            return Some(Self {
                asks: arp.get_operation().0 == arp::REQUEST,
                target: arp.get_target_proto_addr().into(),
                tells: (mac.is_unicast() && !sender.is_unspecified()).then_some((sender, mac)),
                sender,
            });
        }
        if frame.ethertype() != ethertype::IPV6 {
            return None;
        }
        let packet = IpView::new_checked(frame.payload()).ok()?;
        let found = icmpv6::Discovery::read(&packet)?;
        let told = if found.asks { found.sender } else { found.target };
        // An answer to one station needs no option: it comes from where the target is.
        let mac = found.mac.or((!found.asks).then_some(frame.src()));
        let tells =
            mac.filter(|mac| mac.is_unicast() && !told.is_unspecified()).map(|mac| (told.into(), mac));
        let target = if found.asks { found.target.into() } else { packet.dst() };
        Some(Self { asks: found.asks, target, tells, sender: found.sender.into() })
    }

    /// The answer to a question in `frame`, whichever address it asks for: that address is at `mac`. The caller decides
    /// whether to answer for it ([`Self::target`]). `router`: whether that is a router.
    #[must_use]
    pub fn answer(&self, frame: &EthernetFrame<'_>, mac: MacAddr, router: bool) -> Option<Vec<u8>> {
        match (self.target, self.sender) {
            (IpAddr::V4(_), _) => arp_reply_to(frame, mac),
            (IpAddr::V6(ip), IpAddr::V6(asker)) if self.asks && frame.src().is_unicast() => {
                Some(neighbor_advertisement(mac, ip, (frame.src(), asker), router))
            }
            _ => None,
        }
    }
}

fn mac_option(kind: u8, mac: MacAddr) -> Vec<u8> {
    [&[kind, 1][..], &mac.octets()].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Ipv4View;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
    const GATEWAY_IP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
    const HOST_IP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 9);
    const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    fn frame(bytes: &[u8]) -> EthernetFrame<'_> {
        EthernetFrame::new_checked(bytes).unwrap()
    }

    #[test]
    fn arp_request_bytes() {
        // As tcpdump -xx shows one of Linux's.
        let known = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0,
            0, 9, 10, 1, 0, 9, 0, 0, 0, 0, 0, 0, 10, 1, 0, 1,
        ];
        assert_eq!(arp_request(HOST, HOST_IP, GATEWAY_IP), known);
    }

    #[test]
    fn an_arp_request_is_answered_with_its_tag() {
        let tag = VlanTag { tpid: 0x8100, pcp: 3, dei: true, vid: 77 };
        let plain = arp_request(HOST, HOST_IP, GATEWAY_IP);
        let tagged = ethernet(MacAddr::BROADCAST, HOST, Some(tag), ethertype::ARP, &plain[14..]);
        let reply = arp_reply_to(&frame(&tagged), GATEWAY).unwrap();
        let reply = frame(&reply);
        assert_eq!((reply.dst(), reply.src(), reply.vlan()), (HOST, GATEWAY, Some(tag)));
        let packet = arp::parse(reply.payload()).unwrap();
        assert_eq!((packet.get_operation().0, packet.get_sender_proto_addr()), (arp::REPLY, GATEWAY_IP));
        assert_eq!(MacAddr::from(packet.get_sender_hw_addr()), GATEWAY);
        assert_eq!(MacAddr::from(packet.get_target_hw_addr()), HOST);
        assert_eq!(packet.get_target_proto_addr(), HOST_IP);
        // A reply is not answered.
        assert_eq!(arp_reply_to(&reply, GATEWAY), None);
    }

    #[test]
    fn a_ping_is_answered() {
        let ping = icmp_echo_request((HOST, HOST_IP), (GATEWAY, GATEWAY_IP), 7, 8, b"odd");
        let pong = icmp_echo_reply_to(&frame(&ping), GATEWAY).unwrap();
        let seen = SlicedPacket::from_ethernet(&pong).unwrap();
        let Some(NetSlice::Ipv4(ip)) = seen.net else { panic!("no IPv4") };
        assert_eq!((ip.header().source_addr(), ip.header().destination_addr()), (GATEWAY_IP, HOST_IP));
        let Some(TransportSlice::Icmpv4(icmp)) = seen.transport else { panic!("no ICMP") };
        assert_eq!(icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload()));
        assert_eq!((icmp.type_u8(), icmp.bytes5to8(), icmp.payload()), (0, [0, 7, 0, 8], &b"odd"[..]));
        assert_eq!(icmp_echo_reply_to(&frame(&pong), GATEWAY), None);
    }

    #[test]
    fn errors_quote_the_packet_and_are_not_answered_with_errors() {
        let big = icmp_echo_request((HOST, HOST_IP), (GATEWAY, FAR), 7, 8, &[0x5a; 1400]);
        let error = icmp_error_to(&frame(&big), GATEWAY, GATEWAY_IP.into(), IcmpError::TooBig(1400)).unwrap();
        let packet = Ipv4View::new_checked(frame(&error).payload()).unwrap();
        assert_eq!((packet.src(), packet.dst(), packet.bytes().len()), (GATEWAY_IP, HOST_IP, MAX_ERROR_LEN));
        let icmp = IcmpView::new_checked(packet.payload()).unwrap();
        assert!(icmp.checksum_ok() && packet.checksum_ok());
        assert_eq!(icmp.seq(), 1400);
        assert_eq!(icmp.payload(), &big[14..14 + MAX_ERROR_LEN - 28]);
        assert_eq!(icmp_error_to(&frame(&error), HOST, HOST_IP.into(), IcmpError::TimeExceeded), None);
    }

    #[test]
    fn nothing_is_said_to_nobody_or_about_groups() {
        let to = |mac, ip| icmp_echo_request((HOST, HOST_IP), (mac, ip), 1, 1, &[]);
        let from = |mac, ip| icmp_echo_request((mac, ip), (GATEWAY, FAR), 1, 1, &[]);
        for unanswered in [
            to(MacAddr::BROADCAST, FAR),
            to(GATEWAY, Ipv4Addr::BROADCAST),
            to(GATEWAY, Ipv4Addr::new(224, 0, 0, 1)),
            from(MacAddr::ZERO, HOST_IP),
            from(HOST, Ipv4Addr::UNSPECIFIED),
            from(HOST, Ipv4Addr::LOCALHOST),
        ] {
            let error = IcmpError::HostUnreachable;
            assert_eq!(icmp_error_to(&frame(&unanswered), GATEWAY, GATEWAY_IP.into(), error), None);
            assert_eq!(icmp_echo_reply_to(&frame(&unanswered), GATEWAY), None);
        }
    }

    const GATEWAY_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const HOST_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0x12, 0x3456);

    #[test]
    fn a_solicitation_is_answered_and_both_tell_where_their_senders_are() {
        let ask = neighbor_solicitation(HOST, HOST_IP6, GATEWAY_IP6);
        assert_eq!(ask[..6], [0x33, 0x33, 0xff, 0, 0, 1]);
        let asked = Neighbors::read(&frame(&ask)).unwrap();
        assert_eq!((asked.asks, asked.target), (true, IpAddr::V6(GATEWAY_IP6)));
        assert_eq!(asked.tells, Some((HOST_IP6.into(), HOST)));
        let answer = asked.answer(&frame(&ask), GATEWAY, true).unwrap();
        let told = Neighbors::read(&frame(&answer)).unwrap();
        assert_eq!((told.asks, told.target), (false, IpAddr::V6(HOST_IP6)));
        assert_eq!(told.tells, Some((GATEWAY_IP6.into(), GATEWAY)));
        assert_eq!(told.answer(&frame(&answer), HOST, false), None, "an answer is not answered");

        // Somebody who checks whether its address is taken has none yet: all are told.
        let check = neighbor_solicitation(HOST, Ipv6Addr::UNSPECIFIED, HOST_IP6);
        let asked = Neighbors::read(&frame(&check)).unwrap();
        assert_eq!(asked.tells, None);
        let answer = asked.answer(&frame(&check), GATEWAY, false).unwrap();
        assert_eq!(answer[..6], [0x33, 0x33, 0, 0, 0, 1]);
        // From beyond the link (RFC 4861 section 6.1.1), or with a wrong checksum, nothing is taken.
        let mut far = ask.clone();
        far[14 + 7] = 64;
        assert_eq!(Neighbors::read(&frame(&far)), None);
        let mut wrong = ask;
        wrong[14 + 42] ^= 1;
        assert_eq!(Neighbors::read(&frame(&wrong)), None);
    }

    #[test]
    fn pings_and_errors_of_ipv6_are_as_another_library_reads_them() {
        let ends = Addresses::V6 { src: HOST_IP6, dst: GATEWAY_IP6 };
        let ping = ip(ends, ip_protocol::ICMPV6, 64, &ends.echo_request(7, 8, &[0x5a; 1400]));
        let ping = ethernet(GATEWAY, HOST, None, ethertype::IPV6, &ping);
        let pong = icmp_echo_reply_to(&frame(&ping), GATEWAY).unwrap();
        let error =
            icmp_error_to(&frame(&ping), GATEWAY, GATEWAY_IP6.into(), IcmpError::TooBig(1400)).unwrap();
        for (bytes, icmp_type, rest) in [(&pong, 129, [0, 7, 0, 8]), (&error, 2, [0, 0, 5, 120])] {
            let seen = SlicedPacket::from_ethernet(bytes).unwrap();
            let Some(NetSlice::Ipv6(ip)) = seen.net else { panic!("no IPv6") };
            let (src, dst) = (ip.header().source(), ip.header().destination());
            assert_eq!((src, dst), (GATEWAY_IP6.octets(), HOST_IP6.octets()));
            let Some(TransportSlice::Icmpv6(icmp)) = seen.transport else { panic!("no ICMPv6") };
            assert!(icmp.is_checksum_valid(src, dst));
            assert_eq!((icmp.type_u8(), icmp.bytes5to8()), (icmp_type, rest));
        }
        assert_eq!(error.len(), 14 + MAX_ERROR_LEN_V6);
        assert_eq!(icmp_error_to(&frame(&error), HOST, HOST_IP6.into(), IcmpError::TimeExceeded), None);
        assert_eq!(icmp_error_to(&frame(&ping), HOST, HOST_IP.into(), IcmpError::TimeExceeded), None);
    }
}
