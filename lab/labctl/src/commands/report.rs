//! `labctl report`

use std::{
    fs,
    path::{Path, PathBuf},
};

use labctl_model::Lab;
use labctl_render::{
    page::{Run, page},
    predicted,
};
use labctl_report::{Report, VERSION};
use labctl_runtime::Checking;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    captures,
    context::Context,
    exit::{Error, Exit},
    progress::Progress,
    session,
    stop::Stop,
    topology,
};

const EXAMPLES: &str = "\
Examples:
  labctl report ipvlan-2host -o report.html
  labctl report ipvlan-2host --steps -o report.html
  labctl test lab.yaml --format json > report.json; labctl report report.json -o report.html
  labctl report report.json --topology lab.yaml -o report.html
  labctl test topologies/ --html pages/       # a page for each lab, in one go";

/// Make one HTML page of a report, or of a lab that is up
///
/// Of a lab, it probes it, as `check` does, and ends as that does. The page needs no other file and no network.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Lab that is up, or its topology, or a file with what `up`, `check` or `test` printed with --format json
    #[arg(value_name = "LAB|FILE")]
    what: String,
    /// Write it to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Of a lab: also do the topology's steps, which change the lab
    #[arg(long)]
    steps: bool,
    /// Of a file: the topology that the page draws [default: the one that `test` noted, if it is still there]
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// Of a file of several labs: which
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// One lab of a file. `test` writes a list of these.
#[derive(Debug, Deserialize)]
struct Entry {
    lab: String,
    #[serde(default)]
    topology: String,
    #[serde(default = "once")]
    tries: usize,
    report: Option<Report>,
    error: Option<String>,
}

fn once() -> usize {
    1
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let path = Path::new(&args.what);
    let is_topology = path.extension().is_some_and(|e| e == "yaml" || e == "yml") && path.is_file();
    if is_topology || topology::is_lab(&args.what, context)? {
        if args.topology.is_some() || args.lab.is_some() {
            return Err(Error::Usage("--topology and --lab are for files with a report".to_owned()));
        }
        of_lab(&args, context).await
    } else {
        if args.steps {
            return Err(Error::Usage(
                "--steps is for a lab that is up: a report has the steps that were done".to_owned(),
            ));
        }
        of_file(&args, context)
    }
}

async fn of_lab(args: &Args, context: &Context) -> Result<Exit, Error> {
    let (dir, plan) = topology::running(&args.what, context)?;
    let mut stop = Stop::new()?;
    let mut progress = Progress::new(&context.printer, dir.name());
    let how = Checking { steps: args.steps, ..Checking::default() };
    let mut found = session::check(&dir, how, &mut progress, &mut stop).await;
    drop(progress);
    predicted::join(&mut found, &plan.lab);
    if matches!(found, Err(Error::Interrupted)) {
        return Err(Error::Interrupted);
    }
    let error = found.as_ref().err().map(ToString::to_string);
    let captures = found.as_ref().map(captures::of).unwrap_or_default();
    let run = Run {
        lab: dir.name(),
        topology: &topology::shorten(&plan.topology),
        model: Some(&plan.lab),
        report: found.as_ref().ok(),
        captures: &captures,
        error: error.as_deref(),
        tries: 1,
    };
    context.printer.document(&page(&run)?, args.output.as_deref())?;
    Ok(Exit::holds(found?.holds))
}

fn of_file(args: &Args, context: &Context) -> Result<Exit, Error> {
    let text = fs::read_to_string(&args.what).map_err(Error::file("read", &args.what))?;
    let no_report = |why: String| Error::Usage(format!("{} is no report of labctl: {why}", args.what));
    let json: Value = serde_json::from_str(&text).map_err(|e| no_report(e.to_string()))?;
    let entry = entry(json, args.lab.as_deref()).map_err(no_report)?;
    let model = model(args, &entry, context)?;
    let noted = args.topology.as_ref().map_or(entry.topology, |file| file.display().to_string());
    let captures = entry.report.as_ref().map(captures::of).unwrap_or_default();
    let run = Run {
        lab: &entry.lab,
        topology: &noted,
        model: model.as_ref(),
        report: entry.report.as_ref(),
        captures: &captures,
        error: entry.error.as_deref(),
        tries: entry.tries,
    };
    context.printer.document(&page(&run)?, args.output.as_deref())?;
    Ok(Exit::OK)
}

/// Finds the lab's entry in what `up`, `check`, `check --repeat` or `test` printed; an error of theirs, too.
fn entry(mut json: Value, lab: Option<&str>) -> Result<Entry, String> {
    if let Some(version) = json.get("version").filter(|v| v.as_u64() != Some(VERSION.into())) {
        return Err(format!("it is of version {version}, and this labctl reads {VERSION}"));
    }
    let fits = |entry: &Entry| lab.is_none_or(|lab| lab == entry.lab);
    if let Some(labs) = json.get_mut("labs") {
        let all: Vec<Entry> = serde_json::from_value(labs.take()).map_err(|e| e.to_string())?;
        let names = all.iter().map(|entry| entry.lab.clone()).collect::<Vec<_>>().join(", ");
        let mut fitting = all.into_iter().filter(fits);
        return match (fitting.next(), fitting.next()) {
            (Some(entry), None) => Ok(entry),
            (Some(_), Some(_)) => Err(format!("it is of several labs ({names})\nhint: say which with --lab")),
            (None, _) if names.is_empty() => Err("it is of no lab".to_owned()),
            (None, _) => Err(format!("it has no such lab, but {names}")),
        };
    }
    if let Some(error) = json.get("error").and_then(Value::as_str) {
        let lab = lab.unwrap_or("lab").to_owned();
        return Ok(Entry {
            lab,
            topology: String::new(),
            tries: 1,
            report: None,
            error: Some(error.to_owned()),
        });
    }
    // `check --repeat` has the last run in an object of its own.
    let report = if json.get("runs").is_some() { json["report"].take() } else { json };
    let report: Report = serde_json::from_value(report).map_err(|e| e.to_string())?;
    if let Some(lab) = lab.filter(|lab| *lab != report.lab) {
        return Err(format!("it is of lab `{}`, not `{lab}`", report.lab));
    }
    let lab = report.lab.clone();
    Ok(Entry { lab, topology: String::new(), tries: 1, report: Some(report), error: None })
}

/// The topology that is given, or noted and still of this lab.
fn model(args: &Args, entry: &Entry, context: &Context) -> Result<Option<Lab>, Error> {
    match &args.topology {
        Some(file) => Ok(Some(topology::load(file, context)?.lab)),
        None => {
            let noted = topology::load(Path::new(&entry.topology), context).ok().map(|t| t.lab);
            Ok(noted.filter(|lab| lab.name == entry.lab))
        }
    }
}
