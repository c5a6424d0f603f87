//! `labctl down`

use std::path::Path;

use labctl_machines::state;
use labctl_runtime::teardown;
use serde_json::json;

use crate::{
    context::Context,
    exit::{Error, Exit},
    printer::Format,
    progress::Progress,
    topology,
};

const EXAMPLES: &str = "\
Examples:
  labctl down ipvlan-2host
  labctl down topologies/ipvlan-2host.yaml
  labctl down --all";

/// Take labs down, even after a crash
///
/// Ends a lab's machines and processes and removes its files. What is gone already counts as done. Where something
/// cannot be removed, the rest is, and it says what is left.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Labs by name, or the topologies that they came from
    #[arg(value_name = "LAB|FILE", required_unless_present = "all")]
    labs: Vec<String>,
    /// Every lab that there is
    #[arg(long, conflicts_with = "labs")]
    all: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let mut worst = Exit::OK;
    let mut fail = |e: Error| {
        context.printer.error(&e);
        worst = worst.max(e.exit());
    };
    let mut names = Vec::new();
    if args.all {
        names.extend(state::list(&context.dirs)?.iter().map(|d| d.name().to_owned()));
        if names.is_empty() {
            context.printer.say("no lab is up");
        }
    }
    for given in &args.labs {
        match resolve(context, given) {
            Ok(Some(name)) => names.push(name),
            Ok(None) => context.printer.say(&format!("the lab of {given} is not up")),
            Err(e) => fail(e),
        }
    }
    names.dedup();
    let mut down = Vec::new();
    for name in names {
        let progress = Progress::new(&context.printer, &name);
        let done = teardown::down(&context.dirs, &name).await;
        drop(progress);
        match done {
            Ok(warnings) => {
                warnings.iter().for_each(|w| context.printer.warn(w));
                context.printer.say(&format!("lab {name} is down"));
                down.push(json!({ "lab": name, "warnings": warnings }));
            }
            Err(e) => fail(e.into()),
        }
    }
    if context.printer.format == Format::Json {
        context.printer.json(&json!({ "down": down, "exit_code": worst.0 }))?;
    }
    Ok(worst)
}

/// Finds the lab that `given` names; `None` if it is a topology whose lab is not up.
fn resolve(context: &Context, given: &str) -> Result<Option<String>, Error> {
    let labs = state::list(&context.dirs)?;
    if labs.iter().any(|d| d.name() == given) {
        return Ok(Some(given.to_owned()));
    }
    let path = Path::new(given);
    if !path.is_file() {
        state::find(&context.dirs, given)?;
        return Ok(Some(given.to_owned()));
    }
    // By path first: the file may have been edited or broken since.
    let absolute = std::path::absolute(path).map_err(Error::file("use", given))?;
    let from_it: Vec<_> = labs.iter().filter(|d| d.plan().is_ok_and(|p| p.topology == absolute)).collect();
    if let [dir] = from_it.as_slice() {
        return Ok(Some(dir.name().to_owned()));
    }
    let name = topology::load(path)?.lab.name;
    if labs.iter().any(|d| d.name() == name) {
        return Ok(Some(name));
    }
    if from_it.is_empty() {
        return Ok(None);
    }
    let names: Vec<_> = from_it.iter().map(|d| d.name()).collect();
    let message =
        format!("several labs come from {given}\nhint: name those that are meant: {}", names.join(", "));
    Err(Error::Usage(message))
}
