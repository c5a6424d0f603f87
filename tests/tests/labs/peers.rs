//! Peers beside real machines, and what is asked of answers.

use std::fs;

use labctl_tests::{Labctl, cells, checks, topology, write};
use serde_json::{Value, json};

fn cell<'a>(report: &'a Value, probe: &str, from: &str, to: &str) -> &'a Value {
    let matrices = checks(report).map(|c| &c["found"]).filter(|m| m["probe"] == probe);
    let cells = matrices.flat_map(|m| m["cells"].as_array().unwrap());
    let found = cells.filter(|c| c["from"] == from && c["to"] == to).last();
    found.unwrap_or_else(|| panic!("{probe} {from} {to}"))
}

/// A peer is a station of its own, but no host; and an answer that came, but not as asked, is a wrong cell that says what
/// was seen.
#[test]
fn a_peer_is_probed_like_a_host_and_a_wrong_answer_is_a_wrong_cell() {
    let text = fs::read_to_string(topology("lan-client.yaml")).unwrap();
    let right = "from: client, to: host1, verdict: yes, answered_by: web, source: client }";
    let wrong = [
        ("tcp/8080", "from: client, to: host1, verdict: yes, answered_by: web, source: host1 }"),
        ("udp/8080", "from: client, to: host1, verdict: yes, answered_by: c1 }"),
    ];
    let text = wrong.into_iter().fold(text, |text, (probe, wrong)| {
        let (before, after) = (format!("{probe}, {right}"), format!("{probe}, {wrong}"));
        assert!(text.contains(&before), "{before}");
        text.replace(&before, &after)
    });
    let (dir, labctl) = (tempfile::tempdir().unwrap(), Labctl::new());
    let file = write(dir.path(), "lan-client.yaml", &text);
    let said = labctl.run(["up".as_ref(), file.as_os_str()]).exits(1).stdout();
    assert!(said.contains("yes≠answer") && said.contains("but web answered, not c1"), "{said}");
    let report = labctl.run(["check", "lan-client", "--format", "json"]).exits(1).json();

    let unmet: Vec<_> = cells(&report).into_iter().filter(|c| !c["unmet"].is_null()).collect();
    assert_eq!(unmet.len(), 2, "{unmet:?}");
    assert!(unmet.iter().all(|c| c["observed"] == "yes"), "{unmet:?}");
    assert_eq!(unmet[0]["unmet"], "web saw 192.168.56.20 as the source, not host1 (192.168.56.3)");
    assert_eq!(unmet[1]["unmet"], "web answered, not c1");
    let in_by_the_port = cell(&report, "tcp/8080", "client", "host1");
    assert_eq!(in_by_the_port["answered_by"], json!(["web"]));
    assert_eq!(in_by_the_port["source"], json!(["192.168.56.20"]));
    let out_by_masquerade = cell(&report, "udp/53", "web", "routed");
    assert_eq!(out_by_masquerade["answered_by"], json!(["routed"]));
    assert_eq!(out_by_masquerade["source"], json!(["192.168.56.3"]));
    assert_eq!(
        cell(&report, "icmp", "c1", "client")["detail"],
        "the request arrived; no answer was seen",
        "it has no route back"
    );

    let labs = labctl.run(["ps", "--format", "json"]).exits(0).json();
    assert_eq!(labs[0]["peers"]["client"], "eth0 192.168.56.20/24 on lan");
    let hosts = labctl.run(["ps", "--hosts"]).exits(0).stdout();
    assert!(hosts.contains("eth0 192.168.56.21/24 on lan"), "{hosts}");
    labctl
        .run(["exec", "lan-client", "client", "--", "true"])
        .exits(2)
        .says("`client` is a peer, which lives on the wire")
        .says("labctl capture lan-client lan");
    labctl.run(["docker", "lan-client", "client", "--", "ps"]).exits(2).says("host1");
    labctl.run(["down", "--all"]).exits(0);
}
