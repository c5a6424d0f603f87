//! Puts this program where Docker first looks for its runtimes (see [`crate::runc`]), and makes sealed copies of the real
//! ones.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::Error;
use crate::runc::{AGENT, DIR, NAMES, SEALED};

/// Does so for the programs that the image has in `path`. The copies live as long as this process.
pub fn prepare(path: &str) -> Result<(), Error> {
    let dirs = || std::env::split_paths(OsStr::new(path));
    let find = |name: &str| dirs().map(|dir| dir.join(name)).find(|p| p.is_file());
    for dir in [DIR, SEALED] {
        fs::create_dir_all(dir).map_err(Error::file(dir))?;
    }
    for name in NAMES {
        let Some(real) = find(name) else { continue };
        let copy = sealed(&real).map_err(Error::file(&real))?;
        let target = format!("/proc/{}/fd/{}", std::process::id(), copy.as_raw_fd());
        let _kept = copy.into_raw_fd();
        link(&target, &Path::new(SEALED).join(name))?;
        link(AGENT, &Path::new(DIR).join(name))?;
    }
    Ok(())
}

fn link(target: &str, name: &Path) -> Result<(), Error> {
    symlink(target, name).map_err(Error::file(name))
}

/// Makes a write-protected copy in memory. runc wants to run from one and copies itself if it does not find exactly these
/// seals (runc, libcontainer/nsenter/cloned_binary.c, `RUNC_MEMFD_SEALS`; crun, src/libcrun/cloned_binary.c,
/// `CRUN_MEMFD_SEALS`). One copy for all containers also keeps its translation, which without KVM is most of a start's
/// cost.
fn sealed(program: &Path) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut copy = File::from(memfd_create("runtime", flags)?);
    io::copy(&mut File::open(program)?, &mut copy)?;
    let seals =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_sealed_copy_is_whole_and_cannot_be_changed() {
        let program = std::env::current_exe().unwrap();
        let copy = sealed(&program).unwrap();
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        assert_eq!(fs::read(&path).unwrap(), fs::read(&program).unwrap());
        assert!(File::from(copy).write_all(b"x").is_err());
    }
}
