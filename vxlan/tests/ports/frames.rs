//! Frames over a cable, by every port that has them.

use std::io::ErrorKind;
use std::time::{Duration, Instant, SystemTime};

use vxlan::{
    FrameTemplate, Stack,
    port::{Batch, Direction, PacketPort, Ready, RxRing, RxRingSize, TxRing, index_of, wait},
};

use crate::net::{self, PATIENCE};

/// A frame that says its number.
fn frames(count: u32) -> Vec<Vec<u8>> {
    let stack: Stack = "eth(dst=02:00:00:00:00:0b,src=02:00:00:00:00:0a)/ip(src=10.0.0.1,dst=10.0.0.2)\
                        /udp(sport=7,dport=4789)/vxlan/eth/ip(src=10.3.1.1,dst=10.3.1.2)/icmp/payload(size=40)"
        .parse()
        .unwrap();
    let mut template = FrameTemplate::new(&stack).unwrap();
    let (vni, number) = (template.field("vxlan.vni").unwrap(), template.payload("payload", 0..4).unwrap());
    let numbered = |i: u32| {
        template.set(vni, i % 1000).unwrap();
        template.set(number, i).unwrap();
        template.frame().to_vec()
    };
    (0..count).map(numbered).collect()
}

fn build(text: &str) -> Vec<u8> {
    text.parse::<Stack>().unwrap().build().unwrap()
}

fn send_all(port: &PacketPort, frames: &[Vec<u8>]) {
    let deadline = Instant::now() + PATIENCE;
    let mut sent = 0;
    while sent < frames.len() {
        assert!(Instant::now() < deadline);
        match port.send_batch(&frames[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait(port, Ready::Send, PATIENCE).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_is_sent_arrives_in_order_with_time_and_direction() {
    net::cable();
    let (a, b) = (net::open("a"), net::open("b"));
    let frames = frames(500);
    send_all(&a, &frames);
    let mut batch = Batch::new(1000, 2048);
    let mut seen = Vec::new();
    while seen.len() < frames.len() {
        assert!(wait(&b, Ready::Receive, PATIENCE).unwrap());
        b.recv_batch(&mut batch).unwrap();
        for received in batch.iter() {
            assert_eq!(received.direction(), Some(Direction::ToUs));
            assert_eq!(received.original_len(), received.bytes().len());
            assert!(!received.checksum_pending());
            let age = SystemTime::now().duration_since(received.time().unwrap()).unwrap();
            assert!(age < PATIENCE, "{age:?}");
            seen.push(received.bytes().to_vec());
        }
    }
    assert_eq!(seen, frames);
    let stats = b.stats().unwrap();
    assert_eq!((stats.received, stats.dropped), (500, 0));
    // Counts go on: the kernel's own start anew with each look.
    send_all(&a, &frames[..10]);
    net::receive(&b, 10);
    assert_eq!(b.stats().unwrap().received, 510);
    let nothing = b.recv_batch(&mut batch).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    assert_eq!(batch.iter().len(), 0);
    assert!(!wait(&b, Ready::Receive, Duration::from_millis(1)).unwrap());
}

#[test]
fn another_socket_sees_what_leaves() {
    net::cable();
    let (a, watcher) = (net::open("a"), net::open("a"));
    send_all(&a, &frames(3));
    let mut batch = Batch::new(8, 60);
    assert!(wait(&watcher, Ready::Receive, PATIENCE).unwrap());
    watcher.recv_batch(&mut batch).unwrap();
    let first = batch.iter().next().unwrap();
    assert_eq!(first.direction(), Some(Direction::Outgoing));
    // Cut, and so said.
    assert_eq!((first.bytes().len(), first.original_len()), (60, frames(1)[0].len()));
}

#[test]
fn a_port_may_see_every_interface() {
    net::cable();
    let (a, all) = (net::open("a"), PacketPort::everywhere().unwrap());
    // One that comes later is seen as well.
    net::second_cable('c', 'd');
    let frames = frames(2);
    send_all(&a, &frames[..1]);
    send_all(&net::open("c"), &frames[1..]);
    let mut batch = Batch::new(64, 2048);
    let mut seen = Vec::new();
    while seen.len() < 4 {
        assert!(wait(&all, Ready::Receive, PATIENCE).unwrap());
        all.recv_batch(&mut batch).unwrap();
        for received in batch.iter() {
            let number = frames.iter().position(|frame| frame == received.bytes()).unwrap();
            seen.push((number, received.interface().unwrap(), received.direction().unwrap()));
        }
    }
    let index = |name| index_of(name).unwrap();
    let expected = [(0, "a", Direction::Outgoing), (0, "b", Direction::ToUs), (1, "c", Direction::Outgoing)]
        .map(|(number, name, way)| (number, index(name), way));
    assert_eq!(seen[..3], expected);
    assert_eq!(seen[3], (1, index("d"), Direction::ToOthers));
    assert_eq!(all.send_batch(&frames).unwrap_err().raw_os_error(), Some(nix::libc::ENXIO));
}

#[test]
fn vlan_tags_are_put_back() {
    net::cable();
    let sent = [
        build("eth(dst=02:00:00:00:00:0b)/dot1q(vid=5,pcp=3)/arp"),
        build("eth(dst=02:00:00:00:00:0b)/dot1q(vid=7,dei)/dot1q(vid=9)/arp"),
        build("eth(dst=02:00:00:00:00:0b,type=0x88a8)/dot1q(vid=7)/dot1q(vid=9)/arp"),
        build("eth(dst=02:00:00:00:00:0b)/arp"),
    ];
    let (a, b) = (net::open("a"), net::open("b"));
    let mut ring = RxRing::open(index_of("b").unwrap(), RxRingSize::default()).unwrap();
    send_all(&a, &sent);
    assert_eq!(net::receive(&b, 4), sent);
    assert_eq!(read_ring(&mut ring, 4), sent);
}

fn read_ring(ring: &mut RxRing, count: usize) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < count {
        assert!(Instant::now() < deadline, "{} of {count}", seen.len());
        wait(ring, Ready::Receive, Duration::from_millis(100)).unwrap();
        while let Some(mut block) = ring.block().unwrap() {
            while let Some(frame) = block.next_frame().unwrap() {
                assert!(frame.time().is_some());
                seen.push(frame.frame().into_owned());
            }
        }
    }
    seen
}

/// More frames than the rings have room for, so that both wrap, more than once.
#[test]
fn rings_carry_every_frame_in_order() {
    net::cable();
    let size = RxRingSize { block: 64 << 10, blocks: 16, hold_ms: 1 };
    let mut from = TxRing::open(index_of("a").unwrap()).unwrap();
    let mut to = RxRing::open(index_of("b").unwrap(), size).unwrap();
    let frames = frames(10_000);
    for part in frames.chunks(1000) {
        let mut sent = 0;
        let deadline = Instant::now() + PATIENCE;
        while sent < part.len() {
            assert!(Instant::now() < deadline);
            sent += from.send_batch(&part[sent..]).unwrap();
        }
        assert!(from.flush(PATIENCE).unwrap());
        assert_eq!(read_ring(&mut to, part.len()), part);
    }
    let stats = to.stats().unwrap();
    assert_eq!((stats.received, stats.dropped), (10_000, 0));
}

#[test]
fn what_nobody_takes_is_counted_as_dropped() {
    net::cable();
    let size = RxRingSize { block: 64 << 10, blocks: 2, hold_ms: 1000 };
    let a = net::open("a");
    let mut ring = RxRing::open(index_of("b").unwrap(), size).unwrap();
    send_all(&a, &frames(5000));
    let stats = ring.stats().unwrap();
    assert_eq!(stats.received, 5000);
    assert!(stats.dropped > 3000, "{stats:?}");
    let kept = (stats.received - stats.dropped) as usize;
    assert_eq!(read_ring(&mut ring, kept), frames(5000)[..kept]);
    assert!(ring.block().unwrap().is_none());
}

#[test]
fn errors_say_why() {
    net::cable();
    assert_eq!(index_of("nothing").unwrap_err().raw_os_error(), Some(nix::libc::ENODEV));
    let code = |result: std::io::Result<_>| result.map(drop).unwrap_err().raw_os_error();
    assert_eq!(code(PacketPort::open(4242)), Some(nix::libc::ENODEV));
    assert_eq!(code(TxRing::open(4242).map(|_| unreachable!())), Some(nix::libc::ENODEV));
    assert_eq!(PacketPort::open(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    let a = net::open("a");
    let huge = vec![0u8; 2000];
    assert_eq!(a.send_batch(&[&huge]).unwrap_err().raw_os_error(), Some(nix::libc::EMSGSIZE));
    // What went before an error counts, and the error comes with the next call.
    let good = frames(1).remove(0);
    assert_eq!(a.send_batch(&[&good, &good, &huge, &good]).unwrap(), 2);
    assert_eq!(a.send_batch::<&[u8]>(&[]).unwrap(), 0);
    net::ip("link set dev a down");
    assert_eq!(a.send_batch(&[&good]).unwrap_err().raw_os_error(), Some(nix::libc::ENETDOWN));
    let mut ring = TxRing::open(index_of("b").unwrap()).unwrap();
    let long = vec![0u8; TxRing::MAX_FRAME + 1];
    assert_eq!(ring.send_batch(&[long]).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn frames_to_others_need_no_promiscuous_port_on_a_cable_but_are_said_to_be() {
    net::cable();
    let (a, b) = (net::open("a"), net::open("b"));
    b.promiscuous(index_of("b").unwrap()).unwrap();
    send_all(&a, &[build("eth(dst=02:00:00:00:00:99)/payload(size=9)")]);
    let mut batch = Batch::new(1, 100);
    // The kernel sends frames of its own.
    let direction = loop {
        assert!(wait(&b, Ready::Receive, PATIENCE).unwrap());
        b.recv_batch(&mut batch).unwrap();
        if let Some(received) = batch.iter().find(|r| r.frame().starts_with(&[2, 0, 0, 0, 0, 0x99])) {
            break received.direction();
        }
    };
    assert_eq!(direction, Some(Direction::ToOthers));
}
