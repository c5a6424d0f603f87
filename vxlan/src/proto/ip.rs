//! An IP packet of either family.

use std::net::IpAddr;

use super::{ip_protocol, ipv6, u16_at, u32_at};
use crate::checksum::Addresses;
use crate::{Ipv4View, ReadError};

/// An IP packet of either family, read behind options and extension headers.
#[derive(Debug)]
pub struct IpView<'a> {
    bytes: &'a [u8],
    addresses: Addresses,
    hops: u8,
    protocol: u8,
    /// Where the payload begins.
    begin: usize,
    fragment: Option<Fragment>,
}

/// Which part of a packet a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fragment {
    id: u32,
    /// In units of 8 bytes.
    offset: u16,
    more: bool,
}

impl<'a> IpView<'a> {
    /// Reads a packet over `bytes`; bytes after its length (a short frame's padding) are ignored. Does not check IPv4's
    /// checksum.
    ///
    /// # Errors
    /// If the bytes end within a header or before the packet's length, or if a header is impossible.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        if is_v6(bytes) {
            let total = ipv6::HEADER_LEN + usize::from(ipv6::parse(bytes)?.get_payload_length());
            let whole = bytes.get(..total);
            let error =
                || ReadError::value("ip6", "len", 4, total - ipv6::HEADER_LEN, "at most the bytes there are");
            return Self::header_checked(whole.ok_or_else(error)?);
        }
        Self::header_checked(Ipv4View::new_checked(bytes)?.bytes())
    }

    /// Reads a packet but checks only its headers: its length may be anything, and the payload is all that follows them. For
    /// truncated packets, as in an ICMP error.
    ///
    /// # Errors
    /// If the bytes end within a header, or if one is impossible.
    pub fn header_checked(bytes: &'a [u8]) -> Result<Self, ReadError> {
        if !is_v6(bytes) {
            let ip = Ipv4View::header_checked(bytes)?;
            let part =
                Fragment { id: ip.id().into(), offset: ip.fragment_offset(), more: ip.more_fragments() };
            return Ok(Self {
                bytes,
                addresses: ip.addresses(),
                hops: ip.ttl(),
                protocol: ip.protocol(),
                begin: ip.header_len(),
                fragment: ip.is_fragment().then_some(part),
            });
        }
        let ip = ipv6::parse(bytes)?;
        let addresses = Addresses::V6 { src: ip.get_source(), dst: ip.get_destination() };
        let mut view = Self {
            bytes,
            addresses,
            hops: ip.get_hop_limit(),
            protocol: ip.get_next_header().0,
            begin: ipv6::HEADER_LEN,
            fragment: None,
        };
        view.skip_extensions()?;
        Ok(view)
    }

    /// Passes the extension headers (RFC 8200, section 4). What follows a later fragment's header is data.
    fn skip_extensions(&mut self) -> Result<(), ReadError> {
        loop {
            let (is_fragment, at) = (self.protocol == ipv6::FRAGMENT, self.begin);
            if !is_fragment && ![ipv6::HOP_BY_HOP, ipv6::ROUTING, ipv6::DESTINATION].contains(&self.protocol)
            {
                return Ok(());
            }
            let header = self
                .bytes
                .get(at..at + 8)
                .ok_or_else(|| ReadError::truncated("ip6", self.bytes.len(), at + 8))?;
            self.protocol = header[0];
            if is_fragment {
                let word = u16_at(header, 2);
                let part = Fragment { id: u32_at(header, 4), offset: word >> 3, more: word & 1 != 0 };
                self.fragment = Some(part).filter(|f| f.offset != 0 || f.more);
                self.begin = at + 8;
                if part.offset != 0 {
                    return Ok(());
                }
            } else {
                self.begin = at + 8 + 8 * usize::from(header[1]);
                if self.begin > self.bytes.len() {
                    return Err(ReadError::truncated("ip6", self.bytes.len(), self.begin));
                }
            }
        }
    }

    /// The bytes of the packet.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Both addresses.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Source address.
    #[must_use]
    pub fn src(&self) -> IpAddr {
        self.addresses.src()
    }

    /// Destination address.
    #[must_use]
    pub fn dst(&self) -> IpAddr {
        self.addresses.dst()
    }

    /// Hops left: TTL, hop limit.
    #[must_use]
    pub fn hops(&self) -> u8 {
        self.hops
    }

    /// Protocol of the payload: see [`ip_protocol`].
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Whether the payload is ICMP, of the packet's family.
    #[must_use]
    pub fn is_icmp(&self) -> bool {
        self.protocol == self.addresses.icmp()
    }

    /// What follows the headers.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.begin..]
    }

    /// Whether this is only a part of a packet.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.fragment.is_some()
    }

    /// Whether fragments follow.
    #[must_use]
    pub fn more_fragments(&self) -> bool {
        self.fragment.is_some_and(|f| f.more)
    }

    /// Offset of the payload in the whole packet's payload, in units of 8 bytes.
    #[must_use]
    pub fn fragment_offset(&self) -> u16 {
        self.fragment.map_or(0, |f| f.offset)
    }

    /// Identification of a fragment: the same in all of a packet.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.fragment.map_or(0, |f| f.id)
    }

    /// Whether the header's checksum is right; IPv6 has none.
    #[must_use]
    pub fn checksum_ok(&self) -> bool {
        Ipv4View::header_checked(self.bytes).map_or(true, |ip| ip.checksum_ok())
    }
}

fn is_v6(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first >> 4 == 6)
}

impl Addresses {
    /// Two addresses of one family; `None` if they are of two.
    #[must_use]
    pub fn of(src: IpAddr, dst: IpAddr) -> Option<Self> {
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Some(Self::V4 { src, dst }),
            (IpAddr::V6(src), IpAddr::V6(dst)) => Some(Self::V6 { src, dst }),
            _ => None,
        }
    }

    /// Source address.
    #[must_use]
    pub fn src(self) -> IpAddr {
        match self {
            Self::V4 { src, .. } => src.into(),
            Self::V6 { src, .. } => src.into(),
        }
    }

    /// Destination address.
    #[must_use]
    pub fn dst(self) -> IpAddr {
        match self {
            Self::V4 { dst, .. } => dst.into(),
            Self::V6 { dst, .. } => dst.into(),
        }
    }

    /// The addresses of an answer.
    #[must_use]
    pub fn back(self) -> Self {
        match self {
            Self::V4 { src, dst } => Self::V4 { src: dst, dst: src },
            Self::V6 { src, dst } => Self::V6 { src: dst, dst: src },
        }
    }

    /// Number of the family's ICMP.
    #[must_use]
    pub fn icmp(self) -> u8 {
        match self {
            Self::V4 { .. } => ip_protocol::ICMP,
            Self::V6 { .. } => ip_protocol::ICMPV6,
        }
    }

    /// EtherType of the family.
    #[must_use]
    pub fn ethertype(self) -> u16 {
        match self {
            Self::V4 { .. } => super::ethertype::IPV4,
            Self::V6 { .. } => super::ethertype::IPV6,
        }
    }

    /// An ICMP message of the family with its checksum; `rest` is bytes 4 to 7.
    #[must_use]
    pub fn icmp_message(self, icmp_type: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut message = super::icmp::message(icmp_type, code, rest, payload);
        if let Self::V6 { .. } = self {
            let sum = self.checksum(ip_protocol::ICMPV6, &message, 2);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        message
    }

    /// An echo request of the family's ICMP.
    #[must_use]
    pub fn echo_request(self, id: u16, seq: u16, payload: &[u8]) -> Vec<u8> {
        let echo =
            if let Self::V4 { .. } = self { super::icmp::ECHO_REQUEST } else { super::icmpv6::ECHO_REQUEST };
        self.icmp_message(echo, 0, super::icmp::id_and_seq(id, seq), payload)
    }

    /// Whether an ICMP message of the family has its right checksum.
    #[must_use]
    pub fn icmp_checksum_ok(self, message: &[u8]) -> bool {
        match self {
            Self::V4 { .. } => crate::checksum::of(message) == 0,
            Self::V6 { .. } => self.verifies(ip_protocol::ICMPV6, message),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reply;

    #[test]
    fn extension_headers_are_passed() {
        let (a, b) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let ends = Addresses::of(a, b).unwrap();
        // Destination options of 8 bytes, then a first and a later fragment of UDP.
        let with = |fragment: [u8; 8]| {
            let mut payload = vec![ipv6::FRAGMENT, 0, 1, 4, 0, 0, 0, 0];
            payload.extend(fragment);
            payload.extend([0x9c, 0x40, 0, 53]);
            reply::ip(ends, ipv6::DESTINATION, 64, &payload)
        };
        let first = with([17, 0, 0, 1, 0, 0, 0, 9]);
        let view = IpView::new_checked(&first).unwrap();
        assert_eq!((view.src(), view.dst(), view.protocol()), (a, b, 17));
        assert_eq!((view.id(), view.fragment_offset(), view.more_fragments()), (9, 0, true));
        assert_eq!(view.payload(), [0x9c, 0x40, 0, 53]);
        let later = with([17, 0, 0, 8, 0, 0, 0, 9]);
        let view = IpView::new_checked(&later).unwrap();
        assert_eq!((view.fragment_offset(), view.is_fragment(), view.more_fragments()), (1, true, false));
        assert!(IpView::new_checked(&first[..first.len() - 1]).is_err(), "cut short");
        assert!(IpView::header_checked(&first[..50]).is_err(), "within a header");
    }

    #[test]
    fn both_families_read_alike() {
        for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let ends = Addresses::of(src.parse().unwrap(), dst.parse().unwrap()).unwrap();
            let packet = reply::ip(ends, ends.icmp(), 7, &ends.echo_request(1, 2, b"x"));
            let view = IpView::new_checked(&packet).unwrap();
            assert_eq!((view.addresses(), view.hops(), view.is_icmp()), (ends, 7, true));
            assert!(ends.icmp_checksum_ok(view.payload()) && view.checksum_ok());
        }
        assert_eq!(Addresses::of("10.0.0.1".parse().unwrap(), "fd00::2".parse().unwrap()), None);
    }
}
