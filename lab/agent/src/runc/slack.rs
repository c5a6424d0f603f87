//! Timer slack: how late a timer may be.
//!
//! The watchdog of Go's runtime sleeps for 20 us at a time while anything runs, in every one of the six Go processes
//! that start a container. Without KVM each of these wake-ups costs more than it sleeps. Timer slack (prctl(2),
//! PR_SET_TIMERSLACK), which children inherit, lets the kernel combine them: dockerd gets some, and so does all that it
//! starts, up to the container's own program.

use std::{fs, path::Path};

use serde::Deserialize;

/// Slack of Docker's processes, in ns. More saves little and leaves the processor idle, because Go also sleeps while it
/// waits for itself.
pub const DOCKER_NS: u64 = 3_000_000;

/// The kernel's default slack (init/init_task.c), in ns.
const DEFAULT_NS: u64 = 50_000;

/// The files in which runc and crun keep a container's state.
const STATES: [&str; 2] = ["state.json", "status"];

/// The part of such a file that we need.
#[derive(Deserialize)]
struct State {
    #[serde(alias = "init_process_pid")]
    pid: u32,
}

/// Resets this process, and what it becomes, to the default.
pub fn end_for_self() {
    // If that fails, timers stay coarse, which is no reason not to run.
    let _ = nix::sys::prctl::set_timerslack(DEFAULT_NS);
}

/// Resets the process that will become a container's program to the default; `container` is its state folder.
pub fn end_for_container(container: &Path) {
    let Some(pid) = STATES.iter().find_map(|name| pid(&fs::read(container.join(name)).ok()?)) else { return };
    // Each thread has its own slack, and any of them may become the program.
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let thread = thread.file_name();
        let _ =
            fs::write(format!("/proc/{}/timerslack_ns", thread.to_string_lossy()), DEFAULT_NS.to_string());
    }
}

/// The first process of a container, from its state.
fn pid(state: &[u8]) -> Option<u32> {
    serde_json::from_slice(state).ok().map(|State { pid }| pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_runtimes_say_the_first_process() {
        assert_eq!(pid(br#"{"id":"c","init_process_pid":7,"init_process_start":3}"#), Some(7));
        assert_eq!(pid(br#"{"pid":8,"process-start-time":3,"rootfs":"/r"}"#), Some(8));
        assert_eq!(pid(b""), None);
    }
}
