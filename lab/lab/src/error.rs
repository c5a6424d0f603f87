//! Errors: why a lab is not available.

use std::fmt;

use labctl_topology::LoadError;
use labctl_yaml::Diagnostics;

/// What can go wrong. The text names the operand and, after `hint:`, the way out if there is one. `Debug` gives the same
/// text, since a failed test prints that.
#[derive(thiserror::Error)]
pub enum Error {
    /// The topology cannot be read, or has mistakes: all are listed, each with its line.
    #[error(transparent)]
    Topology(#[from] LoadError),
    /// A lab could not be brought up, asked or taken down.
    #[error(transparent)]
    Runtime(#[from] labctl_runtime::Error),
    /// There is no folder to keep something in.
    #[error(
        "there is no home folder\nhint: say where {what} are kept with {variable}, or in Rust with `{method}`"
    )]
    NoHome {
        /// What is kept there.
        what: &'static str,
        /// The environment variable.
        variable: &'static str,
        /// The method.
        method: &'static str,
    },
    /// The thread of the lab could not be started.
    #[error("cannot start the thread of a lab: {0}")]
    Thread(std::io::Error),
    /// The lab is down, but not everything could be cleared.
    #[error("not all of the lab is cleared: {}", .0.join("; "))]
    LeftOver(Vec<String>),
    /// The container of a node could not be started.
    #[cfg(feature = "testcontainers")]
    #[error(transparent)]
    Container(#[from] testcontainers::TestcontainersError),
    /// A host's dockerd refused something, or the client could not be made.
    #[error("Docker: {0}")]
    Docker(#[from] bollard::errors::Error),
}

impl From<labctl_state::Error> for Error {
    fn from(error: labctl_state::Error) -> Self {
        Self::Runtime(error.into())
    }
}

impl From<labctl_machines::Error> for Error {
    fn from(error: labctl_machines::Error) -> Self {
        Self::Runtime(error.into())
    }
}

impl From<Diagnostics> for Error {
    fn from(mistakes: Diagnostics) -> Self {
        Self::Topology(LoadError::Invalid(mistakes))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&labctl_words::plain_lines(&self.to_string()))
    }
}
