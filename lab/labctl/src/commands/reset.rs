//! `labctl reset`

use crate::{
    context::Context,
    exit::{Error, Exit},
    session,
    stop::Stop,
};

const EXAMPLES: &str = "\
Examples:
  labctl reset ingress                      what it was at the end of `up`
  labctl reset ingress before-the-lesson    what it was when `labctl checkpoint save` saved that";

/// Make a lab again what it was at the end of `up`, or when a checkpoint of it was saved
///
/// Takes well under a second. All that happened in the lab since is lost, on every host and on the wire; commands that
/// run in it end.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Lab, as `labctl ps` names it
    #[arg(value_name = "LAB")]
    lab: String,
    /// Checkpoint
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let (dir, _) = context.lab(&args.lab)?;
    let mut stop = Stop::new()?;
    session::reset(&dir, args.name, &mut stop).await?;
    context.printer.say(&format!("lab {} is reset", args.lab));
    Ok(Exit::OK)
}
