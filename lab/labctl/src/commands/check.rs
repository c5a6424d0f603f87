//! `labctl check`

use std::{num::NonZeroUsize, path::PathBuf};

use labctl_runtime::Checking;

use crate::{
    context::Context,
    exit::{Error, Exit},
    printer::Format,
    progress::Progress,
    render::{
        junit::{self, Outcome},
        predicted,
        repeat::Repeated,
        report,
    },
    session,
    stop::Stop,
    topology::shorten,
};

const EXAMPLES: &str = "\
Examples:
  labctl check ipvlan-2host
  labctl check ipvlan-2host --steps
  labctl check ipvlan-2host --repeat 20
  labctl check ipvlan-2host --format json | jq '.checks[].found.cells[]? | select(.holds | not)'
  labctl check ipvlan-2host --junit report.xml";

/// Probe a lab that is up, once more
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Lab, as `labctl ps` names it
    #[arg(value_name = "LAB")]
    lab: String,
    /// Also do the topology's steps, which change the lab
    #[arg(long)]
    steps: bool,
    /// Probe so many times, and name the cells that did not come out alike each time
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "steps")]
    repeat: NonZeroUsize,
    /// Also write JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let (dir, plan) = context.lab(&args.lab)?;
    let mut stop = Stop::new()?;
    let mut progress = Progress::new(&context.printer, &args.lab);
    let how = Checking { steps: args.steps, again: 0 };
    let mut reports = Vec::new();
    for _ in 0..args.repeat.get() {
        reports.push(session::check(&dir, how, &mut progress, &mut stop).await?);
    }
    drop(progress);
    let topology = shorten(&plan.topology);
    let Some(all) = Repeated::of(&reports) else { return Ok(Exit::OK) };
    match (context.printer.format, all.runs) {
        (Format::Json, 1) => context.printer.json(all.report)?,
        (Format::Json, _) => context.printer.json(&all)?,
        (Format::Text, runs) => {
            context.printer.data(&report::text(all.report, &topology))?;
            context.printer.data(&predicted::beside(all.report, &plan.lab))?;
            if runs > 1 {
                context.printer.data(&all.text(&topology))?;
            }
        }
    }
    let exit = Exit::holds(all.holds);
    if let Some(file) = &args.junit {
        let outcome = |report| Outcome::Ran { topology: topology.clone(), report, tries: 1 };
        junit::write(file, &reports.into_iter().map(outcome).collect::<Vec<_>>())?;
    }
    Ok(exit)
}
