//! From layers to bytes.

use std::ops::Range;

use super::{Kind, Layer, MAX_LAYERS, Stack, Wrong};
use crate::MacAddr;
use crate::checksum::Addresses;

/// The error of a stack that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("layer {number} ({layer}), {field}: {problem}")]
pub struct BuildError {
    /// Number of the layer; the outermost is 1.
    pub number: usize,
    /// Its name, as in the text form.
    pub layer: &'static str,
    /// Name of the field, as in the text form.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: BuildProblem,
}

/// The reason of a [`BuildError`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildProblem {
    /// The value is more than the field's bits hold.
    #[error("{value} is more than {max}")]
    TooLarge {
        /// The value.
        value: usize,
        /// The most that fits.
        max: usize,
    },
    /// Something else.
    #[error("{0}")]
    Other(&'static str),
}

/// A [`BuildError`] without its layer, whose number the layer itself does not know.
#[derive(Debug)]
pub(crate) struct FieldError {
    field: &'static str,
    problem: BuildProblem,
}

impl FieldError {
    pub(crate) fn other(field: &'static str, why: &'static str) -> Self {
        Self { field, problem: BuildProblem::Other(why) }
    }

    fn of(self, index: usize, layer: &Layer) -> BuildError {
        let Self { field, problem } = self;
        BuildError { number: index + 1, layer: layer.kind().name(), field, problem }
    }
}

/// Why a layer's header always has room.
pub(crate) const ROOM: &str = "a stack gives each layer room for at least its header";

/// What each layer implements so that stacks can be built from it.
pub(crate) trait Header {
    /// Bytes before the layer above.
    fn header_len(&self) -> usize;

    /// Writes the header at the start of `room`. `room` is the header and all layers above, which are already written.
    fn emit(&self, room: &mut [u8], around: &Around<'_>) -> Result<(), FieldError>;

    /// Bytes after the layer above that lengths do not count.
    fn trailer(&self) -> &[u8] {
        &[]
    }

    /// After reading: unsets the number that announces the layer above, if building would fill in the same.
    fn settle(&mut self, _next: Option<Kind>) {}

    /// The checksum that building fills in, if any. `len` is the bytes of the layer and all above.
    fn covered(&self, _len: usize) -> Option<Covered> {
        None
    }

    /// Lengths and checksums that are set.
    fn wrong(&self) -> Vec<Wrong> {
        Vec::new()
    }
}

/// What a layer's checksum covers.
pub(crate) struct Covered {
    /// Bytes from the layer's start to the checksum.
    pub(crate) field: usize,
    /// Bytes covered, from the layer's start.
    pub(crate) len: usize,
    /// Whether it covers the addresses of the IP layer as well.
    pub(crate) addresses: bool,
}

/// What a layer must know about the others.
pub(crate) struct Around<'a> {
    /// Addresses of the IP layer in the same frame.
    pub(crate) addresses: Option<Addresses>,
    /// Source of the frame.
    pub(crate) frame_src: Option<MacAddr>,
    /// The layers above, next first.
    pub(crate) above: &'a [Layer],
}

impl Around<'_> {
    /// Kind of the layer above.
    pub(crate) fn next(&self) -> Option<Kind> {
        self.above.first().map(Layer::kind)
    }
}

/// Addresses of the IP layer in the frame that the last of `below` belongs to.
pub(super) fn addresses(below: &[Layer]) -> Option<Addresses> {
    below.iter().rev().take_while(|layer| layer.kind() != Kind::Ether).find_map(|layer| match layer {
        Layer::Ipv4(ip) => Some(ip.addresses()),
        Layer::Ipv6(ip) => Some(ip.addresses()),
        _ => None,
    })
}

fn frame_src(below: &[Layer]) -> Option<MacAddr> {
    below.iter().rev().find_map(|layer| match layer {
        Layer::Ether(ether) => Some(ether.src.unwrap_or_default()),
        _ => None,
    })
}

impl Stack {
    /// Builds the bytes of the stack.
    ///
    /// # Errors
    /// If a field's value does not fit its bits. If a length is not set and over 65,535. If a checksum is not set and
    /// there is no IP layer whose addresses it covers. If there are more than [`MAX_LAYERS`].
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        let layers = &self.layers;
        if let Some(layer) = layers.get(MAX_LAYERS) {
            let error = FieldError {
                field: "layers",
                problem: BuildProblem::TooLarge { value: layers.len(), max: MAX_LAYERS },
            };
            return Err(error.of(MAX_LAYERS, layer));
        }
        let rooms = self.rooms();
        let outermost = layers.first().map_or(0, |layer| layer.header().trailer().len());
        let mut bytes = vec![0; rooms.first().map_or(0, |room| room.end) + outermost];
        // Innermost first: checksums cover the layers above.
        for (index, (layer, room)) in layers.iter().zip(rooms).enumerate().rev() {
            let trailer = layer.header().trailer();
            bytes[room.end..room.end + trailer.len()].copy_from_slice(trailer);
            let around = Around {
                addresses: addresses(&layers[..index]),
                frame_src: frame_src(&layers[..index]),
                above: &layers[index + 1..],
            };
            layer.header().emit(&mut bytes[room], &around).map_err(|error| error.of(index, layer))?;
        }
        Ok(bytes)
    }

    /// The range of each layer in the bytes, with all layers above but without its trailer.
    pub(crate) fn rooms(&self) -> Vec<Range<usize>> {
        let len = |layer: &Layer| layer.header().header_len() + layer.header().trailer().len();
        let mut room = 0..self.layers.iter().map(len).sum();
        let inside = |layer: &Layer| {
            room.end -= layer.header().trailer().len();
            let here = room.clone();
            room.start += layer.header().header_len();
            here
        };
        self.layers.iter().map(inside).collect()
    }
}

/// Checks that `value` fits its bits.
pub(crate) fn fits(field: &'static str, value: impl Into<u32>, max: u32) -> Result<(), FieldError> {
    let value = value.into();
    if value <= max {
        return Ok(());
    }
    Err(FieldError { field, problem: BuildProblem::TooLarge { value: value as usize, max: max as usize } })
}

/// A length: the set one, or else the real one.
pub(crate) fn length(field: &'static str, set: Option<u16>, real: usize) -> Result<u16, FieldError> {
    let too_large = |_| FieldError { field, problem: BuildProblem::TooLarge { value: real, max: 0xffff } };
    set.map_or_else(|| u16::try_from(real).map_err(too_large), Ok)
}

/// Checks that these options fit a header of IPv4 or TCP.
pub(crate) fn options_fit(options: &[u8]) -> Result<(), FieldError> {
    if !options.len().is_multiple_of(4) {
        return Err(FieldError::other("options", "must be a multiple of 4 bytes; hint: pad with 00"));
    }
    let problem = BuildProblem::TooLarge { value: options.len(), max: 40 };
    if options.len() > 40 { Err(FieldError { field: "options", problem }) } else { Ok(()) }
}

/// The error of a checksum that cannot be computed.
pub(crate) fn no_addresses() -> FieldError {
    FieldError::other(
        "sum",
        "covers the addresses of an IP layer below, and there is none; hint: add one, or set it",
    )
}
