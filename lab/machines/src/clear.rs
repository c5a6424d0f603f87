//! Clears what a lab left whose supervisor is gone.

use std::time::Duration;

use labctl_protocol::polling::Polling;
use labctl_state::{LabDir, Lock, Process};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::runtimes;

/// How long a process may take to die of SIGKILL.
pub const DIES_WITHIN: Duration = Duration::from_secs(5);

/// Pause between two looks at a process.
const LOOK: Duration = Duration::from_millis(10);

/// Ends every process that the lab noted and removes its folder, which nobody else can be using: we hold its lock.
/// Collects failures instead of stopping at them.
pub async fn clear(dir: &LabDir, lock: &Lock) -> Vec<String> {
    let mut warnings = Vec::new();
    if !dir.is_locked_by(lock) {
        // Somebody else has cleared it; this is the next lab's folder.
        return warnings;
    }
    // The supervisor comes first in the notes, and must end first: it would report its machines' end as a crash.
    for process in dir.processes() {
        if let Err(e) = end(&process).await {
            warnings.push(format!("{} (process {}): {e}", process.what, process.pid));
        }
    }
    warnings.extend(runtimes::sweep(dir).await);
    if let Err(e) = dir.remove(lock) {
        warnings.push(format!("{}: {e}", dir.path().display()));
    }
    warnings
}

/// Kills a process, unless its pid belongs to another by now, and waits until it is gone.
///
/// # Errors
/// It does not die, in words.
pub async fn end(process: &Process) -> Result<(), String> {
    if !process.is_alive() || process.pid == std::process::id() {
        return Ok(());
    }
    let pid = Pid::from_raw(i32::try_from(process.pid).map_err(|e| e.to_string())?);
    match kill(pid, Signal::SIGKILL) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(e) => return Err(e.to_string()),
    }
    let wait = Polling::new(DIES_WITHIN, LOOK);
    while process.is_alive() {
        if !wait.again().await {
            return Err("does not die".into());
        }
    }
    Ok(())
}
