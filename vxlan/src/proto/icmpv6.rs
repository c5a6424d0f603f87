//! ICMPv6 (RFC 4443). Bodies of neighbour discovery are payload.

use pnet::packet::icmpv6::{Icmpv6Code, Icmpv6Packet, Icmpv6Type, MutableIcmpv6Packet};

use super::{Around, Covered, FieldError, Header, ROOM, Read, Wrong, no_addresses};
use super::{icmp, ip_protocol, u16_at};
use crate::ReadError;
use crate::checksum::Addresses;

/// Bytes of a message's header: type, code, checksum and the four bytes that depend on the type.
pub const HEADER_LEN: usize = 8;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Packet too big: its MTU is in bytes 4 to 7.
pub const PACKET_TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Neighbour solicitation (RFC 4861).
pub const NEIGHBOR_SOLICITATION: u8 = 135;
/// Neighbour advertisement (RFC 4861).
pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;

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
