//! What can go wrong with images.

use std::io;
use std::path::{Path, PathBuf};

use labctl_model::{Engine, Suite};

/// What can go wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A lab's host needs an image that is not made.
    #[error("there is no node image of {0}\nhint: make it with `{make}`", make = making(.0))]
    NoNodeImage(Engine),
    /// An image of packages that a topology defines is not made.
    #[error("image `{0}` is not made yet\nhint: `labctl up` makes it from its packages")]
    NotMade(String),
    /// A file that is no container image, or one without a name.
    #[error("{} is no image with a name: {why}\nhint: `docker save NAME -o FILE` writes one", path.display())]
    NoName {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A container's image is not available.
    #[error(
        "container `{container}`: image `{image}` is not to be had: {why}\n\
         hint: add it with `labctl image add FILE`, where FILE is what `docker save` wrote; or leave `image:` out to \
         use the built-in one"
    )]
    NoImage {
        /// Image.
        image: String,
        /// A container that wants it.
        container: String,
        /// What this machine's Docker says.
        why: String,
    },
    /// A file that is no tarball of Docker's binaries.
    #[error(
        "{} is no tarball of Docker: {why}\n\
         hint: it must hold {}, as https://download.docker.com/linux/static/ has them",
        path.display(), crate::recipe::BINARIES.join(", ")
    )]
    NoDocker {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A name that no engine can have.
    #[error(
        "`{0}` cannot be the name of an engine\n\
         hint: up to 32 small letters, digits, `.` and `-`, beginning with a letter; not one of Debian's suites"
    )]
    EngineName(String),
    /// No such image in the cache.
    #[error("there is no node image `{0}`\nhint: `labctl image ls` lists those that there are")]
    NotFound(String),
    /// A program of the system is missing.
    #[error("cannot run {program}: {source}\nhint: apt-get install {package}")]
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
    /// Adds operation and path to an I/O error; for `map_err`.
    pub fn io(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// An error in the contents of a file.
    pub fn content(path: impl AsRef<Path>, why: impl Into<String>) -> Self {
        Self::Content { path: path.as_ref().to_owned(), why: why.into() }
    }

    /// 2 if what was asked for is at fault, 3 if this machine is.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoImage { .. }
            | Self::NoDocker { .. }
            | Self::EngineName(_)
            | Self::NotFound(_)
            | Self::NoPackage { .. } => 2,
            _ => 3,
        }
    }
}

/// The command that makes the node image of an engine.
fn making(engine: &Engine) -> String {
    match engine {
        Engine::Debian(suite) => format!("labctl image build --engine {suite}"),
        Engine::Own { name, .. } => format!("labctl image build --docker FILE.tgz --name {name}"),
    }
}
