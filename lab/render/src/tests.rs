#![allow(clippy::unwrap_used)]
//! Reports as people and CI servers see them.

use std::time::Duration;

use labctl_model::{Direction, Expected, No, Observed, Probe};
use labctl_report::{
    ActionsReport, Cause, CellReport, CheckReport, FactReport, Found, MatrixReport, Report, StepReport,
    text::{mistakes, text},
};

use super::{junit, predicted, repeat::Repeated};

fn cell(from: &str, to: &str, expected: Expected, observed: Observed) -> CellReport {
    CellReport {
        from: from.into(),
        to: to.into(),
        expected,
        observed,
        holds: false,
        detail: String::new(),
        causes: Vec::new(),
        rtt_us: None,
        answered_by: Vec::new(),
        source: Vec::new(),
        unmet: None,
        predicted: None,
        marks: Vec::new(),
        passages: Vec::new(),
        line: 23,
    }
}

fn check(found: Found) -> CheckReport {
    let (captures, wire) = (Vec::new(), Vec::new());
    CheckReport { line: 20, holds: false, within_ms: 0, settled_ms: None, looks: 1, captures, found, wire }
}

fn icmp(cells: Vec<CellReport>) -> CheckReport {
    check(Found::Matrix(MatrixReport { probe: Probe::Icmp, size: None, family: None, by_name: false, cells }))
}

fn step(name: &str, holds: bool, message: &str, checks: Vec<CheckReport>) -> StepReport {
    let actions = ActionsReport { holds, message: message.into(), took_ms: 100 };
    StepReport { name: name.into(), line: 40, holds: false, actions, settled_ms: None, checks }
}

fn report(checks: Vec<CheckReport>, steps: Vec<StepReport>) -> Report {
    let mut report = Report { took_ms: 2100, checks, steps, ..Report::new("x", "vm") };
    report.conclude();
    report
}

fn plain_text(report: &Report) -> String {
    anstream::adapter::strip_str(&text(report, "topologies/x.yaml", true)).to_string()
}

fn plain_mistakes(report: &Report) -> String {
    anstream::adapter::strip_str(&mistakes(report, "x.yaml")).to_string()
}

fn good() -> Report {
    let cells = vec![
        cell("host1", "c1", Expected::No, Observed::No(No::Arp)),
        cell("c1", "host1", Expected::Yes, Observed::Yes),
        cell("c1", "8.8.8.8", Expected::Because(No::NoRoute), Observed::No(No::NoRoute)),
    ];
    report(vec![icmp(cells)], Vec::new())
}

fn fact(holds: bool) -> FactReport {
    FactReport {
        subject: "interfaces of c1".into(),
        expected: "equals lo".into(),
        observed: if holds { vec!["lo".into()] } else { vec!["eth0".into(), "lo".into()] },
        printed: false,
        holds,
        error: None,
        line: 27,
    }
}

fn bad() -> Report {
    let cells = vec![
        cell("host1", "c1", Expected::No, Observed::No(No::Arp)),
        CellReport {
            detail: "last seen leaving eth0 of \x1b[31mc1".into(),
            ..cell("c1", "host1", Expected::Yes, Observed::No(No::Silent))
        },
        cell("c1", "8.8.8.8", Expected::Because(No::NoRoute), Observed::No(No::NoRoute)),
    ];
    let slow = |check| CheckReport { within_ms: 5000, looks: 40, ..check };
    let held = CheckReport { settled_ms: Some(3200), ..slow(check(Found::Fact(fact(true)))) };
    let checks = vec![icmp(cells), slow(check(Found::Fact(fact(false)))), held];
    let by_name = MatrixReport {
        probe: Probe::Tcp(80),
        size: Some(100_000),
        family: None,
        by_name: true,
        cells: vec![CellReport { line: 31, ..cell("host1", "c1", Expected::No, Observed::Yes) }],
    };
    let stop = step("stop c1", true, "", vec![slow(check(Found::Matrix(by_name)))]);
    let steps = vec![
        StepReport { settled_ms: Some(1200), ..stop },
        step("remove network n", true, "has active endpoints", Vec::new()),
        step("start c1", false, "no such container", Vec::new()),
    ];
    report(checks, steps)
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
    let fact = FactReport {
        subject: "ip route in c1".into(),
        expected: "prints via".into(),
        observed: vec!["default dev eth0".into(), "10.0.0.0/24 dev eth0".into()],
        printed: true,
        ..fact(false)
    };
    let error = Some("in c1: exit status 1: no such key\ntry another".into());
    let checks = [fact.clone(), FactReport { error, ..fact }].map(|f| check(Found::Fact(f)));
    insta::assert_snapshot!(plain_mistakes(&report(checks.into(), Vec::new())), @r"
    wrong  ip route in c1: expected prints via, observed  (x.yaml:27)
             default dev eth0
             10.0.0.0/24 dev eth0
    wrong  ip route in c1: expected prints via, in c1: exit status 1: no such key  (x.yaml:27)
             try another
    ");
}

#[test]
fn mistakes_alone() {
    insta::assert_snapshot!(plain_mistakes(&bad()), @r"
    c1 -> host1  icmp  expected yes, observed silent: last seen leaving eth0 of �[31mc1  (x.yaml:23)
    wrong  interfaces of c1: expected equals lo, observed eth0, lo  (x.yaml:27)
    host1 -> c1  tcp/80 of 100000 bytes by name  expected no, observed yes  (x.yaml:31)
    step 3/3  start c1 … wrong: no such container  (x.yaml:40)
    ");
    assert!(mistakes(&good(), "x.yaml").is_empty());
}

#[test]
fn a_lab_that_expects_nothing_says_so() {
    insta::assert_snapshot!(plain_text(&Report::new("x", "vm")), @"nothing was expected (0 ms)");
}

#[test]
fn junit_has_a_case_for_each_cell_fact_and_step() {
    let xml = junit::xml(&[junit::Tested::Ran {
        topology: "x.yaml".into(),
        report: Box::new(bad()),
        tries: 2,
        took: Duration::from_secs(9),
    }])
    .unwrap();
    assert!(xml.contains(r#"tests="9" skipped="0" failures="4" errors="0""#), "{xml}");
    assert!(xml.contains(r#"<property name="settled_ms" value="3200"/>"#), "{xml}");
    assert!(!xml.contains('\x1b'), "control characters are no XML");
}

#[test]
fn junit_of_a_lab_that_never_came_up_is_an_error() {
    let outcome =
        junit::Tested::Failed { topology: "x.yaml".into(), lab: "x".into(), message: "no QEMU".into() };
    let xml = junit::xml(&[outcome]).unwrap();
    assert!(xml.contains(r#"errors="1""#) && xml.contains("no QEMU"), "{xml}");
}

/// The lab of two hosts with two containers each, where the second host is cut off, as a step sees it.
fn cut() -> Report {
    let cause = Cause::Cut {
        host: "host2".into(),
        segment: "lan".into(),
        direction: Direction::Both,
        port: "host2/eth0".into(),
    };
    let sides = [["host1", "c1-1", "c1-2"], ["host2", "c2-1", "c2-2"]];
    let mut cells = Vec::new();
    for (n, from) in sides.concat().into_iter().enumerate() {
        for to in sides.concat().into_iter().filter(|to| *to != from) {
            let far = sides[0].contains(&from) != sides[0].contains(&to);
            let no = if from.starts_with("host") { No::Arp } else { No::Silent };
            let cell = cell(from, to, Expected::Yes, if far { Observed::No(no) } else { Observed::Yes });
            let (detail, causes) = match far {
                true => (format!("last seen leaving {from}/eth0"), vec![cause.clone()]),
                false => (String::new(), Vec::new()),
            };
            cells.push(CellReport { detail, causes, line: 31 + n as u32, ..cell });
        }
    }
    let names = ["web", "db"].map(|name| CellReport {
        detail: "no such name".into(),
        ..cell("c1-1", name, Expected::Yes, Observed::No(No::NoName))
    });
    let down = CellReport {
        detail: "c1-1 is exited".into(),
        causes: vec![Cause::NotRunning { container: "c1-1".into(), status: "exited".into() }],
        ..cell("host1", "c1-1", Expected::Yes, Observed::No(No::Down))
    };
    cells.extend(names);
    report(Vec::new(), vec![step("cut host2", true, "", vec![icmp(cells), icmp(vec![down])])])
}

#[test]
fn wrong_cells_are_told_by_cause() {
    insta::assert_snapshot!(plain_text(&cut()), @r"
    step 1/1  cut host2 … ok

    icmp
    from\to  host1       c1-1        c1-2        host2       c2-1        c2-2        web          db
    host1    -           yes         yes         arp≠yes     arp≠yes     arp≠yes     -            -
    c1-1     yes         -           yes         silent≠yes  silent≠yes  silent≠yes  no-name≠yes  no-name≠yes
    c1-2     yes         yes         -           silent≠yes  silent≠yes  silent≠yes  -            -
    host2    arp≠yes     arp≠yes     arp≠yes     -           yes         yes         -            -
    c2-1     silent≠yes  silent≠yes  silent≠yes  yes         -           yes         -            -
    c2-2     silent≠yes  silent≠yes  silent≠yes  yes         yes         -           -            -

    18 cells  icmp  expected yes, observed arp or silent: host2 is cut off from lan (host2/eth0)  (topologies/x.yaml:31-36)
        host1, c1-1, c1-2 -> host2, c2-1, c2-2, and back
        way out: labctl do x heal host2
    2 cells  icmp  expected yes, observed no-name: no such name  (topologies/x.yaml:23)
        c1-1 -> web, db

    icmp
    from\to  c1-1
    host1    down≠yes

    host1 -> c1-1  icmp  expected yes, observed down: c1-1 is exited  (topologies/x.yaml:23)
        way out: labctl do x start c1-1

    12 of 33 cells, 1 of 1 steps as expected: it does not hold (2.1 s)
    ");
    insta::assert_snapshot!(plain_mistakes(&cut()), @r"
    18 cells  icmp  expected yes, observed arp or silent: host2 is cut off from lan (host2/eth0)  (x.yaml:31-36)
        host1, c1-1, c1-2 -> host2, c2-1, c2-2, and back
    2 cells  icmp  expected yes, observed no-name: no such name  (x.yaml:23)
        c1-1 -> web, db
    host1 -> c1-1  icmp  expected yes, observed down: c1-1 is exited  (x.yaml:23)
    ");
}

#[test]
fn what_holds_in_some_runs_only_flips_and_the_rest_varies() {
    let run = |fact_holds, in_step| {
        let good = |no| icmp(vec![cell("a", "b", Expected::No, Observed::No(no))]);
        let checks = vec![good(No::Arp), check(Found::Fact(fact(fact_holds)))];
        report(checks, vec![step("cut b", true, "", vec![good(in_step)])])
    };
    let runs = [run(true, No::Arp), run(false, No::Silent), run(true, No::Silent)];
    let told = Repeated::of(&runs).unwrap().text("x.yaml");
    insta::assert_snapshot!(anstream::adapter::strip_str(&told).to_string(), @r"
    flips  interfaces of c1: eth0, lo 1×, lo 2×, first in run 2  (x.yaml:27)
    varies after step 1: a → b icmp: arp 1×, silent 2×, first in run 2  (x.yaml:23)
    2 of 3 runs as expected, not all alike
    ");
}

#[test]
fn the_oracle_counts_with_what_was_done_to_a_lab() {
    let text = "name: x\nsegments: { lan: { subnet: 10.1.0.0/24 } }\n\
                hosts: { h1: { lan: 10.1.0.3 }, h2: { lan: 10.1.0.4 } }\n\
                expect: [ { probe: icmp, from: h1, to: h2, verdict: yes } ]\n";
    let lab = labctl_topology::parse(text, "x.yaml").unwrap();
    let cut = cell("h1", "h2", Expected::Yes, Observed::No(No::Silent));
    let mut report = report(vec![CheckReport { line: 5, ..icmp(vec![cut]) }], Vec::new());
    report.after = vec![labctl_topology::parse_action("cut h2", &lab).unwrap()];
    predicted::join([&mut report], &lab);
    let told = anstream::adapter::strip_str(&predicted::beside(&report)).to_string();
    assert_eq!(
        told,
        "oracle  h1 -> h2  icmp  predicted arp|silent, as observed: the lab was changed since it came up\n"
    );
}

#[test]
fn the_oracle_says_which_of_the_two_is_right() {
    let beside = |verdict: &str, expected: Expected, observed: Observed| {
        let text = format!(
            "name: x\nsegments: {{ lan: {{ subnet: 10.1.0.0/24 }} }}\n\
             hosts: {{ h1: {{ lan: 10.1.0.3 }}, h2: {{ lan: 10.1.0.4 }} }}\n\
             expect:\n  - {{ probe: icmp, from: h1, to: h2, verdict: {verdict} }}\n"
        );
        let lab = labctl_topology::parse(&text, "x.yaml").unwrap();
        let check = CheckReport { line: 5, ..icmp(vec![cell("h1", "h2", expected, observed)]) };
        let mut report = report(vec![check], Vec::new());
        assert_eq!(predicted::beside(&report), "", "nobody has asked it");
        predicted::join([&mut report], &lab);
        let told = anstream::adapter::strip_str(&predicted::beside(&report)).to_string();
        let (topology, report) = ("x.yaml".into(), Box::new(report));
        let xml = junit::xml(&[junit::Tested::Ran { topology, report, tries: 1, took: Duration::ZERO }]);
        assert!(xml.unwrap().contains("the oracle: predicted yes"));
        told
    };
    let arp = Observed::No(No::Arp);
    assert_eq!(beside("yes", Expected::Yes, arp), "oracle  h1 -> h2  icmp  predicted yes, as expected\n");
    let wrong = beside("arp", Expected::Because(No::Arp), Observed::Yes);
    assert!(wrong.contains("predicted yes, as observed, so the expectation is wrong"), "{wrong}");
    let neither = beside("arp", Expected::Because(No::Arp), Observed::No(No::Silent));
    assert!(neither.contains("predicted yes, which is neither"), "{neither}");
}
