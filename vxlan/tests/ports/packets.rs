//! IP packets and VXLAN over the kernel's own sockets, and against the kernel's own VXLAN device.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use vxlan::port::{Batch, Filter, IpPort, Ready, Vtep, wait};
use vxlan::{Decode, Kind, Layer, Stack, describe_as};

use crate::net::{self, Other, PATIENCE};

fn build(text: &str) -> Vec<u8> {
    text.parse::<Stack>().unwrap().build().unwrap()
}

/// Receives one that `wanted` says yes to.
fn await_one<P: AsFd>(
    port: &P,
    receive: impl Fn(&P, &mut Batch) -> io::Result<usize>,
    wanted: impl Fn(&[u8]) -> bool,
) -> (Vec<u8>, Option<SocketAddr>) {
    let mut batch = Batch::new(1, 2048);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if wait(port, Ready::Receive, PATIENCE).unwrap() {
            receive(port, &mut batch).unwrap();
            let received = batch.iter().next().unwrap();
            assert!(received.time().is_some());
            if wanted(received.bytes()) {
                return (received.bytes().to_vec(), received.from());
            }
        }
    }
    panic!("what was awaited did not arrive");
}

#[test]
fn packets_leave_as_anyone_and_arrive_with_their_headers() {
    net::cable();
    net::ip("address add 10.0.0.1/24 dev a");
    net::ip("neighbour add 10.0.0.2 lladdr 02:00:00:00:00:0b dev a nud permanent");
    net::ip("link set lo up");
    let port = IpPort::open(1).unwrap();
    let seen_by = net::open("b", Some(&Filter::new().protocol(1)));
    let spoofed = build("ip(src=192.0.2.9,dst=10.0.0.2,id=7)/icmp(id=1,seq=2)");
    assert_eq!(port.send_batch(&[&spoofed]).unwrap(), 1);
    assert_eq!(net::receive(&seen_by, 1)[0][14..], spoofed);

    let own = build("ip(src=127.0.0.1,dst=127.0.0.1,id=7)/icmp(id=1,seq=3)");
    assert_eq!(port.send_batch(&[&own]).unwrap(), 1);
    let (bytes, from) = await_one(&port, IpPort::recv_batch, |bytes| bytes == own);
    assert_eq!((bytes, from), (own, Some(([127, 0, 0, 1], 0).into())));

    let none = port.send_batch(&[[0u8; 30]]).unwrap_err();
    assert_eq!(none.to_string(), "ip.version at offset 0: 0, must be 4");
}

#[test]
fn two_vteps() {
    net::cable();
    net::ip("link set lo up");
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let (a, b) = (Vtep::open(host.parse().unwrap()).unwrap(), Vtep::open(host.parse().unwrap()).unwrap());
        let packet = build("vxlan(vni=77)/eth/arp(who=10.3.1.3)");
        let to = b.local().unwrap();
        assert_eq!(a.send_batch(&[(to, &packet), (to, &packet)]).unwrap(), 2);
        let (bytes, from) = await_one(&b, Vtep::recv_batch, |_| true);
        assert_eq!((bytes, from), (packet, Some(a.local().unwrap())));
    }
}

/// The kernel's VXLAN device takes what a [`Vtep`] sends, and answers it.
#[test]
fn a_vtep_and_the_kernel() {
    net::cable();
    let other = Other::new();
    net::ip(&format!("link set dev b netns {}", other.pid()));
    net::ip("address add 10.0.0.1/24 dev a");
    other.ip("address add 10.0.0.2/24 dev b");
    other.ip("link set dev b up");
    other.ip(
        "link add name vx address 02:42:0a:03:01:02 type vxlan id 4097 remote 10.0.0.1 dstport 4789 dev b",
    );
    other.ip("address add 10.3.1.2/24 dev vx");
    other.ip("link set vx up");
    let port = Vtep::open("10.0.0.1:4789".parse().unwrap()).unwrap();
    let peer = "10.0.0.2:4789".parse().unwrap();
    let ask = |flags: &str| {
        build(&format!("vxlan(vni=4097{flags})/eth(src=02:42:0a:03:01:01)/arp(who=10.3.1.2,tell=10.3.1.1)"))
    };
    // Reserved bits that are set, and a VNI that nobody has, bring no answer; what is right does.
    let asked = [(peer, ask(",flags=0")), (peer, ask(",reserved1=0x1")), (peer, ask(""))];
    assert_eq!(port.send_batch(&asked).unwrap(), 3);
    let decode = Decode { first: Kind::Vxlan, ..Decode::default() };
    let is_reply = |bytes: &[u8]| {
        let stack = Stack::parse_as(bytes, &decode).unwrap();
        stack.layers.iter().any(|layer| matches!(layer, Layer::Arp(arp) if arp.operation == 2))
    };
    let (reply, from) = await_one(&port, Vtep::recv_batch, is_reply);
    assert_eq!(from.unwrap().ip(), peer.ip());
    assert_eq!(
        describe_as(&reply, &decode),
        "VXLAN vni 4097: 02:42:0a:03:01:02 > 02:42:0a:03:01:01, ARP 10.3.1.2 is-at 02:42:0a:03:01:02"
    );
    let ping = build(
        "vxlan(vni=4097)/eth(dst=02:42:0a:03:01:02,src=02:42:0a:03:01:01)/ip(src=10.3.1.1,dst=10.3.1.2)/icmp(id=9,seq=1)",
    );
    assert_eq!(port.send_batch(&[(peer, ping)]).unwrap(), 1);
    let pong = |bytes: &[u8]| describe_as(bytes, &decode).contains("ICMP echo-reply id 9 seq 1");
    // The kernel resolves us first.
    let answer = build(
        "vxlan(vni=4097)/eth(dst=02:42:0a:03:01:02,src=02:42:0a:03:01:01)/arp(op=reply,tell=10.3.1.1,who=10.3.1.2,tmac=02:42:0a:03:01:02)",
    );
    assert_eq!(port.send_batch(&[(peer, answer)]).unwrap(), 1);
    await_one(&port, Vtep::recv_batch, pong);
}
