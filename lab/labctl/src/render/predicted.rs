//! Predictions as text: matrices, walks, and how many expectations they agree with.

use std::collections::BTreeMap;

use anstyle::Style;
use labctl_oracle::{Agreement, CellPrediction, Checked, Explanation, Hop, Predictions, Way};

use super::{cells, count, table::Table};
use crate::printer::{plain, style};

/// All predictions of a lab.
pub fn text(predictions: &Predictions, topology: &str) -> String {
    let (head, bad, good, dim) = (style::HEAD, style::BAD, style::GOOD, style::DIM);
    let mut out = String::new();
    for stage in &predictions.scenes {
        if let Some(step) = &stage.step {
            out += &format!("{head}step {}{head:#}\n", plain(step));
        }
        for check in &stage.checks {
            match check {
                Checked::Matrix { probe, cells, .. } => {
                    out += &format!("{head}{}{head:#}\n", plain(probe));
                    out += &cells::grid(cells.iter().map(|c| (c.from.as_str(), c.to.as_str(), word(c))));
                    for cell in cells {
                        out += &differing(cell, probe, topology);
                    }
                    out.push('\n');
                }
                Checked::Other { what, line, agreement: Agreement::Differs(why) } => {
                    out += &format!(
                        "{bad}a {what} comes out otherwise{bad:#}: {}  {dim}({}:{line}){dim:#}\n",
                        plain(why),
                        plain(topology)
                    );
                }
                Checked::Other { .. } => {}
            }
        }
    }
    out += &reasons(predictions);
    let lab = &predictions.lab;
    match predictions.holds {
        true => out += &format!("{good}lab {lab}: {}{good:#}\n", summary(predictions)),
        false => out += &format!("{bad}lab {lab}: {}{bad:#}\n", summary(predictions)),
    }
    out
}

/// `the oracle agrees with 46 of 48 expectations; 2 unknown`.
pub fn summary(p: &Predictions) -> String {
    let differs = match p.differs {
        0 => String::new(),
        n => format!("; {n} it expects otherwise"),
    };
    let unknown = if p.unknown == 0 { String::new() } else { format!("; {} unknown", p.unknown) };
    format!(
        "the oracle agrees with {} of {}{differs}{unknown}",
        p.agrees,
        count(p.expectations, "expectation")
    )
}

/// What is unknown, and why.
fn reasons(p: &Predictions) -> String {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for agreement in p.scenes.iter().flat_map(|s| &s.checks).flat_map(Checked::agreements) {
        if let Agreement::Unknown(why) = agreement {
            *reasons.entry(why).or_default() += 1;
        }
    }
    let dim = style::DIM;
    reasons.iter().map(|(why, n)| format!("{dim}unknown, {n}: {}{dim:#}\n", plain(why))).collect()
}

fn word(cell: &CellPrediction) -> (String, Style) {
    match &cell.agreement {
        Agreement::Differs(_) if cell.predicted == cell.expected => ("yes≠answer".to_owned(), style::BAD),
        Agreement::Differs(_) => (format!("{}≠{}", cell.predicted, cell.expected), style::BAD),
        Agreement::Unknown(_) => (cell.predicted.clone(), style::CAUTION),
        Agreement::Agrees if cell.predicted == "yes" => (cell.predicted.clone(), style::GOOD),
        Agreement::Agrees => (cell.predicted.clone(), Style::new()),
    }
}

/// A cell that comes out otherwise than expected, with its walk.
fn differing(cell: &CellPrediction, probe: &str, topology: &str) -> String {
    let Agreement::Differs(why) = &cell.agreement else { return String::new() };
    let (bad, dim) = (style::BAD, style::DIM);
    let mut out = format!(
        "{bad}{} -> {}{bad:#}  {}  expected {}, predicted {}: {}  {dim}({}:{}){dim:#}\n",
        plain(&cell.from),
        plain(&cell.to),
        plain(probe),
        cell.expected,
        cell.predicted,
        plain(why),
        plain(topology),
        cell.line
    );
    out.extend(cell.walks.iter().map(walk));
    out
}

/// The walk behind a cell.
pub fn explained(e: &Explanation) -> String {
    let head = style::HEAD;
    let after = e.step.as_ref().map(|s| format!("  after step {}", plain(s))).unwrap_or_default();
    let mut out = format!(
        "{head}{} -> {}{head:#}  {}  {}{after}\n",
        plain(&e.from),
        plain(&e.to),
        plain(&e.probe),
        e.predicted
    );
    if let Some(why) = &e.unknown {
        out += &format!("unknown: {}\n", plain(why));
    }
    out.extend(e.walks.iter().map(walk));
    out
}

fn walk(way: &Way) -> String {
    let style = if way.verdict == "yes" { style::GOOD } else { style::BAD };
    let by = way.answered_by.as_ref().map(|by| format!("answered by {by}"));
    let source = way.source.map(|s| format!("which sees {s} as the source"));
    let answered: Vec<String> = by.into_iter().chain(source).collect();
    let why = if way.why.is_empty() { answered.join(", ") } else { way.why.clone() };
    let colon = if why.is_empty() { "" } else { ": " };
    let mut out = String::new();
    if !way.there.is_empty() {
        out += &format!("the request\n{}", hops(&way.there));
    }
    if !way.back.is_empty() {
        out += &format!("the answer\n{}", hops(&way.back));
    }
    out + &format!("{style}{}{style:#}{colon}{}\n", way.verdict, plain(&why))
}

fn hops(hops: &[Hop]) -> String {
    let mut table = Table::default();
    for (n, hop) in hops.iter().enumerate() {
        let number = format!("{:>4}", n + 1);
        let row = [(number, style::DIM), (hop.at.clone(), style::HEAD), (hop.packet.clone(), Style::new())];
        table.row(row.into_iter().chain([(hop.by.clone(), Style::new())]));
    }
    table.render()
}
