//! Groups the wrong cells of a matrix by what explains them.

use indexmap::IndexMap;
use labctl_model::{Expected, Observed};

use crate::{Cause, CellReport, MatrixReport};

/// At least one wrong cell: those that one cause explains, or that are alike.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// What explains them, if it is known.
    pub cause: Option<&'a Cause>,
    /// The cells, in the topology's order. Without a cause their verdicts and details are equal.
    pub cells: Vec<&'a CellReport>,
}

/// Groups the wrong cells: first those of the cause that explains most, then those of the cause that explains most of the
/// others, and so on. Cells without a cause come last, grouped by equal verdicts and details.
pub fn wrong(matrix: &MatrixReport) -> Vec<Group<'_>> {
    let mut left: Vec<&CellReport> = matrix.cells.iter().filter(|c| !c.holds).collect();
    let mut groups = Vec::new();
    while let Some(cause) = strongest(&left) {
        let (cells, others) = left.into_iter().partition(|c| c.causes.contains(cause));
        groups.push(Group { cause: Some(cause), cells });
        left = others;
    }
    let mut alike: IndexMap<(Expected, Observed, &str, Option<&str>), Vec<&CellReport>> = IndexMap::new();
    for cell in left {
        let key = (cell.expected, cell.observed, cell.detail.as_str(), cell.unmet.as_deref());
        alike.entry(key).or_default().push(cell);
    }
    groups.extend(alike.into_values().map(|cells| Group { cause: None, cells }));
    groups
}

/// The cause that explains most cells; the first one if several explain as many.
fn strongest<'a>(cells: &[&'a CellReport]) -> Option<&'a Cause> {
    let mut causes: Vec<(&Cause, usize)> = Vec::new();
    for cause in cells.iter().flat_map(|c| &c.causes) {
        match causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, count)) => *count += 1,
            None => causes.push((cause, 1)),
        }
    }
    let most = causes.iter().map(|(_, count)| *count).max()?;
    causes.into_iter().find(|(_, count)| *count == most).map(|(cause, _)| cause)
}

#[cfg(test)]
mod tests {
    use labctl_model::{No, Probe};
    use proptest::prelude::*;

    use super::*;

    fn down(host: &str) -> Cause {
        Cause::HostDown { host: host.to_owned() }
    }

    /// A matrix of cells, each with a detail, the hosts that explain it, and whether it is wrong.
    fn matrix(cells: &[(String, Vec<String>, bool)]) -> MatrixReport {
        let cell = |(n, (detail, causes, wrong)): (usize, &(String, Vec<String>, bool))| CellReport {
            from: "a".into(),
            to: n.to_string(),
            expected: Expected::Yes,
            observed: if *wrong { Observed::No(No::Silent) } else { Observed::Yes },
            holds: !wrong,
            detail: detail.clone(),
            causes: causes.iter().map(|host| down(host)).collect(),
            rtt_us: None,
            answered_by: Vec::new(),
            source: Vec::new(),
            unmet: None,
            line: 1,
        };
        let cells = cells.iter().enumerate().map(cell).collect();
        MatrixReport { probe: Probe::Icmp, size: None, by_name: false, cells }
    }

    #[test]
    fn what_explains_most_comes_first() {
        let cell = |causes: &[&str]| (String::new(), causes.iter().map(|c| (*c).to_owned()).collect(), true);
        let cells = [cell(&["x"]), cell(&["x", "y"]), cell(&["y", "z"]), cell(&["y"]), cell(&[]), cell(&[])];
        let matrix = matrix(&cells);
        let found: Vec<_> = wrong(&matrix).iter().map(|g| (g.cause.cloned(), g.cells.len())).collect();
        assert_eq!(found, [(Some(down("y")), 3), (Some(down("x")), 1), (None, 2)]);
    }

    proptest! {
        #[test]
        fn every_wrong_cell_is_in_one_group(
            cells in proptest::collection::vec(
                ("[ab]?", proptest::collection::vec("[x-z]", 0..3), any::<bool>()), 0..20)
        ) {
            let matrix = matrix(&cells);
            let groups = wrong(&matrix);
            prop_assert!(groups.iter().all(|g| !g.cells.is_empty()));
            let mut named: Vec<usize> =
                groups.iter().flat_map(|g| &g.cells).filter_map(|c| c.to.parse().ok()).collect();
            named.sort_unstable();
            let there: Vec<usize> =
                cells.iter().enumerate().filter(|(_, c)| c.2).map(|(n, _)| n).collect();
            prop_assert_eq!(named, there);
        }
    }
}
