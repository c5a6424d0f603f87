//! What is cut and blocked in a lab. On machines that exist, labctl keeps account of it itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;
use labctl_model::{Lab, Traffic};
use labctl_wire::{Block, LinkState};

/// The wire's name of the port that a NIC is plugged into.
pub(crate) fn port_name(host: &str, nic: &str) -> String {
    format!("{host}/{nic}")
}

/// A segment, and the ports there that frames come from and go to; `None` for any.
pub(crate) type Way = (String, Option<String>, Option<String>);

/// What is cut and blocked now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// Segment and state of ports that are cut.
    pub links: IndexMap<String, (String, LinkState)>,
    /// Blocks, each with its segment.
    pub blocks: Vec<(String, Block)>,
}

/// What is filtered on the machines: by a table of nftables on each, the lab's own.
#[derive(Debug)]
pub struct Filters(Mutex<Changes>);

impl Filters {
    /// The topology's own blocks.
    pub fn of(lab: &Lab) -> Self {
        let of_segment = |(name, segment): (&String, &labctl_model::Segment)| {
            let block = |filter: &Traffic| (name.clone(), Block { filter: *filter, from: None, to: None });
            segment.block.iter().map(block).collect::<Vec<_>>()
        };
        let blocks = lab.segments.iter().flat_map(of_segment).collect();
        Self(Mutex::new(Changes { blocks, ..Changes::default() }))
    }

    /// For changes, which the machines learn of by `apply` (`nics.rs`).
    pub(crate) fn state(&self) -> MutexGuard<'_, Changes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is cut and blocked now.
    pub(crate) fn changes(&self) -> Changes {
        self.state().clone()
    }
}
