//! What is made once and kept in the cache: one process makes it, the others wait, and a folder there is whole or absent.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::durable;

/// Folders that are being made begin with this. Each is locked for as long as somebody is at it.
const PREFIX: &str = ".staging-";

/// Between two looks at a lock. A thread that waits inside flock(2) could not be cancelled.
const LOOK: Duration = Duration::from_millis(100);

/// How often a new folder may be swept away before it is locked.
const ATTEMPTS: u32 = 10;

/// Takes the lock of a file. Calls `waiting` if somebody else has it, and gives up after `within`: `false`.
pub async fn lock(file: &File, within: Duration, waiting: impl FnOnce()) -> bool {
    if file.try_lock().is_ok() {
        return true;
    }
    waiting();
    let since = Instant::now();
    while file.try_lock().is_err() {
        if since.elapsed() > within {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

/// A folder that is being made. It is removed when dropped, or by the next one if this process is killed.
#[derive(Debug)]
pub struct Staging {
    dir: TempDir,
    _lock: File,
}

impl Staging {
    /// A new one beside the folders that are finished. Removes what killed processes have left there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(root: &Path) -> io::Result<Self> {
        remove_leftovers(root);
        for _ in 0..ATTEMPTS {
            let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(root)?;
            // Somebody who sweeps may have come before us.
            if let Ok(lock) = File::open(dir.path())
                && lock.try_lock().is_ok()
                && dir.path().exists()
            {
                return Ok(Self { dir, _lock: lock });
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Where it is made.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Gives the finished folder its name, in place of what has it. Returns once all of it is on disk.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn publish(self, to: &Path) -> io::Result<()> {
        durable::sync_files(self.path())?;
        if to.exists() {
            fs::remove_dir_all(to)?;
        }
        fs::rename(self.path(), to)?;
        // The folder has moved: there is nothing left to remove.
        let _ = self.dir.keep();
        durable::sync_folder_of(to)
    }
}

fn remove_leftovers(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let is_staging = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_staging && File::open(entry.path()).is_ok_and(|dir| dir.try_lock().is_ok()) {
            // If it cannot be removed it costs room, nothing else.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_killed_process_was_making_is_swept_by_the_next() {
        let root = tempfile::tempdir().unwrap();
        let names = || fs::read_dir(root.path()).unwrap().count();
        let busy = Staging::new(root.path()).unwrap();
        fs::write(busy.path().join("ram"), "half").unwrap();
        // A process that is killed removes nothing and gives its lock back.
        let Staging { dir, _lock } = Staging::new(root.path()).unwrap();
        let left = dir.keep();
        assert_eq!(names(), 2);
        let third = Staging::new(root.path()).unwrap();
        assert!(left.exists(), "somebody is at it still");
        drop(_lock);
        let fourth = Staging::new(root.path()).unwrap();
        assert!(!left.exists() && busy.path().join("ram").exists());
        drop((third, fourth));
        busy.publish(&root.path().join("whole")).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("whole/ram")).unwrap(), "half");
        assert_eq!(names(), 1);
    }
}
