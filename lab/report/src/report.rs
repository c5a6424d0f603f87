//! The report of a run, nested as a topology is: steps, their checks, and what each check found. Serialized as it is, this
//! is the `--format json` of `up`, `check` and `test` (docs/report.md).

use std::{net::IpAddr, path::PathBuf, time::Duration};

use indexmap::IndexMap;
use labctl_model::{Action, By, Expected, Family, Matrix, Observed, Probe};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cause::Cause;

/// The version of the report's JSON. It changes if a reader of the old form could misread the new one.
pub const VERSION: u32 = 1;

/// All results of one run of a lab's expectations.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Version of this form.
    #[schemars(extend("const" = VERSION))]
    pub version: u32,
    /// Lab.
    pub lab: String,
    /// The file that lines refer to, where whoever reads the report does not know it.
    #[serde(skip)]
    pub file: Option<String>,
    /// Runtime that the lab runs on (`vm`).
    pub runtime: String,
    /// Whether everything is as expected.
    pub holds: bool,
    /// Wall time in ms.
    pub took_ms: u64,
    /// What the lab ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// What was done to the lab since it came up, before this run, as in the plan of a lab.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "actions")]
    pub after: Vec<Action>,
    /// The checks of the lab's own `expect`, in the topology's order.
    pub checks: Vec<CheckReport>,
    /// Every step that was run, in the topology's order.
    pub steps: Vec<StepReport>,
    /// Name of the checkpoint of the lab as it was when something first did not hold, if it was to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// A list whose members a program hands on as they are.
fn actions(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "array" })
}

/// What a lab ran on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// Version of labctl.
    pub labctl: String,
    /// When the run began: UTC, as in RFC 3339.
    pub began: String,
    /// The hosts that ran when it began, by name.
    pub hosts: IndexMap<String, HostEnvironment>,
}

/// What a host ran.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HostEnvironment {
    /// Release of its kernel, as `uname -r` prints it.
    pub kernel: String,
    /// Its engine: `trixie`, or the name of one from a tarball.
    pub engine: String,
    /// The newest version of Docker's API that both its dockerd and labctl speak: `1.45`.
    pub api: String,
}

/// One step: its actions, then its checks.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Step")]
pub struct StepReport {
    /// Its name.
    pub name: String,
    /// Line in the topology.
    pub line: u32,
    /// Whether its actions came out as the topology says, and all of its checks hold.
    pub holds: bool,
    /// What came of its actions.
    pub actions: ActionsReport,
    /// Time that the checks took to hold, ms; absent if they did not.
    pub settled_ms: Option<u64>,
    /// Its checks, in the topology's order.
    pub checks: Vec<CheckReport>,
}

/// The actions of a step.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Actions")]
pub struct ActionsReport {
    /// Whether they came out as the topology says.
    pub holds: bool,
    /// What was wrong with them; Docker's own message if Docker refused. Empty if `holds`, unless the step expected a
    /// refusal: then the refusal's message.
    pub message: String,
    /// Time that they took, ms.
    pub took_ms: u64,
}

/// One check: an entry of `expect`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Check")]
pub struct CheckReport {
    /// Line in the topology.
    pub line: u32,
    /// Whether what was found is as expected, and what the wire carried meanwhile.
    pub holds: bool,
    /// Time that it was given to hold, ms; 0: at the first look.
    pub within_ms: u64,
    /// Time from the end of the previous work to the end of the look at which it held, ms; absent if it never held.
    pub settled_ms: Option<u64>,
    /// How often it was looked at.
    pub looks: u32,
    /// If a matrix did not hold: pcapng files of what the segments carried at the last look.
    pub captures: Vec<PathBuf>,
    /// What was found at the last look.
    pub found: Found,
    /// What the wire had to carry, or not, while a matrix was probed or a frame was sent.
    pub wire: Vec<FactReport>,
}

/// What a check found.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Found {
    /// Cells that were probed.
    Matrix(MatrixReport),
    /// Something that was read.
    Fact(FactReport),
    /// What became of a frame that was sent.
    Frame(FactReport),
}

/// The cells of one matrix, which have one probe.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Matrix")]
pub struct MatrixReport {
    /// Probe, in its text form: `icmp`, `tcp/80`, `udp/53`, `dns/NAME`.
    #[serde(with = "probe_text")]
    #[schemars(with = "String")]
    pub probe: Probe,
    /// Size of what was sent, in bytes, if the topology gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// The address family that was probed, `4` or `6`; absent if the topology does not say: then IPv4 where both ends have
    /// it, else IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("enum" = ["4", "6"]))]
    pub family: Option<Family>,
    /// Whether the destinations were looked up by name.
    pub by_name: bool,
    /// Every cell, in the topology's order.
    pub cells: Vec<CellReport>,
}

/// One cell.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Cell")]
pub struct CellReport {
    /// Source.
    pub from: String,
    /// Destination as the topology writes it.
    pub to: String,
    /// The verdict in the topology.
    #[serde(with = "words::expected")]
    #[schemars(with = "String", extend("enum" = words::expected::all()))]
    pub expected: Expected,
    /// The verdict of the run.
    #[serde(with = "words::observed")]
    #[schemars(with = "String", extend("enum" = words::observed::all()))]
    pub observed: Observed,
    /// Whether the observed verdict meets the expected one, with nothing unmet.
    pub holds: bool,
    /// For a `no` its reason and where the packet was last seen; for a `yes` who answered. May be empty.
    pub detail: String,
    /// What explains a verdict other than `yes`, as far as it is known. Often it explains other cells, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Round trip in µs, if it was answered.
    pub rtt_us: Option<u64>,
    /// Who answered, in order of the requests, each once; empty if unknown.
    pub answered_by: Vec<String>,
    /// Source addresses that these saw.
    pub source: Vec<IpAddr>,
    /// For a `yes`, how its answer differs from `answered_by`, `source` and `requests`; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmet: Option<String>,
    /// What the oracle says of it; absent if it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Predicted>,
    /// If its matrix did not hold: the numbers by which the packets of its requests are marked in the captures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<u32>,
    /// Where the packets of its requests passed, host by host, in order of time; only if that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passages: Vec<Passage>,
    /// Line in the topology.
    pub line: u32,
}

/// A packet of a request, or of its answer, that was seen to pass an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Passage {
    /// Host, container or peer.
    pub endpoint: String,
    /// Interface.
    pub interface: String,
    /// Docker's name of the network, if this is a bridge that Docker has named itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Whether it came in there.
    pub inbound: bool,
    /// Whether it was the answer.
    pub answer: bool,
    /// Source of the packet.
    pub source: IpAddr,
    /// Destination of the packet.
    pub destination: IpAddr,
}

/// What the oracle says of a cell, held against what the topology expects.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Predicted {
    /// A verdict, several with `|` between them, or `unknown`.
    pub word: String,
    /// Whether it is as expected; absent if nobody can say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agrees: Option<bool>,
    /// Whether what is expected need not hold any more: what is predicted of the lab as it was changed is observed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outdated: bool,
    /// Why it is not, or why nobody can say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// Something that was read, or watched, rather than probed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Fact")]
pub struct FactReport {
    /// What was read, in words: `interfaces of b2`.
    pub subject: String,
    /// What must be true, in words: `equals lo`.
    pub expected: String,
    /// What was read.
    pub observed: Vec<String>,
    /// Whether `observed` is what a command printed, line by line.
    pub printed: bool,
    /// Whether it holds.
    pub holds: bool,
    /// Why there is no result, if so: `could not be read: …`, `the frame was not sent: …`.
    pub error: Option<String>,
    /// Line in the topology.
    pub line: u32,
}

impl Report {
    /// The report of a run that begins.
    pub fn new(lab: &str, runtime: &str) -> Self {
        let (lab, runtime) = (lab.to_owned(), runtime.to_owned());
        let (checks, steps) = (Vec::new(), Vec::new());
        Self {
            version: VERSION,
            lab,
            file: None,
            runtime,
            holds: true,
            took_ms: 0,
            environment: None,
            after: Vec::new(),
            checks,
            steps,
            checkpoint: None,
        }
    }

    /// Computes `holds` of every part from what it consists of.
    pub fn conclude(&mut self) {
        self.checks.iter_mut().for_each(CheckReport::conclude);
        for step in &mut self.steps {
            step.checks.iter_mut().for_each(CheckReport::conclude);
            step.holds = step.actions.holds && step.checks.iter().all(|c| c.holds);
        }
        self.holds = self.checks.iter().all(|c| c.holds) && self.steps.iter().all(|s| s.holds);
    }

    /// Every check with the index of its step (`None`: the lab's own), in the order in which they were run.
    pub fn all_checks(&self) -> impl Iterator<Item = (Option<usize>, &CheckReport)> {
        let of_steps = self.steps.iter().enumerate();
        let of_steps = of_steps.flat_map(|(n, step)| step.checks.iter().map(move |c| (Some(n), c)));
        self.checks.iter().map(|c| (None, c)).chain(of_steps)
    }

    /// The cells of all checks.
    pub fn cells(&self) -> impl Iterator<Item = &CellReport> {
        self.all_checks().flat_map(|(_, check)| check.found.cells())
    }

    /// The facts of all checks: what was read, what became of frames, and what the wire carried.
    pub fn facts(&self) -> impl Iterator<Item = &FactReport> {
        self.all_checks().flat_map(|(_, check)| check.facts())
    }
}

impl CheckReport {
    /// Computes `holds` from what was found and what the wire carried. What does not hold has not settled.
    pub fn conclude(&mut self) {
        if let Found::Matrix(matrix) = &mut self.found {
            matrix.conclude();
        }
        self.holds = self.found.holds() && self.wire.iter().all(|fact| fact.holds);
        self.settled_ms = self.settled_ms.filter(|_| self.holds);
    }

    /// The facts of the check: what was read, or what became of a frame (a matrix has neither), then what the wire carried.
    pub fn facts(&self) -> impl Iterator<Item = &FactReport> {
        let own = match &self.found {
            Found::Matrix(_) => None,
            Found::Fact(fact) | Found::Frame(fact) => Some(fact),
        };
        own.into_iter().chain(&self.wire)
    }
}

impl Found {
    /// Whether it is as expected.
    pub fn holds(&self) -> bool {
        match self {
            Found::Matrix(matrix) => matrix.cells.iter().all(|cell| cell.holds),
            Found::Fact(fact) | Found::Frame(fact) => fact.holds,
        }
    }

    /// The cells of a matrix; empty for anything else.
    pub fn cells(&self) -> &[CellReport] {
        match self {
            Found::Matrix(matrix) => &matrix.cells,
            Found::Fact(_) | Found::Frame(_) => &[],
        }
    }
}

impl MatrixReport {
    /// The report of a matrix with these cells. Computes their `holds`.
    pub fn new(matrix: &Matrix, cells: Vec<CellReport>) -> Self {
        let by_name = matrix.by == By::Name;
        let (probe, family) = (matrix.probe.clone(), matrix.family.family());
        let mut report = Self { probe, size: matrix.size, family, by_name, cells };
        report.conclude();
        report
    }

    fn conclude(&mut self) {
        for cell in &mut self.cells {
            cell.holds = cell.observed.meets(cell.expected) && cell.unmet.is_none();
        }
        if self.cells.iter().all(|cell| cell.holds) {
            self.cells.iter_mut().for_each(|cell| cell.marks.clear());
        }
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

        pub fn all() -> Vec<&'static str> {
            Expected::words().collect()
        }

        pub fn serialize<S: Serializer>(e: &Expected, s: S) -> Result<S::Ok, S::Error> {
            s.collect_str(e)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Expected, D::Error> {
            let word = String::deserialize(d)?;
            Expected::from_word(&word).ok_or_else(|| D::Error::custom(format!("`{word}` is no verdict")))
        }
    }

    pub mod observed {
        use super::*;
        use serde::{Deserialize, Deserializer, Serializer, de::Error};

        pub fn all() -> Vec<&'static str> {
            ["yes", "error"].into_iter().chain(No::ALL.map(|(_, word)| word)).collect()
        }

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

    const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");

    #[test]
    fn the_committed_schema_is_the_codes() {
        let path = format!("{DOCS}/report.schema.json");
        let mut schema = schemars::schema_for!(Report);
        schema.insert("title".into(), "labctl report".into());
        let new = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, &new).expect("the schema can be written");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        let again = "UPDATE_SCHEMA=1 cargo test --profile quick -p labctl-report schema";
        assert!(committed == new, "docs/report.schema.json is not what the code says: {again}");
    }

    #[test]
    fn the_documented_report_is_one() {
        let page = std::fs::read_to_string(format!("{DOCS}/report.md")).expect("there is a page");
        let json = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
        let json: serde_json::Value = serde_json::from_str(json.expect("an example")).expect("it is JSON");
        let mut report: Report = serde_json::from_value(json.clone()).expect("it is a report");
        assert_eq!(serde_json::to_value(&report).expect("it has a form"), json, "read and written again");
        report.conclude();
        assert_eq!(serde_json::to_value(&report).expect("it has a form"), json, "its parts agree");
    }

    #[test]
    fn durations_read_well() {
        let ms = |n| duration(Duration::from_millis(n));
        assert_eq!([ms(0), ms(85), ms(1234), ms(125_000)], ["0 ms", "85 ms", "1.2 s", "2 min 05 s"]);
    }
}
