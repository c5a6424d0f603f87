//! The command line: global options and the list of verbs. Each verb's own arguments are in its file.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::{commands::*, printer::Format};

const AFTER: &str = "\
Examples:
  labctl doctor                            what this machine can do
  labctl up topologies/ipvlan-2host.yaml   two Docker hosts on two kernels, every pair probed
  labctl exec ipvlan-2host host1 -- ip route
  labctl down --all

Exit status:
  0    what was expected holds, or what was asked for is done
  1    something came out otherwise than the topology says
  2    the command line or the topology is wrong
  3    this machine cannot do it: something is missing or not allowed
  130  interrupted, or the lab was taken down by another command; what the command had made is taken down
  `exec` and `docker` pass on the status of what they run.

With --format json, an error is also told on stdout: {\"error\": …, \"exit_code\": …}.";

/// Labs of real Docker hosts on real kernels, from YAML: every pair probed, every verdict explained
///
/// labctl turns a topology into Docker hosts, each with a kernel and a dockerd of its own, wired together by an
/// underlay that it controls packet by packet; probes every pair in it; and says for every cell what was expected,
/// what was observed, and why.
#[derive(Debug, Parser)]
#[command(name = "labctl", version, after_long_help = AFTER, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = true, propagate_version = false)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options that every verb takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Form of the data on stdout
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub format: Format,
    /// When to use colour; NO_COLOR is heeded too
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: When,
    /// Log more to stderr; repeat for still more (RUST_LOG is finer)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// No progress, only data, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Where labs are kept [default: ~/.local/state/labctl]
    #[arg(long, global = true, value_name = "DIR", env = "LABCTL_STATE_DIR", hide_env_values = true)]
    pub state_dir: Option<PathBuf>,
    /// Where node images are kept [default: ~/.cache/labctl]
    #[arg(long, global = true, value_name = "DIR", env = "LABCTL_CACHE_DIR", hide_env_values = true)]
    pub cache_dir: Option<PathBuf>,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal
    #[default]
    Auto,
    /// Even into a pipe
    Always,
    /// Not at all
    Never,
}

/// What labctl can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Up(up::Args),
    Check(check::Args),
    Test(test::Args),
    Down(down::Args),
    Ps(ps::Args),
    Do(r#do::Args),
    Host(host::Args),
    Exec(exec::Args),
    Docker(docker::Args),
    Env(env::Args),
    Logs(logs::Args),
    Capture(capture::Args),
    Send(send::Args),
    Vxlan(vxlan::Args),
    Validate(validate::Args),
    Schema(schema::Args),
    Image(image::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    Supervise(supervise::Args),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_teaches_by_example() {
        for verb in Cli::command().get_subcommands().filter(|v| !v.is_hide_set()) {
            let help = verb.clone().render_long_help().to_string();
            assert!(help.contains("labctl "), "`{}` shows no example:\n{help}", verb.get_name());
        }
    }

    #[test]
    fn commands_for_elsewhere_keep_their_own_options() {
        let cli = Cli::try_parse_from(["labctl", "docker", "lab", "h1", "--", "ps", "-a", "--format", "x"])
            .unwrap();
        let Verb::Docker(args) = cli.verb else { panic!("no docker") };
        assert_eq!(args.args, ["ps", "-a", "--format", "x"]);
        assert_eq!(cli.global.format, Format::Text);
    }
}
