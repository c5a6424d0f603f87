//! No input panics, and whatever is read builds to the same bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use vxlan::checksum::Addresses;
use vxlan::proto::{arp, icmp, ipv6};
use vxlan::reply::{self, IcmpError};
use vxlan::{Decode, Dissection, EthernetFrame, IcmpView, Ipv4View, Kind, MacAddr, Stack, TcpView, UdpView};

use crate::stacks;

const ENDS: Addresses =
    Addresses::V4 { src: std::net::Ipv4Addr::LOCALHOST, dst: std::net::Ipv4Addr::LOCALHOST };

/// Every reader and every accessor, on the same bytes.
fn read_all(bytes: &[u8]) {
    for kind in Kind::ALL {
        let decode = Decode { first: *kind, ..Decode::default() };
        let dissection = Dissection::of(bytes, &decode);
        assert_eq!(dissection.offsets.len(), dissection.stack.layers.len());
        if let Some(error) = &dissection.error {
            assert!(error.offset <= bytes.len(), "{error}");
        } else {
            assert_eq!(dissection.stack.build().as_deref(), Ok(bytes), "{}", dissection.stack);
        }
        let text = dissection.stack.to_string();
        // The text of no layer is no text.
        if !dissection.stack.layers.is_empty() {
            assert_eq!(text.parse(), Ok(dissection.stack), "{text}");
        }
        let line = vxlan::describe_as(bytes, &decode);
        assert!(!line.contains('\n') && !line.is_empty());
    }
    if let Ok(frame) = EthernetFrame::new_checked(bytes) {
        let mac = MacAddr([2; 6]);
        _ = (frame.dst(), frame.src(), frame.vlan(), frame.ethertype(), frame.payload(), frame.bytes());
        _ = (reply::arp_reply_to(&frame, mac), reply::icmp_echo_reply_to(&frame, mac));
        _ = reply::icmp_error_to(&frame, mac, [10, 0, 0, 1].into(), IcmpError::TimeExceeded);
    }
    for ip in [Ipv4View::new_checked(bytes), Ipv4View::header_checked(bytes)].into_iter().flatten() {
        _ = (ip.options(), ip.payload(), ip.checksum_ok(), ip.src(), ip.dst(), ip.is_fragment(), ip.bytes());
    }
    if let Ok(ip) = ipv6::parse(bytes) {
        _ = (ip.get_source(), ip.get_destination(), ip.get_flow_label(), ip.get_traffic_class());
    }
    for udp in [UdpView::new_checked(bytes), UdpView::header_checked(bytes)].into_iter().flatten() {
        _ = (udp.src_port(), udp.dst_port(), udp.payload(), udp.checksum_ok(ENDS));
    }
    if let Ok(tcp) = TcpView::new_checked(bytes) {
        _ = (tcp.options(), tcp.payload(), tcp.flags().to_string(), tcp.checksum_ok(ENDS), tcp.urgent());
    }
    if let Ok(icmp) = IcmpView::new_checked(bytes) {
        _ = (icmp.payload(), icmp.id(), icmp.seq(), icmp.checksum_ok());
    }
    if let Ok(arp) = arp::parse(bytes) {
        _ = (arp.get_operation(), arp.get_sender_proto_addr(), MacAddr::from(arp.get_target_hw_addr()));
    }
    if let Ok(header) = vxlan::proto::vxlan::parse(bytes) {
        _ = (header.get_vni(), vxlan::proto::vxlan::is_strict(&header));
    }
    for tunnel in [Kind::Vxlan, Kind::Gbp, Kind::Gpe] {
        _ = vxlan::proto::vxlan::source_port(tunnel, bytes);
    }
    _ = icmp::echo_request(1, 1, bytes);
}

#[test]
fn shortest() {
    for len in 0..64 {
        for fill in [0x00, 0x45, 0x60, 0x81, 0xff] {
            read_all(&vec![fill; len]);
        }
    }
}

/// A thousand tags, each of which announces the next: reading stops at the limit.
#[test]
fn deepest() {
    let mut bytes = vec![0; 12];
    bytes.extend([0x81, 0x00, 0x00, 0x05].repeat(1000));
    read_all(&bytes);
    let error = Stack::parse(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "dot1q.layers at offset 138: more than 32 layers");
}

proptest! {
    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    /// Right frames with bytes changed and the end cut off: these get further than noise does.
    #[test]
    fn damaged_frames(
        stack in stacks::any_set(2),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = stack.build().unwrap();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len() + 1));
        }
        read_all(&bytes);
    }

    #[test]
    fn any_text(text in "\\PC*") {
        _ = text.parse::<Stack>();
        _ = text.parse::<MacAddr>();
    }

    #[test]
    fn text_of_right_parts(text in r#"((eth|ip|udp|vxlan|arp|payload|tcp|dot1q|é| )(\((dst|vni|hex|text|len|flags|ü)?=?(1|0x5|"a\\|"|00|10\.0\.0\.1)?,?\)?)?/?){0,6}"#) {
        if let Ok(stack) = text.parse::<Stack>() {
            prop_assert_eq!(stack.to_string().parse::<Stack>(), Ok(stack));
        }
    }

    #[test]
    fn damaged_text(
        stack in stacks::any_set(1),
        at in any::<prop::sample::Index>(),
        with in prop::sample::select(vec!["", "(", ")", "=", ",", "/", "\"", "\\", "é", " "]),
    ) {
        let text = stack.to_string();
        let at = at.index(text.len());
        if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
            let damaged = format!("{}{with}{}", &text[..at], &text[at + 1..]);
            if let Err(error) = damaged.parse::<Stack>() {
                prop_assert!(error.column <= damaged.chars().count() + 1);
            }
        }
    }
}
