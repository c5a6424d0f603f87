//! The cells of one check as a table like the topology's, with the observed verdicts.

use std::collections::HashSet;

use anstyle::Style;
use indexmap::IndexMap;
use labctl_model::plain;

use crate::{CellReport, style, table::Table};

/// The table: sources down, destinations across, in the topology's order; `-` if nothing was probed, `OBSERVED≠EXPECTED`
/// if a cell is not as expected, `yes≠answer` if its answer is not.
pub fn table(cells: &[&CellReport]) -> String {
    let mut rows: IndexMap<&str, IndexMap<&str, &CellReport>> = IndexMap::new();
    for cell in cells {
        rows.entry(&cell.from).or_default().insert(&cell.to, cell);
    }
    let targets = merged(rows.values().map(|row| row.keys().copied()));
    let mut table = Table::new(std::iter::once("from\\to").chain(targets.iter().copied()));
    for (source, row) in &rows {
        let verdicts = targets.iter().map(|to| match row.get(to) {
            Some(cell) => verdict(cell),
            None => ("-".to_owned(), style::DIM),
        });
        table.row(std::iter::once(((*source).to_owned(), style::HEAD)).chain(verdicts));
    }
    table.render()
}

/// The order of the columns. Every row has them in order but lacks some, at least its own; so a column that a row adds
/// goes behind the one that it follows there.
fn merged<'a>(rows: impl Iterator<Item = impl Iterator<Item = &'a str>>) -> Vec<&'a str> {
    let (mut order, mut known): (Vec<&str>, HashSet<&str>) = Default::default();
    for row in rows {
        let mut last = None;
        for name in row {
            if known.insert(name) {
                let after = last.and_then(|l| order.iter().position(|n| *n == l));
                order.insert(after.map_or(0, |i| i + 1), name);
            }
            last = Some(name);
        }
    }
    order
}

fn verdict(cell: &CellReport) -> (String, Style) {
    let observed = cell.observed.word();
    match (cell.holds(), observed) {
        (false, _) if cell.unmet.is_some() => (format!("{observed}≠answer"), style::BAD),
        (false, _) => (format!("{observed}≠{}", cell.expected), style::BAD),
        (true, "yes") => (observed.to_owned(), style::GOOD),
        (true, _) => (observed.to_owned(), Style::new()),
    }
}

/// What a check probes, as a caption: `icmp`, `icmp of 1400 bytes`, `tcp/80 by name`.
pub fn caption(cell: &CellReport) -> String {
    let size = cell.size.map(|s| format!(" of {s} bytes")).unwrap_or_default();
    format!("{}{size}{}", cell.probe, if cell.by_name { " by name" } else { "" })
}

/// Renders a wrong cell in a line:
/// `c1 -> host1  icmp  expected no, observed yes: answered by c9  (topologies/x.yaml:23)`.
pub fn wrong(cell: &CellReport, topology: &str) -> String {
    let (bad, dim, topology) = (style::BAD, style::DIM, plain(topology));
    format!(
        "{bad}{} -> {}{bad:#}  {}  expected {}, observed {}{}  {dim}({topology}:{}){dim:#}\n",
        cell.from,
        cell.to,
        caption(cell),
        cell.expected,
        cell.observed.word(),
        match &cell.unmet {
            Some(unmet) => format!(", but {}", plain(unmet)),
            None => detail(&cell.detail),
        },
        cell.line
    )
}

fn detail(text: &str) -> String {
    match plain(text) {
        t if t.is_empty() => t,
        t => format!(": {t}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_in_the_order_of_the_topologys_table() {
        let rows = [vec!["b", "c", "8.8.8.8"], vec!["a", "c", "8.8.8.8"], vec!["a", "b", "x", "8.8.8.8"]];
        assert_eq!(merged(rows.into_iter().map(Vec::into_iter)), ["a", "b", "x", "c", "8.8.8.8"]);
    }
}
