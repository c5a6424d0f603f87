//! A restored host is a booted host, and so is a node in a container as far as the machine's kernel allows: what each has
//! of rules, addresses, routes, settings and networks once its lab is up is compared with the same host booted by `--cold`.

use std::{ffi::OsStr, fs, path::Path};

use labctl_tests::{
    Labctl, topology,
    truth::{self, Host},
};

/// Differences that are as they should be: part, and what the line contains.
type Allowed = [(&'static str, &'static str)];

/// What a restored host may have otherwise than a booted one, part and words, each with its reason.
const RESTORED: [(&str, &str); 2] = [
    // The built-in image is loaded before the machine is saved, so it is there even where no container asks for it.
    ("info", "/Images "),
    // A dockerd that was saved while it ran keeps its template's id until it starts anew; every other draws its own.
    ("info", "/ID "),
];

/// The same of a node in a container.
const IN_A_CONTAINER: [(&str, &str); 7] = [
    // Another kernel, built and loaded otherwise. What dockerd decides by is in `interfaces`.
    ("sysctls", ""),
    ("modules", ""),
    ("info", ""),
    // A TAP where a machine has a NIC of virtio; a kernel tells of its interfaces what it knows.
    ("links", ""),
    // A module that machines load makes this one.
    ("interfaces", ".dummy0."),
    // The machine's Docker gives its containers no IPv6.
    ("addresses", " inet6 "),
    ("routes", "::"),
];

/// A lab that is up in one way, in a state folder of its own.
struct Way {
    labctl: Labctl,
    lab: String,
}

impl Way {
    /// `None` where this machine's kernel lacks what the topology needs, or where it is for other engines.
    fn up(file: &Path, engine: &str, options: &[&str]) -> Option<Self> {
        let (labctl, mut words) = (Labctl::new(), vec!["up", "--no-check", "--engine", engine]);
        words.extend(options);
        let ran = labctl.run(words.iter().map(OsStr::new).chain([file.as_os_str()]));
        let code = ran.0.status.code();
        let lacking = code == Some(3) && options.contains(&"dind");
        if lacking || code == Some(2) && ran.stderr().contains("is for Docker") {
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

/// Options of `up`, and what may then be otherwise than booted.
type Other<'a> = (&'a [&'static str], &'a Allowed);

/// Brings a lab up booted and in other ways, and says where these differ, each `None` where this machine's kernel lacks what
/// the topology needs. One after the other: four emulated hosts at once on two cores are too slow for Docker's own 20 s.
fn compare(file: &Path, engine: &str, others: &[Other<'_>]) -> Vec<Option<Vec<String>>> {
    let Some(booted) = Way::up(file, engine, &["--cold"]).map(|way| way.hosts()) else { return Vec::new() };
    let compared = |(options, allowed): &Other<'_>| {
        let other = Way::up(file, engine, options)?.hosts();
        assert!(booted.keys().eq(other.keys()));
        let of = |(name, host): (&String, &Host)| {
            let found = truth::differences(host, &other[name], allowed);
            let place = format!("{} {engine} {options:?} {name}", file.display());
            found.into_iter().map(move |what| format!("{place}: {what}"))
        };
        Some(booted.iter().flat_map(of).collect())
    };
    others.iter().map(compared).collect()
}

/// Compares, and fails where there is a difference or nothing to compare.
#[track_caller]
fn assert_equal(file: &str, engine: &str, others: &[Other<'_>]) {
    let compared = compare(&topology(file), engine, others);
    assert_eq!(compared.len(), others.len());
    compared.into_iter().for_each(|differences| assert_none(&differences.unwrap()));
}

#[track_caller]
fn assert_none(differences: &[String]) {
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

/// A host restored from a template.
const RESTORE: Other<'static> = (&[], &RESTORED);
/// A node in a container.
const IN_DIND: Other<'static> = (&["--runtime", "dind"], &IN_A_CONTAINER);

// Where a saved dockerd would be most in the wrong, and where one is used.

#[test]
fn a_host_whose_settings_dockerd_reads_is_as_booted_and_so_is_a_node_in_a_container() {
    assert_equal("decided-at-start.yaml", "trixie", &[RESTORE, IN_DIND]);
}

#[test]
fn a_host_with_a_clashing_route_is_as_booted() {
    assert_equal("vpn-conflict.yaml", "trixie", &[RESTORE]);
}

#[test]
fn a_host_with_a_daemon_json_is_as_booted() {
    assert_equal("address-pools.yaml", "trixie", &[RESTORE]);
}

#[test]
fn a_host_with_containers_on_docker0_is_as_booted() {
    assert_equal("bridge-default.yaml", "trixie", &[RESTORE]);
}

#[test]
fn a_host_with_docker_20_10_is_as_booted() {
    assert_equal("bridge-isolation.yaml", "bookworm", &[RESTORE]);
}

#[test]
fn hosts_with_containers_on_ipvlan_are_as_booted() {
    assert_equal("ipvlan-2host.yaml", "trixie", &[RESTORE]);
}

#[test]
fn nodes_of_a_swarm_are_as_booted() {
    assert_equal("docker-gwbridge.yaml", "trixie", &[RESTORE]);
}

#[test]
#[ignore = "an hour: `make truth` runs it"]
fn every_topology_with_every_engine() {
    let mut files: Vec<_> = fs::read_dir(topology("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension() == Some(OsStr::new("yaml")));
    files.sort();
    let mut found = Vec::new();
    for file in &files {
        for engine in ["trixie", "bookworm"] {
            let others = [RESTORE, IN_DIND];
            for (differences, (options, _)) in compare(file, engine, &others).into_iter().zip(others) {
                let Some(differences) = differences else { continue };
                println!("{} {engine} {options:?}: {} differences", file.display(), differences.len());
                found.extend(differences);
            }
        }
    }
    assert_none(&found);
}
