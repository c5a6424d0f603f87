//! No valid lab, however odd, makes the oracle panic; and it always says something.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, ops::Range, path::Path, sync::LazyLock};

use labctl_model::{By, Probe, Target};
use labctl_oracle::{Checked, Query, explain, lint, predict, summarize};
use proptest::{prelude::*, sample::select, test_runner::FileFailurePersistence};

/// Topologies to change at random.
static TOPOLOGIES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topologies");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    files.iter().map(|p| fs::read_to_string(p).unwrap()).collect()
});

/// Predicts, and looks whether every cell has a word; warns; explains a cell, with its repairs.
fn look(text: &str) -> bool {
    let Ok(lab) = labctl_topology::parse(text, "random.yaml") else { return false };
    let predictions = predict(&lab);
    assert_eq!(predictions.expectations, predictions.agrees + predictions.differs + predictions.unknown);
    for check in predictions.scenes.iter().flat_map(|s| &s.checks) {
        if let Checked::Matrix { cells, .. } = check {
            assert!(cells.iter().all(|c| !c.predicted.is_empty()), "{text}");
        }
    }
    lint(&lab);
    let names: Vec<&str> = lab.endpoints().collect();
    if let (Some(from), Some(to)) = (names.first(), names.last()) {
        let (from, to, step) = ((*from).to_owned(), Target::from(*to), lab.steps.len());
        let query = Query {
            from,
            to,
            probe: Probe::Tcp(80),
            by: By::Address,
            family: Default::default(),
            size: None,
            step,
        };
        let found = explain(&lab, &query);
        assert!(found.predicted != "yes" || found.repairs.is_empty(), "{text}");
    }
    true
}

/// A network: its driver and options, in no way fitted to the hosts.
fn network() -> impl Strategy<Value = String> {
    let kinds = [
        "{ driver: bridge SUBNET }",
        "{ internal: true SUBNET }",
        "{ driver_opts: { com.docker.network.bridge.enable_icc: 'false' } SUBNET }",
        "{ driver_opts: { com.docker.network.bridge.enable_ip_masquerade: 'false' } SUBNET }",
        "{ driver_opts: { com.docker.network.driver.mtu: '1300' } SUBNET }",
        "{ driver: macvlan, driver_opts: { parent: lan } SUBNET }",
        "{ driver: macvlan, driver_opts: { parent: lan, macvlan_mode: private } SUBNET }",
        "{ driver: macvlan, driver_opts: { parent: lan.10 } SUBNET }",
        "{ driver: macvlan SUBNET }",
        "{ driver: ipvlan, driver_opts: { parent: two } SUBNET }",
        "{ driver: ipvlan, driver_opts: { parent: two, ipvlan_mode: l3 } SUBNET }",
        "{ driver: ipvlan, driver_opts: { parent: two, ipvlan_mode: l3s, ipvlan_flag: vepa } SUBNET }",
        "{ driver: overlay, attachable: true SUBNET }",
        "{ driver: overlay, attachable: true, internal: true SUBNET }",
        "{ driver: overlay, attachable: true, driver_opts: { encrypted: '' } SUBNET }",
    ];
    let subnets = ["", "172.30.N.0/24", "10.N.0.0/16", "192.168.56.0/24", "192.168.57.0/24", "10.0.0.0/24"];
    (select(kinds.to_vec()), select(subnets.to_vec()), 0u8..4).prop_map(|(kind, subnet, n)| {
        let ipam = match subnet {
            "" => String::new(),
            subnet => {
                format!(", ipam: {{ config: [ {{ subnet: {} }} ] }}", subnet.replace('N', &n.to_string()))
            }
        };
        kind.replace(" SUBNET", &ipam)
    })
}

/// What every lab expects.
const CHECKS: &str = "
  - { rules: [ { from: all, to: all, verdict: yes } ] }
  - { probe: tcp/80, size: 3000, from: [hosts, containers], to: [hosts, containers], verdict: no }
  - { probe: udp/800, size: 1400, from: all, to: [hosts, containers], verdict: no }
  - { probe: tcp/8080, by: name, from: [hosts, containers], to: all, verdict: no }
";

/// A lab with so many containers.
fn lab(containers: Range<usize>) -> impl Strategy<Value = String> {
    let host = select(vec![
        "",
        ", daemon_json: { userland-proxy: false }",
        ", daemon_json: { iptables: false }",
        ", sysctls: { net.ipv4.ip_forward: 1 }",
        ", routes: [ { to: 172.30.0.0/16, via: 192.168.56.7 } ]",
        ", engine: bookworm",
    ]);
    let segment =
        select(vec!["", ", port_security: true", ", mtu: 1200", ", gateway: 192.168.56.1", ", block: [esp]"]);
    let container = (0usize..3, proptest::collection::vec(0usize..4, 0..3), any::<bool>());
    let step = select(vec![
        "cut h1",
        "stop c0",
        "restart c1",
        "kill h2",
        "restart h2",
        "restart docker h1",
        "block udp/4789",
        "remove c1",
        "connect c0 n0",
        "disconnect c1 n1",
        "drain h0",
        "leave h2",
        "block icmp from h1",
    ]);
    (
        proptest::collection::vec(host, 3),
        segment,
        proptest::collection::vec(network(), 4),
        proptest::collection::vec(container, containers),
        any::<bool>(),
        proptest::collection::vec(step, 0..3),
    )
        .prop_map(|(hosts, segment, networks, containers, swarm, steps)| {
            let mut text = format!(
                "name: random\nsegments: {{ lan: {{ subnet: 192.168.56.0/24{segment} }}, two: {{ subnet: 192.168.57.0/24 }} }}\nhosts:\n"
            );
            for (i, more) in hosts.iter().enumerate() {
                text += &format!("  h{i}: {{ lan: 192.168.56.{}, two: 192.168.57.{}{more} }}\n", 3 + i, 3 + i);
            }
            text += "peers: { p: { lan: 192.168.56.99, gateway: 192.168.56.3 } }\n";
            if swarm {
                text += "swarm: { managers: [h0] }\nservices: { s: { ports: [ '8080:80' ], deploy: { replicas: 2 } } }\n";
            }
            text += "networks:\n";
            for (i, network) in networks.iter().enumerate() {
                text += &format!("  n{i}: {network}\n");
            }
            text += "containers:\n";
            for (i, (host, on, port)) in containers.iter().enumerate() {
                let mut on: Vec<String> = on.iter().map(|n| format!("n{n}")).collect();
                on.dedup();
                let at = if on.is_empty() { String::new() } else { format!(", networks: [{}]", on.join(", ")) };
                let port = if *port { format!(", ports: [ '80{i}:80' ]") } else { String::new() };
                text += &format!("  c{i}: {{ host: h{host}{at}{port} }}\n");
            }
            text += &format!("expect:{CHECKS}");
            if !steps.is_empty() {
                text += "steps:\n";
                for step in steps {
                    text += &format!("  - do: {step}\n    expect:{}\n", CHECKS.replace("\n  -", "\n      -"));
                }
            }
            text
        })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        // Many are no labs: a name that is missing, a network without a host.
        max_global_rejects: 100_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_lab(text in lab(1..5)) {
        prop_assume!(look(&text));
    }

    #[test]
    fn changed_topologies(topology in any::<proptest::sample::Index>(), line in any::<proptest::sample::Index>(), with in any::<proptest::sample::Index>()) {
        let text: &String = topology.get(&TOPOLOGIES);
        let lines: Vec<&str> = text.lines().collect();
        let (line, with) = (line.index(lines.len()), with.index(lines.len()));
        // Without a line, and with one twice.
        let without: Vec<&str> = lines.iter().enumerate().filter(|(i, _)| *i != line).map(|(_, l)| *l).collect();
        look(&without.join("\n"));
        let mut twice = lines.clone();
        twice.insert(with, lines[line]);
        look(&twice.join("\n"));
    }

    /// A large matrix is predicted by classes of endpoints, two rows of it cell by cell. Two, since nobody listens who is not
    /// asked, and nobody asks itself.
    #[test]
    fn classes_change_nothing(text in lab(22..28)) {
        let lab = labctl_topology::parse(&text, "random.yaml");
        prop_assume!(lab.is_ok());
        let lab = lab.unwrap();
        let (before, _) = text.split_once("expect:").unwrap();
        for (probe, from, to) in [("icmp", "all", "all"), ("tcp/80", "all", "all"), ("udp/80, size: 1400", "containers", "all")] {
            let check = |from: &str| format!("  - {{ probe: {probe}, from: {from}, to: {to}, verdict: yes }}\n");
            let whole = words(&format!("{before}expect:\n{}", check(from)));
            let sources: Vec<&str> =
                lab.endpoints().filter(|e| from == "all" || lab.containers.contains_key(*e)).collect();
            let pairs = sources.iter().zip(sources.iter().cycle().skip(1));
            let pairs = pairs.map(|(a, b)| check(&format!("[{a}, {b}]"))).collect::<String>();
            let rows = words(&format!("{before}expect:\n{pairs}"));
            prop_assert_eq!(whole, rows);
        }
    }

    /// The counts of all pairs are those of the walks of every pair, from each group to each other one.
    #[test]
    fn counted_is_what_is_walked(text in lab(6..14)) {
        let (before, _) = text.split_once("expect:").unwrap();
        for probe in ["icmp", "tcp/80"] {
            // So few cells are walked one by one.
            let text = format!(
                "{before}expect:\n  - {{ probe: {probe}, from: all, to: [hosts, containers, peers], verdict: yes }}\n"
            );
            let lab = labctl_topology::parse(&text, "random.yaml");
            // Without steps a network may have nobody.
            prop_assume!(lab.is_ok());
            let (walked, summary) = (words(&text), summarize(&lab.unwrap(), &[probe.parse().unwrap()]));
            let counts = &summary.scenes[0].matrices[0];
            prop_assert_eq!(counts.cells, walked.len() as u64);
            let group = |name: &String| counts.groups.iter().position(|g| g.contains(name)).unwrap();
            let mut table: BTreeMap<(usize, usize), BTreeMap<String, u64>> = BTreeMap::new();
            for (from, to, word) in walked {
                *table.entry((group(&from), group(&to))).or_default().entry(word).or_default() += 1;
            }
            let counted: BTreeMap<_, _> = counts.table.iter().map(|p| ((p.from, p.to), p.words.clone())).collect();
            prop_assert_eq!(counted, table);
        }
    }
}

/// Each cell's ends and predicted word.
fn words(text: &str) -> Vec<(String, String, String)> {
    let predictions = predict(&labctl_topology::parse(text, "random.yaml").unwrap());
    let mut all = Vec::new();
    for check in predictions.scenes.into_iter().flat_map(|s| s.checks) {
        if let Checked::Matrix { cells, .. } = check {
            all.extend(cells.into_iter().map(|c| (c.from, c.to, c.predicted)));
        }
    }
    all.sort();
    all.dedup();
    all
}
