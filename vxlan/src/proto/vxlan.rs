//! VXLAN (RFC 7348).

use super::{gbp, gpe};
use crate::ReadError;
use crate::flow;
use crate::stack::{Around, FieldError, Header, Kind, Read, fits};

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

/// A VXLAN header and the frame in it.
///
/// Any 8 bytes are a valid header: by the RFC, reserved bits are ignored on receipt. For a stricter receiver, check
/// [`has_vni`](Self::has_vni) and [`reserved_is_zero`](Self::reserved_is_zero) (Linux checks both).
#[derive(Debug, Clone, Copy)]
pub struct VxlanView<'a> {
    bytes: &'a [u8],
}

impl<'a> VxlanView<'a> {
    /// Reads a VXLAN packet over `bytes`, a UDP payload of at least 8.
    ///
    /// # Errors
    /// If there are fewer bytes.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        if bytes.len() < HEADER_LEN {
            return Err(ReadError::truncated("vxlan", bytes.len(), HEADER_LEN));
        }
        Ok(Self { bytes })
    }

    /// Byte 0.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.bytes[0]
    }

    /// Whether the I flag is set.
    #[must_use]
    pub fn has_vni(&self) -> bool {
        self.flags() & FLAG_VNI != 0
    }

    /// Bytes 1 to 3: reserved, unless an extension uses them.
    #[must_use]
    pub fn reserved1(&self) -> u32 {
        u32::from_be_bytes([0, self.bytes[1], self.bytes[2], self.bytes[3]])
    }

    /// VXLAN network identifier, 24 bits, whether or not the I flag is set.
    #[must_use]
    pub fn vni(&self) -> u32 {
        u32::from_be_bytes([0, self.bytes[4], self.bytes[5], self.bytes[6]])
    }

    /// Byte 7: reserved.
    #[must_use]
    pub fn reserved2(&self) -> u8 {
        self.bytes[7]
    }

    /// Whether only the I flag is set and all else that is reserved is zero, as a sender must leave it.
    #[must_use]
    pub fn reserved_is_zero(&self) -> bool {
        self.flags() & !FLAG_VNI == 0 && self.reserved1() == 0 && self.reserved2() == 0
    }

    /// The frame inside: no FCS, no padding.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// The kind of the payload, if this is the header of a `tunnel`; `None`: no protocol known here. Reading, building and
    /// templates all use this.
    ///
    /// It depends on the kind of VXLAN, which the UDP port shows. The P flag exists only in GPE: in the others its bit is
    /// reserved, and they carry frames. Without the I flag the VNI is not valid, but the payload is the same.
    pub(crate) fn inner(&self, tunnel: Kind) -> Option<Kind> {
        match tunnel {
            Kind::Gpe => gpe::next::kind(self.flags(), self.bytes[3]),
            _ => Some(Kind::Ether),
        }
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
        let view = VxlanView::new_checked(bytes)?;
        if view.flags() & FLAG_GROUP_POLICY != 0 {
            return Ok(gbp::Gbp::read(&view));
        }
        let layer = Self {
            vni: view.vni(),
            flags: view.flags(),
            reserved1: view.reserved1(),
            reserved2: view.reserved2(),
        };
        Ok(Read { layer: layer.into(), body: HEADER_LEN..bytes.len(), next: view.inner(Kind::Vxlan) })
    }
}

impl Header for Vxlan {
    fn header_len(&self) -> usize {
        HEADER_LEN
    }

    fn emit(&self, room: &mut [u8], _: &Around<'_>) -> Result<(), FieldError> {
        fits("reserved1", self.reserved1, MAX_VNI)?;
        let [_, first @ ..] = self.reserved1.to_be_bytes();
        emit(room, self.flags, first, self.vni, self.reserved2)
    }
}

/// The eight bytes that all kinds of VXLAN share.
pub(super) fn emit(
    room: &mut [u8],
    flags: u8,
    first: [u8; 3],
    vni: u32,
    reserved2: u8,
) -> Result<(), FieldError> {
    fits("vni", vni, MAX_VNI)?;
    let [_, vni @ ..] = vni.to_be_bytes();
    room[0] = flags;
    room[1..4].copy_from_slice(&first);
    room[4..7].copy_from_slice(&vni);
    room[7] = reserved2;
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
    let hash = match VxlanView::new_checked(packet) {
        Ok(view) => flow::of(view.inner(tunnel), view.payload()),
        Err(_) => flow::of(None, packet),
    };
    0xc000 | (hash ^ hash >> 16) as u16 & 0x3fff
}
