//! A whole report for people: tables, wrong cells, facts, steps, and one closing line.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use labctl_model::{plain, plain_lines};

use crate::{CellReport, CheckReport, FactReport, Report, StepReport, cells, duration, style};

/// Renders the report as styled text. `topology` is the file that lines refer to.
pub fn text(report: &Report, topology: &str) -> String {
    let mut out = checks(report, None, topology);
    for step in &report.steps {
        separate(&mut out);
        out.push_str(&self::step(step, report.steps.len(), topology));
        let below = checks(report, Some(step.step), topology);
        if !below.is_empty() {
            separate(&mut out);
            out.push_str(&below);
        }
    }
    separate(&mut out);
    out.push_str(&closing(report));
    out
}

/// The whole report, without emphasis. Lines of the topology are given as `LAB:LINE`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = anstream::adapter::strip_str(&text(self, &self.lab)).to_string();
        f.write_str(&plain_lines(&text))
    }
}

/// Renders only what is wrong, a line each.
pub fn mistakes(report: &Report, topology: &str) -> String {
    let cells = report.cells.iter().filter(|c| !c.holds()).map(|c| cells::wrong(c, topology));
    let facts = report.facts.iter().filter(|f| !f.holds).map(|f| fact(f, topology));
    let steps = report.steps.iter().filter(|s| !s.holds).map(|s| step(s, report.steps.len(), topology));
    let captures = report.checks.iter().map(captures);
    cells.chain(facts).chain(steps).chain(captures).collect()
}

/// `30 of 30 cells, 2 of 2 facts, 4 of 4 steps`, `between` standing for ` of `; a report of nothing says so.
pub fn score(report: &Report, between: &str) -> String {
    let (good, all) = report.score();
    let parts = [
        (good, all, "cells"),
        (report.facts.iter().filter(|f| f.holds).count(), report.facts.len(), "facts"),
        (report.steps.iter().filter(|s| s.holds).count(), report.steps.len(), "steps"),
    ];
    let there = parts.iter().filter(|(_, all, _)| *all > 0);
    let said: Vec<_> = there.map(|(good, all, what)| format!("{good}{between}{all} {what}")).collect();
    if said.is_empty() { "nothing was expected".to_owned() } else { said.join(", ") }
}

fn closing(report: &Report) -> String {
    let took = duration(Duration::from_millis(report.took_ms));
    let (s, tail) = match (report.holds, report.cells.len() + report.facts.len() + report.steps.len()) {
        (true, 0) => (style::CAUTION, ""),
        (true, _) => (style::GOOD, " as expected"),
        (false, _) => (style::BAD, " as expected: it does not hold"),
    };
    format!("{s}{}{tail}{s:#} ({took})\n", score(report, " of "))
}

/// The checks of the lab itself, or of a step, in the topology's order.
fn checks(report: &Report, step: Option<usize>, topology: &str) -> String {
    let mut matrices: BTreeMap<usize, Vec<&CellReport>> = BTreeMap::new();
    for cell in report.cells.iter().filter(|c| c.step == step) {
        matrices.entry(cell.check).or_default().push(cell);
    }
    let mut facts: BTreeMap<usize, Vec<&FactReport>> = BTreeMap::new();
    for f in report.facts.iter().filter(|f| f.step == step) {
        facts.entry(f.check).or_default().push(f);
    }
    let mut indices: Vec<usize> = matrices.keys().chain(facts.keys()).copied().collect();
    indices.sort_unstable();
    // A matrix and what the wire must carry meanwhile share one.
    indices.dedup();
    let mut out = String::new();
    let mut after_table = false;
    for index in indices {
        if let Some(cells) = matrices.get(&index) {
            separate(&mut out);
            out.push_str(&matrix(cells, &settled(report.check(step, index)), topology));
            out.push_str(&report.check(step, index).map(captures).unwrap_or_default());
            after_table = true;
        }
        for f in facts.get(&index).into_iter().flatten() {
            if std::mem::take(&mut after_table) {
                separate(&mut out);
            }
            let line = fact(f, topology);
            out.push_str(&line.replacen('\n', &format!("{}\n", settled(report.check(step, index))), 1));
        }
    }
    out
}

/// How long a check took, if it was looked at more than once: `  (held after 3.2 s)`.
fn settled(check: Option<&CheckReport>) -> String {
    let Some(check) = check.filter(|c| c.looks > 1) else { return String::new() };
    let dim = style::DIM;
    let time = |ms| duration(Duration::from_millis(ms));
    match check.settled_ms {
        Some(ms) => format!("  {dim}(held after {}){dim:#}", time(ms)),
        None => format!("  {dim}(not within {}){dim:#}", time(check.within_ms)),
    }
}

/// Paths of the captures of the wire, a line each.
fn captures(check: &CheckReport) -> String {
    let dim = style::DIM;
    let one =
        |path: &PathBuf| format!("{dim}what the wire carried: {}{dim:#}\n", plain(&path.to_string_lossy()));
    check.captures.iter().map(one).collect()
}

fn matrix(cells: &[&CellReport], settled: &str, topology: &str) -> String {
    let Some(first) = cells.first() else { return String::new() };
    let (head, wrong) = (style::HEAD, cells.iter().filter(|c| !c.holds()));
    let list: String = wrong.map(|c| cells::wrong(c, topology)).collect();
    let gap = if list.is_empty() { "" } else { "\n" };
    format!("{head}{}{head:#}{settled}\n{}{gap}{list}", cells::caption(first), cells::table(cells))
}

/// A fact: that it holds, or what was found instead, the lines of a text below.
pub fn fact(f: &FactReport, topology: &str) -> String {
    let (subject, expected, topology) = (plain(&f.subject), plain(&f.expected), plain(topology));
    if f.holds {
        let good = style::GOOD;
        return format!("{good}ok{good:#}     {subject} {expected}\n");
    }
    let (bad, dim) = (style::BAD, style::DIM);
    let (observed, below) = match &f.error {
        Some(why) => apart(why),
        None if f.observed.is_empty() => ("nothing observed".to_owned(), String::new()),
        None if f.printed && f.observed.len() > 1 => ("observed".to_owned(), lines(&f.observed)),
        None => (format!("observed {}", plain(&f.observed.join(", "))), String::new()),
    };
    format!(
        "{bad}wrong{bad:#}  {subject}: expected {expected}, {observed}  {dim}({topology}:{}){dim:#}\n{below}",
        f.line
    )
}

/// Splits a text from elsewhere: its first line, and the others indented below it.
fn apart(text: &str) -> (String, String) {
    let mut all = text.lines();
    (all.next().map(plain).unwrap_or_default(), lines(all))
}

/// Lines from elsewhere, below what they belong to.
fn lines<L: AsRef<str>>(all: impl IntoIterator<Item = L>) -> String {
    all.into_iter().map(|line| format!("         {}\n", plain(line.as_ref()))).collect()
}

/// A step: the result of its actions, with further lines of a refusal below.
pub fn step(s: &StepReport, of: usize, topology: &str) -> String {
    let (head, dim) = (style::HEAD, style::DIM);
    let (message, below) = apart(&s.message);
    let topology = plain(topology);
    let end = if s.holds {
        let good = style::GOOD;
        let refused =
            if message.is_empty() { String::new() } else { format!(", refused as expected: {message}") };
        let settled = s.settled_ms.map(|ms| format!(", settled in {}", duration(Duration::from_millis(ms))));
        format!("{good}ok{good:#}{refused}{}", settled.unwrap_or_default())
    } else {
        let bad = style::BAD;
        format!("{bad}wrong{bad:#}: {message}  {dim}({topology}:{}){dim:#}", s.line)
    };
    format!("{head}step {}/{of}  {}{head:#} … {end}\n{below}", s.step + 1, plain(&s.name))
}

/// Adds an empty line between two parts.
fn separate(out: &mut String) {
    if !out.is_empty() && !out.ends_with("\n\n") {
        out.push('\n');
    }
}
