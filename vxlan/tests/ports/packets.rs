//! VXLAN packets against the kernel's own VXLAN device.

use std::net::UdpSocket;

use vxlan::{Decode, Kind, Layer, Stack, describe_as};

use crate::net::{self, Other, PATIENCE};

fn build(text: &str) -> Vec<u8> {
    text.parse::<Stack>().unwrap().build().unwrap()
}

/// Receives one that `wanted` says yes to.
fn await_one(socket: &UdpSocket, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut room = [0; 2048];
    loop {
        let len = socket.recv(&mut room).expect("what is awaited arrives");
        if wanted(&room[..len]) {
            return room[..len].to_vec();
        }
    }
}

/// The kernel's VXLAN device takes what we build, and answers it.
#[test]
fn a_packet_and_the_kernel() {
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
    let socket = UdpSocket::bind("10.0.0.1:4789").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // Not connected: the kernel answers from a port of its own choice.
    let send = |packet: Vec<u8>| socket.send_to(&packet, "10.0.0.2:4789").unwrap();
    let ask = |flags: &str| {
        build(&format!("vxlan(vni=4097{flags})/eth(src=02:42:0a:03:01:01)/arp(who=10.3.1.2,tell=10.3.1.1)"))
    };
    // Reserved bits that are set, and a VNI that nobody has, bring no answer; what is right does.
    for flags in [",flags=0", ",reserved1=0x1", ""] {
        send(ask(flags));
    }
    let decode = Decode { first: Kind::Vxlan, ..Decode::default() };
    let is_reply = |bytes: &[u8]| {
        let stack = Stack::parse_as(bytes, &decode).unwrap();
        stack.layers.iter().any(|layer| matches!(layer, Layer::Arp(arp) if arp.operation == 2))
    };
    let reply = await_one(&socket, is_reply);
    assert_eq!(
        describe_as(&reply, &decode),
        "VXLAN vni 4097: 02:42:0a:03:01:02 > 02:42:0a:03:01:01, ARP 10.3.1.2 is-at 02:42:0a:03:01:02"
    );
    let ping = build(
        "vxlan(vni=4097)/eth(dst=02:42:0a:03:01:02,src=02:42:0a:03:01:01)/ip(src=10.3.1.1,dst=10.3.1.2)/icmp(id=9,seq=1)",
    );
    send(ping);
    let pong = |bytes: &[u8]| describe_as(bytes, &decode).contains("ICMP echo-reply id 9 seq 1");
    // The kernel resolves us first.
    let answer = build(
        "vxlan(vni=4097)/eth(dst=02:42:0a:03:01:02,src=02:42:0a:03:01:01)/arp(op=reply,tell=10.3.1.1,who=10.3.1.2,tmac=02:42:0a:03:01:02)",
    );
    send(answer);
    await_one(&socket, pong);
}
