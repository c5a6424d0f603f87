//! UDP (RFC 768).

use pnet::packet::udp::MutableUdpPacket;

use super::{Around, Covered, Decode, FieldError, Header, Kind, ROOM, Read, Wrong, length, no_addresses};
use super::{u16_at, vxlan};
use crate::ReadError;
use crate::checksum::{self, Addresses};

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;
/// Default source port: the first that is free for any use (RFC 6335, section 6).
pub const DEFAULT_SRC_PORT: u16 = 49152;
/// Default destination port: discard (RFC 863).
pub const DEFAULT_DST_PORT: u16 = 9;

/// A datagram whose length fits its bytes.
#[derive(Debug)]
pub struct UdpView<'a> {
    bytes: &'a [u8],
}

impl<'a> UdpView<'a> {
    /// Reads a datagram over `bytes`; bytes after its length are ignored. Does not check the checksum.
    ///
    /// # Errors
    /// If the bytes end within the header or before the length, or if the length is under 8.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let view = Self::header_checked(bytes)?;
        let len = usize::from(view.len_field());
        if len < HEADER_LEN {
            return Err(ReadError::value("udp", "len", 4, len, "at least 8"));
        }
        if len > bytes.len() {
            return Err(ReadError::value("udp", "len", 4, len, "at most the bytes there are"));
        }
        Ok(Self { bytes: &bytes[..len] })
    }

    /// Reads a datagram but checks only the header; the payload is all that follows the header. For truncated packets,
    /// as in an ICMP error.
    ///
    /// # Errors
    /// If the bytes end within the header.
    pub fn header_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        if bytes.len() < HEADER_LEN {
            return Err(ReadError::truncated("udp", bytes.len(), HEADER_LEN));
        }
        Ok(Self { bytes })
    }

    /// Source port.
    #[must_use]
    pub fn src_port(&self) -> u16 {
        u16_at(self.bytes, 0)
    }

    /// Destination port.
    #[must_use]
    pub fn dst_port(&self) -> u16 {
        u16_at(self.bytes, 2)
    }

    /// Bytes of header and payload, as the datagram says.
    #[must_use]
    pub fn len_field(&self) -> u16 {
        u16_at(self.bytes, 4)
    }

    /// Checksum, as the datagram says; 0 is "none".
    #[must_use]
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes, 6)
    }

    /// Whether a receiver accepts the checksum: it is right, or zero (over IPv6, zero is only for tunnels, RFC 6935).
    #[must_use]
    pub fn checksum_ok(&self, addresses: Addresses) -> bool {
        self.checksum() == 0 || addresses.verifies(super::ip_protocol::UDP, self.bytes)
    }

    /// The bytes after the header, up to the length.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }
}

/// A UDP header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Udp {
    /// Source port; unset: under VXLAN a hash of the inner flow ([`vxlan::source_port`]), or else
    /// [`DEFAULT_SRC_PORT`].
    pub src_port: Option<u16>,
    /// Destination port; unset: that of the VXLAN kind above, or else [`DEFAULT_DST_PORT`].
    pub dst_port: Option<u16>,
    /// Bytes of header and payload; unset: the right number.
    pub len: Option<u16>,
    /// Checksum; unset: the right one, which is never 0 (RFC 768). Set to 0: none.
    pub checksum: Option<u16>,
}

impl Udp {
    pub(crate) fn read(
        bytes: &[u8],
        addresses: Option<Addresses>,
        decode: &Decode,
    ) -> Result<Read, ReadError> {
        let view = UdpView::header_checked(bytes)?;
        let len = Some(view.len_field()).filter(|len| usize::from(*len) != bytes.len());
        let right_sum = addresses.map(|ends| checksum::udp(ends, &bytes[..covered(bytes.len(), len)]));
        let layer = Self {
            src_port: Some(view.src_port()),
            dst_port: Some(view.dst_port()),
            len,
            checksum: Some(view.checksum()).filter(|sum| Some(*sum) != right_sum),
        };
        let next = decode.over_udp(view.dst_port());
        Ok(Read { layer: layer.into(), body: HEADER_LEN..bytes.len(), next })
    }
}

/// How many of `have` bytes the checksum covers: as many as the length says, if there are that many.
fn covered(have: usize, len: Option<u16>) -> usize {
    len.map(usize::from).filter(|len| (HEADER_LEN..have).contains(len)).unwrap_or(have)
}

impl Header for Udp {
    fn header_len(&self) -> usize {
        HEADER_LEN
    }

    fn emit(&self, room: &mut [u8], around: &Around<'_>) -> Result<(), FieldError> {
        let len = length("len", self.len, room.len())?;
        let tunnel = around.next().filter(|kind| kind.is_tunnel());
        let flow_port = tunnel.map(|kind| vxlan::source_port(kind, &room[HEADER_LEN..]));
        let dst_port = match tunnel {
            Some(Kind::Gpe) => vxlan::GPE_PORT,
            Some(_) => vxlan::PORT,
            None => DEFAULT_DST_PORT,
        };
        let mut raw = MutableUdpPacket::new(room).expect(ROOM);
        raw.set_source(self.src_port.or(flow_port).unwrap_or(DEFAULT_SRC_PORT));
        raw.set_destination(self.dst_port.unwrap_or(dst_port));
        raw.set_length(len);
        let sum = match (self.checksum, around.addresses) {
            (Some(set), _) => set,
            (None, Some(ends)) => checksum::udp(ends, &room[..covered(room.len(), self.len)]),
            (None, None) => return Err(no_addresses()),
        };
        room[6..8].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }

    fn covered(&self, len: usize) -> Option<Covered> {
        let len = covered(len, self.len);
        self.checksum.is_none().then_some(Covered { field: 6, len, addresses: true })
    }

    fn wrong(&self) -> Vec<Wrong> {
        // Zero is not a wrong checksum: it means "none".
        Wrong::list([("len", self.len), ("sum", self.checksum.filter(|sum| *sum != 0))])
    }
}
