//! ESP (RFC 4303): the outer header, the only part in clear.

use super::{Around, FieldError, Header, Read, u32_at};
use crate::ReadError;

/// Bytes of the clear part.
pub const HEADER_LEN: usize = 8;

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
        let short = || ReadError::truncated("esp", bytes.len(), HEADER_LEN);
        let (header, _) = bytes.split_first_chunk::<HEADER_LEN>().ok_or_else(short)?;
        let [spi, seq] = [0, 4].map(|at| u32_at(header, at));
        let layer = Self { spi, seq };
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
