//! Fields that count up from frame to frame.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{Field, FrameTemplate, TemplateError, Value};
use crate::MacAddr;
use crate::stack::Stack;

/// A field that takes one value after another, over and over: `udp.sport` (all its values), `vxlan.vni=1..100`,
/// `ip#2.dst=10.3.1.1..10.3.1.9`. The field is named as in [`FrameTemplate::field`].
///
/// ```
/// use vxlan::{Stack, Varied, Vary};
/// let stack: Stack = "eth/ip/udp/vxlan/eth/arp".parse()?;
/// let vary: Vary = "vxlan.vni=4097..4098".parse()?;
/// let mut frames = Varied::new(&stack, &[vary])?;
/// let mut vni = || Stack::parse(frames.next_frame()).map(|frame| frame.layers[3].to_string());
/// assert_eq!([vni()?, vni()?, vni()?], ["vxlan(vni=4097)", "vxlan(vni=4098)", "vxlan(vni=4097)"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vary {
    field: String,
    /// First and last value, and their text.
    range: Option<(u128, u128, String)>,
}

/// Text that is not a [`Vary`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {problem}; hint: LAYER.FIELD, or LAYER.FIELD=FIRST..LAST as in vxlan.vni=1..100")]
pub struct ParseVaryError {
    text: String,
    problem: &'static str,
}

impl FromStr for Vary {
    type Err = ParseVaryError;

    fn from_str(text: &str) -> Result<Self, ParseVaryError> {
        let wrong = |problem| ParseVaryError { text: text.to_owned(), problem };
        let (field, range) = match text.split_once('=') {
            Some((field, range)) => (field, Some(range)),
            None => (text, None),
        };
        if field.is_empty() {
            return Err(wrong("names no field"));
        }
        let read = |range: &str| {
            let (first, last) = range.split_once("..").ok_or_else(|| wrong("says no range"))?;
            let number =
                |text| value(text).ok_or_else(|| wrong("begins or ends with neither number nor address"));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                Err(wrong("ends before it begins"))
            } else {
                Ok((first, last, range.to_owned()))
            }
        };
        Ok(Self { field: field.to_owned(), range: range.map(read).transpose()? })
    }
}

impl fmt::Display for Vary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.range {
            Some((.., range)) => write!(f, "{}={range}", self.field),
            None => f.write_str(&self.field),
        }
    }
}

fn value(text: &str) -> Option<u128> {
    let Value(value) = if let Ok(mac) = text.parse::<MacAddr>() {
        mac.into()
    } else if let Ok(address) = text.parse::<Ipv4Addr>() {
        address.into()
    } else if let Ok(address) = text.parse::<Ipv6Addr>() {
        address.into()
    } else {
        // Both accept a sign; numbers here have none.
        let digits = text.strip_prefix("0x");
        let number = digits.map_or_else(|| text.parse(), |digits| u128::from_str_radix(digits, 16));
        number.ok().filter(|_| !text.contains('+'))?.into()
    };
    Some(value)
}

/// A template whose fields count up, each by itself.
#[derive(Debug, Clone)]
pub struct Varied {
    template: FrameTemplate,
    counting: Vec<Counting>,
}

#[derive(Debug, Clone)]
struct Counting {
    field: Field,
    first: u128,
    last: u128,
    next: u128,
}

impl Varied {
    /// Makes frames of `stack` in which `fields` vary.
    ///
    /// # Errors
    /// If the stack cannot be built, has no such field that can vary, or a value does not fit its field.
    pub fn new(stack: &Stack, fields: &[Vary]) -> Result<Self, TemplateError> {
        let mut template = FrameTemplate::new(stack)?;
        let mut counting = Vec::new();
        for Vary { field: name, range } in fields {
            let field = template.field(name)?;
            let all = (0, template.most(field)?);
            let (first, last) = range.as_ref().map_or(all, |(first, last, _)| (*first, *last));
            template.set(field, last)?;
            counting.push(Counting { field, first, last, next: first });
        }
        Ok(Self { template, counting })
    }

    /// Bytes of each frame.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "the length of frames, of which there is no end")]
    pub fn len(&self) -> usize {
        self.template.bytes.len()
    }

    /// The next frame.
    pub fn next_frame(&mut self) -> &[u8] {
        for Counting { field, first, last, next } in &mut self.counting {
            // Always fits: `new` checked the last value.
            _ = self.template.set(*field, *next);
            *next = if *next == *last { *first } else { *next + 1 };
        }
        self.template.frame()
    }
}
