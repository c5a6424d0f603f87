//! `labctl predict`

use std::path::PathBuf;

use labctl_model::Probe;
use labctl_render::{counted, predicted};

use crate::{
    context::Context,
    engines::Engines,
    exit::{Error, Exit},
    printer::Format,
    topology,
};

const EXAMPLES: &str = "\
Examples:
  labctl predict topologies/ipvlan-2host.yaml
  labctl predict --engine bookworm lab.yaml
  labctl predict lab.yaml --against lab-with-another-subnet.yaml
  labctl predict large.yaml --summary
  labctl predict large.yaml --summary --probe tcp/80 --probe icmp
  labctl predict lab.yaml --format json | jq '.scenes[].checks[].cells[]? | select(.agreement.is == \"unknown\")'

A cell is `unknown` where the oracle cannot know: what a command did, what an image listens on, what it does not model;
`arp|silent` where it may be either. docs/oracle.md says what is modelled.";

/// Say what will reach what in a topology, and why, without running anything
///
/// Predicts every matrix of the topology, steps included. Where a prediction differs from what the topology expects, it
/// shows both words and the packet's walk, and ends with 1.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Topology, or a lab that is up
    #[arg(value_name = "FILE|LAB")]
    what: String,
    /// Show only which of its cells come out otherwise in this topology, and why; ends with 1 if one does
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Count all pairs of hosts, containers and peers by their words, and show which endpoints have one fate, instead of the
    /// topology's matrices; for labs with too many cells to list
    #[arg(long, conflicts_with = "against")]
    summary: bool,
    /// What `--summary` probes; without it, what the topology's matrices probe by address, or icmp
    #[arg(long, value_name = "PROBE", requires = "summary")]
    probe: Vec<Probe>,
    #[command(flatten)]
    engines: Engines,
}

/// Runs the verb.
pub fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let topology = topology::named(&args.what, &args.engines, context)?;
    if let Some(file) = &args.against {
        let other = topology::load_with(file, &args.engines.choice(context)?)?;
        let found = labctl_oracle::compare(&topology.lab, &other.lab);
        match context.printer.format {
            Format::Json => context.printer.json(&found)?,
            Format::Text => {
                context.printer.data(&predicted::compared_with(&found, &topology.shown, &other.shown))?
            }
        }
        return Ok(Exit::holds(found.differing.is_empty()));
    }
    if args.summary {
        if let Some(lookup) = args.probe.iter().find(|probe| matches!(probe, Probe::Dns(_))) {
            return Err(Error::Usage(format!("{lookup} has one right answer, so there is nothing to count")));
        }
        let summary = labctl_oracle::summarize(&topology.lab, &args.probe);
        match context.printer.format {
            Format::Json => context.printer.json(&summary)?,
            Format::Text => context.printer.data(&counted::text(&summary, context.printer.wide))?,
        }
        return Ok(Exit::OK);
    }
    let predictions = labctl_oracle::predict(&topology.lab);
    match context.printer.format {
        Format::Json => context.printer.json(&predictions)?,
        Format::Text => {
            context.printer.data(&predicted::text(&predictions, &topology.shown, context.printer.wide))?
        }
    }
    Ok(Exit::holds(predictions.holds))
}
