//! Stands before the OCI runtimes, runc and crun, in an emulated machine, so that a container starts sooner; nowhere else,
//! and not where the user asks for a stock engine (docs/vanilla.md).
//!
//! Docker starts them as always and finds this program under their names, because its folder is the first in dockerd's
//! PATH. This program then becomes the real runtime. Two things differ:
//!
//! - runc calls the whole of dockerd again, as `libnetwork-setkey`, to tell dockerd a container's network namespace
//!   (moby, daemon/oci_linux.go). Without KVM that start is a third of a container's. [`setkey`] sends the same message
//!   to the same socket;
//! - the timers of all Docker processes are coarse (see [`slack`]); those of programs in containers are not.

pub mod setkey;
pub mod slack;

use std::{
    ffi::OsString,
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use labctl_protocol::messages::BUILTIN_RUNTIME;
use serde_json::Value;

/// Path of the agent in the running guest: outside of the root overlay, so that no container or package hides it.
pub const AGENT: &str = "/run/labctl/agent";

/// The folder in which this program has the names of the programs it stands before.
pub const DIR: &str = "/run/labctl/bin";

/// The runtimes that this program stands before.
pub const NAMES: [&str; 2] = ["runc", BUILTIN_RUNTIME];

/// Whether this program stands before the runtimes of this machine: init has put it there, or not.
pub fn stands_in() -> bool {
    Path::new(DIR).exists()
}

/// Becomes the runtime of this name with these arguments; returns only if that fails.
pub fn run(name: &str, arguments: Vec<OsString>) -> io::Error {
    // The runtime itself reports a bundle or state that cannot be read or written.
    if let Some(bundle) = created(&arguments) {
        let config = bundle.join("config.json");
        if let Ok(Some(text)) = fs::read(&config).map(|text| redirected(&text)) {
            let _ = fs::write(&config, text);
        }
    } else if let Some(container) = started(&arguments) {
        slack::end_for_container(&container);
    } else {
        // Such as `exec`, whose process runs in a container.
        slack::end_for_self();
    }
    let Some(program) = real(name) else {
        return io::Error::new(io::ErrorKind::NotFound, format!("there is no {name} in PATH"));
    };
    Command::new(program).arg0(name).args(arguments).exec()
}

/// The program of this name that PATH finds outside of [`DIR`].
fn real(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .filter(|dir| dir != Path::new(DIR))
        .map(|dir| dir.join(name))
        .find(|p| p.exists())
}

/// The bundle of a container that is created, from the runtime's arguments.
fn created(arguments: &[OsString]) -> Option<PathBuf> {
    let mut arguments = arguments.iter().skip_while(|a| *a != "create");
    arguments.next()?;
    arguments.find(|a| *a == "--bundle" || *a == "-b")?;
    arguments.next().map(PathBuf::from)
}

/// The state folder of a container that is about to start, from the runtime's arguments.
fn started(arguments: &[OsString]) -> Option<PathBuf> {
    let (start, before) =
        arguments.split_last().and_then(|(id, rest)| Some((id, rest.strip_suffix(&["start".into()])?)))?;
    let root = before.iter().skip_while(|a| *a != "--root").nth(1)?;
    Some(Path::new(root).join(start))
}

/// The runtime's configuration with dockerd's hook redirected to this program; `None` if there is nothing to change,
/// such as with an unknown hook.
fn redirected(config: &[u8]) -> Option<Vec<u8>> {
    let mut config: Value = serde_json::from_slice(config).ok()?;
    let hooks = config.get_mut("hooks")?.as_object_mut()?;
    let mut any = false;
    for hook in hooks.values_mut().filter_map(Value::as_array_mut).flatten().filter(|h| is_setkey(h)) {
        *hook.get_mut("path")? = AGENT.into();
        any = true;
    }
    any.then(|| serde_json::to_vec(&config).ok()).flatten()
}

/// Whether a hook calls dockerd to tell it a container's network namespace.
fn is_setkey(hook: &Value) -> bool {
    let path = hook.get("path").and_then(Value::as_str).unwrap_or_default();
    let itself = path
        .strip_prefix("/proc/")
        .and_then(|p| p.strip_suffix("/exe"))
        .is_some_and(|pid| pid.bytes().all(|b| b.is_ascii_digit()));
    itself && hook.pointer("/args/0").and_then(Value::as_str) == Some(setkey::NAME)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(Into::into).collect()
    }

    #[test]
    fn only_a_container_that_is_created_has_its_bundle_looked_at() {
        let create = "--root /r --log /b/log.json --log-format json create --bundle /b --pid-file /p c1";
        assert_eq!(created(&words(create)), Some("/b".into()));
        assert_eq!(created(&words("--root /r start --bundle /b c1")), None);
        assert_eq!(created(&words("--root /r create c1")), None);
        assert_eq!(created(&words("--version")), None);
    }

    #[test]
    fn a_container_that_is_started_is_found_in_the_runtimes_root() {
        assert_eq!(started(&words("--root /r/moby --log /l start c1")), Some("/r/moby/c1".into()));
        assert_eq!(started(&words("--root /r/moby kill c1 15")), None);
        assert_eq!(started(&words("start c1")), None);
    }

    #[test]
    fn dockerds_own_hook_is_led_here_and_no_other() {
        let own = json!({ "path": "/proc/137/exe", "args": ["libnetwork-setkey", "-exec-root=/var/run/docker", "c", "s"] });
        let other = json!({ "path": "/usr/bin/hook", "args": ["libnetwork-setkey"] });
        let exe = json!({ "path": "/proc/self/exe", "args": ["something"] });
        let config = json!({ "ociVersion": "1.2.0", "hooks": { "prestart": [other, own, exe] }, "n": 1.5 });
        let text = redirected(&serde_json::to_vec(&config).unwrap()).unwrap();
        let mut expected = config.clone();
        expected["hooks"]["prestart"][1]["path"] = AGENT.into();
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);
        let untouched = json!({ "hooks": { "prestart": [other, exe] } });
        assert_eq!(redirected(&serde_json::to_vec(&untouched).unwrap()), None);
        assert_eq!(redirected(b"{}"), None);
        assert_eq!(redirected(b"no json"), None);
    }
}
