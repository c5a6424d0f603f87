//! A VTEP (VXLAN tunnel end point) in userspace: VXLAN packets over UDP.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Type};

use super::Batch;
use super::addressed::Addressed;

/// A UDP socket that sends and receives VXLAN packets: header and inner frame. The kernel makes the outer headers.
///
/// Needs no privilege. The outer source port is the socket's own, so it does not depend on the inner flow.
#[derive(Debug)]
pub struct Vtep {
    pub(super) socket: Addressed,
}

impl Vtep {
    /// Listens on `local`, usually with port [`PORT`](crate::proto::vxlan::PORT); port 0 is any free one.
    ///
    /// # Errors
    /// If the address is not the host's, or the port is taken, for example by a VXLAN device of the kernel.
    pub fn open(local: SocketAddr) -> io::Result<Self> {
        let socket = Addressed::open(Domain::for_address(local), Type::DGRAM, None)?;
        socket.0.bind(&local.into())?;
        Ok(Self { socket })
    }

    /// The address where it listens.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.0.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Sends each packet, VXLAN header first, to its VTEP. Returns how many were sent, from the first on.
    ///
    /// # Errors
    /// If none was sent: see [`PacketPort::send_batch`](super::PacketPort::send_batch).
    pub fn send_batch<P: AsRef<[u8]>>(&self, packets: &[(SocketAddr, P)]) -> io::Result<usize> {
        self.socket.send(packets.iter().map(|(to, packet)| (*to, packet.as_ref())))
    }

    /// Receives packets, VXLAN header first, as many as `batch` has room for. Returns how many.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none; ECONNREFUSED once after a VTEP refused.
    pub fn recv_batch(&self, batch: &mut Batch) -> io::Result<usize> {
        self.socket.receive(batch)
    }
}
