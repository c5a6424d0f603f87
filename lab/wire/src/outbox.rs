//! Frames that wait to leave by a port: a bounded queue, sent in few system calls.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use crate::inbox::PREFIX_LEN;

/// Most bytes that may wait. A frame that does not fit is dropped, as at the tail of a switch's queue.
const LIMIT: usize = 2 * 1024 * 1024;
/// Above this, senders of unicast to this port must wait, at most [`PATIENCE`].
const HIGH: usize = LIMIT / 2;
/// At or below this they may go on.
const LOW: usize = HIGH / 2;
/// A port that does not get from [`HIGH`] to [`LOW`] in this time is slow or stuck: nobody waits for it any more. Long
/// enough for a machine with more guests than cores; short enough that others hardly notice a stopped guest.
const PATIENCE: Duration = Duration::from_millis(250);

/// Length-prefixed frames, as [`crate::inbox::Inbox`] reads them.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: VecDeque<u8>,
    high_since: Option<Instant>,
}

impl Outbox {
    /// Appends a frame, with its offload header if the port has them. Returns false if there is no room.
    pub(crate) fn push(&mut self, header: &[u8], frame: &[u8], now: Instant) -> bool {
        let len = header.len() + frame.len();
        if self.bytes.len() + PREFIX_LEN + len > LIMIT {
            return false;
        }
        self.bytes.extend((len as u32).to_be_bytes());
        self.bytes.extend(header);
        self.bytes.extend(frame);
        if self.bytes.len() > HIGH {
            self.high_since.get_or_insert(now);
        }
        true
    }

    /// The time until which senders should wait for this port, if they should.
    pub(crate) fn congested_until(&self, now: Instant) -> Option<Instant> {
        self.high_since.map(|since| since + PATIENCE).filter(|until| *until > now)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Drops all that waits: another connection cannot use the rest of a frame.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Hands over as much as `send` takes. Returns true once nothing waits.
    pub(crate) fn drain(
        &mut self,
        mut send: impl FnMut(&[io::IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        while !self.bytes.is_empty() {
            let (front, back) = self.bytes.as_slices();
            match send(&[io::IoSlice::new(front), io::IoSlice::new(back)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.bytes.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.bytes.len() <= LOW {
            self.high_since = None;
        }
        Ok(self.bytes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bounded_and_patient_for_a_while_only() {
        let (mut outbox, t0) = (Outbox::default(), Instant::now());
        let frame = [0; 1020];
        let mut count = 0;
        while outbox.push(&[], &frame, t0) {
            count += 1;
        }
        assert_eq!(count, LIMIT / 1024);
        assert!(outbox.congested_until(t0).is_some());
        assert!(outbox.congested_until(t0 + PATIENCE).is_none(), "nobody waits for a stuck port");
        // A port that takes what it is given is waited for anew.
        assert!(outbox.drain(|parts| Ok(parts.iter().map(|part| part.len()).sum())).unwrap());
        while outbox.push(&[], &frame, t0 + PATIENCE) {}
        assert!(outbox.congested_until(t0 + PATIENCE).is_some());
    }
}
