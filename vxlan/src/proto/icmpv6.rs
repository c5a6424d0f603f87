//! ICMPv6 (RFC 4443). Bodies of neighbour discovery are payload.

use pnet_packet::icmpv6::{Icmpv6Code, Icmpv6Packet, Icmpv6Type, MutableIcmpv6Packet};

use super::{icmp, ip_protocol};
use crate::ReadError;
use crate::checksum::Addresses;
use crate::stack::{Around, Covered, FieldError, Header, ROOM, Read, Wrong, no_addresses};

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

/// An ICMPv6 message.
#[derive(Debug)]
pub struct Icmpv6View<'a> {
    bytes: &'a [u8],
    raw: Icmpv6Packet<'a>,
}

impl<'a> Icmpv6View<'a> {
    /// Reads a message over `bytes`, at least 8. Does not check the checksum.
    ///
    /// # Errors
    /// If there are fewer bytes.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let short = || ReadError::truncated("icmp6", bytes.len(), HEADER_LEN);
        if bytes.len() < HEADER_LEN {
            return Err(short());
        }
        let raw = Icmpv6Packet::new(bytes).ok_or_else(short)?;
        Ok(Self { bytes, raw })
    }

    /// Type: [`ECHO_REQUEST`] and its like.
    #[must_use]
    pub fn icmp_type(&self) -> u8 {
        self.raw.get_icmpv6_type().0
    }

    /// Code: a refinement of the type.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.raw.get_icmpv6_code().0
    }

    /// Checksum, as the message says.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        self.raw.get_checksum()
    }

    /// Whether the checksum is right for all bytes given, between these addresses.
    #[must_use]
    pub fn checksum_ok(&self, addresses: Addresses) -> bool {
        addresses.verifies(super::ip_protocol::ICMPV6, self.bytes)
    }

    /// Identifier of an echo: bytes 4 and 5.
    #[must_use]
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.bytes[4], self.bytes[5]])
    }

    /// Sequence number of an echo: bytes 6 and 7.
    #[must_use]
    pub fn seq(&self) -> u16 {
        u16::from_be_bytes([self.bytes[6], self.bytes[7]])
    }

    /// The bytes after the first 8.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }
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
        let view = Icmpv6View::new_checked(bytes)?;
        let right_sum = addresses.map(|ends| ends.checksum(ip_protocol::ICMPV6, bytes, 2));
        let layer = Self {
            icmp_type: view.icmp_type(),
            code: view.code(),
            id: view.id(),
            seq: view.seq(),
            checksum: Some(view.checksum()).filter(|sum| Some(*sum) != right_sum),
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
