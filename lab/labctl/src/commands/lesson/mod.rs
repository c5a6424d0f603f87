//! `labctl lesson`

mod learn;
mod notes;
mod overview;
mod prove;

use std::{
    env,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use labctl_lesson::NotFound;

use crate::{
    context::{Context, own_exe},
    exit::{Error, Exit},
    session::Manner,
};

const EXAMPLES: &str = "\
Examples:
  labctl lesson list
  labctl lesson start 1          brings the lab of the first lesson up and shows its first step
  labctl lesson check            is it repaired?
  labctl lesson hint             one that fits what the lab shows now
  labctl lesson next             the next step
  labctl lesson progress

The lab of a lesson is a lab as any other: `labctl exec`, `docker`, `capture` and all other verbs work in it, and
`labctl down LAB` takes it down. Writing lessons: docs/lessons.md.";

/// Learn in a lab that is broken step by step, and repair it
///
/// A lesson is a lab and some steps. Each step says what to look at; most break something, which you repair. `check` probes
/// the lab and says whether that is done. What you have done so far is kept, also when the lab is down.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Folder of lessons [default: vagrant/lessons of a checkout, else those that came with labctl]
    #[arg(long, global = true, value_name = "DIR", env = "LABCTL_LESSONS")]
    lessons: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the lessons
    #[command(after_long_help = "Example:\n  labctl lesson list")]
    List,
    /// Bring the lab of a lesson up and show the step that you are at
    #[command(
        after_long_help = "Examples:\n  labctl lesson start 6\n  labctl lesson start macvlan --name anna     a lab of its own for Anna"
    )]
    Start {
        /// Lesson: its number, its name, or how that begins
        #[arg(value_name = "LESSON")]
        lesson: String,
        /// Name of the lab; that of its topology, if it is left out
        #[arg(long, value_name = "LAB")]
        name: Option<String>,
        /// Begin with the first step, whatever was done before
        #[arg(long)]
        again: bool,
        #[command(flatten)]
        manner: Manner,
    },
    /// Show the text of the current step
    #[command(after_long_help = "Example:\n  labctl lesson show")]
    Show(Which),
    /// Probe the lab: is the step done?
    #[command(after_long_help = "Example:\n  labctl lesson check")]
    Check(Which),
    /// Give a hint that fits what the lab shows now; again, give another one
    #[command(after_long_help = "Example:\n  labctl lesson hint")]
    Hint(Which),
    /// Show a repair and do it, from the beginning of the step
    #[command(after_long_help = "Example:\n  labctl lesson solve")]
    Solve(Which),
    /// Go back to the beginning of the step; steps before it are then solved as the lesson solves them
    #[command(after_long_help = "Example:\n  labctl lesson reset")]
    Reset(Which),
    /// Go on to the next step
    #[command(after_long_help = "Example:\n  labctl lesson next")]
    Next(Which),
    /// Say what was done so far
    #[command(after_long_help = "Example:\n  labctl lesson progress")]
    Progress,
    /// Prove lessons: what is broken fails as they say, what is solved holds, and commands print what the texts say
    #[command(
        after_long_help = "Examples:\n  labctl lesson test vagrant/lessons\n  labctl lesson test vagrant/lessons/06-macvlan --update"
    )]
    Test(prove::Args),
}

/// Which lab.
#[derive(Debug, clap::Args)]
struct Which {
    /// Lab of a lesson; the one that was used last, if it is left out
    #[arg(value_name = "LAB")]
    lab: Option<String>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let folder = || folder(args.lessons.as_deref());
    match args.what {
        What::List => overview::list(context, &folder()?),
        What::Start { lesson, name, again, manner } => {
            let lesson = find(&folder()?, &lesson)?;
            learn::start(context, &lesson, name, again, manner).await
        }
        What::Show(which) => learn::show(context, which.lab),
        What::Check(which) => learn::check(context, which.lab).await,
        What::Hint(which) => learn::hint(context, which.lab).await,
        What::Solve(which) => learn::solve(context, which.lab).await,
        What::Reset(which) => learn::reset(context, which.lab).await,
        What::Next(which) => learn::next(context, which.lab).await,
        What::Progress => overview::progress(context),
        What::Test(args) => prove::run(args, context).await,
    }
}

/// The folder of lessons: the given one, that of the checkout around the current folder, that beside this program, that of
/// the checkout around this program.
pub fn folder(given: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let exe = own_exe()?;
    let here = env::current_dir().unwrap_or_default();
    let in_checkout =
        |path: &Path| path.ancestors().map(|a| a.join("vagrant/lessons")).find(|lessons| lessons.is_dir());
    let installed = exe.ancestors().nth(2).map(|prefix| prefix.join("share/labctl/lessons"));
    let found = in_checkout(&here).or(installed.filter(|i| i.is_dir())).or_else(|| in_checkout(&exe));
    found.ok_or_else(|| {
        Error::Usage("there are no lessons here\nhint: say where with --lessons or LABCTL_LESSONS".to_owned())
    })
}

fn find(folder: &Path, name: &str) -> Result<PathBuf, Error> {
    let all = labctl_lesson::list(folder);
    labctl_lesson::find(&all, name).cloned().map_err(|e| match e {
        NotFound::None => Error::Usage(format!(
            "there is no lesson `{name}` in {}\nhint: `labctl lesson list` shows them",
            folder.display()
        )),
        NotFound::Several(names) => {
            Error::Usage(format!("several lessons begin with `{name}`\nhint: {}", names.join(", ")))
        }
    })
}
