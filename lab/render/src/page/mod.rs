//! One report as one HTML page that needs nothing else, and the list of the pages of a test. The template is page.html; the
//! cells are drawn by page.js from the data block. The page's policy (CSP) allows that script and nothing else: no other
//! script, no request.

mod data;
mod frames;
#[cfg(test)]
mod tests;
mod walks;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use data::{Data, Known};
pub use frames::{Capture, Frame};
use labctl_model::Lab;
use labctl_report::{CheckReport, FactReport, Found, Report, cells, count, duration, text};
use labctl_words::plain_lines;
use minijinja::{AutoEscape, Environment, Value, escape_formatter};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    Error,
    graph::{self, Drawing, Form},
};

const TEMPLATE: &str = include_str!("page.html");
const INDEX: &str = include_str!("index.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What a page shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run<'a> {
    /// Lab.
    pub lab: &'a str,
    /// The topology's file, for the lines that a report names.
    pub topology: &'a str,
    /// The lab itself, if it is known: it is drawn, and cells are grouped by its hosts.
    pub model: Option<&'a Lab>,
    /// What was found.
    pub report: Option<&'a Report>,
    /// What the wire carried while a matrix did not hold.
    pub captures: &'a [Capture],
    /// Why the lab did not come to its end, if it did not.
    pub error: Option<&'a str>,
    /// How often it was tried.
    pub tries: usize,
}

/// A verdict in words, as a mark and as a class.
struct Verdict(&'static str, &'static str, &'static str);

#[derive(Serialize)]
struct Page<'a> {
    lab: &'a str,
    about: &'a str,
    verdict: &'a str,
    mark: &'a str,
    state: &'a str,
    score: String,
    took: String,
    tries: usize,
    error: Option<&'a str>,
    not_run: String,
    mistakes: String,
    graph: Option<Value>,
    timeline: Vec<Row>,
    phases: Vec<Phase>,
    environment: Vec<(String, String)>,
    data: Value,
    style: Value,
    script: Value,
    script_hash: Value,
}

/// A row of the timeline. Times are in thousandths of the whole.
#[derive(Serialize)]
struct Row {
    name: String,
    holds: bool,
    actions: String,
    settled: String,
    start: u64,
    acting: u64,
    settling: u64,
}

/// The lab's own checks, or a step.
#[derive(Serialize)]
struct Phase {
    title: String,
    holds: bool,
    message: String,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Check {
    holds: bool,
    title: String,
    note: String,
    /// Index in the data block.
    matrix: Option<usize>,
    facts: Vec<Fact>,
    captures: Vec<frames::File>,
}

#[derive(Serialize)]
struct Fact {
    holds: bool,
    subject: String,
    expected: String,
    note: String,
    observed: String,
}

/// An entry of the list of pages.
#[derive(Serialize)]
struct Entry<'a> {
    lab: &'a str,
    file: String,
    verdict: &'a str,
    mark: &'a str,
    state: &'a str,
    score: String,
    took: String,
}

/// Makes the page of one lab.
///
/// # Errors
/// The template fails.
pub fn page(run: &Run<'_>) -> Result<String, Error> {
    let Verdict(verdict, mark, state) = verdict(run);
    let mut data = Data::new();
    let drawing = run.model.map(Drawing::of);
    let graph = drawing.as_ref().map(|drawing| Value::from_safe_string(graph::write(drawing, Form::Svg)));
    let walks = run.report.zip(run.model).map(|(report, lab)| walks::of(report, lab));
    let known = Known {
        drawing: drawing.unwrap_or_default(),
        walks: walks.unwrap_or_default(),
        captures: run.captures,
    };
    let phases = run.report.map(|report| phases(report, &mut data, &known)).unwrap_or_default();
    data.place(run.model);
    let without_style = |text: String| anstream::adapter::strip_str(&text).to_string();
    let json = serde_json::to_string(&data).map_err(Error::in_form("JSON"))?;
    let page = Page {
        lab: run.lab,
        about: run.model.map(|lab| lab.description.as_str()).unwrap_or_default(),
        verdict,
        mark,
        state,
        score: run.report.map(|report| text::score(report, " of ")).unwrap_or_default(),
        took: run.report.map(|report| millis(report.took_ms)).unwrap_or_default(),
        tries: run.tries,
        error: run.error,
        not_run: not_run(run),
        mistakes: run.report.map(|r| without_style(text::mistakes(r, run.topology))).unwrap_or_default(),
        graph,
        timeline: run.report.map(timeline).unwrap_or_default(),
        phases,
        environment: environment(run),
        // Inside a script element only `<` could end the data.
        data: Value::from_safe_string(json.replace('<', "\\u003c")),
        style: Value::from_safe_string(STYLE.to_owned()),
        script: Value::from_safe_string(SCRIPT.to_owned()),
        script_hash: Value::from_safe_string(STANDARD.encode(Sha256::digest(SCRIPT))),
    };
    render(TEMPLATE, &page)
}

/// The list of pages in a folder.
pub const LIST: &str = "index.html";

/// Name of a lab's page in a folder. A lab may be called `index`, but no name has a dot.
pub fn file_name(lab: &str) -> String {
    let name = format!("{lab}.html");
    if name == LIST { format!("{lab}.lab.html") } else { name }
}

/// Makes the list of the pages of several labs, which are beside it.
///
/// # Errors
/// The template fails.
pub fn index(runs: &[Run<'_>]) -> Result<String, Error> {
    let failed = |run: &Run<'_>| run.error.and_then(|e| e.lines().next()).unwrap_or_default().to_owned();
    let entries = runs.iter().map(|run| {
        let Verdict(verdict, mark, state) = verdict(run);
        let score = run.report.map_or_else(|| failed(run), |report| text::score(report, " of "));
        let took = run.report.map(|report| millis(report.took_ms)).unwrap_or_default();
        Entry { lab: run.lab, file: file_name(run.lab), verdict, mark, state, score, took }
    });
    let labs: Vec<_> = entries.collect();
    let failed = labs.iter().filter(|lab| lab.state != "good").count();
    render(INDEX, minijinja::context! { labs, failed, style => Value::from_safe_string(STYLE.to_owned()) })
}

/// Fills a template in. All text is escaped, and loses what steers a terminal or reorders text.
fn render(template: &str, values: impl Serialize) -> Result<String, Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_formatter(|out, state, value| match value.as_str() {
        Some(text) if !value.is_safe() => escape_formatter(out, state, &Value::from(plain_lines(text))),
        _ => escape_formatter(out, state, value),
    });
    environment.render_str(template, values).map_err(Error::in_form("HTML"))
}

fn verdict(run: &Run<'_>) -> Verdict {
    match (run.error, run.report) {
        (Some(_), _) | (None, None) => Verdict("ended early", "?", "ended"),
        (None, Some(report)) if report.holds => Verdict("holds", "✓", "good"),
        (None, Some(_)) => Verdict("does not hold", "✗", "bad"),
    }
}

/// Says which steps of the topology are not in the report.
fn not_run(run: &Run<'_>) -> String {
    let (Some(lab), Some(report)) = (run.model, run.report) else { return String::new() };
    let (did, all) = (report.steps.len(), lab.steps.len());
    match all.saturating_sub(did) {
        0 => String::new(),
        n => format!("Not run: the last {n} of {}.", count(all, "step")),
    }
}

fn phases(report: &Report, data: &mut Data, known: &Known<'_>) -> Vec<Phase> {
    let mut checks = |stage: usize, checks: &[CheckReport]| {
        checks.iter().enumerate().map(|(n, c)| check(c, (stage, n), data, known)).collect()
    };
    let own = Phase {
        title: "The lab as it came up".to_owned(),
        holds: report.checks.iter().all(|c| c.holds),
        message: String::new(),
        checks: checks(0, &report.checks),
    };
    let of = report.steps.len();
    let steps = report.steps.iter().enumerate().map(|(n, step)| Phase {
        title: format!("Step {} of {of}: {}", n + 1, step.name),
        holds: step.actions.holds,
        message: step.actions.message.clone(),
        checks: checks(n + 1, &step.checks),
    });
    [own].into_iter().chain(steps.collect::<Vec<_>>()).collect()
}

fn check(check: &CheckReport, place: (usize, usize), data: &mut Data, known: &Known<'_>) -> Check {
    let note = match check.settled_ms {
        _ if check.looks < 2 => String::new(),
        Some(ms) => format!("held after {}", millis(ms)),
        None => format!("not within {}", millis(check.within_ms)),
    };
    let (captures, frames) = frames::carried(check, known.captures);
    let (title, matrix) = match &check.found {
        Found::Matrix(matrix) => {
            (cells::caption(matrix), Some(data.add(check, matrix, &note, &frames, place, known)))
        }
        Found::Fact(_) | Found::Frame(_) => (String::new(), None),
    };
    let facts = check.facts().map(|f| fact(f, &note)).collect();
    Check { holds: check.holds, title, note, matrix, facts, captures }
}

/// A fact. What was observed is shown if it is not what was expected.
fn fact(fact: &FactReport, note: &str) -> Fact {
    let observed = match &fact.error {
        Some(why) => why.clone(),
        None if fact.holds => String::new(),
        None if fact.observed.is_empty() => "nothing observed".to_owned(),
        None => fact.observed.join(if fact.printed { "\n" } else { ", " }),
    };
    let line = format!("line {}", fact.line);
    let note = [line.as_str(), note].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(", ");
    let (subject, expected) = (fact.subject.clone(), fact.expected.clone());
    Fact { holds: fact.holds, subject, expected, note, observed }
}

/// The lab's own checks and its steps, one after the other. Checks that never held took the time that they were given.
fn timeline(report: &Report) -> Vec<Row> {
    let given = |checks: &[CheckReport]| {
        checks.iter().map(|c| c.settled_ms.unwrap_or(c.within_ms)).max().unwrap_or(0)
    };
    let came_up = report.checks.iter().all(|c| c.holds);
    let own = (
        "as it came up".to_owned(),
        came_up,
        None,
        came_up.then(|| given(&report.checks)),
        given(&report.checks),
    );
    let steps = report.steps.iter().map(|s| {
        let waited = s.settled_ms.unwrap_or_else(|| given(&s.checks));
        (s.name.clone(), s.holds, Some(s.actions.took_ms), s.settled_ms, waited)
    });
    let all: Vec<_> = [own].into_iter().chain(steps).collect();
    // A report may come from anywhere.
    let whole = all.iter().flat_map(|(_, _, acting, _, waited)| [acting.unwrap_or(0), *waited]);
    let whole = whole.map(u128::from).sum::<u128>().max(1);
    let mut now = 0;
    let row = |(name, holds, acting, settled, waited): (String, bool, Option<u64>, Option<u64>, u64)| {
        let (start, middle) = (now, now + u128::from(acting.unwrap_or(0)));
        now = middle + u128::from(waited);
        let part = |ms: u128| u64::try_from(ms * 1000 / whole).unwrap_or(1000);
        Row {
            name,
            holds,
            actions: acting.map(millis).unwrap_or_default(),
            settled: settled.map_or_else(|| "not".to_owned(), millis),
            start: part(start),
            acting: part(middle) - part(start),
            // So short a time is still seen.
            settling: (part(now) - part(middle)).max(2),
        }
    };
    if report.steps.is_empty() { Vec::new() } else { all.into_iter().map(row).collect() }
}

fn environment(run: &Run<'_>) -> Vec<(String, String)> {
    let mut rows = vec![("topology".to_owned(), run.topology.to_owned())];
    let Some(report) = run.report else { return rows };
    rows.push(("runtime".to_owned(), report.runtime.clone()));
    if let Some(environment) = &report.environment {
        rows.push(("labctl".to_owned(), environment.labctl.clone()));
        rows.push(("began".to_owned(), environment.began.clone()));
        rows.extend(environment.hosts.iter().map(|(name, host)| {
            let runs = format!("Linux {}, Docker of {}, API {}", host.kernel, host.engine, host.api);
            (name.clone(), runs)
        }));
    }
    rows.retain(|(_, value)| !value.is_empty());
    rows
}

fn millis(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}
