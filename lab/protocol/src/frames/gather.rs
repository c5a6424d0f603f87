//! Counts a run's frames at one place, by kind.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use vxlan::Decode;

use super::known::{Marks, Shape};
use crate::messages::SeenFrame;

/// Most kinds that are kept.
const MOST: usize = 10_000;

/// What frames of one kind share: interface, direction, mark and layers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    interface: u32,
    inbound: bool,
    for_us: bool,
    mark: Option<u32>,
    shape: Shape,
}

/// The frames of one run that passed the interfaces of one place.
#[derive(Debug)]
pub struct Gathered {
    marks: Marks,
    decode: Decode,
    /// For each kind, the number of frames and the bytes of the first.
    kinds: HashMap<Kind, (u64, Vec<u8>)>,
    uncounted: u64,
}

impl Gathered {
    /// Begins with no frames. UDP to one of `vxlan_ports` is read as VXLAN.
    pub fn new(marks: Marks, vxlan_ports: Vec<u16>) -> Self {
        let decode = Decode { vxlan_ports, ..Decode::default() };
        Self { marks, decode, kinds: HashMap::new(), uncounted: 0 }
    }

    /// Counts a frame that passes an interface; frames of other runs are ignored. `for_us` as in [`SeenFrame`].
    pub fn see(&mut self, interface: u32, inbound: bool, for_us: bool, frame: &[u8]) {
        let Some(mark) = self.marks.find(frame) else { return };
        let kind = Kind { interface, inbound, for_us, mark, shape: Shape::of(frame, &self.decode) };
        if self.kinds.len() < MOST || self.kinds.contains_key(&kind) {
            self.kinds.entry(kind).or_insert_with(|| (0, frame.to_vec())).0 += 1;
        } else {
            self.uncounted += 1;
        }
    }

    /// Interfaces that frames passed.
    pub fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.kinds.keys().map(|kind| kind.interface)
    }

    /// Frames of the run that were not counted because there were too many kinds.
    pub fn uncounted(&self) -> u64 {
        self.uncounted
    }

    /// The frames seen so far, for the endpoints that live there.
    pub fn tell(&self, endpoints: &[String], interface: impl Fn(u32) -> String) -> Vec<SeenFrame> {
        let seen = self.kinds.iter().map(|(kind, (count, frame))| SeenFrame {
            endpoints: endpoints.to_vec(),
            interface: interface(kind.interface),
            inbound: kind.inbound,
            for_us: kind.for_us,
            mark: kind.mark,
            count: *count,
            frame: STANDARD.encode(frame),
        });
        seen.collect()
    }
}
