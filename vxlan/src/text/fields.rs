//! The keys of each layer.

use super::value::{ArpOperation, GpeNext, Hex, Icmp6Type, IcmpType, Names, Plain, Plainly, Style};
use crate::proto::{
    Layer, Payload, arp, dot1q, esp, ethernet, gbp, gpe, icmp, icmpv6, ipv4, ipv6, tcp, udp, vxlan,
};

/// A layer's fields as text.
pub(crate) trait Fields {
    /// All keys, aliases included.
    fn keys(&self) -> &'static [&'static str];

    /// Sets the field that `key` names. Returns the key's first name, or what is wrong with the value.
    ///
    /// `None` if there is no such key.
    fn set(&mut self, key: &str, value: Option<&str>) -> Option<Result<&'static str, String>>;

    /// Keys and values of the fields that differ from the default; flags have no value.
    fn show(&self) -> Vec<(&'static str, Option<String>)>;
}

/// A table of keys for each layer: `"key" | "alias" = field as style`.
macro_rules! tables {
    ($($kind:ident($layer:ty) { $($key:literal $(| $alias:literal)* = $field:ident as $style:ty,)* })*) => {
        /// The fields of `layer`.
        pub(crate) fn of(layer: &Layer) -> &dyn Fields {
            match layer {
                $(Layer::$kind(layer) => layer,)*
                Layer::Payload(layer) => layer,
            }
        }

        /// The fields of `layer`, to set them.
        pub(crate) fn of_mut(layer: &mut Layer) -> &mut dyn Fields {
            match layer {
                $(Layer::$kind(layer) => layer,)*
                Layer::Payload(layer) => layer,
            }
        }

        $(impl Fields for $layer {
            fn keys(&self) -> &'static [&'static str] {
                &[$($key, $($alias,)*)*]
            }

            fn set(&mut self, key: &str, value: Option<&str>) -> Option<Result<&'static str, String>> {
                match key {
                    $($key $(| $alias)* => Some(set::<$style, _>(&mut self.$field, value).map(|()| $key)),)*
                    _ => None,
                }
            }

            fn show(&self) -> Vec<(&'static str, Option<String>)> {
                let plain = Self::default();
                let mut shown = Vec::new();
                $(
                    if self.$field != plain.$field {
                        let value = <$style as Style<_>>::show(&self.$field);
                        shown.push(($key, Some(value).filter(|value| !value.is_empty())));
                    }
                )*
                shown
            }
        }
        )*
    };
}

fn set<S: Style<T>, T>(field: &mut T, value: Option<&str>) -> Result<(), String> {
    *field = S::read(value.unwrap_or_default()).map_err(|why| match value {
        Some(_) => why,
        None => "needs a value".into(),
    })?;
    Ok(())
}

tables! {
    Ether(ethernet::Ether) {
        "dst" = dst as Plain,
        "src" = src as Plain,
        "type" = ethertype as Hex,
    }
    Dot1q(dot1q::Dot1q) {
        "vid" | "id" = vid as Plain,
        "pcp" | "prio" = pcp as Plain,
        "dei" = dei as Plain,
        "type" = ethertype as Hex,
    }
    Arp(arp::Arp) {
        "op" = operation as Names<ArpOperation>,
        "who" | "tpa" = target_ip as Plain,
        "tell" | "spa" = sender_ip as Plain,
        "smac" | "sha" = sender_mac as Plain,
        "tmac" | "tha" = target_mac as Plain,
        "htype" = hardware_type as Plain,
        "ptype" = protocol_type as Hex,
    }
    Ipv4(ipv4::Ipv4) {
        "src" = src as Plain,
        "dst" = dst as Plain,
        "dscp" = dscp as Plain,
        "ecn" = ecn as Plain,
        "id" = id as Plain,
        "reserved" = reserved as Plain,
        "df" = df as Plain,
        "mf" = mf as Plain,
        "frag" = fragment_offset as Plain,
        "ttl" = ttl as Plain,
        "proto" = protocol as Plain,
        "options" = options as Plain,
        "ihl" = ihl as Plain,
        "len" = total_len as Plain,
        "sum" = checksum as Hex,
        "trailer" = trailer as Plain,
    }
    Ipv6(ipv6::Ipv6) {
        "src" = src as Plain,
        "dst" = dst as Plain,
        "class" = traffic_class as Hex,
        "flow" = flow_label as Hex,
        "hlim" | "ttl" = hop_limit as Plain,
        "next" | "proto" = next_header as Plain,
        "len" = payload_len as Plain,
        "trailer" = trailer as Plain,
    }
    Icmp(icmp::Icmp) {
        "type" = icmp_type as Names<IcmpType>,
        "code" = code as Plain,
        "id" = id as Plain,
        "seq" | "mtu" = seq as Plain,
        "sum" = checksum as Hex,
    }
    Icmpv6(icmpv6::Icmpv6) {
        "type" = icmp_type as Names<Icmp6Type>,
        "code" = code as Plain,
        "id" = id as Plain,
        "seq" | "mtu" = seq as Plain,
        "sum" = checksum as Hex,
    }
    Tcp(tcp::Tcp) {
        "sport" = src_port as Plain,
        "dport" = dst_port as Plain,
        "flags" = flags as Plain,
        "seq" = seq as Plain,
        "ack" = ack as Plain,
        "win" | "window" = window as Plain,
        "urg" = urgent as Plain,
        "options" = options as Plain,
        "offset" = data_offset as Plain,
        "reserved" = reserved as Hex,
        "sum" = checksum as Hex,
    }
    Udp(udp::Udp) {
        "sport" = src_port as Plain,
        "dport" = dst_port as Plain,
        "len" = len as Plain,
        "sum" = checksum as Hex,
    }
    Esp(esp::Esp) {
        "spi" = spi as Hex,
        "seq" = seq as Plain,
    }
    Vxlan(vxlan::Vxlan) {
        "vni" = vni as Plain,
        "flags" = flags as Hex,
        "reserved1" = reserved1 as Hex,
        "reserved2" = reserved2 as Hex,
    }
    Gbp(gbp::Gbp) {
        "vni" = vni as Plain,
        "policy" = policy as Plain,
        "dontlearn" = dont_learn as Plain,
        "applied" = applied as Plain,
        "flags" = flags as Hex,
        "reserved1" = reserved1 as Hex,
        "reserved2" = reserved2 as Hex,
    }
    Gpe(gpe::Gpe) {
        "vni" = vni as Plain,
        "next" = next_protocol as Names<GpeNext>,
        "flags" = flags as Hex,
        "reserved1" = reserved1 as Hex,
        "reserved2" = reserved2 as Hex,
    }
}

/// Bytes that may be shown as text.
fn is_text(byte: &u8) -> bool {
    matches!(byte, 0x20..=0x7e | b'\n' | b'\r' | b'\t')
}

/// All keys of a payload set its bytes; it is written with the key that shows it best.
impl Fields for Payload {
    fn keys(&self) -> &'static [&'static str] {
        &["hex", "text", "size"]
    }

    fn set(&mut self, key: &str, value: Option<&str>) -> Option<Result<&'static str, String>> {
        let text = value.unwrap_or_default();
        let bytes = match key {
            "hex" => Plainly::read(text),
            "text" => Ok(text.as_bytes().to_vec()),
            "size" => <u16 as Plainly>::read(text).map(|size| vec![0; size.into()]),
            _ => return None,
        };
        Some(bytes.map(|bytes| {
            self.0 = bytes;
            "its bytes"
        }))
    }

    fn show(&self) -> Vec<(&'static str, Option<String>)> {
        let bytes = &self.0;
        let (key, value) = if bytes.is_empty() {
            return Vec::new();
        } else if bytes.iter().all(is_text) {
            ("text", format!("{:?}", String::from_utf8_lossy(bytes)))
        } else if bytes.len() <= usize::from(u16::MAX) && bytes.iter().all(|byte| *byte == 0) {
            ("size", bytes.len().to_string())
        } else {
            ("hex", bytes.show())
        };
        vec![(key, Some(value))]
    }
}
