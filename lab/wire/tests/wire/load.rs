//! Much traffic, slow ports, and the life of a wire.

use std::{
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use crate::common::*;
use labctl_wire::{DropReason, Wire};
use tempfile::TempDir;

/// Frames of about 1,400 bytes with a number each.
fn numbered(count: u32) -> Vec<u8> {
    let mut stream = Vec::new();
    for n in 0..count {
        let mut bytes = frame(A, B, 0);
        bytes.resize(1000 + (n % 400) as usize, 7);
        bytes[14..18].copy_from_slice(&n.to_be_bytes());
        stream.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        stream.extend_from_slice(&bytes);
    }
    stream
}

fn number(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[14..18].try_into().unwrap())
}

#[test]
fn frames_stay_in_order_and_none_is_lost_when_the_receiver_is_the_slower_one() {
    const COUNT: u32 = 10_000;
    let (lab, mut a, mut b, _c) = Lab::three(segment("10.0.0.0/24"));
    b.send(&broadcast(B, 1));
    assert_eq!(a.recv(), broadcast(B, 1));
    let stream = numbered(COUNT);
    assert!(stream.len() > 4 * 2 * 1024 * 1024, "several times what the port's queue holds");
    std::thread::scope(|scope| {
        // Small writes, so that frames are cut anywhere.
        let sender = &mut a;
        scope.spawn(move || stream.chunks(30_011).for_each(|chunk| sender.0.write_all(chunk).unwrap()));
        for n in 0..COUNT {
            assert_eq!(number(&b.recv()), n);
            if n % 500 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    assert_eq!(lab.drops("b", DropReason::QueueFull), 0);
}

#[test]
fn a_port_that_reads_nothing_stalls_nobody_and_loses_only_its_own() {
    let (lab, mut a, mut b, mut c) = Lab::three(segment("10.0.0.0/24"));
    b.send(&broadcast(B, 1));
    c.send(&broadcast(C, 1));
    a.recv();
    a.recv();
    b.recv();
    // 12 MB for b, who never reads. The wire takes them all.
    let began = Instant::now();
    a.0.write_all(&numbered(10_000)).unwrap();
    a.send(&frame(A, C, 2));
    assert_eq!(c.recv(), broadcast(B, 1));
    assert_eq!(c.recv(), frame(A, C, 2));
    assert!(began.elapsed() < Duration::from_secs(5), "waited for b: {:?}", began.elapsed());
    let lost = lab.drops("b", DropReason::QueueFull);
    assert!(lost > 5_000, "{lost}");
    // What is left is the beginning, and in order; then b is served again.
    let kept: Vec<u32> = (lost..10_000).map(|_| number(&b.recv())).collect();
    assert!(kept.is_sorted() && kept[..1000].iter().copied().eq(0..1000));
    a.send(&frame(A, B, 3));
    assert_eq!(b.recv(), frame(A, B, 3));
}

#[test]
fn many_ports_at_once() {
    let names: Vec<String> = (0..32).map(|n| format!("p{n}")).collect();
    let mac = |n: usize| vxlan::MacAddr([2, 1, 0, 0, 0, n as u8]);
    let ports: Vec<_> = names.iter().enumerate().map(|(n, name)| (&**name, "lan", mac(n))).collect();
    let lab = Lab::new(&segments([("lan", segment("10.0.0.0/24"))]), &ports);
    let mut clients: Vec<_> = names.iter().map(|name| lab.connect(name)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&broadcast(mac(n), n as u8));
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let mut from: Vec<u8> = (0..31).map(|_| client.recv()[14]).collect();
        from.sort_unstable();
        assert_eq!(from, (0..32).filter(|other| usize::from(*other) != n).collect::<Vec<u8>>());
    }
}

#[test]
fn sockets_are_the_owners_alone_and_go_with_the_wire() {
    let (lab, mut a, _b, _c) = Lab::three(segment("10.0.0.0/24"));
    let mode = std::fs::metadata(path(&lab.folder, "a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    lab.wire.stop().unwrap();
    assert_eq!(std::fs::read_dir(lab.folder.path()).unwrap().count(), 0);
    assert_eq!(a.0.read(&mut [0; 1]).unwrap(), 0, "connections are closed");
    assert!(wait(lab.wire.stats()).unwrap_err().to_string().contains("stopped"));
    lab.wire.stop().unwrap();

    let Lab { wire, folder } = Lab::three(segment("10.0.0.0/24")).0;
    drop(wire);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let lan = segments([("lan", segment("10.0.0.0/24"))]);
    let fails = |second| {
        let error = Wire::start(&lan, vec![spec(&folder, "a", "lan", A), second]).unwrap_err().to_string();
        assert!(!path(&folder, "a").exists(), "{error}");
        error
    };
    assert!(fails(spec(&folder, "b", "wan", B)).contains("no segment \"wan\""));
    let mut twice = spec(&folder, "a", "lan", B);
    twice.transport = labctl_wire::Transport::QemuStream { listen: path(&folder, "other") };
    assert!(fails(twice).contains("already has a port \"a\""));
    let error = fails(spec(&folder, &"x".repeat(107), "lan", B));
    assert!(error.contains("at most 107") && error.contains("hint"), "{error}");
    std::fs::write(path(&folder, "b"), "").unwrap();
    let error = fails(spec(&folder, "b", "lan", B));
    assert!(error.contains("exists already") && error.contains("b.sock"), "{error}");
    assert!(path(&folder, "b").exists(), "what was there before is not ours to remove");
    assert!(fails(spec(&folder, "no/such", "lan", B)).contains("cannot listen on"));
}

#[test]
fn the_longest_path_that_a_socket_can_have_works() {
    let folder = TempDir::new().unwrap();
    let fill = 107 - folder.path().as_os_str().len() - "/.sock".len();
    let name = "x".repeat(fill);
    let lan = segments([("lan", segment("10.0.0.0/24"))]);
    let wire = Wire::start(&lan, vec![spec(&folder, &name, "lan", A)]).unwrap();
    assert!(std::os::unix::net::UnixStream::connect(path(&folder, &name)).is_ok());
    drop(wire);
}
