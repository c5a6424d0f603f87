//! The internet checksum (RFC 1071), with pseudo-headers, whole or incremental (RFC 1624).

use std::net::{Ipv4Addr, Ipv6Addr};

/// A running ones' complement sum of 16-bit big-endian words.
///
/// Each part counts as if it began at an even offset, so only the last may have an odd length.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds `bytes`; an odd last byte counts as the high half of a word (RFC 1071, section 4.1).
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        // Four bytes per step: the word size does not matter to ones' complement sums (RFC 1071, section 2 (C)).
        let (quads, rest) = bytes.as_chunks::<4>();
        let mut sum = Self(self.0);
        for quad in quads {
            sum.0 += u64::from(u32::from_be_bytes(*quad));
        }
        sum.0 = fold32(sum.0);
        let (pairs, odd) = rest.as_chunks::<2>();
        for pair in pairs {
            sum.0 += u64::from(u16::from_be_bytes(*pair));
        }
        if let [last] = odd {
            sum.0 += u64::from(*last) << 8;
        }
        sum
    }

    /// Adds one 16-bit word.
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word))
    }

    /// The checksum: the complement of the sum.
    #[must_use]
    pub fn finish(self) -> u16 {
        !fold16(self.0)
    }
}

fn fold32(sum: u64) -> u64 {
    (sum & 0xffff_ffff) + (sum >> 32)
}

fn fold16(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum of `bytes`; 0 if they contain a right checksum.
///
/// ```
/// // The example of RFC 1071, section 3: the sum is 0xddf2.
/// assert_eq!(vxlan::checksum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
/// ```
#[must_use]
pub fn of(bytes: &[u8]) -> u16 {
    Sum::default().bytes(bytes).finish()
}

/// The checksum of `bytes` as if the two bytes at even offset `field` were zero: the right value of that field.
#[must_use]
pub fn of_with_field_zero(bytes: &[u8], field: usize) -> u16 {
    sum_with_field_zero(Sum::default(), bytes, field).finish()
}

/// Addresses of the IP layer under a TCP, UDP or ICMPv6 message: its checksum covers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// RFC 768, RFC 9293 section 3.1.
    V4 {
        /// Source address.
        src: Ipv4Addr,
        /// Destination address.
        dst: Ipv4Addr,
    },
    /// RFC 8200 section 8.1.
    V6 {
        /// Source address.
        src: Ipv6Addr,
        /// Destination address.
        dst: Ipv6Addr,
    },
}

impl Addresses {
    fn sum(self, protocol: u8, len: usize) -> Sum {
        let ends = match self {
            Self::V4 { src, dst } => Sum::default().bytes(&src.octets()).bytes(&dst.octets()),
            Self::V6 { src, dst } => Sum::default().bytes(&src.octets()).bytes(&dst.octets()),
        };
        ends.word(u16::from(protocol)).bytes(&(len as u32).to_be_bytes())
    }

    /// The checksum of a `protocol` message between these addresses, as if its two bytes at even offset `field` were
    /// zero: the right value of that field. For UDP use [`udp`], which handles the special zero.
    #[must_use]
    pub fn checksum(self, protocol: u8, message: &[u8], field: usize) -> u16 {
        sum_with_field_zero(self.sum(protocol, message.len()), message, field).finish()
    }

    /// Whether `message` carries its right checksum.
    #[must_use]
    pub fn verifies(self, protocol: u8, message: &[u8]) -> bool {
        self.sum(protocol, message.len()).bytes(message).finish() == 0
    }
}

/// The checksum of a UDP `datagram`, header included. The content of its checksum field does not matter.
///
/// Zero on the wire means "none computed", so a computed zero is sent as 0xffff (RFC 768).
#[must_use]
pub fn udp(addresses: Addresses, datagram: &[u8]) -> u16 {
    match addresses.checksum(17, datagram, 6) {
        0 => 0xffff,
        sum => sum,
    }
}

fn sum_with_field_zero(sum: Sum, bytes: &[u8], field: usize) -> Sum {
    let before = &bytes[..field.min(bytes.len())];
    let after = bytes.get(field.saturating_add(2)..).unwrap_or_default();
    sum.bytes(before).bytes(after)
}

/// `checksum` after a 16-bit word that it covers changed from `old` to `new`: equation 3 of RFC 1624.
///
/// For UDP: leave a zero checksum alone, and send a result of 0 as 0xffff.
///
/// ```
/// // The example of RFC 1624, section 4.
/// assert_eq!(vxlan::checksum::updated(0xdd2f, 0x5555, 0x3285), 0x0000);
/// ```
#[must_use]
pub fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    changed(checksum, u64::from(!old) + u64::from(new))
}

/// `checksum` after changes that add up to `change`.
pub(crate) fn changed(checksum: u16, change: u64) -> u16 {
    !fold16(u64::from(!checksum) + fold32(change))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 to the letter, word by word.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn known_ipv4_header() {
        // The header that Wikipedia's "IPv4 header checksum" works through: b861.
        let header =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(of(&header), 0);
        assert_eq!(of_with_field_zero(&header, 10), 0xb861);
    }

    #[test]
    fn no_bytes() {
        assert_eq!(of(&[]), 0xffff);
        assert_eq!(of_with_field_zero(&[], 10), 0xffff);
    }

    #[test]
    fn a_computed_zero_is_sent_as_ones() {
        let ends = Addresses::V4 { src: Ipv4Addr::new(10, 0, 0, 1), dst: Ipv4Addr::new(10, 0, 0, 2) };
        let mut datagram = [0x30, 0x39, 0x12, 0xb5, 0, 10, 0, 0, 0, 0];
        // Two bytes of data that bring the sum to 0xffff.
        let sum = ends.checksum(17, &datagram, 6);
        datagram[8..].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(ends.checksum(17, &datagram, 6), 0);
        assert_eq!(udp(ends, &datagram), 0xffff);
    }

    proptest! {
        #[test]
        fn equals_the_reference(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(of(&bytes), reference(&bytes));
        }

        #[test]
        fn incremental_equals_whole(
            mut bytes in proptest::collection::vec(any::<u8>(), 24..80),
            new in any::<[u8; 4]>(),
            word in 0usize..10,
        ) {
            // A header is never all zeros, the one case in which RFC 1624 and a fresh sum differ.
            bytes[0] = 0x45;
            let at = 2 + word * 2;
            let before = of(&bytes);
            let old = [bytes[at], bytes[at + 1]];
            bytes[at..at + 2].copy_from_slice(&new[..2]);
            let (old, new) = (u16::from_be_bytes(old), u16::from_be_bytes([new[0], new[1]]));
            prop_assert_eq!(updated(before, old, new), of(&bytes));
        }
    }
}
