//! IPv6 (RFC 8200). Extension headers are payload.

use std::net::Ipv6Addr;

use pnet_packet::ip::IpNextHeaderProtocol;
use pnet_packet::ipv6::{Ipv6Packet, MutableIpv6Packet};

use super::ip_protocol;
use crate::ReadError;
use crate::checksum::Addresses;
use crate::stack::{Around, FieldError, Header, Kind, ROOM, Read, Wrong, fits, length};

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;

/// An IPv6 packet whose payload length fits its bytes.
#[derive(Debug)]
pub struct Ipv6View<'a> {
    bytes: &'a [u8],
    raw: Ipv6Packet<'a>,
}

impl<'a> Ipv6View<'a> {
    /// Reads a packet over `bytes`; bytes after the payload length are ignored.
    ///
    /// # Errors
    /// If the bytes end within the header or before the payload length, or if the version is not 6.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let view = Self::header_checked(bytes)?;
        let end = HEADER_LEN + usize::from(view.payload_len());
        if end > bytes.len() {
            let len = usize::from(view.payload_len());
            return Err(ReadError::value("ip6", "len", 4, len, "at most the bytes there are"));
        }
        Ok(Self { bytes: &bytes[..end], raw: view.raw })
    }

    /// Reads a packet but checks only the header; the payload is all that follows the header.
    ///
    /// # Errors
    /// If the bytes end within the header, or if the version is not 6.
    pub fn header_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let raw =
            Ipv6Packet::new(bytes).ok_or_else(|| ReadError::truncated("ip6", bytes.len(), HEADER_LEN))?;
        if raw.get_version() != 6 {
            return Err(ReadError::value("ip6", "version", 0, raw.get_version().into(), "6"));
        }
        Ok(Self { bytes, raw })
    }

    /// Traffic class: DSCP and ECN.
    #[must_use]
    pub fn traffic_class(&self) -> u8 {
        self.raw.get_traffic_class()
    }

    /// Flow label, 20 bits.
    #[must_use]
    pub fn flow_label(&self) -> u32 {
        self.raw.get_flow_label()
    }

    /// Bytes after the header, as the packet says.
    #[must_use]
    pub fn payload_len(&self) -> u16 {
        self.raw.get_payload_length()
    }

    /// Protocol of the payload: see [`ip_protocol`].
    #[must_use]
    pub fn next_header(&self) -> u8 {
        self.raw.get_next_header().0
    }

    /// Hops left.
    #[must_use]
    pub fn hop_limit(&self) -> u8 {
        self.raw.get_hop_limit()
    }

    /// Source address.
    #[must_use]
    pub fn src(&self) -> Ipv6Addr {
        self.raw.get_source()
    }

    /// Destination address.
    #[must_use]
    pub fn dst(&self) -> Ipv6Addr {
        self.raw.get_destination()
    }

    /// Both addresses, for the checksums above.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses::V6 { src: self.src(), dst: self.dst() }
    }

    /// The bytes after the header, up to the payload length.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// Header and payload.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
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
        let view = Ipv6View::header_checked(bytes)?;
        let total = HEADER_LEN + usize::from(view.payload_len());
        let fits = total <= bytes.len();
        let end = if fits { total } else { bytes.len() };
        let layer = Self {
            src: Some(view.src()),
            dst: Some(view.dst()),
            traffic_class: view.traffic_class(),
            flow_label: view.flow_label(),
            hop_limit: view.hop_limit(),
            next_header: Some(view.next_header()),
            payload_len: (!fits).then_some(view.payload_len()),
            trailer: bytes[end..].to_vec(),
        };
        let next = ip_protocol::kind(view.next_header(), Kind::Ipv6);
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
