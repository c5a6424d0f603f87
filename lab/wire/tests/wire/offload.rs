//! TAPs as the agent of a node makes them, with kernels at their other ends that leave checksums and the cutting of TCP
//! to whoever comes next. Needs root: network namespaces and TAPs are made.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    process::Command,
    sync::mpsc::channel,
    time::Duration,
};

use crate::common::*;
use labctl_agent::node::tap;
use labctl_model::lab::Segment;
use labctl_wire::{CaptureSpec, DropReason, PortSpec, Transport};
use nix::sched::{CloneFlags, setns, unshare};
use socket2::{Domain, Protocol, Socket, Type};
use vxlan::{
    EthernetFrame, Ipv4View, MacAddr, TcpView, UdpView,
    port::{PacketPort, index_of},
    proto::ethertype,
};

/// Bytes of a transfer: many of the largest frames that a kernel makes.
const MUCH: usize = 3_000_000;
const PORT: u16 = 7777;
const ETHERNET: usize = 14;

/// A network namespace with a NIC, `eth0`, that ends in the wire.
struct Node {
    namespace: File,
    address: Ipv4Addr,
    _handed_over: UnixStream,
}

fn ip(words: &str) {
    assert!(Command::new("ip").args(words.split_whitespace()).status().unwrap().success(), "ip {words}");
}

impl Node {
    fn new(lab: &Lab, port: &str, mac: MacAddr, address: &str, mtu: u16) -> Self {
        let spec = PortSpec {
            name: port.into(),
            segment: "lan".into(),
            mac: mac.octets(),
            transport: Transport::Tap { listen: path(&lab.folder, port) },
        };
        wait(lab.wire.add_port(spec)).unwrap();
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let tap = tap::make("eth0").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1").unwrap();
            ip(&format!("link set dev eth0 address {mac} mtu {mtu} up"));
            ip(&format!("address add {address}/24 broadcast + dev eth0"));
            (File::open("/proc/thread-self/ns/net").unwrap(), tap)
        };
        let (namespace, tap) = std::thread::scope(|scope| scope.spawn(make).join().unwrap());
        let handed_over = tap::hand_over(tap, &path(&lab.folder, port)).unwrap();
        until(|| wait(lab.wire.stats()).unwrap().ports[port].connected);
        Self { namespace, address: address.parse().unwrap(), _handed_over: handed_over }
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }
}

/// Ports `a` and `b`, and what their kernels believe in.
fn two(lan: Segment, mtu: u16) -> (Lab, Node, Node) {
    let lab = Lab::new(&segments([("lan", lan)]), &[]);
    let a = Node::new(&lab, "a", A, "10.0.0.1", mtu);
    let b = Node::new(&lab, "b", B, "10.0.0.2", mtu);
    (lab, a, b)
}

fn pattern() -> Vec<u8> {
    (0..MUCH).map(|n| (n / 7) as u8).collect()
}

/// Sends from one to the other by TCP; what arrived.
fn transfer(from: &Node, to: &Node) -> Vec<u8> {
    let listener = to.inside(|| TcpListener::bind((to.address, PORT)).unwrap());
    let mut out = from.inside(|| TcpStream::connect((to.address, PORT)).unwrap());
    let (mut taken, _) = listener.accept().unwrap();
    taken.set_read_timeout(Some(SOON)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || out.write_all(&pattern()).unwrap());
        let mut all = Vec::new();
        taken.read_to_end(&mut all).unwrap();
        all
    })
}

/// The lengths of all frames that `node`'s kernel is given while `work` goes on.
fn lengths(node: &Node, work: impl FnOnce()) -> Vec<usize> {
    let socket = node.inside(|| {
        let all = Protocol::from(i32::from(ethertype::IPV4.to_be()));
        Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap()
    });
    socket.set_recv_buffer_size(64 << 20).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let (over, is_over) = channel::<()>();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(move || {
            let (mut lengths, mut frame) = (Vec::new(), vec![0; 70_000]);
            loop {
                match (&socket).read(&mut frame) {
                    Ok(len) => lengths.push(len),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        if is_over.try_recv().is_ok() {
                            return lengths;
                        }
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        work();
        over.send(()).unwrap();
        watcher.join().unwrap()
    })
}

/// Fails unless a frame is what a cable could carry: no longer than it says, and every checksum right.
fn assert_sound(bytes: &[u8], mtu: usize) {
    let shown = || vxlan::describe(bytes);
    assert!(bytes.len() <= ETHERNET + mtu, "{} bytes: {}", bytes.len(), shown());
    let eth = EthernetFrame::new_checked(bytes).unwrap();
    if eth.ethertype() != ethertype::IPV4 {
        return;
    }
    let ip = Ipv4View::new_checked(eth.payload()).unwrap();
    assert!(ip.checksum_ok(), "{}", shown());
    match ip.protocol() {
        6 => assert!(TcpView::new_checked(ip.payload()).unwrap().checksum_ok(ip.addresses()), "{}", shown()),
        17 => assert!(UdpView::new_checked(ip.payload()).unwrap().checksum_ok(ip.addresses()), "{}", shown()),
        _ => {}
    }
}

#[test]
fn tcp_passes_uncut_while_nobody_looks_and_is_counted_as_if_cut() {
    let (lab, a, b) = two(segment("10.0.0.0/24"), 1500);
    let lengths = lengths(&b, || assert!(transfer(&a, &b) == pattern()));
    assert!(lengths.iter().any(|len| *len > 10_000), "the longest: {:?}", lengths.iter().max());
    let stats = wait(lab.wire.stats()).unwrap();
    let (rx, tx) = (&stats.ports["a"], &stats.ports["b"]);
    assert_eq!((rx.rx_frames, rx.rx_bytes), (tx.tx_frames, tx.tx_bytes), "nothing was dropped");
    let least = MUCH / 1448;
    assert!(rx.rx_frames as usize > least, "{} frames of {MUCH} bytes", rx.rx_frames);
    assert!(rx.rx_bytes as usize > MUCH + least * 66, "each frame has its own headers");
}

#[test]
fn a_capture_shows_what_a_cable_would_carry() {
    let (lab, a, b) = two(segment("10.0.0.0/24"), 1500);
    let spec = CaptureSpec { buffer: 65_536, ..CaptureSpec::default() };
    let mut capture = wait(lab.wire.capture("lan", spec)).unwrap();
    let lengths = lengths(&b, || assert!(transfer(&a, &b) == pattern()));
    assert!(lengths.len() > MUCH / 1448, "{} frames", lengths.len());
    let before = std::time::SystemTime::now();
    lab.wire.stop().unwrap();
    let (mut payload, mut begin, mut seen) = (vec![0; MUCH], None, 0);
    for frame in all(&mut capture) {
        assert_eq!((frame.lost_before, frame.original_len), (0, frame.data.len()));
        assert!(frame.timestamp <= before);
        assert_sound(&frame.data, 1500);
        let eth = EthernetFrame::new_checked(&frame.data).unwrap();
        if eth.ethertype() != ethertype::IPV4 || &*frame.port != "a" {
            continue;
        }
        let ip = Ipv4View::new_checked(eth.payload()).unwrap();
        let tcp = TcpView::new_checked(ip.payload()).unwrap();
        // By its number: if an acknowledgement is late, the kernel sends a segment again. The first one is a SYN, which takes one.
        let begin = *begin.get_or_insert(tcp.seq().wrapping_add(1));
        if !tcp.payload().is_empty() {
            let at = tcp.seq().wrapping_sub(begin) as usize;
            payload[at..at + tcp.payload().len()].copy_from_slice(tcp.payload());
            seen += 1;
        }
    }
    assert!(payload == pattern(), "of {MUCH} bytes some are not in the {seen} frames");
}

#[test]
fn the_mtu_of_a_segment_is_that_of_what_a_cable_would_carry() {
    // Both kernels know it.
    let (lab, a, b) = two(Segment { mtu: 1000, ..segment("10.0.0.0/24") }, 1000);
    assert!(transfer(&a, &b) == pattern());
    assert_eq!((lab.drops("a", DropReason::Mtu), lab.drops("b", DropReason::Mtu)), (0, 0));
    drop((lab, a, b));

    // Neither does: what is too large never arrives, however it is handed over.
    let (lab, a, b) = two(Segment { mtu: 1000, ..segment("10.0.0.0/24") }, 1500);
    let listener = b.inside(|| TcpListener::bind((b.address, PORT)).unwrap());
    let mut out = a.inside(|| TcpStream::connect((b.address, PORT)).unwrap());
    let (mut taken, _) = listener.accept().unwrap();
    // Three that are too large and one that is not, handed over as one: of what is dropped only that one is missing.
    out.write_all(&[7; 3 * 1448 + 600]).unwrap();
    until(|| lab.drops("a", DropReason::Mtu) >= 3);
    taken.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut some = [0; 2000];
    let got = taken.read(&mut some).unwrap_err();
    assert_eq!(got.kind(), ErrorKind::WouldBlock, "what begins with a hole is not read");
}

#[test]
fn who_has_no_such_header_gets_frames_with_checksums() {
    let (lab, a, b) = two(segment("10.0.0.0/24"), 1500);
    wait(lab.wire.add_port(spec(&lab.folder, "c", "lan", C))).unwrap();
    let mut c = lab.connect("c");
    let out = a.inside(|| UdpSocket::bind((a.address, PORT)).unwrap());
    out.set_broadcast(true).unwrap();
    let heard = b.inside(|| UdpSocket::bind(("10.0.0.255", PORT)).unwrap());
    heard.set_read_timeout(Some(SOON)).unwrap();
    let udp = |client: &mut Client| loop {
        let bytes = client.recv();
        let eth = EthernetFrame::new_checked(&bytes).unwrap();
        if eth.ethertype() != ethertype::IPV4 {
            continue;
        }
        assert_sound(&bytes, 1500);
        let ip = Ipv4View::new_checked(eth.payload()).unwrap();
        assert_eq!(ip.protocol(), 17);
        let udp = UdpView::new_checked(ip.payload()).unwrap();
        assert_ne!(udp.checksum(), 0, "there is one");
        return udp.payload().to_vec();
    };
    // To all: one gets it as it is, the other as it should be.
    out.send_to(b"all of you", ("10.0.0.255", PORT)).unwrap();
    assert_eq!(udp(&mut c), b"all of you");
    let mut datagram = [0; 64];
    let len = heard.recv(&mut datagram).unwrap();
    assert_eq!(&datagram[..len], b"all of you");
    // To it alone, known and unknown.
    a.inside(|| ip_neighbour("10.0.0.3", C));
    out.send_to(b"you alone", ("10.0.0.3", PORT)).unwrap();
    assert_eq!(udp(&mut c), b"you alone");
}

fn ip_neighbour(address: &str, mac: MacAddr) {
    ip(&format!("neigh replace {address} lladdr {mac} dev eth0 nud permanent"));
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let (lab, a, b) = two(segment("10.0.0.0/24"), 1500);
    wait(lab.wire.add_port(spec(&lab.folder, "c", "lan", C))).unwrap();
    let mut c = lab.connect("c");
    let listens = b.inside(|| UdpSocket::bind((b.address, PORT)).unwrap());
    // What must come has time; what must not would have come in less.
    let within = |time| listens.set_read_timeout(Some(time)).unwrap();
    let (soon, long) = (Duration::from_millis(300), Duration::from_secs(10));
    let craft = |sum: &str| {
        let text = format!(
            "eth(dst={B},src={C})/ip(src=10.0.0.3,dst=10.0.0.2)/udp(sport=5,dport={PORT}{sum})/payload(size=20)"
        );
        text.parse::<vxlan::Stack>().unwrap().build().unwrap()
    };
    let mut datagram = [0; 64];
    within(soon);
    c.send(&craft(",sum=1"));
    assert!(listens.recv(&mut datagram).is_err(), "the kernel checks what the wire hands it");
    within(long);
    c.send(&craft(""));
    assert_eq!(listens.recv(&mut datagram).unwrap(), 20);

    // From one TAP to another: what a packet socket sends is as it was crafted.
    let out = a.inside(|| PacketPort::send_only(index_of("eth0").unwrap()).unwrap());
    within(soon);
    out.send_batch(&[craft(",sum=1")]).unwrap();
    assert!(listens.recv(&mut datagram).is_err(), "nobody put it right");
    within(long);
    out.send_batch(&[craft("")]).unwrap();
    assert_eq!(listens.recv(&mut datagram).unwrap(), 20);
}
