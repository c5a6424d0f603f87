//! How the result of a test is told: lines, JSON, pages, and what GitHub understands.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use labctl_model::Engine;
use labctl_render::{
    self as render,
    compare::Compared,
    engines::{Difference, Ran},
    github,
    junit::Tested,
    page, predicted,
};
use labctl_report::{Report, VERSION, duration, text};
use serde::Serialize;

use super::Run;
use crate::{
    captures,
    context::Context,
    exit::{Error, Exit},
    printer::{Format, style},
    topology::TopologyFile,
};

/// Most labs that did not hold which the last line names.
const NAMED: usize = 12;

/// One topology in `--format json`.
#[derive(Serialize)]
struct RunJson<'a> {
    lab: &'a str,
    topology: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<&'a str>,
    holds: bool,
    exit_code: u8,
    took_ms: u128,
    tries: usize,
    report: Option<&'a Report>,
    error: Option<String>,
}

/// All topologies in `--format json`.
#[derive(Serialize)]
struct Summary<'a> {
    version: u32,
    holds: bool,
    passed: usize,
    flaky: usize,
    failed: usize,
    /// Those that are not for the engine.
    left_out: Vec<String>,
    labs: Vec<RunJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Difference>,
    /// With `--compare`.
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<&'a Compared>,
}

/// Prints a line for a lab, and what is wrong with it.
pub(super) fn tell(context: &Context, run: &Run, width: usize) -> Result<(), Error> {
    if context.printer.format == Format::Json {
        if let Err(e) = &run.found {
            context.printer.error(e);
        }
        return Ok(());
    }
    let (good, bad) = (style::GOOD, style::BAD);
    let (name, took) = (&run.topology.lab.name, duration(run.took));
    match &run.found {
        Ok(r) if r.holds => {
            let word = if run.is_flaky() { "flaky" } else { "ok   " };
            let score = text::score(r, "/");
            context.printer.data(&format!("{good}{word}{good:#}  {name:width$}  {score}  ({took})"))
        }
        Ok(r) => {
            let mistakes = text::mistakes(r, &run.topology.shown) + &predicted::beside(r);
            let list: String = mistakes.lines().map(|l| format!("       {l}\n")).collect();
            context
                .printer
                .data(&format!("{bad}wrong{bad:#}  {name:width$}  {}  ({took})\n{list}", text::score(r, "/")))
        }
        Err(e) => {
            context.printer.data(&format!("{bad}error{bad:#}  {name:width$}  ({took})"))?;
            context.printer.error(e);
            Ok(())
        }
    }
}

pub(super) fn conclude(
    context: &Context,
    runs: &[Run],
    left_out: Vec<String>,
    compared: Option<&Compared>,
) -> Result<(), Error> {
    let on_engines: Vec<Ran<'_>> = runs.iter().filter_map(Run::on_engine).collect();
    let passed = runs.iter().filter(|r| r.exit() == Exit::OK).count();
    let failed = runs.len() - passed;
    let flaky = runs.iter().filter(|r| r.is_flaky()).count();
    if context.printer.format == Format::Json {
        let labs = runs.iter().map(Run::json).collect();
        let (version, holds) = (VERSION, failed == 0);
        let differences = render::engines::differences(&on_engines);
        let all = Summary { version, holds, passed, flaky, failed, left_out, labs, compared, differences };
        return context.printer.json(&all);
    }
    if !on_engines.is_empty() {
        let (mut labs, mut engines) = (Vec::new(), Vec::new());
        let left_out = left_out.iter().map(String::as_str);
        for lab in on_engines.iter().map(|r| r.lab).chain(left_out) {
            if !labs.contains(&lab) {
                labs.push(lab);
            }
        }
        for ran in &on_engines {
            if !engines.contains(&ran.engine) {
                engines.push(ran.engine);
            }
        }
        labs.sort_unstable();
        context.printer.data(&format!("\n{}", render::engines::text(&on_engines, &labs, &engines)))?;
    }
    let left_out = match left_out.len() {
        0 => String::new(),
        n => format!(", {n} left out"),
    };
    let s = if failed == 0 { style::GOOD } else { style::BAD };
    let of_them = if flaky == 0 { String::new() } else { format!(" ({flaky} flaky)") };
    let not = runs.iter().filter(|r| r.exit() != Exit::OK).map(|r| r.topology.lab.name.as_str());
    let named = not.take(NAMED).collect::<Vec<_>>().join(", ");
    let named = match failed {
        0 => String::new(),
        _ if failed > NAMED => format!(": {named} and {} more", failed - NAMED),
        _ => format!(": {named}"),
    };
    context.printer.data(&format!("\n{s}{passed} passed{of_them}, {failed} failed{named}{s:#}{left_out}"))?;
    match compared {
        Some(compared) => context.printer.data(&compared.text()),
        None => Ok(()),
    }
}

/// Writes the pages of all labs; of several engines each in a folder of its own.
pub(super) fn write_all_pages(folder: &Path, runs: &[Run]) -> Result<(), Error> {
    runs.chunk_by(|a, b| a.engine == b.engine).try_for_each(|chunk| match &chunk[0].engine {
        Some(engine) => write_pages(&folder.join(engine.name()), chunk),
        None => write_pages(folder, chunk),
    })
}

fn write_pages(folder: &Path, runs: &[Run]) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::file("make the folder", folder.display()))?;
    let write = |name: &str, text: String| {
        let file = folder.join(name);
        fs::write(&file, text).map_err(Error::file("write", file.display()))
    };
    let errors: Vec<_> = runs.iter().map(|r| r.found.as_ref().err().map(ToString::to_string)).collect();
    let pages: Vec<_> = runs.iter().zip(&errors).map(|(run, error)| run.page(error.as_deref())).collect();
    for run in &pages {
        let captures = run.report.map(captures::of).unwrap_or_default();
        write(&page::file_name(run.lab), page::page(&page::Run { captures: &captures, ..*run })?)?;
    }
    write(page::LIST, page::index(&pages)?)
}

/// Writes annotations among the output, and the summary to the file that GitHub names.
pub(super) fn tell_github(context: &Context, runs: &[Run], compared: Option<&Compared>) -> Result<(), Error> {
    let root = std::env::var_os("GITHUB_WORKSPACE").map(PathBuf::from);
    let file = |t: &TopologyFile| {
        let inside = root.as_ref().and_then(|root| t.path.strip_prefix(root).ok());
        inside.map_or_else(|| t.shown.clone(), |path| path.display().to_string())
    };
    let all: Vec<github::TestedLab<'_>> = runs
        .iter()
        .map(|run| github::TestedLab {
            lab: &run.topology.lab.name,
            file: file(&run.topology),
            found: run.found.as_ref().map_err(ToString::to_string),
            flaky: run.is_flaky(),
            took: duration(run.took),
        })
        .collect();
    // GitHub reads both streams, and JSON has stdout to itself.
    let lines: String = github::annotations(&all).into_iter().map(|line| line + "\n").collect();
    match context.printer.format {
        Format::Text => context.printer.data(&lines)?,
        Format::Json => context.printer.error_bytes(lines.as_bytes()),
    }
    let Some(summary) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|f| !f.is_empty()) else {
        return Ok(());
    };
    let shown = summary.display().to_string();
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&summary)
        .map_err(Error::file("write", &shown))?;
    file.write_all(github::summary(&all, compared).as_bytes()).map_err(Error::file("write", &shown))
}

impl Run {
    fn json(&self) -> RunJson<'_> {
        RunJson {
            lab: &self.topology.lab.name,
            topology: &self.topology.shown,
            engine: self.engine.as_ref().map(Engine::name),
            holds: self.exit() == Exit::OK,
            exit_code: self.exit().0,
            took_ms: self.took.as_millis(),
            tries: self.tries,
            report: self.found.as_ref().ok(),
            error: self.found.as_ref().err().map(ToString::to_string),
        }
    }

    /// As one of several engines' runs, if it is one.
    fn on_engine(&self) -> Option<Ran<'_>> {
        let (lab, engine) = (&self.topology.lab.name, self.engine.as_ref()?.name());
        Some(Ran { lab, engine, report: self.found.as_ref().ok() })
    }

    fn page<'a>(&'a self, error: Option<&'a str>) -> page::Run<'a> {
        page::Run {
            lab: &self.topology.lab.name,
            topology: &self.topology.shown,
            model: Some(&self.topology.lab),
            report: self.found.as_ref().ok(),
            captures: &[],
            error,
            tries: self.tries,
        }
    }

    /// The lab, and the engine if several are tested.
    pub(super) fn name(&self) -> String {
        let on = self.engine.as_ref().map(|engine| format!(" on {engine}")).unwrap_or_default();
        format!("{}{on}", self.topology.lab.name)
    }

    pub(super) fn into_outcome(self) -> Tested {
        let lab = self.name();
        let (topology, tries) = (self.topology.shown, self.tries);
        match self.found {
            Ok(report) => {
                let report = Box::new(Report { lab, ..report });
                Tested::Ran { topology, report, tries, took: self.took }
            }
            Err(e) => Tested::Failed { topology, lab, message: e.to_string() },
        }
    }
}
