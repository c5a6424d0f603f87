//! What differs between two topologies, by the cells that the first one probes.

use labctl_model::{Check, Lab, Target};
use serde::Serialize;

use crate::{
    cell::{Foretold, Scene, Way},
    predict::caption,
    state::State,
};

/// What comes out otherwise in another topology.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// How many cells were compared.
    pub compared: usize,
    /// Cells of the first topology with an end that the other one lacks.
    pub absent: usize,
    /// Cells of which the oracle cannot say in one of the two.
    pub unknown: usize,
    /// The cells that differ.
    pub differing: Vec<DifferingCell>,
}

/// A cell that comes out otherwise in another topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DifferingCell {
    /// The step after which it does; `None`: in the lab as it comes up.
    pub step: Option<String>,
    /// What is probed.
    pub probe: String,
    /// Source.
    pub from: String,
    /// Destination.
    pub to: String,
    /// The word in the first topology.
    pub here: String,
    /// The word in the other one.
    pub there: String,
    /// Why it ends where it ends: in the other topology, or in the first one if the other answers.
    pub why: String,
    /// The cell's line in the first topology.
    pub line: u32,
}

/// Predicts the cells that `lab` probes in both topologies. Each of its steps is held against the step of the same number
/// of the other one; a topology without so many stays as its last one left it.
pub fn compare(lab: &Lab, other: &Lab) -> Comparison {
    let (mut here, mut there) = (State::new(lab), State::new(other));
    let mut found = Comparison::default();
    found.stage(None, [&here, &there], &lab.expect, other);
    let mut steps = other.steps.iter();
    for step in &lab.steps {
        here.apply(step);
        if let Some(step) = steps.next() {
            there.apply(step);
        }
        found.stage(Some(&step.name), [&here, &there], &step.expect, other);
    }
    found
}

impl Comparison {
    fn stage(
        &mut self,
        step: Option<&String>,
        [here, there]: [&State<'_>; 2],
        checks: &[Check],
        other: &Lab,
    ) {
        if checks.is_empty() {
            return;
        }
        let (here, there) = (Scene::new(here), Scene::new(there));
        for check in checks {
            let Check::Matrix(matrix) = check else { continue };
            let (listen_here, listen_there) = (here.listeners(matrix), there.listeners(matrix));
            for cell in &matrix.cells {
                if !(other.is_endpoint(&cell.from) && has(other, &cell.to)) {
                    self.absent += 1;
                    continue;
                }
                self.compared += 1;
                let before = here.predict(matrix, cell, &listen_here);
                let after = there.predict(matrix, cell, &listen_there);
                if [&before, &after].iter().any(|p| matches!(p.foretold, Foretold::Unknown(_))) {
                    self.unknown += 1;
                    continue;
                }
                let (here, there) = (before.foretold.text(), after.foretold.text());
                if here == there {
                    continue;
                }
                let why = end(&after.ways).or(end(&before.ways)).unwrap_or_default();
                self.differing.push(DifferingCell {
                    step: step.cloned(),
                    probe: caption(matrix),
                    from: cell.from.clone(),
                    to: cell.to.to_string(),
                    here,
                    there,
                    why,
                    line: cell.line,
                });
            }
        }
    }
}

/// Why the first way that is not answered ends.
fn end(ways: &[Way]) -> Option<String> {
    ways.iter().find(|way| way.verdict != "yes").map(|way| way.why.clone())
}

/// Whether a topology has what a cell probes.
fn has(lab: &Lab, to: &Target) -> bool {
    match to {
        Target::Address(_) => true,
        Target::Endpoint { name, at } => {
            let is_place = |at: &String| lab.networks.contains_key(at) || lab.segments.contains_key(at);
            (lab.is_endpoint(name) || lab.services.contains_key(name)) && at.as_ref().is_none_or(is_place)
        }
    }
}
