//! Sending and receiving over a veth, against trafgen, in a network namespace of our own.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use vxlan::port::{PacketPort, Ready, RxRing, RxRingSize, Stats, TxRing, index_of, wait};
use vxlan::{Field, FrameTemplate, Stack};

use super::FRAME;
use crate::measure::{RUNS, alone, versus};
use crate::need::need;

/// How long each run sends.
const TIME: Duration = Duration::from_secs(2);
/// Frames of a run of trafgen, about as long.
const TRAFGEN_FRAMES: u32 = 1_500_000;

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split_whitespace()).status().expect("ip runs");
    assert!(status.success(), "ip {words}");
}

fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).expect("a small number");
    // With one core alone there is nothing to choose.
    _ = sched_setaffinity(Pid::from_raw(0), &cores);
}

/// Frames that `interface` of this thread's namespace received.
fn received(interface: &str) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/dev").expect("proc is mounted");
    let line = text.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
    line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok()).expect("the interface counts")
}

/// The frame, and its source port, which is to vary.
fn template() -> (FrameTemplate, Field) {
    let mut template =
        FrameTemplate::new(&FRAME.parse().expect("the frame is one")).expect("the frame builds");
    let port = template.field("udp.sport").expect("the frame has one");
    (template, port)
}

/// What the peer received a second while `send`, called again and again, sent.
fn rate(mut send: impl FnMut()) -> f64 {
    let (before, began) = (received("b"), Instant::now());
    while began.elapsed() < TIME {
        send();
    }
    let passed = began.elapsed().as_secs_f64();
    (received("b") - before) as f64 / passed
}

/// Seconds that this thread spent in its own code and in the kernel.
fn times() -> (f64, f64) {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("a thread's usage is known");
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    (seconds(usage.user_time()), seconds(usage.system_time()))
}

fn by_ring(interface: &str) -> impl FnMut() -> u64 {
    let mut ring = TxRing::open(index_of(interface).expect("there is one")).expect("the kernel has AF_XDP");
    let (mut template, port) = template();
    let mut number = 0u16;
    move || {
        let sent = ring.send_with(64, |room| {
            number = number.wrapping_add(1);
            template.set(port, number).expect("a port");
            let frame = template.frame();
            room[..frame.len()].copy_from_slice(frame);
            frame.len()
        });
        sent.expect("the ring sends") as u64
    }
}

fn by_socket() -> impl FnMut() {
    let port = PacketPort::send_only(index_of("a").expect("there is one")).expect("a packet socket");
    let (template, field) = template();
    let mut templates = vec![template; 64];
    let mut number = 0u16;
    move || {
        let frames: Vec<&[u8]> = templates
            .iter_mut()
            .map(|template| {
                number = number.wrapping_add(1);
                template.set(field, number).expect("a port");
                template.frame()
            })
            .collect();
        // What does not fit now is not counted by the peer either.
        _ = port.send_batch(&frames);
    }
}

/// What trafgen says that it sent a second, of the same frame, ports counting up, on the first core.
fn trafgen(dir: &tempfile::TempDir) -> f64 {
    let bytes = FRAME.parse::<Stack>().expect("the frame is one").build().expect("the frame builds");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:#04x}, ")).collect::<String>();
    let config = format!("{{ {} dinc(1, 255), dinc(1, 255), {} }}", hex(&bytes[..34]), hex(&bytes[36..]));
    let file = dir.path().join("frame.cfg");
    fs::write(&file, config).expect("a temporary folder can be written to");
    let frames = TRAFGEN_FRAMES.to_string();
    let output = Command::new("trafgen")
        .args(["--cpus", "1", "--no-sock-mem", "--out", "a", "--num", &frames, "--conf"])
        .arg(file)
        .output()
        .expect("trafgen runs");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // "2 sec, 308140 usec on CPU0 (1500000 packets)"
    let line =
        said.lines().find(|line| line.contains("usec on CPU")).unwrap_or_else(|| panic!("trafgen: {said}"));
    let numbers: Vec<f64> =
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    let [seconds, micros, _core, packets] = numbers[..] else { panic!("trafgen: {line}") };
    packets / (seconds + micros / 1e6)
}

/// Sends flat out while the other core counts; frames sent a second, and what was counted.
fn send_and_count() -> (f64, u64, Stats, u64) {
    let size = RxRingSize { block: 1 << 20, blocks: 64, hold_ms: 2 };
    let mut ring = RxRing::open(index_of("b").expect("there is one"), size).expect("a ring");
    let before = received("b");
    let done = AtomicBool::new(false);
    let (seconds, counted, stats) = std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            pin(1);
            let mut counted = 0u64;
            loop {
                let over = done.load(Ordering::Acquire);
                while let Some(mut block) = ring.block().expect("the ring makes sense") {
                    // Each is looked at: that is what receiving is for.
                    while let Some(frame) = block.next_frame().expect("the ring makes sense") {
                        counted += u64::from(frame.bytes().len() == frame.original_len());
                    }
                }
                if over {
                    return (counted, ring.stats().expect("the socket counts"));
                }
                wait(&ring, Ready::Receive, Duration::from_millis(20)).expect("the socket can be awaited");
            }
        });
        pin(0);
        let mut send = by_ring("a");
        let began = Instant::now();
        while began.elapsed() < TIME {
            send();
        }
        let seconds = began.elapsed().as_secs_f64();
        // Longer than a block is held.
        std::thread::sleep(Duration::from_millis(100));
        done.store(true, Ordering::Release);
        let (counted, stats) = counting.join().expect("the counter ends");
        (seconds, counted, stats)
    });
    let sent = received("b") - before;
    (sent as f64 / seconds, sent, stats, counted)
}

/// Frames a second over a veth with varying source port, and received at that rate.
pub fn cable() {
    need("trafgen", "command -v trafgen", "netsniff-ng");
    // The namespace goes with the thread.
    std::thread::spawn(in_namespace).join().expect("the figures are taken");
}

fn in_namespace() {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        eprintln!("no network namespace can be made: {error}; hint: this needs root");
        std::process::exit(3);
    }
    ip("link add name a address 02:00:00:00:00:0a type veth peer name b address 02:00:00:00:00:99");
    for end in ["a", "b"] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1").expect("own namespace");
        ip(&format!("link set dev {end} up"));
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    pin(0);
    let (mut ours, mut sockets, mut theirs, mut kernel_shares) = (vec![], vec![], vec![], vec![]);
    for _ in 0..RUNS {
        theirs.push(trafgen(&dir));
        let (mut ring, before) = (by_ring("a"), times());
        ours.push(rate(|| {
            ring();
        }));
        let (user, system) = times();
        kernel_shares.push(100.0 * (system - before.1) / (user - before.0 + system - before.1));
        sockets.push(rate(by_socket()));
    }
    versus("sending over a veth, source ports varying: TxRing / trafgen", "frames/s", &ours, &theirs);
    versus("sending over a veth, source ports varying: PacketPort / trafgen", "frames/s", &sockets, &theirs);
    alone("time of the sending core that the kernel takes, TxRing", "%", &kernel_shares);

    let (mut rates, mut counts) = (vec![], vec![]);
    for _ in 0..RUNS {
        let (rate, sent, stats, counted) = send_and_count();
        rates.push(rate);
        counts.push(counted as f64 / sent as f64);
        println!("    sent {sent}, counted {counted}, dropped {}", stats.dropped);
    }
    versus("sending while RxRing counts on the other core / sending alone", "frames/s", &rates, &ours);
    versus("frames counted / frames sent", "", &counts, &[1.0; RUNS]);
}
