//! The system calls that no safe wrapper covers.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use labctl_model::Family;
use nix::{
    errno::Errno,
    libc,
    sched::{CloneFlags, setns},
    sys::{
        prctl::{set_pdeathsig, set_timerslack},
        signal::Signal,
    },
    unistd::{chroot, fchdir, setsid},
};
use tokio::{io::unix::AsyncFd, process::Command};

/// Makes a command start in a session of its own, in the network namespace `netns`, with the folder `root` as its root
/// if one is given, and, with `tty`, with its stdin as the controlling terminal.
pub fn prepare_child(command: &mut Command, netns: OwnedFd, root: Option<OwnedFd>, tty: bool) {
    let prepare = move || {
        setns(&netns, CloneFlags::CLONE_NEWNET)?;
        if let Some(root) = &root {
            fchdir(root)?;
            chroot(".")?;
        }
        setsid()?;
        // An agent that is killed takes its commands along.
        set_pdeathsig(Signal::SIGKILL)?;
        if tty {
            // SAFETY: TIOCSCTTY takes an integer by value and touches no memory of ours.
            Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes a few system calls and neither allocates nor locks; errno
    // becomes an io::Error without allocation.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Makes a command start with timers that may be late by this many ns, which its children inherit.
pub fn coarse_timers(command: &mut Command, slack_ns: u64) {
    let prepare = move || set_timerslack(slack_ns).map_err(Into::into);
    // SAFETY: between fork and exec the closure makes one system call; errno becomes an io::Error without allocation.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Registers a descriptor with the runtime.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open as long as it lives and always the same descriptor.
    Ok(unsafe { AsyncFd::register(fd)? })
}

/// Makes a socket never fragment and ignore the path MTU (ip(7): IP_PMTUDISC_PROBE): a packet larger than the interface's
/// MTU is refused with EMSGSIZE.
pub fn never_fragment(socket: &impl AsFd, family: Family) -> io::Result<()> {
    let (level, option, how): (_, _, libc::c_int) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    };
    let length = size_of_val(&how) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `length` bytes from the pointer, which are those of the integer.
    Errno::result(unsafe { libc::setsockopt(fd, level, option, std::ptr::from_ref(&how).cast(), length) })?;
    Ok(())
}

/// Lets only these types of ICMP messages (raw(7)), or of ICMPv6 messages (RFC 3542 section 3.2), through to a raw socket.
pub fn only_icmp_types(socket: &impl AsFd, family: Family, types: &[u8]) -> io::Result<()> {
    // A bit for each type: what is set is blocked.
    let mut blocked = [u32::MAX; 8];
    for kind in types {
        blocked[usize::from(kind >> 5)] &= !(1 << (kind & 31));
    }
    let fd = socket.as_fd().as_raw_fd();
    let (level, option, filter) = match family {
        // It knows the first 32 types alone, and lets all others through.
        Family::V4 => (libc::SOL_RAW, ICMP_FILTER, &blocked[..1]),
        Family::V6 => (libc::IPPROTO_ICMPV6, ICMP6_FILTER, &blocked[..]),
    };
    let length = size_of_val(filter) as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of the array, which outlives the call.
    Errno::result(unsafe { libc::setsockopt(fd, level, option, filter.as_ptr().cast(), length) })?;
    Ok(())
}

/// Options of a raw socket for ICMP and for ICMPv6 (linux/icmp.h, linux/icmpv6.h).
const ICMP_FILTER: libc::c_int = 1;
const ICMP6_FILTER: libc::c_int = 1;

/// A descriptor that becomes readable when the process ends.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers; a descriptor that it returns is new and nobody else's.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        // A descriptor fits in RawFd, the kernel's own type for it.
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// `struct rand_pool_info` of linux/random.h with room for 64 octets.
#[repr(C)]
struct RandPoolInfo {
    entropy_bits: libc::c_int,
    size: libc::c_int,
    octets: [u8; 64],
}

mod ioctls {
    use nix::libc::c_int;

    nix::ioctl_write_ptr!(add_entropy, b'R', 0x03, [c_int; 2]);
    nix::ioctl_none!(reseed, b'R', 0x07);
    nix::ioctl_write_ptr_bad!(set_window_size, nix::libc::TIOCSWINSZ, nix::libc::winsize);
    nix::ioctl_write_ptr_bad!(tun_set_iff, nix::libc::TUNSETIFF, nix::libc::ifreq);
}

/// Mixes `octets` (at most 64) into the kernel's random generator as full entropy and reseeds it (random(4):
/// RNDADDENTROPY, RNDRESEEDCRNG). Needs CAP_SYS_ADMIN.
pub fn add_entropy(random: &impl AsFd, octets: &[u8]) -> io::Result<()> {
    let mut info = RandPoolInfo { entropy_bits: 0, size: 0, octets: [0; 64] };
    let taken = octets.len().min(info.octets.len());
    info.octets[..taken].copy_from_slice(&octets[..taken]);
    // At most 64, so both fit.
    info.size = taken as libc::c_int;
    info.entropy_bits = info.size * 8;
    let fd = random.as_fd().as_raw_fd();
    // SAFETY: the kernel reads the two integers and then `size` octets, all within `info`, which has C layout.
    unsafe {
        ioctls::add_entropy(fd, std::ptr::from_ref(&info).cast())?;
        ioctls::reseed(fd)?;
    }
    Ok(())
}

/// Sets the size of a terminal in characters.
pub fn set_window_size(terminal: &impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize from the pointer, which is valid for the call.
    unsafe { ioctls::set_window_size(terminal.as_fd().as_raw_fd(), &size)? };
    Ok(())
}

/// Makes an open `/dev/net/tun` a TAP of this name, without packet information but with a virtio-net header before each
/// frame (Linux, networking/tuntap.rst). Offloads stay off until the reader asks for them (TUNSETOFFLOAD).
pub fn set_tap_name(tun: &impl AsFd, name: &str) -> io::Result<()> {
    // SAFETY: ifreq is plain data, for which all zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an interface name has 1 to 15 octets"));
    }
    for (to, octet) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = octet.cast_signed();
    }
    // All fit: together they are 0x5002.
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: the kernel reads one ifreq from the pointer, which is valid for the call.
    unsafe { ioctls::tun_set_iff(tun.as_fd().as_raw_fd(), &request)? };
    Ok(())
}
