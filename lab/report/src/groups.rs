//! Groups the wrong cells of a matrix by what explains them.

use std::cmp::Reverse;

use indexmap::{IndexMap, IndexSet};
use labctl_model::{Expected, Observed};

use crate::{Cause, CellReport, MatrixReport};

/// At least one wrong cell: those that one cause explains, or that are alike.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// What explains them, if it is known.
    pub cause: Option<&'a Cause>,
    /// The cells, in the topology's order. Without a cause their verdicts are equal, and their details but for the cells' own
    /// names and addresses.
    pub cells: Vec<&'a CellReport>,
}

/// Groups the wrong cells: first those of the cause that explains most (of several the first), then those of the cause that
/// explains most of the others, and so on.
pub fn wrong(matrix: &MatrixReport) -> Vec<Group<'_>> {
    let wrong: Vec<&CellReport> = matrix.cells.iter().filter(|c| !c.holds).collect();
    // By cause, the cells that it explains, and how many of these no other has yet.
    let mut explained: IndexMap<&Cause, Vec<usize>> = IndexMap::new();
    for (n, cell) in wrong.iter().enumerate() {
        for cause in &cell.causes {
            let cells = explained.entry(cause).or_default();
            // A cell may name a cause twice.
            if cells.last() != Some(&n) {
                cells.push(n);
            }
        }
    }
    let mut left: Vec<usize> = explained.values().map(Vec::len).collect();
    let mut taken = vec![false; wrong.len()];
    let mut groups = Vec::new();
    while let Some((most, _)) =
        left.iter().enumerate().filter(|(_, left)| **left > 0).max_by_key(|(n, left)| (**left, Reverse(*n)))
    {
        let Some((cause, all)) = explained.get_index(most) else { break };
        let cells: Vec<usize> = all.iter().copied().filter(|n| !taken[*n]).collect();
        for n in &cells {
            taken[*n] = true;
            let others: IndexSet<usize> =
                wrong[*n].causes.iter().filter_map(|c| explained.get_index_of(c)).collect();
            others.into_iter().for_each(|other| left[other] -= 1);
        }
        groups.push(Group { cause: Some(cause), cells: cells.into_iter().map(|n| wrong[n]).collect() });
    }
    let mut alike: IndexMap<(Expected, Observed, String, Option<&str>), Vec<&CellReport>> = IndexMap::new();
    for cell in wrong.iter().zip(taken).filter(|(_, taken)| !taken).map(|(cell, _)| *cell) {
        let key = (cell.expected, cell.observed, pattern(cell), cell.unmet.as_deref());
        alike.entry(key).or_default().push(cell);
    }
    groups.extend(alike.into_values().map(|cells| Group { cause: None, cells }));
    groups
}

/// A cell's detail without the names of the cell and without addresses: `nobody answers FROM's ARP for ADDRESS`.
fn pattern(cell: &CellReport) -> String {
    let word = |word: &str| {
        let bare = word.trim_end_matches([',', ';', ':', '.', ')']).trim_start_matches('(');
        let (name, rest) = bare.split_once(['\'', '/']).unwrap_or((bare, ""));
        match name {
            _ if name == cell.from => format!("\u{1}{rest}"),
            _ if name == cell.to => format!("\u{2}{rest}"),
            _ if bare.parse::<std::net::IpAddr>().is_ok() => "\u{3}".to_owned(),
            _ => word.to_owned(),
        }
    };
    cell.detail.split(' ').map(word).collect::<Vec<_>>().join(" ")
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
            predicted: None,
            marks: Vec::new(),
            passages: Vec::new(),
            line: 1,
        };
        let cells = cells.iter().enumerate().map(cell).collect();
        MatrixReport { probe: Probe::Icmp, size: None, family: None, by_name: false, cells }
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
