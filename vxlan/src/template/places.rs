//! Which fields a template can vary, and where they are in their layer.

use crate::proto::{Kind, Layer};

/// Where a field is in its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Bytes from the layer's start.
    pub(super) at: usize,
    /// Bytes of the field, including those shared with others: 1 to 16.
    pub(super) len: usize,
    /// Bits of the field: the last bits of its bytes.
    pub(super) bits: u32,
}

/// Names of a field, the key first, as in [`crate::text`]; bytes from the layer's start, bytes, bits.
type Row = (&'static [&'static str], usize, usize, u32);

/// Fields that do not change how the frame is read: no types, lengths, flags or checksums.
#[rustfmt::skip]
const fn rows(kind: Kind) -> &'static [Row] {
    match kind {
        Kind::Ether => &[(&["dst"], 0, 6, 48), (&["src"], 6, 6, 48)],
        Kind::Dot1q => &[(&["vid", "id"], 0, 2, 12)],
        Kind::Arp => &[
            (&["smac", "sha"], 8, 6, 48),
            (&["tell", "spa"], 14, 4, 32),
            (&["tmac", "tha"], 18, 6, 48),
            (&["who", "tpa"], 24, 4, 32),
        ],
        Kind::Ipv4 => &[
            (&["src"], 12, 4, 32),
            (&["dst"], 16, 4, 32),
            (&["id"], 4, 2, 16),
            (&["ttl"], 8, 1, 8),
        ],
        Kind::Ipv6 => &[
            (&["src"], 8, 16, 128),
            (&["dst"], 24, 16, 128),
            (&["flow"], 0, 4, 20),
            (&["hlim", "ttl"], 7, 1, 8),
        ],
        Kind::Icmp | Kind::Icmpv6 => &[(&["id"], 4, 2, 16), (&["seq", "mtu"], 6, 2, 16)],
        Kind::Tcp => &[
            (&["sport"], 0, 2, 16),
            (&["dport"], 2, 2, 16),
            (&["seq"], 4, 4, 32),
            (&["ack"], 8, 4, 32),
            (&["win", "window"], 14, 2, 16),
        ],
        Kind::Udp => &[(&["sport"], 0, 2, 16), (&["dport"], 2, 2, 16)],
        Kind::Esp => &[(&["spi"], 0, 4, 32), (&["seq"], 4, 4, 32)],
        Kind::Vxlan | Kind::Gpe => &[(&["vni"], 4, 3, 24)],
        Kind::Gbp => &[(&["vni"], 4, 3, 24), (&["policy"], 2, 2, 16)],
        Kind::Payload => &[],
    }
}

/// The place of the field called `name` (a key of the text form or an alias); `None` if it cannot vary.
pub(super) fn place(kind: Kind, name: &str) -> Option<Place> {
    let (_, at, len, bits) = *rows(kind).iter().find(|(names, ..)| names.contains(&name))?;
    Some(Place { at, len, bits })
}

/// The keys that can vary in a layer of this kind.
pub(super) fn keys(kind: Kind) -> impl Iterator<Item = &'static str> {
    rows(kind).iter().map(|(names, ..)| names[0])
}

/// The layer called `name`: a name of the text form, with `#2` for the second of that name, counted from outside.
pub(super) fn layer(layers: &[Layer], name: &str) -> Option<usize> {
    let (name, ordinal) = match name.split_once('#') {
        Some((name, ordinal)) => (name, ordinal.parse::<usize>().ok()?),
        None => (name, 1),
    };
    let kind = crate::text::kind_named(name)?;
    let mut of_kind = layers.iter().enumerate().filter(|(_, layer)| layer.kind() == kind);
    of_kind.nth(ordinal.checked_sub(1)?).map(|(index, _)| index)
}
