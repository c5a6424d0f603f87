//! Container images that a topology describes.

use serde::{Deserialize, Serialize};

use crate::engine::Suite;

/// A container image made of Debian packages.
///
/// The packages and their dependencies are unpacked, not installed: none of their scripts runs, and nothing else is
/// added, not even a shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebianImage {
    /// Names of packages, sorted.
    pub packages: Vec<String>,
    /// The Debian suite that they come from.
    pub suite: Suite,
    /// `ENTRYPOINT` of the image; may be empty.
    pub entrypoint: Vec<String>,
    /// `CMD` of the image; may be empty.
    pub cmd: Vec<String>,
    /// Line in the topology, 1-based.
    pub line: u32,
}
