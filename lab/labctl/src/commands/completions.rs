//! `labctl completions`

use clap::Command;
use clap_complete::Shell;

use crate::{
    context::Context,
    exit::{Error, Exit},
};

const EXAMPLES: &str = "\
Examples:
  labctl completions bash > ~/.local/share/bash-completion/completions/labctl
  labctl completions zsh > ~/.zfunc/_labctl
  labctl completions fish > ~/.config/fish/completions/labctl.fish";

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Runs the verb.
pub fn run(args: Args, root: &mut Command, context: &Context) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, root, "labctl", &mut script);
    context.printer.bytes(&script)?;
    Ok(Exit::OK)
}
