//! Sends frames on an interface through a ring.

use std::io;
use std::time::{Duration, Instant};

use super::sys::RawTx;

/// Frames that the kernel sends at once by default (TX_BATCH_SIZE of its net/xdp/xsk.c).
const BATCH: usize = 32;

/// Sends frames on an interface. They are written directly into memory that the kernel reads: the fastest way for
/// frames that all differ (docs/adr/0012).
///
/// The frames pass no queueing discipline, and other packet sockets on this host do not see them leave.
#[derive(Debug)]
pub struct TxRing {
    pub(super) raw: RawTx,
}

impl TxRing {
    /// Most bytes of a frame.
    pub const MAX_FRAME: usize = super::sys::TX_SLOT;

    /// Opens transmit queue 0 of interface `ifindex` of the current network namespace.
    ///
    /// # Errors
    /// If there is no such interface, CAP_NET_RAW is missing, another such ring has the queue, or the kernel has no
    /// AF_XDP (EAFNOSUPPORT): [`PacketPort`](super::PacketPort) sends the same, slower.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        Ok(Self { raw: RawTx::new(ifindex, 0)? })
    }

    /// Sends up to `count` frames. `fill` writes each into the given room and returns its length, 14 to
    /// [`MAX_FRAME`](Self::MAX_FRAME). Returns how many were handed over: 0 if there is no room now.
    ///
    /// # Errors
    /// ENETDOWN for an interface that is down, EMSGSIZE for a frame beyond its MTU. Frames handed over before stay handed
    /// over.
    pub fn send_with(&mut self, count: usize, mut fill: impl FnMut(&mut [u8]) -> usize) -> io::Result<usize> {
        let mut sent = 0;
        self.raw.reclaim()?;
        while sent < count {
            let mut pushed = 0;
            while pushed < BATCH.min(count - sent) && self.raw.push(&mut fill)?.is_some() {
                pushed += 1;
            }
            self.kick()?;
            self.raw.reclaim()?;
            sent += pushed;
            if pushed == 0 {
                break;
            }
        }
        Ok(sent)
    }

    /// Sends frames as they are. Returns how many were handed over, from the first on.
    ///
    /// # Errors
    /// Those of [`send_with`](Self::send_with). [`InvalidInput`](io::ErrorKind::InvalidInput), and nothing sent, if a frame
    /// is over [`MAX_FRAME`](Self::MAX_FRAME).
    pub fn send_batch<F: AsRef<[u8]>>(&mut self, frames: &[F]) -> io::Result<usize> {
        if frames.iter().any(|frame| frame.as_ref().len() > Self::MAX_FRAME) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut next = frames.iter();
        self.send_with(frames.len(), |room| {
            let frame = next.next().map_or(&[][..], |frame| frame.as_ref());
            room[..frame.len()].copy_from_slice(frame);
            frame.len()
        })
    }

    /// Waits at most `timeout` until all frames handed over are sent. Returns whether they are.
    ///
    /// # Errors
    /// Those of [`send_with`](Self::send_with).
    pub fn flush(&mut self, timeout: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + timeout;
        self.raw.reclaim()?;
        while self.raw.pending() > 0 {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            self.kick()?;
            self.raw.reclaim()?;
        }
        Ok(true)
    }

    fn kick(&self) -> io::Result<()> {
        match self.raw.kick() {
            // More is left than it sends at once (EAGAIN), or the driver is busy: the next call solves both.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::EBUSY)) =>
            {
                Ok(())
            }
            other => other,
        }
    }
}
