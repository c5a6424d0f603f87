//! VXLAN (RFC 7348).

use pnet::packet::Packet;
use pnet::packet::vxlan::{MutableVxlanPacket, VxlanPacket};

use super::flow;
use super::{Around, FieldError, Header, Kind, ROOM, Read, fits};
use super::{gbp, gpe};
use crate::ReadError;

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;
/// UDP port of VXLAN and of its group policy extension (IANA).
pub const PORT: u16 = 4789;
/// UDP port of VXLAN-GPE (IANA).
pub const GPE_PORT: u16 = 4790;
/// Default UDP port of Linux's module; Docker sets another.
pub const LINUX_PORT: u16 = 8472;
/// The I flag: the VNI is valid. MUST be set (RFC 7348, section 5).
pub const FLAG_VNI: u8 = 0x08;
/// The G flag: bytes 1 to 3 hold a group policy (draft-smith-vxlan-group-policy).
pub const FLAG_GROUP_POLICY: u8 = 0x80;
/// The greatest VNI, 24 bits.
pub const MAX_VNI: u32 = 0x00ff_ffff;

/// Reads a VXLAN packet over `bytes`, a UDP payload of at least 8.
///
/// Any 8 bytes are a valid header: by the RFC, reserved bits are ignored on receipt. Linux is stricter: see
/// [`is_strict`].
///
/// # Errors
/// If there are fewer bytes.
pub fn parse(bytes: &[u8]) -> Result<VxlanPacket<'_>, ReadError> {
    VxlanPacket::new(bytes).ok_or_else(|| ReadError::truncated("vxlan", bytes.len(), HEADER_LEN))
}

/// Whether a header has the I flag and all else that is reserved is zero, as a sender must leave it and Linux expects it.
#[must_use]
pub fn is_strict(packet: &VxlanPacket<'_>) -> bool {
    packet.get_flags() == FLAG_VNI && packet.get_reserved1() == 0 && packet.get_reserved2() == 0
}

/// The kind of the payload of a `tunnel`'s packet; `None`: no protocol known here. Reading, building and templates all
/// use this.
///
/// It depends on the kind of VXLAN, which the UDP port shows. The P flag exists only in GPE: in the others its bit is
/// reserved, and they carry frames. Without the I flag the VNI is not valid, but the payload is the same.
pub(crate) fn inner(packet: &VxlanPacket<'_>, tunnel: Kind) -> Option<Kind> {
    match tunnel {
        Kind::Gpe => gpe::next::kind(packet.get_flags(), packet.get_reserved1() as u8),
        _ => Some(Kind::Ether),
    }
}

/// A VXLAN header; by default as RFC 7348 requires.
///
/// Flags that contain [`FLAG_GROUP_POLICY`] read back as [`Gbp`](super::gbp::Gbp).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// Byte 0: [`FLAG_VNI`] by default.
    pub flags: u8,
    /// Bytes 1 to 3, 24 bits.
    pub reserved1: u32,
    /// Byte 7.
    pub reserved2: u8,
}

impl Default for Vxlan {
    fn default() -> Self {
        Self { vni: 0, flags: FLAG_VNI, reserved1: 0, reserved2: 0 }
    }
}

impl Vxlan {
    pub(crate) fn read(bytes: &[u8]) -> Result<Read, ReadError> {
        let packet = parse(bytes)?;
        if packet.get_flags() & FLAG_GROUP_POLICY != 0 {
            return Ok(gbp::Gbp::read(&packet));
        }
        let layer = Self {
            vni: packet.get_vni(),
            flags: packet.get_flags(),
            reserved1: packet.get_reserved1(),
            reserved2: packet.get_reserved2(),
        };
        Ok(Read { layer: layer.into(), body: HEADER_LEN..bytes.len(), next: inner(&packet, Kind::Vxlan) })
    }
}

impl Header for Vxlan {
    fn header_len(&self) -> usize {
        HEADER_LEN
    }

    fn emit(&self, room: &mut [u8], _: &Around<'_>) -> Result<(), FieldError> {
        fits("reserved1", self.reserved1, MAX_VNI)?;
        emit(room, self.flags, self.reserved1, self.vni, self.reserved2)
    }
}

/// The eight bytes that all kinds of VXLAN share.
pub(super) fn emit(
    room: &mut [u8],
    flags: u8,
    reserved1: u32,
    vni: u32,
    reserved2: u8,
) -> Result<(), FieldError> {
    fits("vni", vni, MAX_VNI)?;
    let mut packet = MutableVxlanPacket::new(room).expect(ROOM);
    packet.set_flags(flags);
    packet.set_reserved1(reserved1);
    packet.set_vni(vni);
    packet.set_reserved2(reserved2);
    Ok(())
}

/// The outer source port for a packet of `tunnel`, a kind of VXLAN: 49152 to 65535, from a hash of the inner flow. So a
/// flow keeps its path, and flows spread (RFC 7348, section 5).
///
/// ```
/// use vxlan::{Kind, proto::vxlan::source_port};
/// let packet = [8, 0, 0, 0, 0, 16, 1, 0];
/// assert_eq!(source_port(Kind::Vxlan, &packet), source_port(Kind::Vxlan, &packet));
/// assert!(source_port(Kind::Vxlan, &packet) >= 49152);
/// ```
#[must_use]
pub fn source_port(tunnel: Kind, packet: &[u8]) -> u16 {
    let hash = match parse(packet) {
        Ok(header) => flow::of(inner(&header, tunnel), header.payload()),
        Err(_) => flow::of(None, packet),
    };
    0xc000 | (hash ^ hash >> 16) as u16 & 0x3fff
}
