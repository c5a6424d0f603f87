//! `labctl up`

use std::path::PathBuf;

use labctl_render::predicted;
use labctl_report::{count, text};
use labctl_runtime::{Checking, teardown};
use serde_json::json;

use crate::{
    context::Context,
    engines::Engines,
    exit::{Error, Exit},
    printer::Format,
    progress::Progress,
    session::{self, Manner},
    stop::Stop,
    topology,
};

const EXAMPLES: &str = "\
Examples:
  labctl up topologies/ipvlan-2host.yaml
  labctl up lab.yaml --no-check && labctl exec lab host1 -- ip address
  labctl up lab.yaml --replace             the lab anew, after its topology was changed
  labctl up topologies/ipvlan-2host.yaml --name seat-07     the same lab under another name
  labctl up lab.yaml --format json | jq '.checks[].found.cells[]? | select(.holds | not)'

Take it away again with `labctl down`.";

/// Bring a lab up, probe every pair, leave it running
///
/// Starts the hosts of a topology, makes its networks and containers, probes what the topology expects and prints
/// what came out. The lab stays up, whether it holds or not. A lab that does not come up leaves nothing behind, unless
/// `--keep` leaves it for a look; one that is interrupted never does.
///
/// The first `up` of a topology leaves a checkpoint, the next ones take the lab from it, within seconds, and say so.
/// `--fresh` makes it anew.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Topology
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Give the lab another name than the topology does, so that there can be several of it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    manner: Manner,
    #[command(flatten)]
    engines: Engines,
    /// If a lab of this name is up, take it down first
    #[arg(long)]
    replace: bool,
    /// Leave it at bringing the lab up
    #[arg(long)]
    no_check: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let mut topology = topology::load_with(&args.file, &args.engines.choice(context)?)?;
    if let Some(name) = args.name {
        topology.rename(name)?;
    }
    if !topology.notes.is_empty() {
        let (told, file) = (count(topology.notes.len(), "thing"), &topology.shown);
        context.printer.say(&format!(
            "{told} of its Compose file come out otherwise in a lab: `labctl validate {file}`"
        ));
    }
    let mut stop = Stop::new()?;
    let mut progress = Progress::new(&context.printer, &topology.lab.name);
    if args.replace {
        match teardown::down(&context.dirs, &topology.lab.name).await {
            Ok(warnings) => warnings.iter().for_each(|w| context.printer.warn(w)),
            Err(labctl_runtime::Error::State(labctl_state::Error::NoSuchLab { .. })) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let manner = Manner { checkpoint: args.manner.checkpoint.or(Some(true)), ..args.manner };
    let dir = session::bring_up(context, &topology, &manner, &mut progress, &mut stop).await?;
    if args.no_check {
        drop(progress);
        match context.printer.format {
            Format::Json => context.printer.json(&json!({ "lab": topology.lab.name, "stage": "up" }))?,
            Format::Text => context.printer.say(&format!("lab {} is up", topology.lab.name)),
        }
        return Ok(Exit::OK);
    }
    let mut checked = session::check(&dir, Checking::default(), &mut progress, &mut stop).await;
    predicted::join(&mut checked, &topology.lab);
    if matches!(checked, Err(Error::Interrupted)) {
        session::clear(context, &dir, &mut progress, &mut stop).await;
    }
    drop(progress);
    let found = checked?;
    match context.printer.format {
        Format::Json => context.printer.json(&found)?,
        Format::Text => {
            context.printer.data(&text::text(&found, &topology.shown, context.printer.wide))?;
            context.printer.data(&predicted::beside(&found))?;
        }
    }
    Ok(Exit::holds(found.holds))
}
