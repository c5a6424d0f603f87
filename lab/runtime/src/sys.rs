//! The calls that need `unsafe`.
#![allow(unsafe_code)]

use std::{
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::Command,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag},
    sys::{signal::Signal, stat::Mode},
};

/// Makes the command the leader of a session of its own, so that it outlives the terminal and its Ctrl-C.
pub fn detach(command: &mut Command) {
    // SAFETY: setsid(2) is async-signal-safe and touches no memory of the parent.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
    }
}

/// Lets the command's process die with this thread (PR_SET_PDEATHSIG is bound to the thread that forks, see prctl(2))
/// and inherit `keep` under the same numbers. What it makes in the file system is private to its user.
pub fn tie(command: &mut tokio::process::Command, keep: Vec<OwnedFd>) {
    let parent = nix::unistd::getpid();
    let prepare = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        if nix::unistd::getppid() != parent {
            // The parent died before the line above: its signal has been missed.
            return Err(Errno::ESRCH.into());
        }
        nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
        for fd in &keep {
            nix::fcntl::fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: prctl(2), getppid(2), umask(2) and fcntl(2) are async-signal-safe; nothing is allocated, and an error is
    // made from a number.
    unsafe {
        command.pre_exec(prepare);
    }
}
