//! Port security and MTU.

use crate::common::*;
use labctl_model::lab::Segment;
use labctl_wire::DropReason;
use vxlan::{MacAddr, VlanTag, proto::ethertype, reply};

#[test]
fn port_security_lets_only_the_nics_own_mac_in() {
    let (lab, mut a, mut b, _c) = Lab::three(Segment { port_security: true, ..segment("10.0.0.0/24") });
    a.send(&broadcast(FOREIGN, 1));
    a.send(&broadcast(A, 2));
    assert_eq!(b.recv(), broadcast(A, 2));
    assert_eq!(lab.drops("a", DropReason::ForeignSource), 1);
    // Another NIC's MAC is as foreign as a container's.
    a.send(&broadcast(B, 3));
    a.send(&broadcast(A, 4));
    assert_eq!(b.recv(), broadcast(A, 4));
    assert_eq!(lab.drops("a", DropReason::ForeignSource), 2);
}

#[test]
fn port_security_hands_out_only_what_is_for_the_nic() {
    let (lab, mut a, mut b, mut c) = Lab::three(Segment { port_security: true, ..segment("10.0.0.0/24") });
    let group = MacAddr([1, 0, 0x5e, 0, 0, 1]);
    a.send(&frame(A, FOREIGN, 1));
    a.send(&frame(A, B, 2));
    a.send(&frame(A, group, 3));
    assert_eq!((b.recv(), b.recv()), (frame(A, B, 2), frame(A, group, 3)));
    assert_eq!(c.recv(), frame(A, group, 3), "not even what is flooded to find B");
    assert_eq!(lab.drops("b", DropReason::ForeignDestination), 1);
    assert_eq!(lab.drops("c", DropReason::ForeignDestination), 2);
}

#[test]
fn without_it_any_mac_passes() {
    let (_lab, mut a, mut b, _c) = Lab::three(segment("10.0.0.0/24"));
    a.send(&broadcast(FOREIGN, 1));
    assert_eq!(b.recv(), broadcast(FOREIGN, 1));
    b.send(&frame(B, FOREIGN, 2));
    assert_eq!(a.recv(), frame(B, FOREIGN, 2));
}

#[test]
fn what_exceeds_the_mtu_is_dropped_in_silence() {
    let (lab, mut a, mut b, _c) = Lab::three(Segment { mtu: 1400, ..segment("10.0.0.0/24") });
    let tag = |vid| Some(VlanTag { tpid: ethertype::DOT1Q, pcp: 0, dei: false, vid });
    let of = |len, tag| reply::ethernet(B, A, tag, ethertype::IPV4, &vec![7; len]);
    // Of two tags the inner one is no payload either.
    let double = |len: usize| {
        let mut inner = vec![0, 5, 8, 0];
        inner.resize(4 + len, 7);
        reply::ethernet(B, A, tag(4), ethertype::DOT1Q, &inner)
    };
    for too_large in [of(1401, None), of(1401, tag(5)), double(1401)] {
        a.send(&too_large);
    }
    for fits in [of(1400, None), of(1400, tag(5)), double(1400)] {
        a.send(&fits);
        assert_eq!(b.recv(), fits);
    }
    assert_eq!(lab.drops("a", DropReason::Mtu), 3);
}
