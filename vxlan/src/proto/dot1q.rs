//! The VLAN tag (IEEE 802.1Q).
//!
//! Here the tag is a layer of its own; [`EthernetFrame`](crate::EthernetFrame) splits the outermost off.

use pnet::packet::ethernet::EtherType;
use pnet::packet::vlan::{ClassOfService, MutableVlanPacket, VlanPacket};

use super::ethertype;
use super::{Around, FieldError, Header, Kind, ROOM, Read, fits};
use crate::ReadError;

/// Bytes of a tag, after the EtherType that announces it.
pub const TAG_LEN: usize = 4;

/// A VLAN tag. The EtherType that announces it (0x8100, or 0x88a8 for a service tag) is in the layer below.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dot1q {
    /// Priority, 0 to 7.
    pub pcp: u8,
    /// Drop eligible.
    pub dei: bool,
    /// VLAN id, 0 to 4095.
    pub vid: u16,
    /// EtherType of what follows; unset: that of the layer above.
    pub ethertype: Option<u16>,
}

impl Dot1q {
    pub(crate) fn read(bytes: &[u8]) -> Result<Read, ReadError> {
        let raw =
            VlanPacket::new(bytes).ok_or_else(|| ReadError::truncated("dot1q", bytes.len(), TAG_LEN))?;
        let ethertype = raw.get_ethertype().0;
        let layer = Self {
            pcp: raw.get_priority_code_point().0,
            dei: raw.get_drop_eligible_indicator() == 1,
            vid: raw.get_vlan_identifier(),
            ethertype: Some(ethertype),
        };
        Ok(Read { layer: layer.into(), body: TAG_LEN..bytes.len(), next: ethertype::kind(ethertype) })
    }
}

impl Header for Dot1q {
    fn header_len(&self) -> usize {
        TAG_LEN
    }

    fn emit(&self, room: &mut [u8], around: &Around<'_>) -> Result<(), FieldError> {
        fits("pcp", self.pcp, 7)?;
        fits("vid", self.vid, 0xfff)?;
        let mut raw = MutableVlanPacket::new(room).expect(ROOM);
        raw.set_priority_code_point(ClassOfService(self.pcp));
        raw.set_drop_eligible_indicator(self.dei.into());
        raw.set_vlan_identifier(self.vid);
        raw.set_ethertype(EtherType(self.ethertype.unwrap_or(ethertype::of(around.next()))));
        Ok(())
    }

    fn settle(&mut self, next: Option<Kind>) {
        self.ethertype.take_if(|found| *found == ethertype::of(next));
    }
}
