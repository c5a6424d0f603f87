//! Where written frames go.
#![allow(clippy::unwrap_used)]

use labctl_oracle::{Agreement, predict};
use labctl_topology::Topology;

/// What the oracle says of each frame: (its text, who must receive it or not).
fn said(frames: &[(&str, &str)]) -> Vec<Agreement> {
    let mut text = "name: t\nsegments: { lan: { subnet: [10.0.0.0/24, 'fd00::/64'] } }\n\
                    hosts: { a: { lan: [10.0.0.1, 'fd00::1'] }, b: { lan: [10.0.0.2, 'fd00::2'] } }\nexpect:\n"
        .to_owned();
    for (frame, who) in frames {
        text += &format!("  - {{ from: a, inject: \"{frame}\", {who} }}\n");
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
