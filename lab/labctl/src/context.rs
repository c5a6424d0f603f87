//! What every verb needs: the global options, and the folders and the printer that come of them.

use std::{
    env,
    path::{Path, PathBuf},
};

use clap::{ArgAction, Args, ValueEnum};
use labctl_machines::install;
use labctl_state::{Dirs, LabDir, Plan};

use crate::{
    exit::Error,
    printer::{Format, Printer},
};

/// Options that every verb takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Form of the data on stdout
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub format: Format,
    /// Show tables whole, however wide they are
    #[arg(long, global = true)]
    pub wide: bool,
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

/// Folders and the printer.
#[derive(Debug)]
pub struct Context {
    /// Folders.
    pub dirs: Dirs,
    /// Writes all output.
    pub printer: Printer,
}

impl Context {
    /// Takes the folders from the options, else from the XDG base directories.
    pub fn new(global: &Global, printer: Printer) -> Result<Self, Error> {
        let pick = |given: &Option<PathBuf>, default: Option<PathBuf>, option: &str| match (given, default) {
            (Some(dir), _) => std::path::absolute(dir).map_err(Error::file("use", dir.display())),
            (None, Some(default)) => Ok(default),
            (None, None) => {
                Err(Error::Environment(format!("there is no home folder\nhint: say where with {option}")))
            }
        };
        let state = pick(&global.state_dir, install::default_state(), "--state-dir")?;
        let cache = pick(&global.cache_dir, install::default_cache(), "--cache-dir")?;
        Ok(Self { dirs: Dirs { cache, state }, printer })
    }

    /// Finds the lab of this name, and its plan.
    pub fn lab(&self, name: &str) -> Result<(LabDir, Plan), Error> {
        let dir = labctl_state::find(&self.dirs, name)?;
        let plan = dir.plan()?;
        Ok((dir, plan))
    }
}

/// Fails if the lab has no such host.
pub fn require_host(plan: &Plan, host: &str) -> Result<(), Error> {
    if plan.lab.hosts.contains_key(host) {
        return Ok(());
    }
    let known = plan.lab.hosts.keys().map(String::as_str);
    Err(labctl_runtime::Error::no_such(&plan.lab, "host", host, known).into())
}

/// Path of this program.
pub fn own_exe() -> Result<PathBuf, Error> {
    env::current_exe().map_err(Error::file("find", "labctl itself"))
}

/// The agent's binary: LABCTL_AGENT, else beside labctl.
pub fn agent() -> Result<PathBuf, Error> {
    let beside: Vec<PathBuf> = own_exe()?.parent().map(Path::to_owned).into_iter().collect();
    Ok(install::find_agent(env::var_os(install::AGENT_VARIABLE).map(PathBuf::from), &beside)?)
}
