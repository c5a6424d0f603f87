//! The command line from outside: exit codes, streams, and what needs no lab.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio};

use assert_cmd::Command;
use tempfile::TempDir;

const GOOD: &str = "name: good\nsegments: { lan: { subnet: 192.168.56.0/24, gateway: 192.168.56.1 } }\n\
                    hosts: { host1: { lan: 192.168.56.3 } }\n\
                    expect: [ { probe: icmp, from: host1, to: 192.168.56.1, verdict: yes } ]\n";

/// labctl with folders of its own, below `home`.
fn labctl(home: &Path) -> Command {
    labctl_in(home, Command::new(assert_cmd::cargo::cargo_bin!("labctl")))
}

fn labctl_in(home: &Path, mut command: Command) -> Command {
    command
        .env("LABCTL_STATE_DIR", home.join("state"))
        .env("LABCTL_CACHE_DIR", home.join("cache"))
        .env("LABCTL_AGENT", home.join("no-agent"))
        .env_remove("RUST_LOG")
        .env_remove("GITHUB_ACTIONS")
        .current_dir(home)
        .timeout(std::time::Duration::from_secs(60));
    command
}

/// Exit status, stdout and stderr.
fn run(home: &Path, args: &[&str]) -> (i32, String, String) {
    let out = labctl(home).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

fn home_with(files: &[(&str, &str)]) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(home.path().join(name), text).unwrap();
    }
    home
}

#[test]
fn exit_codes_are_documented_where_people_look() {
    let home = home_with(&[]);
    let (code, help, _) = run(home.path(), &["--help"]);
    assert_eq!(code, 0);
    for line in ["Exit status:", "1    something came out otherwise", "3    this machine cannot do it"] {
        assert!(help.contains(line), "{help}");
    }
    assert!(!help.contains("supervise"), "what is hidden stays so:\n{help}");
}

#[test]
fn a_wrong_command_line_is_usage() {
    let home = home_with(&[]);
    for args in [
        &["frobnicate"][..],
        &["up"],
        &["down"],
        &["down", "--all", "lab"],
        &["check", "x", "--format", "xml"],
    ] {
        let (code, out, err) = run(home.path(), args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
    }
}

#[test]
fn validate_names_the_line_and_the_words_and_leaves_stdout_to_data() {
    let broken = GOOD.replace("hosts:", "hots:");
    let home = home_with(&[("good.yaml", GOOD), ("broken.yaml", &broken)]);
    let (code, out, err) = run(home.path(), &["validate", "good.yaml", "broken.yaml"]);
    assert_eq!(code, 2, "{err}");
    assert_eq!(out, "ok  good.yaml: lab good: 1 host, 1 cell; the oracle agrees with 1 of 1 expectation\n");
    assert!(err.contains("broken.yaml:3") && err.contains("hots") && err.contains("hosts"), "{err}");
    assert!(!err.contains('\x1b'), "no colour into a pipe: {err:?}");

    let (code, out, _) = run(home.path(), &["validate", "--format", "json", "."]);
    let all: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 2);
    assert_eq!(
        (&all[0]["file"], &all[0]["mistakes"][0]["line"]),
        (&"./broken.yaml".into(), &3.into()),
        "{out}"
    );
    assert_eq!((&all[1]["lab"], &all[1]["valid"]), (&"good".into(), &true.into()), "{out}");
}

#[test]
fn warnings_fail_only_where_that_is_asked_for() {
    let even = GOOD.replace("expect:", "swarm: { managers: [host1, host2] }\nexpect:");
    let even = even.replace("192.168.56.3 }", "192.168.56.3 }, host2: { lan: 192.168.56.7 }");
    let silenced = even.replace("swarm:", "# labctl: allow(even-managers)\nswarm:");
    let home = home_with(&[("even.yaml", &even), ("silenced.yaml", &silenced)]);
    let (code, out, err) = run(home.path(), &["validate", "even.yaml"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("ok  even.yaml"), "{out}");
    assert!(err.starts_with("warning[even-managers]: 2 managers") && err.contains("even.yaml:4:10"), "{err}");
    let (code, out, _) = run(home.path(), &["validate", "--strict", "--format", "json", "even.yaml"]);
    assert_eq!(code, 2, "{out}");
    let all: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&all[0]["valid"], &all[0]["warnings"][0]["id"]),
        (&true.into(), &"even-managers".into()),
        "{out}"
    );
    let (code, _, err) = run(home.path(), &["validate", "--strict", "silenced.yaml"]);
    assert_eq!((code, err.as_str()), (0, ""));
}

#[test]
fn a_prediction_that_differs_shows_both_words_and_the_walk() {
    let wrong = GOOD.replace("verdict: yes", "verdict: arp");
    let home = home_with(&[("good.yaml", GOOD), ("wrong.yaml", &wrong)]);
    let (code, out, err) = run(home.path(), &["predict", "good.yaml"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("host1    yes"), "{out}");

    let (code, out, _) = run(home.path(), &["predict", "wrong.yaml"]);
    assert_eq!(code, 1, "{out}");
    for words in [
        "yes≠arp",
        "host1 -> 192.168.56.1  icmp  expected arp, predicted yes",
        "(wrong.yaml:4)",
        "route 192.168.56.0/24 dev eth0",
        "the oracle agrees with 0 of 1 expectation; 1 it expects otherwise",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let (code, out, _) = run(home.path(), &["predict", "wrong.yaml", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let cell = &json["scenes"][0]["checks"][0]["cells"][0];
    assert_eq!((code, &cell["predicted"], &cell["expected"]), (1, &"yes".into(), &"arp".into()), "{out}");
}

#[test]
fn two_topologies_are_held_against_each_other() {
    let lost = GOOD.replace(", gateway: 192.168.56.1", "");
    assert_ne!(lost, GOOD);
    let home = home_with(&[("good.yaml", GOOD), ("lost.yaml", &lost)]);
    let (code, out, err) = run(home.path(), &["predict", "good.yaml", "--against", "good.yaml"]);
    assert_eq!((code, out.trim_end(), err.as_str()), (0, "1 cell compared with good.yaml: 0 different", ""));
    let (code, out, _) = run(home.path(), &["predict", "good.yaml", "--against", "lost.yaml"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("host1 -> 192.168.56.1  yes, there arp: ARP for 192.168.56.1"), "{out}");
    let (code, out, _) =
        run(home.path(), &["predict", "good.yaml", "--against", "lost.yaml", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["differing"][0]["there"]), (1, &"arp".into()), "{out}");
}

#[test]
fn a_walk_is_explained_and_who_is_not_there_is_named() {
    let home = home_with(&[("good.yaml", GOOD)]);
    let (code, out, err) = run(home.path(), &["explain", "good.yaml", "host1", "8.8.8.8"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for words in ["route default via 192.168.56.1 dev eth0", "segment lan", "the answer", "\nyes"] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let (code, out, _) = run(home.path(), &["explain", "good.yaml", "host1", "8.8.8.8", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["predicted"]), (0, &"yes".into()), "{out}");
    for args in [&["host2", "host1"][..], &["host1", "host2"], &["host1", "host1", "icmp", "--step", "1"]] {
        let (code, out, err) = run(home.path(), &[&["explain", "good.yaml"], args].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains("hint:"), "{args:?}: {err}");
    }
}

#[test]
fn colour_comes_when_it_is_asked_for() {
    let home = home_with(&[("good.yaml", GOOD)]);
    let (_, out, _) = run(home.path(), &["validate", "--color", "always", "good.yaml"]);
    assert!(out.contains('\x1b'), "{out:?}");
    let out = labctl(home.path()).args(["validate", "good.yaml"]).env("NO_COLOR", "1").output().unwrap();
    assert!(!out.stdout.contains(&0x1b));
}

#[test]
fn labs_that_are_not_there_are_usage_and_name_a_way_out() {
    let home = home_with(&[("good.yaml", GOOD)]);
    let verbs = [
        &["check", "nolab"][..],
        &["exec", "nolab", "h", "--", "true"],
        &["logs", "nolab"],
        &["do", "nolab", "cut", "h"],
    ];
    for args in verbs {
        let (code, _, err) = run(home.path(), args);
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains("nolab") && err.contains("hint:"), "{args:?}: {err}");
    }
    // What is down already stays down, and that is what was asked for.
    let (code, _, err) = run(home.path(), &["down", "good.yaml"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(run(home.path(), &["down", "--all"]).0, 0);
    assert_eq!(run(home.path(), &["ps", "--format", "json"]).1, "[]\n");

    // The same for machines.
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&run(home.path(), &[args, &["--format", "json"]].concat()).1).unwrap()
    };
    let failed = json(&["check", "nolab"]);
    assert!(failed["exit_code"] == 2 && failed["error"].as_str().unwrap().contains("nolab"), "{failed}");
    assert_eq!(json(&["down", "--all"]), serde_json::json!({ "down": [], "exit_code": 0 }));
}

#[test]
fn test_reads_every_topology_before_it_makes_a_lab() {
    let home = home_with(&[("a.yaml", GOOD), ("b.yaml", GOOD), ("c.yaml", "name: [")]);
    let (code, out, err) = run(home.path(), &["test", "."]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("both of lab `good`") && err.contains("c.yaml"), "{err}");
    assert!(!home.path().join("state").exists(), "something was made");
}

#[test]
fn a_missing_agent_is_the_environments_fault() {
    let home = home_with(&[("good.yaml", GOOD)]);
    let (code, _, err) = run(home.path(), &["up", "good.yaml"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("no-agent") && err.contains("LABCTL_AGENT"), "{err}");
    let (code, out, _) = run(home.path(), &["test", "good.yaml", "--junit", "r.xml"]);
    assert_eq!(code, 3);
    assert!(out.ends_with("\n0 passed, 1 failed: good\n"), "{out}");
    let xml = fs::read_to_string(home.path().join("r.xml")).unwrap();
    assert!(xml.contains(r#"errors="1""#) && xml.contains("no-agent"), "{xml}");
}

/// Found before anything is made, and said in a moment.
#[test]
fn a_broken_agent_and_too_few_files_are_the_environments_fault() {
    let home = home_with(&[("good.yaml", GOOD), ("no-agent", "\x7fELF, cut short")]);
    fs::set_permissions(home.path().join("no-agent"), PermissionsExt::from_mode(0o755)).unwrap();
    let (code, _, err) = run(home.path(), &["up", "good.yaml"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("no-agent does not work: ") && err.contains("make build"), "{err}");

    let binary = assert_cmd::cargo::cargo_bin!("labctl");
    let out = labctl_in(home.path(), Command::new("sh"))
        .args(["-c", "ulimit -n 24 && exec \"$0\" up good.yaml"])
        .arg(binary)
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(3), "{err}");
    assert!(err.contains("no more than 24 are allowed here (`ulimit -Hn`)"), "{err}");
    assert!(!home.path().join("state").exists() && !home.path().join("cache").exists(), "something was made");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = home_with(&[]);
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("labctl"))
        .args(["schema"])
        .env("LABCTL_STATE_DIR", home.path())
        .env("LABCTL_CACHE_DIR", home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
}

#[test]
fn man_pages_and_completions_are_written_and_the_schema_is_json() {
    let home = home_with(&[]);
    assert_eq!(run(home.path(), &["man", "pages"]).0, 0);
    let page = |name: &str| fs::read_to_string(home.path().join("pages").join(name));
    assert!(page("labctl.1").unwrap().contains("Exit status"));
    assert!(page("labctl-up.1").unwrap().contains(".TH labctl-up 1"));
    assert!(page("labctl-image-build.1").is_ok() && page("labctl-supervise.1").is_err());
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(home.path(), &["completions", shell]).1;
        assert!(script.contains("capture") && script.contains("doctor"), "{shell}: {script}");
    }
    let schema: serde_json::Value = serde_json::from_str(&run(home.path(), &["schema"]).1).unwrap();
    assert!(schema["properties"]["hosts"].is_object());
}

#[test]
fn doctor_without_qemu_says_so_and_ends_with_3() {
    let home = home_with(&[]);
    let out =
        labctl(home.path()).args(["doctor", "--format", "json"]).env("PATH", home.path()).output().unwrap();
    assert_eq!(out.status.code(), Some(3));
    let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(found["vm"], false);
    assert_eq!(found["findings"][0]["name"], "qemu");
    assert_eq!(found["findings"][0]["level"], "missing");
}

#[test]
fn a_topology_is_drawn_in_each_form() {
    let home = home_with(&[("good.yaml", GOOD)]);
    for (form, begin) in [("mermaid", "flowchart"), ("dot", "graph"), ("svg", "<svg"), ("drawio", "<mxfile")]
    {
        let (code, out, err) = run(home.path(), &["graph", "good.yaml", "--format", form]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.starts_with(begin) && out.contains("host1"), "{form}: {out}");
        let (code, none, _) = run(home.path(), &["graph", "good.yaml", "--format", form, "-o", "drawing"]);
        assert_eq!((code, none.as_str()), (0, ""));
        assert_eq!(fs::read_to_string(home.path().join("drawing")).unwrap(), out);
    }
    assert_eq!(run(home.path(), &["graph", "good.yaml", "--format", "json"]).0, 2, "that is no drawing");
    let (code, _, err) = run(home.path(), &["graph", "good"]);
    assert!(code == 2 && err.contains("there is no lab `good`"), "{code}: {err}");
}

#[test]
fn a_page_is_made_of_whatever_was_printed_as_json() {
    let report = r#"{ "version": 1, "lab": "good", "runtime": "vm", "holds": true, "took_ms": 7, "checks": [], "steps": [] }"#;
    let repeated = format!(r#"{{ "version": 1, "lab": "good", "runs": 2, "report": {report} }}"#);
    let entry = |lab: &str, rest: &str| {
        format!(r#"{{ "lab": "{lab}", "topology": "good.yaml", "tries": 1, {rest} }}"#)
    };
    let (ran, died) =
        (entry("good", &format!("\"report\": {report}")), entry("other", r#""error": "it is gone""#));
    let tested = format!(r#"{{ "version": 1, "labs": [ {ran}, {died} ] }}"#);
    let home = home_with(&[
        ("good.yaml", GOOD),
        ("report.json", report),
        ("repeated.json", &repeated),
        ("tested.json", &tested),
        ("error.json", r#"{ "error": "no KVM", "exit_code": 3 }"#),
        ("later.json", &report.replace("\"version\": 1", "\"version\": 2")),
        ("none.json", "{}"),
    ]);
    let page = |args: &[&str]| {
        let (code, page, err) = run(home.path(), &[&["report"], args].concat());
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        page
    };
    assert!(page(&["report.json"]).contains("<title>good: holds</title>"));
    assert!(page(&["report.json"]).contains("Not drawn"));
    assert!(page(&["report.json", "--topology", "good.yaml"]).contains("<svg"));
    assert!(page(&["repeated.json"]).contains("<title>good: holds</title>"));
    assert!(page(&["tested.json", "--lab", "good"]).contains("<svg"), "of the topology that it names");
    let ended = page(&["tested.json", "--lab", "other"]);
    assert!(ended.contains("ended early") && ended.contains("it is gone"));
    assert!(ended.contains("Not drawn"), "the topology is of another lab");
    assert!(page(&["error.json"]).contains("no KVM"));
    for (args, why) in [
        (&["report", "tested.json"][..], "say which with --lab"),
        (&["report", "tested.json", "--lab", "x"], "no such lab"),
        (&["report", "later.json"], "of version 2"),
        (&["report", "none.json"], "missing field"),
        (&["report", "nothing"], "there is no lab `nothing`"),
    ] {
        let (code, out, err) = run(home.path(), args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains(why), "{args:?}: {err}");
    }
}

#[test]
fn init_writes_a_topology_that_holds_and_overwrites_nothing() {
    let home = home_with(&[]);
    for example in ["two-hosts", "swarm", "macvlan"] {
        let file = format!("{example}.yaml");
        let (code, _, err) = run(home.path(), &["init", example, "-o", &file]);
        assert_eq!(code, 0, "{err}");
        assert!(fs::read_to_string(home.path().join(&file)).unwrap().contains(&format!("labctl up {file}")));
        let (code, out, err) = run(home.path(), &["validate", "--strict", &file]);
        assert_eq!(code, 0, "{out}{err}");
        let (code, _, err) = run(home.path(), &["init", example, "-o", &file]);
        assert!(code == 2 && err.contains("exists"), "{err}");
    }
}

const COMPOSE: &str = "services:\n  web:\n    image: nginx:${TAG:-1}\n    ports: ['8080:80']\n    mem_limit: 1g\n  db:\n    image: postgres\n";

#[test]
fn import_makes_a_topology_of_a_compose_file_and_tells_what_it_left_out() {
    let home = home_with(&[("compose.yaml", COMPOSE), (".env", "TAG=9 # the newest\n")]);
    let (code, out, err) = run(home.path(), &["import"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("# From compose.yaml") && out.contains("name: "), "{out}");
    assert!(err.contains("compose.yaml:5: `mem_limit` of `web`: left out"), "{err}");

    let args =
        ["import", "compose.yaml", "--images", "--hosts", "2", "--place", "db=host2", "-o", "lab.yaml"];
    let (code, out, err) = run(home.path(), &args);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    let written = fs::read_to_string(home.path().join("lab.yaml")).unwrap();
    assert!(written.contains("nginx:9") && written.contains("driver: overlay"), "{written}");
    let (code, out, err) = run(home.path(), &["validate", "lab.yaml"]);
    assert_eq!(code, 0, "{out}{err}");

    let (_, out, _) = run(home.path(), &["import", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(
        json["notes"][0]["line"].is_u64() && json["topology"].as_str().unwrap().contains("web"),
        "{json}"
    );

    let mut piped = labctl(home.path());
    let out = piped.args(["import", "-", "--name", "piped"]).write_stdin(COMPOSE).output().unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).contains("name: piped"), "{out:?}");

    for (args, part) in [
        (&["import", "none.yaml"][..], "cannot read none.yaml"),
        (&["import", "--place", "wbe=host1"], "did you mean `web`?"),
        (&["import", "--name", "Not A Name"], "cannot be the name of a lab"),
    ] {
        let (code, _, err) = run(home.path(), args);
        assert!(code == 2 && err.contains(part), "{args:?}: {err}");
    }
}

#[test]
fn near_names_are_offered() {
    let home = home_with(&[("good.yaml", GOOD)]);
    let (code, out, _) = run(home.path(), &["do", "--list"]);
    assert!(code == 0 && out.contains("cut HOST") && out.contains("unblock FILTER|all"), "{out}");
    let (_, out, _) = run(home.path(), &["do", "--list", "--format", "json"]);
    assert!(serde_json::from_str::<Vec<String>>(&out).unwrap().len() > 30, "{out}");
    let (code, _, err) = run(home.path(), &["explain", "good.yaml", "hots1", "192.168.56.1"]);
    assert!(code == 2 && err.contains("did you mean `host1`?"), "{err}");
    // As others call it.
    let (code, _, err) = run(home.path(), &["destroy", "good.yaml"]);
    assert!(code == 0 && err.contains("not up"), "{err}");
    let (code, _, err) = run(home.path(), &["down", "nothing"]);
    assert!(code == 0 && err.contains("lab nothing is not up"), "{err}");
    let (code, _, err) = run(home.path(), &["check", "good.yaml"]);
    assert!(code == 2 && err.contains("labctl up good.yaml"), "{err}");
}

/// A lab that cannot be made here is told of to GitHub, and compared with an earlier run in which it held.
#[test]
fn github_is_told_and_an_earlier_run_is_compared() {
    let report = r#"{ "version": 1, "lab": "good", "runtime": "vm", "holds": true, "took_ms": 1, "checks": [], "steps": [] }"#;
    let earlier =
        format!("{{ \"version\": 1, \"labs\": [ {{ \"lab\": \"good\", \"report\": {report} }} ] }}");
    let home = home_with(&[("good.yaml", GOOD), ("earlier.json", &earlier), ("other.json", "[]")]);
    let mut command = labctl(home.path());
    let out = command
        .args(["test", "good.yaml", "--compare", "earlier.json"])
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_WORKSPACE", home.path())
        .env("GITHUB_STEP_SUMMARY", home.path().join("summary.md"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    // There is no agent in this home.
    assert_eq!(out.status.code(), Some(3), "{text}");
    assert!(text.contains("::error file=good.yaml,title=good::") && text.contains("no-agent"), "{text}");
    assert!(text.contains("1 failed: good"), "{text}");
    assert!(text.contains("broke  good:1  the lab: holds, now error"), "{text}");
    let summary = fs::read_to_string(home.path().join("summary.md")).unwrap();
    assert!(summary.contains("0 of 1 labs hold") && summary.contains("| good | 💥 error |"), "{summary}");

    let (code, _, err) = run(home.path(), &["test", "good.yaml", "--compare", "other.json"]);
    assert!(code == 2 && err.contains("other.json is no report of labctl"), "{err}");
}

#[test]
fn a_drawing_of_a_walk_is_no_json() {
    let home = home_with(&[("good.yaml", GOOD)]);
    let args = ["explain", "good.yaml", "host1", "8.8.8.8", "--graph", "--format", "json"];
    let (code, out, err) = run(home.path(), &args);
    assert_eq!(code, 2, "{out}{err}");
}
