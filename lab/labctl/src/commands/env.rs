//! `labctl env`

use serde_json::json;

use crate::{
    context::{Context, require_host},
    exit::{Error, Exit},
    printer::Format,
};

const EXAMPLES: &str = "\
Examples:
  eval \"$(labctl env ipvlan-2host host1)\"
  docker ps";

/// Point your own docker at a host of a lab
///
/// Prints the shell command that makes docker, compose and everything else that heeds DOCKER_HOST talk to the dockerd
/// of this host, over a unix socket on this machine.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Lab, as `labctl ps` names it
    #[arg(value_name = "LAB")]
    lab: String,
    /// Host of the lab
    #[arg(value_name = "HOST")]
    host: String,
}

/// Runs the verb.
pub fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let (dir, plan) = context.lab(&args.lab)?;
    require_host(&plan, &args.host)?;
    let url = format!("unix://{}", dir.docker_socket(&args.host).display());
    match context.printer.format {
        Format::Json => context.printer.json(&json!({ "DOCKER_HOST": url }))?,
        Format::Text => context.printer.data(&format!("export DOCKER_HOST={}", quoted(&url)))?,
    }
    Ok(Exit::OK)
}

/// Quotes text for a POSIX shell.
fn quoted(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/:._-+@%".contains(c);
    if text.chars().all(harmless) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_the_path_as_it_is() {
        assert_eq!(quoted("unix:///a/b.sock"), "unix:///a/b.sock");
        assert_eq!(quoted("unix:///it's $HOME"), r"'unix:///it'\''s $HOME'");
    }
}
