//! Repairs: what `explain` offers for a `no` is what people do, and makes the cell `yes`.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use labctl_model::{By, Target};
use labctl_oracle::{Explanation, Query, explain};

fn text(name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topologies");
    fs::read_to_string(dir.join(format!("{name}.yaml"))).unwrap()
}

/// Explains a cell after so many steps: `c1 > c2 tcp/80 1400`.
fn ask(topology: &str, cell: &str, step: usize) -> Explanation {
    let lab = labctl_topology::parse(topology, "t.yaml").unwrap_or_else(|e| panic!("{}", e.render(false)));
    let (from, rest) = cell.split_once(" > ").unwrap();
    let mut words = rest.split(' ');
    let to = Target::from(words.next().unwrap());
    let probe = words.next().unwrap_or("icmp").parse().unwrap();
    let size = words.next().and_then(|w| w.parse().ok());
    explain(
        &lab,
        &Query { from: from.into(), to, probe, by: By::Address, family: Default::default(), size, step },
    )
}

/// Topology, cell, steps, and repairs that must be among those that are found.
type Case = (&'static str, &'static str, usize, &'static [&'static str]);

const CASES: &[Case] = &[
    (
        "vpn-conflict",
        "host1 > 172.20.2.52",
        0,
        &[
            "`host1`: a route to 172.20.2.0/24 via 10.0.1.66 dev tun0",
            "no network `milvus` and `milvus-etcd`, `milvus-minio`, `milvus-standalone`",
            "network `milvus` in another subnet: 10.1.0.0/16",
            "`host1`: daemon_json: { default-address-pools: [{\"base\":\"10.1.0.0/16\",\"size\":24}] }, \
             and network `milvus` without a subnet of its own",
        ],
    ),
    (
        "macvlan-host-shim",
        "host1 > c1",
        0,
        &["`host1`: an interface `shim0` of type macvlan on eth0 with 10.3.1.45/32, \
           and a route to 10.3.2.146/32 by it"],
    ),
    (
        "macvlan-port-security",
        "c1-1 > c2-1",
        0,
        &["segment `lan` without port_security", "network `macvlan_net` with driver ipvlan"],
    ),
    (
        "bridge-isolation",
        "red-1 > blue-1",
        0,
        &["`red-1` on network `blue`, too", "`blue-1` on network `red`, too"],
    ),
    ("network-options", "shut1 > 8.8.8.8", 0, &["network `shut` without internal: true"]),
    (
        "network-options",
        "apart1 > apart2",
        0,
        &["network `apart` without com.docker.network.bridge.enable_icc: false"],
    ),
    ("network-options", "mac1 > mac2", 0, &["network `macvlan_private` without macvlan_mode: private"]),
    ("network-options", "ip1 > ip2", 0, &["network `ipvlan_private` without ipvlan_flag: private"]),
    (
        "ipvlan-l3",
        "c1-1 > c2-1",
        0,
        &["`host1`: a route to 10.10.2.0/24 via 192.168.56.7 dev eth0; and \
           `host2`: a route to 10.10.1.0/24 via 192.168.56.3 dev eth0"],
    ),
    (
        "failure-esp-blocked",
        "s1 > s2 tcp/80",
        0,
        &["segment `lan` that does not block esp", "network `secret` not encrypted"],
    ),
    ("failure-vxlan-eaten", "c1 > c2", 0, &["swarm: data_path_port: 7789"]),
    ("failure-mtu", "c1 > c2 tcp/80 20000", 0, &["network `plain` with com.docker.network.driver.mtu: 1400"]),
    ("failure-advertise", "c1 > c2", 1, &["swarm: advertise_addr: { host2: lan }"]),
    (
        "overlay-attachable",
        "outside > o1-1",
        0,
        &["`outside` on network `overlay_net` instead of the default bridge"],
    ),
    ("published-ports", "client > same tcp/81", 0, &["`same` publishes tcp/81, and `client` asks `host1`"]),
];

#[test]
fn what_people_do_is_among_the_repairs() {
    for (name, cell, step, wanted) in CASES {
        let found = ask(&text(name), cell, *step);
        assert_ne!(found.predicted, "yes", "{name} {cell}");
        let words: Vec<&str> = found.repairs.iter().map(|r| r.change.as_str()).collect();
        for repair in *wanted {
            assert!(words.contains(repair), "{name} {cell}: no {repair:?} among {words:#?}");
        }
    }
}

#[test]
fn repairs_that_open_least_come_first() {
    let found = ask(&text("vpn-conflict"), "host1 > 172.20.2.52", 0).repairs;
    assert_eq!((found[0].changes, found[0].cells.len()), (0, 0), "{found:#?}");
    assert!(found[0].change.contains("172.20.2.0/24"), "{found:#?}");
    assert!(found.is_sorted_by_key(|r| r.changes), "{found:#?}");
    // In another subnet the containers get there too; without the network they are gone.
    let cells = |what: &str| &found.iter().find(|r| r.change.contains(what)).unwrap().cells;
    let moved = cells("another subnet");
    assert!(
        moved.iter().any(|c| (c.from.as_str(), c.becomes.as_str()) == ("milvus-etcd", "yes")),
        "{moved:#?}"
    );
    assert!(cells("no network").iter().all(|c| c.becomes == "down"), "{:#?}", cells("no network"));
}

/// The same changes, written into the topology by hand.
#[test]
fn a_repaired_topology_says_yes() {
    let route = "{ to: 172.16.0.0/12, via: 10.0.1.66, dev: tun0 }";
    let two = format!("{route}, {{ to: 172.20.2.0/24, via: 10.0.1.66, dev: tun0 }}");
    let shim = "type: macvlan, parent: lan, addresses: [10.3.1.45/32], deferred: true }";
    let shimmed = format!(
        "{} }}\n    routes: [ {{ to: 10.3.2.146/32, dev: macvlan_host }} ]",
        shim.replace(", deferred: true }", "")
    );
    for (name, cell, from, to) in [
        ("vpn-conflict", "host1 > 172.20.2.52", route, two.as_str()),
        ("vpn-conflict", "host1 > 172.20.2.52", "172.20.0.", "10.1.0."),
        ("macvlan-host-shim", "host1 > c1", shim, shimmed.as_str()),
        ("macvlan-port-security", "c1-1 > c2-1", "port_security: true", "port_security: false"),
        ("macvlan-port-security", "c1-1 > c2-1", "driver: macvlan", "driver: ipvlan"),
        ("network-options", "apart1 > apart2", "enable_icc: \"false\"", "enable_icc: \"true\""),
        ("network-options", "shut1 > 8.8.8.8", "internal: true", "internal: false"),
        ("failure-vxlan-eaten", "c1 > c2", "swarm: {", "swarm: { data_path_port: 7789,"),
        ("failure-esp-blocked", "s1 > s2 tcp/80", "encrypted: \"\"", ""),
    ] {
        let topology = text(name);
        assert!(topology.contains(from), "{name}: {from}");
        assert_eq!(ask(&topology.replace(from, to), cell, 0).predicted, "yes", "{name}: {to}");
    }
}

#[test]
fn nothing_is_offered_where_nothing_is_wrong_or_nothing_helps() {
    assert_eq!(ask(&text("vpn-conflict"), "host1 > 8.8.8.8", 0).repairs, []);
    assert_eq!(ask(&text("none-mode"), "lonely > 8.8.8.8", 0).repairs, []);
}
