//! A run beside an earlier one: which cells, facts and steps came out otherwise.

use std::collections::HashMap;

use labctl_report::{Report, count, style};
use serde::{Deserialize, Serialize};

use crate::repeat::outcomes;

/// An earlier run, as `labctl test --format json` printed it.
#[derive(Debug, Deserialize)]
pub struct Earlier {
    labs: Vec<EarlierLab>,
}

#[derive(Debug, Deserialize)]
struct EarlierLab {
    lab: String,
    report: Option<Report>,
}

impl Earlier {
    /// Reads the JSON of `test`, or that of `up` and `check`, which is one lab's.
    ///
    /// # Errors
    /// If it is neither.
    pub fn read(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json).or_else(|e| {
            let one: Report = serde_json::from_str(json).map_err(|_| e)?;
            Ok(Self { labs: vec![EarlierLab { lab: one.lab.clone(), report: Some(one) }] })
        })
    }
}

/// What differs between two runs.
#[derive(Debug, Serialize)]
pub struct Compared {
    /// The earlier run's file.
    pub earlier: String,
    /// What held and does not any more.
    pub broke: Vec<Change>,
    /// What holds again.
    pub mended: Vec<Change>,
    /// What holds, or does not, as before, with another outcome.
    pub varied: Vec<Change>,
    /// What the earlier run did not have.
    pub added: Vec<Change>,
    /// What this run does not have.
    pub gone: Vec<Change>,
    /// How much came out as before.
    pub same: usize,
}

/// One cell, fact or step that came out otherwise.
#[derive(Debug, Serialize)]
pub struct Change {
    /// Lab.
    pub lab: String,
    /// Which, in words: `c1-1 → c2-1 icmp`.
    pub what: String,
    /// Outcome of the earlier run; absent if it had none.
    pub was: Option<String>,
    /// Outcome of this run; absent if it has none.
    pub is: Option<String>,
    /// Line in the topology, of the run that has it.
    pub line: u32,
}

/// Most changes of a kind that the text lists.
const MOST: usize = 40;

impl Compared {
    /// Compares labs that were run with those of an earlier run. `None`: a lab that has no report.
    pub fn new<'a>(
        file: &str,
        earlier: &Earlier,
        runs: impl IntoIterator<Item = (&'a str, Option<&'a Report>)>,
    ) -> Self {
        let mut all = Self {
            earlier: file.to_owned(),
            broke: Vec::new(),
            mended: Vec::new(),
            varied: Vec::new(),
            added: Vec::new(),
            gone: Vec::new(),
            same: 0,
        };
        for (lab, report) in runs {
            let before = earlier.labs.iter().find(|l| l.lab == lab).and_then(|l| l.report.as_ref());
            match (before, report) {
                (None, None) => {}
                (Some(before), Some(now)) => all.lab(lab, before, now),
                (Some(before), None) => all.broke.push(Change::whole(lab, Some(before.holds), None)),
                (None, Some(now)) => all.added.push(Change::whole(lab, None, Some(now.holds))),
            }
        }
        all
    }

    fn lab(&mut self, lab: &str, before: &Report, now: &Report) {
        // The same words may name several cells: the first of them is the first.
        let mut old: HashMap<(String, usize), _> = HashMap::new();
        let mut order = Vec::new();
        let mut times: HashMap<String, usize> = HashMap::new();
        for outcome in outcomes(before) {
            let n = times.entry(outcome.what.clone()).or_default();
            *n += 1;
            order.push((outcome.what.clone(), *n));
            old.insert((outcome.what.clone(), *n), outcome);
        }
        times.clear();
        for is in outcomes(now) {
            let n = times.entry(is.what.clone()).or_default();
            *n += 1;
            let was = old.remove(&(is.what.clone(), *n));
            let change = |was: Option<String>| Change {
                lab: lab.to_owned(),
                what: is.what.clone(),
                was,
                is: Some(is.word.clone()),
                line: is.line,
            };
            match was {
                None => self.added.push(change(None)),
                Some(was) if was.holds == is.holds && was.word == is.word => self.same += 1,
                Some(was) => {
                    let list = match (was.holds, is.holds) {
                        (true, false) => &mut self.broke,
                        (false, true) => &mut self.mended,
                        _ => &mut self.varied,
                    };
                    list.push(change(Some(was.word)));
                }
            }
        }
        for key in order {
            if let Some(was) = old.remove(&key) {
                let (lab, line) = (lab.to_owned(), was.line);
                self.gone.push(Change { lab, what: was.what, was: Some(was.word), is: None, line });
            }
        }
    }

    /// Renders a line for each change, and a closing one.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (s, word, list) in [
            (style::BAD, "broke ", &self.broke),
            (style::GOOD, "mended", &self.mended),
            (style::CAUTION, "varies", &self.varied),
            (style::DIM, "new   ", &self.added),
            (style::DIM, "gone  ", &self.gone),
        ] {
            for change in list.iter().take(MOST) {
                let how = match (&change.was, &change.is) {
                    (Some(was), Some(is)) if was == is && word == "mended" => {
                        format!("{is}, as is expected now")
                    }
                    (Some(was), Some(is)) if was == is => format!("{is}, which is not what is expected now"),
                    (Some(was), Some(is)) => format!("{was}, now {is}"),
                    (Some(only), None) | (None, Some(only)) => only.clone(),
                    (None, None) => String::new(),
                };
                let Change { lab, what, line, .. } = change;
                out.push_str(&format!("{s}{word}{s:#} {lab}:{line}  {what}: {how}\n"));
            }
            if list.len() > MOST {
                out.push_str(&format!("{s}{word}{s:#} and {} more\n", list.len() - MOST));
            }
        }
        let counts = [
            (self.broke.len(), "broke"),
            (self.mended.len(), "mended"),
            (self.varied.len(), "with another reason"),
            (self.added.len(), "new"),
            (self.gone.len(), "gone"),
        ];
        let said: Vec<_> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let said = if said.is_empty() { "nothing changed".to_owned() } else { said.join(", ") };
        let same = count(self.same, "result");
        out.push_str(&format!("compared with {}: {said}; {same} as before\n", self.earlier));
        out
    }
}

impl Change {
    /// A whole lab.
    fn whole(lab: &str, was: Option<bool>, is: Option<bool>) -> Self {
        let word = |holds: bool| if holds { "holds" } else { "does not hold" }.to_owned();
        let is = is.map_or_else(|| was.map(|_| "error".to_owned()), |h| Some(word(h)));
        Self { lab: lab.to_owned(), what: "the lab".to_owned(), was: was.map(word), is, line: 1 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A report of one matrix, with a cell for each of these: source, expected, observed.
    fn report(cells: &[(&str, &str, &str)]) -> serde_json::Value {
        let cells: Vec<_> = cells
            .iter()
            .map(|(from, expected, observed)| {
                serde_json::json!({
                    "from": from, "to": "z", "expected": expected, "observed": observed, "holds": true, "detail": "",
                    "rtt_us": null, "answered_by": [], "source": [], "line": 7
                })
            })
            .collect();
        let found =
            serde_json::json!({ "kind": "matrix", "probe": "icmp", "by_name": false, "cells": cells });
        let check = serde_json::json!({
            "line": 6, "holds": true, "within_ms": 0, "settled_ms": null, "looks": 1, "captures": [],
            "found": found, "wire": []
        });
        let report = serde_json::json!({
            "version": 1, "lab": "l", "runtime": "vm", "holds": true, "took_ms": 0, "checks": [check], "steps": []
        });
        let mut report: Report = serde_json::from_value(report).unwrap();
        report.conclude();
        serde_json::to_value(&report).unwrap()
    }

    #[test]
    fn every_change_has_its_kind() {
        let old = report(&[
            ("a", "yes", "yes"),
            ("b", "yes", "silent"),
            ("c", "no", "arp"),
            ("d", "yes", "yes"),
            ("old", "yes", "yes"),
        ]);
        let new = report(&[
            ("a", "yes", "refused"),
            ("b", "yes", "yes"),
            ("c", "no", "silent"),
            ("d", "yes", "yes"),
            ("new", "yes", "yes"),
        ]);
        let earlier = Earlier::read(
            &serde_json::json!({ "version": 1, "labs": [{ "lab": "l", "report": old }] }).to_string(),
        );
        let new: Report = serde_json::from_value(new).unwrap();
        let c = Compared::new("e.json", &earlier.unwrap(), [("l", Some(&new)), ("other", Some(&new))]);
        let what = |list: &[Change]| list.iter().map(|c| c.what.clone()).collect::<Vec<_>>();
        assert_eq!(what(&c.broke), ["a → z icmp"]);
        assert_eq!(what(&c.mended), ["b → z icmp"]);
        assert_eq!(what(&c.varied), ["c → z icmp"]);
        assert_eq!(what(&c.added), ["new → z icmp", "the lab"]);
        assert_eq!((what(&c.gone), c.same), (vec!["old → z icmp".to_owned()], 1));
        let text = anstream::adapter::strip_str(&c.text()).to_string();
        assert!(text.starts_with("broke  l:7  a → z icmp: yes, now refused\n"), "{text}");
        assert!(
            text.ends_with(
                "e.json: 1 broke, 1 mended, 1 with another reason, 2 new, 1 gone; 1 result as before\n"
            ),
            "{text}"
        );
        // The report of `check` is one, too.
        assert!(Earlier::read(&old.to_string()).is_ok() && Earlier::read("{}").is_err());
    }
}
