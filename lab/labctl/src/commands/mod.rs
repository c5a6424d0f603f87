//! One file per verb, and what they share: folders, logging, the async runtime, the exit status.

pub mod capture;
pub mod check;
pub mod completions;
pub mod r#do;
pub mod docker;
pub mod doctor;
pub mod down;
pub mod env;
pub mod exec;
pub mod host;
pub mod image;
pub mod logs;
pub mod man;
pub mod ps;
pub mod schema;
pub mod send;
pub mod supervise;
pub mod test;
pub mod up;
pub mod validate;
pub mod vxlan;

use std::{io, process::ExitCode};

use serde_json::json;

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{
    cli::{Cli, Global, Verb, When},
    context::Context,
    exit::{Error, Exit},
    printer::{Format, LogWriter, Printer},
};

/// Runs the verb that the command line asks for.
pub fn main(cli: Cli) -> ExitCode {
    colour(cli.global.color);
    let printer = Printer::new(cli.global.format, cli.global.quiet, cli.global.verbose > 0);
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
            Printer::new(cli.global.format, false, false).error(&e);
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
        Verb::Test(args) => test::run(args, context).await,
        Verb::Down(args) => down::run(args, context).await,
        Verb::Ps(args) => ps::run(args, context).await,
        Verb::Do(args) => r#do::run(args, context).await,
        Verb::Host(args) => host::run(args, context).await,
        Verb::Exec(args) => exec::run(args, context).await,
        Verb::Docker(args) => docker::run(args, context).await,
        Verb::Env(args) => env::run(args, context),
        Verb::Logs(args) => logs::run(args, context).await,
        Verb::Capture(args) => capture::run(args, context).await,
        Verb::Send(args) => send::run(args, context).await,
        Verb::Vxlan(args) => vxlan::run(args, context).await,
        Verb::Validate(args) => validate::run(args, context),
        Verb::Schema(args) => schema::run(args, context),
        Verb::Image(args) => image::run(args, context).await,
        Verb::Doctor(args) => doctor::run(args, context).await,
        Verb::Completions(args) => completions::run(args, context),
        Verb::Man(args) => man::run(args, context),
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
