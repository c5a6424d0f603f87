//! One machine of a checkpoint.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What saved hosts depend on, by the name by which a user knows it: `QEMU`, `agent`.
pub type Fingerprint = BTreeMap<String, String>;

/// The files of a saved machine.
#[derive(Clone, Debug)]
pub struct SavedMachine {
    /// What its memory began as: a template's.
    pub base: PathBuf,
    /// The pages that differ.
    pub pages: PathBuf,
    /// Its devices.
    pub state: PathBuf,
}

impl SavedMachine {
    /// The files of a host in a folder of saved machines, of which several have the same base.
    pub fn of(dir: &Path, host: &str, base: &str) -> Self {
        let [pages, state] = Self::files(host).map(|file| dir.join(file));
        Self { base: dir.join(base), pages, state }
    }

    /// Names of the files that are a host's own.
    pub fn files(host: &str) -> [String; 2] {
        [format!("{host}.pages"), format!("{host}.state")]
    }
}
