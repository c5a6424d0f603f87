//! Several runs of one lab: which cells and facts differ between runs.
//!
//! The reason of a `no` may differ if the topology leaves it open: whether a packet died for lack of an ARP answer or on
//! its way depends on the caches. That is reported, but is no flip.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use labctl_report::Report;
use serde::Serialize;

use crate::printer::style;

/// The summary of several runs; `--format json` of `check --repeat`.
#[derive(Debug, Serialize)]
pub struct Repeated<'a> {
    /// Lab.
    pub lab: &'a str,
    /// How many runs there were.
    pub runs: usize,
    /// How many of them held.
    pub held: usize,
    /// Whether all held, with no flips.
    pub holds: bool,
    /// Cells and facts that differed between runs, in the topology's order.
    pub flips: Vec<Flip>,
    /// Cells and facts with equal answers but different words: a `no` for different reasons.
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
        let mut outcomes: IndexMap<(String, usize, u32), Vec<Outcome>> = IndexMap::new();
        for run in reports {
            for cell in &run.cells {
                let name = if cell.by_name { " by name" } else { "" };
                let what = format!("{} → {} {}{name}", cell.from, cell.to, cell.probe);
                let outcome = Outcome { word: cell.observed.word().to_owned(), holds: cell.holds() };
                outcomes.entry((what, cell.check, cell.line)).or_default().push(outcome);
            }
            for fact in &run.facts {
                let outcome = Outcome { word: fact.observed.join(", "), holds: fact.holds };
                outcomes.entry((fact.subject.clone(), fact.check, fact.line)).or_default().push(outcome);
            }
        }
        let (mut flips, mut reasons) = (Vec::new(), Vec::new());
        for ((what, _, line), outcomes) in &outcomes {
            if let Some(flip) = Flip::of(what, *line, outcomes, Outcome::same_answer) {
                flips.push(flip);
            } else if let Some(flip) = Flip::of(what, *line, outcomes, PartialEq::eq) {
                reasons.push(flip);
            }
        }
        let held = reports.iter().filter(|r| r.holds).count();
        let holds = held == reports.len() && flips.is_empty();
        Some(Self { lab: &report.lab, runs: reports.len(), held, holds, flips, reasons, report })
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

/// One outcome of a cell or fact.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    /// What was observed.
    word: String,
    holds: bool,
}

impl Outcome {
    /// Whether two outcomes are equal for the topology.
    fn same_answer(&self, other: &Self) -> bool {
        self.holds == other.holds && (self.word == "yes") == (other.word == "yes")
    }
}

impl Flip {
    fn of(
        what: &str,
        line: u32,
        outcomes: &[Outcome],
        same: impl Fn(&Outcome, &Outcome) -> bool,
    ) -> Option<Self> {
        let first = outcomes.windows(2).position(|pair| !same(&pair[0], &pair[1]))? + 2;
        let mut seen = BTreeMap::new();
        for outcome in outcomes {
            *seen.entry(outcome.word.clone()).or_default() += 1;
        }
        Some(Self { what: what.to_owned(), seen, first, line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(words: &[&str]) -> Vec<Outcome> {
        words.iter().map(|w| Outcome { word: (*w).to_owned(), holds: true }).collect()
    }

    #[test]
    fn a_flip_is_counted_and_its_first_run_named() {
        let seen = outcomes(&["yes", "yes", "silent", "yes"]);
        let flip = Flip::of("a → b icmp", 7, &seen, Outcome::same_answer).expect("they differ");
        assert_eq!((flip.first, flip.seen["yes"], flip.seen["silent"]), (3, 3, 1));
        assert!(Flip::of("a → b icmp", 7, &seen[..2], Outcome::same_answer).is_none());
    }

    #[test]
    fn another_reason_for_a_no_is_no_flip() {
        let seen = outcomes(&["arp", "silent"]);
        assert!(Flip::of("a → b icmp", 7, &seen, Outcome::same_answer).is_none());
        assert!(Flip::of("a → b icmp", 7, &seen, PartialEq::eq).is_some());
    }
}
