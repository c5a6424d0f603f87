//! Saves a running machine as what differs from the file that its memory began as. See docs/adr/0022.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    Qmp, devices,
    pages::{Copied, Pages},
};
use crate::Error;
use labctl_state::checkpoint::SavedMachine;

/// Memory that a machine may write between the look at it and its stop, in bytes. More only makes its stop longer.
const MARGIN: usize = 16 << 20;

/// What the memory of a machine began as.
#[derive(Debug)]
pub(crate) struct Base {
    /// Held open, since its folder may be removed meanwhile.
    pub file: File,
    /// Name that tells it from the bases of other machines.
    pub name: String,
}

/// Saves one machine, while the machines of its lab are stopped together.
#[derive(Clone, Debug)]
pub struct Saving {
    pub(crate) host: String,
    pub(crate) qmp: Arc<Qmp>,
    pub(crate) pid: u32,
    pub(crate) memory: u64,
    pub(crate) base: Arc<Base>,
}

impl Saving {
    /// Bytes that a copy may take, of a machine that still runs.
    ///
    /// # Errors
    /// The machine has ended, or it is not ours to look at.
    pub async fn size(&self) -> Result<usize, Error> {
        let (pid, memory) = (self.pid, self.memory);
        self.blocking(move || Ok(Pages::of(pid, memory)?.size()? + MARGIN)).await
    }

    /// Memory to copy to, of this size.
    ///
    /// # Errors
    /// The async runtime ends.
    pub async fn prepare(&self, size: usize) -> Result<Vec<u8>, Error> {
        // Memory that was not touched would be made while the machine is stopped.
        self.blocking(move || Ok(vec![1; size])).await
    }

    /// Stops the machine.
    ///
    /// # Errors
    /// It has ended.
    pub async fn stop(&self) -> Result<(), Error> {
        devices::stop(&self.qmp).await.map_err(|e| self.failed(e))
    }

    /// Lets the machine go on.
    ///
    /// # Errors
    /// It has ended.
    pub async fn resume(&self) -> Result<(), Error> {
        devices::resume(&self.qmp).await.map_err(|e| self.failed(e))
    }

    /// Takes the state of a stopped machine: its devices go to their file in `dir`, its memory to `buffer`.
    ///
    /// # Errors
    /// It has ended, or the file cannot be written.
    pub async fn take(&self, buffer: Vec<u8>, dir: &Path) -> Result<Copied, Error> {
        let (pid, memory) = (self.pid, self.memory);
        let state = dir.join(&SavedMachine::files(&self.host)[1]);
        let (copied, saved) = tokio::join!(
            self.blocking(move || Pages::of(pid, memory)?.copy(buffer)),
            devices::save(&self.qmp, &state),
        );
        saved.map_err(|e| self.failed(e))?;
        copied
    }

    /// Writes copied memory to its file in `dir`, and puts the base there. Returns the base's name.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn write(&self, copied: Copied, dir: &Path) -> Result<String, Error> {
        let (base, dir) = (self.base.clone(), dir.to_owned());
        let [pages, _] = SavedMachine::files(&self.host);
        let write = move || {
            copied.write(&base.file, &dir.join(pages))?;
            keep(&base, &dir)?;
            Ok(base.name.clone())
        };
        self.blocking(write).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let done = tokio::task::spawn_blocking(work).await.map_err(|e| self.failed(e))?;
        done.map_err(|e| self.failed(format!("it cannot be saved: {e}")))
    }

    fn failed(&self, why: impl ToString) -> Error {
        Error::Machine { host: self.host.clone(), why: why.to_string() }
    }
}

/// Puts a base into a folder: another name of the same file, so that it outlives the template, else a copy.
fn keep(base: &Base, dir: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let to = dir.join(&base.name);
    if to.exists() {
        return Ok(());
    }
    let open = PathBuf::from(format!("/proc/self/fd/{}", base.file.as_raw_fd()));
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
    let here = nix::fcntl::AT_FDCWD;
    match nix::unistd::linkat(here, &open, here, &to, flags) {
        Ok(()) => Ok(()),
        // On another disk, or its last name is gone.
        Err(_) => fs::copy(open, to).map(drop),
    }
}
