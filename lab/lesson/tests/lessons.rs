//! Lessons as they are read: those of the repository, and mistakes in others.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use labctl_lesson::{Hint, Lesson, choose, list};
use labctl_model::{Expected, No, Observed};
use labctl_report::{CellReport, CheckReport, Found, MatrixReport};
use labctl_topology::LoadError;

const ALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vagrant/lessons");

/// Writes a lesson about a lab of two containers, with this `steps`, and reads it.
fn load(steps: &str) -> Result<Lesson, String> {
    let tmp = tempfile::tempdir().unwrap();
    let lab = "name: t\nhosts: { h: {} }\nnetworks: { n: { hosts: [h] } }\ncontainers: { aa: {}, bb: {} }\n";
    fs::write(tmp.path().join("topology.yaml"), lab).unwrap();
    fs::write(tmp.path().join("1.md"), "Text.\n\n---\n\nMore.\n").unwrap();
    fs::write(tmp.path().join("bad.md"), "```console\nno command\n```\n").unwrap();
    fs::write(tmp.path().join("lesson.yaml"), format!("title: T\nminutes: 10\nsteps:\n{steps}")).unwrap();
    Lesson::load(tmp.path()).map_err(|e| match e {
        LoadError::Invalid(all) => {
            let lines = all.mistakes().into_iter();
            lines
                .map(|m| format!("{}:{}: {}; {}\n", m.line, m.column, m.message, m.hint.unwrap_or_default()))
                .collect()
        }
        e => e.to_string(),
    })
}

const SOUND: &str = "\
- { title: Look, text: 1.md }
- title: Repair
  text: 1.md
  break: stop bb
  broken: [ { status: bb, equals: exited } ]
  check: [ { probe: icmp, from: aa, to: bb, verdict: yes }, { status: bb, equals: running } ]
  hints: [ { from: aa, verdict: down, say: Start it. }, { check: 2, say: It does not run. }, { say: Look. } ]
  solve: [ start bb, exec h -- docker ps ]
";

#[test]
fn the_lessons_of_the_repository_are_sound() {
    let all: Vec<Lesson> = list(Path::new(ALL)).iter().map(|folder| Lesson::load(folder).unwrap()).collect();
    assert!(all.len() >= 12, "there are {}", all.len());
    let mut labs: Vec<&str> = all.iter().map(|l| l.lab.name.as_str()).collect();
    labs.sort_unstable();
    labs.dedup();
    assert_eq!(labs.len(), all.len(), "a lab's name is that of one lesson alone");
    for lesson in &all {
        assert!((10..=20).contains(&lesson.minutes), "{}: {} minutes", lesson.id, lesson.minutes);
        let typed: usize = lesson.steps.iter().map(|s| s.text.typed().0.len() + s.text.typed().1.len()).sum();
        assert!(typed > 3, "{}: there is nothing to type", lesson.id);
    }
}

#[test]
fn a_lesson_is_read_with_all_its_parts() {
    let lesson = load(SOUND).unwrap();
    let [look, repair] = lesson.steps.as_slice() else { panic!("{} steps", lesson.steps.len()) };
    assert!(look.check.is_empty() && look.breaks.is_empty());
    assert_eq!((repair.text.before(), repair.text.after()), ("Text.", "More."));
    assert_eq!(
        (repair.breaks.len(), repair.broken.len(), repair.check.len(), repair.solve.len()),
        (1, 1, 2, 2)
    );
    assert_eq!(repair.hints[1].check, Some(1));
    assert_eq!(repair.solve[1].command("x"), "labctl docker x h -- ps");
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let said = |from: &str, to: &str| load(&SOUND.replacen(from, to, 1)).unwrap_err();
    assert_eq!(said("stop bb", "stop bc"), "7:15: there is no host or container `bc`; did you mean `bb`?\n");
    assert!(said("text: 1.md }", "text: 2.md }").starts_with("4:24: cannot read "));
    assert!(
        said("text: 1.md }", "text: bad.md }")
            .contains("bad.md:2: a block of commands begins with a command")
    );
    assert!(said("verdict: down", "verdict: dwon").contains("`dwon` is no verdict; the words are"));
    assert!(
        said("{ from: aa, verdict", "{ from: h, verdict")
            .contains("no cell of the step's checks has `h` there")
    );
    assert!(
        said("check: 2", "check: 3")
            .contains("this step has no check 3; they are counted from 1, and there are 2")
    );
    assert!(said(", { say: Look. }", "").contains("there is no hint for what else may be wrong"));
    assert!(
        said("  solve: [ start bb, exec h -- docker ps ]\n", "").contains("has a `check`, but no `solve`")
    );
    assert!(
        said("{ title: Look, text: 1.md }", "{ title: Look, text: 1.md, solve: start bb }")
            .contains("has `solve`, but no `check`")
    );
    assert!(
        said("  check:", "  chek:")
            .contains("unknown key `chek` in a step of a lesson; did you mean `check`?")
    );
    let last = load("- { title: Look, text: 1.md }\n").unwrap_err();
    assert!(last.starts_with("4:3: the last step has nothing to repair"), "{last}");
    assert!(load(" []\n").unwrap_err().contains("a lesson without steps"));
}

/// A check with one cell, from a to b, that was to be `yes`.
fn found(observed: Observed) -> CheckReport {
    let cell = CellReport {
        from: "a".into(),
        to: "b".into(),
        expected: Expected::Yes,
        observed,
        holds: observed == Observed::Yes,
        detail: String::new(),
        causes: Vec::new(),
        rtt_us: None,
        answered_by: Vec::new(),
        source: Vec::new(),
        unmet: None,
        predicted: None,
        marks: Vec::new(),
        passages: Vec::new(),
        line: 1,
    };
    let holds = cell.holds;
    let matrix = MatrixReport {
        probe: labctl_model::Probe::Icmp,
        size: None,
        by_name: false,
        family: None,
        cells: vec![cell],
    };
    let (captures, wire) = (Vec::new(), Vec::new());
    CheckReport {
        line: 1,
        holds,
        within_ms: 0,
        settled_ms: None,
        looks: 1,
        captures,
        found: Found::Matrix(matrix),
        wire,
    }
}

#[test]
fn a_hint_is_chosen_by_what_the_lab_shows() {
    let hint = |check, to: Option<&str>, verdict: Option<&str>| Hint {
        check,
        from: None,
        to: to.map(str::to_owned),
        verdict: verdict.and_then(Expected::from_word),
        say: String::new(),
    };
    let hints = [
        hint(None, None, Some("arp")),
        hint(Some(1), None, None),
        hint(None, Some("c"), None),
        hint(None, None, Some("no")),
        hint(None, None, None),
    ];
    let (yes, arp, silent) =
        (found(Observed::Yes), found(Observed::No(No::Arp)), found(Observed::No(No::Silent)));
    let chosen =
        |checks: [&CheckReport; 2], given: &[usize]| choose(&hints, &checks.map(Clone::clone), given);
    assert_eq!(chosen([&arp, &yes], &[]), Some(0));
    assert_eq!(chosen([&silent, &yes], &[]), Some(3), "a plain no is any reason");
    assert_eq!(chosen([&yes, &silent], &[]), Some(1), "a hint about the second check");
    assert_eq!(chosen([&arp, &yes], &[0]), Some(3), "each is given once");
    assert_eq!(chosen([&arp, &yes], &[0, 3, 4]), Some(4), "then the last one that fits");
    assert_eq!(chosen([&yes, &yes], &[]), None, "nothing is wrong");
}
