//! VXLAN-GPE, the generic protocol extension (draft-ietf-nvo3-vxlan-gpe), on a port of its own.

use super::vxlan::{self, FLAG_VNI, HEADER_LEN};
use super::{Around, FieldError, Header, Kind, Read};
use crate::ReadError;

/// The version bits of byte 0, which are zero.
pub const VERSION_MASK: u8 = 0x30;
/// The P flag of byte 0: byte 3 says what follows. Without the flag, Ethernet follows.
pub const FLAG_NEXT_PROTOCOL: u8 = 0x04;
/// The O flag of byte 0: for operations, administration and maintenance.
pub const FLAG_OAM: u8 = 0x01;

/// Values of next protocol (section 3.2).
pub mod next {
    /// IPv4.
    pub const IPV4: u8 = 1;
    /// IPv6.
    pub const IPV6: u8 = 2;
    /// Ethernet.
    pub const ETHERNET: u8 = 3;
    /// Network service header.
    pub const NSH: u8 = 4;
    /// For experiments: used for a payload without a protocol.
    pub const EXPERIMENTAL: u8 = 0x7e;

    use super::super::Kind;

    /// The layer that a header with these flags and this next protocol announces; `None` if we do not read it further.
    pub(in crate::proto) fn kind(flags: u8, next_protocol: u8) -> Option<Kind> {
        match next_protocol {
            _ if flags & super::FLAG_NEXT_PROTOCOL == 0 => Some(Kind::Ether),
            ETHERNET => Some(Kind::Ether),
            IPV4 => Some(Kind::Ipv4),
            IPV6 => Some(Kind::Ipv6),
            _ => None,
        }
    }
}

/// A VXLAN-GPE header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpe {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// What follows: see [`next`]; unset: the kind of the layer above.
    pub next_protocol: Option<u8>,
    /// Byte 0, version included: I and P by default.
    pub flags: u8,
    /// Bytes 1 and 2.
    pub reserved1: u16,
    /// Byte 7.
    pub reserved2: u8,
}

impl Default for Gpe {
    fn default() -> Self {
        Self { vni: 0, next_protocol: None, flags: FLAG_VNI | FLAG_NEXT_PROTOCOL, reserved1: 0, reserved2: 0 }
    }
}

impl Gpe {
    pub(crate) fn read(bytes: &[u8]) -> Result<Read, ReadError> {
        let packet = vxlan::parse(bytes).map_err(|error| ReadError { layer: "gpe", ..error })?;
        let [_, high, low, next_protocol] = packet.get_reserved1().to_be_bytes();
        let layer = Self {
            vni: packet.get_vni(),
            next_protocol: Some(next_protocol),
            flags: packet.get_flags(),
            reserved1: u16::from_be_bytes([high, low]),
            reserved2: packet.get_reserved2(),
        };
        Ok(Read {
            layer: layer.into(),
            body: HEADER_LEN..bytes.len(),
            next: vxlan::inner(&packet, Kind::Gpe),
        })
    }

    /// The value of byte 3 if it is unset.
    fn next_for(&self, above: Option<Kind>) -> u8 {
        match above {
            _ if self.flags & FLAG_NEXT_PROTOCOL == 0 => 0,
            Some(Kind::Ether) => next::ETHERNET,
            Some(Kind::Ipv4) => next::IPV4,
            Some(Kind::Ipv6) => next::IPV6,
            _ => next::EXPERIMENTAL,
        }
    }
}

impl Header for Gpe {
    fn header_len(&self) -> usize {
        HEADER_LEN
    }

    fn emit(&self, room: &mut [u8], around: &Around<'_>) -> Result<(), FieldError> {
        let [high, low] = self.reserved1.to_be_bytes();
        let next_protocol = self.next_protocol.unwrap_or(self.next_for(around.next()));
        vxlan::emit(
            room,
            self.flags,
            u32::from_be_bytes([0, high, low, next_protocol]),
            self.vni,
            self.reserved2,
        )
    }

    fn settle(&mut self, next: Option<Kind>) {
        let right = self.next_for(next);
        self.next_protocol.take_if(|found| *found == right);
    }
}
