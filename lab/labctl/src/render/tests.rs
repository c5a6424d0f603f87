#![allow(clippy::unwrap_used)]
//! Reports as people and CI servers see them.

use labctl_model::{Expected, No, Observed, Probe};
use labctl_report::{CellReport, CheckReport, FactReport, Report, StepReport};

use super::{
    junit,
    report::{mistakes, text},
};

fn cell(from: &str, to: &str, expected: Expected, observed: Observed) -> CellReport {
    CellReport {
        from: from.into(),
        to: to.into(),
        probe: Probe::Icmp,
        size: None,
        by_name: false,
        expected,
        observed,
        detail: String::new(),
        rtt_us: None,
        answered_by: Vec::new(),
        source: Vec::new(),
        unmet: None,
        check: 0,
        step: None,
        line: 23,
    }
}

fn plain_text(report: &Report) -> String {
    anstream::adapter::strip_str(&text(report, "topologies/x.yaml")).to_string()
}

fn good() -> Report {
    let mut r = Report {
        lab: "x".into(),
        runtime: "vm".into(),
        took_ms: 2100,
        cells: vec![
            cell("host1", "c1", Expected::No, Observed::No(No::Arp)),
            cell("c1", "host1", Expected::Yes, Observed::Yes),
            cell("c1", "8.8.8.8", Expected::Because(No::NoRoute), Observed::No(No::NoRoute)),
        ],
        ..Report::default()
    };
    r.conclude();
    r
}

fn bad() -> Report {
    let mut r = good();
    r.cells[1].observed = Observed::No(No::Silent);
    r.cells[1].detail = "last seen leaving eth0 of \x1b[31mc1".into();
    r.cells.push(CellReport {
        probe: Probe::Tcp(80),
        size: Some(100_000),
        by_name: true,
        check: 1,
        step: Some(0),
        line: 31,
        ..cell("host1", "c1", Expected::No, Observed::Yes)
    });
    let captures = Vec::new();
    let check =
        CheckReport { check: 0, step: None, within_ms: 0, settled_ms: None, looks: 1, captures, line: 20 };
    let slow = CheckReport { within_ms: 5000, looks: 40, ..check.clone() };
    r.checks = vec![
        check,
        CheckReport { check: 1, settled_ms: None, ..slow.clone() },
        CheckReport { check: 2, settled_ms: Some(3200), ..slow.clone() },
        CheckReport { check: 1, step: Some(0), ..slow },
    ];
    let fact = FactReport {
        subject: "interfaces of c1".into(),
        expected: "equals lo".into(),
        observed: vec!["eth0".into(), "lo".into()],
        printed: false,
        holds: false,
        error: None,
        check: 1,
        step: None,
        line: 27,
    };
    let held = FactReport { holds: true, observed: vec!["lo".into()], check: 2, ..fact.clone() };
    r.facts = vec![fact, held];
    let step = StepReport {
        step: 0,
        name: "stop c1".into(),
        holds: true,
        message: String::new(),
        took_ms: 100,
        settled_ms: Some(1200),
        line: 29,
    };
    let refused = StepReport {
        step: 1,
        name: "remove network n".into(),
        message: "has active endpoints".into(),
        settled_ms: None,
        ..step.clone()
    };
    let failed = StepReport {
        step: 2,
        holds: false,
        line: 40,
        name: "start c1".into(),
        message: "no such container".into(),
        settled_ms: None,
        ..step.clone()
    };
    r.steps = vec![step, refused, failed];
    r.conclude();
    r
}

#[test]
fn a_matrix_that_holds() {
    insta::assert_snapshot!(plain_text(&good()), @r"
    icmp
    from\to  host1  8.8.8.8   c1
    host1    -      -         arp
    c1       yes    no-route  -

    3 of 3 cells as expected (2.1 s)
    ");
}

#[test]
fn what_is_wrong_is_marked_without_colour_and_explained() {
    insta::assert_snapshot!(plain_text(&bad()), @r"
    icmp
    from\to  host1       8.8.8.8   c1
    host1    -           -         arp
    c1       silent≠yes  no-route  -

    c1 -> host1  icmp  expected yes, observed silent: last seen leaving eth0 of �[31mc1  (topologies/x.yaml:23)

    wrong  interfaces of c1: expected equals lo, observed eth0, lo  (topologies/x.yaml:27)  (not within 5.0 s)
    ok     interfaces of c1 equals lo  (held after 3.2 s)

    step 1/3  stop c1 … ok, settled in 1.2 s

    tcp/80 of 100000 bytes by name  (not within 5.0 s)
    from\to  c1
    host1    yes≠no

    host1 -> c1  tcp/80 of 100000 bytes by name  expected no, observed yes  (topologies/x.yaml:31)

    step 2/3  remove network n … ok, refused as expected: has active endpoints

    step 3/3  start c1 … wrong: no such container  (topologies/x.yaml:40)

    2 of 4 cells, 1 of 2 facts, 2 of 3 steps as expected: it does not hold (2.1 s)
    ");
}

#[test]
fn a_report_shows_itself_without_escapes() {
    let shown = bad().to_string();
    assert!(shown.contains("silent≠yes") && shown.contains("(x:23)") && !shown.contains('\x1b'), "{shown}");
}

#[test]
fn what_a_command_printed_is_shown_line_by_line() {
    let mut report = bad();
    let fact = FactReport {
        subject: "ip route in c1".into(),
        expected: "prints via".into(),
        observed: vec!["default dev eth0".into(), "10.0.0.0/24 dev eth0".into()],
        printed: true,
        ..report.facts[0].clone()
    };
    let error = Some("in c1: exit status 1: no such key\ntry another".into());
    report.facts = vec![fact.clone(), FactReport { error, ..fact }];
    report.steps.clear();
    let mistakes = anstream::adapter::strip_str(&mistakes(&report, "x.yaml")).to_string();
    let facts: Vec<_> = mistakes.lines().skip_while(|l| !l.starts_with("wrong")).collect();
    insta::assert_snapshot!(facts.join("\n"), @r"
    wrong  ip route in c1: expected prints via, observed  (x.yaml:27)
             default dev eth0
             10.0.0.0/24 dev eth0
    wrong  ip route in c1: expected prints via, in c1: exit status 1: no such key  (x.yaml:27)
             try another
    ");
}

#[test]
fn mistakes_alone() {
    let text = mistakes(&bad(), "x.yaml");
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(mistakes(&good(), "x.yaml").is_empty());
}

#[test]
fn a_lab_that_expects_nothing_says_so() {
    let empty = Report { holds: true, ..Report::default() };
    insta::assert_snapshot!(plain_text(&empty), @"nothing was expected (0 ms)");
}

#[test]
fn junit_has_a_case_for_each_cell_fact_and_step() {
    let xml =
        junit::xml(&[junit::Outcome::Ran { topology: "x.yaml".into(), report: bad(), tries: 2 }]).unwrap();
    assert!(xml.contains(r#"tests="9" skipped="0" failures="4" errors="0""#), "{xml}");
    assert!(xml.contains(r#"<property name="settled_ms" value="3200"/>"#), "{xml}");
    assert!(!xml.contains('\x1b'), "control characters are no XML");
}

#[test]
fn junit_of_a_lab_that_never_came_up_is_an_error() {
    let outcome =
        junit::Outcome::Failed { topology: "x.yaml".into(), lab: "x".into(), message: "no QEMU".into() };
    let xml = junit::xml(&[outcome]).unwrap();
    assert!(xml.contains(r#"errors="1""#) && xml.contains("no QEMU"), "{xml}");
}

#[test]
fn json_is_the_report_as_it_is() {
    let value = serde_json::to_value(bad()).unwrap();
    assert_eq!(value["cells"][1]["observed"], "silent");
    assert_eq!(value["cells"][3]["probe"], "tcp/80");
    assert_eq!(value["holds"], false);
}
