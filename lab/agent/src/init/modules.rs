//! Loads the modules of the initial RAM disk.

use std::ffi::CStr;
use std::fs::{self, File};
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use super::Error;

const NO_PARAMETERS: &CStr = c"";

/// Loads every module named in `dir/order`, in that order, and then frees the memory the files took. Answers with a
/// line for each that did not load: what the root image needs is noticed when it is mounted, and the rest (a CPU
/// without an instruction set, an algorithm built in) is no reason to stop.
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
        // The initial RAM disk is RAM; a failure to free it costs some and nothing else.
        let _ = fs::remove_file(&path);
    }
    Ok(skipped)
}
