//! A network namespace for each test.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use vxlan::port::{Batch, PacketPort, Ready, index_of, wait};

/// As long as anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `ip` with these words, in this thread's namespace.
pub fn ip(words: &str) {
    run("ip", words);
}

pub fn run(program: &str, words: &str) {
    let mut command = Command::new(program);
    let status = command.args(words.split_whitespace()).status();
    let status = status.unwrap_or_else(|error| panic!("{program}: {error}; these tests need it"));
    assert!(status.success(), "{program} {words}: {status}");
}

/// Moves this thread into a fresh namespace with two ends of a cable, `a` and `b`, and nothing that speaks unasked.
pub fn cable() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace can be made: these tests need root");
    second_cable('a', 'b');
}

/// A further one, into this thread's namespace, that is up when this returns.
pub fn second_cable(one: char, other: char) {
    let mac = |end: char| format!("address 02:00:00:00:00:0{end}");
    ip(&format!("link add name {one} {} type veth peer name {other} {}", mac(one), mac(other)));
    for end in [one, other] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1").unwrap();
        ip(&format!("link set dev {end} up"));
    }
    // Until the kernel has noticed that both ends are up, it drops what is sent.
    let deadline = Instant::now() + PATIENCE;
    let up = |end: char| {
        let shown =
            Command::new("ip").args(["-o", "link", "show", "dev", &end.to_string()]).output().unwrap();
        String::from_utf8_lossy(&shown.stdout).contains("state UP")
    };
    while !up(one) || !up(other) {
        assert!(Instant::now() < deadline, "{one} and {other} do not come up");
    }
}

pub fn open(name: &str) -> PacketPort {
    PacketPort::open(index_of(name).unwrap()).unwrap()
}

/// Frames that `port` receives until there are `count`.
pub fn receive(port: &PacketPort, count: usize) -> Vec<Vec<u8>> {
    let (mut batch, mut seen) = (Batch::new(64, 2048), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} frames arrived", seen.len());
        if wait(port, Ready::Receive, Duration::from_millis(100)).unwrap() {
            port.recv_batch(&mut batch).unwrap();
            seen.extend(batch.iter().map(|received| received.frame().into_owned()));
        }
    }
    seen
}

/// A process that keeps a second namespace, and ends with the test.
pub struct Other(Child);

impl Other {
    pub fn new() -> Self {
        let child = Command::new("unshare").args(["-n", "sleep", "60"]).spawn().expect("unshare runs");
        let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let deadline = Instant::now() + PATIENCE;
        while fs::read_link(format!("/proc/{}/ns/net", child.id())).unwrap() == own {
            assert!(Instant::now() < deadline, "the other namespace is made");
            std::thread::yield_now();
        }
        Self(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn ip(&self, words: &str) {
        run("nsenter", &format!("-t {} -n ip {words}", self.pid()));
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
