//! ICMP for IPv4 (RFC 792).

use pnet::packet::icmp::{IcmpCode, IcmpType, MutableIcmpPacket};

use super::{Around, Covered, FieldError, Header, ROOM, Read, Wrong, u16_at};
use crate::ReadError;
use crate::checksum;

/// Bytes of a message's header: type, code, checksum and the four bytes that depend on the type.
pub const HEADER_LEN: usize = 8;
/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Destination unreachable: see [`mod@unreachable`].
pub const UNREACHABLE: u8 = 3;
/// Redirect.
pub const REDIRECT: u8 = 5;
/// Echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;

/// Codes of destination unreachable (RFC 792, RFC 1812 section 5.2.7.1).
pub mod unreachable {
    /// No route to the network.
    pub const NET: u8 = 0;
    /// The host does not answer (ARP).
    pub const HOST: u8 = 1;
    /// The host does not speak the protocol.
    pub const PROTOCOL: u8 = 2;
    /// Nobody listens on the port.
    pub const PORT: u8 = 3;
    /// Too big for the next hop, whose MTU goes along (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Forbidden by a filter.
    pub const ADMIN_PROHIBITED: u8 = 13;
}

/// An ICMP message.
#[derive(Debug)]
pub struct IcmpView<'a> {
    bytes: &'a [u8],
}

impl<'a> IcmpView<'a> {
    /// Reads a message over `bytes`, at least 8. Does not check the checksum.
    ///
    /// # Errors
    /// If there are fewer bytes.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        if bytes.len() < HEADER_LEN {
            return Err(ReadError::truncated("icmp", bytes.len(), HEADER_LEN));
        }
        Ok(Self { bytes })
    }

    /// Type: [`ECHO_REQUEST`] and its like.
    #[must_use]
    pub fn icmp_type(&self) -> u8 {
        self.bytes[0]
    }

    /// Code: a refinement of the type.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.bytes[1]
    }

    /// Checksum, as the message says.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes, 2)
    }

    /// Whether the checksum is right for all bytes given.
    #[must_use]
    pub fn checksum_ok(&self) -> bool {
        checksum::of(self.bytes) == 0
    }

    /// Identifier of an echo: bytes 4 and 5.
    #[must_use]
    pub fn id(&self) -> u16 {
        u16_at(self.bytes, 4)
    }

    /// Bytes 6 and 7: sequence number of an echo, MTU of the next hop where fragmentation was needed (RFC 1191).
    #[must_use]
    pub fn seq(&self) -> u16 {
        u16_at(self.bytes, 6)
    }

    /// Whether this reports an error about another packet; the payload is then that packet's beginning.
    #[must_use]
    pub fn is_error(&self) -> bool {
        is_error(self.icmp_type())
    }

    /// The bytes after the first 8: data of an echo, or the packet that an error is about.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }
}

/// Whether messages of this type report an error about another packet; source quench (4), now obsolete, is one.
#[must_use]
pub fn is_error(icmp_type: u8) -> bool {
    matches!(icmp_type, UNREACHABLE | 4 | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
}

/// A message with its checksum; `rest` is bytes 4 to 7.
#[must_use]
pub fn message(icmp_type: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN + payload.len()];
    bytes[4..HEADER_LEN].copy_from_slice(&rest);
    bytes[HEADER_LEN..].copy_from_slice(payload);
    bytes[..2].copy_from_slice(&[icmp_type, code]);
    let sum = checksum::of_with_field_zero(&bytes, 2);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// An echo request, without IP header: what a ping socket sends.
///
/// ```
/// let ping = vxlan::proto::icmp::echo_request(1, 2, b"hello");
/// let view = vxlan::IcmpView::new_checked(&ping)?;
/// assert!(view.checksum_ok());
/// assert_eq!((view.id(), view.seq(), view.payload()), (1, 2, &b"hello"[..]));
/// # Ok::<(), vxlan::ReadError>(())
/// ```
#[must_use]
pub fn echo_request(id: u16, seq: u16, payload: &[u8]) -> Vec<u8> {
    message(ECHO_REQUEST, 0, id_and_seq(id, seq), payload)
}

pub(crate) fn id_and_seq(id: u16, seq: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (id.to_be_bytes(), seq.to_be_bytes());
    [a, b, c, d]
}

/// An ICMP header; by default an echo request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Icmp {
    /// Type: [`ECHO_REQUEST`] and its like.
    pub icmp_type: u8,
    /// Code: a refinement of the type.
    pub code: u8,
    /// Bytes 4 and 5: identifier of an echo.
    pub id: u16,
    /// Bytes 6 and 7: sequence number of an echo, MTU of the next hop where fragmentation was needed.
    pub seq: u16,
    /// Checksum; unset: the right one.
    pub checksum: Option<u16>,
}

impl Default for Icmp {
    fn default() -> Self {
        Self { icmp_type: ECHO_REQUEST, code: 0, id: 0, seq: 0, checksum: None }
    }
}

impl Icmp {
    pub(crate) fn read(bytes: &[u8]) -> Result<Read, ReadError> {
        let view = IcmpView::new_checked(bytes)?;
        let right_sum = checksum::of_with_field_zero(bytes, 2);
        let layer = Self {
            icmp_type: view.icmp_type(),
            code: view.code(),
            id: view.id(),
            seq: view.seq(),
            checksum: Some(view.checksum()).filter(|sum| *sum != right_sum),
        };
        Ok(Read { layer: layer.into(), body: HEADER_LEN..bytes.len(), next: None })
    }
}

impl Header for Icmp {
    fn header_len(&self) -> usize {
        HEADER_LEN
    }

    fn emit(&self, room: &mut [u8], _: &Around<'_>) -> Result<(), FieldError> {
        let mut raw = MutableIcmpPacket::new(room).expect(ROOM);
        raw.set_icmp_type(IcmpType(self.icmp_type));
        raw.set_icmp_code(IcmpCode(self.code));
        room[4..HEADER_LEN].copy_from_slice(&id_and_seq(self.id, self.seq));
        let sum = self.checksum.unwrap_or_else(|| checksum::of_with_field_zero(room, 2));
        room[2..4].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }

    fn covered(&self, len: usize) -> Option<Covered> {
        self.checksum.is_none().then_some(Covered { field: 2, len, addresses: false })
    }

    fn wrong(&self) -> Vec<Wrong> {
        Wrong::list([("sum", self.checksum)])
    }
}
