//! IPv6 (RFC 8200). Extension headers are payload.

use std::net::Ipv6Addr;

use pnet::packet::ip::IpNextHeaderProtocol;
use pnet::packet::ipv6::{Ipv6Packet, MutableIpv6Packet};

use super::ip_protocol;
use super::{Around, FieldError, Header, Kind, ROOM, Read, Wrong, fits, length};
use crate::ReadError;
use crate::checksum::Addresses;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
/// Extension header of options for every hop.
pub const HOP_BY_HOP: u8 = 0;
/// Extension header of routers to pass.
pub const ROUTING: u8 = 43;
/// Extension header of a fragment.
pub const FRAGMENT: u8 = 44;
/// Extension header of options for the destination.
pub const DESTINATION: u8 = 60;

/// Reads an IPv6 packet over `bytes`. Its payload length may be anything.
///
/// # Errors
/// If the bytes end within the header, or if the version is not 6, which pnet does not check.
pub fn parse(bytes: &[u8]) -> Result<Ipv6Packet<'_>, ReadError> {
    let packet =
        Ipv6Packet::new(bytes).ok_or_else(|| ReadError::truncated("ip6", bytes.len(), HEADER_LEN))?;
    match packet.get_version() {
        6 => Ok(packet),
        other => Err(ReadError::value("ip6", "version", 0, other.into(), "6")),
    }
}

/// An IPv6 header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv6 {
    /// Source; unset: `::`.
    pub src: Option<Ipv6Addr>,
    /// Destination; unset: `::`.
    pub dst: Option<Ipv6Addr>,
    /// Traffic class: DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Hops left.
    pub hop_limit: u8,
    /// Next header; unset: that of the layer above.
    pub next_header: Option<u8>,
    /// Bytes after the header; unset: the right number.
    pub payload_len: Option<u16>,
    /// Bytes after the packet that its payload length does not count.
    pub trailer: Vec<u8>,
}

impl Default for Ipv6 {
    fn default() -> Self {
        Self {
            src: None,
            dst: None,
            traffic_class: 0,
            flow_label: 0,
            hop_limit: 64,
            next_header: None,
            payload_len: None,
            trailer: Vec::new(),
        }
    }
}

impl Ipv6 {
    /// Both addresses as they are built.
    pub(crate) fn addresses(&self) -> Addresses {
        let or_none = |address: Option<Ipv6Addr>| address.unwrap_or(Ipv6Addr::UNSPECIFIED);
        Addresses::V6 { src: or_none(self.src), dst: or_none(self.dst) }
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Read, ReadError> {
        let packet = parse(bytes)?;
        let total = HEADER_LEN + usize::from(packet.get_payload_length());
        let fits = total <= bytes.len();
        let end = if fits { total } else { bytes.len() };
        let layer = Self {
            src: Some(packet.get_source()),
            dst: Some(packet.get_destination()),
            traffic_class: packet.get_traffic_class(),
            flow_label: packet.get_flow_label(),
            hop_limit: packet.get_hop_limit(),
            next_header: Some(packet.get_next_header().0),
            payload_len: (!fits).then_some(packet.get_payload_length()),
            trailer: bytes[end..].to_vec(),
        };
        let next = ip_protocol::kind(packet.get_next_header().0, Kind::Ipv6);
        Ok(Read { layer: layer.into(), body: HEADER_LEN..end, next })
    }
}

impl Header for Ipv6 {
    fn header_len(&self) -> usize {
        HEADER_LEN
    }

    fn trailer(&self) -> &[u8] {
        &self.trailer
    }

    fn emit(&self, room: &mut [u8], around: &Around<'_>) -> Result<(), FieldError> {
        fits("flow", self.flow_label, 0xf_ffff)?;
        let payload_len = length("len", self.payload_len, room.len() - HEADER_LEN)?;
        let mut raw = MutableIpv6Packet::new(room).expect(ROOM);
        raw.set_version(6);
        raw.set_traffic_class(self.traffic_class);
        raw.set_flow_label(self.flow_label);
        raw.set_payload_length(payload_len);
        raw.set_next_header(IpNextHeaderProtocol(
            self.next_header.unwrap_or(ip_protocol::of(around.next(), Kind::Ipv6)),
        ));
        raw.set_hop_limit(self.hop_limit);
        raw.set_source(self.src.unwrap_or(Ipv6Addr::UNSPECIFIED));
        raw.set_destination(self.dst.unwrap_or(Ipv6Addr::UNSPECIFIED));
        Ok(())
    }

    fn settle(&mut self, next: Option<Kind>) {
        self.next_header.take_if(|found| *found == ip_protocol::of(next, Kind::Ipv6));
    }

    fn wrong(&self) -> Vec<Wrong> {
        Wrong::list([("len", self.payload_len)])
    }
}
