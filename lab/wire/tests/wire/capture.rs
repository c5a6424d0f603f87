//! Captures, and the pcapng files made of them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::common::*;
use labctl_model::lab::Segment;
use labctl_wire::{CaptureSpec, CapturedFrame, DropReason, Fate, pcapng::PcapngWriter};
use pcap_file::pcapng::{
    Block, PcapNgReader,
    blocks::{
        enhanced_packet::EnhancedPacketOption, interface_description::InterfaceDescriptionOption,
        opt_common::CommonOption,
    },
};
use vxlan::reply;

fn next(capture: &mut labctl_wire::Capture) -> CapturedFrame {
    captured(capture).unwrap()
}

#[test]
fn every_frame_once_with_what_became_of_it() {
    let (lab, mut a, mut b, mut c) = Lab::three(Segment { port_security: true, ..routed("10.0.0.0/24") });
    let mut capture = wait(lab.wire.capture("lan", CaptureSpec::default())).unwrap();
    let before = SystemTime::now();
    a.send(&broadcast(A, 1));
    assert_eq!((b.recv(), c.recv()), (broadcast(A, 1), broadcast(A, 1)));
    b.send(&frame(B, A, 2));
    a.send(&broadcast(FOREIGN, 3));
    assert_eq!(a.recv(), frame(B, A, 2));
    let seen = next(&mut capture);
    assert!(seen.timestamp >= before && seen.timestamp <= SystemTime::now());
    assert_eq!((&*seen.port, seen.data), ("a", broadcast(A, 1)));
    assert_eq!(seen.fate, Fate::Flooded { ports: 3 }, "b, c and the gateway");
    let two = [next(&mut capture), next(&mut capture)];
    let known = two.iter().find(|frame| &*frame.port == "b").unwrap();
    assert_eq!((known.fate.clone(), &known.data), (Fate::Forwarded { to: "a".into() }, &frame(B, A, 2)));
    let foreign = two.iter().find(|frame| &*frame.port == "a").unwrap();
    assert_eq!(foreign.fate, Fate::Dropped { at: "a".into(), reason: DropReason::ForeignSource });
    // Dropped on its way out: by the port that it was known, or could only have been, behind.
    wait(lab.wire.remove_port("c")).unwrap();
    a.send(&frame(A, FOREIGN, 4));
    let out = next(&mut capture).fate;
    assert_eq!(out, Fate::Dropped { at: "b".into(), reason: DropReason::ForeignDestination });
    // The stand-in's question and answer.
    a.send(&reply::arp_request(A, ip("10.0.0.5"), ip("10.0.0.1")));
    let (ask, answer) = (next(&mut capture), next(&mut capture));
    assert_eq!((&*ask.port, ask.fate), ("a", Fate::Flooded { ports: 2 }));
    assert_eq!((&*answer.port, answer.fate), (labctl_wire::GATEWAY_PORT, Fate::Forwarded { to: "a".into() }));
    assert_eq!((answer.data, capture.lost()), (a.recv(), 0));
}

#[test]
fn captures_end_by_count_by_time_with_the_wire_and_when_dropped() {
    let (lab, mut a, mut b, _c) = Lab::three(segment("10.0.0.0/24"));
    let open = |spec| wait(lab.wire.capture("lan", spec)).unwrap();
    let mut counted = open(CaptureSpec { count: Some(2), snaplen: 20, ..CaptureSpec::default() });
    let mut timed = open(CaptureSpec { duration: Some(Duration::from_millis(80)), ..CaptureSpec::default() });
    let mut endless = open(CaptureSpec::default());
    drop(open(CaptureSpec::default()));
    for mark in 0..3 {
        a.send(&broadcast(A, mark));
        assert_eq!(b.recv(), broadcast(A, mark));
    }
    let counted: Vec<_> = all(&mut counted).collect();
    assert_eq!(counted.len(), 2);
    assert!(counted.iter().all(|frame| frame.data.len() == 20 && frame.original_len == 60));
    let began = Instant::now();
    assert_eq!(all(&mut timed).count(), 3, "ends although nothing comes any more");
    assert!(began.elapsed() < SOON);
    assert_eq!((next(&mut endless).data, next(&mut endless).data), (broadcast(A, 0), broadcast(A, 1)));
    next(&mut endless);
    assert_eq!(endless.try_next(), None);
    lab.wire.stop().unwrap();
    assert_eq!(captured(&mut endless), None);
}

#[test]
fn a_capture_that_is_not_read_loses_frames_and_says_how_many() {
    let (lab, mut a, mut b, _c) = Lab::three(segment("10.0.0.0/24"));
    let mut capture =
        wait(lab.wire.capture("lan", CaptureSpec { buffer: 4, ..CaptureSpec::default() })).unwrap();
    for mark in 0..10 {
        a.send(&broadcast(A, mark));
    }
    for mark in 0..10 {
        assert_eq!(b.recv(), broadcast(A, mark), "the traffic itself does not suffer");
    }
    assert_eq!(wait(lab.wire.stats()).unwrap().ports["a"].rx_frames, 10);
    let kept: Vec<u8> = (0..4).map(|_| next(&mut capture).data[14]).collect();
    assert_eq!((kept, capture.lost()), (vec![0, 1, 2, 3], 6));
    a.send(&broadcast(A, 99));
    assert_eq!(next(&mut capture).lost_before, 6);
}

#[test]
fn nonsense_is_refused() {
    let lab = Lab::new(&segments([("lan", segment("10.0.0.0/24"))]), &[]);
    let refused = |segment, spec| wait(lab.wire.capture(segment, spec)).unwrap_err().to_string();
    assert!(refused("wan", CaptureSpec::default()).contains("\"wan\""));
    for spec in [
        CaptureSpec { snaplen: 0, ..CaptureSpec::default() },
        CaptureSpec { count: Some(0), ..CaptureSpec::default() },
        CaptureSpec { buffer: 0, ..CaptureSpec::default() },
        CaptureSpec { buffer: usize::MAX, ..CaptureSpec::default() },
    ] {
        assert!(refused("lan", spec).contains("a capture needs"));
    }
    let endless = CaptureSpec { duration: Some(Duration::MAX), ..CaptureSpec::default() };
    assert!(wait(lab.wire.capture("lan", endless)).is_ok());
}

/// A pcapng block by the letter of the format: type, body.
fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let word = |bytes: &[u8], at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut blocks = Vec::new();
    while !file.is_empty() {
        let len = word(file, 4) as usize;
        assert_eq!(word(file, len - 4) as usize, len);
        blocks.push((word(file, 0), file[8..len - 4].to_vec()));
        file = &file[len..];
    }
    blocks
}

#[test]
fn a_file_says_port_direction_time_and_fate() {
    let (lab, mut a, mut b, _c) = Lab::three(Segment { port_security: true, ..segment("10.0.0.0/24") });
    let spec = CaptureSpec { count: Some(3), snaplen: 40, ..CaptureSpec::default() };
    let mut capture = wait(lab.wire.capture("lan", spec)).unwrap();
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    a.send(&broadcast(A, 1));
    assert_eq!(b.recv(), broadcast(A, 1));
    b.send(&broadcast(FOREIGN, 2));
    b.send(&broadcast(B, 3));
    let mut file = PcapngWriter::new(Vec::new(), capture.segment(), capture.snaplen()).unwrap();
    for frame in all(&mut capture) {
        file.write(&frame).unwrap();
    }
    let file = file.finish().unwrap();
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();

    let mut reader = PcapNgReader::new(&file[..]).unwrap();
    let (mut names, mut packets) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.unwrap().0 {
            Block::InterfaceDescription(port) => {
                assert_eq!((port.snaplen, port.ts_resolution().to_u8()), (40, 9));
                names.extend(port.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                }));
            }
            Block::EnhancedPacket(packet) => {
                assert!(packet.timestamp >= before && packet.timestamp <= after);
                assert!(packet.options.contains(&EnhancedPacketOption::Flags(1)));
                let comment = packet.options.iter().find_map(|option| match option {
                    EnhancedPacketOption::Common(CommonOption::Comment(text)) => Some(text.to_string()),
                    _ => None,
                });
                assert_eq!((packet.data.len(), packet.original_len), (40, 60));
                packets.push((packet.interface_id, packet.data[14], comment));
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(names, ["a", "b"]);
    let dropped = "dropped at b: port security: source MAC is not the NIC's own".to_string();
    assert_eq!(packets, [(0, 1, None), (1, 2, Some(dropped)), (1, 3, None)]);

    // By the letter, since the reader could share a fault with the writer (pcap-file 2.0 wrote wrong timestamps).
    let raw = blocks(&file);
    let kinds: Vec<u32> = raw.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [0x0a0d_0d0a, 1, 6, 1, 6, 6]);
    let half = |at: usize| u64::from(u32::from_ne_bytes(raw[2].1[at..at + 4].try_into().unwrap()));
    let nanos = half(4) << 32 | half(8);
    assert!((before.as_nanos()..=after.as_nanos()).contains(&u128::from(nanos)));
    let [low, high] = 9u16.to_ne_bytes();
    assert!(
        raw[1]
            .1
            .windows(5)
            .any(|option| option == [low, high, 1u16.to_ne_bytes()[0], 1u16.to_ne_bytes()[1], 9])
    );
}
