//! A TAP device as a port's transport, or a socket whose datagrams are frames.
//!
//! The maker of the device (in any netns) connects to the port's socket and sends the descriptor along with a byte. The
//! connection stays open. When it ends, we close the device: the descriptor alone would keep alive a netns that everybody
//! else has left.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    os::fd::{AsRawFd as _, OwnedFd},
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        socket::{MsgFlags, recv},
        uio::writev,
    },
    unistd,
};

use crate::{
    frame::MAX_FRAME_LEN,
    inbox::PREFIX_LEN,
    offload::{self, MAX_UNCUT_LEN},
    sys,
    train::Train,
};

/// Frames taken from a TAP at once, as many as a train has. Their receiver gets its turn after that many, before its
/// socket's queue is full (some 250 small datagrams on Linux).
const BATCH: usize = 64;

/// An open TAP without packet information: one frame per read and write. Watched by the poll until it is dropped.
pub(crate) struct Tap {
    fd: OwnedFd,
    /// It is a socket: nothing that comes there ends it.
    datagrams: bool,
    registry: Registry,
    /// Each frame has an offload header, here and in inbox and outbox, and may be uncut ([`crate::offload`]).
    offloads: bool,
    /// Its kernel takes trains of datagrams ([`crate::train`]), as far as we know.
    trains: Cell<bool>,
}

impl Tap {
    pub(crate) fn new(fd: OwnedFd, token: Token, registry: &Registry) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let registry = registry.try_clone()?;
        let offloads = sys::take_offloads(&fd, offload::HEADER_LEN)?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { fd, datagrams: false, registry, offloads, trains: Cell::new(offloads) })
    }

    /// A connected socket in a TAP's place.
    pub(crate) fn datagrams(fd: OwnedFd, token: Token, registry: &Registry) -> io::Result<Self> {
        let mut socket = Self::new(fd, token, registry)?;
        socket.datagrams = true;
        Ok(socket)
    }

    /// Whether each frame has an offload header.
    pub(crate) fn offloads(&self) -> bool {
        self.offloads
    }

    /// Fills `buffer` with frames, each behind its length as in [`crate::inbox::Inbox`]. Returns how many bytes, and whether
    /// there may be more.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        let longest = if self.offloads { offload::HEADER_LEN + MAX_UNCUT_LEN } else { MAX_FRAME_LEN };
        let (mut filled, mut count) = (0, 0);
        while count < BATCH
            && let Some(room) = buffer.get_mut(filled..filled + PREFIX_LEN + longest)
        {
            let (prefix, frame) = room.split_at_mut(PREFIX_LEN);
            // Of a datagram the real length, also if it was longer.
            let read = match self.datagrams {
                true => recv(self.fd.as_raw_fd(), frame, MsgFlags::MSG_TRUNC),
                false => unistd::read(&self.fd, frame),
            };
            match read {
                // Empty, or word that nobody listens at the other end yet. Counted, so that this ends.
                Ok(0) | Err(Errno::ECONNREFUSED) if self.datagrams => count += 1,
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) if len <= longest => {
                    // Fits: less than 2^17.
                    prefix.copy_from_slice(&(len as u32).to_be_bytes());
                    filled += PREFIX_LEN + len;
                    count += 1;
                }
                // Longer than any frame of the wire (EFAULT if it was truncated): it is lost.
                Ok(_) | Err(Errno::EFAULT | Errno::EINTR) => count += usize::from(self.datagrams),
                Err(Errno::EAGAIN) if filled > 0 => return Ok((filled, false)),
                Err(errno) if filled == 0 => return Err(errno.into()),
                // The frames before are good; the next read reports the error.
                Err(_) => return Ok((filled, true)),
            }
        }
        // Nothing of what came was a frame, and there may be more.
        if filled == 0 { Err(io::ErrorKind::Interrupted.into()) } else { Ok((filled, true)) }
    }

    /// Writes the frames in `parts`, each behind its length. Returns how many bytes of `parts` are done, always whole
    /// frames.
    pub(crate) fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let front = parts.first().map_or(&[][..], |p| p);
        let back = parts.get(1).map_or(&[][..], |p| p);
        let mut done = 0;
        while let Some((frame, end)) = next_frame(front, back, done) {
            let rest = if done < front.len() { &front[done..] } else { &back[done - front.len()..] };
            if self.trains.get()
                && let Some(train) = Train::find(rest)
            {
                match writev(&self.fd, train.parts(&train.head()).used()) {
                    // Linux before 6.2 does not support such frames.
                    Err(Errno::EINVAL) => self.trains.set(false),
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) if done > 0 => return Ok(done),
                    Err(errno @ (Errno::EAGAIN | Errno::EBADF | Errno::EBADFD)) => return Err(errno.into()),
                    Ok(_) | Err(_) => done += train.len(),
                }
                continue;
            }
            match writev(&self.fd, &frame) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if done > 0 => return Ok(done),
                Err(errno @ (Errno::EAGAIN | Errno::EBADF | Errno::EBADFD)) => return Err(errno.into()),
                // An interface that is down takes none (EIO), like a NIC without power: the frame is lost.
                Ok(_) | Err(_) => done = end,
            }
        }
        Ok(done)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // Fails only if it was never watched.
        let _ = self.registry.deregister(&mut SourceFd(&self.fd.as_raw_fd()));
    }
}

/// The frame whose length is at offset `at` of `front` and `back` joined, and where it ends.
fn next_frame<'a>(front: &'a [u8], back: &'a [u8], at: usize) -> Option<([IoSlice<'a>; 2], usize)> {
    let octet = |i: usize| front.get(i).or_else(|| back.get(i.checked_sub(front.len())?)).copied();
    let mut prefix = [0; PREFIX_LEN];
    for (i, to) in prefix.iter_mut().enumerate() {
        *to = octet(at + i)?;
    }
    let start = at + PREFIX_LEN;
    let end = start.checked_add(usize::try_from(u32::from_be_bytes(prefix)).ok()?)?;
    if end > front.len() + back.len() {
        return None;
    }
    let split = front.len();
    let first = &front[start.min(split)..end.min(split)];
    let second = &back[start.saturating_sub(split)..end.saturating_sub(split)];
    Some(([IoSlice::new(first), IoSlice::new(second)], end))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_are_found_wherever_the_ring_wraps(
            lens in proptest::collection::vec(1usize..200, 1..20),
            wrap in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            for (i, len) in lens.iter().enumerate() {
                bytes.extend((*len as u32).to_be_bytes());
                bytes.extend(vec![i as u8; *len]);
            }
            let (front, back) = bytes.split_at(wrap.index(bytes.len() + 1));
            let (mut at, mut seen) = (0, Vec::new());
            while let Some((frame, end)) = next_frame(front, back, at) {
                seen.push([&*frame[0], &*frame[1]].concat());
                at = end;
            }
            let sent: Vec<Vec<u8>> = lens.iter().enumerate().map(|(i, len)| vec![i as u8; *len]).collect();
            prop_assert_eq!(seen, sent);
            prop_assert_eq!(at, bytes.len());
        }
    }
}
