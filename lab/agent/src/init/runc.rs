//! Puts this program where Docker first looks for its runtimes (see [`crate::runc`]).

use std::{ffi::OsStr, fs, os::unix::fs::symlink, path::Path};

use super::Error;
use crate::runc::{AGENT, DIR, NAMES};

/// Does so for the programs that the image has in `path`.
pub fn prepare(path: &str) -> Result<(), Error> {
    fs::create_dir_all(DIR).map_err(Error::file(DIR))?;
    let is_there = |name: &str| std::env::split_paths(OsStr::new(path)).any(|dir| dir.join(name).is_file());
    for name in NAMES.into_iter().filter(|name| is_there(name)) {
        let link = Path::new(DIR).join(name);
        symlink(AGENT, &link).map_err(Error::file(&link))?;
    }
    Ok(())
}
