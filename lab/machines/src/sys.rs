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

/// Has the command's process get SIGTERM when this thread ends.
pub fn end_with_parent(command: &mut tokio::process::Command) {
    let parent = nix::unistd::getpid();
    let prepare = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
        if nix::unistd::getppid() != parent {
            // The parent died before the line above: its signal has been missed.
            return Err(Errno::ESRCH.into());
        }
        Ok(())
    };
    // SAFETY: prctl(2) and getppid(2) are async-signal-safe, and an error is made from a number.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// The capability to bypass the permissions of files (capabilities(7)).
const CAP_DAC_OVERRIDE: u32 = 1;

/// Makes the command's process die with this thread (PR_SET_PDEATHSIG is bound to the thread that forks, see prctl(2))
/// and inherit `keep` under the same numbers. Files that it makes are private to its user. It has no capability and
/// never gets one, except to bypass file permissions if it must (`any_file`).
pub fn tie(command: &mut tokio::process::Command, keep: Vec<OwnedFd>, any_file: bool) {
    let parent = nix::unistd::getpid();
    let prepare = move || {
        nix::sys::prctl::set_no_new_privs()?;
        // If this process cannot pass it on, the command must do without.
        if !any_file || capset(1 << CAP_DAC_OVERRIDE).is_err() {
            capset(0)?;
        }
        // After the capabilities: a change of these may clear it.
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
    // SAFETY: prctl(2), capset(2), getppid(2), umask(2) and fcntl(2) are async-signal-safe; nothing is allocated, and an
    // error is made from a number.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Limits this process to these of its first 32 capabilities, and none of the others.
fn capset(capabilities: u32) -> nix::Result<()> {
    /// `struct __user_cap_header_struct` (linux/capability.h).
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    /// `struct __user_cap_data_struct`.
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    /// `_LINUX_CAPABILITY_VERSION_3`: with two sets of 32.
    const VERSION: u32 = 0x2008_0522;
    let header = Header { version: VERSION, pid: 0 };
    let data = [
        Data { effective: capabilities, permitted: capabilities, inheritable: 0 },
        Data { effective: 0, permitted: 0, inheritable: 0 },
    ];
    // SAFETY: both structures are as capset(2) has them and outlive the call, which only reads them.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    Errno::result(done).map(drop)
}
