//! Whole stacks of layers: [`Stack::build`] makes bytes of them, [`Stack::parse`] reads them back.

mod build;
mod read;

pub use build::BuildError;
pub use read::Dissection;

use std::net::{IpAddr, Ipv6Addr};

use crate::MacAddr;
use crate::proto::{
    Layer, Payload, arp, dot1q, esp, ethernet, gbp, gpe, icmp, icmpv6, ipv4, ipv6, tcp, udp, vxlan,
};

/// The most layers of a stack, built or read.
pub const MAX_LAYERS: usize = 32;

/// Layers, outermost first.
///
/// [`build`](Self::build) fills in `Option` fields that are unset; it writes set ones as they are, right or wrong.
/// Layers and stacks are joined with `/`, as in the text form.
///
/// ```
/// use vxlan::{Arp, Ether, Ipv4, MacAddr, Stack, Udp, Vxlan};
///
/// let inner = MacAddr([2, 0x42, 10, 3, 1, 1]);
/// let stack = Ether::default()
///     / Ipv4 { src: Some([10, 0, 0, 1].into()), dst: Some([10, 0, 0, 2].into()), ..Ipv4::default() }
///     / Udp::default()
///     / Vxlan { vni: 4097, ..Vxlan::default() }
///     / Ether { src: Some(inner), ..Ether::default() }
///     / Arp { target_ip: [10, 3, 1, 3].into(), ..Arp::default() };
/// let bytes = stack.build()?;
/// assert_eq!(bytes.len(), 14 + 20 + 8 + 8 + 14 + 28);
///
/// let read = Stack::parse(&bytes)?;
/// assert_eq!(read.layers[3], Vxlan { vni: 4097, ..Vxlan::default() }.into());
/// assert_eq!(read.build()?, bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stack {
    /// The layers, outermost first.
    pub layers: Vec<Layer>,
}

impl Stack {
    /// A stack without layers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills in unset source addresses, from the outermost frame up to its ARP or IP header, as for a sender on a NIC
    /// with these addresses. The first of a header's family counts; of IPv6 the first whose scope is that of the
    /// destination (RFC 6724, section 5, rule 2). A header of a family that the sender lacks stays as it is, and so do
    /// layers in a tunnel.
    pub fn fill_source(&mut self, mac: MacAddr, addresses: &[IpAddr]) {
        let v4 = addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
        for layer in &mut self.layers {
            match layer {
                Layer::Ether(ether) => {
                    ether.src.get_or_insert(mac);
                }
                Layer::Dot1q(_) => {}
                Layer::Arp(arp) => {
                    arp.sender_ip = arp.sender_ip.or(v4);
                    return;
                }
                Layer::Ipv4(ipv4) => {
                    ipv4.src = ipv4.src.or(v4);
                    return;
                }
                Layer::Ipv6(ipv6) => {
                    ipv6.src = ipv6.src.or_else(|| source_of_scope(ipv6.dst?, addresses));
                    return;
                }
                _ => return,
            }
        }
    }
}

/// The first IPv6 address whose scope is that of `dst`; if there is none, the first of all.
fn source_of_scope(dst: Ipv6Addr, addresses: &[IpAddr]) -> Option<Ipv6Addr> {
    let v6 = || {
        addresses.iter().filter_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(*v6),
        })
    };
    // The scope of a group is in the low half of its second byte (RFC 4291, section 2.7): 2 is the link.
    let on_link = dst.is_unicast_link_local() || dst.is_multicast() && dst.octets()[1] & 0xf <= 2;
    v6().find(|address| address.is_unicast_link_local() == on_link).or_else(|| v6().next())
}

impl<L: Into<Layer>> From<L> for Stack {
    fn from(layer: L) -> Self {
        Self { layers: vec![layer.into()] }
    }
}

impl<L: Into<Layer>> std::ops::Div<L> for Stack {
    type Output = Self;

    fn div(mut self, above: L) -> Self {
        self.layers.push(above.into());
        self
    }
}

macro_rules! joined {
    ($($layer:ty,)*) => {$(
        impl<L: Into<Layer>> std::ops::Div<L> for $layer {
            type Output = Stack;

            fn div(self, above: L) -> Stack {
                Stack::from(self) / above
            }
        }
    )*};
}
joined! {
    ethernet::Ether, dot1q::Dot1q, arp::Arp, ipv4::Ipv4, ipv6::Ipv6, icmp::Icmp, icmpv6::Icmpv6, tcp::Tcp, udp::Udp,
    esp::Esp, vxlan::Vxlan, gbp::Gbp, gpe::Gpe, Payload,
}

impl FromIterator<Layer> for Stack {
    fn from_iter<I: IntoIterator<Item = Layer>>(layers: I) -> Self {
        Self { layers: layers.into_iter().collect() }
    }
}
