//! The oracle: no lab runs here.

use std::{ffi::OsStr, fmt::Write, fs, path::Path};

use labctl_model::{Attach, Lab};
use labctl_oracle::{Predictions, predict, summarize};

use labctl_tests::Labctl;

use crate::measure::{RUNS, against_aim, alone, seconds, versus};

/// Hosts, and containers on each of them: all cells can be walked one by one (docs/oracle.md has the limit).
const HOSTS: usize = 8;
const CONTAINERS: usize = 30;
/// The same in a lab whose cells are too many to list, s: 10,000 endpoints.
const MANY_HOSTS: usize = 40;
const MANY_CONTAINERS: usize = 249;
const COUNTED_AIM: f64 = 1.0;

/// Prints the figures.
pub fn oracle() {
    let labs = topologies();
    let mut cells = 0;
    let all: Vec<f64> = (0..RUNS)
        .map(|_| seconds(|| cells = labs.iter().map(|lab| predict(lab).expectations).sum()))
        .collect();
    alone(&format!("predicting all {} topologies, {cells} expectations", labs.len()), "s", &all);

    // A row alone is walked cell by cell; a whole matrix goes by classes of endpoints.
    let names: Vec<String> = (0..HOSTS * CONTAINERS).map(|n| format!("c{n}")).collect();
    let (whole, rows) =
        (parse(&lab(HOSTS, CONTAINERS, &["containers".to_owned()])), parse(&lab(HOSTS, CONTAINERS, &names)));
    let (mut by_class, mut walked) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (mut one, mut other): (Option<Predictions>, Option<Predictions>) = (None, None);
        by_class.push(seconds(|| one = Some(predict(&whole))));
        walked.push(seconds(|| other = Some(predict(&rows))));
        let agreed = [one, other].map(|p| p.map(|p| (p.expectations, p.agrees)));
        assert_eq!(agreed[0], agreed[1], "both say the same");
    }
    let cells = names.len() * (names.len() - 1);
    versus(&format!("{cells} cells, by classes / cell by cell"), "s", &by_class, &walked);
    let a_second: Vec<f64> = walked.iter().map(|s| cells as f64 / s).collect();
    alone("cells walked one by one", "cells/s", &a_second);

    let many = many();
    let mut cells = 0;
    let counted: Vec<f64> =
        (0..RUNS).map(|_| seconds(|| cells = summarize(&many, &[]).scenes[0].matrices[0].cells)).collect();
    against_aim(&format!("{cells} cells counted by classes"), "s", &counted, COUNTED_AIM);

    let labctl = Labctl::new();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../topologies/ingress.yaml");
    let explain =
        [OsStr::new("explain"), file.as_os_str(), "client".as_ref(), "host3".as_ref(), "tcp/8080".as_ref()];
    let whole: Vec<f64> = (0..RUNS).map(|_| seconds(|| drop(labctl.run(explain).exits(0)))).collect();
    against_aim("explain of one cell, from start to exit", "s", &whole, 0.05);
}

/// More containers than a topology can have: those of a smaller lab, and copies with addresses of their own.
fn many() -> Lab {
    let mut lab = parse(&lab(MANY_HOSTS, 2, &[]));
    for n in lab.containers.len()..MANY_HOSTS * MANY_CONTAINERS {
        let mut copy = lab.containers[n % (2 * MANY_HOSTS)].clone();
        if let Attach::Networks(all) = &mut copy.attach
            && let Some(far) = all.get_mut("far")
        {
            far.ipv4_address = Some([10, 1, (1 + n / 200) as u8, (1 + n % 200) as u8].into());
        }
        lab.containers.insert(format!("c{n}"), copy);
    }
    lab
}

fn topologies() -> Vec<Lab> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../topologies");
    let files = fs::read_dir(dir).expect("the topologies").map(|e| e.expect("a file").path());
    let yaml = files.filter(|p| p.extension().is_some_and(|e| e == "yaml"));
    yaml.map(|p| labctl_topology::load(p).expect("a valid topology")).collect()
}

fn parse(text: &str) -> Lab {
    labctl_topology::parse(text, "bench.yaml").expect("a valid topology")
}

/// Containers on a bridge of their host, every other one on a macvlan too; a matrix for each of these sources.
fn lab(hosts: usize, on_each: usize, sources: &[String]) -> String {
    let mut text = String::from("name: bench\nsegments: { lan: { subnet: 10.1.0.0/16 } }\nhosts:\n");
    for host in 0..hosts {
        let _ = writeln!(text, "  h{host}: {{ lan: 10.1.0.{} }}", host + 1);
    }
    text += "networks:\n  near: { ipam: { config: [ { subnet: 172.30.0.0/16 } ] } }\n  \
             far: { driver: macvlan, driver_opts: { parent: lan }, ipam: { config: [ { subnet: 10.1.0.0/16 } ] } }\n\
             containers:\n";
    for n in 0..hosts * on_each {
        let far = format!(", far: {{ ipv4_address: 10.1.{}.{} }}", 1 + n / 200, 1 + n % 200);
        let far = if n % 2 == 0 { far.as_str() } else { "" };
        let _ = writeln!(text, "  c{n}: {{ host: h{}, networks: {{ near: {{}}{far} }} }}", n % hosts);
    }
    text += if sources.is_empty() { "" } else { "expect:\n" };
    for source in sources {
        let _ = writeln!(text, "  - {{ from: {source}, to: containers, verdict: yes }}");
    }
    text
}
