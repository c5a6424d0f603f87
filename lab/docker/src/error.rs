//! What a dockerd answers instead of doing it.

use labctl_words::plain_lines;

/// Why a dockerd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It refused.
    #[error("host `{host}`: {what}: Docker says: {}", plain_lines(message))]
    Refused {
        /// Host.
        host: String,
        /// What was asked, in words: `create network ipvlan_net`.
        what: String,
        /// Docker's message.
        message: String,
    },
    /// It gave no answer at all.
    #[error("{what}: dockerd of {host} does not answer: {why}")]
    NoAnswer {
        /// Host.
        host: String,
        /// What was asked, in words: `create network ipvlan_net`.
        what: String,
        /// What happened to the connection.
        why: String,
    },
}

impl Error {
    /// The host whose dockerd it is.
    pub fn host(&self) -> &str {
        match self {
            Error::Refused { host, .. } | Error::NoAnswer { host, .. } => host,
        }
    }
}
