//! Free space on a disk.

use std::path::Path;

use labctl_images::durable::free;

use crate::error::{DiskNeed, Error};

/// If less than this is free, in bytes, a failed write there counts as lack of space.
const NEXT_TO_NOTHING: u64 = 8 << 20;

impl DiskNeed {
    /// Fails if the disk of `path`, or of its first existing parent, has less than needed.
    ///
    /// # Errors
    /// [`Error::NoRoom`], or the disk cannot be examined.
    pub fn check(self, path: &Path) -> Result<(), Error> {
        let there = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
        let free = free(there).map_err(Error::io("cannot look at", there))?;
        if free < self.bytes {
            Err(Error::NoRoom { path: there.to_owned(), free, need: self })
        } else {
            Ok(())
        }
    }

    /// Replaces an error if the disk of `path` is full: a process that maps a file there dies of SIGBUS.
    pub fn explain<E: From<Error>>(self, error: E, path: &Path) -> E {
        match free(path) {
            Ok(free) if free < NEXT_TO_NOTHING => {
                Error::NoRoom { path: path.to_owned(), free, need: self }.into()
            }
            _ => error,
        }
    }
}
