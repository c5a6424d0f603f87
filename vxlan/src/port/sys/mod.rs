//! System calls, and memory shared with the kernel: all `unsafe` code of this crate.
#![allow(unsafe_code)]

mod map;
mod mmsg;
mod rx;
mod tx;

pub(super) use mmsg::{receive, send};
pub(super) use rx::{RawRx, RxShape};
pub(super) use tx::{RawTx, SLOT as TX_SLOT};

use std::ffi::CString;
use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use super::{Direction, Ready};
use crate::VlanTag;

/// Turns the return value of a system call into a result.
fn check(returned: libc::c_int) -> io::Result<libc::c_int> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// Sets a socket option to `value`, which must be of the kernel's type: a struct of plain numbers.
fn set<T: Copy>(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length are those of `value`, which the kernel only reads.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len) })?;
    Ok(())
}

/// Binds to an interface; 0 is all of them. With `receive`, to all that passes it, else only for sending.
pub(super) fn bind_packet(fd: BorrowedFd<'_>, ifindex: u32, receive: bool) -> io::Result<()> {
    let protocol = if receive { libc::ETH_P_ALL as u16 } else { 0 };
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: pointer and length are those of `address`, which the kernel only reads.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(())
}

/// Asks for times, removed VLAN tags, and whether checksums are computed.
pub(super) fn request_metadata(fd: BorrowedFd<'_>) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1i32)?;
    set(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1i32)
}

/// Sets the receive buffer to this many bytes, whatever net.core.rmem_max says.
pub(super) fn set_receive_buffer(fd: BorrowedFd<'_>, bytes: i32) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes)
}

pub(super) fn join_promiscuous(fd: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: i32::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// Frames received, and how many of them dropped, since the last call.
pub(super) fn statistics(fd: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut stats = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
    let mut len = size_of_val(&stats) as libc::socklen_t;
    let to = (&raw mut stats).cast();
    // SAFETY: the kernel writes at most `len` bytes, the size of `stats`; versions before 3 write its first fields.
    check(unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, to, &mut len)
    })?;
    Ok((stats.tp_packets, stats.tp_drops))
}

pub(super) fn poll(fd: BorrowedFd<'_>, ready: Ready, timeout: Duration) -> io::Result<bool> {
    let events = match ready {
        Ready::Receive => libc::POLLIN,
        Ready::Send => libc::POLLOUT,
    };
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    let millis = i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    // SAFETY: one pollfd, which outlives the call.
    match check(unsafe { libc::poll(&mut poll, 1, millis) }) {
        Ok(ready) => Ok(ready > 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn index_of(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: a string that ends with a zero and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// `sll_pkttype` of packet(7).
fn direction(pkttype: u8) -> Direction {
    match pkttype {
        libc::PACKET_HOST => Direction::ToUs,
        libc::PACKET_BROADCAST => Direction::Broadcast,
        libc::PACKET_MULTICAST => Direction::Multicast,
        libc::PACKET_OUTGOING => Direction::Outgoing,
        _ => Direction::ToOthers,
    }
}

/// The tag that the kernel removed, from the status bits and fields of TPACKET or its auxiliary data.
fn tag(status: u32, tci: u16, tpid: u16) -> Option<VlanTag> {
    if status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let known = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let tpid = if known { tpid } else { crate::proto::ethertype::DOT1Q };
    Some(VlanTag::new(tpid, tci))
}
