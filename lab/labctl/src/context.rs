//! What every verb needs: the folders and the printer.

use std::{
    env,
    path::{Path, PathBuf},
};

use labctl_machines::{Dirs, LabDir, Plan, install, state};

use crate::{cli::Global, exit::Error, printer::Printer};

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
        let dir = state::find(&self.dirs, name)?;
        let plan = dir.plan()?;
        Ok((dir, plan))
    }
}

/// Fails if the lab has no such host.
pub fn require_host(plan: &Plan, host: &str) -> Result<(), Error> {
    if plan.lab.hosts.contains_key(host) {
        return Ok(());
    }
    let known: Vec<_> = plan.lab.hosts.keys().map(String::as_str).collect();
    Err(labctl_runtime::Error::NoSuchPart {
        lab: plan.lab.name.clone(),
        kind: "host",
        name: host.to_owned(),
        known: known.join(", "),
    }
    .into())
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
