//! The text form of stacks, which people type and captures print.
//!
//! ```text
//! stack = layer *( "/" layer )
//! layer = name [ "(" [ field *( "," field ) ] ")" ]
//! field = key [ "=" value ]          a key alone sets a flag
//! value = bare word | '"' text '"'   with \" \\ \n \r \t and \0
//! ```
//!
//! Spaces between these are ignored. Numbers are decimal or hex (`0x1001`); bytes are hex digits. Omitted fields are as
//! in the layer's `Default`. Keys of a layer: [`keys`].

mod error;
mod fields;
mod parse;
mod value;

use std::fmt;

pub(crate) use error::nearest;
pub use error::{ParseStackError, TextProblem};
pub(crate) use value::{ArpOperation, Icmp6Type, IcmpType, Named};

use crate::{Kind, Layer, Stack};

/// The keys that `layer` takes in the text form, aliases included.
#[must_use]
pub fn keys(layer: Kind) -> &'static [&'static str] {
    fields::of(&Layer::of(layer)).keys()
}

/// Further names of layers, besides [`Kind::name`].
const ALIASES: &[(&str, Kind)] = &[
    ("ether", Kind::Ether),
    ("ethernet", Kind::Ether),
    ("vlan", Kind::Dot1q),
    ("ipv4", Kind::Ipv4),
    ("ipv6", Kind::Ipv6),
    ("icmpv6", Kind::Icmpv6),
    ("raw", Kind::Payload),
];

pub(crate) fn kind_named(word: &str) -> Option<Kind> {
    let named = Kind::ALL.iter().find(|kind| kind.name() == word).copied();
    named.or_else(|| ALIASES.iter().find(|(alias, _)| *alias == word).map(|(_, kind)| *kind))
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            layer.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Layer {
    /// Writes the name and the fields that differ from the default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().name())?;
        let mut open = "(";
        for (key, value) in fields::of(self).show() {
            write!(f, "{open}{key}")?;
            if let Some(value) = value {
                write!(f, "={value}")?;
            }
            open = ",";
        }
        f.write_str(if open == "," { ")" } else { "" })
    }
}
