//! Each lint has a lab that triggers it, and one that differs in a single thing and does not. The repository's own
//! topologies have no warning that a comment does not silence.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::Path};

use labctl_model::Lab;
use labctl_oracle::{LINTS, lint};
use labctl_topology::Topology;

/// A lab, its warnings, and what is changed for the near miss: the way out.
struct Case {
    id: &'static str,
    lab: &'static str,
    change: (&'static str, &'static str),
}

const LAN: &str = "
segments: { lan: { subnet: 192.168.56.0/24, gateway: 192.168.56.1 } }
hosts: { h1: { lan: 192.168.56.3 }, h2: { lan: 192.168.56.7 } }
";

const CASES: &[Case] = &[
    Case {
        id: "subnet-over-route",
        lab: "
segments:
  lan: { subnet: 192.168.56.0/24, gateway: 192.168.56.1 }
  vpn: { subnet: 10.0.1.64/30, gateway: 10.0.1.66 }
hosts:
  h: { lan: 192.168.56.3, vpn: 10.0.1.65, routes: [ { to: 172.24.0.0/14, via: 10.0.1.66 } ] }
networks: { red: { hosts: [h], ipam: { config: [ { subnet: 172.25.0.0/16 } ] } } }
",
        change: ("subnet: 172.25", "subnet: 172.28"),
    },
    Case {
        id: "subnet-over-segment",
        lab: "
segments:
  lan: { subnet: 192.168.56.0/24, gateway: 192.168.56.1 }
  far: { subnet: 172.25.7.0/24 }
hosts: { h: { lan: 192.168.56.3 }, other: { far: 172.25.7.3 } }
networks: { red: { hosts: [h], ipam: { config: [ { subnet: 172.25.0.0/16 } ] } } }
",
        change: ("subnet: 172.25.0.0/16", "subnet: 172.26.0.0/16"),
    },
    // docker0 has 172.17.0.0/16, and the next one is 172.18.0.0/16.
    Case {
        id: "subnet-over-pool",
        lab: "
hosts: { h: {} }
networks:
  red: { hosts: [h], ipam: { config: [ { subnet: 172.18.5.0/24 } ] } }
  blue: { hosts: [h] }
",
        change: ("172.18.5.0/24", "172.19.5.0/24"),
    },
    Case {
        id: "subnet-over-swarm",
        lab: "
hosts: { h1: { lan: 192.168.56.3 }, h2: { lan: 192.168.56.7 } }
swarm: { managers: [h1], workers: [], default_addr_pool: 10.64.0.0/10 }
networks: { red: { hosts: [h1], ipam: { config: [ { subnet: 10.70.1.0/24 } ] } } }
",
        change: ("hosts: [h1]", "hosts: [h2]"),
    },
    Case {
        id: "subnet-over-ingress",
        lab: "
hosts: { h1: { lan: 192.168.56.3 } }
swarm: { managers: [h1] }
networks: { red: { hosts: [h1], ipam: { config: [ { subnet: 10.0.0.0/24 } ] } } }
",
        change: ("10.0.0.0/24", "192.168.60.0/24"),
    },
    Case {
        id: "macvlan-port-security",
        lab: "
segments: { lan: { subnet: 192.168.56.0/24, port_security: true } }
hosts: { h: { lan: 192.168.56.3 } }
networks:
  m: { hosts: [h], driver: macvlan, driver_opts: { parent: lan }, ipam: { config: [ { subnet: 192.168.56.0/24 } ] } }
",
        change: ("driver: macvlan", "driver: ipvlan"),
    },
    Case {
        id: "macvlan-and-ipvlan",
        lab: "
hosts: { h1: { lan: 192.168.56.3 }, h2: { lan: 192.168.56.7 } }
networks:
  m: { hosts: [h1], driver: macvlan, driver_opts: { parent: lan }, ipam: { config: [ { subnet: 192.168.56.0/24 } ] } }
  i: { hosts: [h1], driver: ipvlan, driver_opts: { parent: lan }, ipam: { config: [ { subnet: 10.9.0.0/24 } ] } }
",
        change: ("i: { hosts: [h1]", "i: { hosts: [h2]"),
    },
    Case {
        id: "address-on-two-hosts",
        lab: "
hosts: { h1: { lan: 192.168.56.3 }, h2: { lan: 192.168.56.7 } }
networks:
  one: { driver: macvlan, driver_opts: { parent: lan }, ipam: { config: [ { subnet: 192.168.56.0/24, ip_range: 192.168.56.32/28 } ] } }
  two: { driver: macvlan, driver_opts: { parent: lan }, ipam: { config: [ { subnet: 192.168.56.0/24, ip_range: 192.168.56.32/27 } ] } }
containers: { c1: { host: h1, networks: [one] }, c2: { host: h2, networks: [two] } }
",
        change: ("192.168.56.32/27", "192.168.56.64/27"),
    },
    Case {
        id: "overlay-mtu",
        lab: "
segments: { data: { subnet: 10.20.0.0/24, mtu: 1400 } }
hosts: { h1: { data: 10.20.0.3 }, h2: { data: 10.20.0.7 } }
swarm: { managers: [h1] }
networks:
  net: { driver: overlay, driver_opts: { com.docker.network.driver.mtu: \"1401\" }, ipam: { config: [ { subnet: 172.30.1.0/24 } ] } }
services: { web: { networks: [net] } }
",
        change: ("1401", "1400"),
    },
    Case {
        id: "even-managers",
        lab: "
hosts: { h1: { lan: 192.168.56.3 }, h2: { lan: 192.168.56.7 } }
swarm: { managers: [h1, h2] }
",
        change: ("[h1, h2]", "[h1]"),
    },
    Case {
        id: "advertise-unreachable",
        lab: "
segments:
  nat1: { subnet: 10.200.2.0/24, gateway: 10.200.2.2 }
  nat2: { subnet: 10.200.2.0/24, gateway: 10.200.2.2 }
  lan: { subnet: 192.168.56.0/24 }
hosts:
  h1: { nat1: 10.200.2.15, lan: 192.168.56.3 }
  h2: { nat2: 10.200.2.15, lan: 192.168.56.7 }
swarm: { managers: [h1], advertise_addr: { h1: lan, h2: nat2 } }
",
        change: ("h2: nat2 }", "h2: lan }"),
    },
    Case {
        id: "port-published-twice",
        lab: "
hosts: { h1: { lan: 192.168.56.3 } }
swarm: { managers: [h1] }
containers: { c1: { ports: [ '8080:80' ] } }
services: { web: { ports: [ '8080:80' ] } }
",
        change: ("c1: { ports: [ '8080", "c1: { ports: [ '8081"),
    },
    Case {
        id: "encrypted-data-path-port",
        lab: "
hosts: { h1: { lan: 192.168.56.3, engine: bookworm } }
swarm: { managers: [h1], data_path_port: 7789 }
networks:
  net: { driver: overlay, attachable: true, driver_opts: { encrypted: \"\" }, ipam: { config: [ { subnet: 10.3.1.0/24 } ] } }
containers: { c1: { networks: [net] } }
",
        change: ("bookworm", "trixie"),
    },
];

fn parse(text: &str) -> Lab {
    let lan =
        if text.contains("segments:") { "" } else { "segments: { lan: { subnet: 192.168.56.0/24 } }\n" };
    let text = format!("name: t\n{lan}{text}");
    labctl_topology::parse(&text, "t.yaml").unwrap_or_else(|e| panic!("{}", e.render(false)))
}

fn ids(lab: &Lab) -> BTreeSet<&'static str> {
    lint(lab).iter().map(|w| w.id).collect()
}

#[test]
fn each_lint_has_a_lab_that_triggers_it_and_a_near_miss() {
    for case in CASES {
        assert_eq!(ids(&parse(case.lab)), BTreeSet::from([case.id]), "{}", case.lab);
        let (from, to) = case.change;
        assert!(case.lab.contains(from), "{from}");
        assert_eq!(ids(&parse(&case.lab.replace(from, to))), BTreeSet::new(), "{}: {to}", case.id);
    }
    let shown: BTreeSet<_> = CASES.iter().map(|c| c.id).collect();
    assert_eq!(shown, BTreeSet::from(LINTS));
}

#[test]
fn each_lint_is_explained_where_users_look() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/oracle.md");
    let docs = fs::read_to_string(docs).unwrap();
    for id in LINTS.iter().chain([&labctl_yaml::UNUSED_ALLOW]) {
        assert!(docs.contains(&format!("| `{id}` |")), "{id}");
    }
}

#[test]
fn the_repositorys_topologies_say_which_warnings_they_are_about() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topologies");
    let mut warned = String::new();
    let mut seen = BTreeSet::new();
    let folders = [dir.clone(), dir.join("reports")];
    for file in folders.iter().flat_map(|d| fs::read_dir(d).unwrap()).map(|e| e.unwrap().path()) {
        if file.extension().is_some_and(|e| e == "yaml") {
            let Topology { lab, places, .. } = Topology::load(&file, &Default::default()).unwrap();
            let warnings = lint(&lab);
            seen.extend(warnings.iter().map(|w| w.id));
            warned.extend(places.warn(&warnings).map(|w| w.render(false)));
        }
    }
    assert!(warned.is_empty(), "{warned}");
    assert!(seen.contains("macvlan-port-security") && seen.contains("subnet-over-route"), "{seen:?}");
}

#[test]
fn a_warning_is_shown_as_a_compiler_shows_it() {
    let text = format!("name: t{LAN}swarm: {{ managers: [h1, h2] }}\n");
    let Topology { lab, places, .. } = Topology::parse(&text, "t.yaml", &Default::default()).unwrap();
    let shown = places.warn(&lint(&lab)).unwrap().render(false);
    assert_eq!(
        shown,
        "\
warning[even-managers]: 2 managers survive no more losses than 1
 --> t.yaml:4:10
  |
4 | swarm: { managers: [h1, h2] }
  |          ^^^^^^^^ an even number: a majority needs one more
  |
  = help: have an odd number of managers; the others can be workers

warning: t.yaml has 1 warning
"
    );
}
