//! Processes that were started.

use std::fs;

use serde::{Deserialize, Serialize};

/// A process of a lab. Its start time tells it from a later one with the same pid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of /proc/PID/stat, proc(5)).
    pub start_time: u64,
    /// What it is: `machine of host1`.
    pub what: String,
}

impl Process {
    /// The process with this id, if it exists.
    pub fn observe(pid: u32, what: impl Into<String>) -> Option<Self> {
        let start_time = start_time(pid)?;
        Some(Self { pid, start_time, what: what.into() })
    }

    /// Whether this same process still runs.
    pub fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }

    /// Whether it is stopped by a signal or a debugger, and so does not answer.
    pub fn is_stopped(&self) -> bool {
        self.is_alive() && stat(self.pid).is_some_and(|stat| matches!(stat.chars().next(), Some('T' | 't')))
    }
}

/// Flag of a process that is exiting: its sockets may be closed before it is a zombie (include/linux/sched.h).
const PF_EXITING: u32 = 0x4;

/// The fields of /proc/PID/stat (proc(5)) from the third on, the state.
fn stat(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the program's name in parentheses, may hold anything, so count from its end.
    Some(stat.rsplit_once(')')?.1.trim_start().to_owned())
}

/// Start time of a process; `None` if there is none, or it has ended.
fn start_time(pid: u32) -> Option<u64> {
    let stat = stat(pid)?;
    let mut fields = stat.split_ascii_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    let flags: u32 = fields.nth(5)?.parse().ok()?;
    if flags & PF_EXITING != 0 {
        return None;
    }
    fields.nth(12)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_number() {
        let me = Process::observe(std::process::id(), "me").unwrap();
        assert!(me.is_alive());
        assert!(!Process { start_time: me.start_time + 1, ..me }.is_alive());
    }

    #[test]
    fn a_stopped_process_is_told_from_one_that_runs() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::observe(child.id(), "sleep").unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        assert!(!process.is_stopped());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while !process.is_stopped() {
            assert!(std::time::Instant::now() < deadline, "it does not look stopped");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_stopped());
    }
}
