//! A hash of the flow that a frame belongs to.

use super::{Kind, ethertype, ip_protocol, ipv6};
use crate::{EthernetFrame, Ipv4View};

/// FNV-1a, 32 bits: small, and good enough to spread flows. Not safe against flows made to collide.
struct Fnv(u32);

impl Fnv {
    fn new() -> Self {
        Self(0x811c_9dc5)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
        self
    }
}

/// Hash of the flow of bytes that begin with a layer of this kind; of all bytes if we do not read that kind further.
pub(crate) fn of(kind: Option<Kind>, bytes: &[u8]) -> u32 {
    match kind {
        Some(Kind::Ether) => of_frame(bytes),
        Some(Kind::Ipv4 | Kind::Ipv6) => of_packet(bytes),
        _ => Fnv::new().bytes(bytes).0,
    }
}

/// Hash of a frame: of its IP flow, or else of its addresses and EtherType.
fn of_frame(bytes: &[u8]) -> u32 {
    let Ok(frame) = EthernetFrame::new_checked(bytes) else {
        return Fnv::new().bytes(bytes).0;
    };
    match frame.ethertype() {
        ethertype::IPV4 | ethertype::IPV6 => of_packet(frame.payload()),
        other => {
            let ends = Fnv::new().bytes(&frame.dst().octets()).bytes(&frame.src().octets());
            ends.bytes(&other.to_be_bytes()).0
        }
    }
}

/// Hash of an IP packet: addresses, protocol and, if all packets of the flow have them, ports.
fn of_packet(bytes: &[u8]) -> u32 {
    if let Ok(ip) = Ipv4View::header_checked(bytes) {
        // Only the first fragment has ports, but all fragments must go one way.
        let ports = ports(ip.protocol(), ip.payload()).filter(|_| !ip.is_fragment());
        let ends = Fnv::new().bytes(&ip.src().octets()).bytes(&ip.dst().octets());
        return ends.bytes(&[ip.protocol()]).bytes(ports.unwrap_or_default()).0;
    }
    if let Ok(ip) = ipv6::parse(bytes) {
        let protocol = ip.get_next_header().0;
        let ends = Fnv::new().bytes(&ip.get_source().octets()).bytes(&ip.get_destination().octets());
        let ports = ports(protocol, &bytes[ipv6::HEADER_LEN..]);
        return ends.bytes(&[protocol]).bytes(ports.unwrap_or_default()).0;
    }
    Fnv::new().bytes(bytes).0
}

fn ports(protocol: u8, payload: &[u8]) -> Option<&[u8]> {
    matches!(protocol, ip_protocol::TCP | ip_protocol::UDP).then(|| payload.get(..4))?
}
