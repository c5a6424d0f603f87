//! `labctl explain`

use labctl_model::{DEFAULT_TIMEOUT, Lab, Target};
use labctl_oracle::Query;
use labctl_render::{beside::Beside, graph, predicted};
use labctl_report::Report;
use labctl_runtime::Checking;
use serde::Serialize;

use crate::{
    captures,
    cell::{CellArgs, only},
    context::Context,
    engines::Engines,
    exit::{Error, Exit},
    printer::Format,
    progress::Progress,
    topology,
};

const EXAMPLES: &str = "\
Examples:
  labctl explain topologies/ipvlan-2host.yaml host1 c1-1
  labctl explain topologies/ingress.yaml client host3 tcp/8080
  labctl explain topologies/vpn-conflict.yaml host1 172.20.2.52 --step 1
  labctl explain lab.yaml c1 c2@backend icmp --size 1400
  labctl explain lab.yaml web db tcp/5432 --by-name
  labctl explain ipvlan-2host c1-1 host1              of a lab that is up
  labctl explain lab.yaml web db --graph              as a diagram

Each line of the walk is a place (namespace/interface, or a segment), the packet as it is there, and the rule, route or table
that decides. If the cell is not `yes`, single changes to the topology that make it so are below, each with the other
cells that it changes.

In a lab that is up the same probe is fired once, and what was seen of its packets stands beside each place.

Exit status: 0; in a lab that is up 1 if it came out otherwise than predicted.";

/// Walk one packet through a topology, hop by hop, and say where and why it ends, and what would let it through
///
/// FROM is a host, container or peer. TO is one of these, a service, an address, or NAME@NETWORK, as in the tables of a
/// topology. The cell need not be one that the topology expects anything of.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Topology, or a lab that is up
    #[arg(value_name = "FILE|LAB")]
    what: String,
    #[command(flatten)]
    cell: CellArgs,
    /// After so many of the topology's steps
    #[arg(long, value_name = "N", default_value_t = 0)]
    step: usize,
    /// Draw the walk as a sequence diagram of Mermaid, for a Markdown file; not with `--format json`
    #[arg(long)]
    graph: bool,
    #[command(flatten)]
    engines: Engines,
}

/// The result as JSON.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    explanation: &'a labctl_oracle::Explanation,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed: Option<&'a Beside>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    if args.graph && context.printer.format == Format::Json {
        return Err(Error::Usage("--graph is a form of its own\nhint: leave out --format json".to_owned()));
    }
    let topology = topology::named(&args.what, &args.engines, context)?;
    let mut lab = topology.lab;
    let to = args.cell.target(&lab)?;
    if args.step > lab.steps.len() {
        let message =
            format!("lab `{}` has {} steps, so there is no step {}", lab.name, lab.steps.len(), args.step);
        return Err(Error::Usage(format!("{message}\nhint: --step 0 is the lab as it comes up")));
    }
    let (by, family) = (args.cell.by(), args.cell.probed());
    let (from, probe) = (args.cell.from.clone(), args.cell.probe.clone());
    let query = Query { from, to: to.clone(), probe, by, family, size: args.cell.size, step: args.step };
    let seen = match topology::is_lab(&args.what, context)? {
        true => Some(fire(&args, to, context).await?),
        false => None,
    };
    // Where a step is named, it says what was done.
    if let Some(report) = seen.as_ref().filter(|_| args.step == 0) {
        lab.done.clone_from(&report.after);
    }
    let explanation = labctl_oracle::explain(&lab, &query);
    let observed = seen.map(|report| beside(&args, &lab, &explanation, &report)).transpose()?;
    let observed = observed.as_ref();
    match context.printer.format {
        _ if args.graph => context.printer.data(graph::walks(&explanation.walks, observed).trim_end())?,
        Format::Json => context.printer.json(&Whole { explanation: &explanation, observed })?,
        Format::Text => context.printer.data(&predicted::explained(&explanation, observed))?,
    }
    Ok(Exit::holds(observed.is_none_or(|o| o.agrees != Some(false))))
}

/// Probes the cell in the lab that is up, and looks at each hop.
async fn fire(args: &Args, to: Target, context: &Context) -> Result<Report, Error> {
    let (dir, _) = context.lab(&args.what)?;
    let how = Checking { trace: true, ..Checking::default() };
    let mut progress = Progress::new(&context.printer, dir.name());
    args.cell.fire(to, DEFAULT_TIMEOUT, how, &dir, &mut progress).await
}

/// Lays what was seen beside the walks.
fn beside(
    args: &Args,
    lab: &Lab,
    explanation: &labctl_oracle::Explanation,
    report: &Report,
) -> Result<Beside, Error> {
    let frames = captures::of(report).into_iter().flat_map(|capture| capture.frames).collect::<Vec<_>>();
    let (_, cell) = only(report)?;
    Ok(Beside::new(lab, explanation, cell, &args.cell.probe, &frames))
}
