//! What can go wrong with a wire.

use std::{io, path::PathBuf};

use crate::frame::MAX_FRAME_LEN;

/// Most bytes of a unix socket's path: `sun_path` less its final zero (unix(7)).
pub(crate) const MAX_PATH_LEN: usize = 107;

/// An error of the wire. The text names the port, segment or path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A port's segment, or the segment asked for, does not exist.
    #[error("there is no segment {0:?} on this wire")]
    UnknownSegment(String),
    /// No port has that name.
    #[error("there is no port {0:?} on this wire")]
    UnknownPort(String),
    /// Two ports have one name.
    #[error("the wire already has a port {0:?}")]
    DuplicatePort(String),
    /// The path is longer than the kernel allows for a unix socket (unix(7)).
    #[error(
        "the socket path {path:?} has {} bytes, a unix socket's at most {MAX_PATH_LEN}; \
         hint: choose a shorter state folder with LABCTL_STATE_DIR", path.as_os_str().len()
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The path exists already.
    #[error("{path:?} exists already; hint: another lab may be using it, else remove the file and try again")]
    PathTaken {
        /// The path.
        path: PathBuf,
    },
    /// The socket could not be made.
    #[error("cannot listen on {path:?}: {source}")]
    Listen {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The event loop or its thread could not be made, or a socket could not be watched.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A capture's limit is out of range.
    #[error("a capture needs {0}")]
    CaptureSpec(&'static str),
    /// A frame is longer than any that the wire carries.
    #[error("a frame of {0} bytes; the wire carries at most {MAX_FRAME_LEN}")]
    FrameTooLong(usize),
    /// The wire's thread has ended.
    #[error("the wire has stopped")]
    Stopped,
    /// The wire's thread did not answer in time.
    #[error("the wire did not answer within {0:?}")]
    NoAnswer(std::time::Duration),
}
