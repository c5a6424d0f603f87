//! Many messages per call: sendmmsg(2) and recvmmsg(2).

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{null_mut, read_unaligned};
use std::time::{Duration, SystemTime};

use super::{check, direction, tag};
use crate::port::batch::{Batch, Meta};

/// Messages per call. More gain nothing, and they live on the stack.
const CHUNK: usize = 64;
/// Bytes for control messages; a time and a packet's auxiliary data need 72.
const CONTROL: usize = 128;

/// A buffer for control messages, aligned as a cmsghdr must be.
#[repr(align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// Sends messages. Returns how many were sent; an error only if none was.
pub(in crate::port) fn send<'a>(
    fd: BorrowedFd<'_>,
    messages: impl Iterator<Item = &'a [u8]>,
) -> io::Result<usize> {
    let mut messages = messages.peekable();
    let mut sent = 0;
    while messages.peek().is_some() {
        let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; CHUNK];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; CHUNK];
        let mut count = 0;
        for ((part, header), bytes) in parts.iter_mut().zip(&mut headers).zip(messages.by_ref()) {
            let part =
                part.write(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
            // SAFETY: numbers and pointers, for which all zeros is a valid value.
            let header = header.write(unsafe { zeroed() });
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            count += 1;
            if count == CHUNK {
                break;
            }
        }
        // SAFETY: the first `count` headers are written. They point to parts and bytes that outlive the call,
        // which only reads them.
        let result =
            check(unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr().cast(), count as u32, 0) });
        match result {
            Ok(part) => {
                sent += part as usize;
                if part as usize != count {
                    break;
                }
            }
            Err(_) if sent > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Receives waiting messages into `batch`. Returns how many; an error only if there is none.
pub(in crate::port) fn receive(fd: BorrowedFd<'_>, batch: &mut Batch) -> io::Result<usize> {
    batch.filled = 0;
    let Batch { room, snaplen, slots, filled } = batch;
    for (room, slots) in room.chunks_mut(*snaplen * CHUNK).zip(slots.chunks_mut(CHUNK)) {
        match receive_chunk(fd, room, *snaplen, slots) {
            Ok(count) => {
                *filled += count;
                if count < slots.len() {
                    break;
                }
            }
            Err(_) if *filled > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(*filled)
}

fn receive_chunk(
    fd: BorrowedFd<'_>,
    room: &mut [u8],
    snaplen: usize,
    slots: &mut [(usize, Meta)],
) -> io::Result<usize> {
    // SAFETY: numbers and pointers, for which all zeros is a valid value.
    let (mut parts, mut headers, mut names): (
        [libc::iovec; CHUNK],
        [libc::mmsghdr; CHUNK],
        [libc::sockaddr_ll; CHUNK],
    ) = unsafe { (zeroed(), zeroed(), zeroed()) };
    let mut controls = [Control([0; CONTROL]); CHUNK];
    let mut count = 0;
    for (at, bytes) in room.chunks_exact_mut(snaplen).enumerate() {
        parts[at] = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: snaplen };
        let header = &mut headers[at].msg_hdr;
        header.msg_iov = &raw mut parts[at];
        header.msg_iovlen = 1;
        header.msg_name = (&raw mut names[at]).cast();
        header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        header.msg_control = controls[at].0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL as _;
        count += 1;
    }
    let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    // SAFETY: the first `count` headers each point to bytes, a name and a control buffer of their own, of the given
    // lengths. All outlive the call.
    let received = check(unsafe {
        libc::recvmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, flags as _, null_mut())
    })? as usize;
    for ((header, name), slot) in headers[..received].iter().zip(&names).zip(slots) {
        // With MSG_TRUNC this is the full length, not the kept part.
        let original_len = header.msg_len as usize;
        let mut meta = Meta {
            original_len,
            direction: Some(direction(name.sll_pkttype)),
            interface: u32::try_from(name.sll_ifindex).ok(),
            ..Meta::NONE
        };
        // SAFETY: the kernel filled in the control buffer and its length, and the buffer still lives.
        unsafe { read_control(&header.msg_hdr, &mut meta) };
        *slot = (original_len.min(snaplen), meta);
    }
    Ok(received)
}

/// Reads time and auxiliary data.
///
/// # Safety
/// The kernel must have filled in the header's control buffer, unchanged since.
unsafe fn read_control(header: &libc::msghdr, meta: &mut Meta) {
    // SAFETY: the caller's promise; the macros stay within the length that the kernel set.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return whole headers or null.
        let control = unsafe { read_unaligned(next) };
        // SAFETY: right behind the header; only read after a check of the length.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: arithmetic.
        let holds =
            |size: usize| control.cmsg_len as usize >= unsafe { libc::CMSG_LEN(size as u32) } as usize;
        match (control.cmsg_level, control.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) if holds(size_of::<libc::timespec>()) => {
                // SAFETY: the message holds a timespec.
                let time: libc::timespec = unsafe { read_unaligned(data.cast()) };
                meta.time = system_time(time.tv_sec as u64, time.tv_nsec as u32);
            }
            (libc::SOL_PACKET, libc::PACKET_AUXDATA) if holds(size_of::<libc::tpacket_auxdata>()) => {
                // SAFETY: the message holds a tpacket_auxdata.
                let data: libc::tpacket_auxdata = unsafe { read_unaligned(data.cast()) };
                meta.tag = tag(data.tp_status, data.tp_vlan_tci, data.tp_vlan_tpid);
                meta.checksum_pending = data.tp_status & libc::TP_STATUS_CSUMNOTREADY != 0;
            }
            _ => {}
        }
        // SAFETY: as for the first.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
}

/// A time of the kernel's real-time clock.
pub(super) fn system_time(seconds: u64, nanos: u32) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}
