//! What the layers of all protocols share: the traits and types by which stacks build and read them.

use std::ops::Range;

use super::vxlan;
use super::{Kind, Layer, Wrong};
use crate::MacAddr;
use crate::checksum::Addresses;

/// The reason of a [`BuildError`](crate::BuildError).
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

/// A [`BuildError`](crate::BuildError) without its layer, whose number the layer itself does not know.
#[derive(Debug)]
pub(crate) struct FieldError {
    pub(crate) field: &'static str,
    pub(crate) problem: BuildProblem,
}

impl FieldError {
    pub(crate) fn other(field: &'static str, why: &'static str) -> Self {
        Self { field, problem: BuildProblem::Other(why) }
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

/// How to read bytes: their first layer, and which UDP ports carry VXLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decode {
    /// The outermost layer; by default Ethernet.
    pub first: Kind,
    /// Destination ports of VXLAN, with or without group policy; by default 4789.
    pub vxlan_ports: Vec<u16>,
    /// Destination ports of VXLAN-GPE; by default 4790.
    pub gpe_ports: Vec<u16>,
}

impl Default for Decode {
    fn default() -> Self {
        Self { first: Kind::Ether, vxlan_ports: vec![vxlan::PORT], gpe_ports: vec![vxlan::GPE_PORT] }
    }
}

impl Decode {
    /// The kind of layer that a datagram to `port` carries.
    pub(crate) fn over_udp(&self, port: u16) -> Option<Kind> {
        if self.vxlan_ports.contains(&port) {
            Some(Kind::Vxlan)
        } else if self.gpe_ports.contains(&port) {
            Some(Kind::Gpe)
        } else {
            None
        }
    }
}

/// One layer read.
pub(crate) struct Read {
    pub(crate) layer: Layer,
    /// Where the layer above is, in the bytes that were read.
    pub(crate) body: Range<usize>,
    /// What the layer above is; `None`: payload.
    pub(crate) next: Option<Kind>,
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
