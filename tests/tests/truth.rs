//! A restored host is a booted host, and so is a node in a container as far as the machine's kernel allows: what each has
//! of rules, addresses, routes, settings and networks once its lab is up is compared with the same host booted by `--cold`.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::{ffi::OsStr, fs, path::Path};

use lab_tests::{
    Labctl, topology,
    truth::{self, Host},
};

/// Differences that are as they should be: part, and what the line contains.
type Allowed = [(&'static str, &'static str)];

/// What a restored host may have otherwise than a booted one, part and words, each with its reason.
const RESTORED: [(&str, &str); 0] = [];

/// The same of a node in a container.
const IN_A_CONTAINER: [(&str, &str); 4] = [
    // Another kernel, built and loaded otherwise. What dockerd decides by is in `interfaces`.
    ("sysctls", ""),
    ("modules", ""),
    ("info", ""),
    // A TAP where a machine has a NIC of virtio; a kernel tells of its interfaces what it knows.
    ("links", ""),
];

/// A lab that is up in one way, in a state folder of its own.
struct Way {
    labctl: Labctl,
    lab: String,
}

impl Way {
    /// `None` where this machine's kernel lacks what the topology needs.
    fn up(file: &Path, engine: &str, options: &[&str]) -> Option<Self> {
        let (labctl, mut words) = (Labctl::new(), vec!["up", "--no-check", "--engine", engine]);
        words.extend(options);
        let ran = labctl.run(words.iter().map(OsStr::new).chain([file.as_os_str()]));
        if ran.0.status.code() == Some(3) && options.contains(&"dind") {
            println!("{}", ran.stderr());
            return None;
        }
        ran.exits(0);
        Some(Self { labctl, lab: file.file_stem().unwrap().to_string_lossy().into_owned() })
    }

    fn hosts(&self) -> std::collections::BTreeMap<String, Host> {
        let hosts = truth::look(&self.labctl, &self.lab);
        assert!(!hosts.is_empty(), "{} has hosts", self.lab);
        hosts
    }
}

/// Brings a lab up in both ways at once, and says where they differ.
fn compare(file: &Path, engine: &str, options: &[&str], allowed: &Allowed) -> Vec<String> {
    let (booted, other) = std::thread::scope(|scope| {
        let booted = scope.spawn(|| Way::up(file, engine, &["--cold"]).map(|way| way.hosts()));
        let other = Way::up(file, engine, options).map(|way| way.hosts());
        (booted.join().unwrap().unwrap(), other)
    });
    let Some(other) = other else { return Vec::new() };
    assert!(booted.keys().eq(other.keys()));
    let of = |(name, host): (&String, &Host)| {
        let found = truth::differences(host, &other[name], allowed);
        let place = format!("{} {engine} {options:?} {name}", file.display());
        found.into_iter().map(move |what| format!("{place}: {what}"))
    };
    booted.iter().flat_map(of).collect()
}

#[track_caller]
fn assert_none(differences: &[String]) {
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

/// Those in which a saved dockerd would be most in the wrong, and those in which one is used: settings, daemon.json, a
/// clashing NIC, a clashing route; containers on docker0, on ipvlan, on bridges of their own; a swarm; the old engine.
#[test]
#[ignore = "minutes: `make truth` runs it"]
fn restored_hosts_are_booted_hosts() {
    let labs = [
        ("decided-at-start.yaml", "trixie"),
        ("vpn-conflict.yaml", "trixie"),
        ("address-pools.yaml", "trixie"),
        ("bridge-default.yaml", "trixie"),
        ("bridge-isolation.yaml", "bookworm"),
        ("ipvlan-2host.yaml", "trixie"),
        ("docker-gwbridge.yaml", "trixie"),
        ("mixed-engines.yaml", "trixie"),
    ];
    let compared = labs.map(|(file, engine)| compare(&topology(file), engine, &[], &RESTORED));
    assert_none(&compared.concat());
}

#[test]
#[ignore = "as above"]
fn nodes_in_containers_are_booted_hosts() {
    assert_none(&compare(
        &topology("decided-at-start.yaml"),
        "trixie",
        &["--runtime", "dind"],
        &IN_A_CONTAINER,
    ));
}

#[test]
#[ignore = "an hour: `make truth` runs it"]
fn every_topology_with_every_engine() {
    let mut files: Vec<_> = fs::read_dir(topology("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension() == Some(OsStr::new("yaml")));
    files.sort();
    let ways: [(&[&str], &Allowed); 2] = [(&[], &RESTORED), (&["--runtime", "dind"], &IN_A_CONTAINER)];
    let mut found = Vec::new();
    for file in &files {
        for engine in ["trixie", "bookworm"] {
            for (options, allowed) in ways {
                let differences = compare(file, engine, options, allowed);
                println!("{} {engine} {options:?}: {} differences", file.display(), differences.len());
                found.extend(differences);
            }
        }
    }
    assert_none(&found);
}
