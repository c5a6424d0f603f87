//! Where labctl's files are on this machine.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use etcetera::BaseStrategy;
use tokio::process::Command;

use crate::Error;

/// The environment variable that names the agent's binary.
pub const AGENT_VARIABLE: &str = "LABCTL_AGENT";

/// File name of the agent's binary.
const AGENT: &str = "labctl-agent";

/// Output of this version's agent for `--version`.
const VERSION: &str = concat!("labctl-agent ", env!("CARGO_PKG_VERSION"));

/// Time limit for that. It takes milliseconds on an idle machine.
const TRIAL: Duration = Duration::from_secs(10);

/// The user's cache folder for labctl: `labctl` in the XDG cache folder. `None` without a home folder.
pub fn default_cache() -> Option<PathBuf> {
    etcetera::choose_base_strategy().ok().map(|base| base.cache_dir().join("labctl"))
}

/// The user's state folder for labctl: `labctl` in the XDG state folder. `None` without a home folder.
pub fn default_state() -> Option<PathBuf> {
    etcetera::choose_base_strategy().ok()?.state_dir().map(|dir| dir.join("labctl"))
}

/// Finds the agent's binary: the one that [`AGENT_VARIABLE`] names, else the first in these folders.
///
/// # Errors
/// [`Error::NoAgent`], which names the first of the folders.
pub fn find_agent(named: Option<PathBuf>, folders: &[PathBuf]) -> Result<PathBuf, Error> {
    let file = |path: &Path| std::path::absolute(path).ok().filter(|p| p.is_file());
    let beside = folders.first().map(|dir| dir.join(AGENT)).unwrap_or_else(|| AGENT.into());
    if let Some(path) = named {
        let said = "LABCTL_AGENT names it";
        return file(&path).ok_or(Error::NoAgent { path, said, beside });
    }
    let found = folders.iter().find_map(|dir| file(&dir.join(AGENT)));
    found.ok_or_else(|| Error::NoAgent { path: beside.clone(), said: "it belongs beside labctl", beside })
}

/// Runs the agent once, so that a broken one is found before a machine is started with it.
///
/// # Errors
/// [`Error::BadAgent`], also if it is another version's.
pub async fn try_agent(path: &Path) -> Result<(), Error> {
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let why = match tokio::time::timeout(TRIAL, command.output()).await {
        Err(_) => format!("`--version` did not end within {} s", TRIAL.as_secs()),
        Ok(Err(e)) => e.to_string(),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stdout);
            match said.trim_end() {
                VERSION if output.status.success() => return Ok(()),
                "" => format!("`--version` ended with {}", output.status),
                other => format!("it says that it is `{}`, not `{VERSION}`", other.escape_debug()),
            }
        }
    };
    Err(Error::BadAgent { path: path.to_owned(), why })
}

/// Finds the agent's binary for a program other than labctl: like [`find_agent`], in this program's folder, in the one
/// above (tests lie in `target/…/deps`), or in those of `PATH`, where `labctl` may be installed.
///
/// # Errors
/// Those of [`find_agent`].
pub fn find_agent_of_this_program() -> Result<PathBuf, Error> {
    let exe = env::current_exe().map_err(Error::io("cannot find", "this program"))?;
    let mut folders: Vec<PathBuf> = exe.ancestors().skip(1).take(2).map(Path::to_owned).collect();
    folders.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    find_agent(env::var_os(AGENT_VARIABLE).map(PathBuf::from), &folders)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_broken_agent_is_known_before_anything_is_started() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join(AGENT);
        let good = format!("#!/bin/sh\necho {VERSION}\n");
        let cases = [
            ("\x7fELF and nothing more", Some("Exec format error")),
            ("#!/bin/sh\nkill -SEGV $$\n", Some("signal: 11")),
            ("#!/bin/sh\necho labctl-agent 0.0.0-other\n", Some("not `labctl-agent")),
            (good.as_str(), None),
        ];
        for (contents, wrong) in cases {
            // Under another name first: a file that is open for writing cannot be run.
            std::fs::write(tmp.path().join("new"), contents).unwrap();
            std::fs::set_permissions(tmp.path().join("new"), PermissionsExt::from_mode(0o755)).unwrap();
            std::fs::rename(tmp.path().join("new"), &path).unwrap();
            match (try_agent(&path).await, wrong) {
                (Ok(()), None) => {}
                (Err(e), Some(words)) => {
                    assert!(e.to_string().contains(words) && e.exit_code() == 3, "{contents:?}: {e}");
                }
                (found, _) => panic!("{contents:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn the_agent_is_looked_for_where_the_error_says() {
        let tmp = tempfile::tempdir().unwrap();
        let folders = [tmp.path().join("none"), tmp.path().to_owned()];
        let missing = find_agent(None, &folders).unwrap_err().to_string();
        let first = folders[0].join(AGENT);
        assert!(missing.contains(first.to_str().unwrap()) && missing.contains("LABCTL_AGENT"), "{missing}");
        let there = tmp.path().join(AGENT);
        std::fs::write(&there, "").unwrap();
        assert_eq!(find_agent(None, &folders).unwrap(), there);
        let named = find_agent(Some("/no/such/agent".into()), &folders).unwrap_err();
        assert!(named.to_string().contains("/no/such/agent") && named.exit_code() == 3, "{named}");
    }
}
