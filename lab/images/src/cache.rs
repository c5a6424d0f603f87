//! Things that are made once and cached: one process makes them, others wait, and a cached folder is complete or absent.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::Duration,
};

use labctl_protocol::polling::Polling;
use serde::{Deserialize, Serialize};
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
    until(|| file.try_lock().is_ok(), within).await
}

/// Locks a file as one of several that only read. Returns `false` if it is not free `within` that time.
pub async fn lock_shared(file: &File, within: Duration) -> bool {
    until(|| file.try_lock_shared().is_ok(), within).await
}

async fn until(locked: impl Fn() -> bool, within: Duration) -> bool {
    let wait = Polling::new(within, LOOK);
    while !locked() {
        if !wait.again().await {
            return false;
        }
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

/// How finished files look from outside, by name: enough to notice one that was torn or changed, where reading all of
/// them would cost more than it guards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks(BTreeMap<String, Mark>);

/// Length, blocks on disk, and time of change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    bytes: u64,
    blocks: u64,
    mtime_ns: i64,
}

impl Marks {
    /// Those of these files in a folder. They must be synced: only then is the number of blocks known.
    ///
    /// # Errors
    /// A file is missing.
    pub fn of(dir: &Path, files: impl IntoIterator<Item = impl Into<String>>) -> io::Result<Self> {
        let mark = |file: String| {
            let found = fs::metadata(dir.join(&file))?;
            let mtime_ns = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
            Ok((file, Mark { bytes: found.len(), blocks: found.blocks(), mtime_ns }))
        };
        files.into_iter().map(|file| mark(file.into())).collect::<io::Result<_>>().map(Self)
    }

    /// Checks that the files are as they were.
    ///
    /// # Errors
    /// What differs, in words.
    pub fn check(&self, dir: &Path) -> Result<(), String> {
        let found = Self::of(dir, self.0.keys()).map_err(|e| format!("a file of it is missing: {e}"))?;
        match self.0.iter().find(|(file, mark)| found.0.get(*file) != Some(mark)) {
            Some((file, _)) => Err(format!("its file {file} was changed or cut short")),
            None => Ok(()),
        }
    }

    /// Bytes on disk, by file.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(file, mark)| (file.as_str(), mark.blocks * 512))
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

    #[test]
    fn marks_notice_what_was_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "whole").unwrap();
        let marks = Marks::of(dir.path(), ["a"]).unwrap();
        marks.check(dir.path()).unwrap();
        let when = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "whol").unwrap();
        File::options().write(true).open(&file).unwrap().set_modified(when).unwrap();
        assert!(marks.check(dir.path()).unwrap_err().contains("a was changed or cut short"));
        fs::write(&file, "whole").unwrap();
        assert!(marks.check(dir.path()).is_err(), "written at another time");
        fs::remove_file(&file).unwrap();
        assert!(marks.check(dir.path()).unwrap_err().contains("missing"));
    }
}
