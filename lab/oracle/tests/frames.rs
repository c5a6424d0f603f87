//! Where written frames go.
#![allow(clippy::unwrap_used)]

use labctl_oracle::{Agreement, predict};
use labctl_topology::Topology;

/// What the oracle says of each frame: (its text, who must receive it or not).
fn said(frames: &[(&str, &str)]) -> Vec<Agreement> {
    let mut text = "name: t\nsegments: { lan: { subnet: 10.0.0.0/24 } }\n\
                    hosts: { a: { lan: 10.0.0.1 }, b: { lan: 10.0.0.2 } }\nexpect:\n"
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
