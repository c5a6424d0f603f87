//! IPv4 (RFC 791, RFC 6864).

use std::net::Ipv4Addr;

use pnet::packet::ip::IpNextHeaderProtocol;
use pnet::packet::ipv4::{Ipv4Flags, MutableIpv4Packet};

use super::{Around, Covered, FieldError, Header, Kind, ROOM, Read, Wrong, fits, length, options_fit};
use super::{ip_protocol, u16_at, u32_at};
use crate::ReadError;
use crate::checksum::{self, Addresses};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// An IPv4 packet whose header and total length fit its bytes.
#[derive(Debug)]
pub struct Ipv4View<'a> {
    bytes: &'a [u8],
}

impl<'a> Ipv4View<'a> {
    /// Reads a packet over `bytes`; bytes after the total length (a short frame's padding) are ignored. Does not check
    /// the checksum: see [`checksum_ok`](Self::checksum_ok).
    ///
    /// # Errors
    /// If the bytes end within the header or before the total length, or if version, header length or total length is
    /// impossible.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let view = Self::header_checked(bytes)?;
        let total = usize::from(view.total_len());
        if total < view.header_len() {
            return Err(ReadError::value("ip", "len", 2, total, "at least the header's length"));
        }
        if total > bytes.len() {
            return Err(ReadError::value("ip", "len", 2, total, "at most the bytes there are"));
        }
        Ok(Self { bytes: &bytes[..total] })
    }

    /// Reads a packet but checks only the header: the total length may be anything, and the payload is all that follows
    /// the header. For truncated packets, as in an ICMP error.
    ///
    /// # Errors
    /// If the bytes end within the header, or if version or header length is impossible.
    pub fn header_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        if bytes.len() < HEADER_LEN {
            return Err(ReadError::truncated("ip", bytes.len(), HEADER_LEN));
        }
        let (version, header) = (usize::from(bytes[0] >> 4), usize::from(bytes[0] & 0xf) * 4);
        if version != 4 {
            return Err(ReadError::value("ip", "version", 0, version, "4"));
        }
        if header < HEADER_LEN {
            return Err(ReadError::value("ip", "ihl", 0, header / 4, "at least 5"));
        }
        if header > bytes.len() {
            return Err(ReadError::truncated("ip", bytes.len(), header));
        }
        Ok(Self { bytes })
    }

    /// Bytes of the header, options included.
    #[must_use]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes[0] & 0xf) * 4
    }

    /// Differentiated services code point, 6 bits.
    #[must_use]
    pub fn dscp(&self) -> u8 {
        self.bytes[1] >> 2
    }

    /// Explicit congestion notification, 2 bits.
    #[must_use]
    pub fn ecn(&self) -> u8 {
        self.bytes[1] & 3
    }

    /// Bytes of header and payload, as the packet says.
    #[must_use]
    pub fn total_len(&self) -> u16 {
        u16_at(self.bytes, 2)
    }

    /// Identification: the same in all fragments of a packet.
    #[must_use]
    pub fn id(&self) -> u16 {
        u16_at(self.bytes, 4)
    }

    /// The three flag bits: 4 reserved, 2 don't fragment, 1 more fragments.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.bytes[6] >> 5
    }

    /// Whether the packet must not be fragmented.
    #[must_use]
    pub fn dont_fragment(&self) -> bool {
        self.flags() & Ipv4Flags::DontFragment != 0
    }

    /// Whether fragments follow.
    #[must_use]
    pub fn more_fragments(&self) -> bool {
        self.flags() & Ipv4Flags::MoreFragments != 0
    }

    /// Offset of the payload in the whole packet's payload, in units of 8 bytes.
    #[must_use]
    pub fn fragment_offset(&self) -> u16 {
        u16_at(self.bytes, 6) & 0x1fff
    }

    /// Whether this is only a part of a packet.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.more_fragments() || self.fragment_offset() != 0
    }

    /// Time to live, hops.
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.bytes[8]
    }

    /// Protocol of the payload: see [`ip_protocol`].
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.bytes[9]
    }

    /// Header checksum, as the packet says.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes, 10)
    }

    /// Whether the header checksum is right.
    #[must_use]
    pub fn checksum_ok(&self) -> bool {
        checksum::of(&self.bytes[..self.header_len()]) == 0
    }

    /// Source address.
    #[must_use]
    pub fn src(&self) -> Ipv4Addr {
        u32_at(self.bytes, 12).into()
    }

    /// Destination address.
    #[must_use]
    pub fn dst(&self) -> Ipv4Addr {
        u32_at(self.bytes, 16).into()
    }

    /// Both addresses, for the checksums above.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses::V4 { src: self.src(), dst: self.dst() }
    }

    /// The options, 0 to 40 bytes.
    #[must_use]
    pub fn options(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..self.header_len()]
    }

    /// The bytes after the header, up to the total length.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_len()..]
    }

    /// Header and payload, without what follows the total length.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// An IPv4 header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source; unset: 0.0.0.0.
    pub src: Option<Ipv4Addr>,
    /// Destination; unset: 0.0.0.0.
    pub dst: Option<Ipv4Addr>,
    /// Differentiated services code point, 6 bits.
    pub dscp: u8,
    /// Explicit congestion notification, 2 bits.
    pub ecn: u8,
    /// Identification.
    pub id: u16,
    /// The reserved flag, which must be zero.
    pub reserved: bool,
    /// Don't fragment.
    pub df: bool,
    /// More fragments.
    pub mf: bool,
    /// Fragment offset, in units of 8 bytes, 13 bits. If not 0, the payload does not begin with a protocol's header.
    pub fragment_offset: u16,
    /// Time to live, hops.
    pub ttl: u8,
    /// Protocol; unset: that of the layer above.
    pub protocol: Option<u8>,
    /// Options: a multiple of 4 bytes, at most 40.
    pub options: Vec<u8>,
    /// Header length in units of 4 bytes; unset: the right one. Readers never set it.
    pub ihl: Option<u8>,
    /// Bytes of header and payload; unset: the right number.
    pub total_len: Option<u16>,
    /// Header checksum; unset: the right one.
    pub checksum: Option<u16>,
    /// Bytes after the packet that its total length does not count, such as the padding of a short frame.
    pub trailer: Vec<u8>,
}

impl Default for Ipv4 {
    fn default() -> Self {
        Self {
            src: None,
            dst: None,
            dscp: 0,
            ecn: 0,
            id: 0,
            reserved: false,
            df: false,
            mf: false,
            fragment_offset: 0,
            ttl: 64,
            protocol: None,
            options: Vec::new(),
            ihl: None,
            total_len: None,
            checksum: None,
            trailer: Vec::new(),
        }
    }
}

impl Ipv4 {
    /// Both addresses as they are built.
    pub(crate) fn addresses(&self) -> Addresses {
        let or_none = |address: Option<Ipv4Addr>| address.unwrap_or(Ipv4Addr::UNSPECIFIED);
        Addresses::V4 { src: or_none(self.src), dst: or_none(self.dst) }
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Read, ReadError> {
        let view = Ipv4View::header_checked(bytes)?;
        let header = view.header_len();
        let total = usize::from(view.total_len());
        // A possible total length separates payload and trailer; an impossible one is kept as set.
        let fits = (header..=bytes.len()).contains(&total);
        let end = if fits { total } else { bytes.len() };
        let right_sum = checksum::of_with_field_zero(&bytes[..header], 10);
        let layer = Self {
            src: Some(view.src()),
            dst: Some(view.dst()),
            dscp: view.dscp(),
            ecn: view.ecn(),
            id: view.id(),
            reserved: view.flags() & 0b100 != 0,
            df: view.dont_fragment(),
            mf: view.more_fragments(),
            fragment_offset: view.fragment_offset(),
            ttl: view.ttl(),
            protocol: Some(view.protocol()),
            options: view.options().to_vec(),
            ihl: None,
            total_len: (!fits).then_some(view.total_len()),
            checksum: Some(view.checksum()).filter(|sum| *sum != right_sum),
            trailer: bytes[end..].to_vec(),
        };
        let whole = view.fragment_offset() == 0;
        let next = ip_protocol::kind(view.protocol(), Kind::Ipv4).filter(|_| whole);
        Ok(Read { layer: layer.into(), body: header..end, next })
    }
}

impl Header for Ipv4 {
    fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    fn trailer(&self) -> &[u8] {
        &self.trailer
    }

    fn emit(&self, room: &mut [u8], around: &Around<'_>) -> Result<(), FieldError> {
        fits("dscp", self.dscp, 0x3f)?;
        fits("ecn", self.ecn, 3)?;
        fits("frag", self.fragment_offset, 0x1fff)?;
        fits("ihl", self.ihl.unwrap_or_default(), 15)?;
        options_fit(&self.options)?;
        let header = self.header_len();
        let total = length("len", self.total_len, room.len())?;
        room[HEADER_LEN..header].copy_from_slice(&self.options);
        let mut raw = MutableIpv4Packet::new(room).expect(ROOM);
        raw.set_version(4);
        raw.set_header_length(self.ihl.unwrap_or((header / 4) as u8));
        raw.set_dscp(self.dscp);
        raw.set_ecn(self.ecn);
        raw.set_total_length(total);
        raw.set_identification(self.id);
        raw.set_flags(u8::from(self.reserved) << 2 | u8::from(self.df) << 1 | u8::from(self.mf));
        raw.set_fragment_offset(self.fragment_offset);
        raw.set_ttl(self.ttl);
        raw.set_next_level_protocol(IpNextHeaderProtocol(
            self.protocol.unwrap_or(ip_protocol::of(around.next(), Kind::Ipv4)),
        ));
        raw.set_source(self.src.unwrap_or(Ipv4Addr::UNSPECIFIED));
        raw.set_destination(self.dst.unwrap_or(Ipv4Addr::UNSPECIFIED));
        let sum = self.checksum.unwrap_or_else(|| checksum::of_with_field_zero(&room[..header], 10));
        room[10..12].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }

    fn settle(&mut self, next: Option<Kind>) {
        self.protocol.take_if(|found| *found == ip_protocol::of(next, Kind::Ipv4));
    }

    fn covered(&self, _: usize) -> Option<Covered> {
        let len = self.header_len();
        self.checksum.is_none().then_some(Covered { field: 10, len, addresses: false })
    }

    fn wrong(&self) -> Vec<Wrong> {
        Wrong::list([("len", self.total_len), ("sum", self.checksum)])
    }
}
