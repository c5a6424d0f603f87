//! Ports whose frames come and go by a descriptor that somebody hands over. A pair of datagram sockets stands for the
//! TAP, which takes privilege to make: one frame to a read or write is all that the wire asks of it. Real TAPs are
//! tested by the `dind` runtime's tests.

use std::{
    io::IoSlice,
    net::{Ipv4Addr, UdpSocket},
    os::{
        fd::AsRawFd as _,
        unix::net::{UnixDatagram, UnixStream},
    },
};

use crate::common::*;
use labctl_wire::{PortSpec, Transport};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// A wire with a stream port `a` and a TAP port `b`.
fn lab() -> (Lab, Client) {
    let lab = Lab::new(&segments([("lan", segment("10.0.0.0/24"))]), &[("a", "lan", A)]);
    let transport = Transport::Tap { listen: path(&lab.folder, "b") };
    let port = PortSpec { name: "b".into(), segment: "lan".into(), mac: B.octets(), transport };
    wait(lab.wire.add_port(port)).unwrap();
    let a = lab.connect("a");
    (lab, a)
}

/// Hands one end of a pair over; the connection, and the other end.
fn plug_in(lab: &Lab) -> (UnixStream, UnixDatagram) {
    let before = wait(lab.wire.stats()).unwrap().ports["b"].connections;
    let (near, far) = UnixDatagram::pair().unwrap();
    near.set_read_timeout(Some(SOON)).unwrap();
    let stream = UnixStream::connect(path(&lab.folder, "b")).unwrap();
    let fds = [far.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"T")], &rights, MsgFlags::empty(), None).unwrap();
    until(|| wait(lab.wire.stats()).unwrap().ports["b"].connections > before);
    (stream, near)
}

fn recv(tap: &UnixDatagram) -> Vec<u8> {
    let mut frame = vec![0; 16_384];
    let n = tap.recv(&mut frame).unwrap();
    frame.truncate(n);
    frame
}

#[test]
fn frames_cross_in_order_and_whole() {
    let (lab, mut a) = lab();
    let (_stream, tap) = plug_in(&lab);
    for mark in 0..200 {
        tap.send(&frame(B, A, mark)).unwrap();
        assert_eq!(a.recv(), frame(B, A, mark));
    }
    for mark in 0..200 {
        a.send(&frame(A, B, mark));
    }
    for mark in 0..200 {
        assert_eq!(recv(&tap), frame(A, B, mark));
    }
    // One that no wire carries is lost, and nothing else.
    tap.send(&[2; 16_000]).unwrap();
    tap.send(&frame(B, A, 7)).unwrap();
    let first = a.recv();
    assert!(first == frame(B, A, 7) || a.recv() == frame(B, A, 7));
}

#[test]
fn the_end_of_the_connection_unplugs_and_another_plugs_in() {
    let (lab, mut a) = lab();
    let (stream, tap) = plug_in(&lab);
    let connected = || wait(lab.wire.stats()).unwrap().ports["b"].connected;
    assert!(connected());
    drop(stream);
    until(|| !connected());
    // Nobody holds the other end any more: the wire has let go of it.
    assert!(tap.send(&frame(B, A, 1)).is_err());
    let (_stream, tap) = plug_in(&lab);
    tap.send(&frame(B, A, 2)).unwrap();
    assert_eq!(a.recv(), frame(B, A, 2));
}

#[test]
fn a_connection_that_brings_nothing_is_none() {
    let (lab, mut a) = lab();
    let stream = UnixStream::connect(path(&lab.folder, "b")).unwrap();
    drop(stream);
    let (_stream, tap) = plug_in(&lab);
    tap.send(&frame(B, A, 3)).unwrap();
    assert_eq!(a.recv(), frame(B, A, 3));
}

#[test]
fn datagrams_of_one_sender_are_frames_and_those_of_others_are_not() {
    let socket = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let lab = Lab::new(&segments([("lan", segment("10.0.0.0/24"))]), &[("a", "lan", A)]);
    let (ours, theirs) = (socket(), socket());
    let (wire_end, machine_end) = (ours.local_addr().unwrap(), theirs.local_addr().unwrap());
    ours.connect(machine_end).unwrap();
    // Nobody listens there until the machine runs.
    drop(theirs);
    let transport = Transport::Datagrams(ours);
    let port = PortSpec { name: "b".into(), segment: "lan".into(), mac: B.octets(), transport };
    wait(lab.wire.add_port(port)).unwrap();
    let mut a = lab.connect("a");
    for mark in 0..100 {
        a.send(&frame(A, B, mark));
    }
    until(|| wait(lab.wire.stats()).unwrap().ports["a"].rx_frames >= 100);

    let machine = UdpSocket::bind(machine_end).unwrap();
    machine.set_read_timeout(Some(SOON)).unwrap();
    let stranger = socket();
    stranger.send_to(&frame(B, A, 7), wire_end).unwrap();
    machine.send_to(&[], wire_end).unwrap();
    // One that no wire carries is lost, not cut.
    machine.send_to(&[2; 20_000], wire_end).unwrap();
    for mark in 100..200 {
        machine.send_to(&frame(B, A, mark), wire_end).unwrap();
        assert_eq!(a.recv(), frame(B, A, mark));
        a.send(&frame(A, B, mark));
        let mut taken = [0; 2048];
        let n = machine.recv(&mut taken).unwrap();
        assert_eq!(taken[..n], frame(A, B, mark));
    }
}
