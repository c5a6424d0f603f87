//! What the switch needs to know of a frame, read once.

use vxlan::{EthernetFrame, MacAddr, proto::dot1q, proto::ethertype};

use crate::offload::Offload;

/// Most bytes of a frame: a jumbo payload, an Ethernet header with FCS, and a VLAN tag.
pub const MAX_FRAME_LEN: usize = 9216 + 18 + 4;

/// A frame on its way through the switch.
pub(crate) struct Frame<'a> {
    pub(crate) eth: EthernetFrame<'a>,
    pub(crate) dst: MacAddr,
    pub(crate) src: MacAddr,
    /// VLAN id; 0 without a tag or with a priority tag.
    pub(crate) vid: u16,
    /// Bytes after Ethernet header and VLAN tags; if uncut, those of its longest segment.
    pub(crate) l3_len: usize,
    /// The work left for its receiver.
    pub(crate) offload: Offload,
}

impl<'a> Frame<'a> {
    /// Reads a frame. `None` if no station can have sent it: truncated, or from a group or zero address.
    pub(crate) fn read(bytes: &'a [u8], offload: Offload) -> Option<Self> {
        let eth = EthernetFrame::new_checked(bytes).ok()?;
        let (dst, src) = (eth.dst(), eth.src());
        if !src.is_unicast() {
            return None;
        }
        let inner_tag = matches!(eth.ethertype(), ethertype::DOT1Q | ethertype::DOT1AD);
        let l2_len = eth.header_len() + if inner_tag { dot1q::TAG_LEN } else { 0 };
        let l3_len = offload.longest(bytes.len()).saturating_sub(l2_len);
        let vid = eth.vlan().map_or(0, |tag| tag.vid);
        Some(Self { eth, dst, src, vid, l3_len, offload })
    }

    /// The bytes as they came.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.eth.bytes()
    }

    /// Calls `each` with what a cable would carry.
    pub(crate) fn unfold(&self, each: impl FnMut(&[u8])) {
        self.offload.unfold(self.bytes(), each);
    }
}
