//! `labctl graph`

use std::path::PathBuf;

use labctl_render::graph::{Form, draw};

use crate::{
    context::Context,
    engines::Engines,
    exit::{Error, Exit},
    printer::Format,
    topology,
};

const EXAMPLES: &str = "\
Examples:
  labctl graph topologies/ipvlan-2host.yaml                      Mermaid, for a Markdown file
  labctl graph topologies/ingress.yaml --format svg -o lab.svg
  labctl graph ipvlan-2host --format drawio -o lab.drawio        of a lab that is up
  labctl graph lab.yaml --format dot | dot -Tpdf -o lab.pdf

It shows a lab as it is when it has come up. What only steps make is dashed.";

/// Draw a topology: segments, hosts, networks, containers, peers, services
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Topology, or a lab that is up
    #[arg(value_name = "FILE|LAB")]
    what: String,
    /// Form of the drawing
    #[arg(id = "form", long = "format", value_enum, default_value_t, value_name = "FORM")]
    form: Form,
    /// Write it to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Keeps the global `--format`, which means the form of data, away from this verb: by its name clap takes it for
    /// that option, and then does not add another one.
    #[arg(id = "format", long = "data-format", hide = true, value_enum, default_value_t)]
    _data: Format,
}

/// Runs the verb.
pub fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let lab = topology::named(&args.what, &Engines::default(), context)?.lab;
    context.printer.document(&draw(&lab, args.form), args.output.as_deref())?;
    Ok(Exit::OK)
}
