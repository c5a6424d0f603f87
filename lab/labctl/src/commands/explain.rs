//! `labctl explain`

use labctl_oracle::Query;
use labctl_render::{graph, predicted};

use crate::{
    cell::CellArgs,
    context::Context,
    engines::Engines,
    exit::{Error, Exit},
    printer::Format,
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
cells that it changes.";

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
    /// Draw the walk as a sequence diagram of Mermaid, for a Markdown file
    #[arg(long)]
    graph: bool,
    #[command(flatten)]
    engines: Engines,
}

/// Runs the verb.
pub fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let topology = topology::named(&args.what, &args.engines, context)?;
    let lab = &topology.lab;
    let to = args.cell.target(lab)?;
    if args.step > lab.steps.len() {
        let message =
            format!("lab `{}` has {} steps, so there is no step {}", lab.name, lab.steps.len(), args.step);
        return Err(Error::Usage(format!("{message}\nhint: --step 0 is the lab as it comes up")));
    }
    let (by, family) = (args.cell.by(), args.cell.probed());
    let CellArgs { from, probe, size, .. } = args.cell;
    let query = Query { from, to, probe, by, family, size, step: args.step };
    let explanation = labctl_oracle::explain(lab, &query);
    match context.printer.format {
        _ if args.graph => context.printer.data(graph::walks(&explanation.walks).trim_end())?,
        Format::Json => context.printer.json(&explanation)?,
        Format::Text => context.printer.data(&predicted::explained(&explanation))?,
    }
    Ok(Exit::OK)
}
