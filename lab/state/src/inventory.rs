//! `machines.yaml`: the machines that exist, by the host that each is in a lab.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use labctl_yaml::{
    At, Bad, Cx, Diagnostic, Diagnostics, FromNode, Map, Places, Scalar, SourceText, parse, raw,
    reject_controls,
};
use schemars::{Schema, json_schema};
use serde::{Deserialize, Serialize};

/// Longest name of an interface (IFNAMSIZ without its NUL).
const LONGEST_INTERFACE: usize = 15;

/// The machines, and what a lab may do to them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machines {
    /// The file that they are from.
    pub file: PathBuf,
    /// Machines by host.
    pub hosts: IndexMap<String, SshMachine>,
    /// Whether cuts and blocks are allowed, which are rules of nftables there.
    pub allow_impair: bool,
    /// Whether probes may go to addresses outside of the topology's segments and networks.
    pub allow_outside: bool,
    /// The text, in the process that read it.
    #[serde(skip)]
    pub places: Places,
}

/// One machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SshMachine {
    /// Where it is, as ssh(1) takes it.
    pub ssh: String,
    /// An ssh_config(5) file to use instead of the user's own.
    pub config: Option<PathBuf>,
    /// Names of its NICs by segment.
    pub nics: IndexMap<String, String>,
    /// Whether a lab may change addresses, routes, interfaces and settings.
    pub configure: bool,
    /// Commands that end and start it, for `sh -c` on labctl's machine.
    pub power: Option<PowerCommands>,
}

/// Commands that end and start a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PowerCommands {
    /// Ends it at once.
    pub kill: String,
    /// Starts it.
    pub start: String,
}

/// Why there are no machines.
#[derive(Debug, thiserror::Error)]
pub enum MachinesError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It has mistakes.
    #[error("{0}")]
    Invalid(Diagnostics),
}

/// A destination for ssh: `user@host`, `host` or `ssh://user@host:port`.
#[derive(Clone, Debug)]
struct Destination(String);

impl Scalar for Destination {
    const WHAT: &'static str = "where ssh goes, as `user@host`";

    fn read(text: &str) -> Result<Self, Bad> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._~@:/[]%+\\".contains(c);
        if text.is_empty() || text.starts_with('-') || !text.chars().all(fits) {
            return Err(Bad::hint(
                "`user@host`, `host`, `ssh://user@host:port`, or a `Host` of ssh_config(5)",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "examples": ["vagrant@10.0.0.11"] })
    }
}

/// The name of an interface.
#[derive(Clone, Debug)]
struct InterfaceName(String);

impl Scalar for InterfaceName {
    const WHAT: &'static str = "the name of an interface, as `eth1`";

    fn read(text: &str) -> Result<Self, Bad> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._@".contains(c);
        match (1..=LONGEST_INTERFACE).contains(&text.len())
            && text.chars().all(fits)
            && text != "."
            && text != ".."
        {
            true => Ok(Self(text.to_owned())),
            false => Err(Bad::hint("`ip link` on that machine shows them")),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "maxLength": 15 })
    }
}

raw! {
    /// Commands on this machine that end and start another one.
    RawPower, "`power`" {
        /// Ends it at once, as if its plug was pulled: `virsh destroy web1`.
        kill: At<String>,
        /// Starts it: `virsh start web1`.
        start: At<String>,
    }
}

raw! {
    /// A machine that exists.
    RawMachine, "a machine" {
        /// Where ssh goes: `user@host`, or a `Host` of ssh_config(5).
        ssh: At<Destination>,
        /// An ssh_config(5) file to use instead of the user's own; relative to this file.
        config: Option<At<String>>,
        /// Its NIC on each segment: `lan: eth1`.
        nics: Option<Map<At<InterfaceName>>>,
        /// Whether the lab may add addresses, routes, interfaces and settings, which `down` takes away again.
        configure: Option<At<bool>>,
        /// How it is killed and started.
        power: Option<RawPower>,
    }
}

impl Machines {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or has mistakes: all of them.
    pub fn load(path: &Path) -> Result<Self, MachinesError> {
        let io = |source| MachinesError::Io { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(io)?;
        let file = std::path::absolute(path).map_err(io)?;
        let read = Self::parse(&text, &path.to_string_lossy(), &file);
        read.map_err(|found| MachinesError::Invalid(*found))
    }

    fn parse(text: &str, name: &str, file: &Path) -> Result<Self, Box<Diagnostics>> {
        let source = SourceText::new(name, text);
        let only = |d| Box::new(Diagnostics::new(source.clone(), vec![d], 0));
        let root = parse(&source).map_err(|d| only(*d))?;
        let mut cx = Cx::new(source.clone());
        cx.owner = root.at;
        reject_controls(&root, &mut cx);
        let machines = Map::<RawMachine>::from_node(&root, &mut cx);
        cx.found.finish(source.clone()).map_err(Box::new)?;
        let folder = file.parent().unwrap_or(Path::new("/"));
        let machine = |(host, raw): (At<String>, Option<RawMachine>)| {
            let raw = raw?;
            let nics = raw.nics.map_or_else(Vec::new, |nics| nics.0);
            let machine = SshMachine {
                ssh: raw.ssh.value.0,
                config: raw.config.map(|config| folder.join(config.value)),
                nics: nics.into_iter().filter_map(|(s, n)| Some((s.value, n?.value.0))).collect(),
                configure: raw.configure.is_some_and(|c| c.value),
                power: raw.power.map(|p| PowerCommands { kill: p.kill.value, start: p.start.value }),
            };
            Some((host.value, machine))
        };
        let hosts: IndexMap<_, _> =
            machines.map_or_else(Vec::new, |m| m.0).into_iter().filter_map(machine).collect();
        if hosts.is_empty() {
            let d = Diagnostic::new(root.at, "there is no machine in here");
            return Err(only(d.hint("`host1: { ssh: user@host, nics: { lan: eth1 } }`")));
        }
        let places = Places::new(source, root);
        Ok(Self { file: file.to_owned(), hosts, places, ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Machines, Box<Diagnostics>> {
        Machines::parse(text, "machines.yaml", Path::new("/etc/lab/machines.yaml"))
    }

    #[test]
    fn a_machine_is_what_its_lines_say() {
        let text = "host1:\n  ssh: vagrant@10.0.0.11\n  nics: { lan: eth1 }\n  configure: true\n  config: keys/config\n\
                    \x20 power: { kill: virsh destroy h1, start: virsh start h1 }\nhost2: { ssh: web2 }\n";
        let machines = read(text).unwrap();
        let host1 = &machines.hosts["host1"];
        assert_eq!((host1.ssh.as_str(), host1.nics["lan"].as_str()), ("vagrant@10.0.0.11", "eth1"));
        assert_eq!(host1.config.as_deref(), Some(Path::new("/etc/lab/keys/config")));
        assert_eq!(host1.power.as_ref().map(|p| p.kill.as_str()), Some("virsh destroy h1"));
        assert!(host1.configure && !machines.hosts["host2"].configure);
    }

    #[test]
    fn mistakes_are_shown_where_they_are_all_at_once() {
        let text = "host1: { ssh: -oProxyCommand=x, nic: { lan: eth1 } }\nhost2: { nics: { lan: 'eth1; reboot' } }\n";
        let found = read(text).unwrap_err();
        let lines: Vec<(u32, String)> = found.mistakes().into_iter().map(|m| (m.line, m.message)).collect();
        for (line, part) in
            [(1, "where ssh goes"), (1, "unknown key `nic`"), (2, "needs `ssh`"), (2, "interface")]
        {
            assert!(lines.iter().any(|(l, m)| *l == line && m.contains(part)), "{part}: {lines:?}");
        }
        assert!(read("{}").unwrap_err().to_string().contains("no machine"));
    }
}
