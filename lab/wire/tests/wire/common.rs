//! Real sockets to a real wire, and frames for them.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use indexmap::IndexMap;
use ipnet::IpNet;
use labctl_model::{OfFamily, PerFamily, first_host, lab::Segment};
use labctl_wire::{PortSpec, Transport, Wire};
use tempfile::TempDir;
use vxlan::{MacAddr, VlanTag, proto::ethertype, reply};

/// Long enough that only a fault exceeds it.
pub const SOON: Duration = Duration::from_secs(10);
/// The NIC of a host.
pub const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
pub const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
pub const C: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xc]);
/// A container's, behind one of these.
pub const FOREIGN: MacAddr = MacAddr([2, 0x42, 0, 0, 0, 1]);

pub fn segment(subnet: &str) -> Segment {
    Segment {
        subnet: subnet.split(' ').map(|net| net.parse::<IpNet>().unwrap()).collect(),
        gateway: PerFamily::default(),
        mtu: 1500,
        port_security: false,
        outside: vec![],
        block: vec![],
        path_mtu: None,
        ra: None,
        mld: false,
    }
}

/// With the first address as gateway, and everything outside.
pub fn routed(subnet: &str) -> Segment {
    let plain = segment(subnet);
    let gateway: PerFamily<_> = plain.subnet.iter().filter_map(first_host).collect();
    let outside = gateway.iter().map(|address| address.family().everything()).collect();
    Segment { gateway, outside, ..plain }
}

pub fn segments<const N: usize>(all: [(&str, Segment); N]) -> IndexMap<String, Segment> {
    all.into_iter().map(|(name, segment)| (name.into(), segment)).collect()
}

/// A wire and the folder of its sockets. Ports are called after the last byte of their MAC: `a`, `b`, `c`.
pub struct Lab {
    pub wire: Wire,
    pub folder: TempDir,
}

pub fn path(folder: &TempDir, port: &str) -> PathBuf {
    folder.path().join(format!("{port}.sock"))
}

pub fn spec(folder: &TempDir, port: &str, segment: &str, mac: MacAddr) -> PortSpec {
    PortSpec {
        name: port.into(),
        segment: segment.into(),
        mac: mac.octets(),
        transport: Transport::QemuStream { listen: path(folder, port) },
    }
}

impl Lab {
    pub fn new(segments: &IndexMap<String, Segment>, ports: &[(&str, &str, MacAddr)]) -> Self {
        let folder = TempDir::new().unwrap();
        let specs = ports.iter().map(|(name, segment, mac)| spec(&folder, name, segment, *mac)).collect();
        let wire = Wire::start(segments, specs).unwrap();
        Self { wire, folder }
    }

    /// Ports a, b and c on one segment, all connected.
    pub fn three(lan: Segment) -> (Self, Client, Client, Client) {
        let lab = Self::new(&segments([("lan", lan)]), &[("a", "lan", A), ("b", "lan", B), ("c", "lan", C)]);
        let (a, b, c) = (lab.connect("a"), lab.connect("b"), lab.connect("c"));
        (lab, a, b, c)
    }

    /// Returns once the wire knows of it, so that no frame from elsewhere comes too early.
    pub fn connect(&self, port: &str) -> Client {
        let connections = || wait(self.wire.stats()).unwrap().ports[port].connections;
        let before = connections();
        let client = Client(UnixStream::connect(path(&self.folder, port)).unwrap());
        until(|| connections() > before);
        client
    }

    pub fn drops(&self, port: &str, reason: labctl_wire::DropReason) -> u64 {
        wait(self.wire.stats()).unwrap().ports[port].drops.get(&reason).copied().unwrap_or(0)
    }
}

/// Waits for an answer of the wire.
pub fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(answer)
}

/// The next frame of a capture; `None` once it has ended.
pub fn captured(capture: &mut labctl_wire::Capture) -> Option<labctl_wire::CapturedFrame> {
    wait(async { tokio::time::timeout(SOON, capture.next()).await }).expect("no frame")
}

/// All frames of a capture until it ends.
pub fn all(capture: &mut labctl_wire::Capture) -> impl Iterator<Item = labctl_wire::CapturedFrame> {
    std::iter::from_fn(|| captured(capture))
}

/// Waits for what the wire's thread will do soon.
pub fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "in vain");
        std::thread::yield_now();
    }
}

/// The other end of a port, as QEMU is.
pub struct Client(pub UnixStream);

impl Client {
    pub fn send(&mut self, frame: &[u8]) {
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        self.0.write_all(&bytes).unwrap();
    }

    /// The next frame; `None` once the wire has closed the connection.
    pub fn try_recv(&mut self) -> Option<Vec<u8>> {
        self.0.set_read_timeout(Some(SOON)).unwrap();
        let mut prefix = [0; 4];
        match self.0.read_exact(&mut prefix) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return None;
            }
            Err(error) => panic!("no frame: {error}"),
        }
        let mut frame = vec![0; u32::from_be_bytes(prefix) as usize];
        self.0.read_exact(&mut frame).unwrap();
        Some(frame)
    }

    pub fn recv(&mut self) -> Vec<u8> {
        self.try_recv().expect("the wire closed the connection")
    }
}

/// Some frame from one to another; `mark` tells it from others.
pub fn frame(src: MacAddr, dst: MacAddr, mark: u8) -> Vec<u8> {
    reply::ethernet(dst, src, None, ethertype::EXPERIMENTAL, &[mark; 46])
}

pub fn tagged(src: MacAddr, dst: MacAddr, vid: u16, mark: u8) -> Vec<u8> {
    let tag = VlanTag { tpid: ethertype::DOT1Q, pcp: 0, dei: false, vid };
    reply::ethernet(dst, src, Some(tag), ethertype::EXPERIMENTAL, &[mark; 46])
}

pub fn broadcast(src: MacAddr, mark: u8) -> Vec<u8> {
    frame(src, MacAddr::BROADCAST, mark)
}

pub fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}
