//! The calls that need `unsafe`.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Most descriptors taken from one message.
const MOST: usize = 4;

/// Reads one message from a unix socket. Returns the descriptor that came with it, if any (unix(7), SCM_RIGHTS), or
/// `None` at the stream's end.
pub(crate) fn receive_fd(socket: RawFd) -> io::Result<Option<Option<OwnedFd>>> {
    let mut octet = [0; 16];
    let mut data = [io::IoSliceMut::new(&mut octet)];
    let mut control = nix::cmsg_space!([RawFd; MOST]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket, &mut data, Some(&mut control), flags)?;
    let mut taken = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the kernel has just made these descriptors for this process; nobody else has them.
            taken.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let ended = message.bytes == 0;
    // If there are several, we keep the last and close the others.
    let fd = taken.pop();
    Ok((fd.is_some() || !ended).then_some(fd))
}

mod ioctls {
    nix::ioctl_read_bad!(tun_get_iff, libc::TUNGETIFF, libc::ifreq);
    nix::ioctl_write_ptr_bad!(tun_set_header_len, libc::TUNSETVNETHDRSZ, libc::c_int);
    nix::ioctl_write_int_bad!(tun_set_offload, libc::TUNSETOFFLOAD);
}

/// Whether a descriptor is a TAP with a header before each frame (Linux, networking/tuntap.rst: IFF_VNET_HDR). If so,
/// makes the header `header_len` bytes long, and allows the TAP to leave checksums out and TCP uncut.
pub(crate) fn take_offloads(fd: &impl AsFd, header_len: usize) -> io::Result<bool> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: ifreq is plain data, for which all zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most one ifreq, for which the pointer is valid. A descriptor that is no TAP refuses.
    if unsafe { ioctls::tun_get_iff(fd, &mut request) }.is_err() {
        return Ok(false);
    }
    // SAFETY: TUNGETIFF writes the flags.
    let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
    if flags & libc::IFF_VNET_HDR == 0 {
        return Ok(false);
    }
    let len = libc::c_int::try_from(header_len).map_err(io::Error::other)?;
    let offloads = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    // SAFETY: the first reads one int, for which the pointer is valid; the second takes a number.
    unsafe {
        ioctls::tun_set_header_len(fd, &len)?;
        ioctls::tun_set_offload(fd, offloads as libc::c_int)?;
    }
    Ok(true)
}
