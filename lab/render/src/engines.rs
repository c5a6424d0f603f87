//! Runs of the same topologies on several engines: what came of each, and which cells differ between engines.

use indexmap::IndexMap;
use labctl_model::{Expected, Observed};
use labctl_report::{CellReport, Found, Report, cells, style, table::Table};
use labctl_words::plain;
use serde::Serialize;

/// A topology on one engine.
pub struct Ran<'a> {
    /// Lab.
    pub lab: &'a str,
    /// Engine.
    pub engine: &'a str,
    /// What was found, if the lab came up and could be checked.
    pub report: Option<&'a Report>,
}

/// A cell whose verdict is not the same on all engines.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Difference {
    /// Lab.
    pub lab: String,
    /// The step after which it was probed, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Which, in words: `c1 → c2 icmp`.
    pub cell: String,
    /// The verdicts by engine.
    pub observed: IndexMap<String, String>,
}

/// A cell, by the step before it, and in words.
type Key = (Option<String>, String);

/// The cells that differ between engines, in the topologies' order. What an engine does not probe is not compared.
pub fn differences(ran: &[Ran<'_>]) -> Vec<Difference> {
    let mut labs: IndexMap<&str, IndexMap<Key, IndexMap<String, String>>> = IndexMap::new();
    for one in ran {
        let lab = labs.entry(one.lab).or_default();
        let Some(report) = one.report else { continue };
        for (step, check) in report.all_checks() {
            let Found::Matrix(matrix) = &check.found else { continue };
            let step = step.and_then(|n| report.steps.get(n)).map(|s| s.name.clone());
            for cell in &matrix.cells {
                let words = format!("{} → {} {}", cell.from, cell.to, cells::caption(matrix));
                let seen = lab.entry((step.clone(), words)).or_default();
                seen.insert(one.engine.to_owned(), verdict(cell));
            }
        }
    }
    let mut all = Vec::new();
    for (lab, cells) in labs {
        for ((step, cell), observed) in cells {
            let mut words = observed.values();
            let first = words.next();
            if words.any(|word| Some(word) != first) {
                all.push(Difference { lab: lab.to_owned(), step, cell, observed });
            }
        }
    }
    all
}

/// The verdict, as far as the topology asks: where it says `no`, no reason.
fn verdict(cell: &CellReport) -> String {
    match (cell.expected, cell.observed) {
        (Expected::No, Observed::No(_)) => "no".to_owned(),
        (_, observed) => observed.word().to_owned(),
    }
}

/// A table of topologies and engines, `-` where a topology is not for one, and the cells that differ.
pub fn text(ran: &[Ran<'_>], labs: &[&str], engines: &[&str]) -> String {
    let mut table = Table::new(std::iter::once("topology").chain(engines.iter().copied()));
    for lab in labs {
        let word = |engine: &&str| {
            let one = ran.iter().find(|r| r.lab == *lab && r.engine == *engine);
            match one.map(|r| r.report.map(|report| report.holds)) {
                None => ("-".to_owned(), style::DIM),
                Some(Some(true)) => ("ok".to_owned(), style::GOOD),
                Some(Some(false)) => ("wrong".to_owned(), style::BAD),
                Some(None) => ("error".to_owned(), style::BAD),
            }
        };
        let name = ((*lab).to_owned(), style::HEAD);
        table.row(std::iter::once(name).chain(engines.iter().map(word)));
    }
    let mut out = table.render();
    let differences = differences(ran);
    if differences.is_empty() {
        return out;
    }
    out.push_str("\nCells that differ between engines:\n");
    for d in differences {
        let after = d.step.map(|s| format!("  (after {})", plain(&s))).unwrap_or_default();
        let seen: Vec<_> = d.observed.iter().map(|(engine, word)| format!("{engine} {word}")).collect();
        out.push_str(&format!("  {}: {}{after}: {}\n", plain(&d.lab), plain(&d.cell), seen.join(", ")));
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn report(expected: &str, observed: &str) -> Report {
        let cell = |to: &str, expected: &str, observed: &str| {
            json!({ "from": "far", "to": to, "expected": expected, "observed": observed, "holds": true,
                    "detail": "", "rtt_us": null, "answered_by": [], "source": [], "line": 3 })
        };
        let matrix = json!({ "kind": "matrix", "probe": "tcp/80", "by_name": false,
                             "cells": [cell("c1", expected, observed), cell("c2", "yes", "yes")] });
        let check = json!({ "line": 2, "holds": true, "within_ms": 0, "settled_ms": null, "looks": 1,
                            "captures": [], "found": matrix, "wire": [] });
        let all = json!({ "version": 1, "lab": "l", "runtime": "vm", "holds": true, "took_ms": 1, "checks": [check],
                          "steps": [] });
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn what_differs_between_engines_is_named_once_and_reasons_that_nobody_asked_for_are_none() {
        let (old, new, other) = (report("yes", "yes"), report("no", "silent"), report("no", "arp"));
        let ran = |engine, report| Ran { lab: "l", engine, report: Some(report) };
        let all = [ran("bookworm", &old), ran("forky", &new), ran("mine", &other)];
        let found = differences(&all);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].cell, "far → c1 tcp/80");
        assert_eq!(found[0].observed.values().collect::<Vec<_>>(), ["yes", "no", "no"]);
        assert!(differences(&all[1..]).is_empty());

        let text = text(&all, &["l", "m"], &["bookworm", "forky", "mine"]);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.contains("l         ok        ok     ok"), "{text}");
        assert!(text.contains("m         -         -      -"), "{text}");
        assert!(text.contains("l: far → c1 tcp/80: bookworm yes, forky no, mine no"), "{text}");
    }
}
