//! Reports as JUnit XML: a suite per lab, a case per cell, fact and step.

use std::time::Duration;

use labctl_report::{
    CellReport, CheckReport, FactReport, Found, MatrixReport, Report, StepReport, cells, text,
};
use labctl_words::{plain, plain_lines};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use crate::{Error, predicted};

/// The result of one topology.
#[derive(Debug)]
pub enum Tested {
    /// Its lab was up and was checked.
    Ran {
        /// File.
        topology: String,
        /// What was found, on the last try.
        report: Box<Report>,
        /// That try's number, from 1.
        tries: usize,
        /// Time of that try, with bringing the lab up and taking it down.
        took: Duration,
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
pub fn xml(outcomes: &[Tested]) -> Result<String, Error> {
    let mut all = quick_junit::Report::new("labctl");
    let mut total = Duration::ZERO;
    for outcome in outcomes {
        if let Tested::Ran { took, .. } = outcome {
            total += *took;
        }
        all.add_test_suite(suite(outcome));
    }
    all.set_time(total);
    all.to_string().map_err(Error::in_form("JUnit"))
}

fn suite(outcome: &Tested) -> TestSuite {
    match outcome {
        Tested::Failed { topology, lab, message } => {
            let mut suite = TestSuite::new(lab.as_str());
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_message(plain(message)).set_description(plain_lines(message));
            suite.add_test_case(case("up", topology, status));
            suite
        }
        Tested::Ran { topology, report, tries, took } => {
            let mut suite = TestSuite::new(report.lab.as_str());
            if *tries > 1 {
                suite.add_property(("tries", tries.to_string().as_str()));
            }
            suite.set_time(*took);
            let steps = report.steps.iter().enumerate();
            suite.add_test_cases(report.checks.iter().flat_map(|c| check(c, "", topology)));
            suite.add_test_cases(steps.flat_map(|(n, s)| step(s, (n, report.steps.len()), topology)));
            suite
        }
    }
}

/// The cases of a step: its actions, then its checks.
fn step(s: &StepReport, (n, of): (usize, usize), topology: &str) -> Vec<TestCase> {
    let name = format!("step {}: {}", n + 1, s.name);
    let why = || text::step(s, (n, of), topology);
    let mut actions = at(s.line, case(&name, topology, status(s.actions.holds, why)));
    actions.set_time(Duration::from_millis(s.actions.took_ms));
    let after = format!("after step {}: ", n + 1);
    let checks = s.checks.iter().flat_map(|c| check(c, &after, topology));
    [actions].into_iter().chain(checks).collect()
}

/// The cases of a check, each with the time that the check took to hold. Their names begin with `after`.
fn check(c: &CheckReport, after: &str, topology: &str) -> Vec<TestCase> {
    let cells =
        if let Found::Matrix(matrix) = &c.found { cells(matrix, after, topology) } else { Vec::new() };
    let mut all: Vec<TestCase> =
        cells.into_iter().chain(c.facts().map(|f| fact(f, after, topology))).collect();
    if let Some(ms) = c.settled_ms {
        for case in &mut all {
            case.add_property(("settled_ms", ms.to_string().as_str()));
        }
    }
    all
}

fn cells(matrix: &MatrixReport, after: &str, topology: &str) -> Vec<TestCase> {
    let caption = cells::caption(matrix);
    let one = |c: &CellReport| {
        let name = format!("{after}{caption} {} -> {}", c.from, c.to);
        let oracle = || predicted::said(c).map(|said| format!("the oracle: {said}\n")).unwrap_or_default();
        let status = status(c.holds, || cells::wrong(matrix, c, topology) + &oracle());
        let mut case = at(c.line, case(&name, topology, status));
        if let Some(rtt) = c.rtt_us {
            case.set_time(Duration::from_micros(rtt));
        }
        case
    };
    matrix.cells.iter().map(one).collect()
}

fn fact(f: &FactReport, after: &str, topology: &str) -> TestCase {
    let name = format!("{after}{} {}", f.subject, f.expected);
    at(f.line, case(&name, topology, status(f.holds, || text::fact(f, topology))))
}

fn status(holds: bool, why: impl FnOnce() -> String) -> TestCaseStatus {
    if holds {
        return TestCaseStatus::success();
    }
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    let why = anstream::adapter::strip_str(why().trim()).to_string();
    // Some readers show the message, some the text.
    status.set_message(plain(&why)).set_description(plain_lines(&why));
    status
}

fn case(name: &str, topology: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(plain(name), status);
    case.set_classname(topology);
    case.extra.insert("file".into(), plain(topology).into());
    case
}

/// The same case with its line in the topology, as some readers of JUnit show it.
fn at(line: u32, mut case: TestCase) -> TestCase {
    case.extra.insert("line".into(), line.to_string().into());
    case
}
