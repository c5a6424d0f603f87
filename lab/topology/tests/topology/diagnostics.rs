//! Every class of mistake, as its author sees it. `tests/bad` holds the topologies, `snapshots` what is said of
//! them; after a change of wording: `INSTA_UPDATE=always cargo test --profile quick -p labctl-topology`, and read the difference.

use std::{fs, path::Path};

fn bad() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut all: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| {
            let path = e.unwrap().path();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn mistakes_are_shown_as_a_compiler_shows_them() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let _bound = settings.bind_to_scope();
    let all = bad();
    assert!(all.len() > 20, "the topologies of tests/bad are there");
    for (name, text) in all {
        let found = labctl_topology::parse(&text, &format!("{name}.yaml")).expect_err(&name);
        insta::assert_snapshot!(name, found.render(false));
    }
}

#[test]
fn machines_get_the_same_places() {
    let text = "name: lab\nsegments: { lan: { subnet: 10.0.0.0/24 } }\nhosts:\n  hé: { lam: 10.0.0.3 }\n";
    let found = labctl_topology::parse(text, "lab.yaml").unwrap_err();
    let reports = found.mistakes();
    assert_eq!(found.count(), reports.len());
    let lam = reports.iter().find(|r| r.message.contains("`lam`")).unwrap();
    // Columns count characters: the é before it is one.
    assert_eq!((lam.line, lam.column), (4, 9));
    assert_eq!(lam.hint.as_deref(), Some("did you mean `lan`?"));
    let json = serde_json::to_value(lam).unwrap();
    assert_eq!(json["line"], 4);
    assert!(found.render(false).contains("lab.yaml:4:9"), "{found}");
}

#[test]
fn the_other_family_is_offered_where_a_frame_can_have_it() {
    let hint = |check: &str| {
        let text = format!(
            "name: lab\nsegments: {{ lan: {{ subnet: [10.0.0.0/24, 'fd00::/64'] }} }}\n\
             hosts: {{ h1: {{ lan: [10.0.0.3, 'fd00::3'] }}, four: {{ lan: 10.0.0.4 }}, six: {{ lan: 'fd00::6' }} }}\n\
             expect: [ {{ from: h1, {check} }} ]\n"
        );
        let found = labctl_topology::parse(&text, "lab.yaml").unwrap_err();
        assert!(found.to_string().contains("address"), "{check}: {found}");
        found.mistakes()[0].hint.clone().unwrap()
    };
    let six = hint("inject: 'eth/ip(dst=${ip:six})/icmp', received_by: six");
    assert!(six.ends_with("or send by the other: `ip6`"), "{six}");
    let four = hint("inject: 'eth/IP6 (dst=${ip6:four})/icmp6', received_by: four");
    assert!(four.ends_with("or send by the other: `ip`"), "{four}");
    for other in [
        "inject: 'eth/arp(who=${ip:six})', received_by: six",
        "inject: 'eth/ip/icmp', on_wire: { lan: 'host ${ip6:four}' }",
    ] {
        let hint = hint(other);
        assert!(!hint.contains("send by the other"), "{other}: {hint}");
    }
}

#[test]
fn a_mistake_in_an_action_is_told_once() {
    let text = "name: lab\nsegments: { lan: { subnet: 10.0.0.0/24 } }\nhosts: { host1: { lan: 10.0.0.3 } }\n\
                containers: { c1: { host: host1, deferred: true } }\n\
                steps: [ { do: \"create c1, c2\", expect: [ { probe: icmp, from: host1, to: c1, verdict: yes } ] } ]\n";
    let found = labctl_topology::parse(text, "lab.yaml").unwrap_err();
    assert_eq!(found.count(), 1, "{found}");
    let without = text.replace("create c1, c2", "restart docker host1");
    assert!(labctl_topology::parse(&without, "lab.yaml").unwrap_err().to_string().contains("not made yet"));
}

#[test]
fn color_is_only_color() {
    let found = labctl_topology::parse("name: Lab\nhosts: { host1: {} }\n", "lab.yaml").unwrap_err();
    let (plain, colored) = (found.render(false), found.render(true));
    assert!(!plain.contains('\u{1b}') && colored.contains('\u{1b}'));
    assert_eq!(strip_escapes(&colored), plain);
}

/// Takes CSI (`ESC [ … letter`) and OSC (`ESC ] … ESC \`) sequences out.
fn strip_escapes(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('[') => _ = chars.by_ref().find(char::is_ascii_alphabetic),
            Some(']') => _ = chars.by_ref().find(|c| *c == '\\'),
            _ => {}
        }
    }
    out
}

/// A terminal obeys no escape that somebody hid in a name.
#[test]
fn names_cannot_speak_to_the_terminal() {
    let text = "name: lab\nhosts: { host1: {} }\ncontainers: { cc: { \"im\\e[2Jage\\n\": x, links: [\"\\e[31m\"] } }\n";
    let found = labctl_topology::parse(text, "lab\u{1b}[2J.yaml").unwrap_err();
    assert!(!found.render(false).contains('\u{1b}'), "{found:?}");
    assert!(found.mistakes().iter().all(|r| !r.message.contains(char::is_control)));
}

#[test]
fn a_hopeless_file_is_cut_short() {
    let mut text = String::from("name: lab\nhosts:\n");
    for i in 0..60 {
        text.push_str(&format!("  host{i}: {{ nowhere: 10.0.0.{i}, elsewhere: 10.0.1.{i} }}\n"));
    }
    let found = labctl_topology::parse(&text, "lab.yaml").unwrap_err();
    assert_eq!(found.count(), 120);
    assert_eq!(found.mistakes().len(), 100);
    assert!(found.render(false).contains("120 errors (the first 100 are shown)"));
}

#[test]
fn a_long_line_is_named_but_not_shown() {
    let text = format!(
        "name: lab\nhosts: {{ host1: {{}} }}\ncontainers: {{ c1: {{ imag: {} }} }}\n",
        "x".repeat(50_000)
    );
    let found = labctl_topology::parse(&text, "lab.yaml").unwrap_err().render(false);
    assert!(found.contains("lab.yaml:3:21") && found.len() < 1000, "{}", &found[..500]);
}
