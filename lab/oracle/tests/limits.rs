//! Nothing that a topology may ask for takes long: not the largest lab, not one in which no two endpoints are alike.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fmt::Write as _, fs, time::Duration};

use labctl_model::{Lab, Probe};
use labctl_oracle::{Checked, Counts, Predictions, lint, predict, summarize};

/// Most processor time: two seconds of a release build's, and this one is slower.
const MOST: Duration = Duration::from_secs(10);

/// A lab with so many hosts and containers. `container` writes what a container has besides its host.
fn lab(
    (hosts, containers): (usize, usize),
    networks: &str,
    container: impl Fn(usize) -> String,
    rest: &str,
) -> Lab {
    let mut text = String::from("name: large\nsegments: { lan: { subnet: 10.0.0.0/16 } }\nhosts:\n");
    (0..hosts).for_each(|h| writeln!(text, "  h{h}: {{ lan: 10.0.1.{} }}", h + 1).unwrap());
    write!(text, "networks: {{ {networks} }}\ncontainers:\n").unwrap();
    (0..containers)
        .for_each(|c| writeln!(text, "  c{c}: {{ host: h{}{} }}", c % hosts, container(c)).unwrap());
    text.push_str(rest);
    labctl_topology::parse(&text, "large.yaml").unwrap_or_else(|e| panic!("{}", e.render(false)))
}

const LARGEST: (usize, usize) = (64, 4000);

/// The largest labs, in each of which no two containers are alike.
fn worst(rest: &str) -> Vec<(&'static str, Lab)> {
    let on_net = |c: usize| format!(", networks: [net], ports: [ '{}:80' ]", 8000 + c / LARGEST.0);
    let networks: String = (0..30).map(|n| format!("n{n}: {{}}, ")).collect();
    let on_two = |c: usize| {
        let (a, b) = (c % 30, (c / 30 + c) % 30);
        format!(", networks: [n{a}{}]", if a == b { String::new() } else { format!(", n{b}") })
    };
    let on_wire = |c: usize| {
        let mac = format!("02:00:00:00:{:02x}:{:02x}", c / 256, c % 256);
        format!(
            ", networks: {{ net: {{ ipv4_address: 10.0.{}.{}, mac_address: '{mac}' }} }}",
            10 + c / 200,
            1 + c % 200
        )
    };
    let macvlan = "net: { driver: macvlan, driver_opts: { parent: lan }, ipam: { config: [ { subnet: 10.0.0.0/16 } ] } }";
    let linked =
        |c: usize| if c + 64 < LARGEST.1 { format!(", links: [c{}]", c + 64) } else { String::new() };
    vec![
        ("ports", lab(LARGEST, "net: {}", on_net, rest)),
        ("networks", lab(LARGEST, &networks, on_two, rest)),
        ("MACs on the wire", lab(LARGEST, macvlan, on_wire, rest)),
        ("links", lab(LARGEST, "", linked, rest)),
        ("hosts' namespaces", lab(LARGEST, "", |_| ", network_mode: host".to_owned(), rest)),
    ]
}

/// Asks the oracle, and looks how much processor time it takes: how long that is hangs on what else the machine does.
fn within<T>(what: &str, ask: impl FnOnce() -> T) -> T {
    let begun = on_processor();
    let found = ask();
    let took = on_processor() - begun;
    assert!(took < MOST, "{what}: it took {took:?}");
    found
}

/// The processor time of this thread so far (proc_pid_stat(5): utime and stime, 100 a second).
fn on_processor() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

fn unknown(predictions: &Predictions) -> BTreeSet<String> {
    let cells = predictions.scenes.iter().flat_map(|s| &s.checks).flat_map(|c| match c {
        Checked::Matrix { cells, .. } => cells.as_slice(),
        Checked::Other { .. } => &[],
    });
    cells.filter(|c| c.predicted == "unknown").map(|c| format!("{:?}", c.agreement)).collect()
}

#[test]
fn all_pairs_of_the_largest_labs_are_counted() {
    for (what, lab) in worst("") {
        let probes = [Probe::Icmp, Probe::Tcp(80), Probe::Tcp(8000)];
        let found = within(what, || summarize(&lab, &probes));
        for counts in &found.scenes[0].matrices {
            assert_eq!(counts.cells, 4064 * 4063, "{what}");
            assert_eq!(counts.words.values().sum::<u64>(), counts.cells, "{what}");
            assert_eq!(counts.groups.iter().map(Vec::len).sum::<usize>(), 4064, "{what}");
        }
        assert!(found.scenes[0].matrices[0].words.len() > 1, "{what}: nothing is predicted");
        within(what, || lint(&lab));
    }
}

#[test]
fn large_matrices_of_the_largest_labs_are_predicted_as_far_as_it_goes() {
    let some = (0..60).map(|c| format!("c{c}")).collect::<Vec<_>>().join(", ");
    let addresses = (1..50).map(|n| format!("8.8.8.{n}")).collect::<Vec<_>>().join(", ");
    let rest = format!(
        "expect:\n  - {{ probe: tcp/80, from: [{some}], to: all, verdict: yes }}\n  \
         - {{ probe: tcp/8000, from: all, to: [h0, h1, {addresses}], verdict: yes }}\n  \
         - {{ probe: tcp/80, by: name, from: [{some}], to: containers, verdict: yes }}\n"
    );
    for (what, lab) in worst(&rest) {
        let found = within(what, || predict(&lab));
        assert_eq!(found.expectations, found.agrees + found.differs + found.unknown);
        assert!(found.agrees + found.differs > 1000, "{what}: nothing is predicted");
        assert!(
            unknown(&found).iter().any(|why| why.contains("labctl explain")),
            "{what}: {:?}",
            unknown(&found)
        );
    }
}

#[test]
fn thousands_of_steps_of_the_largest_labs_are_predicted_as_far_as_it_goes() {
    let steps: String = (0..3000)
        .map(|n| format!("  - {{ do: stop c{n}, expect: [ {{ from: h0, to: c{n}, verdict: down }} ] }}\n"))
        .collect();
    for (what, lab) in worst(&format!("steps:\n{steps}")) {
        let found = within(what, || predict(&lab));
        assert!(
            found.agrees > 0 && found.unknown > 2000,
            "{what}: {} of {}",
            found.unknown,
            found.expectations
        );
        let found = within(what, || summarize(&lab, &[]));
        let last: &Counts = &found.scenes[3000].matrices[0];
        assert_eq!((last.cells, last.words.get("unknown")), (4064 * 4063, Some(&(4064 * 4063))), "{what}");
    }
}

/// Beyond so many classes the smallest are unknown, and say so. What is said of the others is what is so.
#[test]
fn where_no_two_are_alike_some_are_counted() {
    let port = |c: usize| format!(", networks: [net], ports: [ '{}:80' ]", 8000 + c);
    let expect = "expect: [ { probe: tcp/80, from: [h0, h1, c0, c1, c2, c3, c4, c5], to: [h0, h1, c0, c1, c2, c3, c4, c5], verdict: yes } ]\n";
    let lab = lab((2, 300), "net: {}", port, expect);
    let found = summarize(&lab, &[Probe::Tcp(80)]);
    let counts = &found.scenes[0].matrices[0];
    let group = |name: &str| counts.groups.iter().position(|g| g.iter().any(|n| n == name)).unwrap();
    let words = |from: &str, to: &str| {
        counts.table.iter().find(|p| (p.from, p.to) == (group(from), group(to))).unwrap().words.clone()
    };
    assert_eq!(counts.groups[group("c299")].len(), 302 - 250);
    for (from, to) in [("c299", "c298"), ("c0", "c299"), ("c299", "c0")] {
        assert_eq!(words(from, to).into_keys().collect::<Vec<_>>(), ["unknown"]);
    }
    let predictions = predict(&lab);
    let Checked::Matrix { cells, .. } = &predictions.scenes[0].checks[0] else { panic!() };
    assert_eq!(cells.len(), 8 * 7);
    for cell in cells {
        assert!(words(&cell.from, &cell.to).contains_key(&cell.predicted), "{} > {}", cell.from, cell.to);
    }
    assert_eq!(counts.unknown.len(), 1);
}
