//! The checksums of a frame, and how changed bytes change them.

use std::ops::Range;

use crate::checksum;
use crate::proto::{Kind, Layer};

/// What changed bytes add to a checksum: a ones' complement sum of 64 bits, not yet folded to 16 (RFC 1071, section
/// 2 (C)). A sum is never 0: all ones means the same.
type Change = u64;

/// The sum of two, with the end-around carry.
fn add(one: Change, other: Change) -> Change {
    let (sum, carry) = one.overflowing_add(other);
    sum + u64::from(carry)
}

/// What changing `old` to `new` adds, if their last byte is the low half of a word.
fn between(old: u64, new: u64) -> Change {
    match add(!old, new) {
        0 => u64::MAX,
        change => change,
    }
}

/// How a write to some bytes changes the checksums that cover them.
#[derive(Debug, Clone, Default)]
pub(super) struct Touched(Vec<Effect>);

/// The effect on one checksum. The written bytes are a number; the checksum covers the bits of `mask` from `shift` on.
#[derive(Debug, Clone)]
struct Effect {
    sum: usize,
    shift: u32,
    mask: u64,
    /// 8 if the last byte is the high half of a word: the sum of words shifted by one byte is the sum with its bytes
    /// swapped (RFC 1071, section 2 (B)).
    rotate: u32,
}

#[derive(Debug, Clone)]
struct Sum {
    kind: Kind,
    /// Where the checksum is.
    at: usize,
    /// The bytes it covers: its message, itself included, and the addresses of a pseudo-header.
    covers: Vec<Range<usize>>,
    /// How a change of this checksum changes those further out.
    touched: Touched,
    /// Followers that depend on it, one bit each.
    reaches: u32,
    /// The change not yet written; 0 only if there is none.
    change: Change,
}

/// Checksums that were computed, innermost first.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    sums: Vec<Sum>,
    any_change: bool,
}

impl Sums {
    /// The checksums of a built stack. A checksum that was set explicitly stays as it is.
    pub(super) fn of(layers: &[Layer], rooms: &[Range<usize>]) -> Self {
        let mut sums = Vec::new();
        for (index, (layer, room)) in layers.iter().zip(rooms).enumerate().rev() {
            let Some(covered) = layer.header().covered(room.len()) else { continue };
            let own = room.start..room.start + covered.len;
            let ends = if covered.addresses { addresses(&layers[..index], rooms) } else { None };
            let covers = std::iter::once(own).chain(ends).collect();
            let (kind, at) = (layer.kind(), room.start + covered.field);
            sums.push(Sum { kind, at, covers, touched: Touched::default(), reaches: 0, change: 0 });
        }
        let mut this = Self { sums, any_change: false };
        for index in 0..this.sums.len() {
            let at = this.sums[index].at;
            let Touched(mut effects) = this.touched_by(&(at..at + 2));
            effects.retain(|effect| effect.sum != index);
            this.sums[index].touched = Touched(effects);
        }
        this
    }

    /// The effects of writing to `range`, 1 to 8 bytes.
    pub(super) fn touched_by(&self, range: &Range<usize>) -> Touched {
        let mut effects = Vec::new();
        for (index, sum) in self.sums.iter().enumerate() {
            for cover in &sum.covers {
                let (from, to) = (range.start.max(cover.start), range.end.min(cover.end));
                if from < to {
                    effects.push(Effect {
                        sum: index,
                        shift: 8 * (range.end - to) as u32,
                        mask: u64::MAX >> (64 - 8 * (to - from)),
                        rotate: 8 * ((to - cover.start) % 2) as u32,
                    });
                }
            }
        }
        Touched(effects)
    }

    /// Notes that bytes changed from one number to another.
    pub(super) fn note(&mut self, touched: &Touched, old: u64, new: u64) {
        self.any_change = true;
        note(&mut self.sums, 0, touched, old, new);
    }

    /// Notes for each checksum which followers depend on it.
    pub(super) fn reach(&mut self, interested: impl Fn(&Range<usize>) -> u32) {
        for sum in &mut self.sums {
            sum.reaches = interested(&(sum.at..sum.at + 2));
        }
    }

    /// How many checksums are in layers that begin after `start`.
    pub(super) fn inside(&self, start: usize) -> usize {
        self.sums.iter().take_while(|sum| sum.covers[0].start > start).count()
    }

    /// Updates the `first` checksums, innermost first, or all. Returns the followers that depend on a changed one.
    pub(super) fn settle(&mut self, bytes: &mut [u8], first: Option<usize>) -> u32 {
        if !self.any_change {
            return 0;
        }
        self.any_change = first.is_some();
        let mut due = 0;
        for index in 0..first.unwrap_or(self.sums.len()) {
            // Innermost first: checksums further out cover those further in.
            let (inner, outer) = self.sums.split_at_mut(index + 1);
            let sum = &mut inner[index];
            let change = std::mem::take(&mut sum.change);
            if change == 0 {
                continue;
            }
            let old = u16::from_be_bytes([bytes[sum.at], bytes[sum.at + 1]]);
            // Equation 3 of RFC 1624, for all words at once.
            let new = match checksum::changed(old, change) {
                0 => sum.zero(bytes),
                new => new,
            };
            bytes[sum.at..sum.at + 2].copy_from_slice(&new.to_be_bytes());
            note(outer, index + 1, &sum.touched, old.into(), new.into());
            due |= sum.reaches;
        }
        due
    }
}

impl Sum {
    /// What is sent for a checksum of zero. The result is also zero for bytes that are all zero, whose checksum is all ones.
    fn zero(&self, bytes: &[u8]) -> u16 {
        match self.kind {
            Kind::Udp => 0xffff,
            // The only one without a version or pseudo-header, so it may cover only zeros.
            Kind::Icmp => checksum::of_with_field_zero(&bytes[self.covers[0].clone()], 2),
            _ => 0,
        }
    }
}

/// Adds the change of some bytes to the checksums that cover them. `sums` are the checksums from `base` on.
fn note(sums: &mut [Sum], base: usize, Touched(effects): &Touched, old: u64, new: u64) {
    for Effect { sum, shift, mask, rotate } in effects {
        let change = between(old >> shift & mask, new >> shift & mask);
        let sum = &mut sums[*sum - base];
        sum.change = add(sum.change, change.rotate_left(*rotate));
    }
}

/// The range of the addresses in a pseudo-header.
fn addresses(below: &[Layer], rooms: &[Range<usize>]) -> Option<Range<usize>> {
    let in_frame = below.iter().zip(rooms).rev().take_while(|(layer, _)| layer.kind() != Kind::Ether);
    let mut ends = in_frame.filter_map(|(layer, room)| match layer.kind() {
        Kind::Ipv4 => Some(room.start + 12..room.start + 20),
        Kind::Ipv6 => Some(room.start + 8..room.start + 40),
        _ => None,
    });
    ends.next()
}
