//! `labctl test`

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::StreamExt;
use labctl_machines::LabDir;
use labctl_report::{Report, VERSION};
use labctl_runtime::Checking;
use serde::Serialize;

use crate::{
    context::Context,
    engines::Engines,
    exit::{Error, Exit},
    printer::{Format, style},
    progress::Progress,
    render::{
        duration,
        junit::{self, Outcome},
        page, predicted, report,
    },
    session::{self, Manner},
    stop::Stop,
    topology::{self, Topology},
};

const EXAMPLES: &str = "\
Examples:
  labctl test topologies/ipvlan-2host.yaml
  labctl test topologies/ --junit report.xml --captures failed/ --html pages/
  labctl test topologies/ingress.yaml --engine bookworm --engine host1=trixie
  labctl test topologies/overlay-attachable.yaml --repeat 20
  labctl test topologies/swarm-life.yaml --repeat 20 --reset
  labctl test topologies/ --retries 1      # on a busy machine: those that hold on the second try only are flaky
  labctl test topologies/ --format json | jq -r '.labs[] | select(.holds | not) | .lab'";

/// Bring labs up, probe them, do their steps, take them down
///
/// Each topology is brought up, checked with all its steps, and taken down again, whatever came out. Every topology
/// is read before the first lab is made.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Topologies, or folders of them (their *.yaml, sorted)
    #[arg(value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    manner: Manner,
    #[command(flatten)]
    engines: Engines,
    /// How many labs at once
    #[arg(long, value_name = "N", default_value = "1")]
    jobs: NonZeroUsize,
    /// Probe each matrix so many times in a row, those of steps too; it must hold each time
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,
    /// Repeat everything instead, steps too: before each repetition the lab is reset to what it was at the end of `up`
    #[arg(long, conflicts_with = "no_checkpoint")]
    reset: bool,
    /// How often a lab that does not hold is tried again, from its start
    ///
    /// Every failed try is told in full. A lab that holds in the end counts as passed, and as flaky.
    #[arg(long, value_name = "N", default_value = "0")]
    retries: usize,
    /// Take a lab down that is not through after so long, like `90s` or `20min`
    #[arg(long, value_name = "TIME", default_value = "15min", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Keep in this folder what the wire carried while a matrix did not hold, as pcapng; else it goes with the lab
    #[arg(long, value_name = "DIR")]
    captures: Option<PathBuf>,
    /// Also write JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Also write a page for each lab to this folder, LAB.html, and index.html, which lists them
    #[arg(long, value_name = "DIR")]
    html: Option<PathBuf>,
}

/// The result of one topology.
struct Run {
    topology: Topology,
    found: Result<Report, Error>,
    /// Time of the last try.
    took: Duration,
    /// The last try's number, from 1.
    tries: usize,
}

/// One topology in `--format json`.
#[derive(Serialize)]
struct RunJson<'a> {
    lab: &'a str,
    topology: &'a str,
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
    labs: Vec<RunJson<'a>>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let topologies = read_all(&args.files, &args.engines, context)?;
    let width = topologies.iter().map(|t| t.lab.name.len()).max().unwrap_or(0);
    let interrupted = AtomicBool::new(false);
    // There must be something to go back to.
    let checkpoint = Some(args.reset || args.manner.checkpoint == Some(true));
    let manner = &Manner { checkpoint, ..args.manner.clone() };
    let jobs = topologies.into_iter().enumerate().map(|(i, topology)| {
        let how = How {
            manner,
            captures: args.captures.as_deref(),
            limit: args.timeout,
            checking: Checking { steps: true, again: if args.reset { 0 } else { args.repeat - 1 } },
            resets: if args.reset { args.repeat - 1 } else { 0 },
        };
        let interrupted = &interrupted;
        async move {
            let mut run = one(context, topology, how, interrupted).await;
            while run.exit() != Exit::OK && run.tries <= args.retries && !interrupted.load(Ordering::Relaxed)
            {
                tell(context, &run, width)?;
                context.printer.say(&format!(
                    "{}: try {} of {}",
                    run.topology.lab.name,
                    run.tries + 1,
                    args.retries + 1
                ));
                let again = one(context, run.topology, how, interrupted).await;
                run = Run { tries: run.tries + 1, ..again };
            }
            Ok::<_, Error>((i, run))
        }
    });
    let mut finished = futures::stream::iter(jobs).buffer_unordered(args.jobs.get());
    let mut runs = Vec::new();
    // Every running lab listens too; this one is for the time between labs.
    let mut stop = Stop::new()?;
    loop {
        let (i, run) = tokio::select! {
            next = finished.next() => match next {
                Some(next) => next?,
                None => break,
            },
            () = stop.wait() => {
                interrupted.store(true, Ordering::Relaxed);
                continue;
            }
        };
        // After an interruption the rest never began, so there is nothing to report.
        if interrupted.load(Ordering::Relaxed) && matches!(run.found, Err(Error::Interrupted)) {
            continue;
        }
        tell(context, &run, width)?;
        runs.push((i, run));
    }
    drop(finished);
    runs.sort_by_key(|(i, _)| *i);
    let runs: Vec<Run> = runs.into_iter().map(|(_, r)| r).collect();
    conclude(context, &runs)?;
    let worst = runs.iter().map(Run::exit).max().unwrap_or(Exit::OK);
    // If the one cannot be written, the other is.
    let pages = args.html.as_ref().map_or(Ok(()), |folder| write_pages(folder, &runs));
    if let Some(file) = &args.junit {
        let outcomes: Vec<Outcome> = runs.into_iter().map(Run::into_outcome).collect();
        junit::write(file, &outcomes)?;
    }
    pages?;
    if interrupted.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(worst) }
}

/// Reads every topology, or reports every mistake in them.
fn read_all(paths: &[PathBuf], engines: &Engines, context: &Context) -> Result<Vec<Topology>, Error> {
    let mut topologies: Vec<Topology> = Vec::new();
    let mut broken = Vec::new();
    for file in topology::files(paths)? {
        match topology::load_with(&file, engines) {
            Ok(new) => {
                if let Some(old) = topologies.iter().find(|t| t.lab.name == new.lab.name) {
                    broken.push(Error::Usage(format!(
                        "{} and {} are both of lab `{}`\nhint: every lab needs a name of its own",
                        old.shown, new.shown, new.lab.name
                    )));
                }
                topologies.push(new);
            }
            Err(e) => broken.push(e),
        }
    }
    let Some(last) = broken.pop() else { return Ok(topologies) };
    broken.iter().for_each(|e| context.printer.error(e));
    Err(last)
}

/// How each lab is tested.
#[derive(Clone, Copy)]
struct How<'a> {
    manner: &'a Manner,
    checking: Checking,
    /// How often to reset the lab and check it again, while it holds.
    resets: u32,
    captures: Option<&'a Path>,
    /// From its start to its last check.
    limit: Duration,
}

async fn one(context: &Context, topology: Topology, how: How<'_>, interrupted: &AtomicBool) -> Run {
    let began = Instant::now();
    let found = if interrupted.load(Ordering::Relaxed) {
        Err(Error::Interrupted)
    } else {
        live_and_die(context, &topology, how).await
    };
    if matches!(found, Err(Error::Interrupted)) {
        interrupted.store(true, Ordering::Relaxed);
    }
    Run { topology, found, took: began.elapsed(), tries: 1 }
}

async fn live_and_die(context: &Context, topology: &Topology, how: How<'_>) -> Result<Report, Error> {
    let How { manner, checking, resets, captures, limit } = how;
    let dir = LabDir::of(&context.dirs, &topology.lab.name);
    let mut stop = Stop::new()?;
    let mut progress = Progress::new(&context.printer, &topology.lab.name);
    let lived = tokio::time::timeout(limit, async {
        session::bring_up(context, topology, manner, &mut progress, &mut stop).await?;
        let mut found = session::check(&dir, checking, &mut progress, &mut stop).await;
        for round in 1..=resets {
            if !found.as_ref().is_ok_and(|report| report.holds) {
                break;
            }
            progress.phase(&format!("reset, round {} of {}", round + 1, resets + 1));
            found = match session::reset(&dir, None, &mut stop).await {
                Ok(()) => session::check(&dir, checking, &mut progress, &mut stop).await,
                Err(e) => Err(e),
            };
        }
        Ok::<_, Error>(found)
    });
    let mut found = match lived.await {
        Ok(Ok(found)) => found,
        // A lab that did not come up is down already.
        Ok(Err(error)) => return Err(error),
        Err(_) => Err(Error::Environment(format!("it is not through after {}", duration(limit)))),
    };
    let mut saved = Ok(());
    if let Ok(report) = &mut found
        && (captures.is_some() || !manner.keep)
    {
        saved = save(report, captures);
    }
    let taken_down = found.as_ref().is_err_and(session::is_taken_down);
    if !taken_down && (!manner.keep || matches!(found, Err(Error::Interrupted))) {
        session::clear(context, &dir, &mut progress, &mut stop).await;
    }
    saved.and(found)
}

/// Copies a report's captures to a folder that outlives the lab. Without a folder, removes them from the report.
fn save(report: &mut Report, folder: Option<&Path>) -> Result<(), Error> {
    let lab = report.lab.clone();
    for check in report.checks.iter_mut().chain(report.steps.iter_mut().flat_map(|s| &mut s.checks)) {
        for from in std::mem::take(&mut check.captures) {
            let (Some(folder), Some(name)) = (folder, from.file_name().and_then(|n| n.to_str())) else {
                continue;
            };
            fs::create_dir_all(folder).map_err(Error::file("make the folder", folder.display()))?;
            let to = folder.join(format!("{lab}.{name}"));
            fs::copy(&from, &to).map_err(Error::file("write", to.display()))?;
            check.captures.push(to);
        }
    }
    Ok(())
}

/// Prints a line for a lab, and what is wrong with it.
fn tell(context: &Context, run: &Run, width: usize) -> Result<(), Error> {
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
            let score = report::score(r, "/");
            context.printer.data(&format!("{good}{word}{good:#}  {name:width$}  {score}  ({took})"))
        }
        Ok(r) => {
            let mistakes =
                report::mistakes(r, &run.topology.shown) + &predicted::beside(r, &run.topology.lab);
            let list: String = mistakes.lines().map(|l| format!("       {l}\n")).collect();
            context.printer.data(&format!(
                "{bad}wrong{bad:#}  {name:width$}  {}  ({took})\n{list}",
                report::score(r, "/")
            ))
        }
        Err(e) => {
            context.printer.data(&format!("{bad}error{bad:#}  {name:width$}  ({took})"))?;
            context.printer.error(e);
            Ok(())
        }
    }
}

fn conclude(context: &Context, runs: &[Run]) -> Result<(), Error> {
    let passed = runs.iter().filter(|r| r.exit() == Exit::OK).count();
    let failed = runs.len() - passed;
    let flaky = runs.iter().filter(|r| r.is_flaky()).count();
    if context.printer.format == Format::Json {
        let labs = runs.iter().map(Run::json).collect();
        let (version, holds) = (VERSION, failed == 0);
        return context.printer.json(&Summary { version, holds, passed, flaky, failed, labs });
    }
    let s = if failed == 0 { style::GOOD } else { style::BAD };
    let of_them = if flaky == 0 { String::new() } else { format!(" ({flaky} flaky)") };
    context.printer.data(&format!("\n{s}{passed} passed{of_them}, {failed} failed{s:#}"))
}

/// Writes the pages of all labs.
fn write_pages(folder: &Path, runs: &[Run]) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::file("make the folder", folder.display()))?;
    let write = |name: &str, text: String| {
        let file = folder.join(name);
        fs::write(&file, text).map_err(Error::file("write", file.display()))
    };
    let errors: Vec<_> = runs.iter().map(|r| r.found.as_ref().err().map(ToString::to_string)).collect();
    let pages: Vec<_> = runs.iter().zip(&errors).map(|(run, error)| run.page(error.as_deref())).collect();
    for run in &pages {
        write(&page::file_name(run.lab), page::page(run)?)?;
    }
    write(page::LIST, page::index(&pages)?)
}

impl Run {
    fn exit(&self) -> Exit {
        match &self.found {
            Ok(report) => Exit::holds(report.holds),
            Err(e) => e.exit(),
        }
    }

    /// Whether it held, but not at once.
    fn is_flaky(&self) -> bool {
        self.tries > 1 && self.exit() == Exit::OK
    }

    fn json(&self) -> RunJson<'_> {
        RunJson {
            lab: &self.topology.lab.name,
            topology: &self.topology.shown,
            holds: self.exit() == Exit::OK,
            exit_code: self.exit().0,
            took_ms: self.took.as_millis(),
            tries: self.tries,
            report: self.found.as_ref().ok(),
            error: self.found.as_ref().err().map(ToString::to_string),
        }
    }

    fn page<'a>(&'a self, error: Option<&'a str>) -> page::Run<'a> {
        page::Run {
            lab: &self.topology.lab.name,
            topology: &self.topology.shown,
            model: Some(&self.topology.lab),
            report: self.found.as_ref().ok(),
            error,
            tries: self.tries,
        }
    }

    fn into_outcome(self) -> Outcome {
        let (topology, tries) = (self.topology.shown, self.tries);
        match self.found {
            Ok(report) => Outcome::Ran { topology, report, tries },
            Err(e) => Outcome::Failed { topology, lab: self.topology.lab.name, message: e.to_string() },
        }
    }
}
