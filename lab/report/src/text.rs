//! Renders a whole report for people: tables, wrong cells, facts, steps, and one closing line.

use std::{fmt, path::PathBuf, time::Duration};

use labctl_words::{plain, plain_lines};

use crate::{CheckReport, FactReport, Found, MatrixReport, Report, StepReport, cells, duration, style};

/// Renders the report as styled text. `topology` is the file that lines refer to. `wide`: tables are shown whole, however
/// wide they are.
pub fn text(report: &Report, topology: &str, wide: bool) -> String {
    whole(report, topology, Some(&report.lab), wide)
}

/// `lab` is one that is up.
fn whole(report: &Report, topology: &str, lab: Option<&str>, wide: bool) -> String {
    let checks = |list: &[CheckReport]| checks(list, topology, lab, wide);
    let mut out = checks(&report.checks);
    for (n, step) in report.steps.iter().enumerate() {
        separate(&mut out);
        out.push_str(&self::step(step, (n, report.steps.len()), topology));
        let below = checks(&step.checks);
        if !below.is_empty() {
            separate(&mut out);
            out.push_str(&below);
        }
    }
    separate(&mut out);
    out.push_str(&kept(report));
    out.push_str(&closing(report));
    out
}

/// The whole report, without emphasis. Lines are given as `FILE:LINE`, or as `LAB:LINE` if the file is not known.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().unwrap_or(&self.lab);
        let text = anstream::adapter::strip_str(&whole(self, file, None, false)).to_string();
        f.write_str(&plain_lines(&text))
    }
}

/// Renders only what is wrong.
pub fn mistakes(report: &Report, topology: &str) -> String {
    let check = |c: &CheckReport| {
        let cells =
            if let Found::Matrix(m) = &c.found { cells::mistakes(m, topology, None) } else { String::new() };
        let facts: String = c.facts().filter(|f| !f.holds).map(|f| fact(f, topology)).collect();
        cells + &facts + &captures(c)
    };
    let mut out: String = report.checks.iter().map(check).collect();
    for (n, s) in report.steps.iter().enumerate() {
        if !s.actions.holds {
            out.push_str(&step(s, (n, report.steps.len()), topology));
        }
        out.extend(s.checks.iter().map(check));
    }
    out + &kept(report)
}

/// Says how much holds: `30 of 30 cells, 2 of 2 facts, 4 of 4 steps`, with `between` in the place of ` of `. A report of
/// nothing says so. A step counts by its actions: its checks are among the cells and facts.
pub fn score(report: &Report, between: &str) -> String {
    let of = |all: &mut dyn Iterator<Item = bool>| {
        all.fold((0, 0), |(good, all), holds| (good + usize::from(holds), all + 1))
    };
    let parts = [
        (of(&mut report.cells().map(|c| c.holds)), "cells"),
        (of(&mut report.facts().map(|f| f.holds)), "facts"),
        (of(&mut report.steps.iter().map(|s| s.actions.holds)), "steps"),
    ];
    let there = parts.iter().filter(|((_, all), _)| *all > 0);
    let said: Vec<_> = there.map(|((good, all), what)| format!("{good}{between}{all} {what}")).collect();
    if said.is_empty() { "nothing was expected".to_owned() } else { said.join(", ") }
}

fn closing(report: &Report) -> String {
    let took = duration(Duration::from_millis(report.took_ms));
    let (s, tail) = match (report.holds, report.checks.len() + report.steps.len()) {
        (true, 0) => (style::CAUTION, ""),
        (true, _) => (style::GOOD, " as expected"),
        (false, _) => (style::BAD, " as expected: it does not hold"),
    };
    format!("{s}{}{tail}{s:#} ({took})\n", score(report, " of "))
}

/// The checks of the lab itself, or of a step, in the topology's order.
fn checks(checks: &[CheckReport], topology: &str, lab: Option<&str>, wide: bool) -> String {
    let mut out = String::new();
    let mut after_table = false;
    for check in checks {
        if let Found::Matrix(found) = &check.found {
            separate(&mut out);
            out.push_str(&matrix(found, &settled(check), topology, lab, wide));
            out.push_str(&captures(check));
            after_table = true;
        }
        for f in check.facts() {
            if std::mem::take(&mut after_table) {
                separate(&mut out);
            }
            out.push_str(&fact(f, topology).replacen('\n', &format!("{}\n", settled(check)), 1));
        }
    }
    out
}

/// How long a check took, if it was looked at more than once: `  (held after 3.2 s)`.
fn settled(check: &CheckReport) -> String {
    if check.looks < 2 {
        return String::new();
    }
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

/// Where the lab is kept as it was when it first did not hold.
fn kept(report: &Report) -> String {
    let Some(name) = &report.checkpoint else { return String::new() };
    let dim = style::DIM;
    format!("{dim}the lab as it was when this came out: `labctl checkpoint restore {}`{dim:#}\n", plain(name))
}

fn matrix(matrix: &MatrixReport, settled: &str, topology: &str, lab: Option<&str>, wide: bool) -> String {
    let (head, list) = (style::HEAD, cells::mistakes(matrix, topology, lab));
    let gap = if list.is_empty() { "" } else { "\n" };
    format!(
        "{head}{}{head:#}{settled}\n{}{gap}{list}",
        cells::caption(matrix),
        cells::table(&matrix.cells, wide)
    )
}

/// Renders a fact: that it holds, or what was found instead. Output of several lines is shown below.
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

/// Renders lines from elsewhere, indented below what they belong to.
fn lines<L: AsRef<str>>(all: impl IntoIterator<Item = L>) -> String {
    all.into_iter().map(|line| format!("         {}\n", plain(line.as_ref()))).collect()
}

/// Renders a step, given with its index and the number of steps: the result of its actions, with further lines of a refusal
/// below.
pub fn step(s: &StepReport, (n, of): (usize, usize), topology: &str) -> String {
    let (head, dim) = (style::HEAD, style::DIM);
    let (message, below) = apart(&s.actions.message);
    let topology = plain(topology);
    let end = if s.actions.holds {
        let good = style::GOOD;
        let refused =
            if message.is_empty() { String::new() } else { format!(", refused as expected: {message}") };
        let settled = s.settled_ms.map(|ms| format!(", settled in {}", duration(Duration::from_millis(ms))));
        format!("{good}ok{good:#}{refused}{}", settled.unwrap_or_default())
    } else {
        let bad = style::BAD;
        format!("{bad}wrong{bad:#}: {message}  {dim}({topology}:{}){dim:#}", s.line)
    };
    format!("{head}step {}/{of}  {}{head:#} … {end}\n{below}", n + 1, plain(&s.name))
}

/// Adds an empty line between two parts.
fn separate(out: &mut String) {
    if !out.is_empty() && !out.ends_with("\n\n") {
        out.push('\n');
    }
}
