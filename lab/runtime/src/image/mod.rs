//! Node images: what the hosts of a lab boot.
//!
//! An image is a folder `CACHE/images/SUITE-HASH/`; the hash covers everything that decides its contents:
//!
//! | file | what |
//! |---|---|
//! | `vmlinux` | Debian's cloud kernel, uncompressed ELF, booted through its PVH entry |
//! | `modules.cpio` | the kernel modules that are loaded ahead, part of the initial RAM disk (see `modules.txt`) |
//! | `root.ext4` | the read-only root, with dockerd from Debian's packages |
//! | `root.tar.zst` | the same root without kernel modules, for containers as hosts |
//! | `image.json` | what the image is, sizes and contents of the files |
//! | `seen.json` | which files were found intact, and when they last changed |
//!
//! The agent is not part of an image, so a new agent needs no new image: [`NodeImage::initrd`] joins the two.

mod bootstrap;
mod build;
pub mod container;
mod cpio;
mod ensure;
mod import;
mod initrd;
mod kernel;
mod modules;
mod recipe;
mod sources;
mod store;

use std::io;
use std::path::{Path, PathBuf};

pub use build::{BuildOptions, Progress, build};
pub use ensure::{build_telling, ensure, find_damage};
pub use import::{import, imported, reference};
pub use recipe::Suite;
pub use store::{Listed, NodeImage, find, ls, rm};

/// Returns the image of a suite from the cache.
///
/// # Errors
/// It is not there; says how to make it.
pub fn require(cache: &Path, suite: Suite) -> Result<NodeImage, crate::Error> {
    find(cache, suite).ok_or_else(|| {
        crate::Error::Image(format!(
            "there is no node image of {suite}\nhint: make it with `labctl image build --engine {suite}`"
        ))
    })
}

/// What can go wrong with a node image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a Debian release that labctl can make images of.
    #[error("no node image of engine `{0}`\nhint: there are trixie and bookworm")]
    UnknownSuite(String),
    /// No such image in the cache.
    #[error("there is no node image `{0}`\nhint: `labctl image ls` lists those that there are")]
    NotFound(String),
    /// A program of the system is missing.
    #[error(
        "cannot run {program}: {source}\nhint: scripts/setup installs what labctl needs; by hand: apt-get install {package}"
    )]
    Missing {
        /// The program.
        program: &'static str,
        /// The Debian package it comes in.
        package: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Neither root nor user namespaces are available.
    #[error(
        "making a node image needs root or a user namespace, and here {why}\n\
         hint: {hint}; or make the image once as root and copy the cache folder"
    )]
    Unprivileged {
        /// What is in the way.
        why: String,
        /// The way out.
        hint: &'static str,
    },
    /// Not enough disk space.
    #[error("making a node image needs {need_mib} MiB in {}, where {free_mib} MiB are free\nhint: {hint}", path.display())]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// MiB needed.
        need_mib: u64,
        /// MiB free.
        free_mib: u64,
        /// The way out.
        hint: &'static str,
    },
    /// Images are not made for this machine's processor.
    #[error("node images are made for x86_64, and this is {0}")]
    Architecture(&'static str),
    /// The build failed.
    #[error("{step} failed: {why}\nhint: the whole log is {}", log.display())]
    Failed {
        /// Which part of the build.
        step: &'static str,
        /// The last lines of its output.
        why: String,
        /// File with the whole output.
        log: PathBuf,
    },
    /// A package does not exist.
    #[error("{said}, in Debian {suite}\nhint: `apt-cache search WORD` finds packages")]
    NoPackage {
        /// Debian release.
        suite: Suite,
        /// What apt says.
        said: String,
    },
    /// An image of packages, as a topology defines it, could not be made.
    #[error("line {line}: image `{name}`: {source}")]
    OfPackages {
        /// Image.
        name: String,
        /// Line in the topology.
        line: u32,
        /// Why not.
        source: Box<Error>,
    },
    /// The build took too long.
    #[error("the node image was not ready after {minutes} minutes: {step}\nhint: is the Debian mirror reachable? the log is {}", log.display())]
    TimedOut {
        /// What it was doing.
        step: String,
        /// How long it was given.
        minutes: u64,
        /// File with the whole output.
        log: PathBuf,
    },
    /// Docker did not take the image.
    #[error("cannot import {name} into this machine's Docker: {why}")]
    Import {
        /// The name it should have got.
        name: String,
        /// Docker's message.
        why: String,
    },
    /// A file made by the build is not as expected.
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file or folder could not be used.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, ….
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    fn io(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { what, path, source }
    }

    fn content(path: impl AsRef<Path>, why: impl Into<String>) -> Self {
        Self::Content { path: path.as_ref().to_owned(), why: why.into() }
    }
}
