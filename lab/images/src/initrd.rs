//! The initial RAM disk: an image's modules, and the agent as `/init`.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::{Error, NodeImage, cpio::Archive};

/// RAM disks of other agents are removed at this age: whoever was starting with one has it open by then.
const KEPT: Duration = Duration::from_secs(24 * 3600);

impl NodeImage {
    /// Returns the initial RAM disk with this agent (a static executable), in the image's folder. Makes it if needed.
    ///
    /// # Errors
    /// The agent cannot be read, or the image's folder cannot be written to.
    pub fn initrd(&self, agent: &Path) -> Result<PathBuf, Error> {
        let program = fs::read(agent).map_err(Error::io("read", agent))?;
        let digest = crate::hash::hex(&Sha256::digest(&program)[..8]);
        let path = self.dir().join(format!("initrd-{digest}.cpio"));
        if path.exists() {
            return Ok(path);
        }
        self.remove_old(&path);
        self.write_initrd(&program, &path).map_err(Error::io("write", &path))?;
        Ok(path)
    }

    /// Makes the initial RAM disk with this agent anew if it is damaged; returns whether it was.
    ///
    /// # Errors
    /// Those of [`Self::initrd`].
    pub fn mend_initrd(&self, agent: &Path) -> Result<bool, Error> {
        let program = fs::read(agent).map_err(Error::io("read", agent))?;
        let path = self.initrd(agent)?;
        let wanted = self.initrd_contents(&program).map_err(Error::io("read", self.modules()))?;
        if fs::read(&path).is_ok_and(|found| found == wanted) {
            return Ok(false);
        }
        self.write_initrd(&program, &path).map_err(Error::io("write", &path))?;
        Ok(true)
    }

    fn initrd_contents(&self, agent: &[u8]) -> io::Result<Vec<u8>> {
        let mut archive = Archive::new(fs::read(self.modules())?);
        archive.file("init", 0o755, agent)?;
        archive.finish()
    }

    /// Writes under another name first, so that nobody boots half of it.
    fn write_initrd(&self, agent: &[u8], path: &Path) -> io::Result<()> {
        let mut out = tempfile::Builder::new().prefix(".initrd-").tempfile_in(self.dir())?;
        out.write_all(&self.initrd_contents(agent)?)?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        out.as_file().set_permissions(readable)?;
        out.persist(path)?;
        Ok(())
    }

    fn remove_old(&self, keep: &Path) {
        for entry in fs::read_dir(self.dir()).into_iter().flatten().filter_map(Result::ok) {
            let is_initrd = entry.file_name().to_string_lossy().starts_with("initrd-");
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if is_initrd && entry.path() != keep && age.is_some_and(|a| a > KEPT) {
                // Only disk space depends on it.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
