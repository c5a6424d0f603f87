//! Room on a disk.

use std::{io, path::Path};

use crate::error::{Error, Need};

/// With less than this left, in bytes, whatever failed to be written there failed for lack of room.
const NEXT_TO_NOTHING: u64 = 8 << 20;

impl Need {
    /// Fails where the disk of `path`, or of the first folder above that is there, has less than that.
    ///
    /// # Errors
    /// [`Error::NoRoom`]; the disk cannot be looked at.
    pub fn check(self, path: &Path) -> Result<(), Error> {
        let there = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
        let free = free(there).map_err(Error::io("cannot look at", there))?;
        if free < self.bytes {
            Err(Error::NoRoom { path: there.to_owned(), free, need: self })
        } else {
            Ok(())
        }
    }

    /// An error that has another cause if the disk of `path` is full: whoever maps a file there dies of SIGBUS.
    pub fn explain(self, error: Error, path: &Path) -> Error {
        match free(path) {
            Ok(free) if free < NEXT_TO_NOTHING => Error::NoRoom { path: path.to_owned(), free, need: self },
            _ => error,
        }
    }
}

/// Bytes that an ordinary user can still write to the disk of `path`.
///
/// # Errors
/// There is no such path.
pub fn free(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}
