//! What will be made, and where labctl keeps files.

use std::path::PathBuf;

use labctl_model::Lab;
use serde::{Deserialize, Serialize};

use crate::{inventory::Machines, runtime::Runtime};

/// Where labctl keeps files; the library's caller decides.
#[derive(Clone, Debug)]
pub struct Dirs {
    /// Node images and templates; may be deleted at any time.
    pub cache: PathBuf,
    /// Labs.
    pub state: PathBuf,
}

/// Everything that a supervisor needs to bring a lab up, and `down` to take it down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The lab.
    pub lab: Lab,
    /// The topology file.
    pub topology: PathBuf,
    /// What its hosts run on.
    pub runtime: Runtime,
    /// Boot instead of restoring.
    pub cold: bool,
    /// Keep what was made if the lab does not come up.
    pub keep: bool,
    /// Which checkpoint it is taken from.
    #[serde(default)]
    pub origin: Origin,
    /// When it began, in seconds since the epoch.
    pub since: u64,
    /// The agent's binary.
    pub agent: PathBuf,
    /// Cache folder.
    pub cache: PathBuf,
    /// The machines that exist, for the `ssh` runtime.
    #[serde(default)]
    pub machines: Option<Machines>,
}

/// Which checkpoint a lab is taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The one that an earlier lab of its kind left, if there is one; else it leaves one.
    Kind,
    /// None; it leaves one of its kind.
    Fresh,
    /// None, and it leaves none.
    #[default]
    None,
    /// This one, saved by a user.
    Named(String),
}
