//! Sends frames through an interface with the ports of the `vxlan` crate.

use std::{io, time::Duration};

use vxlan::port::{PacketPort, Ready, TxRing, index_of, wait};

use super::supply::Supply;

/// How long the last frames may take to leave.
const LAST: Duration = Duration::from_secs(5);

/// An interface of this thread's namespace.
pub struct Interface {
    name: String,
    index: u32,
}

impl Interface {
    pub fn named(name: &str) -> io::Result<Self> {
        let index =
            index_of(name).map_err(|e| io::Error::new(e.kind(), format!("no interface {name}: {e}")))?;
        Ok(Self { name: name.to_owned(), index })
    }
}

/// An interface, and the port that sends through it.
pub struct WayOut {
    interface: Interface,
    port: Port,
}

enum Port {
    /// Frames from the supply that wait for room, back to back, and where each ends.
    Packets {
        port: PacketPort,
        room: Vec<u8>,
        ends: Vec<usize>,
        gone: usize,
    },
    Ring(TxRing),
}

impl WayOut {
    /// Sends by AF_PACKET: other sockets on the interface see what leaves.
    pub fn usual(interface: Interface) -> io::Result<Self> {
        let port = PacketPort::send_only(interface.index)?;
        Ok(Self { interface, port: Port::Packets { port, room: Vec::new(), ends: Vec::new(), gone: 0 } })
    }

    /// Sends by AF_XDP if it is available and frames fit, which is half as fast again.
    pub fn fast(interface: Interface, longest: usize) -> io::Result<Self> {
        if longest <= TxRing::MAX_FRAME
            && let Ok(ring) = TxRing::open(interface.index)
        {
            return Ok(Self { interface, port: Port::Ring(ring) });
        }
        Self::usual(interface)
    }

    /// Sends up to `count` frames and returns how many left; 0 if there was no room within `patience`.
    pub fn send(&mut self, supply: &mut Supply, count: usize, patience: Duration) -> io::Result<usize> {
        let (sent, bytes) = match &mut self.port {
            Port::Ring(ring) => {
                let mut bytes = 0;
                let sent = ring.send_with(count, |room| {
                    let frame = supply.next();
                    bytes = frame.len();
                    room[..bytes].copy_from_slice(frame);
                    bytes
                });
                if matches!(sent, Ok(0)) {
                    wait(ring, Ready::Send, patience)?;
                }
                (sent, bytes)
            }
            Port::Packets { port, room, ends, gone } => {
                if *gone == ends.len() {
                    room.clear();
                    ends.clear();
                    *gone = 0;
                    for _ in 0..count {
                        room.extend_from_slice(supply.next());
                        ends.push(room.len());
                    }
                }
                let starts = std::iter::once(0).chain(ends.iter().copied());
                let frames: Vec<&[u8]> =
                    starts.zip(ends.iter()).skip(*gone).map(|(start, end)| &room[start..*end]).collect();
                let sent = match port.send_batch(&frames) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        wait(port, Ready::Send, patience)?;
                        Ok(0)
                    }
                    // The interface's queue is full, and no event tells when it has room.
                    Err(e) if e.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                        std::thread::sleep(Duration::from_millis(1));
                        Ok(0)
                    }
                    sent => sent,
                };
                let bytes = frames.first().map_or(0, |frame| frame.len());
                *gone += sent.as_ref().map_or(0, |sent| *sent);
                (sent, bytes)
            }
        };
        let name = &self.interface.name;
        sent.map_err(|e| io::Error::new(e.kind(), format!("a frame of {bytes} bytes by {name}: {e}")))
    }

    /// Waits until the last frame has left.
    pub fn flush(&mut self) -> io::Result<()> {
        let Port::Ring(ring) = &mut self.port else { return Ok(()) };
        if ring.flush(LAST)? {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("{} does not send them", self.interface.name)))
    }
}
