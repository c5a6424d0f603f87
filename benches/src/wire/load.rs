//! What is asked of a switch. Both get the same, from the same program.

use std::{
    io::{ErrorKind, Read as _},
    net::{SocketAddrV4, UdpSocket},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use super::{FAR, NEAR, netns::Namespace};
use crate::measure::median;

/// How long datagrams are sent, and TCP.
const TIME: Duration = Duration::from_secs(2);
const TCP_SECONDS: &str = "3";
/// Bytes of a datagram.
const DATAGRAM: usize = 64;
const PORT: u16 = 9999;
/// One that takes longer is lost.
const LOST: Duration = Duration::from_secs(1);

/// ARP is asked and answered, and the interfaces have nothing more to say.
pub fn settle(near: &Namespace) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while pings(near, 1, Duration::ZERO).is_empty() {
        assert!(Instant::now() < deadline, "the far end does not answer");
    }
    std::thread::sleep(Duration::from_millis(500));
}

/// Medians of the round trips of pings that the far kernel answers, µs: each sent at the answer to the one before, and
/// 10 ms after it, when everybody sleeps.
pub fn round_trips(near: &Namespace) -> (f64, f64) {
    (round_trip(near, 5000, Duration::ZERO), round_trip(near, 100, Duration::from_millis(10)))
}

fn round_trip(near: &Namespace, count: u16, pause: Duration) -> f64 {
    let times = pings(near, count, pause);
    assert!(times.len() >= usize::from(count) * 99 / 100, "of {count} pings {} were answered", times.len());
    median(times) * 1e6
}

/// The times of those that were answered, s.
fn pings(near: &Namespace, count: u16, pause: Duration) -> Vec<f64> {
    near.inside(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).expect("root may have one");
        socket.set_read_timeout(Some(LOST)).expect("a socket takes a timeout");
        socket.connect(&SocketAddrV4::new(FAR, 0).into()).expect("there is a route");
        let mut times = Vec::new();
        for number in 0..count {
            times.extend(ping(&socket, number));
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        times
    })
}

/// One echo request of 56 bytes, as ping's, and its reply (RFC 792).
fn ping(socket: &Socket, number: u16) -> Option<f64> {
    let id = std::process::id() as u16;
    let mut request = [0; 64];
    request[0] = 8;
    request[4..6].copy_from_slice(&id.to_be_bytes());
    request[6..8].copy_from_slice(&number.to_be_bytes());
    let sum = vxlan::checksum::of(&request);
    request[2..4].copy_from_slice(&sum.to_be_bytes());
    let began = Instant::now();
    socket.send(&request).expect("the request is sent");
    let mut packet = [0; 128];
    loop {
        let len = { socket }.read(&mut packet).ok()?;
        // Behind the IP header: the reply's type, the identifier, the number.
        let reply = packet.get(20..len)?;
        if reply.first() == Some(&0) && reply.get(4..8) == Some(&request[4..8]) {
            return Some(began.elapsed().as_secs_f64());
        }
    }
}

/// Datagrams that were sent and received a second, while one thread sends as fast as its kernel takes them.
pub fn flood(near: &Namespace, far: &Namespace) -> (f64, f64) {
    let socket = far.inside(|| UdpSocket::bind((FAR, PORT))).expect("the port is free");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket takes a timeout");
    let out = near.inside(|| UdpSocket::bind((NEAR, PORT))).expect("the port is free");
    out.connect((FAR, PORT)).expect("there is a route");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let counter = scope.spawn(|| count(&socket, &over));
        let began = Instant::now();
        let mut sent = 0u64;
        while began.elapsed() < TIME {
            for _ in 0..64 {
                // A full queue of the TAP drops in silence; ENOBUFS would be another way to say so.
                sent += u64::from(out.send(&[7; DATAGRAM]).is_ok());
            }
        }
        let passed = began.elapsed().as_secs_f64();
        over.store(true, Ordering::Release);
        let received = counter.join().expect("the counter ends");
        (sent as f64 / passed, received as f64 / passed)
    })
}

/// Counts datagrams until none comes any more.
fn count(socket: &UdpSocket, over: &AtomicBool) -> u64 {
    let mut received = 0;
    let mut datagram = [0; 2 * DATAGRAM];
    loop {
        match socket.recv(&mut datagram) {
            Ok(len) => received += u64::from(len == DATAGRAM),
            Err(error) if error.kind() == ErrorKind::WouldBlock && over.load(Ordering::Acquire) => {
                return received;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("the socket fails: {error}"),
        }
    }
}

/// TCP by iperf3, Gbit/s received.
pub fn tcp(near: &Namespace, far: &Namespace) -> f64 {
    let mut server = far.inside(|| {
        let mut iperf = Command::new("iperf3");
        iperf.args(["--server", "--one-off"]).stdout(Stdio::null()).spawn().expect("iperf3 runs")
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    let report = loop {
        let client = near.inside(|| {
            let mut iperf = Command::new("iperf3");
            iperf
                .args(["--client", &FAR.to_string(), "--time", TCP_SECONDS, "--json"])
                .output()
                .expect("iperf3 runs")
        });
        let report: Value = serde_json::from_slice(&client.stdout).expect("iperf3 speaks JSON");
        if report["error"].is_null() {
            break report;
        }
        // The server is not there yet.
        assert!(Instant::now() < deadline, "iperf3: {}", report["error"]);
        std::thread::sleep(Duration::from_millis(20));
    };
    server.wait().expect("the server ends");
    report["end"]["sum_received"]["bits_per_second"].as_f64().expect("iperf3 reports") / 1e9
}
