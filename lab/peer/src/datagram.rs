//! The UDP datagrams that a peer sends.

use std::net::Ipv4Addr;

use vxlan::{Ipv4, Payload, Udp};

/// A UDP datagram as an IP packet.
pub fn datagram_to(src: Ipv4Addr, own: u16, to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let ip = Ipv4 { src: Some(src), dst: Some(to.0), ttl: 64, df: true, ..Ipv4::default() };
    let udp = Udp { src_port: Some(own), dst_port: Some(to.1), ..Udp::default() };
    (ip / udp / Payload::from(payload)).build().unwrap_or_default()
}
