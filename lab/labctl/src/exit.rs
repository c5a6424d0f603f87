//! Exit codes, and the errors that lead to them.

use labctl_images::Error as ImageError;

/// Exit status of labctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exit(pub u8);

impl Exit {
    /// What the user asked for holds, or is done.
    pub const OK: Exit = Exit(0);
    /// Something differs from what the topology expects.
    pub const MISMATCH: Exit = Exit(1);
    /// The command line or the topology is wrong.
    pub const USAGE: Exit = Exit(2);
    /// This machine cannot do it.
    pub const ENVIRONMENT: Exit = Exit(3);
    /// Ended by Ctrl-C or SIGTERM, as shells report it (128 + SIGINT).
    pub const INTERRUPTED: Exit = Exit(130);

    /// OK if it holds, else MISMATCH.
    pub fn holds(holds: bool) -> Self {
        if holds { Self::OK } else { Self::MISMATCH }
    }
}

/// Why a verb failed. Hints are on lines of their own that begin with `hint:`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The topology is wrong, or there is none to read.
    #[error(transparent)]
    Topology(#[from] labctl_topology::LoadError),
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The topology is not for the engines that were asked for.
    #[error("{topology} {why}\nhint: leave --engine out, or choose another one")]
    NotFor {
        /// File.
        topology: String,
        /// Lab.
        lab: String,
        /// `is for Docker >=28, and host1 has 26.1 (trixie)`
        why: String,
    },
    /// This machine lacks something.
    #[error("{0}")]
    Environment(String),
    /// The runtime failed.
    #[error(transparent)]
    Runtime(#[from] labctl_runtime::Error),
    /// An image could not be made or found.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// An image that the topology builds from Debian packages could not be made.
    #[error("{place}: image `{name}`: {source}")]
    Packages {
        /// Image.
        name: String,
        /// File and line.
        place: String,
        /// Why not.
        source: ImageError,
    },
    /// A file could not be used.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// `read`, `write`.
        what: &'static str,
        /// Which.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A report could not be written in a form.
    #[error(transparent)]
    Render(#[from] labctl_render::Error),
    /// A signal (Ctrl-C, SIGTERM, SIGHUP) ended the verb.
    #[error("interrupted")]
    Interrupted,
}

impl From<labctl_state::Error> for Error {
    fn from(error: labctl_state::Error) -> Self {
        Error::Runtime(error.into())
    }
}

impl From<labctl_machines::Error> for Error {
    fn from(error: labctl_machines::Error) -> Self {
        Error::Runtime(error.into())
    }
}

impl Error {
    /// The exit status that this error ends labctl with.
    pub fn exit(&self) -> Exit {
        match self {
            Error::Topology(_) | Error::Usage(_) | Error::NotFor { .. } => Exit::USAGE,
            // A file that does not exist is the command line's mistake; one that cannot be used is the machine's.
            Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Exit::USAGE,
            Error::Environment(_) | Error::File { .. } | Error::Render(_) => Exit::ENVIRONMENT,
            Error::Image(e) | Error::Packages { source: e, .. } => Exit(e.exit_code()),
            Error::Runtime(e) => Exit(e.exit_code()),
            Error::Interrupted => Exit::INTERRUPTED,
        }
    }

    /// Makes an [`Error::File`]; for `map_err` on file operations.
    pub fn file(what: &'static str, path: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Error::File { what, path: path.to_string(), source }
    }
}
