//! The transmit ring, AF_XDP in copy mode. The kernel copies each frame from shared memory into its own packet, and hands
//! that to the driver past the queueing discipline (af_xdp of the kernel's documentation).

use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::null;
use std::sync::atomic::Ordering;

use super::map::Map;
use super::{check, set};

/// Bytes of a slot: more than a frame of the usual MTU, at most a page.
pub(in crate::port) const SLOT: usize = 2048;
/// Number of slots; each ring has room for all.
const SLOTS: u32 = 2048;

/// Rings and memory.
#[derive(Debug)]
pub(in crate::port) struct RawTx {
    socket: OwnedFd,
    frames: Map,
    tx: Map,
    completion: Map,
    offsets: libc::xdp_mmap_offsets,
    /// Frames handed over and taken back so far; both wrap.
    produced: u32,
    completed: u32,
    /// Slots that are ours.
    free: Vec<u32>,
}

impl RawTx {
    /// Opens a queue of an interface.
    pub(in crate::port) fn new(ifindex: u32, queue: u32) -> io::Result<Self> {
        // SAFETY: no memory is involved.
        let fd = check(unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
        // SAFETY: just opened; nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let fd = socket.as_fd();
        let frames = Map::new(None, SLOTS as usize * SLOT, 0)?;
        let region = libc::xdp_umem_reg {
            addr: frames.at(0, 1)?.as_ptr() as u64,
            len: u64::from(SLOTS) * SLOT as u64,
            chunk_size: SLOT as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        set(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &region)?;
        // The kernel also requires a ring to receive into; it stays empty.
        set(fd, libc::SOL_XDP, libc::XDP_UMEM_FILL_RING, &64u32)?;
        set(fd, libc::SOL_XDP, libc::XDP_UMEM_COMPLETION_RING, &SLOTS)?;
        set(fd, libc::SOL_XDP, libc::XDP_TX_RING, &SLOTS)?;
        let offsets = offsets(fd)?;
        let tx_len = offsets.tx.desc as usize + SLOTS as usize * size_of::<libc::xdp_desc>();
        let tx = Map::new(Some(fd), tx_len, libc::XDP_PGOFF_TX_RING)?;
        let completion_len = offsets.cr.desc as usize + SLOTS as usize * size_of::<u64>();
        let completion = Map::new(Some(fd), completion_len, libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64)?;
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: pointer and length are those of `address`, which the kernel only reads.
        check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })?;
        let free = (0..SLOTS).collect();
        Ok(Self { socket, frames, tx, completion, offsets, produced: 0, completed: 0, free })
    }

    /// Frames handed over and not known to be sent.
    pub(in crate::port) fn pending(&self) -> u32 {
        self.produced.wrapping_sub(self.completed)
    }

    /// Takes back the slots of sent frames.
    pub(in crate::port) fn reclaim(&mut self) -> io::Result<()> {
        let done = self.completion.atomic(self.offsets.cr.producer as usize)?.load(Ordering::Acquire);
        while self.completed != done {
            let at = self.offsets.cr.desc as usize + (self.completed % SLOTS) as usize * size_of::<u64>();
            // SAFETY: in the mapping; entries before the producer's are ours to read.
            let address: u64 = unsafe { self.completion.at(at, size_of::<u64>())?.cast().read_unaligned() };
            self.free.push((address / SLOT as u64) as u32 % SLOTS);
            self.completed = self.completed.wrapping_add(1);
        }
        let consumer = self.completion.atomic(self.offsets.cr.consumer as usize)?;
        consumer.store(self.completed, Ordering::Release);
        Ok(())
    }

    /// Hands over one frame: `fill` writes it and returns its length. `None` if there is no slot. Nothing is sent before
    /// [`kick`](Self::kick).
    pub(in crate::port) fn push(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> io::Result<Option<()>> {
        let Some(slot) = self.free.pop() else { return Ok(None) };
        let offset = slot as usize * SLOT;
        let room = self.frames.at(offset, SLOT)?;
        // SAFETY: in the mapping; a free slot is in no ring, so nobody else accesses it.
        let room = unsafe { std::slice::from_raw_parts_mut(room.as_ptr(), SLOT) };
        let len = fill(room).min(SLOT) as u32;
        let descriptor = libc::xdp_desc { addr: offset as u64, len, options: 0 };
        let at =
            self.offsets.tx.desc as usize + (self.produced % SLOTS) as usize * size_of::<libc::xdp_desc>();
        // SAFETY: in the mapping; there are as many entries as slots, so this entry is not in use.
        unsafe { self.tx.at(at, size_of::<libc::xdp_desc>())?.cast().write_unaligned(descriptor) };
        self.produced = self.produced.wrapping_add(1);
        Ok(Some(()))
    }

    /// Makes the kernel send what was handed over, as much as it sends at once.
    pub(in crate::port) fn kick(&self) -> io::Result<()> {
        let producer = self.tx.atomic(self.offsets.tx.producer as usize)?;
        producer.store(self.produced, Ordering::Release);
        let fd = self.socket.as_raw_fd();
        // SAFETY: no memory is involved.
        let sent = unsafe { libc::sendto(fd, null(), 0, libc::MSG_DONTWAIT, null(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for RawTx {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn offsets(fd: BorrowedFd<'_>) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: numbers, for which all zeros is a valid value.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { zeroed() };
    let mut len = size_of_val(&offsets) as libc::socklen_t;
    let to = (&raw mut offsets).cast();
    // SAFETY: the kernel writes at most `len` bytes, the size of `offsets`.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, to, &mut len) })?;
    if (len as usize) < size_of_val(&offsets) {
        // Before Linux 5.4 rings had no flags, and other offsets.
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(offsets)
}
