//! What stands before containerd's shim in a machine, so that a container starts sooner.
//!
//! containerd has a shim's `start` make a process that looks after one container, and answer with its address; a shim
//! may as well answer with that of a process which it has already (containerd, docs/runtime-v2.md, "start"). Both are
//! large programs, and their start without KVM a third of a container's. So a machine that is saved has some of these
//! processes [in advance](spare), made by the real shim as containerd would have made them, and each is given to one
//! container. Everything else, and every start that finds none, is the real shim's.

pub mod spare;

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    os::unix::process::CommandExt as _,
    process::Command,
};

use crate::runc;

/// The name by which containerd looks for the shim.
pub const NAME: &str = "containerd-shim-runc-v2";

/// Does what the real shim would with these arguments, or becomes it.
///
/// # Errors
/// There is none, or this process's files cannot be written.
pub fn run(arguments: Vec<OsString>) -> io::Result<()> {
    if let [spare::MAKE] = words(&arguments)[..] {
        return spare::make();
    }
    if let Some(order) = spare::Order::of(&arguments) {
        if let Some(spare) = spare::take(&order) {
            // containerd finds the shim by this file again when it was restarted itself.
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
