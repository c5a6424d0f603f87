//! Which cells of a page have the oracle's walk, and these walks.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::once,
};

use labctl_model::{Check, Lab};
use labctl_oracle::{Place, Way};
use labctl_report::{CellReport, Found, Report};

/// Most walks of a page: with all of its hops one is 1 to 2 kB.
const MOST: usize = 1000;

/// The walks of a report's cells by their places. First of those where something is wrong, then of others, as far as there
/// is room.
pub fn of(report: &Report, lab: &Lab) -> BTreeMap<Place, Vec<Way>> {
    let cells = cells(report, lab);
    let (wrong, others): (Vec<_>, Vec<_>) = cells.into_iter().partition(|(_, cell)| {
        !cell.holds || cell.predicted.as_ref().is_some_and(|p| p.agrees == Some(false))
    });
    let chosen: BTreeSet<_> = wrong.into_iter().chain(others).take(MOST).map(|(place, _)| place).collect();
    labctl_oracle::walks(&lab.after(&report.after), &chosen)
}

/// The cells of a report that the lab has, too: a report from a file may be older than its topology.
fn cells<'a>(report: &'a Report, lab: &Lab) -> Vec<(Place, &'a CellReport)> {
    let found = once(&report.checks).chain(report.steps.iter().map(|s| &s.checks));
    let expected = once(&lab.expect).chain(lab.steps.iter().map(|s| &s.expect));
    let mut all = Vec::new();
    for (stage, (found, expected)) in found.zip(expected).enumerate() {
        for (n, (found, expected)) in found.iter().zip(expected).enumerate() {
            let (Found::Matrix(found), Check::Matrix(expected)) = (&found.found, expected) else { continue };
            let both = found.cells.iter().zip(&expected.cells).enumerate();
            let same = both.filter(|(_, (cell, own))| {
                found.probe == expected.probe && cell.from == own.from && cell.to == own.to.to_string()
            });
            all.extend(same.map(|(cell, (report, _))| ((stage, n, cell), report)));
        }
    }
    all
}
