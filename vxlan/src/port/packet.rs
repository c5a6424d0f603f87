//! Frames on an interface, through AF_PACKET.

use std::io;
use std::os::fd::AsFd;

use socket2::{Domain, Socket, Type};

use super::{Batch, sys};

/// Bytes of room for frames that arrive between two calls.
const RECEIVE_BUFFER: i32 = 16 << 20;

/// Counters of a port since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Frames that passed the interface, dropped ones included.
    pub received: u64,
    /// Frames dropped because they were not read soon enough.
    pub dropped: u64,
}

/// Sends and receives frames on an interface.
#[derive(Debug)]
pub struct PacketPort {
    pub(super) socket: Socket,
    stats: std::sync::Mutex<Stats>,
}

impl PacketPort {
    /// Opens interface `ifindex` of the current network namespace, to send, and to receive all that passes it.
    /// This includes frames that others on this host send.
    ///
    /// # Errors
    /// If there is no such interface, or CAP_NET_RAW is missing.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        Self::receiving(super::one(ifindex)?)
    }

    /// Receives what passes any interface of the current network namespace, including later ones.
    /// [`Received::interface`](super::Received::interface) says which. Cannot send.
    ///
    /// # Errors
    /// If CAP_NET_RAW is missing.
    pub fn everywhere() -> io::Result<Self> {
        Self::receiving(0)
    }

    fn receiving(ifindex: u32) -> io::Result<Self> {
        let this = Self::silent()?;
        sys::request_metadata(this.socket.as_fd())?;
        // Best effort: a larger buffer needs CAP_NET_ADMIN, and drops are counted.
        _ = sys::set_receive_buffer(this.socket.as_fd(), RECEIVE_BUFFER);
        sys::bind_packet(this.socket.as_fd(), ifindex, true)?;
        Ok(this)
    }

    /// Like [`open`](Self::open), but only for sending: receives nothing, so it costs the kernel nothing.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn send_only(ifindex: u32) -> io::Result<Self> {
        let this = Self::silent()?;
        sys::bind_packet(this.socket.as_fd(), super::one(ifindex)?, false)?;
        Ok(this)
    }

    /// Makes a socket that is not bound yet.
    fn silent() -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, stats: Default::default() })
    }

    /// Makes the interface also receive frames to others, as long as the port is open.
    ///
    /// # Errors
    /// If the interface refuses.
    pub fn promiscuous(&self, ifindex: u32) -> io::Result<()> {
        sys::join_promiscuous(self.socket.as_fd(), ifindex)
    }

    /// Sends frames as they are. Returns how many were sent, from the first on.
    ///
    /// # Errors
    /// If none was sent: [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room now, EMSGSIZE for a frame beyond
    /// the MTU, ENETDOWN for an interface that is down, ENOBUFS if the queue is full. If some were sent, the next call
    /// returns the error.
    pub fn send_batch<F: AsRef<[u8]>>(&self, frames: &[F]) -> io::Result<usize> {
        sys::send(self.socket.as_fd(), frames.iter().map(AsRef::as_ref))
    }

    /// Receives waiting frames, as many as `batch` has room for. Returns how many.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none; ENETDOWN once after the interface went down.
    pub fn recv_batch(&self, batch: &mut Batch) -> io::Result<usize> {
        sys::receive(self.socket.as_fd(), batch)
    }

    /// Returns the counters since the port was opened.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn stats(&self) -> io::Result<Stats> {
        // Reading resets the kernel's counts (packet(7), PACKET_STATISTICS).
        let mut stats = self.stats.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (received, dropped) = sys::statistics(self.socket.as_fd())?;
        stats.received += u64::from(received);
        stats.dropped += u64::from(dropped);
        Ok(*stats)
    }
}
