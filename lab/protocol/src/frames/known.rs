//! How we recognise a frame when we see it again.

use vxlan::{Decode, Dissection, Kind, Layer};

use crate::probe::nonce;

/// The bytes by which we recognise a run's frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Beginning of every mark ([`nonce`], kind `Frame`); the frame's number follows.
    prefix: Vec<u8>,
    /// Bytes of the frame that has no mark.
    needle: Option<Vec<u8>>,
}

impl Marks {
    /// The marks of a run, and a needle for a frame without a mark.
    pub fn new(run: u64, needle: Option<Vec<u8>>) -> Self {
        Self { prefix: nonce::frame_prefix(run).to_vec(), needle: needle.filter(|n| !n.is_empty()) }
    }

    /// The number in a frame's mark; `Some(None)` if only the needle matches, `None` if the frame is not of the run.
    pub fn find(&self, frame: &[u8]) -> Option<Option<u32>> {
        let marked = position(frame, &self.prefix).map(|at| &frame[at + self.prefix.len()..]);
        if let Some((mark, _)) = marked.and_then(|rest| rest.split_first_chunk()) {
            return Some(Some(u32::from_be_bytes(*mark)));
        }
        self.needle.as_ref().and_then(|needle| position(frame, needle)).map(|_| None)
    }
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The parts of a frame's structure that do not change on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Its layers, without VLAN tags: the kernel removes them in some places and not in others.
    pub kinds: Vec<Kind>,
    /// Type of the innermost ICMP message: an echo reply differs from its request.
    pub icmp_type: Option<u8>,
    /// Tunnel headers: index of the layer, and VNI.
    pub tunnels: Vec<(usize, u32)>,
}

impl Shape {
    /// Reads the shape from a frame's bytes.
    pub fn of(frame: &[u8], decode: &Decode) -> Self {
        let layers = Dissection::of(frame, decode).stack.layers;
        let layers = || layers.iter().filter(|l| l.kind() != Kind::Dot1q);
        let icmp_type = |layer: &Layer| match layer {
            Layer::Icmp(message) => Some(message.icmp_type),
            Layer::Icmpv6(message) => Some(message.icmp_type),
            _ => None,
        };
        let vni = |layer: &Layer| match layer {
            Layer::Vxlan(header) => Some(header.vni),
            Layer::Gbp(header) => Some(header.vni),
            Layer::Gpe(header) => Some(header.vni),
            _ => None,
        };
        Self {
            kinds: layers().map(Layer::kind).collect(),
            icmp_type: layers().filter_map(icmp_type).next_back(),
            tunnels: layers().enumerate().filter_map(|(at, layer)| Some((at, vni(layer)?))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::probe::nonce::{Kind as NonceKind, Nonce};

    #[test]
    fn marks_are_found_anywhere_and_only_those_of_the_run() {
        let marks = Marks::new(7, Some(b"needle".to_vec()));
        let frame =
            |run| [&b"some header"[..], &Nonce { kind: NonceKind::Frame, run, cell: 9 }.bytes()].concat();
        assert_eq!(marks.find(&frame(7)), Some(Some(9)));
        assert_eq!(marks.find(&frame(8)), None);
        assert_eq!(marks.find(&frame(7)[..30]), None, "cut off in its number");
        assert_eq!(marks.find(b"hay needle hay"), Some(None));
        assert_eq!(Marks::new(7, Some(Vec::new())).find(b"hay"), None, "nothing is no needle");
        assert_eq!(marks.find(b""), None);
    }
}
