//! The zero-copy views, all their accessors, and the answers made from a frame.
#![no_main]

use std::hint::black_box;
use std::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use vxlan::checksum::Addresses;
use vxlan::proto::ipv4;
use vxlan::reply::{self, IcmpError};
use vxlan::{
    ArpView, EspView, EthernetFrame, IcmpView, Icmpv6View, Ipv4View, Ipv6View, Kind, MacAddr, Stack, TcpView, UdpView,
    VxlanView,
};

const ENDS: Addresses = Addresses::V4 { src: Ipv4Addr::LOCALHOST, dst: Ipv4Addr::LOCALHOST };

fuzz_target!(|bytes: &[u8]| {
    if let Ok(frame) = EthernetFrame::new_checked(bytes) {
        black_box((frame.dst(), frame.src(), frame.vlan(), frame.ethertype(), frame.payload(), frame.bytes()));
        let mac = MacAddr([2; 6]);
        let answers = [
            reply::arp_reply_to(&frame, mac),
            reply::icmp_echo_reply_to(&frame, mac),
            reply::icmp_error_to(&frame, mac, Ipv4Addr::LOCALHOST, IcmpError::TimeExceeded),
        ];
        for answer in answers.into_iter().flatten() {
            // What is answered is right.
            let stack = Stack::parse(&answer).expect("an answer is a frame");
            let quoted_or_echoed = stack.layers.iter().all(|layer| layer.wrong().is_empty());
            assert!(quoted_or_echoed, "{stack}");
        }
    }
    for ip in [Ipv4View::new_checked(bytes), Ipv4View::header_checked(bytes)].into_iter().flatten() {
        black_box((ip.options(), ip.payload(), ip.checksum_ok(), ip.src(), ip.dst(), ip.is_fragment(), ip.bytes()));
        black_box((ip.dscp(), ip.ecn(), ip.id(), ip.flags(), ip.ttl(), ip.protocol(), ip.addresses()));
    }
    for ip in [Ipv6View::new_checked(bytes), Ipv6View::header_checked(bytes)].into_iter().flatten() {
        black_box((ip.payload(), ip.src(), ip.dst(), ip.flow_label(), ip.traffic_class(), ip.hop_limit(), ip.bytes()));
    }
    for udp in [UdpView::new_checked(bytes), UdpView::header_checked(bytes)].into_iter().flatten() {
        black_box((udp.src_port(), udp.dst_port(), udp.payload(), udp.checksum_ok(ENDS), udp.len_field()));
    }
    if let Ok(tcp) = TcpView::new_checked(bytes) {
        black_box((tcp.options(), tcp.payload(), tcp.flags().to_string(), tcp.checksum_ok(ENDS), tcp.urgent()));
    }
    if let Ok(icmp) = IcmpView::new_checked(bytes) {
        black_box((icmp.payload(), icmp.id(), icmp.seq(), icmp.next_hop_mtu(), icmp.checksum_ok()));
    }
    if let Ok(icmp) = Icmpv6View::new_checked(bytes) {
        black_box((icmp.payload(), icmp.id(), icmp.seq(), icmp.checksum_ok(ENDS)));
    }
    if let Ok(arp) = ArpView::new_checked(bytes) {
        black_box((arp.operation(), arp.sender_mac(), arp.sender_ip(), arp.target_mac(), arp.target_ip()));
    }
    if let Ok(esp) = EspView::new_checked(bytes) {
        black_box((esp.spi(), esp.seq(), esp.payload()));
    }
    if let Ok(header) = VxlanView::new_checked(bytes) {
        black_box((header.vni(), header.has_vni(), header.reserved_is_zero(), header.payload()));
    }
    let mut routed = bytes.to_vec();
    if let Ok(Some(_)) = ipv4::decrement_ttl(&mut routed) {
        let ok = |bytes| Ipv4View::header_checked(bytes).map(|ip| ip.checksum_ok());
        assert_eq!(ok(bytes), ok(&routed));
    }
    for tunnel in [Kind::Vxlan, Kind::Gbp, Kind::Gpe] {
        black_box(vxlan::proto::vxlan::source_port(tunnel, bytes));
    }
});
