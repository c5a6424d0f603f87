//! `make bench`: figures as `name: ours / other = ratio`, medians of several runs, both sides in one run and in turn,
//! since machines are noisy and drift. `docs/performance.md` says what the figures mean and where the time goes.
//!
//! Usage: `labctl-benches [GROUP…]`, the groups being those of [`GROUPS`]; all of them without one.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::expect_used)]

mod dind;
mod labs;
mod matrix;
mod measure;
mod need;
mod oracle;
mod packets;
mod pairs;
mod wire;

/// What can be measured, by name.
const GROUPS: [(&str, fn()); 14] = [
    ("oracle", oracle::oracle),
    ("up", labs::flagship),
    ("engines", labs::engines),
    ("scale", labs::scale),
    ("checkpoints", labs::checkpoints),
    ("memory", labs::memory),
    ("seats", labs::seats),
    ("matrix", matrix::all_pairs),
    ("mininet", pairs::mininet),
    ("families", pairs::families),
    ("dind", dind::dind),
    ("wire", wire::wire),
    ("craft", packets::craft),
    ("cable", packets::cable),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|w| GROUPS.iter().all(|(name, _)| name != w)) {
        let known: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
        eprintln!("no group `{unknown}`; there are: {}", known.join(", "));
        std::process::exit(2);
    }
    for (name, run) in GROUPS {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            run();
        }
    }
}
