//! Frames built once and then varied in place; checksums are updated incrementally (RFC 1624).
//!
//! ```
//! use vxlan::{Stack, FrameTemplate};
//!
//! let stack: Stack = "eth/ip(src=192.0.2.1,dst=192.0.2.2)/udp/vxlan(vni=1)\
//!     /eth/ip(src=10.3.1.1,dst=10.3.1.3)/icmp(id=7)".parse()?;
//! let mut template = FrameTemplate::new(&stack)?;
//! let (vni, to) = (template.field("vxlan.vni")?, template.field("ip#2.dst")?);
//! template.set(vni, 4097u32)?;
//! template.set(to, std::net::Ipv4Addr::new(10, 3, 1, 4))?;
//!
//! // As if built anew, the outer source port, which follows the flow, included.
//! let anew: Stack = "eth/ip(src=192.0.2.1,dst=192.0.2.2)/udp/vxlan(vni=4097)\
//!     /eth/ip(src=10.3.1.1,dst=10.3.1.4)/icmp(id=7)".parse()?;
//! assert_eq!(template.frame(), anew.build()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod follow;
mod places;
mod sums;
mod vary;

pub use error::TemplateError;
pub use vary::{ParseVaryError, Varied, Vary};

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::MacAddr;
use crate::Stack;
use crate::proto::{Kind, Layer};
use follow::Follow;
use sums::{Sums, Touched};

/// A field of a [`FrameTemplate`], from [`FrameTemplate::field`] or [`FrameTemplate::payload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field(usize);

/// A value for a field: a number or an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value(u128);

macro_rules! values {
    ($($number:ty)*) => {$(
        impl From<$number> for Value {
            fn from(number: $number) -> Self {
                Self(number.into())
            }
        }
    )*};
}
values! { u8 u16 u32 u64 u128 Ipv6Addr }

impl From<Ipv4Addr> for Value {
    fn from(address: Ipv4Addr) -> Self {
        Self(address.to_bits().into())
    }
}

impl From<MacAddr> for Value {
    fn from(mac: MacAddr) -> Self {
        let [a, b, c, d, e, f] = mac.octets();
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]).into())
    }
}

/// A place in the frame that can be set, and what depends on it.
#[derive(Debug, Clone)]
struct Slot {
    /// `layer.key`, for errors.
    name: String,
    range: Range<usize>,
    /// Bits of the field, the lowest of its bytes; the bits above are kept.
    bits: u32,
    /// The largest number. A payload of more than 128 bits takes every number, as its last bytes.
    most: u128,
    /// The last bytes first.
    pieces: Vec<Piece>,
    /// Followers that depend on it, one bit each.
    follows: u32,
}

/// Up to 8 bytes of the frame, written at once.
#[derive(Debug, Clone)]
struct Piece {
    range: Range<usize>,
    touched: Touched,
}

/// A built frame with fields that vary.
///
/// Fields that the stack leaves unset continue to follow other fields: checksums, the outer source port (from the inner
/// flow), a group's Ethernet address, an ARP's sender. A field that you ask for itself stops following.
#[derive(Debug, Clone)]
pub struct FrameTemplate {
    bytes: Vec<u8>,
    layers: Vec<Layer>,
    rooms: Vec<Range<usize>>,
    slots: Vec<Slot>,
    sums: Sums,
    /// Innermost first.
    follows: Vec<Follow>,
    /// Followers to recompute, one bit each.
    due: u32,
}

impl FrameTemplate {
    /// Builds the frame.
    ///
    /// # Errors
    /// If the stack cannot be built.
    pub fn new(stack: &Stack) -> Result<Self, TemplateError> {
        let bytes = stack.build()?;
        let (layers, rooms) = (stack.layers.clone(), stack.rooms());
        let mut sums = Sums::of(&layers, &rooms);
        let mut follows = follow::all(&layers, &rooms, &bytes, &sums);
        for index in 0..follows.len() {
            follows[index].reaches = follow::interested(&follows, &follows[index].target());
        }
        sums.reach(|sum| follow::interested(&follows, sum));
        Ok(Self { bytes, layers, rooms, slots: Vec::new(), sums, follows, due: 0 })
    }

    /// Returns the field called `name`: layer and key as in the text form (`vxlan.vni`, `udp.sport`). `ip#2.dst` is that
    /// of the second IPv4 header from outside. `payload` alone is all bytes of a payload.
    ///
    /// If the field followed others, such as the outer source port, it stops now.
    ///
    /// # Errors
    /// If there is no such layer, or no such field in it that can vary. Types, lengths, flags and checksums cannot vary.
    pub fn field(&mut self, name: &str) -> Result<Field, TemplateError> {
        let (layer_name, key) = name.split_once('.').unwrap_or((name, ""));
        let index = self.layer(layer_name)?;
        let layer = &self.layers[index];
        if key.is_empty() && layer.kind() == Kind::Payload {
            let all = self.rooms[index].clone();
            return Ok(self.slot(name, 0..all.len(), index, all.len() as u32 * 8));
        }
        let place = places::place(layer.kind(), key);
        let place = place.ok_or_else(|| TemplateError::NoField {
            name: name.to_owned(),
            known: places::keys(layer.kind()).collect(),
        })?;
        Ok(self.slot(name, place.at..place.at + place.len, index, place.bits))
    }

    /// Returns these bytes of the payload that `layer` names (`payload`, `payload#2`), counted from its start.
    ///
    /// # Errors
    /// If there is no such payload, or it has fewer bytes.
    pub fn payload(&mut self, layer: &str, bytes: Range<usize>) -> Result<Field, TemplateError> {
        let index = self.layer(layer)?;
        let is_payload = self.layers[index].kind() == Kind::Payload;
        if !is_payload || bytes.start > bytes.end || bytes.end > self.rooms[index].len() {
            let (name, have) = (layer.to_owned(), if is_payload { self.rooms[index].len() } else { 0 });
            return Err(TemplateError::NoBytes { name, bytes, have });
        }
        let bits = bytes.len() as u32 * 8;
        Ok(self.slot(layer, bytes, index, bits))
    }

    fn layer(&self, name: &str) -> Result<usize, TemplateError> {
        places::layer(&self.layers, name).ok_or_else(|| TemplateError::NoLayer {
            name: name.to_owned(),
            known: self.layers.iter().map(|layer| layer.kind().name()).collect(),
        })
    }

    fn slot(&mut self, name: &str, in_layer: Range<usize>, layer: usize, bits: u32) -> Field {
        let start = self.rooms[layer].start;
        let range = start + in_layer.start..start + in_layer.end;
        for follow in &mut self.follows {
            follow.stop_if(&range);
        }
        let ends = (range.start + 1..=range.end).rev().step_by(PIECE);
        let pieces = ends.map(|end| {
            let range = end.saturating_sub(PIECE).max(start + in_layer.start)..end;
            Piece { touched: self.sums.touched_by(&range), range }
        });
        let pieces = pieces.collect();
        let follows = follow::interested(&self.follows, &range);
        let most = if bits == 0 { 0 } else { u128::MAX >> 128u32.saturating_sub(bits) };
        self.slots.push(Slot { name: name.to_owned(), range, bits, most, pieces, follows });
        Field(self.slots.len() - 1)
    }

    /// The largest number that `field` holds.
    ///
    /// # Errors
    /// If the field belongs to another template.
    pub fn most(&self, field: Field) -> Result<u128, TemplateError> {
        self.slots.get(field.0).map(|slot| slot.most).ok_or(TemplateError::NotMine)
    }

    /// Sets `field`.
    ///
    /// # Errors
    /// If the value is larger than the field holds, or the field belongs to another template.
    pub fn set(&mut self, field: Field, value: impl Into<Value>) -> Result<(), TemplateError> {
        self.put(field, value.into())
    }

    fn put(&mut self, field: Field, Value(value): Value) -> Result<(), TemplateError> {
        let slot = self.slots.get(field.0).ok_or(TemplateError::NotMine)?;
        if value > slot.most {
            return Err(TemplateError::TooLarge { name: slot.name.clone(), value, max: slot.most });
        }
        if let ([piece], 1..64) = (&slot.pieces[..], slot.bits) {
            let (others, old) = (u64::MAX << slot.bits, load(&self.bytes[piece.range.clone()]));
            write(&mut self.bytes, &mut self.sums, &piece.range, &piece.touched, old & others | value as u64);
        } else {
            let mut rest = value;
            for Piece { range, touched } in &slot.pieces {
                write(&mut self.bytes, &mut self.sums, range, touched, rest as u64);
                rest >>= 64;
            }
        }
        self.due |= slot.follows;
        Ok(())
    }

    /// Sets `field` to `bytes`.
    ///
    /// # Errors
    /// If the field has another length, shares its bytes with others (use [`set`](Self::set)), or belongs to another
    /// template.
    pub fn set_bytes(&mut self, field: Field, bytes: &[u8]) -> Result<(), TemplateError> {
        let slot = self.slots.get(field.0).ok_or(TemplateError::NotMine)?;
        let need = slot.range.len();
        if bytes.len() != need || slot.bits as usize != need * 8 {
            return Err(TemplateError::Length { name: slot.name.clone(), have: bytes.len(), need });
        }
        for Piece { range, touched } in &slot.pieces {
            let new = &bytes[range.start - slot.range.start..range.end - slot.range.start];
            write(&mut self.bytes, &mut self.sums, range, touched, load(new));
        }
        self.due |= slot.follows;
        Ok(())
    }

    /// Returns the frame with all values set so far and checksums updated.
    pub fn frame(&mut self) -> &[u8] {
        // Innermost first. A follower may depend on checksums further in, and changes those further out.
        loop {
            let next = self.follows.get(self.due.trailing_zeros() as usize);
            let more = self.sums.settle(&mut self.bytes, next.map(|follow| follow.sums_inside));
            if more & !self.due != 0 {
                self.due |= more;
                continue;
            }
            let Some(follow) = next else { break };
            self.due &= self.due - 1;
            if let Some(new) = follow.value(&self.bytes) {
                write(&mut self.bytes, &mut self.sums, &follow.target(), &follow.touched, new);
                // Followers that depend on it are further out, so their bits are higher.
                self.due |= follow.reaches;
            }
        }
        &self.bytes
    }
}

/// Most bytes written at once: those of a number that fits a register.
const PIECE: usize = 8;

/// Writes `new` at `range`, and notes the change for the checksums that cover it.
#[inline]
fn write(bytes: &mut [u8], sums: &mut Sums, range: &Range<usize>, touched: &Touched, new: u64) {
    let room = &mut bytes[range.clone()];
    let old = load(room);
    if old != new {
        store(room, new);
        sums.note(touched, old, new);
    }
}

/// The number in up to 8 bytes. If the length is known at the call, it costs one load.
#[inline]
fn load(bytes: &[u8]) -> u64 {
    match *bytes {
        [a] => a.into(),
        [a, b] => u16::from_be_bytes([a, b]).into(),
        [a, b, c] => u32::from_be_bytes([0, a, b, c]).into(),
        [a, b, c, d] => u32::from_be_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f] => u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
        [a, b, c, d, e, f, g, h] => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
    }
}

/// Writes the last bytes of a number, as many as `room` holds: up to 8.
#[inline]
fn store(room: &mut [u8], number: u64) {
    let bytes = number.to_be_bytes();
    match room {
        [a] => *a = bytes[7],
        [_, _] => room.copy_from_slice(&bytes[6..]),
        [_, _, _] => room.copy_from_slice(&bytes[5..]),
        [_, _, _, _] => room.copy_from_slice(&bytes[4..]),
        [_, _, _, _, _, _] => room.copy_from_slice(&bytes[2..]),
        _ => room.copy_from_slice(&bytes[8 - room.len()..]),
    }
}
