//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use pnet::packet::arp::{ArpHardwareType, ArpOperation, ArpPacket, MutableArpPacket};
use pnet::packet::ethernet::EtherType;

use super::ethertype;
use super::{Around, FieldError, Header, ROOM, Read};
use crate::{MacAddr, ReadError};

/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const LEN: usize = 28;
/// Who has this address?
pub const REQUEST: u16 = 1;
/// This address is at …
pub const REPLY: u16 = 2;

/// Reads an ARP packet over `bytes`, at least 28; further bytes (a short frame's padding) are ignored.
///
/// # Errors
/// If there are fewer bytes, or the addresses in it are not 6 and 4 bytes long: pnet reads them as if they were.
pub fn parse(bytes: &[u8]) -> Result<ArpPacket<'_>, ReadError> {
    let packet = ArpPacket::new(bytes).ok_or_else(|| ReadError::truncated("arp", bytes.len(), LEN))?;
    match (packet.get_hw_addr_len(), packet.get_proto_addr_len()) {
        (6, 4) => Ok(packet),
        (6, other) => Err(ReadError::value("arp", "plen", 5, other.into(), "4")),
        (other, _) => Err(ReadError::value("arp", "hlen", 4, other.into(), "6")),
    }
}

/// An ARP packet; by default a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arp {
    /// Hardware type; Ethernet is 1.
    pub hardware_type: u16,
    /// Protocol type; IPv4 is 0x0800.
    pub protocol_type: u16,
    /// [`REQUEST`], [`REPLY`] or another operation.
    pub operation: u16,
    /// Hardware address of the sender; unset: the source of the frame below.
    pub sender_mac: Option<MacAddr>,
    /// IP address of the sender; unset: 0.0.0.0, which makes a request a probe (RFC 5227).
    pub sender_ip: Option<Ipv4Addr>,
    /// Hardware address of the target.
    pub target_mac: MacAddr,
    /// IP address of the target: the one that a request asks for.
    pub target_ip: Ipv4Addr,
}

impl Default for Arp {
    fn default() -> Self {
        Self {
            hardware_type: 1,
            protocol_type: ethertype::IPV4,
            operation: REQUEST,
            sender_mac: None,
            sender_ip: None,
            target_mac: MacAddr::ZERO,
            target_ip: Ipv4Addr::UNSPECIFIED,
        }
    }
}

impl Arp {
    pub(crate) fn read(bytes: &[u8]) -> Result<Read, ReadError> {
        let packet = parse(bytes)?;
        let layer = Self {
            hardware_type: packet.get_hardware_type().0,
            protocol_type: packet.get_protocol_type().0,
            operation: packet.get_operation().0,
            sender_mac: Some(packet.get_sender_hw_addr().into()),
            sender_ip: Some(packet.get_sender_proto_addr()),
            target_mac: packet.get_target_hw_addr().into(),
            target_ip: packet.get_target_proto_addr(),
        };
        Ok(Read { layer: layer.into(), body: LEN..bytes.len(), next: None })
    }
}

impl Header for Arp {
    fn header_len(&self) -> usize {
        LEN
    }

    fn emit(&self, room: &mut [u8], around: &Around<'_>) -> Result<(), FieldError> {
        let mut raw = MutableArpPacket::new(room).expect(ROOM);
        raw.set_hardware_type(ArpHardwareType(self.hardware_type));
        raw.set_protocol_type(EtherType(self.protocol_type));
        raw.set_hw_addr_len(6);
        raw.set_proto_addr_len(4);
        raw.set_operation(ArpOperation(self.operation));
        raw.set_sender_hw_addr(self.sender_mac.or(around.frame_src).unwrap_or_default().into());
        raw.set_sender_proto_addr(self.sender_ip.unwrap_or(Ipv4Addr::UNSPECIFIED));
        raw.set_target_hw_addr(self.target_mac.into());
        raw.set_target_proto_addr(self.target_ip);
        Ok(())
    }
}
