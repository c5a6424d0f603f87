//! What is built reads back equal.

use proptest::prelude::*;
use vxlan::{EthernetFrame, Layer, Stack};

use crate::stacks;

/// Lengths and checksums that are set to what they should be read back as unset: sets them again.
fn set_again(read: &mut Stack, built: &Stack) {
    for (read, built) in read.layers.iter_mut().zip(&built.layers) {
        match (read, built) {
            (Layer::Ipv4(read), Layer::Ipv4(built)) => {
                read.checksum = read.checksum.or(built.checksum);
            }
            (Layer::Udp(read), Layer::Udp(built)) => {
                read.checksum = read.checksum.or(built.checksum);
                read.len = read.len.or(built.len);
            }
            (Layer::Tcp(read), Layer::Tcp(built)) => read.checksum = read.checksum.or(built.checksum),
            (Layer::Icmp(read), Layer::Icmp(built)) => read.checksum = read.checksum.or(built.checksum),
            (Layer::Icmpv6(read), Layer::Icmpv6(built)) => read.checksum = read.checksum.or(built.checksum),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn right_stacks(stack in stacks::right(2)) {
        let bytes = stack.build().unwrap();
        let read = Stack::parse(&bytes).unwrap();
        prop_assert_eq!(&read, &stack);
        prop_assert!(read.layers.iter().all(|layer| layer.wrong().is_empty()));
    }

    #[test]
    fn stacks_with_lengths_and_checksums_set(stack in stacks::any_set(2)) {
        let bytes = stack.build().unwrap();
        let mut read = Stack::parse(&bytes).unwrap();
        prop_assert_eq!(&read.build().unwrap(), &bytes);
        set_again(&mut read, &stack);
        prop_assert_eq!(&read, &stack);
    }

    /// The zero-copy frame sees what the layers say.
    #[test]
    fn frames_seen_through_a_view(stack in stacks::right(0)) {
        let bytes = stack.build().unwrap();
        let [Layer::Ether(ether), rest @ ..] = stack.layers.as_slice() else { panic!("no frame") };
        let frame = EthernetFrame::new_checked(&bytes).unwrap();
        prop_assert_eq!((Some(frame.dst()), Some(frame.src())), (ether.dst, ether.src));
        match (rest, frame.vlan()) {
            ([Layer::Dot1q(tag), ..], Some(seen)) => {
                prop_assert_eq!((seen.vid, seen.pcp, seen.dei, seen.tpid), (tag.vid, tag.pcp, tag.dei, 0x8100));
                prop_assert_eq!(frame.payload(), &bytes[18..]);
            }
            (_, None) => prop_assert_eq!(frame.payload(), &bytes[14..]),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// The text form says all.
    #[test]
    fn text(stack in stacks::any_set(2)) {
        let text = stack.to_string();
        prop_assert_eq!(text.parse::<Stack>().map_err(|error| format!("{text}: {error}")), Ok(stack));
    }

    /// Where addresses are left out, reading what was built spells them out, and that is all that changes.
    #[test]
    fn what_is_left_out_is_filled_in(mut stack in stacks::right(1)) {
        for layer in &mut stack.layers {
            match layer {
                Layer::Ether(ether) => (ether.dst, ether.src) = (None, None),
                Layer::Arp(arp) => (arp.sender_mac, arp.sender_ip) = (None, None),
                Layer::Ipv4(ip) => (ip.src, ip.dst) = (None, None),
                Layer::Ipv6(ip) => (ip.src, ip.dst) = (None, None),
                Layer::Udp(udp) => udp.src_port = None,
                _ => {}
            }
        }
        let bytes = stack.build().unwrap();
        let read = Stack::parse(&bytes).unwrap();
        prop_assert_eq!(read.build().unwrap(), bytes);
        let kinds = |stack: &Stack| stack.layers.iter().map(Layer::kind).collect::<Vec<_>>();
        prop_assert_eq!(kinds(&read), kinds(&stack));
        prop_assert!(read.layers.iter().all(|layer| layer.wrong().is_empty()));
    }
}
