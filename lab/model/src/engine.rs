//! The dockerd of a host.

use serde::{Deserialize, Serialize};

/// Which dockerd a host runs, named after the Debian suite that its node image is built from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Docker 26.1.
    #[default]
    Trixie,
    /// Docker 20.10.
    Bookworm,
}
