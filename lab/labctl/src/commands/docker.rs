//! `labctl docker`

use std::{io::ErrorKind, os::unix::process::CommandExt, process::Command};

use labctl_model::Tools;

use super::exec;
use crate::{
    context::{Context, require_host},
    exit::{Error, Exit},
};

const EXAMPLES: &str = "\
Examples:
  labctl docker ipvlan-2host host1 -- ps --all
  labctl docker ipvlan-2host host1 -- network inspect ipvlan_net";

/// Run docker against a host of a lab
///
/// Runs this machine's own docker client, pointed at the dockerd of the host. Without one here, the client of the host
/// itself is run there.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Lab, as `labctl ps` names it
    #[arg(value_name = "LAB")]
    lab: String,
    /// Host of the lab
    #[arg(value_name = "HOST")]
    host: String,
    /// Arguments for docker
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub args: Vec<String>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let (dir, plan) = context.lab(&args.lab)?;
    require_host(&plan, &args.host)?;
    let socket = format!("unix://{}", dir.docker_socket(&args.host).display());
    // Becomes docker: its terminal, its signals, its exit status. Returns only if that failed.
    let error =
        Command::new("docker").env_remove("DOCKER_CONTEXT").arg("-H").arg(socket).args(&args.args).exec();
    if error.kind() != ErrorKind::NotFound {
        return Err(Error::Environment(format!("cannot run docker: {error}")));
    }
    let argv = std::iter::once("docker".to_owned()).chain(args.args).collect();
    let command = labctl_model::Command { place: args.host, tools: Tools::Own, argv };
    exec::in_lab(context, &dir, command).await
}
