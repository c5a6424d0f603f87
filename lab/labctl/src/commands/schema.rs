//! `labctl schema`

use crate::{
    context::Context,
    exit::{Error, Exit},
};

const EXAMPLES: &str = "\
Examples:
  labctl schema > topology.schema.json

With the YAML language server, this line in a topology makes editors complete and check it:
  # yaml-language-server: $schema=topology.schema.json";

/// Print the JSON Schema of topologies
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {}

/// Runs the verb.
pub fn run(_: Args, context: &Context) -> Result<Exit, Error> {
    context.printer.json(&labctl_topology::schema())?;
    Ok(Exit::OK)
}
