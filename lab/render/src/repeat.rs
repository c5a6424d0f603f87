//! Several runs of one lab: which cells and facts differ between runs.
//!
//! What holds in one run and not in another flips. What holds in all of them, or in none, may still have had different
//! outcomes: whether a packet dies for lack of an ARP answer or on its way depends on the caches. That is reported, but is
//! no flip.

use std::collections::BTreeMap;

use labctl_report::{CheckReport, Found, Report, VERSION, cells, style};
use serde::Serialize;

/// The summary of several runs; `--format json` of `check --repeat`.
#[derive(Debug, Serialize)]
pub struct Repeated<'a> {
    /// Version of this form.
    pub version: u32,
    /// Lab.
    pub lab: &'a str,
    /// How many runs there were.
    pub runs: usize,
    /// How many of them held.
    pub held: usize,
    /// Whether all held, with no flips.
    pub holds: bool,
    /// Cells and facts that held in some runs only, in the topology's order.
    pub flips: Vec<Flip>,
    /// Other cells and facts with more than one outcome, such as a `no` for different reasons.
    pub reasons: Vec<Flip>,
    /// The last run.
    pub report: &'a Report,
}

/// A cell or fact with more than one outcome.
#[derive(Debug, Serialize)]
pub struct Flip {
    /// Which, in words: `c1-1 → c2-1 icmp`.
    pub what: String,
    /// How often each outcome was seen.
    pub seen: BTreeMap<String, usize>,
    /// The first run, from 1, that differed from the one before.
    pub first: usize,
    /// Line in the topology.
    pub line: u32,
}

impl<'a> Repeated<'a> {
    /// Compares runs; `None` if there is none.
    pub fn of(reports: &'a [Report]) -> Option<Self> {
        let report = reports.last()?;
        // All runs have the same cells and facts, in the same order.
        let runs: Vec<Vec<Outcome>> = reports.iter().map(outcomes).collect();
        let (mut flips, mut reasons) = (Vec::new(), Vec::new());
        for n in 0..runs.iter().map(Vec::len).min()? {
            let seen: Vec<&Outcome> = runs.iter().map(|run| &run[n]).collect();
            if let Some(flip) = Flip::of(&seen, |o| &o.holds) {
                flips.push(flip);
            } else if let Some(flip) = Flip::of(&seen, |o| &o.word) {
                reasons.push(flip);
            }
        }
        let held = reports.iter().filter(|r| r.holds).count();
        let holds = held == reports.len() && flips.is_empty();
        let (version, lab, runs) = (VERSION, report.lab.as_str(), reports.len());
        Some(Self { version, lab, runs, held, holds, flips, reasons, report })
    }

    /// Renders a line for each flip, and a closing one.
    pub fn text(&self, topology: &str) -> String {
        let (bad, good, dim) = (style::BAD, style::GOOD, style::DIM);
        let mut out = String::new();
        let flips = self.flips.iter().map(|f| (bad, "flips ", f));
        let reasons = self.reasons.iter().map(|f| (style::CAUTION, "varies", f));
        for (s, word, flip) in flips.chain(reasons) {
            let seen: Vec<_> = flip.seen.iter().map(|(word, times)| format!("{word} {times}×")).collect();
            out.push_str(&format!(
                "{s}{word}{s:#} {}: {}, first in run {}  {dim}({topology}:{}){dim:#}\n",
                flip.what,
                seen.join(", "),
                flip.first,
                flip.line
            ));
        }
        let s = if self.holds { good } else { bad };
        let alike = if self.flips.is_empty() { ", all alike" } else { ", not all alike" };
        out.push_str(&format!("{s}{} of {} runs as expected{alike}{s:#}\n", self.held, self.runs));
        out
    }
}

/// One outcome of a cell, a fact or a step's actions.
pub(super) struct Outcome {
    /// Of which, in words.
    pub(super) what: String,
    pub(super) line: u32,
    /// What was observed.
    pub(super) word: String,
    pub(super) holds: bool,
}

/// The outcomes of a run, steps' actions first.
pub(super) fn outcomes(report: &Report) -> Vec<Outcome> {
    let steps = report.steps.iter().enumerate().map(|(n, step)| Outcome {
        what: format!("step {}: {}", n + 1, step.name),
        line: step.line,
        word: match step.actions.message.as_str() {
            "" => "done".to_owned(),
            message => message.to_owned(),
        },
        holds: step.actions.holds,
    });
    let of = |(step, check): (Option<usize>, &CheckReport)| {
        let after = step.map(|n| format!("after step {}: ", n + 1)).unwrap_or_default();
        let mut all = Vec::new();
        if let Found::Matrix(matrix) = &check.found {
            all.extend(matrix.cells.iter().map(|c| Outcome {
                what: format!("{after}{} → {} {}", c.from, c.to, cells::caption(matrix)),
                line: c.line,
                word: match &c.unmet {
                    Some(unmet) => format!("{}, but {unmet}", c.observed.word()),
                    None => c.observed.word().to_owned(),
                },
                holds: c.holds,
            }));
        }
        all.extend(check.facts().map(|f| Outcome {
            what: format!("{after}{}", f.subject),
            line: f.line,
            word: f.error.clone().unwrap_or_else(|| f.observed.join(", ")),
            holds: f.holds,
        }));
        all
    };
    steps.chain(report.all_checks().flat_map(of)).collect()
}

impl Flip {
    /// A flip, if this of an outcome is not the same in all runs.
    fn of<T: PartialEq>(outcomes: &[&Outcome], differs: impl Fn(&Outcome) -> &T) -> Option<Self> {
        let (what, line) = outcomes.first().map(|o| (o.what.clone(), o.line))?;
        let first = outcomes.windows(2).position(|pair| differs(pair[0]) != differs(pair[1]))? + 2;
        let mut seen = BTreeMap::new();
        for outcome in outcomes {
            *seen.entry(outcome.word.clone()).or_default() += 1;
        }
        Some(Self { what, seen, first, line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome((word, holds): &(&str, bool)) -> Outcome {
        Outcome { what: "a → b icmp".into(), line: 7, word: (*word).into(), holds: *holds }
    }

    #[test]
    fn a_flip_is_counted_and_its_first_run_named() {
        let runs = [("yes", true), ("yes", true), ("silent", false), ("yes", true)].each_ref().map(outcome);
        let seen: Vec<&Outcome> = runs.iter().collect();
        let flip = Flip::of(&seen, |o| &o.holds).expect("they differ");
        assert_eq!((flip.first, flip.seen["yes"], flip.seen["silent"]), (3, 3, 1));
        assert!(Flip::of(&seen[..2], |o| &o.holds).is_none());
    }

    #[test]
    fn another_reason_for_a_no_is_no_flip() {
        let runs = [("arp", true), ("silent", true)].each_ref().map(outcome);
        let seen: Vec<&Outcome> = runs.iter().collect();
        assert!(Flip::of(&seen, |o| &o.holds).is_none());
        assert!(Flip::of(&seen, |o| &o.word).is_some());
    }
}
