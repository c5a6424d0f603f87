//! Two TAPs, `near` and `far`, and a switch between them: the wire as the `dind` runtime has it, or `vde_switch`.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use labctl_agent::node::tap;
use labctl_model::lab::Segment;
use labctl_wire::{PortSpec, Transport, Wire};
use tempfile::TempDir;

use super::netns::{Namespace, ip};

/// How long an idle switch is looked at.
const IDLE: Duration = Duration::from_secs(1);

/// A running switch.
pub enum Switch {
    /// The wire, a thread of this process; the connections by which its TAPs were handed over; their sockets' folder.
    Ours { _wire: Wire, _taps: Vec<UnixStream>, _dir: TempDir },
    /// A process, and its folder.
    Vde { child: Child, _dir: TempDir },
    /// None at all: a veth, which shows what the kernels take by themselves.
    Cable,
}

impl Switch {
    /// Seconds of processor time that it takes in a second in which nobody sends.
    pub fn idle(&self) -> f64 {
        let file = match self {
            Self::Cable => return 0.0,
            Self::Ours { .. } => thread_named("wire"),
            Self::Vde { child, .. } => PathBuf::from(format!("/proc/{}/schedstat", child.id())),
        };
        // Nanoseconds on a processor come first (proc(5)).
        let ran = || -> f64 {
            let text = fs::read_to_string(&file).expect("the switch runs");
            text.split_whitespace().next().and_then(|ns| ns.parse().ok()).expect("schedstat is numbers")
        };
        let before = ran();
        std::thread::sleep(IDLE);
        (ran() - before) / 1e9 / IDLE.as_secs_f64()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if let Self::Vde { child, .. } = self {
            // It may have ended by itself.
            _ = child.kill();
            _ = child.wait();
        }
    }
}

/// The schedstat of this process's newest thread of that name.
fn thread_named(name: &str) -> PathBuf {
    let tasks = fs::read_dir("/proc/self/task").expect("proc is mounted").filter_map(Result::ok);
    let named = tasks
        .map(|t| t.path())
        .filter(|t| fs::read_to_string(t.join("comm")).is_ok_and(|c| c.trim() == name));
    named.max().expect("the wire has a thread").join("schedstat")
}

/// TAPs as the agent of a node makes them, handed over to a wire as it hands them over.
pub fn ours(near: &Namespace, far: &Namespace) -> Switch {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let segment = Segment {
        subnet: ["10.77.0.0/24".parse().expect("a subnet")].into_iter().collect(),
        gateway: Default::default(),
        mtu: 1500,
        port_security: false,
        outside: vec![],
        block: vec![],
        path_mtu: None,
        ra: None,
        mld: false,
    };
    let path = |name: &str| dir.path().join(name);
    let port = |name: &str, last: u8| PortSpec {
        name: name.into(),
        segment: "lan".into(),
        mac: [2, 0, 0, 0, 0, last],
        transport: Transport::Tap { listen: path(name) },
    };
    let segments = [("lan".to_owned(), segment)].into_iter().collect();
    let wire = Wire::start(&segments, vec![port("near", 1), port("far", 2)]).expect("the wire starts");
    let taps = [("near", near), ("far", far)]
        .map(|(name, namespace)| {
            let tap = namespace.inside(|| tap::make(name)).expect("a TAP can be made");
            tap::hand_over(tap, &path(name)).expect("the wire takes a TAP")
        })
        .into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    wait("the wire has its TAPs", || {
        let stats = runtime.block_on(wire.stats()).expect("the wire runs");
        stats.ports.values().all(|port| port.connected)
    });
    Switch::Ours { _wire: wire, _taps: taps, _dir: dir }
}

/// Both TAPs opened by the switch itself, which is its fastest way; then one is moved.
pub fn vde(near: &Namespace, far: &Namespace) -> Switch {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let child = near.inside(|| {
        Command::new("vde_switch")
            .arg("-sock")
            .arg(dir.path().join("ctl"))
            .args(["-tap", "near", "-tap", "far"])
            // It ends when its console does.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("vde_switch runs")
    });
    wait("vde_switch has its TAPs", || {
        near.inside(|| fs::read_to_string("/proc/thread-self/net/dev"))
            .is_ok_and(|text| text.contains("far:"))
    });
    near.inside(|| ip(&format!("link set dev far netns {}", far.path())));
    Switch::Vde { child, _dir: dir }
}

/// A veth from one to the other.
pub fn cable(near: &Namespace, far: &Namespace) -> Switch {
    near.inside(|| ip(&format!("link add near type veth peer name far netns {}", far.path())));
    Switch::Cable
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
