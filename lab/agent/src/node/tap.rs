//! A NIC of a node: a TAP device in its network namespace, whose frames the wire reads and writes.

use std::{
    fs::OpenOptions,
    io::{self, IoSlice},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::Path,
};

use nix::{
    libc,
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
};

use crate::sys;

const TUN: &str = "/dev/net/tun";

/// Makes a TAP of this name in this thread's network namespace. It lives as long as the descriptor, which reads and writes
/// one frame at a time, after a virtio-net header.
///
/// # Errors
/// If the kernel refuses: no such device, no permission, or the name is taken.
pub fn make(name: &str) -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(TUN)
        .map_err(|e| io::Error::new(e.kind(), format!("{TUN}: {e}")))?;
    sys::set_tap_name(&file, name)?;
    Ok(file.into())
}

/// Hands a TAP over to the listener on `socket` (unix(7), SCM_RIGHTS) and closes our descriptor. Returns the
/// non-blocking connection, which ends when the far end is done with the TAP.
///
/// # Errors
/// If nobody listens there, or the descriptor cannot be sent.
pub fn hand_over(tap: OwnedFd, socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    let fds = [tap.as_fd().as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"T")], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
