//! Another reader, etherparse, sees in what is built what was asked for, checksums included.

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    ArpPacketSlice, Ethernet2Header, Ipv4Header, Ipv6Header, SingleVlanHeader, TcpHeader, UdpHeader,
};
use proptest::prelude::*;
use vxlan::{Dissection, Layer};

use crate::stacks;

/// The addresses that the layer above is summed with.
#[derive(Clone, Copy)]
enum Ends {
    None,
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

/// Checks one layer against the same bytes read by etherparse. `bytes` are the layer and all above, without trailers.
fn check(layer: &Layer, bytes: &[u8], ends: Ends) -> Ends {
    match layer {
        Layer::Ether(ether) => {
            let (seen, _) = Ethernet2Header::from_slice(bytes).unwrap();
            assert_eq!(Some(seen.destination), ether.dst.map(|mac| mac.octets()));
            assert_eq!(Some(seen.source), ether.src.map(|mac| mac.octets()));
            return Ends::None;
        }
        Layer::Dot1q(tag) => {
            let (seen, _) = SingleVlanHeader::from_slice(bytes).unwrap();
            assert_eq!(seen.vlan_id.value(), tag.vid);
            assert_eq!((seen.pcp.value(), seen.drop_eligible_indicator), (tag.pcp, tag.dei));
        }
        Layer::Arp(arp) => {
            let seen = ArpPacketSlice::from_slice(bytes).unwrap();
            assert_eq!(
                (seen.hw_addr_type().0, seen.proto_addr_type().0),
                (arp.hardware_type, arp.protocol_type)
            );
            assert_eq!(seen.operation().0, arp.operation);
            assert_eq!(seen.sender_hw_addr(), arp.sender_mac.unwrap().octets());
            assert_eq!(seen.sender_protocol_addr(), arp.sender_ip.unwrap().octets());
            assert_eq!(seen.target_hw_addr(), arp.target_mac.octets());
            assert_eq!(seen.target_protocol_addr(), arp.target_ip.octets());
        }
        Layer::Ipv4(ip) => {
            let (seen, _) = Ipv4Header::from_slice(bytes).unwrap();
            assert_eq!((seen.source, seen.destination), (ip.src.unwrap().octets(), ip.dst.unwrap().octets()));
            assert_eq!((seen.dscp.value(), seen.ecn.value()), (ip.dscp, ip.ecn));
            assert_eq!((seen.identification, seen.time_to_live), (ip.id, ip.ttl));
            assert_eq!((seen.dont_fragment, seen.more_fragments), (ip.df, ip.mf));
            assert_eq!(seen.fragment_offset.value(), ip.fragment_offset);
            assert_eq!(&seen.options[..], ip.options);
            assert_eq!(usize::from(seen.total_len), bytes.len());
            // etherparse leaves the reserved flag out of its sum.
            if !ip.reserved {
                assert_eq!(seen.header_checksum, seen.calc_header_checksum());
            }
            return Ends::V4(seen.source, seen.destination);
        }
        Layer::Ipv6(ip) => {
            let (seen, _) = Ipv6Header::from_slice(bytes).unwrap();
            assert_eq!((seen.source, seen.destination), (ip.src.unwrap().octets(), ip.dst.unwrap().octets()));
            assert_eq!((seen.traffic_class, seen.flow_label.value()), (ip.traffic_class, ip.flow_label));
            assert_eq!(seen.hop_limit, ip.hop_limit);
            assert_eq!(usize::from(seen.payload_length), bytes.len() - 40);
            return Ends::V6(seen.source, seen.destination);
        }
        Layer::Icmp(icmp) => {
            assert_eq!((bytes[0], bytes[1]), (icmp.icmp_type, icmp.code));
            assert_eq!(Sum16BitWords::new().add_slice(bytes).ones_complement(), 0);
        }
        Layer::Icmpv6(icmp) => {
            assert_eq!((bytes[0], bytes[1]), (icmp.icmp_type, icmp.code));
            let Ends::V6(src, dst) = ends else { panic!("ICMPv6 without IPv6") };
            let mut sum = Sum16BitWords::new().add_16bytes(src).add_16bytes(dst).add_2bytes([0, 58]);
            let sum = sum.add_4bytes((bytes.len() as u32).to_be_bytes()).add_slice(bytes);
            assert_eq!(sum.ones_complement(), 0);
        }
        Layer::Tcp(tcp) => {
            let (seen, payload) = TcpHeader::from_slice(bytes).unwrap();
            assert_eq!((seen.source_port, seen.destination_port), (tcp.src_port, tcp.dst_port));
            assert_eq!((seen.sequence_number, seen.acknowledgment_number), (tcp.seq, tcp.ack));
            assert_eq!((seen.window_size, seen.urgent_pointer), (tcp.window, tcp.urgent));
            assert_eq!(seen.options.as_slice(), tcp.options);
            let flags = [seen.fin, seen.syn, seen.rst, seen.psh, seen.ack, seen.urg, seen.ece, seen.cwr];
            assert_eq!(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag)), tcp.flags.0);
            // etherparse leaves the reserved bits, NS aside, out of its sum.
            if tcp.reserved <= 1 {
                let sum = match ends {
                    Ends::V4(src, dst) => seen.calc_checksum_ipv4_raw(src, dst, payload).unwrap(),
                    Ends::V6(src, dst) => seen.calc_checksum_ipv6_raw(src, dst, payload).unwrap(),
                    Ends::None => panic!("TCP without IP"),
                };
                assert_eq!(seen.checksum, sum);
            }
        }
        Layer::Udp(udp) => {
            let (seen, payload) = UdpHeader::from_slice(bytes).unwrap();
            assert_eq!((Some(seen.source_port), Some(seen.destination_port)), (udp.src_port, udp.dst_port));
            assert_eq!(usize::from(seen.length), bytes.len());
            let sum = match ends {
                Ends::V4(src, dst) => seen.calc_checksum_ipv4_raw(src, dst, payload).unwrap(),
                Ends::V6(src, dst) => seen.calc_checksum_ipv6_raw(src, dst, payload).unwrap(),
                Ends::None => panic!("UDP without IP"),
            };
            assert_eq!(seen.checksum, sum);
            assert_ne!(seen.checksum, 0);
        }
        // etherparse knows none of these: they are in the known answers.
        Layer::Vxlan(_) | Layer::Gbp(_) | Layer::Gpe(_) | Layer::Esp(_) => {}
        Layer::Payload(payload) => assert_eq!(bytes, payload.0),
        other => panic!("{other:?} is not checked"),
    }
    ends
}

proptest! {
    #[test]
    fn etherparse_agrees(stack in stacks::right(2)) {
        let bytes = stack.build().unwrap();
        // Offsets only: what is at them is for etherparse to say.
        let offsets = Dissection::of(&bytes, &vxlan::Decode::default()).offsets;
        let mut end = bytes.len();
        let mut ends = Ends::None;
        for (layer, start) in stack.layers.iter().zip(offsets) {
            end -= match layer {
                Layer::Ipv4(ip) => ip.trailer.len(),
                Layer::Ipv6(ip) => ip.trailer.len(),
                _ => 0,
            };
            ends = check(layer, &bytes[start..end], ends);
        }
    }
}
