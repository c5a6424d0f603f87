//! The command of labctl's own container image: does nothing, and stops at once when told to.

use std::io;

use nix::{
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// Waits for SIGTERM or SIGINT, and buries what a PID 1 inherits meanwhile. Blocking the signals is what makes PID 1
/// get them at all: the kernel keeps from it those that it neither handles nor blocks.
pub fn pause() -> io::Result<()> {
    let mut awaited = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        awaited.add(signal);
    }
    awaited.thread_block()?;
    while awaited.wait()? == Signal::SIGCHLD {
        // One signal may stand for several deaths.
        while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
    }
    Ok(())
}
