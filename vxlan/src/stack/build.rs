//! From layers to bytes.

use std::ops::Range;

use super::{MAX_LAYERS, Stack};
use crate::MacAddr;
use crate::checksum::Addresses;
use crate::proto::{Around, BuildProblem, FieldError, Kind, Layer};

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

fn of(index: usize, layer: &Layer, FieldError { field, problem }: FieldError) -> BuildError {
    BuildError { number: index + 1, layer: layer.kind().name(), field, problem }
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
            return Err(of(MAX_LAYERS, layer, error));
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
            layer.header().emit(&mut bytes[room], &around).map_err(|error| of(index, layer, error))?;
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
