//! Renders the cells of one check: a table like the topology's, with the observed verdicts, and the wrong cells in words.

use anstyle::Style;
use indexmap::IndexSet;
use labctl_model::Observed;
use labctl_words::plain;

use crate::{
    Cause, CellReport, MatrixReport,
    grid::{by_row, grid, merged},
    groups::{self, Group},
    pairs::{self, Pairs},
    style,
};

/// Most lines for the cells of one cause.
const MOST_LINES: usize = 3;

/// The table: `-` if nothing was probed, `OBSERVED≠EXPECTED` if a cell is not as expected, `yes≠answer` if its answer is
/// not. `whole`: however wide it is.
pub fn table(cells: &[CellReport], whole: bool) -> String {
    grid(cells.iter().map(|c| (c.from.as_str(), c.to.as_str(), verdict(c))), whole)
}

/// The sources and the destinations of these cells, each once, in the order of the rows and columns of their table.
pub fn axes(cells: &[CellReport]) -> (Vec<&str>, Vec<&str>) {
    let rows = by_row(cells.iter().map(|c| (c.from.as_str(), c.to.as_str(), ())));
    let columns = merged(rows.values().map(|row| row.keys().copied()));
    (rows.into_keys().collect(), columns)
}

fn verdict(cell: &CellReport) -> (String, Style) {
    let style = match (cell.holds, cell.observed) {
        (false, _) => style::BAD,
        (true, Observed::Yes) => style::GOOD,
        (true, _) => Style::new(),
    };
    (word(cell), style)
}

/// The word of a cell in a table: what was observed, and if it is not as expected, what was.
pub fn word(cell: &CellReport) -> String {
    let observed = cell.observed.word();
    match cell.holds {
        true => observed.to_owned(),
        false if cell.unmet.is_some() => format!("{observed}≠answer"),
        false => format!("{observed}≠{}", cell.expected),
    }
}

/// What a matrix probes, as a caption: `icmp`, `icmp of 1400 bytes`, `icmp over IPv6`, `tcp/80 by name`.
pub fn caption(matrix: &MatrixReport) -> String {
    let size = matrix.size.map(|s| format!(" of {s} bytes")).unwrap_or_default();
    let over = matrix.family.map(|f| format!(" over {f}")).unwrap_or_default();
    format!("{}{size}{over}{}", matrix.probe, if matrix.by_name { " by name" } else { "" })
}

/// Renders the wrong cells of a matrix. A cell that is alone with its cause is one line. Several cells with one cause are
/// one line with the cells below. `lab` is one that is up: then also what ends the cause.
pub fn mistakes(matrix: &MatrixReport, topology: &str, lab: Option<&str>) -> String {
    let one = |group: &Group<'_>| {
        let told = match group.cells[..] {
            [cell] => wrong(matrix, cell, topology),
            _ => several(matrix, group, topology),
        };
        match (lab, group.cause.and_then(Cause::way_out)) {
            (Some(lab), Some(action)) => {
                format!("{told}    way out: labctl do {} {}\n", plain(lab), plain(&action))
            }
            _ => told,
        }
    };
    groups::wrong(matrix).iter().map(one).collect()
}

/// Renders a wrong cell in a line:
/// `c1 -> host1  icmp  expected no, observed yes: answered by c9  (topologies/x.yaml:23)`.
pub fn wrong(matrix: &MatrixReport, cell: &CellReport, topology: &str) -> String {
    let mut why = why(cell);
    for cause in cell.causes.iter().map(ToString::to_string) {
        // Sometimes the detail is the cause.
        if !why.contains(&cause) {
            why += &format!("{}{cause}", if why.is_empty() { ": " } else { "; " });
        }
    }
    let what = format!("{} -> {}", cell.from, cell.to);
    told(matrix, &what, &[cell], &why, topology)
}

/// Renders cells with one cause:
/// `16 cells  icmp  expected yes, observed silent: host2 is cut off from lan (host2/eth0)  (topologies/x.yaml:31-34)`,
/// then which cells these are: `host1, c1-1 -> host2, c2-1, and back`.
fn several(matrix: &MatrixReport, group: &Group<'_>, topology: &str) -> String {
    let why = match (group.cause, group.cells.first()) {
        (Some(cause), _) => format!(": {cause}"),
        (None, cell) => {
            let more = if group.cells.iter().all(|c| cell.is_some_and(|f| f.detail == c.detail)) {
                ""
            } else {
                ", and alike"
            };
            cell.map(|c| why(c) + more).unwrap_or_default()
        }
    };
    let what = format!("{} cells", group.cells.len());
    told(matrix, &what, &group.cells, &why, topology) + &which(&group.cells)
}

/// Which cells these are, in a few lines.
pub fn which(cells: &[&CellReport]) -> String {
    let mut out = String::new();
    let pairs = pairs::compress(cells.iter().map(|c| (c.from.as_str(), c.to.as_str())));
    let shown = pairs.len().min(MOST_LINES);
    let (shown, hidden) = pairs.split_at(shown);
    shown.iter().for_each(|pairs| out += &format!("    {}\n", plain(&pairs.to_string())));
    match hidden.iter().map(Pairs::count).sum() {
        0 => {}
        more => out += &format!("    and {more} more\n"),
    }
    out
}

/// Renders a line about cells: which cells, their verdicts, why, and where they are in the topology.
fn told(matrix: &MatrixReport, what: &str, cells: &[&CellReport], why: &str, topology: &str) -> String {
    let (bad, dim, topology) = (style::BAD, style::DIM, plain(topology));
    let words = |of: fn(&CellReport) -> String| {
        let different: IndexSet<String> = cells.iter().map(|c| of(c)).collect();
        different.into_iter().collect::<Vec<_>>().join(" or ")
    };
    let (first, last) = (cells.iter().map(|c| c.line).min(), cells.iter().map(|c| c.line).max());
    let lines = match (first.unwrap_or_default(), last.unwrap_or_default()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    format!(
        "{bad}{what}{bad:#}  {}  expected {}, observed {}{}  {dim}({topology}:{lines}){dim:#}\n",
        caption(matrix),
        words(|c| c.expected.to_string()),
        words(|c| c.observed.word().to_owned()),
        plain(why),
    )
}

/// The words that follow a cell's verdicts: `: last seen leaving c1/eth0`.
fn why(cell: &CellReport) -> String {
    match &cell.unmet {
        Some(unmet) => format!(", but {unmet}"),
        None if cell.detail.is_empty() => String::new(),
        None => format!(": {}", cell.detail),
    }
}
