//! One layer of a stack, of whichever protocol.

use super::{Around, FieldError, Header};
use super::{arp, dot1q, esp, ethernet, gbp, gpe, icmp, icmpv6, ipv4, ipv6, tcp, udp, vxlan};

/// Bytes of a protocol not known here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payload(pub Vec<u8>);

impl<B: AsRef<[u8]> + ?Sized> From<&B> for Payload {
    fn from(bytes: &B) -> Self {
        Self(bytes.as_ref().to_vec())
    }
}

impl Header for Payload {
    fn header_len(&self) -> usize {
        self.0.len()
    }

    fn emit(&self, room: &mut [u8], _: &Around<'_>) -> Result<(), FieldError> {
        room[..self.0.len()].copy_from_slice(&self.0);
        Ok(())
    }
}

/// The list of protocols, once: the layer, its kind and the conversions between.
macro_rules! layers {
    ($($(#[$doc:meta])* $kind:ident($layer:ty) = $name:literal,)*) => {
        /// A layer.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Layer {
            $($(#[$doc])* $kind($layer),)*
        }

        /// Which protocol a layer is of.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// Name of the layer in errors and in the text form.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];
        }

        impl Layer {
            /// Which protocol it is of.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// A layer with default values.
            #[must_use]
            pub fn of(kind: Kind) -> Self {
                match kind {
                    $(Kind::$kind => Self::$kind(Default::default()),)*
                }
            }

            pub(crate) fn header(&self) -> &dyn Header {
                match self {
                    $(Self::$kind(layer) => layer,)*
                }
            }

            pub(crate) fn header_mut(&mut self) -> &mut dyn Header {
                match self {
                    $(Self::$kind(layer) => layer,)*
                }
            }

        }

        $(
            impl From<$layer> for Layer {
                fn from(layer: $layer) -> Self {
                    Self::$kind(layer)
                }
            }
        )*
    };
}

layers! {
    /// Ethernet II.
    Ether(ethernet::Ether) = "eth",
    /// 802.1Q tag.
    Dot1q(dot1q::Dot1q) = "dot1q",
    /// ARP.
    Arp(arp::Arp) = "arp",
    /// IPv4.
    Ipv4(ipv4::Ipv4) = "ip",
    /// IPv6.
    Ipv6(ipv6::Ipv6) = "ip6",
    /// ICMP.
    Icmp(icmp::Icmp) = "icmp",
    /// ICMPv6.
    Icmpv6(icmpv6::Icmpv6) = "icmp6",
    /// TCP.
    Tcp(tcp::Tcp) = "tcp",
    /// UDP.
    Udp(udp::Udp) = "udp",
    /// ESP, its clear part.
    Esp(esp::Esp) = "esp",
    /// VXLAN.
    Vxlan(vxlan::Vxlan) = "vxlan",
    /// VXLAN with a group policy.
    Gbp(gbp::Gbp) = "gbp",
    /// VXLAN-GPE.
    Gpe(gpe::Gpe) = "gpe",
    /// Anything else.
    Payload(Payload) = "payload",
}

impl Kind {
    /// Whether the layer above begins a frame or packet of its own.
    #[must_use]
    pub const fn is_tunnel(self) -> bool {
        matches!(self, Self::Vxlan | Self::Gbp | Self::Gpe)
    }
}

/// A length or checksum that is set. In a stack that was read, it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrong {
    /// Name of the field, as in the text form.
    pub field: &'static str,
    /// Its value.
    pub value: u16,
}

impl Wrong {
    pub(crate) fn list<const N: usize>(fields: [(&'static str, Option<u16>); N]) -> Vec<Self> {
        fields.into_iter().filter_map(|(field, value)| Some(Self { field, value: value? })).collect()
    }
}

impl std::fmt::Display for Wrong {
    /// As in the text form, with a space: `sum 0x1c46`, `len 9`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.field {
            "sum" => write!(f, "sum {:#06x}", self.value),
            field => write!(f, "{field} {}", self.value),
        }
    }
}

impl Layer {
    /// Lengths and checksums that are set. Reading sets only wrong ones. UDP without a checksum is not wrong.
    #[must_use]
    pub fn wrong(&self) -> Vec<Wrong> {
        self.header().wrong()
    }
}
