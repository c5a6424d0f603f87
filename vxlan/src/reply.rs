//! The frames that a gateway, or a stand-in for one, sends and answers with.
//!
//! The `…_to` functions answer a frame. They return `None` if the frame is not one to answer that way, so a caller can
//! try each in turn. The answer has the question's VLAN tag.

use std::net::Ipv4Addr;

use crate::proto::{arp, ethertype, icmp, ip_protocol, ipv4};
use crate::{Arp, Dot1q, Ether, EthernetFrame, IcmpView, Ipv4, Ipv4View, MacAddr, Payload, Stack, VlanTag};

/// Most bytes of an ICMP error's packet, quoted bytes included (RFC 1812, section 4.3.2.3).
const MAX_ERROR_LEN: usize = 576;
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
/// answer for it ([`Ipv4View::dst`]). Fragments are not answered.
#[must_use]
pub fn icmp_echo_reply_to(frame: &EthernetFrame<'_>, mac: MacAddr) -> Option<Vec<u8>> {
    let ask = answerable(frame)?;
    if ask.is_fragment() || ask.protocol() != ip_protocol::ICMP {
        return None;
    }
    let ping = IcmpView::new_checked(ask.payload()).ok()?;
    if ping.icmp_type() != icmp::ECHO_REQUEST || !ping.checksum_ok() {
        return None;
    }
    let pong = icmp::echo_reply(ping.id(), ping.seq(), ping.payload());
    let packet = ipv4(ask.dst(), ask.src(), ip_protocol::ICMP, TTL, &pong);
    Some(ethernet(frame.src(), mac, frame.vlan(), ethertype::IPV4, &packet))
}

/// The kind of an ICMP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// Destination unreachable, with one of [`icmp::unreachable`]'s codes.
    Unreachable(u8),
    /// Too big, and must not be fragmented; the next hop's MTU in bytes.
    FragmentationNeeded(u16),
    /// Out of hops.
    TimeExceeded,
}

/// The error that a router at `mac` and `ip` sends about a frame.
///
/// `None` if no error may be sent about the frame (RFC 1122, section 3.2.2): errors, groups and broadcasts, later
/// fragments, senders that are no single host.
#[must_use]
pub fn icmp_error_to(
    frame: &EthernetFrame<'_>,
    mac: MacAddr,
    ip: Ipv4Addr,
    error: IcmpError,
) -> Option<Vec<u8>> {
    let about = answerable(frame)?;
    if about.fragment_offset() != 0 {
        return None;
    }
    if about.protocol() == ip_protocol::ICMP && about.payload().first().is_none_or(|t| icmp::is_error(*t)) {
        return None;
    }
    let (icmp_type, code, mtu) = match error {
        IcmpError::Unreachable(code) => (icmp::UNREACHABLE, code, 0),
        IcmpError::FragmentationNeeded(mtu) => {
            (icmp::UNREACHABLE, icmp::unreachable::FRAGMENTATION_NEEDED, mtu)
        }
        IcmpError::TimeExceeded => (icmp::TIME_EXCEEDED, 0, 0),
    };
    let quoted = about.bytes();
    let quoted = &quoted[..quoted.len().min(MAX_ERROR_LEN - ipv4::HEADER_LEN - icmp::HEADER_LEN)];
    let [high, low] = mtu.to_be_bytes();
    let message = icmp::message(icmp_type, code, [0, 0, high, low], quoted);
    let packet = ipv4(ip, about.src(), ip_protocol::ICMP, TTL, &message);
    Some(ethernet(frame.src(), mac, frame.vlan(), ethertype::IPV4, &packet))
}

/// The packet in `frame` if it is IPv4, well-formed, from one host and to one station.
fn answerable<'a>(frame: &EthernetFrame<'a>) -> Option<Ipv4View<'a>> {
    if frame.ethertype() != ethertype::IPV4 || frame.dst().is_multicast() || !frame.src().is_unicast() {
        return None;
    }
    let packet = Ipv4View::new_checked(frame.payload()).ok()?;
    let (src, dst) = (packet.src(), packet.dst());
    let sender = !(src.is_unspecified() || src.is_broadcast() || src.is_multicast() || src.is_loopback());
    (sender && packet.checksum_ok() && !dst.is_multicast() && !dst.is_broadcast()).then_some(packet)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
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
        let error =
            icmp_error_to(&frame(&big), GATEWAY, GATEWAY_IP, IcmpError::FragmentationNeeded(1400)).unwrap();
        let packet = Ipv4View::new_checked(frame(&error).payload()).unwrap();
        assert_eq!((packet.src(), packet.dst(), packet.bytes().len()), (GATEWAY_IP, HOST_IP, MAX_ERROR_LEN));
        let icmp = IcmpView::new_checked(packet.payload()).unwrap();
        assert!(icmp.checksum_ok() && packet.checksum_ok());
        assert_eq!(icmp.seq(), 1400);
        assert_eq!(icmp.payload(), &big[14..14 + MAX_ERROR_LEN - 28]);
        assert_eq!(icmp_error_to(&frame(&error), HOST, HOST_IP, IcmpError::TimeExceeded), None);
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
            let error = IcmpError::Unreachable(icmp::unreachable::HOST);
            assert_eq!(icmp_error_to(&frame(&unanswered), GATEWAY, GATEWAY_IP, error), None);
            assert_eq!(icmp_echo_reply_to(&frame(&unanswered), GATEWAY), None);
        }
    }

    #[test]
    fn a_hop_is_taken_off() {
        let mut packet = ipv4(HOST_IP, FAR, 17, 3, b"data");
        assert_eq!(ipv4::decrement_ttl(&mut packet), Ok(Some(2)));
        assert!(Ipv4View::new_checked(&packet).unwrap().checksum_ok());
        assert_eq!(ipv4::decrement_ttl(&mut packet), Ok(Some(1)));
        let before = packet.clone();
        assert_eq!(ipv4::decrement_ttl(&mut packet), Ok(None));
        assert_eq!(packet, before);
        assert!(ipv4::decrement_ttl(&mut [0x45; 10]).is_err());
    }
}
