//! A virtio-serial port as a stream.
//!
//! The driver (drivers/char/virtio_console.c): while nobody is connected at the far end, poll(2) reports POLLHUP and a
//! read without data returns 0. Both stop when somebody connects, which wakes pollers.

use std::{
    fs, io,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

use crate::{fd::FdStream, sys};

/// Folder in which udev, or the guest's init, puts ports by name.
const BY_NAME: &str = "/dev/virtio-ports";

/// Folder in which the kernel shows the ports' names.
const SYSFS: &str = "/sys/class/virtio-ports";

/// Finds a port by its name.
pub fn find(name: &str) -> Option<PathBuf> {
    let named = Path::new(BY_NAME).join(name);
    if named.exists() {
        return Some(named);
    }
    fs::read_dir(SYSFS).ok()?.flatten().find_map(|entry| {
        let found = fs::read_to_string(entry.path().join("name")).ok()?;
        (found.trim_end() == name).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

/// An open, non-blocking port.
#[derive(Debug)]
pub struct Port(fs::File);

impl Port {
    /// Opens a port. Only one process can have it open.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        Ok(Self(file))
    }

    /// Waits until somebody is connected at the far end. For the runtime a hang-up never ends, so the runtime waits for an
    /// edge-triggered epoll of our own, which waits for the port.
    pub async fn connected(&self) -> io::Result<()> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let any = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        epoll.add(&self.0, EpollEvent::new(any, 0))?;
        let edges = sys::watch(epoll.0.try_clone()?)?;
        loop {
            edges.readable().await?.clear_ready();
            // Consumes the edge, so that the epoll is readable again only after the next one.
            epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO)?;
            if !hung_up(&self.0)? {
                return Ok(());
            }
        }
    }

    /// The port as a stream until the far end disconnects.
    pub fn stream(&self) -> io::Result<FdStream> {
        FdStream::new(self.0.try_clone()?.into())
    }
}

fn hung_up(file: &fs::File) -> io::Result<bool> {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO)?;
    Ok(fds[0].revents().is_some_and(|r| r.contains(PollFlags::POLLHUP)))
}
