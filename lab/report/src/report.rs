//! Results of a run. Serialized as it is, this is the `--format json` of `up`, `check` and `test`.

use std::{path::PathBuf, time::Duration};

use labctl_model::{Expected, Observed, Probe};
use serde::{Deserialize, Serialize};

/// All results of one run of a lab's expectations.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Lab.
    pub lab: String,
    /// Runtime that the lab runs on (`vm`).
    pub runtime: String,
    /// Whether every cell, fact and step is as expected.
    pub holds: bool,
    /// Every probed cell, in the topology's order.
    pub cells: Vec<CellReport>,
    /// Every fact, in the topology's order.
    pub facts: Vec<FactReport>,
    /// Every step that was run.
    pub steps: Vec<StepReport>,
    /// Every check, with the time that it took to hold.
    #[serde(default)]
    pub checks: Vec<CheckReport>,
    /// Wall time in ms.
    pub took_ms: u64,
}

/// One cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellReport {
    /// Source.
    pub from: String,
    /// Destination as the topology writes it.
    pub to: String,
    /// Probe, in its text form.
    #[serde(with = "probe_text")]
    pub probe: Probe,
    /// Size of what was sent, if the topology gives one (see [`labctl_model::Matrix::size`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Whether the destination was looked up by name.
    pub by_name: bool,
    /// The verdict in the topology.
    #[serde(with = "words::expected")]
    pub expected: Expected,
    /// The verdict of the run.
    #[serde(with = "words::observed")]
    pub observed: Observed,
    /// For a `no` its cause and where the packet was last seen; for a `yes` who answered. May be empty.
    pub detail: String,
    /// Round trip in µs, if it was answered.
    pub rtt_us: Option<u64>,
    /// Who answered, in order of the requests, each once; empty if unknown.
    #[serde(default)]
    pub answered_by: Vec<String>,
    /// Source addresses that these saw.
    #[serde(default)]
    pub source: Vec<std::net::Ipv4Addr>,
    /// For a `yes`, how its answer differs from `answered_by`, `source` and `requests`; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmet: Option<String>,
    /// Index of the check within `expect` (of the step where `step` is given), from 0.
    pub check: usize,
    /// Index of the step, from 0; absent for the lab's own `expect`.
    pub step: Option<usize>,
    /// Line in the topology.
    pub line: u32,
}

impl CellReport {
    /// Whether the cell is as expected.
    pub fn holds(&self) -> bool {
        self.observed.meets(self.expected) && self.unmet.is_none()
    }
}

/// One fact.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FactReport {
    /// What was read, in words: `interfaces of b2`.
    pub subject: String,
    /// What must be true, in words: `equals lo`.
    pub expected: String,
    /// What was read.
    pub observed: Vec<String>,
    /// Whether `observed` is what a command printed, line by line.
    #[serde(default)]
    pub printed: bool,
    /// Whether it holds.
    pub holds: bool,
    /// Why there is no result, if so: `could not be read: …`, `the frame was not sent: …`.
    pub error: Option<String>,
    /// Index of the check, from 0.
    pub check: usize,
    /// Index of the step, from 0; absent for the lab's own `expect`.
    pub step: Option<usize>,
    /// Line in the topology.
    pub line: u32,
}

/// One step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepReport {
    /// Index, from 0.
    pub step: usize,
    /// Its name.
    pub name: String,
    /// Whether its actions came out as the topology says (its checks are in `cells` and `facts`).
    pub holds: bool,
    /// What was wrong with the actions; Docker's own message if Docker refused. Empty if `holds`, unless the step
    /// expected a refusal: then the refusal's message.
    pub message: String,
    /// Time that the actions took, ms.
    pub took_ms: u64,
    /// Time that the checks took to hold, ms; absent if they did not.
    pub settled_ms: Option<u64>,
    /// Line in the topology.
    pub line: u32,
}

/// How long a check took: a matrix or a fact, as `cells` and `facts` have them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckReport {
    /// Index of the check, from 0.
    pub check: usize,
    /// Index of the step, from 0; absent for the lab's own `expect`.
    pub step: Option<usize>,
    /// Time that it was given to hold, ms; 0: at the first look.
    pub within_ms: u64,
    /// Time from the end of the previous work to the end of the look at which it held, ms; absent if it never held.
    pub settled_ms: Option<u64>,
    /// How often it was looked at.
    pub looks: u32,
    /// If a matrix did not hold: pcapng files of what the segments carried at the last look.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<PathBuf>,
    /// Line in the topology.
    pub line: u32,
}

impl Report {
    /// The report of a check, if it ran.
    pub fn check(&self, step: Option<usize>, check: usize) -> Option<&CheckReport> {
        self.checks.iter().find(|c| (c.step, c.check) == (step, check))
    }

    /// Computes `holds` from the parts.
    pub fn conclude(&mut self) {
        self.holds = self.cells.iter().all(CellReport::holds)
            && self.facts.iter().all(|f| f.holds)
            && self.steps.iter().all(|s| s.holds);
    }

    /// How many cells are as expected, and how many there are.
    pub fn score(&self) -> (usize, usize) {
        (self.cells.iter().filter(|c| c.holds()).count(), self.cells.len())
    }
}

/// Formats a duration for people: `85 ms`, `1.2 s`, `2 min 05 s`.
pub fn duration(d: Duration) -> String {
    let s = d.as_secs_f64();
    match s {
        _ if s < 0.9995 => format!("{} ms", d.as_millis()),
        _ if s < 99.95 => format!("{s:.1} s"),
        _ => format!("{} min {:02} s", d.as_secs() / 60, d.as_secs() % 60),
    }
}

/// Formats a count: `1 host`, `2 hosts`.
pub fn count(n: impl TryInto<u64>, thing: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// Serializes `probe` in its text form.
mod probe_text {
    use labctl_model::Probe;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(probe: &Probe, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(probe)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Probe, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// Serializes verdicts as the words of the tables.
mod words {
    use labctl_model::{Expected, No, Observed};

    fn because(word: &str) -> Option<No> {
        No::ALL.iter().find(|(_, w)| *w == word).map(|(n, _)| *n)
    }

    pub mod expected {
        use super::*;
        use serde::{Deserialize, Deserializer, Serializer, de::Error};

        pub fn serialize<S: Serializer>(e: &Expected, s: S) -> Result<S::Ok, S::Error> {
            s.collect_str(e)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Expected, D::Error> {
            let word = String::deserialize(d)?;
            match word.as_str() {
                "yes" => Ok(Expected::Yes),
                "no" => Ok(Expected::No),
                w => because(w)
                    .map(Expected::Because)
                    .ok_or_else(|| D::Error::custom(format!("`{w}` is no verdict"))),
            }
        }
    }

    pub mod observed {
        use super::*;
        use serde::{Deserialize, Deserializer, Serializer, de::Error};

        pub fn serialize<S: Serializer>(o: &Observed, s: S) -> Result<S::Ok, S::Error> {
            s.serialize_str(o.word())
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Observed, D::Error> {
            let word = String::deserialize(d)?;
            match word.as_str() {
                "yes" => Ok(Observed::Yes),
                "error" => Ok(Observed::Failed),
                w => because(w)
                    .map(Observed::No)
                    .ok_or_else(|| D::Error::custom(format!("`{w}` is no verdict"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let ms = |n| duration(Duration::from_millis(n));
        assert_eq!([ms(0), ms(85), ms(1234), ms(125_000)], ["0 ms", "85 ms", "1.2 s", "2 min 05 s"]);
    }
}
