//! `labctl supervise`: the process that `up` leaves running. Hidden, since nobody calls it by hand.

use std::path::PathBuf;

use labctl_runtime::supervisor;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{
    exit::{Error, Exit},
    printer::LogWriter,
};

/// Keep a lab alive (started by `labctl up`)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The lab's folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The process that began it
    #[arg(value_name = "PID")]
    begun_by: u32,
}

/// Runs the verb.
pub async fn run(args: Args) -> Result<Exit, Error> {
    // `up` made the lab's log our stderr, so panics go there too.
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogWriter)
        .with_ansi(false)
        .try_init();
    supervisor::run(&args.dir, args.begun_by).await?;
    Ok(Exit::OK)
}
