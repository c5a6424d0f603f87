//! Splits the bytes that came in at a port into frames.

use std::io;

use crate::{
    frame::MAX_FRAME_LEN,
    offload::{self, MAX_UNCUT_LEN},
};

/// Bytes of the big-endian length before each frame: QEMU's framing of `-netdev stream`.
pub(crate) const PREFIX_LEN: usize = 4;
/// Bytes taken from a port at once: many frames per system call, but no port starves the others.
const CAPACITY: usize = 256 * 1024;

/// A length that no frame has: the stream does not (or no longer) carry frames.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadLength(pub(crate) u32);

/// Length-prefixed frames. A transport without a stream's framing adds the prefixes itself.
#[derive(Default)]
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// An offload header ([`crate::offload`]) follows each prefix, which counts it; frames may be uncut.
    headers: bool,
}

/// A frame, and the offload header before it.
type Headed<'a> = (Option<&'a [u8; offload::HEADER_LEN]>, &'a [u8]);

impl Inbox {
    /// An empty inbox, for frames with or without offload headers.
    pub(crate) fn new(headers: bool) -> Self {
        Self { headers, ..Self::default() }
    }

    /// Most bytes behind a prefix.
    fn longest(&self) -> usize {
        if self.headers { offload::HEADER_LEN + MAX_UNCUT_LEN } else { MAX_FRAME_LEN }
    }

    /// Reads once. Returns how many bytes came, and whether there may be more.
    ///
    /// Call it only when all whole frames have been taken.
    pub(crate) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<(usize, bool)> {
        if self.buffer.is_empty() {
            self.buffer.resize(CAPACITY, 0);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let room = &mut self.buffer[self.end..];
        let count = read(room)?;
        let filled = count == room.len();
        self.end += count;
        Ok((count, filled))
    }

    /// Length of the next frame, if all of it is there.
    fn peek(&self) -> Result<Option<usize>, BadLength> {
        let waiting = &self.buffer[self.start..self.end];
        let Some((prefix, rest)) = waiting.split_first_chunk::<PREFIX_LEN>() else { return Ok(None) };
        let len = u32::from_be_bytes(*prefix);
        match usize::try_from(len) {
            Ok(n) if (1..=self.longest()).contains(&n) => Ok((n <= rest.len()).then_some(n)),
            _ => Err(BadLength(len)),
        }
    }

    /// Whether [`Inbox::next`] would return a frame or an error.
    pub(crate) fn pending(&self) -> bool {
        !matches!(self.peek(), Ok(None))
    }

    /// Takes the next frame.
    pub(crate) fn next(&mut self) -> Result<Option<Headed<'_>>, BadLength> {
        let Some(len) = self.peek()? else { return Ok(None) };
        let at = self.start + PREFIX_LEN;
        self.start = at + len;
        let bytes = &self.buffer[at..at + len];
        if !self.headers {
            return Ok(Some((None, bytes)));
        }
        let (header, frame) = bytes.split_first_chunk().ok_or(BadLength(len as u32))?;
        Ok(Some((Some(header), frame)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::io::Read as _;

    /// Gives its bytes in pieces of the given sizes, over and over.
    struct Pieces<'a>(&'a [u8], std::iter::Cycle<std::slice::Iter<'a, usize>>);

    impl io::Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = (*self.1.next().unwrap()).min(buffer.len()).min(self.0.len());
            let (now, later) = self.0.split_at(size);
            buffer[..size].copy_from_slice(now);
            self.0 = later;
            Ok(size)
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            lens in proptest::collection::vec(1usize..=MAX_FRAME_LEN, 1..40),
            cuts in proptest::collection::vec(1usize..200_000, 1..10),
        ) {
            let frames: Vec<Vec<u8>> = lens.iter().enumerate().map(|(i, len)| vec![i as u8; *len]).collect();
            let mut stream = Vec::new();
            for frame in &frames {
                stream.extend_from_slice(&(frame.len() as u32).to_be_bytes());
                stream.extend_from_slice(frame);
            }
            let mut source = Pieces(&stream, cuts.iter().cycle());
            let (mut inbox, mut seen) = (Inbox::default(), Vec::new());
            while inbox.fill(|buffer| source.read(buffer)).unwrap().0 > 0 {
                while let Some((_, frame)) = inbox.next().unwrap() {
                    seen.push(frame.to_vec());
                }
            }
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut inbox = Inbox::default();
            inbox.fill(|buffer| (&bytes[..]).read(buffer)).unwrap();
            while let Ok(Some(_)) = inbox.next() {}
        }
    }

    #[test]
    fn lengths_that_no_frame_has() {
        for len in [0, MAX_FRAME_LEN as u32 + 1, u32::MAX] {
            let mut inbox = Inbox::default();
            inbox.fill(|buffer| (&len.to_be_bytes()[..]).read(buffer)).unwrap();
            assert!(inbox.pending());
            assert_eq!(inbox.next(), Err(BadLength(len)));
        }
    }
}
