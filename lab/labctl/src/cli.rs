//! The command line: the list of verbs, and how one is run: colour, logging, the async runtime, the exit status. Each
//! verb's own arguments are in its file.

use std::{io, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use serde_json::json;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{
    commands::*,
    context::{Context, Global, When},
    exit::{Error, Exit},
    printer::{Format, LogWriter, Printer},
};

const AFTER: &str = "\
Examples:
  labctl doctor                            what this machine can do
  labctl predict topologies/ipvlan-2host.yaml   what will reach what, and why, without running anything
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

/// What labctl can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    #[command(alias = "deploy")]
    Up(up::Args),
    Check(check::Args),
    Probe(probe::Args),
    Test(test::Args),
    Lesson(lesson::Args),
    Report(report::Args),
    // As containerlab and others call it.
    #[command(alias = "destroy")]
    Down(down::Args),
    #[command(alias = "inspect")]
    Ps(ps::Args),
    Do(r#do::Args),
    Reset(reset::Args),
    Checkpoint(checkpoint::Args),
    Exec(exec::Args),
    Docker(docker::Args),
    Env(env::Args),
    Logs(logs::Args),
    Capture(capture::Args),
    Send(send::Args),
    Vxlan(vxlan::Args),
    Init(init::Args),
    Import(import::Args),
    Validate(validate::Args),
    Predict(predict::Args),
    Explain(explain::Args),
    Graph(graph::Args),
    Schema(schema::Args),
    Image(image::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    Supervise(supervise::Args),
}

/// Words of other tools, and the verb that does it here.
const ELSEWHERE: [(&str, &str); 7] = [
    ("list ls show status", "ps"),
    ("apply create run start", "up"),
    ("clean delete remove rm stop", "down"),
    ("attach bash connect console shell ssh", "exec"),
    ("curl nc ping traceroute", "probe"),
    ("pcap sniff tcpdump", "capture"),
    ("break cut inject", "do"),
];

/// The same mistake, with the verb that was meant.
fn meant(mut e: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue};
    let given = match e.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(given)) => given.clone(),
        _ => return e,
    };
    let known = ELSEWHERE.iter().find(|(words, _)| words.split(' ').any(|word| word == given));
    if let Some((_, verb)) = known {
        e.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![(*verb).to_owned()]));
    }
    e
}

/// The same mistake, with a usage line that does not name options which environment variables give.
fn usage_of(e: clap::Error) -> clap::Error {
    fn without_variables(verb: clap::Command) -> clap::Command {
        verb.mut_args(|a| a.env(clap::builder::Resettable::Reset)).mut_subcommands(without_variables)
    }
    use clap::error::ErrorKind::*;
    if matches!(e.kind(), DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand) {
        return e;
    }
    without_variables(Cli::command()).try_get_matches().err().unwrap_or(e)
}

/// Reads the command line and runs the verb that it asks for.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|e| meant(usage_of(e)).exit());
    colour(cli.global.color);
    let printer = Printer::new(cli.global.format, cli.global.wide, cli.global.quiet, cli.global.verbose > 0);
    // Their stdout belongs to another program.
    let json = cli.global.format == Format::Json && !matches!(cli.verb, Verb::Exec(_) | Verb::Docker(_));
    let exit = match Context::new(&cli.global, printer) {
        Ok(context) => run(cli, &context).unwrap_or_else(|e| {
            context.printer.error(&e);
            let exit = e.exit();
            if json {
                // If stdout is gone, nobody can be told.
                let _ = context.printer.json(&json!({ "error": e.to_string(), "exit_code": exit.0 }));
            }
            exit
        }),
        Err(e) => {
            Printer::new(cli.global.format, false, false, false).error(&e);
            e.exit()
        }
    };
    ExitCode::from(exit.0)
}

fn run(cli: Cli, context: &Context) -> Result<Exit, Error> {
    // A supervisor logs to its lab's file, and sets that up itself.
    if !matches!(cli.verb, Verb::Supervise(_)) {
        log_to_stderr(&cli.global);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Error::Environment(format!("cannot start threads: {e}")))?;
    let done = runtime.block_on(dispatch(cli.verb, context));
    // A read of stdin may still block in its own thread; nobody waits for it.
    runtime.shutdown_background();
    done
}

async fn dispatch(verb: Verb, context: &Context) -> Result<Exit, Error> {
    match verb {
        Verb::Up(args) => up::run(args, context).await,
        Verb::Check(args) => check::run(args, context).await,
        Verb::Probe(args) => probe::run(args, context).await,
        Verb::Test(args) => test::run(args, context).await,
        Verb::Lesson(args) => lesson::run(args, context).await,
        Verb::Report(args) => report::run(args, context).await,
        Verb::Down(args) => down::run(args, context).await,
        Verb::Ps(args) => ps::run(args, context).await,
        Verb::Do(args) => r#do::run(args, context).await,
        Verb::Reset(args) => reset::run(args, context).await,
        Verb::Checkpoint(args) => checkpoint::run(args, context).await,
        Verb::Exec(args) => exec::run(args, context).await,
        Verb::Docker(args) => docker::run(args, context).await,
        Verb::Env(args) => env::run(args, context),
        Verb::Logs(args) => logs::run(args, context).await,
        Verb::Capture(args) => capture::run(args, context).await,
        Verb::Send(args) => send::run(args, context).await,
        Verb::Vxlan(args) => vxlan::run(args, context).await,
        Verb::Init(args) => init::run(args, context),
        Verb::Import(args) => import::run(args, context),
        Verb::Validate(args) => validate::run(args, context),
        Verb::Predict(args) => predict::run(args, context),
        Verb::Explain(args) => explain::run(args, context).await,
        Verb::Graph(args) => graph::run(args, context),
        Verb::Schema(args) => schema::run(args, context),
        Verb::Image(args) => image::run(args, context).await,
        Verb::Doctor(args) => doctor::run(args, context).await,
        Verb::Completions(args) => completions::run(args, &mut Cli::command(), context),
        Verb::Man(args) => man::run(args, Cli::command(), context),
        Verb::Supervise(args) => supervise::run(args).await,
    }
}

fn colour(when: When) {
    match when {
        When::Auto => anstream::ColorChoice::Auto,
        When::Always => anstream::ColorChoice::Always,
        When::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

fn log_to_stderr(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => LevelFilter::ERROR,
        (_, 0) => LevelFilter::WARN,
        (_, 1) => LevelFilter::INFO,
        (_, 2) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let styled = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogWriter)
        .with_ansi(styled)
        .try_init();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn words_of_other_tools_lead_to_the_verb() {
        let verbs: Vec<_> = Cli::command().get_subcommands().map(|v| v.get_name().to_owned()).collect();
        for (words, verb) in ELSEWHERE {
            assert!(verbs.iter().any(|v| v == verb), "{verb}");
            for word in words.split(' ') {
                let said = meant(Cli::try_parse_from(["labctl", word]).unwrap_err()).to_string();
                assert!(said.contains(&format!("'{verb}'")), "{word}: {said}");
            }
        }
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
