//! The outer half of a port: the connection that frames come from and go to.
//!
//! A transport consists of [`PortIo::receive`] and [`PortIo::send`]. A transport without a stream's framing (a TAP) puts
//! the prefixes into the inbox itself, and empties the outbox frame by frame.

use std::{
    io::{self, Read as _},
    net::UdpSocket,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    path::PathBuf,
};

use mio::{
    Interest, Registry, Token,
    net::{UnixListener, UnixStream},
};
use socket2::SockRef;

use crate::{inbox::Inbox, outbox::Outbox, sys, tap::Tap};

/// Index of a port, the same in the engine and in the switch.
pub(crate) type PortId = usize;

/// Connections taken from a listener at once; only the last one stays.
const ACCEPTS: usize = 16;

/// Describes a port to add.
#[derive(Debug)]
pub struct PortSpec {
    /// Its name, `host1/eth0`: unique on the wire.
    pub name: String,
    /// Name of its segment.
    pub segment: String,
    /// MAC of the NIC at the other end, for port security.
    pub mac: [u8; 6],
    /// How frames come in and go out.
    pub transport: Transport,
}

/// How a port receives and sends frames. Streams use QEMU's framing: a 32-bit big-endian length, then that many
/// bytes of Ethernet frame without FCS, up to [`crate::MAX_FRAME_LEN`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Transport {
    /// The wire listens at this path, mode 0600, and QEMU's `-netdev stream` connects. A new connection replaces the
    /// one before.
    QemuStream {
        /// Path of the unix socket, 107 bytes at most. It must not exist yet.
        listen: PathBuf,
    },
    /// The wire listens at this path, mode 0600. The maker of a TAP device connects and sends its descriptor
    /// (SCM_RIGHTS, IFF_NO_PI, along with one byte). With IFF_VNET_HDR, two such TAPs leave out checksums and TCP
    /// segmentation, as long as nobody looks at single frames. The NIC is gone when the connection ends; a new
    /// connection replaces it.
    Tap {
        /// Path of the unix socket, 107 bytes at most. It must not exist yet.
        listen: PathBuf,
    },
    /// A connected stream: one end of a pair; a peer in this process holds the other.
    Connected(StdUnixStream),
    /// A connected UDP socket with one frame in each datagram, as QEMU's `-netdev dgram` and VirtualBox's UDPTunnel send
    /// them. The kernel only takes those from the address and port that it is connected to.
    Datagrams(UdpSocket),
}

/// Result of [`PortIo::receive`].
pub(crate) enum Received {
    /// Frames may be in the inbox.
    Some,
    /// Nothing more to read for now.
    Nothing,
    /// The other end is gone.
    Closed,
}

/// Result of [`PortIo::accept`].
pub(crate) enum Arrival {
    /// Nothing new.
    None,
    /// A NIC is there now.
    Connected,
    /// The NIC that was there is gone.
    Gone,
}

/// What a connection to a listener carries.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Brings {
    /// A stream of frames.
    #[default]
    Frames,
    /// The descriptor of a TAP.
    Tap,
}

/// The connection.
enum Link {
    Stream(UnixStream),
    Tap(Tap),
}

/// Listener, connection and the frames received by it.
#[derive(Default)]
pub(crate) struct PortIo {
    listener: Option<UnixListener>,
    brings: Brings,
    /// The connection that brought the TAP, or is about to.
    bringer: Option<UnixStream>,
    link: Option<Link>,
    pub(crate) inbox: Inbox,
    /// The kernel may have more to read.
    readable: bool,
    /// The kernel takes no more until it says so.
    blocked: bool,
    /// Reading pauses until this congested port has room.
    pub(crate) waits_for: Option<PortId>,
}

impl PortIo {
    pub(crate) fn listening(
        mut listener: UnixListener,
        brings: Brings,
        token: Token,
        registry: &Registry,
    ) -> io::Result<Self> {
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Self { listener: Some(listener), brings, ..Self::default() })
    }

    /// Accepts the waiting connections, and the TAP that one brings. `own` is the token of the listener and of a
    /// connection that brings a TAP; `token` is that of the frames' connection.
    pub(crate) fn accept(&mut self, own: Token, token: Token, registry: &Registry) -> io::Result<Arrival> {
        let mut newest = None;
        for _ in 0..ACCEPTS {
            match self.listener.as_ref().map(UnixListener::accept) {
                Some(Ok((stream, _))) => newest = Some(stream),
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Some(Err(error)) => return Err(error),
                None => break,
            }
        }
        match (newest, self.brings) {
            (Some(stream), Brings::Frames) => {
                self.connect(stream, token, registry).map(|()| Arrival::Connected)
            }
            (None, Brings::Frames) => Ok(Arrival::None),
            (newest, Brings::Tap) => {
                if let Some(mut stream) = newest {
                    registry.register(&mut stream, own, Interest::READABLE)?;
                    self.bringer = Some(stream);
                }
                self.take_tap(token, registry)
            }
        }
    }

    /// Reads what the bringer has sent: a TAP's descriptor, or end of stream.
    fn take_tap(&mut self, token: Token, registry: &Registry) -> io::Result<Arrival> {
        let mut found = Arrival::None;
        while let Some(bringer) = &self.bringer {
            match sys::receive_fd(bringer.as_raw_fd()) {
                Ok(Some(Some(fd))) => {
                    self.forget();
                    let tap = Tap::new(fd, token, registry)?;
                    self.inbox = Inbox::new(tap.offloads());
                    self.link = Some(Link::Tap(tap));
                    found = Arrival::Connected;
                }
                Ok(Some(None)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(None) | Err(_) => return Ok(Arrival::Gone),
            }
        }
        Ok(found)
    }

    /// Uses a socket whose datagrams are frames from now on.
    pub(crate) fn use_datagrams(
        &mut self,
        socket: OwnedFd,
        token: Token,
        registry: &Registry,
    ) -> io::Result<()> {
        self.disconnect();
        self.link = Some(Link::Tap(Tap::datagrams(socket, token, registry)?));
        Ok(())
    }

    /// Uses `stream` for frames from now on.
    pub(crate) fn connect(
        &mut self,
        mut stream: UnixStream,
        token: Token,
        registry: &Registry,
    ) -> io::Result<()> {
        self.disconnect();
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        // The poll also reports what is readable already.
        self.link = Some(Link::Stream(stream));
        Ok(())
    }

    /// Closes the connection, which also removes it from the poll, and forgets partly received frames.
    pub(crate) fn disconnect(&mut self) {
        self.bringer = None;
        self.forget();
    }

    fn forget(&mut self) {
        self.link = None;
        self.inbox = Inbox::default();
        self.readable = false;
        self.blocked = false;
        self.waits_for = None;
    }

    /// Notes that the poll found the connection readable or writable.
    pub(crate) fn ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.blocked &= !writable;
    }

    /// Whether [`PortIo::receive`] or the inbox has something to do, apart from a congested port.
    pub(crate) fn has_work(&self) -> bool {
        self.link.is_some() && (self.readable || self.inbox.pending())
    }

    /// Whether frames go out with their offload header.
    pub(crate) fn offloads(&self) -> bool {
        matches!(&self.link, Some(Link::Tap(tap)) if tap.offloads())
    }

    /// Whether the kernel is known to take no more now.
    pub(crate) fn blocked(&self) -> bool {
        self.blocked
    }

    /// Reads once into the inbox, unless it has frames already.
    pub(crate) fn receive(&mut self) -> io::Result<Received> {
        if self.inbox.pending() {
            return Ok(Received::Some);
        }
        let mut tap_has_more = None;
        let filled = match self.link.as_mut() {
            None => return Ok(Received::Nothing),
            Some(Link::Stream(stream)) => self.inbox.fill(|buffer| stream.read(buffer)),
            Some(Link::Tap(tap)) => self.inbox.fill(|buffer| {
                let (count, more) = tap.read(buffer)?;
                tap_has_more = Some(more);
                Ok(count)
            }),
        };
        match filled {
            Ok((0, _)) => Ok(Received::Closed),
            Ok((_, more)) => {
                // A short read has emptied the stream; the poll reports what comes later (epoll(7)).
                self.readable = tap_has_more.unwrap_or(more);
                Ok(Received::Some)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(Received::Nothing)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Sends waiting frames until the kernel takes no more.
    pub(crate) fn send(&mut self, outbox: &mut Outbox) {
        let drained = match self.link.as_ref() {
            None => return outbox.clear(),
            // sendmsg rather than writev: a peer that went away is an error, never a SIGPIPE.
            Some(Link::Stream(stream)) => {
                let socket = SockRef::from(stream);
                outbox.drain(|parts| socket.send_vectored_with_flags(parts, libc::MSG_NOSIGNAL))
            }
            Some(Link::Tap(tap)) => outbox.drain(|parts| tap.write(parts)),
        };
        match drained {
            Ok(done) => self.blocked = !done,
            // The other end is gone. We still read what it sent before; reading also finds the end.
            Err(_) => {
                outbox.clear();
                self.readable = true;
            }
        }
    }
}
