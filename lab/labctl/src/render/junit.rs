//! Reports as JUnit XML: a suite per lab, a case per cell, fact and step.

use std::time::Duration;

use labctl_model::plain_lines;
use labctl_report::{CellReport, CheckReport, FactReport, Report, StepReport};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::{cells, report};
use crate::{exit::Error, printer::plain};

/// The result of one topology.
#[derive(Debug)]
pub enum Outcome {
    /// Its lab was up and was checked.
    Ran {
        /// File.
        topology: String,
        /// What was found, on the last try.
        report: Report,
        /// That try's number, from 1.
        tries: usize,
    },
    /// Its lab did not come up, or could not be checked.
    Failed {
        /// File.
        topology: String,
        /// Lab.
        lab: String,
        /// Why.
        message: String,
    },
}

/// The whole XML.
pub fn xml(outcomes: &[Outcome]) -> Result<String, Error> {
    let mut all = quick_junit::Report::new("labctl");
    let mut total = Duration::ZERO;
    for outcome in outcomes {
        if let Outcome::Ran { report, .. } = outcome {
            total += Duration::from_millis(report.took_ms);
        }
        all.add_test_suite(suite(outcome));
    }
    all.set_time(total);
    all.to_string().map_err(|e| Error::Environment(format!("cannot write JUnit: {e}")))
}

/// Writes the XML to a file.
pub fn write(path: &std::path::Path, outcomes: &[Outcome]) -> Result<(), Error> {
    std::fs::write(path, xml(outcomes)?).map_err(Error::file("write", path.display()))
}

fn suite(outcome: &Outcome) -> TestSuite {
    match outcome {
        Outcome::Failed { topology, lab, message } => {
            let mut suite = TestSuite::new(lab.as_str());
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_message(plain(message)).set_description(plain_lines(message));
            suite.add_test_case(case("up", topology, status));
            suite
        }
        Outcome::Ran { topology, report, tries } => {
            let mut suite = TestSuite::new(report.lab.as_str());
            if *tries > 1 {
                suite.add_property(("tries", tries.to_string().as_str()));
            }
            suite.set_time(Duration::from_millis(report.took_ms));
            suite.add_test_cases(
                report.cells.iter().map(|c| timed(cell(c, topology), report.check(c.step, c.check))),
            );
            suite.add_test_cases(
                report.facts.iter().map(|f| timed(fact(f, topology), report.check(f.step, f.check))),
            );
            suite.add_test_cases(report.steps.iter().map(|s| step(s, report.steps.len(), topology)));
            suite
        }
    }
}

fn cell(c: &CellReport, topology: &str) -> TestCase {
    let name = format!("{}{} {} -> {}", after(c.step), cells::caption(c), c.from, c.to);
    let mut case = case(&name, topology, status(c.holds(), || cells::wrong(c, topology)));
    if let Some(rtt) = c.rtt_us {
        case.set_time(Duration::from_micros(rtt));
    }
    case
}

fn fact(f: &FactReport, topology: &str) -> TestCase {
    let name = format!("{}{} {}", after(f.step), f.subject, f.expected);
    case(&name, topology, status(f.holds, || report::fact(f, topology)))
}

fn step(s: &StepReport, of: usize, topology: &str) -> TestCase {
    let name = format!("step {}: {}", s.step + 1, s.name);
    let mut case = case(&name, topology, status(s.holds, || report::step(s, of, topology)));
    case.set_time(Duration::from_millis(s.took_ms));
    case
}

/// Adds to a case the time that its check took to hold.
fn timed(mut case: TestCase, check: Option<&CheckReport>) -> TestCase {
    if let Some(ms) = check.and_then(|c| c.settled_ms) {
        case.add_property(("settled_ms", ms.to_string().as_str()));
    }
    case
}

fn after(step: Option<usize>) -> String {
    step.map(|s| format!("after step {}: ", s + 1)).unwrap_or_default()
}

fn status(holds: bool, why: impl FnOnce() -> String) -> TestCaseStatus {
    if holds {
        return TestCaseStatus::success();
    }
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_message(anstream::adapter::strip_str(why().trim()).to_string());
    status
}

fn case(name: &str, topology: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(plain(name), status);
    case.set_classname(topology);
    case
}
