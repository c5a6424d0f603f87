//! Labs: how fast they come and go, and what they cost.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use labctl_tests::{Labctl, topology};

use crate::measure::{RUNS, against_aim, alone, seconds, versus};

/// A lab of so many hosts with nothing on them.
fn hosts(dir: &tempfile::TempDir, count: usize) -> PathBuf {
    let mut text = format!("name: hosts-{count}\nsegments: {{ lan: {{ subnet: 10.9.0.0/16 }} }}\nhosts:\n");
    for i in 0..count {
        text += &format!("  h{i}: {{ lan: 10.9.1.{} }}\n", i + 1);
    }
    let path = dir.path().join(format!("hosts-{count}.yaml"));
    fs::write(&path, text).expect("a temporary folder can be written to");
    path
}

fn up(labctl: &Labctl, file: &Path, options: &[&str]) -> f64 {
    let words = ["up", "--no-check"].iter().chain(options).map(OsStr::new).chain([file.as_os_str()]);
    let words: Vec<&OsStr> = words.collect();
    seconds(|| drop(labctl.run(words).exits(0)))
}

fn down(labctl: &Labctl) -> f64 {
    seconds(|| drop(labctl.run(["down", "--all"]).exits(0)))
}

/// The flagship, restored against booted.
pub fn flagship() {
    let labctl = Labctl::new();
    let file = topology("ipvlan-2host.yaml");
    // The template is made once per node image, which is no part of a start.
    up(&labctl, &file, &[]);
    down(&labctl);
    let (mut warm, mut cold) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        warm.push(up(&labctl, &file, &[]));
        down(&labctl);
        cold.push(up(&labctl, &file, &["--cold"]));
        down(&labctl);
    }
    versus("up --no-check of ipvlan-2host, restored / booted", "s", &warm, &cold);
    against_aim("up --no-check of ipvlan-2host, restored", "s", &warm, 3.0);
}

/// The flagship with Docker 28, against the default engine.
pub fn engines() {
    let labctl = Labctl::new();
    let file = topology("ipvlan-2host.yaml");
    let engines = [["--engine", "forky"], ["--engine", "trixie"]];
    for engine in &engines {
        up(&labctl, &file, engine);
        down(&labctl);
    }
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (took, engine) in took.iter_mut().zip(&engines) {
            took.push(up(&labctl, &file, engine));
            down(&labctl);
        }
    }
    versus("up --no-check of ipvlan-2host, forky / trixie", "s", &took[0], &took[1]);
}

/// Many hosts at once.
pub fn scale() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let labctl = Labctl::new();
    for (count, aim) in [(16, 3.0), (32, 6.0)] {
        let file = hosts(&dir, count);
        up(&labctl, &file, &[]);
        let mut downs = vec![down(&labctl)];
        let mut ups = Vec::new();
        for _ in 0..RUNS {
            ups.push(up(&labctl, &file, &[]));
            downs.push(down(&labctl));
        }
        against_aim(&format!("up --no-check of {count} hosts"), "s", &ups, aim);
        against_aim(&format!("down of {count} hosts"), "s", &downs, 0.5);
    }
}

/// A lab from the checkpoint that an earlier one left, against the same lab made anew; and its reset.
pub fn checkpoints() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut labctl = Labctl::new();
    labctl.checkpoints = true;
    let sixteen = hosts(&dir, 16);
    for (file, aim) in
        [(topology("ipvlan-2host.yaml"), 0.5), (topology("ingress.yaml"), 0.75), (sixteen, 1.0)]
    {
        let lab = file.file_stem().and_then(|s| s.to_str()).expect("a name of ours").to_owned();
        let (mut restored, mut fresh, mut resets) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..RUNS {
            fresh.push(up(&labctl, &file, &["--fresh"]));
            down(&labctl);
            restored.push(up(&labctl, &file, &[]));
            resets.push(seconds(|| drop(labctl.run(["reset", &lab]).exits(0))));
            down(&labctl);
        }
        versus(&format!("up --no-check of {lab}, from a checkpoint / made anew"), "s", &restored, &fresh);
        against_aim(&format!("up --no-check of {lab}, from a checkpoint"), "s", &restored, aim);
        against_aim(&format!("reset of {lab}"), "s", &resets, 1.0);
    }
}

/// A workshop: thirty labs of one kind on one server, the first made, the others from the checkpoint that it leaves.
pub fn seats() {
    const SEATS: usize = 30;
    let mut labctl = Labctl::new();
    labctl.checkpoints = true;
    let file = topology("ipvlan-2host.yaml");
    let name = |seat: usize| format!("seat-{seat:02}");
    let one = |seat: usize| up(&labctl, &file, &["--name", &name(seat)]);
    alone("up --no-check of the first seat", "s", &[one(0)]);
    let free = available_mib();
    let ups: Vec<f64> = (1..SEATS).map(one).collect();
    let per_seat = (free - available_mib()) / (SEATS - 1) as f64;
    let checks: Vec<f64> =
        (0..RUNS).map(|n| seconds(|| drop(labctl.run(["check", &name(n * 7)]).exits(0)))).collect();
    alone(&format!("up --no-check of a seat, beside up to {SEATS}"), "s", &ups);
    alone("memory of a further seat", "MiB", &[per_seat]);
    alone(&format!("the matrix of a seat, beside {SEATS}"), "s", &checks);
    down(&labctl);
}

/// What this machine could still give to programs (proc(5), MemAvailable).
fn available_mib() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").expect("the kernel tells");
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:")).expect("Linux 3.14 and newer");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

/// Memory that belongs to each machine alone: private pages of its process, from smaps_rollup (proc(5)).
pub fn memory() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let labctl = Labctl::new();
    let mut per_host = Vec::new();
    for _ in 0..RUNS {
        let (few, many) = (private_mib(&labctl, &hosts(&dir, 2)), private_mib(&labctl, &hosts(&dir, 8)));
        per_host.push((many - few) / 6.0);
    }
    against_aim("private memory per extra host", "MiB", &per_host, 100.0);
}

fn private_mib(labctl: &Labctl, file: &Path) -> f64 {
    up(labctl, file, &[]);
    let labs = labctl.run(["ps", "--format", "json"]).exits(0).json();
    let hosts = labs[0]["hosts"].as_object().expect("ps lists the hosts");
    let kib: f64 = hosts.values().filter_map(|h| h["pid"].as_u64()).map(private_kib).sum();
    down(labctl);
    kib / 1024.0
}

fn private_kib(pid: u64) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the machine runs");
    text.lines()
        .filter(|l| l.starts_with("Private_"))
        .filter_map(|l| l.split_ascii_whitespace().nth(1)?.parse::<f64>().ok())
        .sum()
}
