//! `labctl completions`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{
    cli::Cli,
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
pub fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    context.printer.bytes(&generate(args.shell))?;
    Ok(Exit::OK)
}

fn generate(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "labctl", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_learns_every_verb() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8_lossy(&generate(*shell)).into_owned();
            assert!(script.contains("capture") && script.contains("doctor"), "{shell}");
        }
    }
}
