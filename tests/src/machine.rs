//! The machine that the tests run on: what a lab must leave as it was.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

/// Interfaces, addresses, routes, rules, network sysctls and Docker networks of this machine.
pub fn network_state() -> BTreeMap<String, String> {
    let mut state = BTreeMap::new();
    for args in [
        &["-o", "link", "show"][..],
        &["-o", "address", "show"],
        &["route", "show", "table", "all"],
        &["rule", "show"],
        &["netns", "list"],
    ] {
        state.insert(format!("ip {}", args.join(" ")), stable(&output("ip", args)));
    }
    state.insert("iptables-save".into(), output_or_empty("iptables-save", &["-t", "filter"]));
    state.insert("docker network ls".into(), output_or_empty("docker", &["network", "ls", "--no-trunc"]));
    sysctls(Path::new("/proc/sys/net/ipv4"), &mut state);
    sysctls(Path::new("/proc/sys/net/bridge"), &mut state);
    state
}

/// Panics with what differs.
#[track_caller]
pub fn assert_unchanged(before: &BTreeMap<String, String>) {
    let after = network_state();
    for (key, was) in before {
        let is = after.get(key).map(String::as_str).unwrap_or("(gone)");
        assert_eq!(was, is, "{key} of this machine changed");
    }
    for key in after.keys() {
        assert!(before.contains_key(key), "{key} of this machine is new");
    }
}

/// Command lines of processes that have this text in theirs, or of QEMU in its environment, but for the caller's own.
pub fn processes_with(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        let read = |name: &str| {
            let text = fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&text).replace('\0', " ")
        };
        let line = read("cmdline");
        // QEMU is given descriptors, and names no path of the lab.
        if line.contains(text) || line.starts_with("qemu-") && read("environ").contains(text) {
            found.push(format!("{pid} {line}"));
        }
    }
    found
}

fn output(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// For programs that a machine may do without: what is not there cannot change.
fn output_or_empty(program: &str, args: &[&str]) -> String {
    let Ok(out) = Command::new(program).args(args).output() else { return String::new() };
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    // Counters and times are no state.
    text.lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| l.split(" [").next().unwrap_or(l))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Without what changes by itself: lifetimes of leased addresses.
fn stable(text: &str) -> String {
    text.lines().map(|l| l.split("valid_lft").next().unwrap_or(l).trim_end()).collect::<Vec<_>>().join("\n")
}

fn sysctls(dir: &Path, into: &mut BTreeMap<String, String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            sysctls(&path, into);
        } else if path.ends_with("tcp_fastopen_key") {
            // The kernel draws it when a namespace first needs it.
        } else if let Ok(value) = fs::read_to_string(&path) {
            // The routing cache's own statistics and the random offset of identifiers change by themselves.
            into.insert(path.display().to_string(), value);
        }
    }
}
