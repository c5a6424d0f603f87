//! Ethernet II: no FCS, no preamble, as in an AF_PACKET socket.

use std::net::{Ipv4Addr, Ipv6Addr};

use pnet::packet::ethernet::{EtherType, EthernetPacket, MutableEthernetPacket};

use super::dot1q::TAG_LEN;
use super::{Around, FieldError, Header, Kind, Layer, ROOM, Read};
use super::{arp, ethertype, u16_at};
use crate::{MacAddr, ReadError};

/// Bytes of an Ethernet header.
pub const HEADER_LEN: usize = 14;

/// The fields of an 802.1Q tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTag {
    /// Which kind of tag: 0x8100 (802.1Q) or 0x88a8 (802.1ad).
    pub tpid: u16,
    /// Priority, 0 to 7.
    pub pcp: u8,
    /// Drop eligible.
    pub dei: bool,
    /// VLAN id, 0 to 4095; 0 is a priority tag.
    pub vid: u16,
}

impl VlanTag {
    /// The tag of kind `tpid` with these control bits: 3 of priority, drop eligible, 12 of the id.
    pub(crate) fn new(tpid: u16, control: u16) -> Self {
        Self { tpid, pcp: (control >> 13) as u8, dei: control & 0x1000 != 0, vid: control & 0xfff }
    }
}

/// A frame; its outermost VLAN tag, if any, is split off.
///
/// ```
/// use vxlan::EthernetFrame;
/// let mut bytes = [0u8; 20];
/// bytes[12..18].copy_from_slice(&[0x81, 0x00, 0xa0, 0x05, 0x08, 0x00]);
/// let frame = EthernetFrame::new_checked(&bytes)?;
/// assert_eq!(frame.vlan().map(|tag| (tag.vid, tag.pcp)), Some((5, 5)));
/// assert_eq!((frame.ethertype(), frame.payload().len()), (0x0800, 2));
/// # Ok::<(), vxlan::ReadError>(())
/// ```
#[derive(Debug)]
pub struct EthernetFrame<'a> {
    bytes: &'a [u8],
    tag: Option<VlanTag>,
    ethertype: u16,
}

impl<'a> EthernetFrame<'a> {
    /// Reads a frame over `bytes`: at least 14, or 18 with a tag.
    ///
    /// # Errors
    /// If the bytes end within the header or the tag.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        if bytes.len() < HEADER_LEN {
            return Err(ReadError::truncated("eth", bytes.len(), HEADER_LEN));
        }
        let (outer, rest) = (u16_at(bytes, 12), &bytes[HEADER_LEN..]);
        if outer != ethertype::DOT1Q && outer != ethertype::DOT1AD {
            return Ok(Self { bytes, tag: None, ethertype: outer });
        }
        if rest.len() < TAG_LEN {
            return Err(ReadError::truncated("dot1q", rest.len(), TAG_LEN).at(HEADER_LEN));
        }
        Ok(Self { bytes, tag: Some(VlanTag::new(outer, u16_at(rest, 0))), ethertype: u16_at(rest, 2) })
    }

    /// Destination address.
    #[must_use]
    pub fn dst(&self) -> MacAddr {
        MacAddr(std::array::from_fn(|i| self.bytes[i]))
    }

    /// Source address.
    #[must_use]
    pub fn src(&self) -> MacAddr {
        MacAddr(std::array::from_fn(|i| self.bytes[6 + i]))
    }

    /// The outermost tag, if there is one.
    #[must_use]
    pub fn vlan(&self) -> Option<VlanTag> {
        self.tag
    }

    /// EtherType after the tag; under 0x600 it is an 802.3 length.
    #[must_use]
    pub fn ethertype(&self) -> u16 {
        self.ethertype
    }

    /// Bytes of header and tag.
    #[must_use]
    pub fn header_len(&self) -> usize {
        if self.tag.is_some() { HEADER_LEN + TAG_LEN } else { HEADER_LEN }
    }

    /// The bytes after header and tag, including padding of short frames.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_len()..]
    }

    /// The whole frame.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// An Ethernet header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ether {
    /// Destination; unset: the group that an ARP request, multicast or broadcast above goes to, or else zero.
    pub dst: Option<MacAddr>,
    /// Source; unset: zero.
    pub src: Option<MacAddr>,
    /// EtherType; unset: that of the layer above.
    pub ethertype: Option<u16>,
}

/// The Ethernet address for IPv4 `dst` if that is a group or broadcast; else zero.
pub(crate) fn group_of_ipv4(dst: Ipv4Addr) -> MacAddr {
    if dst.is_broadcast() {
        MacAddr::BROADCAST
    } else if dst.is_multicast() {
        MacAddr::for_ipv4_multicast(dst)
    } else {
        MacAddr::ZERO
    }
}

/// The Ethernet address for IPv6 `dst` if that is a group; else zero.
pub(crate) fn group_of_ipv6(dst: Ipv6Addr) -> MacAddr {
    if dst.is_multicast() { MacAddr::for_ipv6_multicast(dst) } else { MacAddr::ZERO }
}

impl Ether {
    fn dst_for(&self, above: &[Layer]) -> MacAddr {
        let reached = above.iter().find(|layer| layer.kind() != Kind::Dot1q);
        self.dst.unwrap_or_else(|| match reached {
            Some(Layer::Arp(arp)) if arp.operation == arp::REQUEST => MacAddr::BROADCAST,
            Some(Layer::Ipv4(ip)) => ip.dst.map_or(MacAddr::ZERO, group_of_ipv4),
            Some(Layer::Ipv6(ip)) => ip.dst.map_or(MacAddr::ZERO, group_of_ipv6),
            _ => MacAddr::ZERO,
        })
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Read, ReadError> {
        let raw =
            EthernetPacket::new(bytes).ok_or_else(|| ReadError::truncated("eth", bytes.len(), HEADER_LEN))?;
        let ethertype = raw.get_ethertype().0;
        let layer = Self {
            dst: Some(raw.get_destination().into()),
            src: Some(raw.get_source().into()),
            ethertype: Some(ethertype),
        };
        Ok(Read { layer: layer.into(), body: HEADER_LEN..bytes.len(), next: ethertype::kind(ethertype) })
    }
}

impl Header for Ether {
    fn header_len(&self) -> usize {
        HEADER_LEN
    }

    fn emit(&self, room: &mut [u8], around: &Around<'_>) -> Result<(), FieldError> {
        let mut raw = MutableEthernetPacket::new(room).expect(ROOM);
        raw.set_destination(self.dst_for(around.above).into());
        raw.set_source(self.src.unwrap_or_default().into());
        raw.set_ethertype(EtherType(self.ethertype.unwrap_or(ethertype::of(around.next()))));
        Ok(())
    }

    fn settle(&mut self, next: Option<Kind>) {
        self.ethertype.take_if(|found| *found == ethertype::of(next));
    }
}
