#![allow(clippy::unwrap_used)]
//! The page of a report: that it shows everything, asks nothing of a network, and that no name in it is code.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use labctl_model::{Expected, No, Observed, Probe};
use labctl_report::{
    ActionsReport, Cause, CellReport, CheckReport, FactReport, Found, MatrixReport, Report, StepReport,
};
use labctl_words::is_hostile;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Capture, Frame, Run, index, page};
use crate::predicted;

const LAB: &str = "
name: t
description: Two hosts
segments: { lan: { subnet: 10.0.0.0/24 } }
hosts: { a: { lan: 10.0.0.2 }, b: { lan: 10.0.0.3 } }
containers: { c1: { host: a } }
steps:
  - { name: cut b, do: cut b }
  - { name: heal b, do: heal b }
";

const HOSTILE: &str = "</script><script>alert(1)</script><!--\"'&{{ 101 * 101 }} \x1b[31m\u{202e}\u{2028}";

fn cell(from: &str, to: &str, observed: Observed) -> CellReport {
    CellReport {
        from: from.into(),
        to: to.into(),
        expected: Expected::Yes,
        observed,
        holds: observed == Observed::Yes,
        detail: String::new(),
        causes: Vec::new(),
        rtt_us: Some(212),
        answered_by: vec![to.into()],
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
    CheckReport { line: 20, holds: false, within_ms: 5000, settled_ms: None, looks: 9, captures, found, wire }
}

fn matrix(cells: Vec<CellReport>) -> CheckReport {
    check(Found::Matrix(MatrixReport { probe: Probe::Icmp, size: None, family: None, by_name: false, cells }))
}

/// A report with a fact and a matrix after a step, in which every text is `text`.
fn report(text: &str) -> Report {
    let fact = FactReport {
        subject: text.into(),
        expected: text.into(),
        observed: vec![text.into()],
        printed: true,
        holds: false,
        error: None,
        line: 7,
    };
    let wrong = CellReport {
        detail: text.into(),
        unmet: Some(text.into()),
        causes: vec![Cause::HostDown { host: text.into() }],
        ..cell(text, "a", Observed::No(No::Silent))
    };
    let actions = ActionsReport { holds: false, message: text.into(), took_ms: 100 };
    let checks = vec![CheckReport {
        captures: vec![text.into()],
        ..matrix(vec![wrong, cell("a", text, Observed::Yes)])
    }];
    let step = StepReport { name: text.into(), line: 40, holds: false, actions, settled_ms: None, checks };
    let checks = vec![check(Found::Fact(fact))];
    let mut report = Report { took_ms: 2100, checks, steps: vec![step], ..Report::new(text, "vm") };
    report.conclude();
    report
}

fn data(page: &str) -> Value {
    let block = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    serde_json::from_str(block).unwrap()
}

#[test]
fn a_page_shows_the_report() {
    let (lab, report) = (labctl_topology::parse(LAB, "t.yaml").unwrap(), report("some text"));
    let run = Run {
        lab: "t",
        topology: "t.yaml",
        model: Some(&lab),
        report: Some(&report),
        tries: 2,
        ..Run::default()
    };
    let page = page(&run).unwrap();
    for shown in [
        "<h1>t <span class=\"verdict bad\"><span aria-hidden=\"true\">✗</span> does not hold</span></h1>",
        "<p>Two hosts</p>",
        "1 of 2 cells, 0 of 1 facts, 0 of 1 steps, in 2.1 s, on try 2",
        "Not run: the last 1 of 2 steps.",
        "<svg xmlns=",
        "Step 1 of 1: some text",
        "<h3><span class=\"mark bad\" aria-label=\"wrong\">✗</span> icmp <small>not within 5.0 s</small></h3>",
        "<td>100 ms</td>",
        "line 7, not within 5.0 s",
    ] {
        assert!(page.contains(shown), "no {shown}\n{page}");
    }
    let data = data(&page);
    let (words, matrix) = (data["words"].as_array().unwrap(), &data["matrices"][0]);
    let word = |n: &Value| words[usize::try_from(n.as_i64().unwrap()).unwrap()].as_str().unwrap();
    assert_eq!(matrix["cells"].as_array().unwrap().len(), 2);
    let cell = matrix["cells"][0].as_array().unwrap();
    let told: Vec<_> =
        cell.iter().take(11).enumerate().filter(|(n, _)| *n != 3).map(|(_, w)| word(w)).collect();
    assert_eq!(
        told,
        [
            "some text",
            "a",
            "silent≠answer",
            "yes",
            "silent",
            "some text",
            "some text",
            "some text is down",
            "a",
            ""
        ]
    );
    assert_eq!((&cell[3], &cell[11], &cell[12]), (&Value::from(2), &Value::from(212), &Value::from(23)));
    let a = words.iter().position(|w| w == "a").unwrap();
    assert_eq!(word(&data["homes"][a]), "a", "a host is its own");
}

#[test]
fn a_lab_that_died_says_so() {
    let lab = labctl_topology::parse(LAB, "t.yaml").unwrap();
    let run = Run {
        lab: "t",
        topology: "t.yaml",
        model: Some(&lab),
        error: Some("host b: <gone>"),
        ..Run::default()
    };
    let page = page(&run).unwrap();
    for shown in
        ["<title>t: ended early</title>", "did not come to its end", "host b: &lt;gone&gt;", "<svg xmlns="]
    {
        assert!(page.contains(shown), "no {shown}\n{page}");
    }
    let list =
        index(&[run, Run { report: Some(&Report::new("u", "vm")), lab: "u", error: None, ..run }]).unwrap();
    for shown in ["1 passed, 1 failed", "<a href=\"t.html\">t</a>", "ended early", "host b: &lt;gone&gt;"] {
        assert!(list.contains(shown), "no {shown}\n{list}");
    }
}

#[test]
fn hostile_names_are_text() {
    let report = report(HOSTILE);
    let run = Run {
        lab: HOSTILE,
        topology: HOSTILE,
        report: Some(&report),
        error: Some(HOSTILE),
        ..Run::default()
    };
    for (page, scripts) in [(page(&run).unwrap(), 2), (index(&[run]).unwrap(), 0)] {
        assert_eq!(page.matches("<script").count(), scripts, "only our own:\n{page}");
        assert_eq!(page.matches("</script").count(), scripts);
        assert!(!page.contains("<!--") && !page.contains("10201"), "no comment, no template");
        assert!(!page.contains(|c| is_hostile(c) && c != '\n'));
    }
    let page = page(&run).unwrap();
    let names = data(&page)["words"].clone();
    assert!(
        names.as_array().unwrap().iter().any(|w| w.as_str().unwrap().starts_with("</script>")),
        "it is kept"
    );
}

#[test]
fn a_page_asks_nothing_of_a_network_and_runs_only_its_own_script() {
    let (lab, report) = (labctl_topology::parse(LAB, "t.yaml").unwrap(), report("x"));
    let run = Run { lab: "t", model: Some(&lab), report: Some(&report), ..Run::default() };
    let page = page(&run).unwrap();
    let script = page.rsplit("<script>").next().unwrap().split("</script>").next().unwrap();
    let hash = STANDARD.encode(Sha256::digest(script));
    let policy = format!("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'");
    assert!(page.contains(&policy), "the policy allows the script that is there");
    // The namespace of SVG is a name, not an address that is asked.
    let without = page.replace("http://www.w3.org/2000/svg", "");
    for asked in ["http:", "https:", "src=", "url(", "@import", "<link", "fetch(", "import("] {
        assert!(!without.contains(asked), "{asked}");
    }
    let links: Vec<_> = page.split("href=\"").skip(1).collect();
    assert!(!links.is_empty() && links.iter().all(|link| link.starts_with('#')));
}

#[test]
fn a_matrix_of_250000_cells_is_a_page_that_a_browser_can_hold() {
    let name = |n: usize| format!("container-{n}");
    let to = |from: usize| (0..500).filter(move |to| *to != from);
    let cells = (0..500).flat_map(|from| to(from).map(move |to| cell(&name(from), &name(to), Observed::Yes)));
    let mut report = Report { checks: vec![matrix(cells.collect())], ..Report::new("large", "vm") };
    report.conclude();
    let page = page(&Run { lab: "large", report: Some(&report), ..Run::default() }).unwrap();
    let data = data(&page);
    assert_eq!(data["matrices"][0]["cells"].as_array().unwrap().len(), 249_500);
    assert!(data["words"].as_array().unwrap().len() < 520);
    assert!(page.len() < 16_000_000, "{} bytes", page.len());
    if let Some(file) = std::env::var_os("LARGE_PAGE") {
        std::fs::write(file, page).unwrap();
    }
}

#[test]
fn wrong_cells_have_walks_before_others_and_there_is_an_end() {
    let names: Vec<String> = (1..=40).map(|n| format!("h{n}")).collect();
    let hosts: String = (1..=40).map(|n| format!("h{n}: {{ lan: 10.0.0.{n} }}, ")).collect();
    let all = names.join(", ");
    let text = format!(
        "name: t\nsegments: {{ lan: {{ subnet: 10.0.0.0/24 }} }}\nhosts: {{ {hosts} }}\n\
         expect: [ {{ from: [{all}], to: [{all}], verdict: yes }} ]\n"
    );
    let lab = labctl_topology::parse(&text, "t.yaml").unwrap();
    let pairs = names.iter().flat_map(|from| names.iter().map(move |to| (from, to)));
    let cells = pairs.filter(|(from, to)| from != to).map(|(from, to)| cell(from, to, Observed::Yes));
    let mut cells: Vec<_> = cells.collect();
    cells.last_mut().unwrap().observed = Observed::No(No::Silent);
    let mut report = Report { checks: vec![matrix(cells)], ..Report::new("t", "vm") };
    predicted::join([&mut report], &lab);
    report.conclude();
    let page = page(&Run { lab: "t", model: Some(&lab), report: Some(&report), ..Run::default() }).unwrap();
    let data = data(&page);
    assert_eq!(data["walks"].as_array().unwrap().len(), 1001, "the first is that of cells without one");
    let cells = data["matrices"][0]["cells"].as_array().unwrap();
    let (last, before) = (cells.last().unwrap(), &cells[cells.len() - 2]);
    assert_eq!((&before[15], &data["walks"][0]), (&Value::from(0), &json!([])));
    let words = |n: &Value| data["words"][usize::try_from(n.as_i64().unwrap()).unwrap()].clone();
    assert_eq!(words(&last[13]), "yes", "it is predicted");
    let walk = &data["walks"][usize::try_from(last[15].as_i64().unwrap()).unwrap()][0];
    let at: Vec<_> = walk["there"].as_array().unwrap().iter().map(|hop| words(&hop[0])).collect();
    assert_eq!(at, ["h40", "h40/eth0", "segment lan", "h39/eth0"]);
    let node = walk["there"][2][3].as_i64().unwrap();
    assert!(page.contains(&format!("<g class=\"g-segment\" data-node=\"{node}\">")), "it is drawn");
}

#[test]
fn frames_and_files_of_a_matrix_that_did_not_hold_are_in_the_page() {
    let frame = |ms, mark| Frame {
        time: Duration::from_millis(ms),
        segment: "lan".into(),
        port: "a/eth0".into(),
        what: format!("frame at {ms}"),
        dropped: String::new(),
        mark,
        ends: vec!["10.0.0.2".parse().unwrap()],
    };
    let capture = |name: &str, frames| Capture { path: name.into(), file: name.into(), frames };
    let later = Frame { dropped: "dropped".into(), ..frame(12, Some(7)) };
    let known = [capture("x/a.lan.pcapng", vec![later]), capture("x/a.wan.pcapng", vec![frame(10, None)])];
    let wrong = CellReport { marks: vec![3, 7], ..cell("a", "b", Observed::No(No::Silent)) };
    let captures = ["x/a.lan.pcapng", "x/a.wan.pcapng", "x/gone.pcapng"].map(Into::into).to_vec();
    let check = CheckReport { captures, ..matrix(vec![cell("b", "a", Observed::Yes), wrong]) };
    let mut report = Report { checks: vec![check], ..Report::new("t", "vm") };
    report.conclude();
    let run = Run { lab: "t", report: Some(&report), captures: &known, ..Run::default() };
    let page = page(&run).unwrap();
    let link =
        format!("href=\"data:application/octet-stream;base64,{}\">a.lan", STANDARD.encode("x/a.lan.pcapng"));
    assert!(page.contains(&link) && page.contains("<code>x&#x2f;gone.pcapng</code>"), "{page}");
    let data = data(&page);
    let word = |n: &Value| data["words"][usize::try_from(n.as_i64().unwrap()).unwrap()].as_str().unwrap();
    let frames = data["matrices"][0]["frames"].as_array().unwrap();
    let [first, second] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((&first[0], word(&first[3]), &first[5]), (&json!(0), "frame at 10", &json!(-1)));
    assert_eq!((word(&first[6]), word(&first[7])), ("10.0.0.2", ""));
    assert_eq!((&second[0], word(&second[4]), &second[5]), (&json!(2000), "dropped", &json!(1)));
    let holds = CellReport { marks: vec![1], ..cell("a", "b", Observed::Yes) };
    let mut held = Report { checks: vec![matrix(vec![holds])], ..Report::new("t", "vm") };
    held.conclude();
    assert!(held.cells().all(|c| c.marks.is_empty()), "of what holds nothing is kept");
}
