//! Memory shared with the kernel.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU32;

/// A mapping, unmapped when dropped.
#[derive(Debug)]
pub(super) struct Map {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: memory belongs to no thread; its readers and writers take care of the order.
unsafe impl Send for Map {}

impl Map {
    /// Maps `len` bytes of a socket's ring at `offset`; without a socket, fresh memory of our own.
    pub(super) fn new(ring: Option<BorrowedFd<'_>>, len: usize, offset: i64) -> io::Result<Self> {
        let kind = if ring.is_some() { libc::MAP_SHARED } else { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS };
        let fd = ring.map_or(-1, |fd| fd.as_raw_fd());
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, kind | libc::MAP_POPULATE);
        // SAFETY: a new mapping at an address of the kernel's choice, which replaces no other.
        let at = unsafe { libc::mmap(null_mut(), len, protection, flags, fd, offset) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { at, len })
    }

    /// The address of byte `offset`, if `len` bytes from there are in the mapping.
    pub(super) fn at(&self, offset: usize, len: usize) -> io::Result<NonNull<u8>> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(io::Error::other("the kernel's ring points beyond its memory"));
        }
        // SAFETY: within the mapping, as just checked.
        Ok(unsafe { self.at.add(offset) })
    }

    /// The number at `offset` that we and the kernel both read and write.
    pub(super) fn atomic(&self, offset: usize) -> io::Result<&AtomicU32> {
        let at = self.at(offset, 4)?.cast::<u32>();
        if !at.is_aligned() {
            return Err(io::Error::other("the kernel's ring has a number where none can be"));
        }
        // SAFETY: in the mapping and aligned, as long as `self` lives; all others access it atomically.
        Ok(unsafe { AtomicU32::from_ptr(at.as_ptr()) })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: our own mapping; no reference to it outlives `self`.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}
