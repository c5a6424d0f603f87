//! What a segment drops on purpose, and what a cut port does.

use std::net::Ipv6Addr;

use crate::common::*;
use labctl_model::Traffic;
use labctl_wire::{Block, CaptureSpec, DropReason, Fate, LinkState};
use vxlan::{
    MacAddr, VlanTag,
    checksum::Addresses,
    proto::{ethertype, ip_protocol},
    reply,
};

/// IPv4 from A's host to B's.
fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
    reply::ipv4(ip("10.0.0.10"), ip("10.0.0.11"), protocol, 64, payload)
}

fn framed(packet: &[u8]) -> Vec<u8> {
    reply::ethernet(B, A, None, ethertype::IPV4, packet)
}

/// A UDP datagram to a port; its payload begins with `payload`.
fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = 5555_u16.to_be_bytes().to_vec();
    datagram.extend(port.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    packet(ip_protocol::UDP, &datagram)
}

/// A TCP segment, of which only the ports matter here.
fn tcp(from: u16, to: u16) -> Vec<u8> {
    let mut segment = from.to_be_bytes().to_vec();
    segment.extend(to.to_be_bytes());
    segment.resize(20, 0);
    segment[12] = 0x50;
    packet(ip_protocol::TCP, &segment)
}

/// A piece of a datagram: its identification, where it belongs (in units of 8 bytes), and whether more follow.
fn piece(mut packet: Vec<u8>, id: u16, offset: u16, more: bool) -> Vec<u8> {
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&(offset | if more { 0x2000 } else { 0 }).to_be_bytes());
    framed(&packet)
}

fn block(filter: &str) -> Block {
    Block { filter: filter.parse().unwrap(), from: None, to: None }
}

/// A wire with this blocked on its only segment.
fn blocking(filter: &str) -> (Lab, Client, Client, Client) {
    Lab::three(labctl_model::lab::Segment { block: vec![filter.parse().unwrap()], ..segment("10.0.0.0/24") })
}

#[track_caller]
fn passes(from: &mut Client, to: &mut Client, frame: &[u8]) {
    from.send(frame);
    assert_eq!(to.recv(), frame);
}

/// Sends what must not arrive, then something else, which must arrive first.
#[track_caller]
fn stops(from: &mut Client, to: &mut Client, frame: &[u8]) {
    from.send(frame);
    let next = self::frame(A, B, frame.len() as u8);
    passes(from, to, &next);
}

#[test]
fn a_blocked_port_is_dropped_whatever_the_tags() {
    let (lab, mut a, mut b, _c) = blocking("udp/4789");
    let vxlan = udp(4789, b"\x08\0\0\0\0\x10\0\0 a frame");
    stops(&mut a, &mut b, &framed(&vxlan));
    let tag = |tpid, vid| Some(VlanTag { tpid, pcp: 0, dei: false, vid });
    let tagged = reply::ethernet(B, A, tag(ethertype::DOT1Q, 10), ethertype::IPV4, &vxlan);
    stops(&mut a, &mut b, &tagged);
    let mut inner = [0, 5, 8, 0].to_vec();
    inner.extend(&vxlan);
    let double = reply::ethernet(B, A, tag(ethertype::DOT1AD, 10), ethertype::DOT1Q, &inner);
    stops(&mut a, &mut b, &double);
    assert_eq!(lab.drops("a", DropReason::Blocked), 3);
    for other in [udp(4790, b"x"), tcp(1, 4789), packet(ip_protocol::ESP, &[0; 40]), packet(17, &[0; 3])] {
        passes(&mut a, &mut b, &framed(&other));
    }
    let arp = reply::ethernet(B, A, None, ethertype::ARP, &[0; 28]);
    passes(&mut a, &mut b, &arp);
    assert_eq!(lab.drops("a", DropReason::Blocked), 3);
}

/// Failure 2: a hypervisor that knows VXLAN takes it, and lets any other bytes of the same size and port pass.
#[test]
fn a_vxlan_block_looks_at_the_header() {
    let (_lab, mut a, mut b, _c) = blocking("vxlan");
    stops(&mut a, &mut b, &framed(&udp(4789, b"\x08\0\0\0\0\x10\0\0 a frame")));
    let others: [&[u8]; 5] = [
        b"\x37\xf1\x04\x9a\xee\x10\x73\x55 a frame",
        // No VNI flag; a reserved bit in either place; cut short.
        b"\0\0\0\0\0\x10\0\0 a frame",
        b"\x08\0\0\x01\0\x10\0\0 a frame",
        b"\x08\0\0\0\0\x10\0\x01 a frame",
        b"\x08\0\0\0",
    ];
    for random in others {
        passes(&mut a, &mut b, &framed(&udp(4789, random)));
    }
    passes(&mut a, &mut b, &framed(&udp(8472, b"\x08\0\0\0\0\x10\0\0 a frame")));
}

/// A firewall that drops what it takes for noise: the sender never learns how large a packet may be.
#[test]
fn what_says_how_large_a_packet_may_be_can_be_dropped_alone() {
    let (_lab, mut a, mut b, _c) = blocking("too-big");
    let v4 = |kind, code| framed(&packet(ip_protocol::ICMP, &[kind, code, 0, 0, 0, 0, 0, 0]));
    let v6 = |kind| {
        let ends = Addresses::V6 { src: Ipv6Addr::LOCALHOST, dst: Ipv6Addr::LOCALHOST };
        let message = ends.icmp_message(kind, 0, [0, 0, 5, 0], &[0; 40]);
        reply::ethernet(B, A, None, ethertype::IPV6, &reply::ip(ends, ip_protocol::ICMPV6, 64, &message))
    };
    stops(&mut a, &mut b, &v4(3, 4));
    stops(&mut a, &mut b, &v6(2));
    for other in [v4(3, 1), v4(8, 0), v6(1), v6(128)] {
        passes(&mut a, &mut b, &other);
    }
}

#[test]
fn the_other_pieces_of_a_blocked_datagram_are_dropped_too() {
    let (lab, mut a, mut b, _c) = blocking("udp/4789");
    let rest = packet(ip_protocol::UDP, &[7; 64]);
    stops(&mut a, &mut b, &piece(udp(4789, &[0; 40]), 9, 0, true));
    stops(&mut a, &mut b, &piece(rest.clone(), 9, 6, true));
    stops(&mut a, &mut b, &piece(rest.clone(), 9, 14, false));
    // Another datagram's, and one that comes before its first piece: nobody can tell what that is.
    passes(&mut a, &mut b, &piece(rest.clone(), 10, 6, false));
    // The same identification again, of one that may pass.
    passes(&mut a, &mut b, &piece(udp(53, &[0; 40]), 9, 0, true));
    passes(&mut a, &mut b, &piece(rest, 9, 6, false));
    assert_eq!(lab.drops("a", DropReason::Blocked), 3);
}

#[test]
fn a_protocol_is_blocked_in_all_its_pieces() {
    let (_lab, mut a, mut b, _c) = blocking("esp");
    stops(&mut a, &mut b, &framed(&packet(ip_protocol::ESP, &[0; 40])));
    stops(&mut a, &mut b, &piece(packet(ip_protocol::ESP, &[0; 40]), 3, 9, false));
    passes(&mut a, &mut b, &framed(&udp(4789, b"\x08\0\0\0\0\x10\0\0 a frame")));
}

#[test]
fn a_block_may_be_of_one_way_or_one_pair() {
    let (lab, mut a, mut b, mut c) = Lab::three(segment("10.0.0.0/24"));
    let to = |dst: MacAddr, src: MacAddr| reply::ethernet(dst, src, None, ethertype::IPV4, &udp(7946, b"x"));
    // The switch knows where everybody is.
    for client in [(&mut a, A), (&mut b, B), (&mut c, C)] {
        client.0.send(&broadcast(client.1, 1));
    }
    b.recv();
    a.recv();
    a.recv();
    b.recv();
    c.recv();
    c.recv();
    let only = |from: Option<&str>, to: Option<&str>| {
        let own = |name: Option<&str>| name.map(str::to_owned);
        Block { from: own(from), to: own(to), ..block("udp/7946") }
    };
    wait(lab.wire.block("lan", only(Some("a"), Some("b")))).unwrap();
    a.send(&to(B, A));
    passes(&mut a, &mut c, &to(C, A));
    passes(&mut c, &mut b, &to(B, C));
    passes(&mut b, &mut a, &to(A, B));
    // It is dropped where it would go out, and a flood still reaches the others.
    assert_eq!(lab.drops("b", DropReason::Blocked), 1);
    let flood = to(MacAddr::BROADCAST, A);
    passes(&mut a, &mut c, &flood);
    assert_eq!(lab.drops("b", DropReason::Blocked), 2);

    wait(lab.wire.block("lan", only(Some("a"), None))).unwrap();
    a.send(&to(C, A));
    until(|| lab.drops("a", DropReason::Blocked) == 1);
    passes(&mut b, &mut c, &to(C, B));
    // What is not said covers all; what is said must be so.
    let udp7946: Traffic = "udp/7946".parse().unwrap();
    let gone = |filter, from: Option<&str>| {
        wait(lab.wire.unblock("lan", filter, from.map(str::to_owned), None)).unwrap()
    };
    assert_eq!((gone(Some("udp/1".parse().unwrap()), None), gone(Some(udp7946), Some("b"))), (0, 0));
    assert_eq!(wait(lab.wire.stats()).unwrap().segments["lan"].blocks.len(), 2);
    assert_eq!((gone(Some(udp7946), None), gone(None, None)), (2, 0));
    passes(&mut a, &mut b, &to(B, A));
}

#[test]
fn blocks_come_and_go_and_are_told_of() {
    let (lab, mut a, mut b, _c) = Lab::three(segment("10.0.0.0/24"));
    let mut capture =
        wait(lab.wire.capture("lan", CaptureSpec { count: Some(2), ..CaptureSpec::default() })).unwrap();
    let swarm = framed(&tcp(40_000, 2377));
    passes(&mut a, &mut b, &swarm);
    wait(lab.wire.block("lan", block("tcp/2377"))).unwrap();
    wait(lab.wire.block("lan", block("tcp/2377"))).unwrap();
    assert_eq!(wait(lab.wire.stats()).unwrap().segments["lan"].blocks, [block("tcp/2377")]);
    stops(&mut a, &mut b, &swarm);
    let fates: Vec<Fate> = all(&mut capture).map(|f| f.fate).collect();
    let blocked = Fate::Dropped { at: "a".into(), reason: DropReason::Blocked };
    assert_eq!(fates[1], blocked);
    assert!(blocked.to_string().contains("blocked on the wire"), "{blocked}");
    // The answers of that port pass: only what goes to it is blocked.
    passes(&mut a, &mut b, &framed(&tcp(2377, 40_000)));
    assert_eq!(wait(lab.wire.unblock("lan", None, None, None)).unwrap(), 1);
    passes(&mut a, &mut b, &swarm);
    assert!(wait(lab.wire.block("lam", block("esp"))).is_err());
    assert!(wait(lab.wire.block("lan", Block { to: Some("z".into()), ..block("esp") })).is_err());
}

#[test]
fn a_cut_is_of_one_way_or_both_and_heals() {
    let (lab, mut a, mut b, _c) = Lab::three(segment("10.0.0.0/24"));
    wait(lab.wire.set_link("a", LinkState { from_host: true, to_host: false })).unwrap();
    passes(&mut a, &mut b, &broadcast(A, 1));
    // A frame and a command come by different ways: each must have been seen to before the next.
    let dropped = |count| until(|| lab.drops("a", DropReason::LinkDown) == count);
    b.send(&frame(B, A, 2));
    dropped(1);
    wait(lab.wire.set_link("a", LinkState { from_host: false, to_host: true })).unwrap();
    a.send(&broadcast(A, 3));
    dropped(2);
    passes(&mut b, &mut a, &frame(B, A, 4));
    wait(lab.wire.set_link("a", LinkState::DOWN)).unwrap();
    a.send(&broadcast(A, 5));
    b.send(&frame(B, A, 6));
    dropped(4);
    wait(lab.wire.set_link("a", LinkState::UP)).unwrap();
    passes(&mut b, &mut a, &frame(B, A, 7));
    passes(&mut a, &mut b, &frame(A, B, 8));
}
