//! The UDP datagrams that a peer sends.

use vxlan::{
    checksum::{self, Addresses},
    proto::{ip_protocol, udp},
    reply,
};

/// A UDP datagram as an IP packet.
pub fn udp_packet(ends: Addresses, (own, to): (u16, u16), payload: &[u8]) -> Vec<u8> {
    // Longer ones fit no packet, which `reply::ip` cuts.
    let length = u16::try_from(udp::HEADER_LEN + payload.len()).unwrap_or(u16::MAX);
    let mut datagram = [own, to, length, 0].map(u16::to_be_bytes).concat();
    datagram.extend(payload);
    let sum = checksum::udp(ends, &datagram);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    reply::ip(ends, ip_protocol::UDP, 64, &datagram)
}
