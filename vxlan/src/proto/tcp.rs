//! TCP (RFC 9293).

use std::fmt;

use pnet::packet::tcp::MutableTcpPacket;

use super::{Around, Covered, FieldError, Header, ROOM, Read, Wrong, fits, no_addresses, options_fit};
use super::{ip_protocol, u16_at, u32_at, udp};
use crate::ReadError;
use crate::checksum::Addresses;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// The eight flag bits of a segment. Written and read as letters: `SA` is SYN and ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Opens a connection.
    pub const SYN: Self = Self(0x02);
    /// Ends a connection at once.
    pub const RST: Self = Self(0x04);
    /// Hand the data on.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number is valid.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is valid.
    pub const URG: Self = Self(0x20);
    /// Congestion was seen (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// The window was reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Letters of the bits, lowest first.
    const LETTERS: [char; 8] = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'C'];

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::str::FromStr for TcpFlags {
    type Err = String;

    /// Reads letters in any order, or `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(0));
        }
        let bit = |letter: char| Self::LETTERS.iter().position(|known| *known == letter.to_ascii_uppercase());
        let bits = text.chars().try_fold(0, |bits, letter| Some(bits | 1 << bit(letter)?));
        match bits {
            Some(bits) if bits != 0 => Ok(Self(bits)),
            _ => Err(format!("{text:?} is none and no letters out of FSRPAUEC")),
        }
    }
}

impl fmt::Display for TcpFlags {
    /// Letters, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        for (bit, letter) in Self::LETTERS.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// A segment whose header fits its bytes.
#[derive(Debug)]
pub struct TcpView<'a> {
    bytes: &'a [u8],
}

impl<'a> TcpView<'a> {
    /// Reads a segment over `bytes`. Does not check the checksum.
    ///
    /// # Errors
    /// If the bytes end within the header, or if its length is impossible.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        if bytes.len() < HEADER_LEN {
            return Err(ReadError::truncated("tcp", bytes.len(), HEADER_LEN));
        }
        let header = usize::from(bytes[12] >> 4) * 4;
        if header < HEADER_LEN {
            return Err(ReadError::value("tcp", "offset", 12, header / 4, "at least 5"));
        }
        if header > bytes.len() {
            return Err(ReadError::truncated("tcp", bytes.len(), header));
        }
        Ok(Self { bytes })
    }

    /// Source port.
    #[must_use]
    pub fn src_port(&self) -> u16 {
        u16_at(self.bytes, 0)
    }

    /// Destination port.
    #[must_use]
    pub fn dst_port(&self) -> u16 {
        u16_at(self.bytes, 2)
    }

    /// Sequence number.
    #[must_use]
    pub fn seq(&self) -> u32 {
        u32_at(self.bytes, 4)
    }

    /// Acknowledgement number.
    #[must_use]
    pub fn ack(&self) -> u32 {
        u32_at(self.bytes, 8)
    }

    /// Bytes of the header, options included.
    #[must_use]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes[12] >> 4) * 4
    }

    /// The four bits after the data offset.
    #[must_use]
    pub fn reserved(&self) -> u8 {
        self.bytes[12] & 0xf
    }

    /// Flags.
    #[must_use]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags(self.bytes[13])
    }

    /// Window, as the segment says (unscaled).
    #[must_use]
    pub fn window(&self) -> u16 {
        u16_at(self.bytes, 14)
    }

    /// Checksum, as the segment says.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes, 16)
    }

    /// Whether the checksum is right for all bytes given, between these addresses.
    #[must_use]
    pub fn checksum_ok(&self, addresses: Addresses) -> bool {
        addresses.verifies(super::ip_protocol::TCP, self.bytes)
    }

    /// Urgent pointer.
    #[must_use]
    pub fn urgent(&self) -> u16 {
        u16_at(self.bytes, 18)
    }

    /// The options, 0 to 40 bytes.
    #[must_use]
    pub fn options(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..self.header_len()]
    }

    /// The bytes after the header.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_len()..]
    }
}

/// A TCP header; by default a SYN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The four bits after the data offset.
    pub reserved: u8,
    /// Flags.
    pub flags: TcpFlags,
    /// Window.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options: a multiple of 4 bytes, at most 40.
    pub options: Vec<u8>,
    /// Header length in units of 4 bytes; unset: the right one. Readers never set it.
    pub data_offset: Option<u8>,
    /// Checksum; unset: the right one.
    pub checksum: Option<u16>,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            src_port: udp::DEFAULT_SRC_PORT,
            dst_port: udp::DEFAULT_DST_PORT,
            seq: 0,
            ack: 0,
            reserved: 0,
            flags: TcpFlags::SYN,
            window: 0xffff,
            urgent: 0,
            options: Vec::new(),
            data_offset: None,
            checksum: None,
        }
    }
}

impl Tcp {
    pub(crate) fn read(bytes: &[u8], addresses: Option<Addresses>) -> Result<Read, ReadError> {
        let view = TcpView::new_checked(bytes)?;
        let right_sum = addresses.map(|ends| ends.checksum(ip_protocol::TCP, bytes, 16));
        let layer = Self {
            src_port: view.src_port(),
            dst_port: view.dst_port(),
            seq: view.seq(),
            ack: view.ack(),
            reserved: view.reserved(),
            flags: view.flags(),
            window: view.window(),
            urgent: view.urgent(),
            options: view.options().to_vec(),
            data_offset: None,
            checksum: Some(view.checksum()).filter(|sum| Some(*sum) != right_sum),
        };
        Ok(Read { layer: layer.into(), body: view.header_len()..bytes.len(), next: None })
    }
}

impl Header for Tcp {
    fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    fn emit(&self, room: &mut [u8], around: &Around<'_>) -> Result<(), FieldError> {
        fits("reserved", self.reserved, 15)?;
        fits("offset", self.data_offset.unwrap_or_default(), 15)?;
        options_fit(&self.options)?;
        let header = self.header_len();
        room[HEADER_LEN..header].copy_from_slice(&self.options);
        let mut raw = MutableTcpPacket::new(room).expect(ROOM);
        raw.set_source(self.src_port);
        raw.set_destination(self.dst_port);
        raw.set_sequence(self.seq);
        raw.set_acknowledgement(self.ack);
        raw.set_data_offset(self.data_offset.unwrap_or((header / 4) as u8));
        raw.set_reserved(self.reserved);
        raw.set_flags(self.flags.0);
        raw.set_window(self.window);
        raw.set_urgent_ptr(self.urgent);
        let sum = match (self.checksum, around.addresses) {
            (Some(set), _) => set,
            (None, Some(ends)) => ends.checksum(ip_protocol::TCP, room, 16),
            (None, None) => return Err(no_addresses()),
        };
        room[16..18].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }

    fn covered(&self, len: usize) -> Option<Covered> {
        self.checksum.is_none().then_some(Covered { field: 16, len, addresses: true })
    }

    fn wrong(&self) -> Vec<Wrong> {
        Wrong::list([("sum", self.checksum)])
    }
}
