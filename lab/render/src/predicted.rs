//! Predictions as text: matrices, walks, and how many expectations they agree with.

use std::collections::BTreeMap;

use anstyle::Style;
use indexmap::IndexMap;
use labctl_model::{Action, Check, Lab};
use labctl_oracle::{
    Agreement, CellPrediction, ChangedCell, Checked, Comparison, Explanation, Hop, Predictions, Repair,
    Stage, Way,
};
use labctl_report::{
    CellReport, CheckReport, Found, Predicted, Report, cells, count, grid::grid, style, table::Table,
};
use labctl_words::plain;

use crate::beside::{Beside, Followed, Sight};

/// Most cells of a lab that are predicted by the way: some seconds' worth would be a surprise.
const MOST_BY_THE_WAY: usize = 50_000;
/// Most cells of a report that are held against the oracle.
const MOST_BESIDE: usize = 12;

/// Predicts a lab, unless it is so large that one would wait for it.
pub fn by_the_way(lab: &Lab) -> Option<Predictions> {
    (expected_cells(lab) <= MOST_BY_THE_WAY).then(|| labctl_oracle::predict(lab))
}

/// How many cells all matrices of a lab have.
pub fn expected_cells(lab: &Lab) -> usize {
    let checks = lab.expect.iter().chain(lab.steps.iter().flat_map(|s| &s.expect));
    let of = |check: &Check| match check {
        Check::Matrix(m) => m.cells.len(),
        _ => 0,
    };
    checks.map(of).sum()
}

/// Notes in each cell of these reports what the oracle says of it.
pub fn join<'a>(reports: impl IntoIterator<Item = &'a mut Report>, lab: &Lab) {
    let mut last: Option<(&[Action], Predictions)> = None;
    for report in reports {
        let (checks, steps, after) = (&mut report.checks, &mut report.steps, &report.after[..]);
        let predictions = match last.take().filter(|(done, _)| *done == after) {
            Some((_, predictions)) => predictions,
            None => match by_the_way(&lab.after(after)) {
                Some(predictions) => predictions,
                None => return,
            },
        };
        // Both are in the topology's order; a lab that died has not come to all of it.
        let stages = std::iter::once(checks).chain(steps.iter_mut().map(|s| &mut s.checks));
        stages.zip(&predictions.scenes).for_each(|(checks, stage)| note(checks, stage, !after.is_empty()));
        last = Some((after, predictions));
    }
}

/// Notes in the cells of these checks what the oracle says of them. `changed`: the lab is not what the topology says.
fn note(checks: &mut [CheckReport], stage: &Stage, changed: bool) {
    let observed = checks.iter_mut().filter_map(|c| match &mut c.found {
        Found::Matrix(matrix) => Some(&mut matrix.cells),
        Found::Fact(_) | Found::Frame(_) => None,
    });
    let predicted = stage.checks.iter().filter_map(|c| match c {
        Checked::Matrix { cells, .. } => Some(cells),
        Checked::Other { .. } => None,
    });
    for (cell, p) in observed.zip(predicted).flat_map(|(observed, p)| observed.iter_mut().zip(p)) {
        let (agrees, why) = match &p.agreement {
            Agreement::Agrees => (Some(true), String::new()),
            Agreement::Differs(why) => (Some(false), why.clone()),
            Agreement::Unknown(why) => (None, why.clone()),
        };
        let outdated = changed && agrees == Some(false) && is_one_of(&p.predicted, cell.observed.word());
        let why = if outdated { "the lab was changed since it came up".to_owned() } else { why };
        cell.predicted = Some(Predicted { word: p.predicted.clone(), agrees, outdated, why });
    }
}

/// Whether a prediction such as `arp|silent` has this word.
fn is_one_of(predicted: &str, observed: &str) -> bool {
    predicted.split('|').any(|word| word == observed)
}

/// What the oracle says of the cells of a report that came out otherwise than expected; empty if there are none.
pub fn beside(report: &Report) -> String {
    let matrices = report.all_checks().filter_map(|(_, check)| match &check.found {
        Found::Matrix(matrix) => Some(matrix),
        Found::Fact(_) | Found::Frame(_) => None,
    });
    let wrong = matrices.flat_map(|m| m.cells.iter().filter(|c| !c.holds).map(move |c| (m, c)));
    let mut alike: IndexMap<(String, String), Vec<&CellReport>> = IndexMap::new();
    for (matrix, cell) in wrong {
        if let Some(said) = said(cell) {
            alike.entry((cells::caption(matrix), said)).or_default().push(cell);
        }
    }
    let head = style::HEAD;
    let group = |((caption, said), all): (&(String, String), &Vec<&CellReport>)| {
        let said = plain(said);
        match all[..] {
            [cell] => {
                let (from, to) = (plain(&cell.from), plain(&cell.to));
                format!("{head}oracle{head:#}  {from} -> {to}  {caption}  {said}\n")
            }
            _ => {
                // Which these are is told above.
                let expected =
                    all.iter().all(|c| c.predicted.as_ref().is_some_and(|p| p.agrees == Some(true)));
                let which = if expected { String::new() } else { cells::which(all) };
                format!("{head}oracle{head:#}  {} cells  {caption}  {said}\n{which}", all.len())
            }
        }
    };
    let mut out: String = alike.iter().take(MOST_BESIDE).map(group).collect();
    match alike.values().skip(MOST_BESIDE).map(Vec::len).sum() {
        0 => {}
        more => out += &format!("oracle  and {more} more: labctl predict\n"),
    }
    out
}

/// `predicted silent, as observed, so the expectation is wrong: host1: filter …`; `None` if the oracle was not asked.
pub fn said(cell: &CellReport) -> Option<String> {
    let Predicted { word, agrees, outdated, why } = cell.predicted.as_ref()?;
    if *outdated {
        return Some(format!("predicted {word}, as observed: {why}"));
    }
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    Some(match agrees {
        Some(true) => format!("predicted {word}, as expected"),
        Some(false) if is_one_of(word, cell.observed.word()) => {
            format!("predicted {word}, as observed, so the expectation is wrong{why}")
        }
        Some(false) => format!("predicted {word}, which is neither{why}"),
        None => format!("cannot say{why}"),
    })
}

/// All predictions of a lab.
pub fn text(predictions: &Predictions, topology: &str, wide: bool) -> String {
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
                    let words = cells.iter().map(|c| (c.from.as_str(), c.to.as_str(), word(c)));
                    out += &grid(words, wide);
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
    out.extend(cell.walks.iter().map(|way| walk(way, None)));
    out
}

/// The cells that come out otherwise in another topology.
pub fn compared_with(found: &Comparison, topology: &str, other: &str) -> String {
    let (head, good, bad, dim) = (style::HEAD, style::GOOD, style::BAD, style::DIM);
    let mut out = String::new();
    let mut heading = None;
    for cell in &found.differing {
        let under = (&cell.step, &cell.probe);
        if heading != Some(under) {
            let step = cell.step.as_ref().map(|s| format!("step {}: ", plain(s))).unwrap_or_default();
            out += &format!("{head}{step}{}{head:#}\n", plain(&cell.probe));
            heading = Some(under);
        }
        let why = if cell.why.is_empty() { String::new() } else { format!(": {}", plain(&cell.why)) };
        out += &format!(
            "{} -> {}  {}, there {}{why}  {dim}({}:{}){dim:#}\n",
            plain(&cell.from),
            plain(&cell.to),
            cell.here,
            cell.there,
            plain(topology),
            cell.line
        );
    }
    let (differing, compared) = (found.differing.len(), count(found.compared, "cell"));
    let style = if differing == 0 { good } else { bad };
    let absent = match found.absent {
        0 => String::new(),
        n => format!("; {n} more have an end that it lacks"),
    };
    let unknown = if found.unknown == 0 { String::new() } else { format!("; {} unknown", found.unknown) };
    out + &format!(
        "{style}{compared} compared with {}: {differing} different{style:#}{unknown}{absent}\n",
        plain(other)
    )
}

/// The walk behind a cell, and what was seen of it.
pub fn explained(e: &Explanation, observed: Option<&Beside>) -> String {
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
    for (n, way) in e.walks.iter().enumerate() {
        out += &walk(way, observed.and_then(|o| o.walks.get(n)));
    }
    out += &observed.map(seen).unwrap_or_default();
    out + &repairs(&e.repairs)
}

/// What came of the probe, and where it was otherwise than the walks say.
fn seen(o: &Beside) -> String {
    let (style, said) = match o.agrees {
        Some(true) => (style::GOOD, "as predicted"),
        Some(false) => (style::BAD, "not as predicted"),
        None => (style::CAUTION, "which nobody could say before"),
    };
    let detail = if o.detail.is_empty() { String::new() } else { format!(": {}", plain(&o.detail)) };
    let mut out = format!("{style}observed {}, {said}{style:#}{detail}\n", o.verdict);
    // Where it may go several ways, it has gone one of them.
    if let Some(Some(first)) = o.walks.iter().map(|w| &w.parts_at).min_by_key(|at| at.is_some()) {
        out += &format!("not seen first at {}, where the walk says it is\n", plain(first));
    }
    o.elsewhere.iter().for_each(|place| out += &format!("seen besides: {}\n", plain(place)));
    out
}

/// Changes that would make it `yes`, each with the other cells that it changes.
fn repairs(repairs: &[Repair]) -> String {
    let (head, dim) = (style::HEAD, style::DIM);
    let Some(compared) = repairs.first().map(|r| r.compared) else { return String::new() };
    let others = count(compared, "other cell");
    let mut out = format!("{head}any of these makes it yes{head:#}  {dim}{others} compared{dim:#}\n");
    for (n, repair) in repairs.iter().enumerate() {
        let cell =
            |c: &ChangedCell| format!("{} -> {} {} > {}", plain(&c.from), plain(&c.to), c.was, c.becomes);
        let more = if repair.changes > repair.cells.len() { ", …" } else { "" };
        let cells: Vec<String> = repair.cells.iter().map(cell).collect();
        let changes = match repair.changes {
            0 => "changes no other".to_owned(),
            n => format!("changes {n}: {}{more}", cells.join(", ")),
        };
        out += &format!("{dim}{:>4}{dim:#}  {}\n      {dim}{changes}{dim:#}\n", n + 1, plain(&repair.change));
    }
    out
}

fn walk(way: &Way, seen: Option<&Followed>) -> String {
    let style = if way.verdict == "yes" { style::GOOD } else { style::BAD };
    let by = way.answered_by.as_ref().map(|by| format!("answered by {by}"));
    let source = way.source.map(|s| format!("which sees {s} as the source"));
    let answered: Vec<String> = by.into_iter().chain(source).collect();
    let why = if way.why.is_empty() { answered.join(", ") } else { way.why.clone() };
    let colon = if why.is_empty() { "" } else { ": " };
    let mut out = String::new();
    if !way.there.is_empty() {
        out += &format!("the request\n{}", hops(&way.there, seen.map(|s| s.there.as_slice())));
    }
    if !way.back.is_empty() {
        out += &format!("the answer\n{}", hops(&way.back, seen.map(|s| s.back.as_slice())));
    }
    out + &format!("{style}{}{style:#}{colon}{}\n", way.verdict, plain(&why))
}

fn hops(hops: &[Hop], seen: Option<&[Sight]>) -> String {
    let mut table = Table::default();
    for (n, hop) in hops.iter().enumerate() {
        let number = format!("{:>4}", n + 1);
        let row = [(number, style::DIM), (hop.at.clone(), style::HEAD), (hop.packet.clone(), Style::new())];
        let seen = seen.and_then(|s| s.get(n)).map(|sight| match sight.seen {
            Some(true) => (format!("seen {}", sight.how), style::GOOD),
            Some(false) => ("not seen".to_owned(), style::BAD),
            None => (String::new(), Style::new()),
        });
        table.row(row.into_iter().chain(seen).chain([(hop.by.clone(), Style::new())]));
    }
    table.render()
}
