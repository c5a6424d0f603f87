//! Known answers: bytes from RFCs, and bytes that Linux put on a wire.

use vxlan::{Decode, EthernetFrame, Ipv4View, Kind, Stack, UdpView, describe, describe_as, proto};

/// Bytes of hex digits, spaces aside.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// What each frame is said to be, and the frame.
fn linux() -> Vec<(&'static str, Vec<u8>)> {
    let lines: Vec<_> = include_str!("linux.hex").lines().collect();
    let pairs = lines.windows(2).filter(|pair| pair[0].starts_with('#') && !pair[1].starts_with('#'));
    pairs.map(|pair| (&pair[0][2..], hex(pair[1]))).collect()
}

fn frame(name: &str) -> Vec<u8> {
    linux().into_iter().find(|(known, _)| *known == name).map(|(_, bytes)| bytes).unwrap()
}

/// The port of the capture's group policy device besides the usual.
fn decode() -> Decode {
    Decode { vxlan_ports: vec![4789, 4799], ..Decode::default() }
}

/// Built alone from text: not a byte is different.
fn same(text: &str, bytes: &[u8]) {
    let stack: Stack = text.parse().unwrap();
    assert_eq!(stack.build().unwrap(), bytes, "{text}");
    assert_eq!(Stack::parse_as(bytes, &decode()).unwrap().build().unwrap(), bytes);
}

#[test]
fn frames_of_linux_are_right_and_build_the_same_again() {
    let frames = linux();
    assert_eq!(frames.len(), 16);
    for (name, bytes) in frames {
        let stack = Stack::parse_as(&bytes, &decode()).unwrap();
        assert_eq!(stack.build().unwrap(), bytes, "{name}");
        for layer in &stack.layers {
            assert!(layer.wrong().is_empty(), "{name}: {layer}");
        }
        assert_eq!(stack.to_string().parse::<Stack>().unwrap(), stack, "{name}");
        // Only the kind that says which port it is to needs to be told.
        assert_eq!(describe(&bytes) == describe_as(&bytes, &decode()), !name.contains("4799"), "{name}");
    }
}

#[test]
fn frames_of_linux_from_text() {
    let request = "eth(src=02:00:00:00:00:01)/arp(who=10.0.0.2,tell=10.0.0.1)";
    same(request, &frame("ARP request"));
    same(
        "eth(dst=02:00:00:00:00:01,src=02:00:00:00:00:02)
         /arp(op=reply,who=10.0.0.1,tmac=02:00:00:00:00:01,tell=10.0.0.2)",
        &frame("ARP reply"),
    );
    let outer = "eth(dst=02:00:00:00:00:02,src=02:00:00:00:00:01)";
    same(
        &format!(
            "{outer}/ip(src=10.0.0.1,dst=10.0.0.2,id=0xea40)/udp(sport=56990)/vxlan(vni=4097)
             /eth(src=02:42:0a:03:01:01)/arp(who=10.3.1.3,tell=10.3.1.1)"
        ),
        &frame("VXLAN, inner ARP request"),
    );
}

#[test]
fn views_of_a_vxlan_frame_of_linux() {
    let bytes = frame("VXLAN, inner ping");
    let outer = EthernetFrame::new_checked(&bytes).unwrap();
    let ip = Ipv4View::new_checked(outer.payload()).unwrap();
    assert!(ip.checksum_ok());
    let udp = UdpView::new_checked(ip.payload()).unwrap();
    assert!(udp.checksum_ok(ip.addresses()) && udp.checksum() != 0);
    assert_eq!(udp.dst_port(), 4789);
    let header = proto::vxlan::parse(udp.payload()).unwrap();
    assert!(proto::vxlan::is_strict(&header));
    assert_eq!(header.get_vni(), 4097);
    let inner = EthernetFrame::new_checked(&udp.payload()[proto::vxlan::HEADER_LEN..]).unwrap();
    assert_eq!(inner.src().to_string(), "02:42:0a:03:01:01");
}

#[test]
fn lines_for_frames_of_linux() {
    let line = |name| describe_as(&frame(name), &decode());
    let there = "02:00:00:00:00:01 > 02:00:00:00:00:02, ";
    let back = "02:00:00:00:00:02 > 02:00:00:00:00:01, ";
    assert_eq!(line("ARP reply"), format!("{back}ARP 10.0.0.2 is-at 02:00:00:00:00:02"));
    assert_eq!(
        line("VXLAN, inner SYN"),
        format!(
            "{there}IP 10.0.0.1.47486 > 10.0.0.2.4789, UDP, VXLAN vni 4097: 02:42:0a:03:01:01 > 02:42:0a:03:01:03, \
             IP 10.3.1.1.40001 > 10.3.1.3.81, TCP [S] seq 3675011218 ack 0 win 64860 length 0"
        )
    );
    assert_eq!(
        line("VXLAN without UDP checksum, inner pong"),
        format!(
            "{back}IP 10.0.0.2.59567 > 10.0.0.1.4789, UDP no sum, VXLAN vni 4097: \
             02:42:0a:03:01:03 > 02:42:0a:03:01:01, IP 10.3.1.3 > 10.3.1.1, ICMP echo-reply id 7 seq 1 length 8"
        )
    );
    assert!(line("VXLAN, inner port unreachable").ends_with(
        "IP 10.3.1.3 > 10.3.1.1, ICMP unreachable code 3 about 10.3.1.1.40000 > 10.3.1.3.9 proto 17"
    ));
    assert!(
        line("VXLAN with group policy 0x1234 to port 4799, inner ping")
            .contains("VXLAN vni 77 policy 4660: ")
    );
    assert_eq!(
        line("last fragment of a datagram of 3000 bytes"),
        format!("{there}IP 10.0.0.1 > 10.0.0.2 fragment id 60073 at 2960 proto 0x11, 48 bytes")
    );
}

/// The header of RFC 7348, section 5, VNI 0x123456.
#[test]
fn vxlan_header() {
    let stack: Stack = "vxlan(vni=0x123456)".parse().unwrap();
    assert_eq!(stack.build().unwrap(), hex("08 000000 123456 00"));
}

/// draft-smith-vxlan-group-policy, section 2.1: G and I, D and A, a policy.
#[test]
fn group_policy_header() {
    let stack: Stack = "gbp(vni=77,policy=0x1234,dontlearn,applied)".parse().unwrap();
    assert_eq!(stack.build().unwrap(), hex("88 48 1234 00004d 00"));
}

/// draft-ietf-nvo3-vxlan-gpe, section 3: I and P, and what follows.
#[test]
fn gpe_header() {
    for (above, next) in [("eth", 3), ("ip", 1), ("ip6", 2)] {
        let stack: Stack = format!("gpe(vni=5)/{above}").parse().unwrap();
        assert_eq!(stack.build().unwrap()[..8], [0x0c, 0, 0, next, 0, 0, 5, 0]);
    }
}

/// Neighbour solicitation to a group: RFC 2464, section 7 gives the frame's destination.
#[test]
fn groups_have_addresses_of_their_own() {
    let dst = |text: &str| text.parse::<Stack>().unwrap().build().unwrap()[..6].to_vec();
    assert_eq!(dst("eth/ip6(src=::1,dst=ff02::1:ff00:1)"), hex("3333 ff000001"));
    assert_eq!(dst("eth/dot1q(vid=5)/ip(dst=239.129.2.3)"), hex("01005e 010203"));
    assert_eq!(dst("eth/ip(dst=255.255.255.255)"), hex("ffffffffffff"));
    assert_eq!(dst("eth/ip(dst=10.3.1.3)"), hex("000000000000"));
    assert_eq!(dst("eth/arp(op=reply)"), hex("000000000000"));
}

/// What is in clear of an ESP packet (RFC 4303, section 2), as in an encrypted overlay.
#[test]
fn esp_header() {
    let bytes = hex(
        "45000030 00010000 40322697 0a000001 0a000002 deadbeef 00000007 000102030405060708090a0b0c0d0e0f10111213",
    );
    let read = Stack::parse_as(&bytes, &Decode { first: Kind::Ipv4, ..Decode::default() }).unwrap();
    assert_eq!(
        read.to_string(),
        "ip(src=10.0.0.1,dst=10.0.0.2,id=1,sum=0x2697)/esp(spi=0xdeadbeef,seq=7)\
         /payload(hex=000102030405060708090a0b0c0d0e0f10111213)"
    );
}

/// A short frame's padding is no part of the datagram in it, and is kept.
#[test]
fn padding() {
    let stack: Stack =
        "eth/ip(src=10.0.0.1,dst=10.0.0.2,trailer=00000000)/udp/payload(text=\"hi\")".parse().unwrap();
    let bytes = stack.build().unwrap();
    assert_eq!(bytes.len(), 14 + 20 + 8 + 2 + 4);
    assert_eq!(bytes[16..18], [0, 30]);
    let read = Stack::parse(&bytes).unwrap();
    assert_eq!(read.build().unwrap(), bytes);
    assert!(read.to_string().ends_with(r#"/udp(sport=49152,dport=9)/payload(text="hi")"#));
}
