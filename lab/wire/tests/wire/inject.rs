//! Frames from a station that is no host's.

use crate::common::*;
use labctl_model::lab::Segment;
use labctl_wire::{CaptureSpec, Fate, MAX_FRAME_LEN, WireError, station_port};
use vxlan::MacAddr;

const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x5e]);

#[test]
fn an_injected_frame_is_switched_and_recorded_like_any_other() {
    let (lab, mut a, mut b, mut c) = Lab::three(segment("10.0.0.0/24"));
    let mut capture =
        wait(lab.wire.capture("lan", CaptureSpec { count: Some(3), ..CaptureSpec::default() })).unwrap();
    wait(lab.wire.inject("lan", &broadcast(STRANGER, 1))).unwrap();
    for client in [&mut a, &mut b, &mut c] {
        assert_eq!(client.recv(), broadcast(STRANGER, 1));
    }
    // It is where it came from: an answer is not flooded, and reaches nobody else.
    a.send(&frame(A, STRANGER, 2));
    a.send(&frame(A, B, 3));
    assert_eq!((b.recv(), c.recv()), (frame(A, B, 3), frame(A, B, 3)), "B was not heard yet");
    let fates: Vec<_> = all(&mut capture).map(|frame| (frame.port.to_string(), frame.fate)).collect();
    let station = station_port("lan");
    assert_eq!(fates[0], (station.clone(), Fate::Flooded { ports: 3 }));
    assert_eq!(fates[1], ("a".into(), Fate::Forwarded { to: station.into() }));
    assert_eq!(wait(lab.wire.stats()).unwrap().ports.len(), 3, "a station is no host's port");
}

#[test]
fn a_borrowed_source_draws_frames_away_until_its_owner_is_heard_again() {
    let (lab, mut a, mut b, mut c) = Lab::three(segment("10.0.0.0/24"));
    b.send(&frame(B, A, 1));
    assert_eq!((a.recv(), c.recv()), (frame(B, A, 1), frame(B, A, 1)));
    wait(lab.wire.inject("lan", &frame(B, MacAddr::BROADCAST, 2))).unwrap();
    assert_eq!((a.recv(), b.recv(), c.recv()), (broadcast(B, 2), broadcast(B, 2), broadcast(B, 2)));
    a.send(&frame(A, B, 3));
    until(|| wait(lab.wire.stats()).unwrap().ports["a"].rx_frames == 1);
    b.send(&broadcast(B, 4));
    assert_eq!((a.recv(), c.recv()), (broadcast(B, 4), broadcast(B, 4)));
    a.send(&frame(A, B, 5));
    assert_eq!(b.recv(), frame(A, B, 5), "the third went to the station");
}

#[test]
fn the_gateway_answers_a_station_and_port_security_is_not_for_it() {
    let (lab, mut a, _b, _c) = Lab::three(Segment { port_security: true, ..routed("10.0.0.0/24") });
    let gateway = MacAddr(wait(lab.wire.stats()).unwrap().segments["lan"].gateway_mac.unwrap());
    let mut capture =
        wait(lab.wire.capture("lan", CaptureSpec { count: Some(2), ..CaptureSpec::default() })).unwrap();
    let ask: vxlan::Stack = "eth(src=02:00:00:00:00:5e)/arp(who=10.0.0.1,tell=10.0.0.9)".parse().unwrap();
    wait(lab.wire.inject("lan", &ask.build().unwrap())).unwrap();
    assert_eq!(a.recv(), ask.build().unwrap());
    let answer = all(&mut capture).last().unwrap();
    assert_eq!(answer.fate, Fate::Forwarded { to: station_port("lan").into() });
    assert!(vxlan::describe(&answer.data).contains(&format!("10.0.0.1 is-at {gateway}")));
}

#[test]
fn what_no_nic_could_send_is_refused() {
    let (lab, ..) = Lab::three(segment("10.0.0.0/24"));
    let long = wait(lab.wire.inject("lan", &[0; MAX_FRAME_LEN + 1])).unwrap_err();
    assert!(matches!(long, WireError::FrameTooLong(_)), "{long}");
    assert!(matches!(wait(lab.wire.inject("wan", &[0; 60])), Err(WireError::UnknownSegment(_))));
}
