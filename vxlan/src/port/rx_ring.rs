//! Receives frames on an interface through a ring.

use std::io;
use std::os::fd::AsFd;

use socket2::{Domain, Socket, Type};

use super::batch::Received;
use super::packet::Stats;
use super::sys::{self, RawRx, RxShape};

/// How large an [`RxRing`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RxRingSize {
    /// Bytes of a block, rounded up to a power of two between 64 KiB and 4 MiB. No frame is longer.
    pub block: u32,
    /// Blocks, 2 to 1024.
    pub blocks: u32,
    /// Milliseconds after which a block that is not full is handed over, at least 1.
    pub hold_ms: u32,
}

impl Default for RxRingSize {
    /// 16 MiB, held for 5 ms.
    fn default() -> Self {
        Self { block: 256 << 10, blocks: 64, hold_ms: 5 }
    }
}

/// Receives an interface's frames in blocks, without a copy or system call for each.
#[derive(Debug)]
pub struct RxRing {
    pub(super) socket: Socket,
    raw: RawRx,
    /// Number of the next block; wraps.
    next: u32,
    blocks: u32,
    stats: Stats,
}

impl RxRing {
    /// Opens interface `ifindex` of the current network namespace for all that passes it.
    ///
    /// # Errors
    /// Those of [`PacketPort::open`](super::PacketPort::open), or if there is not enough memory.
    pub fn open(ifindex: u32, size: RxRingSize) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        let block = size.block.clamp(64 << 10, 4 << 20).next_power_of_two();
        let blocks = size.blocks.clamp(2, 1024);
        let raw = RawRx::new(socket.as_fd(), RxShape { block, blocks, hold: size.hold_ms.max(1) })?;
        sys::bind_packet(socket.as_fd(), super::one(ifindex)?, true)?;
        Ok(Self { socket, raw, next: 0, blocks, stats: Stats::default() })
    }

    /// The next block of frames, in the order they arrived; `None` if there is none yet.
    ///
    /// # Errors
    /// Only if the kernel's ring is inconsistent.
    pub fn block(&mut self) -> io::Result<Option<Block<'_>>> {
        if !self.raw.is_ours(self.next)? {
            return Ok(None);
        }
        let (left, offset) = self.raw.frames(self.next)?;
        Ok(Some(Block { ring: self, left, offset }))
    }

    /// Returns the counters since the ring was opened.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn stats(&mut self) -> io::Result<Stats> {
        let (received, dropped) = sys::statistics(self.socket.as_fd())?;
        self.stats.received += u64::from(received);
        self.stats.dropped += u64::from(dropped);
        Ok(self.stats)
    }
}

/// Frames of an [`RxRing`]. Dropping it gives their memory back to the kernel.
#[derive(Debug)]
pub struct Block<'a> {
    ring: &'a mut RxRing,
    left: u32,
    offset: usize,
}

impl Block<'_> {
    /// Frames that [`next_frame`](Self::next_frame) has yet to return.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left as usize
    }

    /// The next frame.
    ///
    /// # Errors
    /// Only if the kernel's ring is inconsistent.
    pub fn next_frame(&mut self) -> io::Result<Option<Received<'_>>> {
        if self.left == 0 {
            return Ok(None);
        }
        let (frame, next) = self.ring.raw.frame(self.ring.next, self.offset)?;
        self.left -= 1;
        self.offset = next;
        Ok(Some(frame))
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        // Fails only if the ring is inconsistent, which was reported before.
        _ = self.ring.raw.give_back(self.ring.next);
        self.ring.next = (self.ring.next + 1) % self.ring.blocks;
    }
}
