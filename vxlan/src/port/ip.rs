//! IPv4 packets with their headers, through a raw socket.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, Type};

use super::Batch;
use super::addressed::Addressed;
use crate::{Ipv4View, ReadError};

/// Sends and receives IPv4 packets. The host routes them like its own; the source may be any address. The kernel fills
/// in the header's checksum and total length, and an identification or source that is zero (raw(7)).
#[derive(Debug)]
pub struct IpPort {
    pub(super) socket: Addressed,
}

impl IpPort {
    /// Opens a port that sends any packet and receives those of `protocol` (255, IPPROTO_RAW: none).
    ///
    /// # Errors
    /// If CAP_NET_RAW is missing.
    pub fn open(protocol: u8) -> io::Result<Self> {
        let socket = Addressed::open(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
        socket.0.set_header_included_v4(true)?;
        Ok(Self { socket })
    }

    /// Sends packets with their headers, each to its destination. Returns how many were sent, from the first on.
    ///
    /// # Errors
    /// If none was sent, also if the first is not an IPv4 packet: see
    /// [`PacketPort::send_batch`](super::PacketPort::send_batch). ENETUNREACH if there is no route.
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

    /// Receives packets with their headers, as many as `batch` has room for. Returns how many.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none.
    pub fn recv_batch(&self, batch: &mut Batch) -> io::Result<usize> {
        self.socket.receive(batch)
    }
}
