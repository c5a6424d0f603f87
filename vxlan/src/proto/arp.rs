//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use pnet_packet::arp::{ArpHardwareType, ArpOperation, ArpPacket, MutableArpPacket};
use pnet_packet::ethernet::EtherType;

use super::ethertype;
use crate::stack::{Around, FieldError, Header, ROOM, Read};
use crate::{MacAddr, ReadError};

/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const LEN: usize = 28;
/// Who has this address?
pub const REQUEST: u16 = 1;
/// This address is at …
pub const REPLY: u16 = 2;

/// An ARP packet.
#[derive(Debug)]
pub struct ArpView<'a> {
    raw: ArpPacket<'a>,
}

impl<'a> ArpView<'a> {
    /// Reads an ARP packet over `bytes`, at least 28; further bytes (a short frame's padding) are ignored.
    ///
    /// # Errors
    /// If there are fewer bytes, or the addresses in it are not 6 and 4 bytes long.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let raw = ArpPacket::new(bytes).ok_or_else(|| ReadError::truncated("arp", bytes.len(), LEN))?;
        match (raw.get_hw_addr_len(), raw.get_proto_addr_len()) {
            (6, 4) => Ok(Self { raw }),
            (6, other) => Err(ReadError::value("arp", "plen", 5, other.into(), "4")),
            (other, _) => Err(ReadError::value("arp", "hlen", 4, other.into(), "6")),
        }
    }

    /// Hardware type; Ethernet is 1.
    #[must_use]
    pub fn hardware_type(&self) -> u16 {
        self.raw.get_hardware_type().0
    }

    /// Protocol type; IPv4 is 0x0800.
    #[must_use]
    pub fn protocol_type(&self) -> u16 {
        self.raw.get_protocol_type().0
    }

    /// [`REQUEST`], [`REPLY`] or another operation.
    #[must_use]
    pub fn operation(&self) -> u16 {
        self.raw.get_operation().0
    }

    /// Hardware address of the sender.
    #[must_use]
    pub fn sender_mac(&self) -> MacAddr {
        MacAddr(self.raw.get_sender_hw_addr().octets())
    }

    /// IP address of the sender; 0.0.0.0 in a probe (RFC 5227).
    #[must_use]
    pub fn sender_ip(&self) -> Ipv4Addr {
        self.raw.get_sender_proto_addr()
    }

    /// Hardware address of the target; zero in a request.
    #[must_use]
    pub fn target_mac(&self) -> MacAddr {
        MacAddr(self.raw.get_target_hw_addr().octets())
    }

    /// IP address of the target: the one that a request asks for.
    #[must_use]
    pub fn target_ip(&self) -> Ipv4Addr {
        self.raw.get_target_proto_addr()
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
        let view = ArpView::new_checked(bytes)?;
        let layer = Self {
            hardware_type: view.hardware_type(),
            protocol_type: view.protocol_type(),
            operation: view.operation(),
            sender_mac: Some(view.sender_mac()),
            sender_ip: Some(view.sender_ip()),
            target_mac: view.target_mac(),
            target_ip: view.target_ip(),
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
        raw.set_sender_hw_addr(self.sender_mac.or(around.frame_src).unwrap_or_default().octets().into());
        raw.set_sender_proto_addr(self.sender_ip.unwrap_or(Ipv4Addr::UNSPECIFIED));
        raw.set_target_hw_addr(self.target_mac.octets().into());
        raw.set_target_proto_addr(self.target_ip);
        Ok(())
    }
}
