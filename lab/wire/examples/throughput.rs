//! Frames a second between two ports of a wire, over sockets as QEMU uses them.
//!
//! `cargo run --release -p labctl-wire --example throughput [FRAME_BYTES] [SECONDS]`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::{
    error::Error,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use indexmap::IndexMap;
use labctl_model::lab::Segment;
use labctl_wire::{DropReason, MAX_FRAME_LEN, PortSpec, Transport, Wire};

const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let len: usize = arguments.next().map_or(Ok(1514), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let len = len.clamp(18, MAX_FRAME_LEN);
    let lan = Segment {
        subnet: "10.0.0.0/24".parse::<ipnet::IpNet>()?.into(),
        gateway: Default::default(),
        mtu: 9000,
        port_security: false,
        outside: vec![],
        block: vec![],
        path_mtu: None,
        ra: None,
        mld: false,
    };
    let (mut a, mut b, wire) = {
        let (a, a2) = UnixStream::pair()?;
        let (b, b2) = UnixStream::pair()?;
        let port = |name: &str, mac, stream| PortSpec {
            name: name.into(),
            segment: "lan".into(),
            mac,
            transport: Transport::Connected(stream),
        };
        let segments = IndexMap::from([("lan".into(), lan)]);
        (a, b, Wire::start(&segments, vec![port("a", A, a2), port("b", B, b2)])?)
    };

    println!("round trip of {len} bytes: {:?}", round_trip(&mut a, &mut b, len)?);
    for (name, batch) in [("one frame a write", 1), ("32 frames a write", 32)] {
        let before = wire.stats().await?;
        let (sent, received) = flood(&mut a, &mut b, len, batch, Duration::from_secs(seconds))?;
        let rate = received as f64 / seconds as f64;
        println!(
            "{name}: {rate:.0} frames/s of {len} bytes, {:.2} Gbit/s; sent {sent}, received {received}, queue full {}",
            rate * len as f64 * 8.0 / 1e9,
            full(&wire.stats().await?) - full(&before),
        );
    }
    wire.stop()?;
    Ok(())
}

fn full(stats: &labctl_wire::Stats) -> u64 {
    stats.ports.values().filter_map(|port| port.drops.get(&DropReason::QueueFull)).sum()
}

fn framed(src: [u8; 6], dst: [u8; 6], len: usize) -> Vec<u8> {
    let mut bytes = (len as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&dst);
    bytes.extend_from_slice(&src);
    bytes.extend_from_slice(&[0x88, 0xb5]);
    bytes.resize(4 + len, 0);
    bytes
}

/// The median of a thousand.
fn round_trip(a: &mut UnixStream, b: &mut UnixStream, len: usize) -> Result<Duration, Box<dyn Error>> {
    let (there, back) = (framed(A, B, len), framed(B, A, len));
    let mut buffer = vec![0; 4 + len];
    let mut times = Vec::new();
    for _ in 0..1000 {
        let began = Instant::now();
        a.write_all(&there)?;
        b.read_exact(&mut buffer)?;
        b.write_all(&back)?;
        a.read_exact(&mut buffer)?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// Frames sent, and received until the sender's end plus a moment.
fn flood(
    a: &mut UnixStream,
    b: &mut UnixStream,
    len: usize,
    batch: usize,
    time: Duration,
) -> Result<(u64, u64), Box<dyn Error>> {
    let bytes = framed(A, B, len).repeat(batch);
    b.set_read_timeout(Some(Duration::from_millis(200)))?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| -> std::io::Result<u64> {
            let (began, mut sent) = (Instant::now(), 0);
            while began.elapsed() < time {
                a.write_all(&bytes)?;
                sent += batch as u64;
            }
            Ok(sent)
        });
        let mut buffer = vec![0; 256 * 1024];
        let mut received = 0;
        loop {
            match b.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => received += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let sent = sender.join().map_err(|_| "the sender panicked")??;
        b.set_read_timeout(None)?;
        Ok((sent, received / (4 + len) as u64))
    })
}
