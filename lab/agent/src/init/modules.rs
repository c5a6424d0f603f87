//! Loads the modules of the initial RAM disk.

use std::ffi::CStr;
use std::fs::{self, File};
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use super::Error;

const NO_PARAMETERS: &CStr = c"";

/// Loads every module named in `dir/order`, in that order, and frees the memory of the files. Returns a line for each
/// that did not load: if the root image needs it, the mount fails later; other failures (a CPU without an instruction
/// set, a built-in algorithm) are no reason to stop.
pub fn load(dir: &Path) -> Result<Vec<String>, Error> {
    let order = dir.join("order");
    let names = fs::read_to_string(&order).map_err(Error::file(&order))?;
    let mut skipped = Vec::new();
    for name in names.lines() {
        let path = dir.join(name);
        let file = File::open(&path).map_err(Error::file(&path))?;
        match finit_module(&file, NO_PARAMETERS, ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => skipped.push(format!("{name}: {errno}")),
        }
        drop(file);
        // The initial RAM disk is RAM; a failure to free it only costs some.
        let _ = fs::remove_file(&path);
    }
    Ok(skipped)
}
