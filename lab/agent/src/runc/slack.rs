//! How late a timer may be.
//!
//! The watchdog of Go's runtime sleeps for 20 us at a time while anything runs, in every one of the six Go processes
//! that start a container. Without KVM each of these wake-ups costs more than it sleeps. A timer's slack (prctl(2),
//! PR_SET_TIMERSLACK), which children inherit, lets the kernel put them together: dockerd gets some, and with it all
//! that it starts up to the container's own program.

use std::{fs, path::Path};

use serde::Deserialize;

/// Docker's, in ns. More saves little and leaves the processor idle, since Go also sleeps where it waits for itself.
pub const DOCKER_NS: u64 = 3_000_000;

/// The kernel's own (init/init_task.c), in ns.
const DEFAULT_NS: u64 = 50_000;

/// The files in which runc and crun keep a container's state.
const STATES: [&str; 2] = ["state.json", "status"];

/// Of such a file, what is needed here.
#[derive(Deserialize)]
struct State {
    #[serde(alias = "init_process_pid")]
    pid: u32,
}

/// This process, and what it becomes, has the default again.
pub fn end_for_self() {
    // Without it timers are coarse, which is no reason not to run.
    let _ = nix::sys::prctl::set_timerslack(DEFAULT_NS);
}

/// The process that is to become a container's program has the default again; `container` is the folder with its
/// state.
pub fn end_for_container(container: &Path) {
    let Some(pid) = STATES.iter().find_map(|name| pid(&fs::read(container.join(name)).ok()?)) else { return };
    // The slack is each thread's own, and any of them may be the one that becomes the program.
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
