//! `labctl test`

mod told;

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use clap::builder::FalseyValueParser;
use futures::StreamExt;
use labctl_model::{Engine, EngineChoice, engine};
use labctl_render::{
    compare::{Compared, Earlier},
    junit::{self, Tested},
    predicted,
};
use labctl_report::{Report, duration};
use labctl_runtime::Checking;
use labctl_state::LabDir;
use told::{conclude, tell, tell_github, write_all_pages};

use crate::{
    context::Context,
    engines::{self, Engines},
    exit::{Error, Exit},
    printer::Format,
    progress::Progress,
    session::{self, Manner},
    stop::Stop,
    topology::{self, TopologyFile},
};

const EXAMPLES: &str = "\
Examples:
  labctl test topologies/ipvlan-2host.yaml
  labctl test topologies/ --junit report.xml --captures failed/ --html pages/
  labctl test topologies/ingress.yaml --engine bookworm --engine host1=trixie
  labctl test topologies/ --engines bookworm,trixie,forky   # each on each, and which cells differ
  labctl test topologies/overlay-attachable.yaml --repeat 20
  labctl test topologies/swarm-life.yaml --repeat 20 --reset
  labctl test topologies/ --retries 1      # on a busy machine: those that hold on the second try only are flaky
  labctl test topologies/ --format json > earlier.json; labctl test topologies/ --compare earlier.json
  labctl test topologies/ --format json | jq -r '.labs[] | select(.holds | not) | .lab'";

/// Bring labs up, probe them, do their steps, take them down
///
/// Each topology is brought up, checked with all its steps, and taken down again, whatever came out. Every topology
/// is read before the first lab is made. One that is not for the engine that was asked for (`engines`) is left out.
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
    /// Test each topology on each of these engines, one engine after the other, and show which cells differ
    #[arg(long = "engines", value_name = "ENGINE,ENGINE", value_delimiter = ',', conflicts_with = "given")]
    each: Vec<String>,
    /// How many labs at once
    #[arg(long, value_name = "N", default_value = "1")]
    jobs: NonZeroUsize,
    /// Probe each matrix so many times in a row, those of steps too; it must hold each time
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,
    /// Repeat everything instead, steps too: before each repetition the lab is reset to what it was at the end of `up`
    #[arg(long, conflicts_with = "no_checkpoint")]
    reset: bool,
    /// Save the lab as it is when something first does not hold, as checkpoint LAB-failed: `labctl checkpoint restore`
    /// brings it back, `export` takes it to another machine
    #[arg(long)]
    keep_failed: bool,
    /// How often a lab that does not hold is tried again, from its start
    ///
    /// Every failed try is told in full. A lab that holds in the end counts as passed, and as flaky.
    #[arg(long, value_name = "N", default_value = "0")]
    retries: usize,
    /// Take a lab down that is not through after so long, like `90s` or `20min`
    #[arg(long, value_name = "TIME", default_value = "15min", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Keep in this folder what the wire carried while a matrix did not hold, as pcapng [default: `captures` in that of
    /// --html; without both it goes with the lab]
    #[arg(long, value_name = "DIR")]
    captures: Option<PathBuf>,
    /// Also write JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Also write a page for each lab to this folder, LAB.html, and index.html, which lists them
    #[arg(long, value_name = "DIR")]
    html: Option<PathBuf>,
    /// Say what GitHub Actions understands: an annotation at the topology's line for what does not hold, and a summary of
    /// the job. So it does whenever GITHUB_ACTIONS is set
    #[arg(long, env = "GITHUB_ACTIONS", value_parser = FalseyValueParser::new(), action = clap::ArgAction::SetTrue, hide_env_values = true)]
    github: bool,
    /// Also say what came out otherwise than in an earlier run: the JSON that `test --format json` printed then
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

/// The result of one topology.
struct Run {
    topology: TopologyFile,
    /// The engine of hosts that name none, if several are tested.
    engine: Option<Engine>,
    found: Result<Report, Error>,
    /// Time of the last try.
    took: Duration,
    /// The last try's number, from 1.
    tries: usize,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let mut waves = Vec::new();
    for engine in chosen(&args, context)? {
        waves.push(read_all(&args.files, engine, context)?);
    }
    if waves.iter().all(|wave| wave.topologies.is_empty()) {
        let left_out = waves.iter_mut().flat_map(|wave| wave.left_out.drain(..)).next_back();
        return Err(left_out.unwrap_or_else(|| Error::Usage("there is nothing to test".to_owned())));
    }
    let earlier = args.compare.as_deref().map(read_earlier).transpose()?;
    let interrupted = AtomicBool::new(false);
    let several = waves.len() > 1;
    let mut left_out = Vec::new();
    let mut runs: Vec<Run> = Vec::new();
    for wave in waves {
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        if let Some(engine) = wave.engine.as_ref().filter(|_| several) {
            let said = format!("engine {engine} (Docker {}):", engine.docker());
            if context.printer.format == Format::Text {
                context.printer.data(&said)?;
            }
        }
        for e in &wave.left_out {
            if let Error::NotFor { topology, lab, why } = e {
                context.printer.say(&format!("left out: {topology} {why}"));
                left_out.push(lab.clone());
            }
        }
        let engine = wave.engine.filter(|_| several);
        for run in test(wave.topologies, &args, context, &interrupted).await? {
            runs.push(Run { engine: engine.clone(), ..run });
        }
    }
    let compared = earlier.map(|(file, earlier)| {
        let names: Vec<String> = runs.iter().map(Run::name).collect();
        let all = runs.iter().zip(&names).map(|(r, name)| (name.as_str(), r.found.as_ref().ok()));
        Compared::new(&file, &earlier, all)
    });
    // If nothing was run to its end, there is nothing to count.
    if !runs.is_empty() || !interrupted.load(Ordering::Relaxed) {
        conclude(context, &runs, left_out, compared.as_ref())?;
    }
    if args.github {
        tell_github(context, &runs, compared.as_ref())?;
    }
    let worst = runs.iter().map(Run::exit).max().unwrap_or(Exit::OK);
    // If the one cannot be written, the other is.
    let pages = args.html.as_ref().map_or(Ok(()), |folder| write_all_pages(folder, &runs));
    if let Some(file) = &args.junit {
        let outcomes: Vec<Tested> = runs.into_iter().map(Run::into_outcome).collect();
        context.printer.document(&junit::xml(&outcomes)?, Some(file))?;
    }
    pages?;
    if interrupted.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(worst) }
}

/// The engines to test on, one after the other.
fn chosen(args: &Args, context: &Context) -> Result<Vec<EngineChoice>, Error> {
    let all = args.engines.choice(context)?;
    if args.each.is_empty() {
        return Ok(vec![all]);
    }
    let mut chosen: Vec<EngineChoice> = Vec::new();
    for word in &args.each {
        let engine = engines::find(&all, word)?;
        if engine::is_number(word) {
            context.printer.say(&engines::stands_for(word, &engine));
        }
        if chosen.iter().all(|c| c.unnamed.as_ref() != Some(&engine)) {
            chosen.push(EngineChoice { unnamed: Some(engine), ..all.clone() });
        }
    }
    Ok(chosen)
}

/// Tests these topologies, some at once. Returns those that began, in their order.
async fn test(
    topologies: Vec<TopologyFile>,
    args: &Args,
    context: &Context,
    interrupted: &AtomicBool,
) -> Result<Vec<Run>, Error> {
    let width = topologies.iter().map(|t| t.lab.name.len()).max().unwrap_or(0);
    // There must be something to go back to.
    let checkpoint = Some(args.reset || args.manner.checkpoint == Some(true));
    let manner = &Manner { checkpoint, ..args.manner.clone() };
    // A page shows what the wire carried, so it must outlive the lab.
    let captures = args.captures.clone().or_else(|| Some(args.html.as_ref()?.join("captures")));
    let captures = captures.as_deref();
    let jobs = topologies.into_iter().enumerate().map(|(i, topology)| {
        let how = How {
            manner,
            captures,
            limit: args.timeout,
            checking: Checking {
                steps: true,
                again: if args.reset { 0 } else { args.repeat - 1 },
                keep_failed: args.keep_failed,
                trace: false,
            },
            resets: if args.reset { args.repeat - 1 } else { 0 },
        };
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
    Ok(runs.into_iter().map(|(_, run)| run).collect())
}

/// What is tested on one engine.
struct Wave {
    /// The engine of hosts that name none, if one was asked for.
    engine: Option<Engine>,
    topologies: Vec<TopologyFile>,
    /// Why other topologies are not for it: each an [`Error::NotFor`].
    left_out: Vec<Error>,
}

/// Reads every topology, or reports every mistake in them.
fn read_all(paths: &[PathBuf], engines: EngineChoice, context: &Context) -> Result<Wave, Error> {
    let mut topologies: Vec<TopologyFile> = Vec::new();
    let (mut broken, mut left_out) = (Vec::new(), Vec::new());
    for file in topology::files(paths)? {
        match topology::load_with(&file, &engines) {
            Ok(new) => {
                if let Some(old) = topologies.iter().find(|t| t.lab.name == new.lab.name) {
                    broken.push(Error::Usage(format!(
                        "{} and {} are both of lab `{}`\nhint: every lab needs a name of its own",
                        old.shown, new.shown, new.lab.name
                    )));
                }
                topologies.push(new);
            }
            Err(e @ Error::NotFor { .. }) => left_out.push(e),
            Err(e) => broken.push(e),
        }
    }
    let Some(last) = broken.pop() else {
        return Ok(Wave { engine: engines.unnamed, topologies, left_out });
    };
    broken.iter().for_each(|e| context.printer.error(e));
    Err(last)
}

/// Reads an earlier run; returns the file's name too.
fn read_earlier(file: &Path) -> Result<(String, Earlier), Error> {
    let shown = file.display().to_string();
    let text = fs::read_to_string(file).map_err(Error::file("read", &shown))?;
    let earlier = Earlier::read(&text).map_err(|e| {
        Error::Usage(format!(
            "{shown} is no report of labctl: {e}\nhint: `labctl test … --format json > {shown}` makes one"
        ))
    })?;
    Ok((shown, earlier))
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

async fn one(context: &Context, topology: TopologyFile, how: How<'_>, interrupted: &AtomicBool) -> Run {
    let began = Instant::now();
    let found = if interrupted.load(Ordering::Relaxed) {
        Err(Error::Interrupted)
    } else {
        live_and_die(context, &topology, how).await
    };
    if matches!(found, Err(Error::Interrupted)) {
        interrupted.store(true, Ordering::Relaxed);
    }
    Run { topology, engine: None, found, took: began.elapsed(), tries: 1 }
}

async fn live_and_die(context: &Context, topology: &TopologyFile, how: How<'_>) -> Result<Report, Error> {
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
    predicted::join(&mut found, &topology.lab);
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
}
