//! One file per protocol: its constants, its layer (for building and reading) and, where pnet has none that is right, its
//! view (only for reading); and the list of them, [`Layer`].

pub mod arp;
pub mod dot1q;
pub mod esp;
pub mod ethernet;
mod flow;
pub mod gbp;
pub mod gpe;
mod header;
pub mod icmp;
pub mod icmpv6;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
mod layer;
pub mod tcp;
pub mod udp;
pub mod vxlan;

pub(crate) use header::{
    Around, Covered, FieldError, Header, ROOM, Read, fits, length, no_addresses, options_fit,
};
pub use header::{BuildProblem, Decode};
pub use layer::{Kind, Layer, Payload, Wrong};

/// The 16 bits at `at`, whose presence was checked before.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The 32 bits at `at`.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// EtherTypes (IEEE 802 numbers).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// An 802.1Q tag follows.
    pub const DOT1Q: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// An 802.1ad service tag follows.
    pub const DOT1AD: u16 = 0x88a8;
    /// For local experiments (IEEE 802, section 9.2.3): used for a payload without a protocol.
    pub const EXPERIMENTAL: u16 = 0x88b5;

    use super::Kind;

    /// The layer that `ethertype` announces; `None` if we do not read it further.
    #[must_use]
    pub fn kind(ethertype: u16) -> Option<Kind> {
        match ethertype {
            DOT1Q | DOT1AD => Some(Kind::Dot1q),
            ARP => Some(Kind::Arp),
            IPV4 => Some(Kind::Ipv4),
            IPV6 => Some(Kind::Ipv6),
            _ => None,
        }
    }

    /// The EtherType that announces `layer`.
    #[must_use]
    pub fn of(layer: Option<Kind>) -> u16 {
        match layer {
            Some(Kind::Dot1q) => DOT1Q,
            Some(Kind::Arp) => ARP,
            Some(Kind::Ipv4) => IPV4,
            Some(Kind::Ipv6) => IPV6,
            _ => EXPERIMENTAL,
        }
    }
}

/// IP protocol numbers (IANA).
pub mod ip_protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// ESP.
    pub const ESP: u8 = 50;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6: nothing follows (RFC 8200, section 4.7).
    pub const NONE: u8 = 59;
    /// For experiments (RFC 3692): used for a payload without a protocol.
    pub const EXPERIMENTAL: u8 = 253;

    use super::Kind;

    /// The layer that `protocol` announces over `below`, IPv4 or IPv6; `None` if we do not read it further.
    #[must_use]
    pub fn kind(protocol: u8, below: Kind) -> Option<Kind> {
        match (protocol, below) {
            // Each ICMP belongs to its own version of IP.
            (ICMP, Kind::Ipv4) => Some(Kind::Icmp),
            (ICMPV6, Kind::Ipv6) => Some(Kind::Icmpv6),
            (IPV4, _) => Some(Kind::Ipv4),
            (TCP, _) => Some(Kind::Tcp),
            (UDP, _) => Some(Kind::Udp),
            (IPV6, _) => Some(Kind::Ipv6),
            (ESP, _) => Some(Kind::Esp),
            _ => None,
        }
    }

    /// The protocol number that announces `layer` over `below`.
    #[must_use]
    pub fn of(layer: Option<Kind>, below: Kind) -> u8 {
        match layer {
            Some(Kind::Icmp) => ICMP,
            Some(Kind::Ipv4) => IPV4,
            Some(Kind::Tcp) => TCP,
            Some(Kind::Udp) => UDP,
            Some(Kind::Ipv6) => IPV6,
            Some(Kind::Esp) => ESP,
            Some(Kind::Icmpv6) => ICMPV6,
            None if below == Kind::Ipv6 => NONE,
            _ => EXPERIMENTAL,
        }
    }
}
