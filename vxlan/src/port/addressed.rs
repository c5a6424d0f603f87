//! Sockets that send each packet to its own address: shared by [`IpPort`](super::IpPort) and [`Vtep`](super::Vtep).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Batch, sys};

/// A non-blocking socket that records when each packet arrived.
#[derive(Debug)]
pub(super) struct Addressed(pub(super) Socket);

impl Addressed {
    pub(super) fn open(domain: Domain, kind: Type, protocol: Option<Protocol>) -> io::Result<Self> {
        let socket = Socket::new(domain, kind, protocol)?;
        socket.set_nonblocking(true)?;
        sys::request_timestamps(socket.as_fd())?;
        Ok(Self(socket))
    }

    /// Returns how many were sent, from the first on; an error only if none was.
    pub(super) fn send<'a>(
        &self,
        packets: impl Iterator<Item = (SocketAddr, &'a [u8])>,
    ) -> io::Result<usize> {
        let packets: Vec<(SockAddr, &[u8])> = packets.map(|(to, packet)| (to.into(), packet)).collect();
        sys::send(self.as_fd(), packets.iter().map(|(to, packet)| (*packet, Some(to))))
    }

    /// Returns how many were received; an error only if none was.
    pub(super) fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        sys::receive(self.as_fd(), batch)
    }
}

impl AsFd for Addressed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
