//! Learning, flooding, isolation, and what comes and goes with connections.
//!
//! That a frame does *not* arrive is shown by a later one that does: frames of one sender keep their order.

use std::{io::Write as _, os::unix::net::UnixStream};

use crate::common::*;
use labctl_wire::{DropReason, LinkState, PortSpec, Transport};

#[test]
fn unknown_is_flooded_and_known_goes_to_one_port() {
    let (lab, mut a, mut b, mut c) = Lab::three(segment("10.0.0.0/24"));
    a.send(&frame(A, B, 1));
    assert_eq!(b.recv(), frame(A, B, 1));
    assert_eq!(c.recv(), frame(A, B, 1), "nobody knows yet where B is");
    b.send(&frame(B, A, 2));
    assert_eq!(a.recv(), frame(B, A, 2));
    a.send(&frame(A, B, 3));
    a.send(&broadcast(A, 4));
    assert_eq!((b.recv(), b.recv()), (frame(A, B, 3), broadcast(A, 4)));
    assert_eq!(c.recv(), broadcast(A, 4), "C got neither of the two between A and B");
    // The sender never gets its own: the next that A hears is B's.
    b.send(&broadcast(B, 5));
    assert_eq!(a.recv(), broadcast(B, 5));
    let stats = wait(lab.wire.stats()).unwrap();
    assert_eq!(stats.segments["lan"].stations, 2);
    let a = &stats.ports["a"];
    assert_eq!((a.rx_frames, a.rx_bytes, a.tx_frames, a.tx_bytes), (3, 180, 2, 120));
}

#[test]
fn a_station_that_moves_is_found() {
    let (_lab, mut a, mut b, mut c) = Lab::three(segment("10.0.0.0/24"));
    b.send(&broadcast(FOREIGN, 1));
    assert_eq!((a.recv(), c.recv()), (broadcast(FOREIGN, 1), broadcast(FOREIGN, 1)));
    c.send(&broadcast(FOREIGN, 2));
    assert_eq!((a.recv(), b.recv()), (broadcast(FOREIGN, 2), broadcast(FOREIGN, 2)));
    a.send(&frame(A, FOREIGN, 3));
    a.send(&broadcast(A, 4));
    assert_eq!((c.recv(), b.recv()), (frame(A, FOREIGN, 3), broadcast(A, 4)));
}

#[test]
fn a_switch_does_not_reflect() {
    let (lab, mut a, mut b, _c) = Lab::three(segment("10.0.0.0/24"));
    a.send(&broadcast(FOREIGN, 1));
    assert_eq!(b.recv(), broadcast(FOREIGN, 1));
    // A host and its own macvlan container: the frame is out, and does not come back.
    a.send(&frame(A, FOREIGN, 2));
    a.send(&broadcast(A, 3));
    assert_eq!(b.recv(), broadcast(A, 3));
    b.send(&broadcast(B, 4));
    assert_eq!(a.recv(), broadcast(B, 4));
    assert_eq!(lab.drops("a", DropReason::SamePort), 1);
}

#[test]
fn segments_do_not_meet() {
    let both = segments([("lan", segment("10.0.0.0/24")), ("wan", segment("10.0.0.0/24"))]);
    let lab = Lab::new(&both, &[("a", "lan", A), ("b", "wan", B), ("c", "wan", C)]);
    let (mut a, mut b, mut c) = (lab.connect("a"), lab.connect("b"), lab.connect("c"));
    a.send(&broadcast(A, 1));
    until(|| wait(lab.wire.stats()).unwrap().ports["a"].rx_frames == 1);
    c.send(&broadcast(C, 2));
    assert_eq!(b.recv(), broadcast(C, 2));
}

#[test]
fn vlans_pass_with_their_tags_and_are_learned_apart() {
    let (_lab, mut a, mut b, mut c) = Lab::three(segment("10.0.0.0/24"));
    b.send(&tagged(B, vxlan::MacAddr::BROADCAST, 10, 1));
    assert_eq!(a.recv(), tagged(B, vxlan::MacAddr::BROADCAST, 10, 1));
    assert_eq!(c.recv(), tagged(B, vxlan::MacAddr::BROADCAST, 10, 1));
    // Known in VLAN 10, unknown in 20.
    a.send(&tagged(A, B, 10, 2));
    a.send(&tagged(A, B, 20, 3));
    assert_eq!(c.recv(), tagged(A, B, 20, 3));
    assert_eq!((b.recv(), b.recv()), (tagged(A, B, 10, 2), tagged(A, B, 20, 3)));
}

#[test]
fn a_cut_port_is_silent_either_way_until_healed() {
    let (lab, mut a, mut b, mut c) = Lab::three(segment("10.0.0.0/24"));
    wait(lab.wire.set_link("b", LinkState::DOWN)).unwrap();
    a.send(&broadcast(A, 1));
    assert_eq!(c.recv(), broadcast(A, 1));
    b.send(&broadcast(B, 2));
    until(|| lab.drops("b", DropReason::LinkDown) == 2);
    // One direction: what b sends arrives, what is for b does not.
    wait(lab.wire.set_link("b", LinkState { from_host: true, to_host: false })).unwrap();
    b.send(&broadcast(B, 3));
    assert_eq!((a.recv(), c.recv()), (broadcast(B, 3), broadcast(B, 3)));
    a.send(&frame(A, B, 4));
    until(|| lab.drops("b", DropReason::LinkDown) == 3);
    wait(lab.wire.set_link("b", LinkState::UP)).unwrap();
    a.send(&frame(A, B, 5));
    assert_eq!(b.recv(), frame(A, B, 5));
    assert!(
        wait(lab.wire.set_link("nobody", LinkState::DOWN)).unwrap_err().to_string().contains("\"nobody\"")
    );
}

#[test]
fn a_new_connection_takes_the_place_of_the_old() {
    let (lab, mut a, mut b, _c) = Lab::three(segment("10.0.0.0/24"));
    // Half a frame of the old connection must not be taken for the beginning of the new one's.
    b.0.write_all(&[0, 0, 0, 60, 1, 2, 3]).unwrap();
    let mut b2 = lab.connect("b");
    b2.send(&broadcast(B, 1));
    assert_eq!(a.recv(), broadcast(B, 1));
    assert_eq!(b.try_recv(), None, "the old connection is closed");
    a.send(&frame(A, B, 2));
    assert_eq!(b2.recv(), frame(A, B, 2));
    // Gone, and back.
    drop(b2);
    until(|| !wait(lab.wire.stats()).unwrap().ports["b"].connected);
    a.send(&frame(A, B, 3));
    until(|| lab.drops("b", DropReason::NotConnected) == 1);
    let mut b3 = lab.connect("b");
    a.send(&frame(A, B, 4));
    assert_eq!(b3.recv(), frame(A, B, 4));
}

#[test]
fn what_was_sent_before_closing_arrives() {
    let (_lab, mut a, mut b, _c) = Lab::three(segment("10.0.0.0/24"));
    for mark in 0..100 {
        a.send(&broadcast(A, mark));
    }
    // Meanwhile the wire writes to a connection that nobody reads any more.
    b.send(&broadcast(B, 100));
    drop(a);
    let marks: Vec<u8> = (0..100).map(|_| b.recv()[14]).collect();
    assert_eq!(marks, (0..100).collect::<Vec<u8>>());
}

#[test]
fn a_stream_of_nonsense_is_closed_and_harms_nobody() {
    let (lab, mut a, mut b, mut c) = Lab::three(segment("10.0.0.0/24"));
    for len in [0u32, 9239, u32::MAX] {
        a.0.write_all(&len.to_be_bytes()).unwrap();
        assert_eq!(a.try_recv(), None, "length {len}");
        a = lab.connect("a");
    }
    // Frames that no station sends: cut short, or from a group.
    a.send(&[7; 13]);
    a.send(&frame(vxlan::MacAddr([1, 0, 0x5e, 0, 0, 1]), B, 1));
    a.send(&broadcast(A, 2));
    assert_eq!((b.recv(), c.recv()), (broadcast(A, 2), broadcast(A, 2)));
    assert_eq!(lab.drops("a", DropReason::Malformed), 2);
}

#[test]
fn ports_come_and_go_while_the_wire_runs() {
    let (lab, mut a, mut b, _c) = Lab::three(segment("10.0.0.0/24"));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let peer = |name: &str, stream| PortSpec {
        name: name.into(),
        segment: "lan".into(),
        mac: FOREIGN.octets(),
        transport: Transport::Connected(stream),
    };
    wait(lab.wire.add_port(peer("peer", theirs))).unwrap();
    let mut client = Client(ours);
    client.send(&broadcast(FOREIGN, 1));
    assert_eq!(a.recv(), broadcast(FOREIGN, 1));
    a.send(&frame(A, FOREIGN, 2));
    assert_eq!(client.recv(), frame(A, FOREIGN, 2));

    let (_, other) = UnixStream::pair().unwrap();
    assert!(wait(lab.wire.add_port(peer("peer", other))).unwrap_err().to_string().contains("\"peer\""));
    wait(lab.wire.remove_port("peer")).unwrap();
    assert_eq!(client.try_recv(), None);
    assert!(!wait(lab.wire.stats()).unwrap().ports.contains_key("peer"));

    // A removed port's path and place are free again, and its stations forgotten.
    wait(lab.wire.remove_port("c")).unwrap();
    assert!(!path(&lab.folder, "c").exists());
    wait(lab.wire.add_port(spec(&lab.folder, "d", "lan", C))).unwrap();
    let mut d = lab.connect("d");
    a.send(&frame(A, FOREIGN, 3));
    assert_eq!(d.recv(), frame(A, FOREIGN, 3));
    assert_eq!(b.recv(), broadcast(FOREIGN, 1));
    assert_eq!(b.recv(), frame(A, FOREIGN, 3));
}
