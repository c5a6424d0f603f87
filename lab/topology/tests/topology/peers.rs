//! Peers, and what is asked of answers.

use labctl_model::{Answers, Check, Matrix, SourceSeen};

const LAB: &str = "
name: lab
segments: { lan: { subnet: 10.0.0.0/24, gateway: 10.0.0.254 }, dark: { subnet: 10.0.1.0/24 } }
hosts: { host1: { lan: 10.0.0.3 }, host2: { lan: 10.0.0.4 } }
swarm: {}
peers:
  client: { lan: 10.0.0.20 }
  routed: { lan: 10.0.0.21, gateway: 10.0.0.3, routes: [ { to: 172.16.0.0/12, via: 10.0.0.4 } ] }
  lone: { dark: { address: 10.0.1.20, interface: wlan0 } }
services: { web: { ports: [ '8080:80' ], deploy: { replicas: 2 } } }
containers: { c1: { host: host1 } }
expect:
";

fn matrices(checks: &str) -> Vec<Matrix> {
    let lab = labctl_topology::parse(&format!("{LAB}{checks}"), "lab.yaml").unwrap_or_else(|e| panic!("{e}"));
    let matrix = |c| if let Check::Matrix(m) = c { m } else { panic!("{c:?}") };
    lab.expect.into_iter().map(matrix).collect()
}

fn sources(matrix: &Matrix) -> Vec<&str> {
    let mut all: Vec<_> = matrix.cells.iter().map(|c| c.from.as_str()).collect();
    all.dedup();
    all
}

#[test]
fn a_peer_has_a_nic_a_gateway_and_a_mac_like_a_host() {
    let lab = labctl_topology::parse(LAB.trim_end().trim_end_matches("expect:"), "lab.yaml").unwrap();
    let [client, routed, lone] = ["client", "routed", "lone"].map(|n| &lab.peers[n]);
    assert_eq!(
        (client.nic.name.as_str(), client.nic.addresses.to_string()),
        ("eth0", "10.0.0.20/24".to_owned())
    );
    assert_eq!(client.gateway.first(), Some("10.0.0.254".parse().unwrap()));
    assert_eq!(client.nic.mac, [0x02, 0x6c, 0x61, 0, 0x80, 0]);
    assert_eq!(routed.gateway.first(), Some("10.0.0.3".parse().unwrap()));
    assert_eq!(routed.routes[0].via, Some("10.0.0.4".parse().unwrap()));
    assert_eq!((lone.nic.name.as_str(), lone.gateway.first()), ("wlan0", None));
    assert_eq!(lone.nic.mac, [0x02, 0x6c, 0x61, 1, 0x80, 2]);
    assert_eq!(lab.endpoints().collect::<Vec<_>>(), ["host1", "host2", "c1", "client", "routed", "lone"]);
    assert_eq!(lab.host_of("client"), None);
}

#[test]
fn groups_hold_peers_but_where_a_name_is_looked_up() {
    let all = matrices(
        "  - { from: all, to: host1, verdict: yes }
  - { from: peers, to: host1, verdict: yes }
  - { probe: dns/host1, from: all, to: host1, verdict: yes }
",
    );
    assert_eq!(sources(&all[0]), ["host2", "c1", "client", "routed", "lone"]);
    assert_eq!(sources(&all[1]), ["client", "routed", "lone"]);
    assert_eq!(sources(&all[2]), ["host2", "c1"]);
}

#[test]
fn answers_are_asked_of_what_is_yes() {
    let all = matrices(
        "  - probe: tcp/8080
    requests: 4
    answered_by: web
    source: ingress
    table: |
      from\\to host1   host2
      client  yes     refused
  - probe: tcp/8080
    rules:
      - { from: client, to: hosts, verdict: yes, answered_by: [web.1, web.host2], source: 10.0.0.20 }
      - { from: c1, to: hosts, verdict: yes, source: client }
      - { from: lone, to: hosts, verdict: no }
",
    );
    let [table, rules] = all.as_slice() else { panic!("{all:?}") };
    let ingress = Some(SourceSeen::Network("ingress".into()));
    let asked = Answers { by: vec!["web".into()], source: ingress, requests: 4, every: true };
    assert_eq!(table.answers, [asked]);
    assert_eq!(table.cells.iter().map(|c| c.answers).collect::<Vec<_>>(), [Some(0), None]);
    let expected = [Some(0), Some(0), Some(1), Some(1), None, None];
    assert_eq!(rules.cells.iter().map(|c| c.answers).collect::<Vec<_>>(), expected);
    assert_eq!((rules.answers[0].by.len(), rules.answers[0].every), (2, false));
    assert_eq!(rules.answers[1].source, Some(SourceSeen::Endpoint("client".into())));
}
