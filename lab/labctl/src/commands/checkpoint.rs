//! `labctl checkpoint`

use std::path::PathBuf;

use clap::Subcommand;
use labctl_machines::{install, limits};
use labctl_model::Lab;
use labctl_report::table::Table;
use labctl_runtime::{
    UpOptions,
    control::protocol::{Answer, Request},
    lab::{Saved, ago},
};
use labctl_state::{
    Origin, Runtime,
    checkpoint::{self, LIMIT, ListedCheckpoint, Store, archive},
};
use serde_json::json;

use crate::{
    context::{Context, agent},
    exit::{Error, Exit},
    printer::Format,
    progress::Progress,
    session,
    stop::Stop,
    topology::check_lab_name,
};

const EXAMPLES: &str = "\
Examples:
  labctl checkpoint save ingress before-the-lesson
  labctl reset ingress before-the-lesson                     the lab is again what it was then
  labctl checkpoint restore before-the-lesson --as group-2   a second one of it, beside the first
  labctl checkpoint ls
  labctl checkpoint export before-the-lesson lesson.ckpt     for a machine with the same node image and labctl";

/// Save whole labs, and make labs from what was saved
///
/// A checkpoint is a lab as it was at one moment: all its machines with everything in them, and its wire. `labctl up`
/// leaves one at its end, and the next one of the same topology is taken from it; `labctl reset` goes back
/// to it. Those under names of your own stay until you remove them.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Save a lab that is up, which goes on
    ///
    /// The lab stands still for some tens of milliseconds. Connections to it from this machine go on; frames on the wire
    /// and connections of peers are not saved.
    #[command(after_long_help = "Example:\n  labctl checkpoint save ingress before-the-lesson")]
    Save {
        /// Lab, as `labctl ps` names it
        #[arg(value_name = "LAB")]
        lab: String,
        /// Name of the checkpoint; that of the lab, if it is left out
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Make a lab from a checkpoint
    #[command(
        after_long_help = "Examples:\n  labctl checkpoint restore before-the-lesson\n  labctl checkpoint restore before-the-lesson --as group-2"
    )]
    Restore {
        /// Checkpoint
        #[arg(value_name = "NAME")]
        name: String,
        /// Name of the lab; that of the saved one, if it is left out
        #[arg(long = "as", value_name = "LAB")]
        lab: Option<String>,
    },
    /// List checkpoints
    #[command(after_long_help = "Example:\n  labctl checkpoint ls")]
    Ls,
    /// Remove checkpoints; labs that were made from them go on
    #[command(after_long_help = "Example:\n  labctl checkpoint rm before-the-lesson")]
    Rm {
        /// Checkpoints
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Remove checkpoints that `up` left and that were unused for two weeks, and the longest unused ones while all
    /// together take too much
    #[command(after_long_help = "Examples:\n  labctl checkpoint prune\n  labctl checkpoint prune --keep 0")]
    Prune {
        /// What all may take together, in GiB
        #[arg(long, value_name = "GIB", default_value_t = LIMIT >> 30)]
        keep: u64,
    },
    /// Write a checkpoint to a file, for another machine with the same node image, agent and QEMU
    #[command(after_long_help = "Example:\n  labctl checkpoint export before-the-lesson lesson.ckpt")]
    Export {
        /// Checkpoint
        #[arg(value_name = "NAME")]
        name: String,
        /// File to write
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Take a checkpoint from a file that `export` wrote
    #[command(after_long_help = "Example:\n  labctl checkpoint import lesson.ckpt before-the-lesson")]
    Import {
        /// File
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Name that it gets; that which it had, if it is left out
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let store = Store::of(&context.dirs.cache);
    match args.what {
        What::Save { lab, name } => save(context, &lab, name).await?,
        What::Restore { name, lab } => restore(context, &store, name, lab).await?,
        What::Ls => ls(context, &store.list())?,
        What::Rm { names } => {
            let known = store.list();
            // All are known before the first goes.
            for name in names.iter().filter(|name| !known.iter().any(|l| l.name == **name)) {
                store.require(name).await?;
            }
            for name in names {
                store.remove(&name).await?;
                context.printer.say(&format!("{name} is removed"));
            }
        }
        What::Prune { keep } => {
            for name in store.prune(keep << 30).await? {
                context.printer.say(&format!("{name} is removed"));
            }
        }
        What::Export { name, file } => {
            let checkpoint = store.require(&name).await?;
            let bytes = interruptible(archive::export(&checkpoint, &file)).await?;
            context.printer.say(&format!("{} holds {name}: {}", file.display(), size(bytes)));
        }
        What::Import { file, name } => {
            let name = interruptible(archive::import(&store, &file, name.as_deref())).await?;
            context.printer.say(&format!("{name} is here: `labctl checkpoint restore {name}`"));
        }
    }
    Ok(Exit::OK)
}

async fn interruptible<T>(work: impl Future<Output = Result<T, labctl_state::Error>>) -> Result<T, Error> {
    let mut stop = Stop::new()?;
    tokio::select! {
        done = work => Ok(done?),
        () = stop.wait() => Err(Error::Interrupted),
    }
}

async fn save(context: &Context, lab: &str, name: Option<String>) -> Result<(), Error> {
    let (dir, plan) = context.lab(lab)?;
    let name = name.unwrap_or(plan.lab.name);
    checkpoint::check_name(&name)?;
    let mut stop = Stop::new()?;
    let take = |answer| match answer {
        Answer::Saved(saved) => Some(saved),
        _ => None,
    };
    let Saved { name, pause_us, bytes } =
        session::ask(&dir, &Request::Save { name }, &mut stop, take).await?;
    match context.printer.format {
        Format::Json => {
            context.printer.json(&json!({ "name": name, "pause_us": pause_us, "bytes": bytes }))?
        }
        Format::Text => context.printer.say(&format!(
            "lab {lab} is saved as {name}: {}; it stood still for {} ms",
            size(bytes),
            pause_us.div_ceil(1000)
        )),
    }
    Ok(())
}

async fn restore(context: &Context, store: &Store, name: String, lab: Option<String>) -> Result<(), Error> {
    let plan = store.require(&name).await?.manifest.plan;
    let lab = Lab { name: lab.unwrap_or_else(|| plan.lab.name.clone()), ..plan.lab };
    check_lab_name(&lab.name)?;
    limits::allow_files(&lab)?;
    let agent = agent()?;
    install::try_agent(&agent).await?;
    let (mut progress, mut stop) = (Progress::new(&context.printer, &lab.name), Stop::new()?);
    let options = UpOptions {
        topology: plan.topology,
        runtime: Runtime::Vm,
        cold: false,
        keep: false,
        origin: Origin::Named(name),
        agent,
        machines: None,
        lab,
    };
    let lab = options.lab.name.clone();
    session::begin(context, options, &mut progress, &mut stop).await?;
    drop(progress);
    match context.printer.format {
        Format::Json => context.printer.json(&json!({ "lab": lab, "stage": "up" }))?,
        Format::Text => context.printer.say(&format!("lab {lab} is up")),
    }
    Ok(())
}

fn ls(context: &Context, all: &[ListedCheckpoint]) -> Result<(), Error> {
    if context.printer.format == Format::Json {
        return context.printer.json(&all);
    }
    if all.is_empty() {
        context
            .printer
            .say("no checkpoints yet; `labctl up` leaves one, `labctl checkpoint save LAB` makes one");
        return Ok(());
    }
    let mut table = Table::new(["CHECKPOINT", "LAB", "HOSTS", "SIZE", "SAVED", "WHAT"]);
    for l in all {
        let what = match (&l.damage, l.by_up) {
            (Some(why), _) => format!("unusable: {why}"),
            (None, true) => "left by up".to_owned(),
            (None, false) => String::new(),
        };
        let saved = l.saved.map(|s| ago(checkpoint::since(s))).unwrap_or_default();
        let lab = l.lab.clone().unwrap_or_default();
        table.plain_row([l.name.clone(), lab, l.hosts.to_string(), size(l.bytes), saved, what]);
    }
    context.printer.data(&table.render())
}

fn size(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}
