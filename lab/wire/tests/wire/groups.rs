//! Router advertisements, and MLD snooping.

use std::net::Ipv6Addr;

use crate::common::*;
use labctl_model::lab::{Advertised, Segment};
use labctl_wire::DropReason;
use vxlan::{
    EthernetFrame, IpView, MacAddr,
    checksum::Addresses,
    proto::{ethertype, icmpv6, ip_protocol, ipv6},
    reply,
};

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// A message of ICMPv6 to a group, behind a router alert if it has one hop.
fn to_group(mac: MacAddr, src: &str, group: &str, hops: u8, message: (u8, &[u8])) -> Vec<u8> {
    let ends = Addresses::V6 { src: v6(src), dst: v6(group) };
    let (kind, rest) = message;
    let (first, body) = rest.split_at(4);
    let message = ends.icmp_message(kind, 0, first.try_into().unwrap(), body);
    let packet = match hops {
        1 => {
            let payload = [&[ip_protocol::ICMPV6, 0, 5, 2, 0, 0, 1, 0][..], &message].concat();
            reply::ip(ends, ipv6::HOP_BY_HOP, hops, &payload)
        }
        _ => reply::ip(ends, ip_protocol::ICMPV6, hops, &message),
    };
    reply::ethernet(icmpv6::group_mac(v6(group)), mac, None, ethertype::IPV6, &packet)
}

/// A report of MLDv2 with one record of a kind, without sources.
fn report(mac: MacAddr, kind: u8, group: &str) -> Vec<u8> {
    let record = [&[0, 0, 0, 1, kind, 0, 0, 0][..], &v6(group).octets()].concat();
    to_group(mac, "fe80::b", "ff02::16", 1, (143, &record))
}

/// A datagram to a group.
fn datagram(mac: MacAddr, group: &str, mark: u8) -> Vec<u8> {
    let ends = Addresses::V6 { src: v6("fd00:56::3"), dst: v6(group) };
    let packet = reply::ip(ends, 99, 8, &[mark; 24]);
    reply::ethernet(icmpv6::group_mac(v6(group)), mac, None, ethertype::IPV6, &packet)
}

/// The next frame of the gateway's, of this type of ICMPv6: its source, its MAC, and the message.
fn from_gateway(client: &mut Client, kind: u8) -> (Ipv6Addr, MacAddr, Vec<u8>) {
    loop {
        let frame = client.recv();
        let frame = EthernetFrame::new_checked(&frame).unwrap();
        let packet = IpView::new_checked(frame.payload()).unwrap();
        let message = packet.payload();
        assert!(packet.is_icmp() && packet.addresses().icmp_checksum_ok(message));
        if message[0] == kind {
            let std::net::IpAddr::V6(src) = packet.src() else { panic!("no IPv6") };
            return (src, frame.src(), message.to_vec());
        }
    }
}

#[test]
fn a_router_is_advertised_to_who_solicits_it() {
    let lan = Segment { ra: Some(Advertised::default()), ..routed("192.168.56.0/24 fd00:56::/64") };
    let narrow = Segment { ra: Some(Advertised::default()), ..routed("fd00:57::/80") };
    let lab = Lab::new(&segments([("lan", lan), ("narrow", narrow)]), &[("a", "lan", A), ("b", "narrow", B)]);
    let (mut a, mut b) = (lab.connect("a"), lab.connect("b"));
    // From an address on the link, and from who has none yet, and is answered with all others.
    a.send(&to_group(A, "fe80::a", "ff02::2", 255, (133, &[0; 4])));
    let (router, mac, message) = from_gateway(&mut a, 134);
    assert!(router.is_unicast_link_local());
    // Hop limit 64, no flags, 1800 s; then its MAC, and the prefix on link, for addresses of one's own.
    assert_eq!(message[4..8], [64, 0, 7, 8]);
    assert_eq!((&message[16..18], &message[18..24]), (&[1, 1][..], &mac.octets()[..]));
    assert_eq!(message[24..28], [3, 4, 64, 0xc0]);
    assert_eq!(message[40..56], v6("fd00:56::").octets());
    assert_eq!(message.len(), 56, "no RDNSS: the stand-in answers no DNS");
    b.send(&to_group(B, "fe80::b", "ff02::2", 255, (133, &[0; 4])));
    assert_eq!(from_gateway(&mut b, 134).2[24..28], [3, 4, 80, 0x80], "nobody makes addresses in a /80");

    // It answers for that address as for its others, and to link-local ones.
    a.send(&reply::neighbor_solicitation(A, v6("fe80::a"), router));
    assert_eq!(from_gateway(&mut a, 136).0, router);
    let ends = Addresses::V6 { src: v6("fe80::a"), dst: router };
    let ping = reply::ip(ends, ip_protocol::ICMPV6, 64, &ends.echo_request(1, 1, b"x"));
    a.send(&reply::ethernet(mac, A, None, ethertype::IPV6, &ping));
    assert_eq!(from_gateway(&mut a, 129).0, router);

    // Who asks from beyond the link is not answered.
    a.send(&to_group(A, "fe80::a", "ff02::2", 64, (133, &[0; 4])));
    a.send(&reply::neighbor_solicitation(A, v6("fe80::a"), router));
    loop {
        let frame = a.recv();
        let frame = EthernetFrame::new_checked(&frame).unwrap();
        match IpView::new_checked(frame.payload()).unwrap().payload()[0] {
            136 => break,
            // Unasked ones go to all.
            134 => assert!(frame.dst().is_multicast(), "answered"),
            _ => {}
        }
    }
}

#[test]
fn without_ra_nobody_is_told_of_a_router() {
    let lab = Lab::new(&segments([("lan", routed("fd00:56::/64"))]), &[("a", "lan", A)]);
    let mut a = lab.connect("a");
    a.send(&to_group(A, "fe80::a", "ff02::2", 255, (133, &[0; 4])));
    a.send(&reply::neighbor_solicitation(A, v6("fe80::a"), v6("fd00:56::1")));
    let frame = a.recv();
    assert_eq!(frame[14 + 40], 136, "the next frame is the answer to the next question");
}

#[test]
fn frames_to_a_group_go_to_who_listens() {
    let lan = Segment { mld: true, ..segment("fd00:56::/64") };
    let (lab, mut a, mut b, mut c) = Lab::three(lan);
    const WIDE: &str = "ff05::99";
    // A wide group that nobody listens to goes nowhere; one of the link goes to all.
    a.send(&datagram(A, WIDE, 1));
    until(|| lab.drops("a", DropReason::NoListener) == 1);
    a.send(&datagram(A, "ff02::99", 2));
    assert_eq!(b.recv(), datagram(A, "ff02::99", 2));
    assert_eq!(c.recv(), datagram(A, "ff02::99", 2));

    // From its report on, b alone gets the group; the report itself goes only to routers.
    b.send(&report(B, 4, WIDE));
    until(|| lab.drops("b", DropReason::NoListener) == 1);
    a.send(&datagram(A, WIDE, 3));
    a.send(&datagram(A, "ff02::1", 4));
    assert_eq!(b.recv(), datagram(A, WIDE, 3));
    assert_eq!(b.recv(), datagram(A, "ff02::1", 4));
    assert_eq!(c.recv(), datagram(A, "ff02::1", 4));

    // To include no source is to leave. Nobody asks who else listens.
    b.send(&report(B, 3, WIDE));
    until(|| lab.drops("b", DropReason::NoListener) == 2);
    a.send(&datagram(A, WIDE, 5));
    until(|| lab.drops("a", DropReason::NoListener) == 2);
    // Nor is a report believed that is wrong.
    let mut wrong = report(B, 4, WIDE);
    *wrong.last_mut().unwrap() ^= 1;
    b.send(&wrong);
    assert_eq!((a.recv(), c.recv()), (wrong.clone(), wrong));
    a.send(&datagram(A, WIDE, 6));
    until(|| lab.drops("a", DropReason::NoListener) == 3);

    // A querier is a router: it gets every group, and the reports.
    b.send(&report(B, 4, WIDE));
    until(|| lab.drops("b", DropReason::NoListener) == 3);
    let query = to_group(C, "fe80::c", "ff02::1", 1, (130, &[0; 24]));
    c.send(&query);
    assert_eq!((a.recv(), b.recv()), (query.clone(), query));
    a.send(&datagram(A, WIDE, 7));
    assert_eq!(b.recv(), datagram(A, WIDE, 7));
    assert_eq!(c.recv(), datagram(A, WIDE, 7));
    // It hears who leaves, and has time to ask who else is there.
    b.send(&report(B, 3, WIDE));
    assert_eq!(c.recv(), report(B, 3, WIDE));
    a.send(&datagram(A, WIDE, 8));
    assert_eq!(b.recv(), datagram(A, WIDE, 8));
    assert_eq!(c.recv(), datagram(A, WIDE, 8));
}

#[test]
fn what_is_too_large_for_the_path_behind_the_gateway_comes_back() {
    let lan = Segment { path_mtu: Some(1300), ..routed("192.168.56.0/24 fd00:56::/64") };
    let lab = Lab::new(&segments([("lan", lan)]), &[("a", "lan", A)]);
    let mut a = lab.connect("a");
    a.send(&reply::neighbor_solicitation(A, v6("fd00:56::3"), v6("fd00:56::1")));
    let (_, mac, _) = from_gateway(&mut a, 136);
    a.send(&reply::arp_request(A, ip("192.168.56.3"), ip("192.168.56.1")));
    a.recv();
    let mut ask = |ends: Addresses, size: usize, fragments: bool| {
        let header = if matches!(ends, Addresses::V4 { .. }) { 20 } else { 40 };
        let mut packet =
            reply::ip(ends, ends.icmp(), 64, &ends.echo_request(1, 1, &vec![7; size - header - 8]));
        if fragments {
            // Without DF, with a checksum that fits.
            packet[6] = 0;
            packet[10..12].fill(0);
            let sum = vxlan::checksum::of(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        a.send(&reply::ethernet(mac, A, None, ends.ethertype(), &packet));
        let frame = a.recv();
        let frame = EthernetFrame::new_checked(&frame).unwrap();
        let answer = IpView::new_checked(frame.payload()).unwrap();
        (answer.src().to_string(), answer.payload()[..8].to_vec())
    };
    let far6 = Addresses::V6 { src: v6("fd00:56::3"), dst: v6("2001:db8::1") };
    let far4 = Addresses::V4 { src: ip("192.168.56.3"), dst: ip("192.0.2.1") };
    assert_eq!(ask(far6, 1300, false).1[0], 129);
    let (from, error) = ask(far6, 1301, false);
    assert_eq!(
        (from.as_str(), &error[..2], &error[4..8]),
        ("fd00:56::1", &[2, 0][..], &1300u32.to_be_bytes()[..])
    );
    assert_eq!(ask(far4, 1300, false).1[0], 0);
    let (from, error) = ask(far4, 1301, false);
    assert_eq!(
        (from.as_str(), &error[..2], &error[6..8]),
        ("192.168.56.1", &[3, 4][..], &1300u16.to_be_bytes()[..])
    );
    assert_eq!(ask(far4, 1301, true).1[0], 0, "what may be fragmented passes");
    // The gateway itself is this side of it.
    assert_eq!(ask(Addresses::V6 { src: v6("fd00:56::3"), dst: v6("fd00:56::1") }, 1500, false).1[0], 129);
}
