//! One QEMU machine: its command line, its monitor, its memory and devices.
//!
//! A machine is a child of the supervisor, runs as the same user, and dies with it. labctl holds three kinds of sockets
//! to it, all passed to QEMU as open descriptors, so that nothing is polled for:
//!
//! - the monitor (QMP): one end of a socket pair;
//! - the agent's virtio-serial port: labctl binds `agent.sock` (0600) in the host's folder and QEMU inherits the
//!   listening socket. A connection made before QEMU runs waits in the backlog; one that ends can be made anew;
//! - a NIC: a connection to where the wire listens, made before QEMU starts.

mod accel;
pub(crate) mod devices;
mod machine;
pub(crate) mod pages;
mod qmp;
mod saving;
mod spec;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use accel::{Accel, kvm_boots, kvm_works};
pub use machine::{QemuVersion, Vm, require_qemu};
pub use pages::Copied;
pub use qmp::{Qmp, QmpEvent};
pub(crate) use saving::Base;
pub use saving::Saving;
pub use spec::{Memory, VmNic, VmSpec};

use crate::tail::tail;

/// Name of the program.
const QEMU: &str = "qemu-system-x86_64";

/// The first version of QEMU with `-netdev stream`.
pub const OLDEST: (u64, u64) = (7, 2);

/// The first version of QEMU that loads a state from a file by itself.
pub const OLDEST_TO_SAVE: (u64, u64) = (8, 2);

/// What can go wrong with a machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no QEMU, or it cannot be run.
    #[error("cannot run {QEMU}: {0}\nhint: apt-get install qemu-system-x86")]
    NoQemu(#[source] io::Error),
    /// QEMU lacks what labctl uses.
    #[error("QEMU {0} is too old: labctl needs {major}.{minor}\nhint: take it from your distribution's backports",
        major = OLDEST.0, minor = OLDEST.1)]
    TooOld(String),
    /// QEMU ended as soon as it was started.
    #[error("the machine {name} did not start ({status}): {why}\nhint: {hint}")]
    Died {
        /// Which machine.
        name: String,
        /// How QEMU ended.
        status: String,
        /// Its last output.
        why: String,
        /// The way out.
        hint: &'static str,
    },
    /// QEMU runs but does not answer.
    #[error("QEMU of the machine {name} did not answer `{command}` within {} s{tail}", within.as_secs())]
    Silent {
        /// Which machine.
        name: String,
        /// What it was asked.
        command: String,
        /// How long it had.
        within: Duration,
        /// Its last output, if any.
        tail: String,
    },
    /// QEMU refused a command.
    #[error("QEMU refused `{command}`: {why}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's own description.
        why: String,
    },
    /// The monitor's connection is gone, most likely because the machine is.
    #[error("QEMU hung up on `{0}`: the machine has ended")]
    HungUp(String),
    /// A socket's path is longer than the kernel takes.
    #[error("{}: the path of a socket may have {max} octets\nhint: use a shorter state folder (LABCTL_STATE_DIR)", path.display())]
    LongPath {
        /// The path.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
    /// A file or socket could not be used.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// `read`, `connect to`, ….
        what: &'static str,
        /// The file or socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { what, path, source }
    }
}
