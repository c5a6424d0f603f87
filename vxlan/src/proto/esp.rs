//! ESP (RFC 4303): the outer header, the only part in clear.

use crate::ReadError;
use crate::stack::{Around, FieldError, Header, Read};

/// Bytes of the clear part.
pub const HEADER_LEN: usize = 8;

/// An ESP packet.
#[derive(Debug, Clone, Copy)]
pub struct EspView<'a> {
    bytes: &'a [u8],
}

impl<'a> EspView<'a> {
    /// Reads an ESP packet over `bytes`, at least 8.
    ///
    /// # Errors
    /// If there are fewer bytes.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        if bytes.len() < HEADER_LEN {
            return Err(ReadError::truncated("esp", bytes.len(), HEADER_LEN));
        }
        Ok(Self { bytes })
    }

    /// Security parameters index.
    #[must_use]
    pub fn spi(&self) -> u32 {
        let b = self.bytes;
        u32::from_be_bytes([b[0], b[1], b[2], b[3]])
    }

    /// Sequence number.
    #[must_use]
    pub fn seq(&self) -> u32 {
        let b = self.bytes;
        u32::from_be_bytes([b[4], b[5], b[6], b[7]])
    }

    /// Initialisation vector, cipher text and check value.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }
}

/// The clear part of ESP; a payload of opaque bytes follows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Esp {
    /// Security parameters index; 0 is never on a wire, 1 to 255 are reserved.
    pub spi: u32,
    /// Sequence number.
    pub seq: u32,
}

impl Esp {
    pub(crate) fn read(bytes: &[u8]) -> Result<Read, ReadError> {
        let view = EspView::new_checked(bytes)?;
        let layer = Self { spi: view.spi(), seq: view.seq() };
        Ok(Read { layer: layer.into(), body: HEADER_LEN..bytes.len(), next: None })
    }
}

impl Header for Esp {
    fn header_len(&self) -> usize {
        HEADER_LEN
    }

    fn emit(&self, room: &mut [u8], _: &Around<'_>) -> Result<(), FieldError> {
        room[..4].copy_from_slice(&self.spi.to_be_bytes());
        room[4..HEADER_LEN].copy_from_slice(&self.seq.to_be_bytes());
        Ok(())
    }
}
