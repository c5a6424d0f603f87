//! One cell that somebody asks about.

use labctl_model::{By, Cell, Matrix, Probe, Probed, Target};

/// What is to be explained.
#[derive(Clone, Debug)]
pub struct Query {
    /// A host, container or peer.
    pub from: String,
    /// What it probes.
    pub to: Target,
    /// The probe.
    pub probe: Probe,
    /// Whether by address or by name.
    pub by: By,
    /// The address family, as in a table.
    pub family: Probed,
    /// The size, as in a table.
    pub size: Option<u32>,
    /// After how many steps.
    pub step: usize,
}

impl Query {
    /// A matrix of these cells, probed as the query wants it.
    pub(crate) fn matrix(&self, cells: Vec<Cell>) -> Matrix {
        Matrix { size: self.size, by: self.by, family: self.family, ..matrix(self.probe.clone(), cells) }
    }
}

/// A matrix of these cells, probed by address.
pub(crate) fn matrix(probe: Probe, cells: Vec<Cell>) -> Matrix {
    Matrix {
        probe,
        size: None,
        by: By::Address,
        family: Probed::default(),
        timeout: labctl_model::DEFAULT_TIMEOUT,
        within: std::time::Duration::ZERO,
        cells,
        answers: Vec::new(),
        wire: Vec::new(),
        line: 0,
    }
}
