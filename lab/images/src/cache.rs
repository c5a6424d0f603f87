//! Things that are made once and cached: one process makes them, others wait, and a cached folder is complete or absent.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::durable;

/// Name prefix of unfinished folders. Each is locked while somebody works on it.
const PREFIX: &str = ".staging-";

/// Pause between two looks at a lock. A thread that waits in flock(2) could not be cancelled.
const LOOK: Duration = Duration::from_millis(100);

/// How often a new folder may be swept away before it is locked.
const ATTEMPTS: u32 = 10;

/// Locks a file. Calls `waiting` if somebody else has the lock; returns `false` if it is not free `within` that time.
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

/// An unfinished folder. It is removed when dropped, or by the next one if this process is killed.
#[derive(Debug)]
pub struct Staging {
    dir: TempDir,
    _lock: File,
}

impl Staging {
    /// Makes one beside the finished folders. Removes what killed processes have left there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(root: &Path) -> io::Result<Self> {
        remove_leftovers(root);
        for _ in 0..ATTEMPTS {
            let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(root)?;
            // Another process's cleanup may have come first.
            if let Ok(lock) = File::open(dir.path())
                && lock.try_lock().is_ok()
                && dir.path().exists()
            {
                return Ok(Self { dir, _lock: lock });
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Renames the finished folder, replacing an older one. Returns once all of it is on disk.
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
            // If it cannot be removed, it only takes space.
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
