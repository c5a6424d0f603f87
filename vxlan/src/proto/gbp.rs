//! VXLAN with a group policy (draft-smith-vxlan-group-policy): `gbp` of Linux's VXLAN devices.

use pnet::packet::Packet;
use pnet::packet::vxlan::VxlanPacket;

use super::vxlan::{self, FLAG_GROUP_POLICY, FLAG_VNI, HEADER_LEN};
use super::{Around, FieldError, Header, Kind, Read};

/// The D flag of byte 1: the receiver must not learn the sender's address.
pub const DONT_LEARN: u8 = 0x40;
/// The A flag of byte 1: the policy was applied already.
pub const POLICY_APPLIED: u8 = 0x08;

/// A VXLAN header with a group policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gbp {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// Group policy: the group that the sender belongs to.
    pub policy: u16,
    /// The receiver must not learn the sender's address.
    pub dont_learn: bool,
    /// The policy was applied already.
    pub applied: bool,
    /// Byte 0: I and G by default. Without G it reads back as [`Vxlan`](super::vxlan::Vxlan).
    pub flags: u8,
    /// The other bits of byte 1.
    pub reserved1: u8,
    /// Byte 7.
    pub reserved2: u8,
}

impl Default for Gbp {
    fn default() -> Self {
        Self {
            vni: 0,
            policy: 0,
            dont_learn: false,
            applied: false,
            flags: FLAG_VNI | FLAG_GROUP_POLICY,
            reserved1: 0,
            reserved2: 0,
        }
    }
}

impl Gbp {
    pub(super) fn read(packet: &VxlanPacket<'_>) -> Read {
        let [_, bits, high, low] = packet.get_reserved1().to_be_bytes();
        let layer = Self {
            vni: packet.get_vni(),
            policy: u16::from_be_bytes([high, low]),
            dont_learn: bits & DONT_LEARN != 0,
            applied: bits & POLICY_APPLIED != 0,
            flags: packet.get_flags(),
            reserved1: bits & !(DONT_LEARN | POLICY_APPLIED),
            reserved2: packet.get_reserved2(),
        };
        Read {
            layer: layer.into(),
            body: HEADER_LEN..HEADER_LEN + packet.payload().len(),
            next: vxlan::inner(packet, Kind::Gbp),
        }
    }
}

impl Header for Gbp {
    fn header_len(&self) -> usize {
        HEADER_LEN
    }

    fn emit(&self, room: &mut [u8], _: &Around<'_>) -> Result<(), FieldError> {
        if self.reserved1 & (DONT_LEARN | POLICY_APPLIED) != 0 {
            return Err(FieldError::other("reserved1", "bits 0x48 are set by their own fields"));
        }
        let flag = |set, bit| if set { bit } else { 0 };
        let bits = self.reserved1 | flag(self.dont_learn, DONT_LEARN) | flag(self.applied, POLICY_APPLIED);
        let [high, low] = self.policy.to_be_bytes();
        vxlan::emit(room, self.flags, u32::from_be_bytes([0, bits, high, low]), self.vni, self.reserved2)
    }
}
