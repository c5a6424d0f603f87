//! Where written frames go.
#![allow(clippy::unwrap_used)]

use labctl_oracle::{Agreement, predict};
use labctl_topology::Topology;

/// What the oracle says of each frame that is sent from `a`: (its text, who must receive it or not).
fn said(frames: &[(&str, &str)]) -> Vec<Agreement> {
    let lab = "hosts: { a: { lan: [10.0.0.1, 'fd00::1'] }, b: { lan: [10.0.0.2, 'fd00::2'] } }";
    said_in(lab, "a", frames)
}

/// The same of another lab on the segment `lan`, and sent from there.
fn said_in(lab: &str, from: &str, frames: &[(&str, &str)]) -> Vec<Agreement> {
    let mut text =
        format!("name: t\nsegments: {{ lan: {{ subnet: [10.0.0.0/24, 'fd00::/64'] }} }}\n{lab}\nexpect:\n");
    for (frame, who) in frames {
        text += &format!("  - {{ from: {from}, inject: \"{frame}\", {who} }}\n");
    }
    let lab = Topology::parse(&text, "t.yaml", &Default::default()).unwrap().lab;
    let stages = predict(&lab).scenes;
    stages[0].checks.iter().flat_map(|c| c.agreements()).cloned().collect()
}

#[test]
fn a_frame_is_followed_and_an_odd_one_is_not_known() {
    let found = said(&[
        ("eth/ip(dst=10.0.0.2)/udp(dport=9)", "received_by: b"),
        ("eth/ip(dst=10.0.0.2)/udp(dport=9)", "not_received_by: b"),
        ("eth/ip(dst=10.0.0.2,ttl=1)/udp(dport=9)", "received_by: b"),
        ("eth/ip(dst=10.0.0.2,sum=1)/udp(dport=9)", "received_by: b"),
        ("eth/ip(dst=10.0.0.2,proto=47)/udp(dport=9)", "received_by: b"),
    ]);
    assert!(matches!(found[0], Agreement::Agrees), "{found:?}");
    assert!(matches!(&found[1], Agreement::Differs(why) if why == "b gets it"), "{found:?}");
    assert!(found[2..].iter().all(|a| matches!(a, Agreement::Unknown(_))), "{found:?}");
}

#[test]
fn ipv6_is_followed_as_ipv4_is() {
    let found = said(&[
        ("eth/ip6(dst=${ip6:b})/icmp6", "received_by: b"),
        ("eth/ip6(dst=${ip6:b})/udp(dport=9)", "not_received_by: b"),
        ("eth/ip6(dst=${ip6:b})/udp/vxlan(vni=7)/eth/ip6(dst=${ip6:a})/icmp6", "received_by: b"),
        ("eth/ip6(dst=${ip6:b})/udp(sum=0)/vxlan(vni=7)/eth/ip(dst=${ip4:a})/icmp", "received_by: b"),
        ("eth/ip6(dst=${ip6:b})/icmp", "received_by: b"),
        ("eth/ip6(dst=${ip6:b},hlim=1)/udp", "received_by: b"),
    ]);
    assert!([0, 2].iter().all(|n| matches!(found[*n], Agreement::Agrees)), "{found:?}");
    assert!(matches!(&found[1], Agreement::Differs(why) if why == "b gets it"), "{found:?}");
    assert!(found[3..].iter().all(|a| matches!(a, Agreement::Unknown(_))), "{found:?}");
}

#[test]
fn a_bridge_asks_no_rules_for_a_frame_that_leaves_by_no_port() {
    // What its rules are is not known, and need not be.
    let lab = "hosts:\n  a: { lan: 10.0.0.1 }\n  b:\n    lan: 10.0.0.2\n    daemon_json: { bridge: none }\n    \
               interfaces: { br0: { type: bridge, ports: [lan] } }\n";
    let to_nobody = "eth(dst=02:00:00:00:00:77)/ip(dst=10.0.0.9)/udp(dport=9)";
    let found = said_in(lab, "a", &[(to_nobody, "not_received_by: b")]);
    assert!(matches!(found[0], Agreement::Agrees), "{found:?}");

    // The bridge knows the port behind which this MAC is, and that the frame has come from there.
    let lab = "hosts: { a: { lan: 10.0.0.1 } }\ncontainers: { c1: {} }";
    let to_itself = "eth(dst=${mac:c1})/ip(dst=${ip:c1})/udp(dport=9)";
    let found = said_in(lab, "c1", &[(to_itself, "not_received_by: c1")]);
    assert!(matches!(found[0], Agreement::Agrees), "{found:?}");
}
