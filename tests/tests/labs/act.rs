//! `labctl do`: what steps do, by hand, in a lab that is up.

use std::time::Duration;

use labctl_tests::{Labctl, cells, eventually, facts, write};

const LAB: &str = "name: act
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts: { host1: { lan: 192.168.56.3 }, host2: { lan: 192.168.56.7 } }
containers: { c1: { host: host1 }, c2: { host: host1, deferred: true } }
expect:
  - { probe: udp/7946, from: host1, to: host2, verdict: yes }
  - { probe: icmp, from: host2, to: host1, verdict: yes }
  - { interfaces: c1, equals: [lo, eth0] }
";

#[test]
fn a_lab_is_broken_and_repaired_by_hand() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    labctl.up(&write(dir.path(), "act.yaml", LAB));
    let act = |action: &str| labctl.run(["do", "act"].into_iter().chain(action.split(' ')));
    let check = |status: i32| labctl.run(["check", "act", "--format", "json"]).exits(status).json();
    // What was asked for in vain a moment ago is asked for again only in a second (ARP), and who waits for it is let down.
    let settles = || {
        let holds = || labctl.run(["check", "act", "--format", "json"]).0.status.success();
        eventually("the lab holds again", Duration::from_secs(20), holds);
    };
    let impaired = || labctl.run(["ps", "--format", "json"]).exits(0).json()[0]["impaired"].clone();
    let why = |report: &serde_json::Value, cell: usize| {
        let cell = cells(report)[cell];
        format!("{}: {}", cell["observed"].as_str().unwrap(), cell["causes"])
    };
    check(0);

    // An interface is called what its guest likes; the reader's terminal obeys none of it.
    let hostile = "e\u{1b}[2J\u{202e}x";
    let link = |verb: &str| {
        let place = ["exec", "--host-tools", "act", "host1/c1", "--"];
        let command = ["ip", "link", verb, hostile, "type", "bridge"];
        labctl.run(place.into_iter().chain(command)).exits(0);
    };
    link("add");
    let shown = labctl.run(["check", "act", "--color", "always"]).exits(1).stdout();
    assert!(shown.contains("e\u{fffd}[2J\u{fffd}x") && !shown.contains("[2J\u{202e}"), "{shown:?}");
    let json = labctl.run(["check", "act", "--format", "json"]).exits(1);
    assert!(!json.stdout().contains('\u{202e}'), "{:?}", json.stdout());
    let observed = facts(&json.json())[0]["observed"].to_string();
    assert!(observed.contains('\u{202e}'), "JSON escapes, and loses nothing: {observed:?}");
    link("delete");
    check(0);

    // A block is of one port, and the report says where the frames went.
    act("block udp/7946 to host2").exits(0);
    assert_eq!(impaired(), serde_json::json!(["blocked: udp/7946 on lan to host2/eth0"]));
    let report = check(1);
    assert!(why(&report, 0).starts_with("silent"), "{}", why(&report, 0));
    assert!(why(&report, 0).contains(r#""blocks":["udp/7946 to host2/eth0"]"#), "{}", why(&report, 0));
    assert_eq!(cells(&report)[1]["observed"], "yes");
    act("unblock udp/7946").exits(0);
    check(0);
    act("unblock udp/7946").exits(2).says("nothing at all is blocked");

    // A cut of one way and of both.
    act("cut host2 inbound").exits(0);
    assert_eq!(impaired(), serde_json::json!(["host2/eth0 is cut inbound on lan"]));
    let report = check(1);
    assert!(why(&report, 0).contains(r#""direction":"inbound","host":"host2""#), "{}", why(&report, 0));
    act("cut host2").exits(0);
    check(1);
    act("heal host2").exits(0);
    assert_eq!(impaired(), serde_json::json!([]));
    settles();

    // Whatever else a step can do.
    act("create c2").exits(0);
    let running =
        labctl.run(["docker", "act", "host1", "--", "ps", "--format", "{{.Names}}"]).exits(0).stdout();
    assert!(running.contains("c2"), "{running}");
    act("create c2").exits(2).says("already in use");
    act("restart docker host1").exits(0);
    let status =
        labctl.run(["docker", "act", "host1", "--", "ps", "--all", "--format", "{{.Names}} {{.State}}"]);
    assert!(status.exits(0).stdout().contains("c2 exited"), "a dockerd that ends takes its containers along");
    act("start c1").exits(0);
    act("kill host2").exits(0);
    let report = check(1);
    assert_eq!(why(&report, 0), r#"down: [{"host":"host2","kind":"host-down"}]"#);
    act("start host2").exits(0);
    settles();

    // What is no action is told of as in a topology, before anything is done.
    act("cut host3").exits(2).says("did you mean `host1`?");
    act("blok esp").exits(2).says("block FILTER");
    labctl.run(["do", "nolab", "cut", "host1"]).exits(2).says("nolab");
}
