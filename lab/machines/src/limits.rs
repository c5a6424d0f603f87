//! Resource limits of this process.

use labctl_model::Lab;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::Error;

/// Files that a supervisor opens however small its lab is, with reserve for requests of several clients.
const FILES: u64 = 128;

/// Files for each host: its machine, its agent, its dockerd's socket and what is connected to them.
const FILES_OF_HOST: u64 = 32;

/// Files for each NIC and each peer: its end of the wire, and taps while frames are watched.
const FILES_OF_PORT: u64 = 4;

/// Lets this process and its children open as many files as a lab needs.
///
/// # Errors
/// [`Error::TooFewFiles`]: the hard limit is lower.
pub fn allow_files(lab: &Lab) -> Result<(), Error> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|e| Error::io("cannot look at the limits of", "this process")(e.into()))?;
    let need = files(lab);
    if hard < need {
        return Err(Error::TooFewFiles { lab: lab.name.clone(), need, hard });
    }
    if soft < need {
        // No more than that: some programs close every number up to the limit when they start.
        setrlimit(Resource::RLIMIT_NOFILE, need, hard)
            .map_err(|e| Error::io("cannot raise the limits of", "this process")(e.into()))?;
    }
    Ok(())
}

fn files(lab: &Lab) -> u64 {
    let ports = lab.hosts.values().map(|h| h.nics.len()).sum::<usize>() + lab.peers.len();
    FILES + FILES_OF_HOST * lab.hosts.len() as u64 + FILES_OF_PORT * ports as u64
}

/// Memory of this machine that is available without swapping (proc(5), MemAvailable), in MiB.
pub fn available_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib >> 10)
}
