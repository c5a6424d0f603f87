//! `labctl do`

use labctl_model::Action;
use labctl_topology::{ACTION_FORMS, LoadError, parse_action};

use crate::{
    commands::exec,
    context::Context,
    exit::{Error, Exit},
    printer::{Format, plain},
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
  labctl do ingress kill host2                     pull its plug
  labctl do ingress start host2                    a new machine with its name and addresses

A host's disk is in its memory, so it does not outlive the host. One that is started again gets the networks and containers
that the topology gives it; anything else that was written in it is gone. A node of a swarm joins it again, as a new node.

`labctl do --list` lists all forms; they are those of a topology's steps: docs/topology.md, `steps`. What is cut and blocked
is shown by `labctl ps`.";

/// Do in a running lab what a step of its topology could do
///
/// Stops and starts containers and hosts, cuts hosts off and heals them, blocks ports on the wire, changes networks,
/// routes, services and the swarm. The words are those of `do` in a topology's `steps`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Lab, as `labctl ps` names it
    #[arg(value_name = "LAB", required_unless_present = "list")]
    lab: Option<String>,
    /// The action, in words
    #[arg(value_name = "ACTION", trailing_var_arg = true, allow_hyphen_values = true)]
    action: Vec<String>,
    /// List the forms of all actions
    #[arg(long)]
    list: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let Some(lab) = args.lab.filter(|_| !args.list) else {
        return match context.printer.format {
            Format::Json => context.printer.json(&ACTION_FORMS.to_vec()),
            Format::Text => context.printer.data(&ACTION_FORMS.join("\n")),
        }
        .map(|()| Exit::OK);
    };
    let (dir, plan) = context.lab(&lab)?;
    if args.action.is_empty() {
        let hint = "`labctl do --list` has the forms of all actions, as `cut HOST`";
        return Err(Error::Usage(format!("which action?\nhint: {hint}")));
    }
    let text = args.action.join(" ");
    let action = parse_action(&text, &plan.lab).map_err(LoadError::Invalid)?;
    // What a command prints is what one wants of it.
    if let Action::Exec(command) = action {
        return exec::in_lab(context, &dir, command).await;
    }
    let (mut progress, mut stop) = (Progress::new(&context.printer, dir.name()), Stop::new()?);
    session::act(&dir, action, &mut progress, &mut stop).await?;
    drop(progress);
    context.printer.say(&format!("done: {}", plain(&text)));
    Ok(Exit::OK)
}
