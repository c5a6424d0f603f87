//! Two topologies held against each other.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use labctl_model::Lab;
use labctl_oracle::compare;

fn topology(name: &str) -> Lab {
    labctl_topology::load(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topologies").join(name)).unwrap()
}

#[test]
fn what_port_security_changes_is_said_with_its_reason() {
    let (open, secured) = (topology("macvlan-2host.yaml"), topology("macvlan-port-security.yaml"));
    let found = compare(&open, &secured);
    assert!(found.compared > 0 && found.absent == 0, "{found:?}");
    let cell = found.differing.iter().find(|c| (c.from.as_str(), c.to.as_str()) == ("c1-1", "c2-1")).unwrap();
    assert_eq!((cell.here.as_str(), cell.there.as_str()), ("yes", "arp"));
    assert!(cell.why.contains("port security"), "{}", cell.why);
    // On one host no frame passes the switch.
    assert!(!found.differing.iter().any(|c| (c.from.as_str(), c.to.as_str()) == ("c1-1", "c1-2")));
    assert_eq!(compare(&open, &open).differing, []);
}

const ONE: &str = "
name: one
segments: { lan: { subnet: 10.0.0.0/24 } }
hosts: { h: { lan: 10.0.0.1 } }
containers: { c1: { host: h, networks: [n] }, c2: { host: h, networks: [n] } }
networks: { n: { hosts: [h] } }
expect: [ { probe: icmp, from: c1, to: [h, c2], verdict: yes } ]
steps:
  - { do: disconnect c2 n, expect: [ { probe: icmp, from: c1, to: c2, verdict: yes } ] }
";

#[test]
fn steps_go_together_and_what_the_other_one_lacks_is_counted() {
    let one = labctl_topology::parse(ONE, "one.yaml").unwrap();
    let (before, _) = ONE.split_once("steps:").unwrap();
    let found = compare(&one, &labctl_topology::parse(before, "two.yaml").unwrap());
    let [cell] = found.differing.as_slice() else { panic!("{found:?}") };
    assert_eq!(
        (cell.step.as_deref(), cell.to.as_str(), cell.there.as_str()),
        (Some("disconnect c2 n"), "c2", "yes")
    );
    assert_eq!(cell.line, 9);

    let without = before.replace(", c2: { host: h, networks: [n] }", "").replace("[h, c2]", "h");
    let found = compare(&one, &labctl_topology::parse(&without, "three.yaml").unwrap());
    assert_eq!((found.compared, found.absent), (1, 2), "{found:?}");
}
