//! `labctl predict`

use std::path::PathBuf;

use crate::{
    context::Context,
    engines::Engines,
    exit::{Error, Exit},
    printer::Format,
    render::predicted,
    topology,
};

const EXAMPLES: &str = "\
Examples:
  labctl predict topologies/ipvlan-2host.yaml
  labctl predict --engine bookworm lab.yaml
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
    /// Topology
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    engines: Engines,
}

/// Runs the verb.
pub fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let topology = topology::load_with(&args.file, &args.engines)?;
    let predictions = labctl_oracle::predict(&topology.lab);
    match context.printer.format {
        Format::Json => context.printer.json(&predictions)?,
        Format::Text => context.printer.data(&predicted::text(&predictions, &topology.shown))?,
    }
    Ok(Exit::holds(predictions.holds))
}
