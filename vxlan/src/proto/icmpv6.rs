//! ICMPv6 (RFC 4443). Bodies of neighbour discovery are payload.

use std::net::Ipv6Addr;

use pnet::packet::icmpv6::{Icmpv6Code, Icmpv6Packet, Icmpv6Type, MutableIcmpv6Packet};

use super::{Around, Covered, FieldError, Header, ROOM, Read, Wrong, no_addresses};
use super::{icmp, ip_protocol, u16_at};
use crate::checksum::Addresses;
use crate::{IpView, MacAddr, ReadError};

/// Bytes of a message's header: type, code, checksum and the four bytes that depend on the type.
pub const HEADER_LEN: usize = 8;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Packet too big: its MTU is in bytes 4 to 7.
pub const PACKET_TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Neighbour solicitation (RFC 4861).
pub const NEIGHBOR_SOLICITATION: u8 = 135;
/// Neighbour advertisement (RFC 4861).
pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// Hop limit of neighbour discovery: a packet with less may come from beyond the link (RFC 4861 section 6.1.1).
pub const ON_LINK_HOPS: u8 = 255;

/// Codes of destination unreachable (RFC 4443 section 3.1).
pub mod unreachable {
    /// No route.
    pub const NET: u8 = 0;
    /// Forbidden by a filter.
    pub const ADMIN_PROHIBITED: u8 = 1;
    /// The host does not answer neighbour discovery.
    pub const ADDRESS: u8 = 3;
    /// Nobody listens on the port.
    pub const PORT: u8 = 4;
}

/// Code of a parameter problem: the protocol is not known.
pub const UNKNOWN_NEXT_HEADER: u8 = 1;

/// Options of neighbour discovery (RFC 4861 section 4.6.1).
pub mod option {
    /// Hardware address of the sender of a solicitation.
    pub const SOURCE_MAC: u8 = 1;
    /// Hardware address of the advertised target.
    pub const TARGET_MAC: u8 = 2;
}

/// A message of neighbour discovery: a solicitation ("who has the target?") or an advertisement ("the target is at").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discovery {
    /// Whether it asks.
    pub asks: bool,
    /// The sender; `::` while it checks whether its own address is a duplicate.
    pub sender: Ipv6Addr,
    /// The address that it asks for or advertises.
    pub target: Ipv6Addr,
    /// Hardware address of the sender, or of the target that is advertised, if it says so.
    pub mac: Option<MacAddr>,
}

impl Discovery {
    /// Reads a message in a packet. `None` if it is another message, or not a sound one (RFC 4861 section 7.1).
    #[must_use]
    pub fn read(packet: &IpView<'_>) -> Option<Self> {
        let Addresses::V6 { src, .. } = packet.addresses() else { return None };
        let message = packet.payload();
        let sound = packet.is_icmp() && packet.hops() == ON_LINK_HOPS && !packet.is_fragment();
        if !sound || !packet.addresses().icmp_checksum_ok(message) {
            return None;
        }
        Self::of(src, message)
    }

    /// Reads the message alone, as far as it is there.
    pub(crate) fn of(sender: Ipv6Addr, message: &[u8]) -> Option<Self> {
        let (asks, wanted) = match *message.first()? {
            NEIGHBOR_SOLICITATION => (true, option::SOURCE_MAC),
            NEIGHBOR_ADVERTISEMENT => (false, option::TARGET_MAC),
            _ => return None,
        };
        let target = Ipv6Addr::from(*message.get(HEADER_LEN..)?.first_chunk::<16>()?);
        let mut options = &message[HEADER_LEN + 16..];
        let mut mac = None;
        while let [kind, length, body @ ..] = options {
            // In units of 8 bytes; zero is malformed.
            let length = usize::from(*length) * 8;
            if *kind == wanted {
                mac = body.first_chunk::<6>().map(|octets| MacAddr(*octets));
            }
            options = options.get(length.max(1)..).filter(|_| length > 0).unwrap_or_default();
        }
        Some(Self { asks, sender, target, mac })
    }
}

/// The group that a station with this address listens to for solicitations (RFC 4291 section 2.7.1).
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The MAC that packets to a group have (RFC 2464 section 7).
#[must_use]
pub fn group_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// An echo request without IP header, its checksum left to the kernel: what a raw socket sends.
#[must_use]
pub fn echo_request(id: u16, seq: u16, payload: &[u8]) -> Vec<u8> {
    icmp::message(ECHO_REQUEST, 0, icmp::id_and_seq(id, seq), payload)
}

/// An ICMPv6 header; by default an echo request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Icmpv6 {
    /// Type: [`ECHO_REQUEST`] and its like.
    pub icmp_type: u8,
    /// Code: a refinement of the type.
    pub code: u8,
    /// Bytes 4 and 5: identifier of an echo.
    pub id: u16,
    /// Bytes 6 and 7: sequence number of an echo, low half of the MTU of a packet too big.
    pub seq: u16,
    /// Checksum; unset: the right one.
    pub checksum: Option<u16>,
}

impl Default for Icmpv6 {
    fn default() -> Self {
        Self { icmp_type: ECHO_REQUEST, code: 0, id: 0, seq: 0, checksum: None }
    }
}

impl Icmpv6 {
    pub(crate) fn read(bytes: &[u8], addresses: Option<Addresses>) -> Result<Read, ReadError> {
        // pnet's header ends after the checksum.
        let short = || ReadError::truncated("icmp6", bytes.len(), HEADER_LEN);
        let packet = Icmpv6Packet::new(bytes).filter(|_| bytes.len() >= HEADER_LEN).ok_or_else(short)?;
        let right_sum = addresses.map(|ends| ends.checksum(ip_protocol::ICMPV6, bytes, 2));
        let layer = Self {
            icmp_type: packet.get_icmpv6_type().0,
            code: packet.get_icmpv6_code().0,
            id: u16_at(bytes, 4),
            seq: u16_at(bytes, 6),
            checksum: Some(packet.get_checksum()).filter(|sum| Some(*sum) != right_sum),
        };
        Ok(Read { layer: layer.into(), body: HEADER_LEN..bytes.len(), next: None })
    }
}

impl Header for Icmpv6 {
    fn header_len(&self) -> usize {
        HEADER_LEN
    }

    fn emit(&self, room: &mut [u8], around: &Around<'_>) -> Result<(), FieldError> {
        let mut raw = MutableIcmpv6Packet::new(room).expect(ROOM);
        raw.set_icmpv6_type(Icmpv6Type(self.icmp_type));
        raw.set_icmpv6_code(Icmpv6Code(self.code));
        room[4..HEADER_LEN].copy_from_slice(&icmp::id_and_seq(self.id, self.seq));
        let sum = match (self.checksum, around.addresses) {
            (Some(set), _) => set,
            (None, Some(ends)) => ends.checksum(ip_protocol::ICMPV6, room, 2),
            (None, None) => return Err(no_addresses()),
        };
        room[2..4].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }

    fn covered(&self, len: usize) -> Option<Covered> {
        self.checksum.is_none().then_some(Covered { field: 2, len, addresses: true })
    }

    fn wrong(&self) -> Vec<Wrong> {
        Wrong::list([("sum", self.checksum)])
    }
}
