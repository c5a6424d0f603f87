//! The stand-in for the gateway and the outside.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::common::*;
use labctl_model::lab::Segment;
use vxlan::{
    EthernetFrame, IcmpView, IpView, Ipv4View, MacAddr, TcpFlags, TcpView,
    checksum::Addresses,
    proto::{arp, ethertype, ip_protocol},
    reply::{self, Neighbors},
};

/// A host that knows its gateway's MAC and answers its questions.
struct Host {
    client: Client,
    mac: MacAddr,
    ip: Ipv4Addr,
    gateway: MacAddr,
}

impl Host {
    fn new(mut client: Client, mac: MacAddr, own: &str, gateway: &str) -> Self {
        let (own, gateway) = (ip(own), ip(gateway));
        client.send(&reply::arp_request(mac, own, gateway));
        let answer = client.recv();
        let answer = EthernetFrame::new_checked(&answer).unwrap();
        let arp = arp::parse(answer.payload()).unwrap();
        assert_eq!(
            (arp.get_operation().0, arp.get_sender_proto_addr(), arp.get_target_proto_addr()),
            (2, gateway, own)
        );
        assert_eq!((answer.dst(), answer.src()), (mac, MacAddr::from(arp.get_sender_hw_addr())));
        Self { client, mac, ip: own, gateway: MacAddr::from(arp.get_sender_hw_addr()) }
    }

    fn send(&mut self, dst: &str, protocol: u8, ttl: u8, payload: &[u8]) {
        let packet = reply::ipv4(self.ip, ip(dst), protocol, ttl, payload);
        self.client.send(&reply::ethernet(self.gateway, self.mac, None, ethertype::IPV4, &packet));
    }

    fn ping(&mut self, dst: &str, seq: u16) {
        self.client.send(&reply::icmp_echo_request(
            (self.mac, self.ip),
            (self.gateway, ip(dst)),
            77,
            seq,
            b"who is there",
        ));
    }

    /// The next IP packet, which must be sound and for this host: source, protocol, payload.
    fn packet(&mut self) -> (Ipv4Addr, u8, Vec<u8>) {
        let frame = self.client.recv();
        let frame = EthernetFrame::new_checked(&frame).unwrap();
        assert_eq!((frame.dst(), frame.src()), (self.mac, self.gateway));
        let packet = Ipv4View::new_checked(frame.payload()).unwrap();
        assert!(packet.checksum_ok());
        assert_eq!(packet.dst(), self.ip);
        (packet.src(), packet.protocol(), packet.payload().to_vec())
    }

    fn pong(&mut self) -> (Ipv4Addr, u16) {
        let (from, protocol, message) = self.packet();
        let pong = IcmpView::new_checked(&message).unwrap();
        assert_eq!((protocol, pong.icmp_type(), pong.id(), pong.checksum_ok()), (1, 0, 77, true));
        assert_eq!(pong.payload(), b"who is there");
        (from, pong.seq())
    }

    /// Source, type, code.
    fn error(&mut self) -> (Ipv4Addr, u8, u8) {
        let (from, protocol, message) = self.packet();
        let icmp = IcmpView::new_checked(&message).unwrap();
        assert!(protocol == 1 && icmp.checksum_ok() && icmp.is_error());
        (from, icmp.icmp_type(), icmp.code())
    }
}

/// Two segments with gateways; a host on the first.
fn lab() -> (Lab, Host) {
    let both = segments([("lan", routed("192.168.56.0/24")), ("dmz", routed("10.9.0.0/16"))]);
    let lab = Lab::new(&both, &[("a", "lan", A), ("b", "lan", B), ("c", "dmz", C)]);
    let host = Host::new(lab.connect("a"), A, "192.168.56.3", "192.168.56.1");
    (lab, host)
}

#[test]
fn gateway_and_outside_answer_pings() {
    let (lab, mut host) = lab();
    for (seq, dst) in ["192.168.56.1", "8.8.8.8", "203.0.113.9"].into_iter().enumerate() {
        host.ping(dst, seq as u16);
        assert_eq!(host.pong(), (ip(dst), seq as u16));
    }
    let other = Host::new(lab.connect("c"), C, "10.9.0.5", "10.9.0.1");
    assert_ne!(other.gateway, host.gateway, "each segment's gateway is a NIC of its own");
}

#[test]
fn what_else_is_asked_of_the_outside_is_refused() {
    let (_lab, mut host) = lab();
    let own = host.ip;
    let ends = |dst| Addresses::V4 { src: own, dst: ip(dst) };
    let syn = |ends: Addresses, flags: TcpFlags| {
        let mut segment = [0u8; 20];
        segment[..4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
        segment[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        segment[8..12].copy_from_slice(&5u32.to_be_bytes());
        (segment[12], segment[13]) = (0x50, flags.0);
        let sum = ends.checksum(6, &segment, 16);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        segment
    };
    for dst in ["192.168.56.1", "8.8.8.8"] {
        let ends = ends(dst);
        host.send(dst, ip_protocol::TCP, 64, &syn(ends, TcpFlags::SYN));
        let (from, protocol, segment) = host.packet();
        let reset = TcpView::new_checked(&segment).unwrap();
        assert!(reset.checksum_ok(ends) && (from, protocol) == (ip(dst), ip_protocol::TCP));
        assert_eq!((reset.src_port(), reset.dst_port()), (80, 0x9c40));
        assert_eq!(
            (reset.flags(), reset.seq(), reset.ack()),
            (TcpFlags::RST | TcpFlags::ACK, 0, 0),
            "wraps round"
        );
        host.send(dst, ip_protocol::TCP, 64, &syn(ends, TcpFlags::ACK));
        let (_, _, segment) = host.packet();
        let reset = TcpView::new_checked(&segment).unwrap();
        assert_eq!((reset.flags(), reset.seq()), (TcpFlags::RST, 5));
        // A reset is not answered; the next answer is the next question's.
        host.send(dst, ip_protocol::TCP, 64, &syn(ends, TcpFlags::RST));
        host.send(dst, ip_protocol::UDP, 64, &[0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
        assert_eq!(host.error(), (ip(dst), 3, 3));
        host.send(dst, ip_protocol::ESP, 64, &[0; 40]);
        assert_eq!(host.error(), (ip(dst), 3, 2));
    }
}

/// The same by IPv6: neighbour discovery, pings, refusals, and what is not there.
#[test]
fn the_gateway_speaks_ipv6() {
    let lan = routed("192.168.56.0/24 fd00:56::/64");
    let lab = Lab::new(&segments([("lan", lan)]), &[("a", "lan", A), ("b", "lan", B)]);
    let mut host = lab.connect("a");
    let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    let (own, gateway) = (v6("fd00:56::3"), v6("fd00:56::1"));
    host.send(&reply::neighbor_solicitation(A, own, gateway));
    let answer = host.recv();
    let answer = EthernetFrame::new_checked(&answer).unwrap();
    let told = Neighbors::read(&answer).unwrap();
    let mac = answer.src();
    assert_eq!((told.tells, answer.dst()), (Some((gateway.into(), mac)), A));
    let mut ask = |dst: &str, protocol: u8, hops: u8, payload: &dyn Fn(Addresses) -> Vec<u8>| {
        let ends = Addresses::V6 { src: own, dst: v6(dst) };
        let packet = reply::ip(ends, protocol, hops, &payload(ends));
        host.send(&reply::ethernet(mac, A, None, ethertype::IPV6, &packet));
        let frame = host.recv();
        let frame = EthernetFrame::new_checked(&frame).unwrap();
        let packet = IpView::new_checked(frame.payload()).unwrap();
        assert_eq!((frame.dst(), packet.dst()), (A, own.into()));
        let message = packet.payload();
        assert!(packet.is_icmp() && packet.addresses().icmp_checksum_ok(message));
        (packet.src().to_string(), message[0], message[1])
    };
    let ping = |ends: Addresses| ends.echo_request(7, 8, b"who is there");
    for dst in ["fd00:56::1", "2001:db8::1"] {
        assert_eq!(ask(dst, 58, 64, &ping), (dst.to_owned(), 129, 0));
        let closed = |_: Addresses| vec![0x9c, 0x40, 0, 53, 0, 8, 0, 0];
        assert_eq!(ask(dst, 17, 64, &closed), (dst.to_owned(), 1, 4));
        assert_eq!(ask(dst, 50, 64, &|_| vec![0; 40]), (dst.to_owned(), 4, 1));
    }
    let own_segment = "fd00:56::99";
    assert_eq!(ask(own_segment, 58, 64, &ping), ("fd00:56::1".to_owned(), 1, 3), "it does not route");
    assert_eq!(ask("2001:db8::1", 58, 1, &ping), ("fd00:56::1".to_owned(), 3, 0), "out of hops");

    // Somebody who checks an address that is the gateway's hears, with all others, that it is taken.
    let mut other = lab.connect("b");
    other.send(&reply::neighbor_solicitation(B, Ipv6Addr::UNSPECIFIED, gateway));
    let answer = other.recv();
    assert_eq!(answer[..6], [0x33, 0x33, 0, 0, 0, 1]);
}

/// RFC 4291, section 2.5.6: what is of one link alone leads nowhere else.
#[test]
fn the_gateway_passes_on_nothing_from_or_to_a_link_local_address() {
    let lab = Lab::new(&segments([("lan", routed("fd00:56::/64"))]), &[("a", "lan", A)]);
    let mut host = lab.connect("a");
    let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    host.send(&reply::neighbor_solicitation(A, v6("fd00:56::3"), v6("fd00:56::1")));
    let mac = EthernetFrame::new_checked(&host.recv()).unwrap().src();
    let mut ping = |src: &str, dst: &str| {
        let ends = Addresses::V6 { src: v6(src), dst: v6(dst) };
        let packet = reply::ip(ends, 58, 64, &ends.echo_request(7, 8, b"who is there"));
        host.send(&reply::ethernet(mac, A, None, ethertype::IPV6, &packet));
    };
    let no_route = || wait(lab.wire.stats()).unwrap().segments["lan"].gateway_no_route;
    ping("fe80::3", "2001:db8::1");
    until(|| no_route() == 1);
    ping("fd00:56::3", "fe80::99");
    until(|| no_route() == 2);
    // It is the addresses: the same by others is answered, and that is the first frame back.
    ping("fd00:56::3", "2001:db8::1");
    let frame = host.recv();
    let frame = EthernetFrame::new_checked(&frame).unwrap();
    let packet = IpView::new_checked(frame.payload()).unwrap();
    assert_eq!((packet.src().to_string().as_str(), packet.payload()[0]), ("2001:db8::1", 129));
    assert_eq!(no_route(), 2);
}

#[test]
fn it_does_not_route() {
    let (_lab, mut host) = lab();
    let gateway = ip("192.168.56.1");
    for inside in ["10.9.0.5", "10.9.0.1", "192.168.56.7"] {
        host.ping(inside, 1);
        assert_eq!(host.error(), (gateway, 3, 1), "{inside}");
    }
    host.send("8.8.8.8", ip_protocol::UDP, 1, &[0; 8]);
    assert_eq!(host.error(), (gateway, 11, 0), "out of hops");
    // Not for a broadcast, nor about an error.
    host.send("192.168.56.1", ip_protocol::ICMP, 64, &[3, 1, 0xfc, 0xfe, 0, 0, 0, 0]);
    host.ping("192.168.56.1", 2);
    assert_eq!(host.pong(), (gateway, 2));
}

#[test]
fn the_outside_is_as_large_as_it_is_said_to_be() {
    let mut lan = routed("192.168.56.0/24");
    lan.outside = vec!["8.0.0.0/8".parse().unwrap()];
    let lab = Lab::new(&segments([("lan", lan)]), &[("a", "lan", A)]);
    let mut host = Host::new(lab.connect("a"), A, "192.168.56.3", "192.168.56.1");
    host.ping("8.8.8.8", 1);
    assert_eq!(host.pong().0, ip("8.8.8.8"));
    host.ping("9.9.9.9", 2);
    assert_eq!(host.error(), (ip("192.168.56.1"), 3, 1));
}

#[test]
fn it_asks_who_has_an_address_and_answers_only_whom_it_can_reach() {
    let (lab, mut host) = lab();
    // From a subnet to which the gateway has no route: silence, and it is counted.
    let own = host.ip;
    host.ip = ip("10.77.0.2");
    host.ping("8.8.8.8", 1);
    // From an address of the subnet that no one answers ARP for: a question, no pong.
    host.ip = ip("192.168.56.99");
    host.ping("8.8.8.8", 2);
    let ask = host.client.recv();
    let ask = EthernetFrame::new_checked(&ask).unwrap();
    let arp = arp::parse(ask.payload()).unwrap();
    assert_eq!((ask.dst(), arp.get_operation().0), (MacAddr::BROADCAST, 1));
    assert_eq!((arp.get_sender_proto_addr(), arp.get_target_proto_addr()), (ip("192.168.56.1"), host.ip));
    host.ip = own;
    host.ping("8.8.8.8", 3);
    assert_eq!(host.pong().1, 3, "the one before still waits");
    // Another station has it: it is that one that gets the pong.
    let mut b = lab.connect("b");
    b.send(&reply::arp_reply(B, ip("192.168.56.99"), host.gateway, ip("192.168.56.1")));
    let pong = b.recv();
    let pong = EthernetFrame::new_checked(&pong).unwrap();
    let packet = Ipv4View::new_checked(pong.payload()).unwrap();
    assert_eq!((pong.dst(), packet.src(), packet.dst()), (B, ip("8.8.8.8"), ip("192.168.56.99")));
    assert_eq!(wait(lab.wire.stats()).unwrap().segments["lan"].gateway_no_route, 1);
}

#[test]
fn port_security_holds_for_the_gateway_too() {
    let lan = Segment { port_security: true, ..routed("192.168.56.0/24") };
    let lab = Lab::new(&segments([("lan", lan)]), &[("a", "lan", A)]);
    let mut host = Host::new(lab.connect("a"), A, "192.168.56.3", "192.168.56.1");
    host.client.send(&reply::arp_request(FOREIGN, ip("192.168.56.31"), ip("192.168.56.1")));
    host.ping("192.168.56.1", 1);
    assert_eq!(host.pong().1, 1);
}

#[test]
fn without_a_gateway_nothing_answers() {
    let (_lab, mut a, mut b, _c) = Lab::three(segment("192.168.56.0/24"));
    let ask = reply::arp_request(A, ip("192.168.56.3"), ip("192.168.56.1"));
    a.send(&ask);
    assert_eq!(b.recv(), ask);
    b.send(&broadcast(B, 1));
    assert_eq!(a.recv(), broadcast(B, 1));
}
