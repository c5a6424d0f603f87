//! How far the making of an image is.

use std::time::Duration;

/// Progress of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// From 1.
    pub step: u32,
    /// How many steps there are.
    pub of: u32,
    /// What is being done.
    pub what: &'a str,
    /// Time since the build began.
    pub elapsed: Duration,
}

impl std::fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {} ({} s)", self.step, self.of, self.what, self.elapsed.as_secs())
    }
}
