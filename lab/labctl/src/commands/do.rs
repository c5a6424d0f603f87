//! `labctl do`

use labctl_model::{Action, LoadError};

use crate::{
    context::Context,
    exit::{Error, Exit},
    printer::plain,
    progress::Progress,
    session,
    stop::Stop,
};

const EXAMPLES: &str = "\
Examples:
  labctl do ingress cut host2                      nothing gets to or from it any more
  labctl do ingress cut host2 on lan inbound       it still sends
  labctl do ingress heal host2
  labctl do ingress block udp/4789                 VXLAN dies on the wire; `labctl capture` shows where
  labctl do ingress block tcp/2377 from host3 to host1
  labctl do ingress unblock all
  labctl do ingress scale web 4
  labctl do ingress 'update web { ports: [\"8081:80\"] } within 1m'
  labctl do ingress restart docker host2

What there is to do, and its words, are those of a topology's steps: docs/topology.md, `steps`. What is cut and blocked is
shown by `labctl ps`.";

/// Do in a running lab what a step of its topology could do
///
/// Stops and starts containers and hosts, cuts hosts off and heals them, blocks ports on the wire, changes networks,
/// routes, services and the swarm. The words are those of `do` in a topology's `steps`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Lab, as `labctl ps` names it
    #[arg(value_name = "LAB")]
    lab: String,
    /// The action, in words
    #[arg(value_name = "ACTION", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    action: Vec<String>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let (dir, plan) = context.lab(&args.lab)?;
    let text = args.action.join(" ");
    let action = Action::parse(&text, &plan.lab).map_err(LoadError::Invalid)?;
    let (mut progress, mut stop) = (Progress::new(&context.printer, dir.name()), Stop::new()?);
    session::act(&dir, action, &mut progress, &mut stop).await?;
    drop(progress);
    context.printer.say(&format!("done: {}", plain(&text)));
    Ok(Exit::OK)
}
