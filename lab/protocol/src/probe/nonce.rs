//! The nonce in a run's packets, by which we recognise them everywhere.

/// Length of a nonce in bytes.
pub const LEN: usize = 20;

/// First bytes of every nonce. The watchers' packet filter checks the first four.
pub const MAGIC: [u8; 7] = *b"labctl\0";

/// Kind of a packet. An ICMP answer repeats the request's nonce; there the ICMP type tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The shot itself.
    Request = 1,
    /// The answer of one of the run's listeners; its name follows.
    Answer = 2,
    /// A frame from a topology or user; the cell is its number.
    Frame = 3,
}

/// Marks a packet: 7 bytes of magic, the kind, the run (8 bytes) and the cell (4), big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce {
    /// Kind.
    pub kind: Kind,
    /// Run.
    pub run: u64,
    /// Cell.
    pub cell: u32,
}

impl Nonce {
    /// Its bytes.
    pub fn bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..7].copy_from_slice(&MAGIC);
        bytes[7] = self.kind as u8;
        bytes[8..16].copy_from_slice(&self.run.to_be_bytes());
        bytes[16..].copy_from_slice(&self.cell.to_be_bytes());
        bytes
    }

    /// Identifier and sequence number of its echo request. No other cell of the run has both: an answer that gets lost may
    /// come to somebody who asked the same address. Cells less than 65,536 apart also differ in the identifier: connection
    /// tracking goes by that alone, and drops the second of two that arrive at once between the same ends (Linux,
    /// net/netfilter/nf_conntrack_core.c, `nf_ct_resolve_clash`).
    pub fn echo(self) -> (u16, u16) {
        let number = (self.run as u32).wrapping_add(self.cell);
        // The low and the high half.
        (number as u16, (number >> 16) as u16)
    }

    /// Reads the nonce at the beginning of a payload; returns it with the rest.
    pub fn read(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (kind, rest) = payload.strip_prefix(&MAGIC)?.split_first()?;
        let kind = match kind {
            1 => Kind::Request,
            2 => Kind::Answer,
            3 => Kind::Frame,
            _ => return None,
        };
        let (run, rest) = rest.split_first_chunk()?;
        let (cell, rest) = rest.split_first_chunk()?;
        Some((Self { kind, run: u64::from_be_bytes(*run), cell: u32::from_be_bytes(*cell) }, rest))
    }
}

/// The first nonce in a frame, wherever it is.
pub fn find(frame: &[u8]) -> Option<Nonce> {
    frame.windows(LEN).find_map(|window| Nonce::read(window)).map(|(nonce, _)| nonce)
}

/// Beginning of the mark of every [`Kind::Frame`] of a run; its number follows, 4 bytes, big-endian.
pub fn frame_prefix(run: u64) -> [u8; LEN - 4] {
    let bytes = Nonce { kind: Kind::Frame, run, cell: 0 }.bytes();
    let mut prefix = [0; LEN - 4];
    prefix.copy_from_slice(&bytes[..LEN - 4]);
    prefix
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn bytes_read_back_and_others_do_not() {
        let nonce = Nonce { kind: Kind::Answer, run: u64::MAX - 7, cell: 0xDEAD_BEEF };
        let mut bytes = nonce.bytes().to_vec();
        bytes.extend_from_slice(b"c1");
        assert_eq!(Nonce::read(&bytes), Some((nonce, &b"c1"[..])));
        for cut in 0..LEN {
            assert_eq!(Nonce::read(&bytes[..cut]), None);
        }
        let frame = [&b"some header, lab"[..], &bytes].concat();
        assert_eq!(find(&frame), Some(nonce));
        assert_eq!(find(&frame[..30]), None);
        bytes[7] = 4;
        assert_eq!(Nonce::read(&bytes), None);
    }

    #[test]
    fn no_two_cells_of_a_run_have_one_echo() {
        let echo = |run, cell| Nonce { kind: Kind::Request, run, cell }.echo();
        assert_eq!(echo(0x1234_5678_9ABC, 0x1_0002), (0x9ABE, 0x5679));
        let all: HashSet<_> = (0..200_000).map(|cell| echo(u64::MAX, cell)).collect();
        assert_eq!(all.len(), 200_000);
        let flows: HashSet<_> = (0..65_536).map(|cell| echo(u64::MAX, cell).0).collect();
        assert_eq!(flows.len(), 65_536, "connection tracking takes no two for one");
    }
}
