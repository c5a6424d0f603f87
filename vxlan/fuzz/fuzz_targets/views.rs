//! The zero-copy views, all their accessors, and the answers made from a frame.
#![no_main]

use std::hint::black_box;
use std::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use vxlan::checksum::Addresses;
use vxlan::proto::{arp, ipv6};
use vxlan::reply::{self, IcmpError};
use vxlan::{EthernetFrame, IcmpView, Ipv4View, Kind, MacAddr, Stack, TcpView, UdpView};

const ENDS: Addresses = Addresses::V4 { src: Ipv4Addr::LOCALHOST, dst: Ipv4Addr::LOCALHOST };

fuzz_target!(|bytes: &[u8]| {
    if let Ok(frame) = EthernetFrame::new_checked(bytes) {
        black_box((frame.dst(), frame.src(), frame.vlan(), frame.ethertype(), frame.payload(), frame.bytes()));
        let mac = MacAddr([2; 6]);
        let answers = [
            reply::arp_reply_to(&frame, mac),
            reply::icmp_echo_reply_to(&frame, mac),
            reply::icmp_error_to(&frame, mac, Ipv4Addr::LOCALHOST.into(), IcmpError::TimeExceeded),
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
    if let Ok(ip) = ipv6::parse(bytes) {
        black_box((ip.get_source(), ip.get_destination(), ip.get_flow_label(), ip.get_traffic_class()));
    }
    for udp in [UdpView::new_checked(bytes), UdpView::header_checked(bytes)].into_iter().flatten() {
        black_box((udp.src_port(), udp.dst_port(), udp.payload(), udp.checksum_ok(ENDS), udp.len_field()));
    }
    if let Ok(tcp) = TcpView::new_checked(bytes) {
        black_box((tcp.options(), tcp.payload(), tcp.flags().to_string(), tcp.checksum_ok(ENDS), tcp.urgent()));
    }
    if let Ok(icmp) = IcmpView::new_checked(bytes) {
        black_box((icmp.payload(), icmp.id(), icmp.seq(), icmp.checksum_ok()));
    }
    if let Ok(arp) = arp::parse(bytes) {
        black_box((arp.get_operation(), arp.get_sender_proto_addr(), MacAddr::from(arp.get_target_hw_addr())));
    }
    if let Ok(header) = vxlan::proto::vxlan::parse(bytes) {
        black_box((header.get_vni(), vxlan::proto::vxlan::is_strict(&header)));
    }
    for tunnel in [Kind::Vxlan, Kind::Gbp, Kind::Gpe] {
        black_box(vxlan::proto::vxlan::source_port(tunnel, bytes));
    }
});
