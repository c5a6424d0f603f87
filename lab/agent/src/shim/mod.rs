//! Stands before containerd's shim in a machine, so that a container starts sooner.
//!
//! containerd calls a shim's `start`, which makes a process for one container and answers with its address. A shim may
//! also answer with that of an existing process (containerd, docs/runtime-v2.md, "start"). Both are large programs; their
//! start without KVM is a third of a container's. So a saved machine has some processes [in advance](spare), made by the
//! real shim, and each serves one container. The real shim does everything else, and every start that finds none.

pub mod spare;

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    os::unix::process::CommandExt as _,
    process::Command,
};

use crate::runc;

/// The name under which containerd looks for the shim.
pub const NAME: &str = "containerd-shim-runc-v2";

/// Does what the real shim would do with these arguments, or becomes it.
///
/// # Errors
/// If there is no real shim, or this process's files cannot be written.
pub fn run(arguments: Vec<OsString>) -> io::Result<()> {
    if let [spare::MAKE] = words(&arguments)[..] {
        return spare::make();
    }
    if let Some(order) = spare::Order::of(&arguments) {
        if let Some(spare) = spare::take(&order) {
            // A restarted containerd finds the shim again by this file.
            fs::write("address", spare.address)?;
            return io::stdout().write_all(&spare.answer);
        }
        order.note();
    }
    let real = runc::real(NAME)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no shim in PATH"))?;
    Err(Command::new(real).args(arguments).exec())
}

fn words(arguments: &[OsString]) -> Vec<&str> {
    arguments.iter().filter_map(|a| a.to_str()).collect()
}
