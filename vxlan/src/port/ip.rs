//! IPv4 packets with their headers, by a raw socket.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, Type};

use super::Batch;
use super::addressed::Addressed;
use crate::{Ipv4View, ReadError};

/// IPv4 packets, routed as the host routes its own; the source may be anyone's. The kernel fills in the header's
/// checksum and total length, and an identification or source that is zero (raw(7)).
#[derive(Debug)]
pub struct IpPort {
    pub(super) socket: Addressed,
}

impl IpPort {
    /// Sends any packet, receives those of `protocol` (255, IPPROTO_RAW: none).
    ///
    /// # Errors
    /// If CAP_NET_RAW is missing.
    pub fn open(protocol: u8) -> io::Result<Self> {
        let socket = Addressed::open(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
        socket.0.set_header_included_v4(true)?;
        Ok(Self { socket })
    }

    /// Sends packets, header and all, each to its destination; says how many went, from the first on.
    ///
    /// # Errors
    /// If not one went, the first being no IPv4 packet included: see
    /// [`PacketPort::send_batch`](super::PacketPort::send_batch); ENETUNREACH if there is no route.
    pub fn send_batch<P: AsRef<[u8]>>(&self, packets: &[P]) -> io::Result<usize> {
        let to = |packet: &[u8]| -> Result<SocketAddr, ReadError> {
            Ok(SocketAddrV4::new(Ipv4View::header_checked(packet)?.dst(), 0).into())
        };
        if let Some(Err(error)) = packets.first().map(|packet| to(packet.as_ref())) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let packets = packets.iter().map(AsRef::as_ref);
        self.socket.send(packets.map_while(|packet| Some((to(packet).ok()?, packet))))
    }

    /// Receives packets, header and all, as many as `batch` has room for; says how many.
    ///
    /// # Errors
    /// If there is none: [`WouldBlock`](io::ErrorKind::WouldBlock).
    pub fn recv_batch(&self, batch: &mut Batch) -> io::Result<usize> {
        self.socket.receive(batch)
    }
}
