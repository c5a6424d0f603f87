//! `labctl down`

use std::path::{Path, PathBuf};

use labctl_machines::{Error as MachineError, ssh};
use labctl_model::Lab;
use labctl_runtime::teardown;
use labctl_state::Machines;
use serde_json::json;

use crate::{
    context::{Context, agent},
    exit::{Error, Exit},
    printer::Format,
    progress::Progress,
    topology,
};

const EXAMPLES: &str = "\
Examples:
  labctl down ipvlan-2host
  labctl down topologies/ipvlan-2host.yaml
  labctl down ipvlan-2host --machines machines.yaml   # a lab on real machines, from wherever it was made
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
    /// Also clear these machines of what the labs left there, whoever made them: for labs of `--runtime ssh` that are not
    /// known here any more
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    machines: Option<PathBuf>,
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
        names.extend(labctl_state::list(&context.dirs)?.iter().map(|d| d.name().to_owned()));
        if names.is_empty() {
            context.printer.say("no lab is up");
        }
    }
    // With machines, a lab need not be known here.
    let mut there = Vec::new();
    for given in &args.labs {
        if args.machines.is_some() {
            match name_of(context, given) {
                Ok(name) => there.push(name),
                Err(e) => {
                    fail(e);
                    continue;
                }
            }
        }
        match topology::up_from(given, context) {
            Ok(Some(name)) => names.push(name),
            Ok(None) | Err(_) if args.machines.is_some() => {}
            Ok(None) => context.printer.say(&format!("the lab of {given} is not up")),
            // What is gone already counts as done.
            Err(Error::Runtime(labctl_runtime::Error::State(labctl_state::Error::NoSuchLab {
                name,
                hint,
            }))) => {
                context.printer.say(&format!("lab {name} is not up\nhint: {hint}"));
            }
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
            Err(labctl_runtime::Error::State(labctl_state::Error::NoSuchLab { .. })) => {
                context.printer.say(&format!("lab {name} is down"));
            }
            Err(e) => fail(e.into()),
        }
    }
    if let Some(file) = &args.machines {
        let machines = Machines::load(file).map_err(MachineError::from)?;
        let agent = agent()?;
        for name in there {
            let warnings = ssh::sweep_machines(&machines, &name, &agent).await?;
            warnings.iter().for_each(|w| context.printer.warn(w));
            if warnings.is_empty() {
                context
                    .printer
                    .say(&format!("nothing of lab {name} is left on the machines of {}", file.display()));
            } else {
                worst = worst.max(Exit::ENVIRONMENT);
            }
            down.push(json!({ "lab": name, "machines": file, "warnings": warnings }));
        }
    }
    if context.printer.format == Format::Json {
        context.printer.json(&json!({ "down": down, "exit_code": worst.0 }))?;
    }
    Ok(worst)
}

/// The name of a lab, known here or not.
fn name_of(context: &Context, given: &str) -> Result<String, Error> {
    match topology::is_lab(given, context)? {
        true if Lab::is_name(given) => Ok(given.to_owned()),
        true => Err(Error::Usage(format!("`{given}` is no name of a lab: {}", Lab::NAME))),
        false => Ok(topology::load(Path::new(given), context)?.lab.name),
    }
}
