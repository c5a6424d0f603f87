//! Ethernet addresses.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An Ethernet address (EUI-48).
///
/// ```
/// let mac: vxlan::MacAddr = "02:42:0a:03:01:03".parse()?;
/// assert_eq!(mac.octets(), [2, 0x42, 10, 3, 1, 3]);
/// assert_eq!(mac.to_string(), "02:42:0a:03:01:03");
/// # Ok::<(), vxlan::ParseMacError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All ones: every station.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// All zeros: no address.
    pub const ZERO: Self = Self([0; 6]);

    /// The six bytes, in the order of the wire.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether it is the broadcast address.
    #[must_use]
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// Whether it is a group address (the I/G bit); broadcast is one.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Whether it is all zeros: no address.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Whether a frame may come from it: neither a group nor zero.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && !self.is_zero()
    }

    /// The group address that IPv4 multicast `group` maps to (RFC 1112, section 6.4).
    #[must_use]
    pub const fn for_ipv4_multicast(group: Ipv4Addr) -> Self {
        let [_, b, c, d] = group.octets();
        Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }

    /// The group address that IPv6 multicast `group` maps to (RFC 2464, section 7).
    #[must_use]
    pub const fn for_ipv6_multicast(group: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = group.octets();
        Self([0x33, 0x33, a, b, c, d])
    }
}

impl From<[u8; 6]> for MacAddr {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl From<pnet::util::MacAddr> for MacAddr {
    fn from(mac: pnet::util::MacAddr) -> Self {
        Self(mac.octets())
    }
}

impl From<MacAddr> for pnet::util::MacAddr {
    fn from(mac: MacAddr) -> Self {
        mac.0.into()
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Text that is not an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no Ethernet address; hint: six bytes in hex, as in 02:42:0a:03:01:03")]
pub struct ParseMacError(String);

impl FromStr for MacAddr {
    type Err = ParseMacError;

    /// Reads six one- or two-digit hex bytes between colons.
    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let bad = || ParseMacError(text.chars().take(40).collect());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(bad)?;
            // from_str_radix accepts a sign; an address has none.
            if part.len() > 2 || part.starts_with('+') {
                return Err(bad());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(octets)) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_round_trips_and_nonsense_is_refused() {
        assert_eq!("ff:FF:ff:ff:ff:ff".parse::<MacAddr>().unwrap(), MacAddr::BROADCAST);
        assert_eq!("0:1:2:3:4:5".parse::<MacAddr>().unwrap().to_string(), "00:01:02:03:04:05");
        for bad in
            ["", "1:2:3:4:5", "1:2:3:4:5:6:7", "1:2:3:4:5:100", "+1:2:3:4:5:6", "1:2:3:4:5:g", "1:2:3:4:5:"]
        {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn kinds_of_address() {
        assert!(MacAddr::BROADCAST.is_multicast() && !MacAddr::BROADCAST.is_unicast());
        assert!(!MacAddr::ZERO.is_unicast());
        assert!(MacAddr([2, 0x42, 10, 3, 1, 3]).is_unicast());
        // RFC 1112: the low 23 bits only, so 224.128.0.1 and 224.0.0.1 share an address.
        assert_eq!(
            MacAddr::for_ipv4_multicast(Ipv4Addr::new(239, 129, 2, 3)).to_string(),
            "01:00:5e:01:02:03"
        );
    }
}
