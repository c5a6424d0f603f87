//! Ports send and receive frames. Linux only, with feature `ports`. They need CAP_NET_RAW in the user namespace that
//! owns the network namespace.
//!
//! | port | sends and receives | how |
//! |---|---|---|
//! | [`PacketPort`] | frames on an interface | AF_PACKET, `sendmmsg` and `recvmmsg` |
//! | [`TxRing`] | sends frames on an interface, flat out | AF_XDP in copy mode, frames written in place |
//! | [`RxRing`] | receives frames on an interface, flat out | TPACKET_V3, frames read in place |
//!
//! A port stays in the network namespace of the thread that opens it. No operation blocks: one that would returns
//! [`WouldBlock`](std::io::ErrorKind::WouldBlock). Then use [`wait`], or an event loop: a port is a descriptor. A [`Pace`]
//! keeps a rate of frames per second.

mod batch;
mod pace;
mod packet;
mod rx_ring;
mod sys;
mod tx_ring;

pub use batch::{Batch, Direction, Received};
pub use pace::Pace;
pub use packet::{PacketPort, Stats};
pub use rx_ring::{Block, RxRing, RxRingSize};
pub use tx_ring::TxRing;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

macro_rules! ports {
    ($($port:ident by $socket:ident,)*) => {$(
        impl AsFd for $port {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.$socket.as_fd()
            }
        }

        impl AsRawFd for $port {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }
    )*};
}
ports! { PacketPort by socket, TxRing by raw, RxRing by socket, }

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Something arrived.
    Receive,
    /// There is room to send.
    Send,
}

/// Waits until `port` is ready, at most `timeout` (rounded up to milliseconds). Returns whether it is.
///
/// # Errors
/// Those of poll(2). An interruption is no error but counts as not ready.
pub fn wait(port: &impl AsFd, ready: Ready, timeout: Duration) -> io::Result<bool> {
    sys::poll(port.as_fd(), ready, timeout)
}

/// Index of the interface `name` in the current network namespace.
///
/// # Errors
/// If there is none.
pub fn index_of(name: &str) -> io::Result<u32> {
    sys::index_of(name)
}

/// Checks that an index names one interface: 0 would mean all.
fn one(ifindex: u32) -> io::Result<u32> {
    if ifindex == 0 { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(ifindex) }
}
