//! `labctl host`

use clap::Subcommand;
use labctl_model::{Action, Power};

use crate::{
    context::{Context, require_host},
    exit::{Error, Exit},
    progress::Progress,
    session,
    stop::Stop,
};

const EXAMPLES: &str = "\
Examples:
  labctl host kill ipvlan-2host host2      pull the plug
  labctl check ipvlan-2host                see what the others notice
  labctl host start ipvlan-2host host2     a new machine with the same name and addresses

A host that is started again has a new disk: the networks and containers that the topology gives it are made again,
anything else that was written in it is gone. One that was a node of a swarm joins it again, as a new node in its role.";

/// Kill, stop or start one host of a lab
///
/// The rest of the lab goes on. A host's disk is in its memory, so it does not outlive the host: `start` makes a new
/// machine with the same name, MACs and addresses, and with the networks and containers that the topology gives it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    change: Change,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Pull its plug: nothing in it gets to say goodbye
    Kill(Which),
    /// Stop its containers, then the machine
    Stop(Which),
    /// Make it again, with a new disk
    Start(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Lab, as `labctl ps` names it
    #[arg(value_name = "LAB")]
    lab: String,
    /// Host
    #[arg(value_name = "HOST")]
    host: String,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let (power, done, which) = match args.change {
        Change::Kill(which) => (Power::Kill, "is killed", which),
        Change::Stop(which) => (Power::Stop, "is stopped", which),
        Change::Start(which) => (Power::Start, "runs", which),
    };
    let (dir, plan) = context.lab(&which.lab)?;
    require_host(&plan, &which.host)?;
    let (mut progress, mut stop) = (Progress::new(&context.printer, dir.name()), Stop::new()?);
    session::act(&dir, Action::Power { host: which.host.clone(), power }, &mut progress, &mut stop).await?;
    drop(progress);
    context.printer.say(&format!("host {} {done}", which.host));
    Ok(Exit::OK)
}
