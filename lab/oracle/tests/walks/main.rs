//! Single walks: what decides on the way, and what becomes of it.
#![allow(clippy::unwrap_used)]

mod random_labs;

use std::collections::BTreeSet;

use labctl_model::{By, Target};
use labctl_oracle::{Explanation, Query, explain, walks};

/// Explains one cell of a lab: `c1 > c2 tcp/80`.
fn ask(lab: &str, cell: &str) -> Explanation {
    let lab = labctl_topology::parse(&format!("name: t\n{lab}"), "t.yaml")
        .unwrap_or_else(|e| panic!("{}", e.render(false)));
    let (from, rest) = cell.split_once(" > ").unwrap();
    let mut words = rest.split(' ');
    let to = Target::from(words.next().unwrap());
    let probe = words.next().unwrap_or("icmp").parse().unwrap();
    let size = words.next().and_then(|w| w.parse().ok());
    let step = lab.steps.len();
    explain(
        &lab,
        &Query { from: from.into(), to, probe, by: By::Address, family: Default::default(), size, step },
    )
}

fn word(lab: &str, cell: &str) -> String {
    let e = ask(lab, cell);
    e.unknown.map_or(e.predicted, |why| format!("unknown: {why}"))
}

/// The places and decisions of the way there, then of the way back.
fn ways(lab: &str, cell: &str) -> (String, String) {
    let e = ask(lab, cell);
    let text = |hops: &[labctl_oracle::Hop]| {
        hops.iter().map(|h| format!("{} | {} | {}\n", h.at, h.packet, h.by)).collect::<String>()
    };
    (text(&e.walks[0].there), text(&e.walks[0].back))
}

const BRIDGES: &str = "
segments: { lan: { subnet: 192.168.56.0/24, gateway: 192.168.56.1 } }
hosts:
  h: { lan: 192.168.56.3 }
  off: { lan: 192.168.56.4, daemon_json: { userland-proxy: false } }
peers: { client: { lan: 192.168.56.20 }, behind: { lan: 192.168.56.21, gateway: 192.168.56.3 } }
networks:
  red: { ipam: { config: [ { subnet: 172.21.0.0/16 } ] } }
  blue: { ipam: { config: [ { subnet: 172.22.0.0/16 } ] } }
  bare: { driver_opts: { com.docker.network.bridge.enable_ip_masquerade: \"false\" }, ipam: { config: [ { subnet: 172.23.0.0/16 } ] } }
containers:
  r1: { host: h, networks: [red] }
  b1: { host: h, networks: [blue], ports: [ '8080:80' ] }
  both: { host: h, networks: [blue, red], ports: [ '8081:80' ] }
  m1: { host: h, networks: [bare] }
  ro: { host: off, networks: [red] }
  bo: { host: off, networks: [blue], ports: [ '8080:80' ] }
  bo2: { host: off, networks: [blue] }
";

#[test]
fn masquerading_is_undone_on_the_way_back() {
    let (there, back) = ways(BRIDGES, "r1 > client tcp/80");
    assert!(there.contains("nat POSTROUTING: -s 172.21.0.0/16 ! -o br-red -j MASQUERADE"), "{there}");
    assert!(there.contains("client/eth0 | tcp 192.168.56.3:40000 > 192.168.56.20:80"), "{there}");
    assert!(back.contains("client | tcp 192.168.56.20:80 > 192.168.56.3:40000"), "{back}");
    assert!(back.contains("r1/eth0 | tcp 192.168.56.20:80 > 172.21.0.2:40000"), "{back}");
    assert_eq!(word(BRIDGES, "m1 > client"), "asymmetric", "nobody on the LAN knows the way to 172.23.0.2");
}

#[test]
fn a_published_port_is_rewritten_there_and_back() {
    let (there, back) = ways(BRIDGES, "client > h tcp/8080");
    assert!(
        there.contains("nat DOCKER: ! -i br-blue -p tcp --dport 8080 -j DNAT --to-destination 172.22.0.2:80"),
        "{there}"
    );
    assert!(
        there.contains("filter DOCKER: -d 172.22.0.2/32 ! -i br-blue -o br-blue -p tcp --dport 80 -j ACCEPT"),
        "{there}"
    );
    assert!(
        back.ends_with(
            "client/eth0 | tcp 192.168.56.3:8080 > 192.168.56.20:40000 | for an address of its own\n"
        ),
        "{back}"
    );
}

#[test]
fn bridges_are_kept_apart_but_for_the_proxy() {
    for (cell, is) in [
        ("r1 > b1", "silent"),
        ("r1 > both", "yes"),
        ("r1 > b1 tcp/80", "silent"),
        ("r1 > h tcp/8080", "yes"),      // by docker-proxy
        ("ro > off tcp/8080", "silent"), // which is off there
        ("b1 > h tcp/8080", "yes"),      // its own port
        ("bo > off tcp/8080", "yes"),    // by masquerading
        ("bo2 > off tcp/8080", "yes"),   // the answer is rewritten on the bridge
        ("h > h tcp/8080", "yes"),
        ("behind > r1", "silent"), // FORWARD's policy
    ] {
        assert_eq!(word(BRIDGES, cell), is, "{cell}");
    }
    let e = ask(BRIDGES, "r1 > b1");
    assert_eq!(e.walks[0].why, "h: filter DOCKER-ISOLATION-STAGE-2: -o br-blue -j DROP");
    // The first network by name is the way out: blue.
    assert_eq!(ask(BRIDGES, "client > h tcp/8081").walks[0].answered_by.as_deref(), Some("both"));
}

#[test]
fn the_policy_of_forward_is_set_by_who_turns_forwarding_on() {
    let lab = |more: &str| {
        format!(
            "
segments: {{ lan: {{ subnet: 192.168.56.0/24 }} }}
hosts: {{ h: {{ lan: 192.168.56.3, {more} }} }}
peers: {{ routed: {{ lan: 192.168.56.21, gateway: 192.168.56.3 }} }}
containers: {{ c1: {{}} }}
"
        )
    };
    assert_eq!(word(&lab(""), "routed > c1"), "silent");
    assert_eq!(word(&lab("sysctls: { net.ipv4.ip_forward: 1 }"), "routed > c1"), "yes");
    assert_eq!(word(&lab("daemon_json: { iptables: false }"), "routed > c1"), "yes");
    assert_eq!(word(&lab("daemon_json: { ip-forward: false }"), "routed > c1"), "silent");
    assert_eq!(word(&lab("daemon_json: { iptables: false }"), "c1 > routed"), "yes", "it has a route back");
    let unknown = word(&lab("daemon_json: { bridge: none }"), "routed > c1");
    assert_eq!(unknown, "unknown: what `bridge` in daemon.json changes");
}

#[test]
fn the_longest_prefix_then_the_metric_decides() {
    let lab = "
segments:
  one: { subnet: 10.1.0.0/24, gateway: 10.1.0.1 }
  two: { subnet: 10.2.0.0/24, gateway: 10.2.0.1, outside: [172.20.2.0/24] }
hosts:
  h:
    one: 10.1.0.3
    two: 10.2.0.3
    routes:
      - { to: 172.20.0.0/16, via: 10.1.0.1, metric: 1 }
      - { to: 172.20.0.0/16, via: 10.2.0.1, metric: 2 }
      - { to: 172.20.2.0/25, via: 10.2.0.1, metric: 9 }
";
    let by = |to: &str| ask(lab, &format!("h > {to}")).walks[0].there[0].by.clone();
    assert_eq!(by("172.20.2.5"), "route 172.20.2.0/25 via 10.2.0.1 dev eth1");
    assert_eq!(by("172.20.2.200"), "route 172.20.0.0/16 via 10.1.0.1 dev eth0");
    assert_eq!(by("8.8.8.8"), "route default via 10.1.0.1 dev eth0");
    assert_eq!(word(lab, "h > 10.2.0.99"), "arp");
}

#[test]
fn what_is_too_large_for_the_path_behind_a_gateway_comes_back() {
    let lab = "
segments:
  lan: { subnet: [10.1.0.0/24, 'fd00:1::/64'], gateway: [10.1.0.1, 'fd00:1::1'], path_mtu: 1300 }
hosts: { h: { lan: [10.1.0.3, 'fd00:1::3'] } }
";
    for (to, size, is) in [
        ("8.8.8.8", 1300, "yes"),
        ("8.8.8.8", 1301, "unreachable"),
        ("2001:db8::1", 1300, "yes"),
        ("2001:db8::1", 1301, "unreachable"),
        ("fd00:1::1", 1500, "yes"),
    ] {
        assert_eq!(word(lab, &format!("h > {to} icmp {size}")), is, "{to} {size}");
    }
}

/// Neighbour discovery is ICMPv6, and ICMP is not.
#[test]
fn a_block_of_icmp_is_of_one_family() {
    let lab = |block: &str| {
        format!(
            "
segments: {{ lan: {{ subnet: [10.1.0.0/24, 'fd00:1::/64'], block: [{block}] }} }}
hosts: {{ a: {{ lan: [10.1.0.1, 'fd00:1::1'] }}, b: {{ lan: [10.1.0.2, 'fd00:1::2'] }} }}
"
        )
    };
    let words = |block: &str| ["10.1.0.2", "fd00:1::2"].map(|to| word(&lab(block), &format!("a > {to}")));
    assert_eq!(words("icmp"), ["silent", "yes"]);
    assert_eq!(words("icmp6"), ["yes", "neighbour"]);
    assert_eq!(words("too-big"), ["yes", "yes"]);
}

#[test]
fn what_comes_from_ones_own_address_is_dropped() {
    let lab = "
segments: { one: { subnet: 10.1.0.0/24 }, two: { subnet: 10.2.0.0/24 }, other: { subnet: 10.1.0.0/24 } }
hosts:
  router: { one: 10.1.0.1, two: 10.2.0.1, sysctls: { net.ipv4.ip_forward: 1 } }
  h: { two: 10.2.0.3, other: 10.1.0.5 }
peers:
  twin: { one: 10.1.0.5, gateway: 10.1.0.1 }
  another: { one: 10.1.0.6, gateway: 10.1.0.1 }
";
    assert_eq!(word(lab, "twin > h@two"), "asymmetric", "it has arrived");
    assert_eq!(word(lab, "another > h@two"), "asymmetric", "h looks for it on the other segment");
}

#[test]
fn blocks_and_cuts_hold_for_the_way_that_they_name() {
    let after = |action: &str, cell: &str| {
        let lab = format!(
            "
segments: {{ lan: {{ subnet: 10.1.0.0/24 }} }}
hosts: {{ a: {{ lan: 10.1.0.1 }}, b: {{ lan: 10.1.0.2 }}, c: {{ lan: 10.1.0.3 }} }}
steps: [ {{ do: {action} }} ]
"
        );
        word(&lab, cell)
    };
    let words =
        |action| ["a > b tcp/80", "a > c tcp/80", "c > b tcp/80"].map(|cell| after(action, cell)).join(" ");
    assert_eq!(words("block tcp/80"), "silent silent silent");
    assert_eq!(words("block tcp/80 from a"), "silent silent yes");
    assert_eq!(words("block tcp/80 to b"), "silent yes silent");
    assert_eq!(words("block tcp/80 from a to b"), "silent yes yes");
    let words = |action| ["a > b", "b > a", "b > c"].map(|cell| after(action, cell)).join(" ");
    assert_eq!(words("cut a"), "arp|silent arp|silent yes");
    // Whoever was asked before knows the MAC, and then it is the echo that gets lost.
    assert_eq!(words("cut a inbound"), "arp|asymmetric arp|silent yes");
    assert_eq!(words("cut a outbound"), "arp|silent arp|asymmetric yes");
}

#[test]
fn arp_is_answered_for_any_address_of_ones_own_and_neighbour_discovery_for_the_interfaces() {
    let lab = "
segments:
  one: { subnet: [10.1.0.0/24, \"fd00:1::/64\"] }
  two: { subnet: [10.2.0.0/24, \"fd00:2::/64\"] }
hosts:
  h: { one: [10.1.0.1, \"fd00:1::1\"], two: [10.2.0.1, \"fd00:2::1\"] }
  near:
    one: [10.1.0.5, \"fd00:1::5\"]
    routes: [ { to: 10.2.0.0/24, dev: one }, { to: \"fd00:2::/64\", dev: one } ]
";
    assert_eq!(word(lab, "near > 10.2.0.1"), "yes");
    assert_eq!(word(lab, "near > fd00:1::1"), "yes");
    assert_eq!(word(lab, "near > fd00:2::1"), "neighbour");
}

#[test]
fn what_is_too_large_is_told_at_once_or_never() {
    let lab = "
segments:
  lan: { subnet: 10.1.0.0/24, mtu: 1400 }
hosts:
  a: { lan: { address: 10.1.0.1, mtu: 1500 } }
  b: { lan: { address: 10.1.0.2, mtu: 1500 } }
  c: { lan: 10.1.0.3 }
networks:
  narrow: { driver_opts: { com.docker.network.driver.mtu: \"1200\" } }
containers:
  n1: { host: c, networks: [narrow] }
  w1: { host: c }
";
    for (cell, is) in [
        ("a > b icmp 1400", "yes"),
        ("a > b icmp 1401", "silent"),
        ("a > b icmp 1501", "unreachable"),
        ("c > a icmp 1401", "unreachable"),
        ("a > b tcp/80 20000", "stalled"),
        ("a > b tcp/80 200", "yes"),
        ("a > c tcp/80 20000", "yes"), // c announces what fits
    ] {
        assert_eq!(word(lab, cell), is, "{cell}");
    }
    assert_eq!(word(lab, "n1 > a icmp 1201"), "unreachable");
    assert_eq!(word(lab, "w1 > n1 icmp 1300"), "unreachable", "before it is dropped between the bridges");
}

#[test]
fn port_security_lets_only_the_nics_own_mac_pass() {
    let lab = |secure: bool| {
        format!(
            "
segments: {{ lan: {{ subnet: 192.168.56.0/24, port_security: {secure} }} }}
hosts: {{ h1: {{ lan: 192.168.56.3 }}, h2: {{ lan: 192.168.56.7 }} }}
networks:
  mac: {{ driver: macvlan, driver_opts: {{ parent: lan }}, ipam: {{ config: [ {{ subnet: 192.168.56.0/24, ip_range: 192.168.56.32/28 }} ] }} }}
  ip: {{ driver: ipvlan, driver_opts: {{ parent: lan }}, ipam: {{ config: [ {{ subnet: 192.168.56.0/24, ip_range: 192.168.56.64/28 }} ] }} }}
containers:
  m1: {{ host: h1, networks: {{ mac: {{ ipv4_address: 192.168.56.33 }} }} }}
  i2: {{ host: h2, networks: {{ ip: {{ ipv4_address: 192.168.56.65 }} }} }}
"
        )
    };
    assert_eq!(word(&lab(false), "m1 > h2"), "yes");
    assert_eq!(word(&lab(false), "m1 > i2"), "yes");
    // Whoever was asked by h2 before knows its MAC, and then it is the echo that is dropped.
    assert_eq!(word(&lab(true), "m1 > h2"), "arp|silent");
    assert_eq!(word(&lab(true), "h2 > m1"), "arp");
    assert_eq!(word(&lab(true), "i2 > h1"), "yes", "ipvlan has the NIC's MAC");
    assert_eq!(word(&lab(false), "m1 > h1"), "arp", "its own host");
    assert_eq!(word(&lab(false), "h2 > i2"), "arp", "its own host");
    // The reason says what it is.
    let why = |secure, cell| ask(&lab(secure), cell).walks[0].why.clone();
    let own = "ARP for 192.168.56.65: i2/eth0 has it, an ipvlan on h2/eth0, which hands it no frames of its own host";
    assert_eq!(why(false, "h2 > i2"), own);
    let host = "ARP for 192.168.56.3: h1/eth0 has it, which hands its host no frames of a macvlan on it";
    assert_eq!(why(false, "m1 > h1"), host);
    assert!(why(true, "h2 > m1").contains("port security: 02:42:c0:a8:38:21 is not the MAC of h1/eth0"));
    assert_eq!(why(false, "h2 > 192.168.56.99"), "ARP for 192.168.56.99: nobody has it");
}

#[test]
fn ipvlans_of_one_parent_meet_by_mode_and_flag() {
    let lab = |mode: &str, flag: &str| {
        format!(
            "
segments: {{ lan: {{ subnet: 192.168.56.0/24 }} }}
hosts: {{ h1: {{ lan: 192.168.56.3 }}, h2: {{ lan: 192.168.56.7, routes: [ {{ to: 10.9.0.0/16, via: 192.168.56.3 }} ] }} }}
networks:
  n:
    driver: ipvlan
    driver_opts: {{ parent: lan, ipvlan_mode: {mode}, ipvlan_flag: {flag} }}
    ipam: {{ config: [ {{ subnet: 10.9.1.0/24 }}, {{ subnet: 10.9.2.0/24 }} ] }}
containers:
  a1: {{ host: h1, networks: {{ n: {{ ipv4_address: 10.9.1.2 }} }} }}
  b1: {{ host: h1, networks: {{ n: {{ ipv4_address: 10.9.1.3 }} }} }}
  far: {{ host: h1, networks: {{ n: {{ ipv4_address: 10.9.2.2 }} }} }}
"
        )
    };
    assert_eq!(word(&lab("l2", "bridge"), "a1 > b1"), "yes");
    assert_eq!(
        word(&lab("l2", "private"), "a1 > b1"),
        "arp|silent",
        "the question is heard, the answer dropped"
    );
    assert_eq!(word(&lab("l3", "bridge"), "a1 > b1"), "yes");
    assert_eq!(word(&lab("l3", "bridge"), "a1 > far"), "yes", "any subnet of the parent");
    assert_eq!(word(&lab("l3", "private"), "a1 > b1"), "silent");
    assert_eq!(word(&lab("l2", "bridge"), "a1 > far"), "arp", "by a gateway that nobody has");
    assert_eq!(word(&lab("l3", "bridge"), "h2 > a1"), "yes", "by its route");
    assert_eq!(word(&lab("l3", "bridge"), "a1 > 10.10.2.11"), "silent", "no route: taken for a neighbour");
    assert_eq!(
        word(&lab("l2", "bridge"), "h2 > a1"),
        "asymmetric",
        "h1 hands it up by its address; a1 has no way back"
    );
    assert_eq!(word(&lab("l3", "bridge"), "a1 > h1"), "asymmetric", "its own host");
}

const SWARM: &str = "
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts: { h1: { lan: 192.168.56.3, engine: ENGINE }, h2: { lan: 192.168.56.7, engine: ENGINE } }
swarm: { managers: [h1], advertise_addr: lan, data_path_port: PORT }
networks:
  net: { driver: overlay, attachable: true, driver_opts: { encrypted: \"\" }, ipam: { config: [ { subnet: 10.3.1.0/24 } ] } }
containers:
  c1: { host: h1, networks: [net] }
  c2: { host: h2, networks: [net] }
  alone: { host: h1 }
services:
  web: { networks: [net], hosts: [h2], ports: [ '8080:80' ] }
steps: [ { do: STEP } ]
";

#[test]
fn an_encrypted_overlay_needs_esp_and_a_docker_that_can() {
    let lab = |engine: &str, port: &str, step: &str| {
        SWARM.replace("ENGINE", engine).replace("PORT", port).replace("STEP", step)
    };
    let nothing = "exec h1 -- true";
    assert_eq!(word(&lab("trixie", "4789", nothing), "c1 > c2"), "yes");
    assert_eq!(word(&lab("trixie", "7789", nothing), "c1 > c2"), "yes");
    assert_eq!(word(&lab("bookworm", "4789", nothing), "c1 > c2"), "yes");
    assert_ne!(word(&lab("bookworm", "7789", nothing), "c1 > c2"), "yes", "moby#45637");
    assert_eq!(word(&lab("trixie", "4789", "block esp"), "c1 > c2"), "silent");
    assert_eq!(word(&lab("trixie", "4789", "block udp/4789"), "c1 > c2"), "yes");
    assert_eq!(word(&lab("trixie", "4789", "cut h2"), "c1 > c2"), "arp", "given up by the gossip");
    let (there, _) = ways(&lab("trixie", "4789", nothing), "c1 > c2");
    assert!(there.contains("esp 192.168.56.3 > 192.168.56.7, vxlan"), "{there}");
    // 1500, less 50 for VXLAN and 26 for ESP.
    assert_eq!(word(&lab("trixie", "4789", nothing), "c1 > c2 icmp 1424"), "yes");
    assert_eq!(word(&lab("trixie", "4789", nothing), "c1 > c2 icmp 1425"), "unreachable");
    let unknown = word(&lab("trixie", "4789", "exec h2 -- iptables -F"), "c1 > c2");
    assert_eq!(unknown, "unknown: what `iptables` has done in h2");
}

#[test]
fn an_overlay_is_silent_where_a_nodes_packets_come_from_another_address_than_it_advertises() {
    let lab = |h1: &str| {
        format!(
            "
segments: {{ lan: {{ subnet: 192.168.56.0/24 }}, back: {{ subnet: 10.2.0.0/24 }} }}
hosts: {{ h1: {{ lan: 192.168.56.3, back: 10.2.0.3 }}, h2: {{ lan: 192.168.56.7, back: 10.2.0.7 }} }}
swarm: {{ managers: [h1], advertise_addr: {{ h1: {h1}, h2: back }} }}
networks: {{ net: {{ driver: overlay, attachable: true, ipam: {{ config: [ {{ subnet: 10.3.1.0/24 }} ] }} }} }}
containers: {{ c1: {{ host: h1, networks: [net] }}, c2: {{ host: h2, networks: [net] }} }}
"
        )
    };
    assert_eq!(word(&lab("back"), "c1 > c2"), "yes");
    assert_eq!(word(&lab("lan"), "c1 > c2"), "silent", "moby#53004");
    let why = &ask(&lab("lan"), "c1 > c2").walks[0].why;
    assert!(why.ends_with("is known to be behind 192.168.56.3, and this came from 10.2.0.3"), "{why}");
}

#[test]
fn a_drained_node_has_no_task() {
    let after = |step| {
        let lab = SWARM.replace("ENGINE", "trixie").replace("PORT", "4789").replace("STEP", step);
        word(&lab, "c1 > web tcp/80")
    };
    assert_eq!(after("drain h1"), "yes");
    assert_eq!(after("drain h2"), "down", "the service may be nowhere else");
}

#[test]
fn the_mesh_hides_the_client_and_a_ping_of_a_virtual_address_proves_nothing() {
    let lab = SWARM.replace("ENGINE", "trixie").replace("PORT", "4789").replace("STEP", "exec h1 -- true");
    let e = ask(&lab, "h2 > h1 tcp/8080");
    assert_eq!(e.walks[0].answered_by.as_deref(), Some("web.1"));
    assert!(e.walks[0].source.unwrap().to_string().starts_with("10.0.0."), "{:?}", e.walks[0].source);
    assert_eq!(word(&lab, "c1 > web tcp/80"), "yes");
    assert_eq!(word(&lab, "c1 > h1 tcp/8080"), "yes");
    assert_eq!(word(&lab, "alone > h1 tcp/8080"), "yes", "from another bridge");
    assert_eq!(word(&lab, "c1 > h2 tcp/8080"), "yes");
    assert_eq!(word(&lab, "c1 > web"), "misdelivered");
    assert_eq!(word(&lab, "h1 > h2 tcp/7946"), "unknown: what dockerd does at its own port tcp/7946");
}

/// A host whose FORWARD accepts, with a bridge in a gateway mode, and one on the LAN that has a route there.
const ROUTED_TO: &str = "
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts: { h: { lan: 192.168.56.3, engine: ENGINE, sysctls: { net.ipv4.ip_forward: 1 } } }
peers: { far: { lan: 192.168.56.20, routes: [ { to: 172.21.0.0/16, via: 192.168.56.3 } ] } }
networks:
  net:
    driver_opts: { com.docker.network.bridge.gateway_mode_ipv4: MODE }
    ipam: { config: [ { subnet: 172.21.0.0/16 } ] }
  other: { ipam: { config: [ { subnet: 172.22.0.0/16 } ] } }
containers: { c1: { networks: [net], ports: [ '8080:80' ] }, d1: { networks: [other] } }
";

#[test]
fn a_route_to_a_container_is_open_up_to_docker_27_and_then_as_its_gateway_mode_says() {
    let words = |engine: &str, mode: &str| {
        let lab = ROUTED_TO.replace("ENGINE", engine).replace("MODE", mode);
        let cells = ["far > c1", "far > c1 tcp/80", "far > c1 tcp/81", "far > h tcp/8080"];
        cells.map(|cell| word(&lab, cell)).join(" ")
    };
    assert_eq!(words("trixie", "nat"), "yes yes yes yes");
    assert_eq!(words("bookworm", "routed"), "yes yes yes yes", "which it does not know");
    assert_eq!(words("forky", "nat"), "silent silent silent yes");
    assert_eq!(words("forky", "nat-unprotected"), "yes yes yes yes");
    assert_eq!(words("forky", "routed"), "yes yes silent refused");
    let lab = ROUTED_TO.replace("ENGINE", "forky").replace("MODE", "nat");
    let (there, _) = ways(&lab, "far > c1");
    assert!(there.contains("raw PREROUTING: -d 172.21.0.2/32 ! -i br-net -j DROP"), "{there}");
    assert_eq!(
        (word(&lab, "d1 > c1"), word(&lab, "h > c1"), word(&lab, "c1 > far")),
        ("silent".into(), "yes".into(), "yes".into())
    );
}

#[test]
fn an_internal_network_is_closed_to_a_route_that_leads_there() {
    for engine in ["bookworm", "trixie", "forky"] {
        let lab = ROUTED_TO.replace("ENGINE", engine).replace("MODE", "nat-unprotected");
        assert_eq!(word(&lab, "far > c1"), "yes");
        let internal = lab.replace("  net:\n", "  net:\n    internal: true\n");
        let why = "h: filter DOCKER-ISOLATION-STAGE-1: ! -s 172.21.0.0/16 -o br-net -j DROP";
        assert_eq!(ask(&internal, "far > c1").walks[0].why, why);
        assert_eq!(word(&internal, "far > h tcp/8080"), "refused", "it publishes nothing");
    }
}

#[test]
fn neighbour_discovery_that_is_bridged_is_filtered() {
    let lab = |engine: &str, sysctls: &str| {
        format!(
            "
segments: {{ left: {{ subnet: 'fd00:56::/64' }}, right: {{ subnet: 'fd00:56::/64' }} }}
hosts:
  h:
    left: 'fd00:56::3'
    right: 'fd00:56::4'
    engine: {engine}
    daemon_json: {{ experimental: true, ip6tables: true }}
    sysctls: {{ {sysctls} }}
    interfaces: {{ br0: {{ type: bridge, ports: [left, right] }} }}
peers: {{ l1: {{ left: 'fd00:56::20' }}, r1: {{ right: 'fd00:56::21' }} }}
networks:
  apart:
    enable_ipv6: true
    driver_opts: {{ com.docker.network.bridge.enable_icc: 'false' }}
    ipam: {{ config: [ {{ subnet: 'fd00:41::/64' }} ] }}
  inside: {{ internal: true, enable_ipv6: true, ipam: {{ config: [ {{ subnet: 'fd00:42::/64' }} ] }} }}
containers:
  a1: {{ networks: {{ apart: {{ ipv6_address: 'fd00:41::11' }} }} }}
  a2: {{ networks: {{ apart: {{ ipv6_address: 'fd00:41::12' }} }} }}
  i1: {{ networks: {{ inside: {{ ipv6_address: 'fd00:42::11' }} }} }}
  i2: {{ networks: {{ inside: {{ ipv6_address: 'fd00:42::12' }} }} }}
"
        )
    };
    // Seen on each engine: only the question is asked before, so that nobody is found.
    for engine in ["bookworm", "trixie", "forky"] {
        let e = ask(&lab(engine, ""), "a1 > fd00:41::12");
        assert_eq!((e.unknown, e.predicted.as_str()), (None, "neighbour"), "{engine}");
        assert!(e.walks[0].why.contains("-i br-apart -o br-apart -j DROP"), "{}", e.walks[0].why);
        // moby#45649: the group of a question is in no subnet.
        let inside = if engine == "bookworm" { "neighbour" } else { "yes" };
        assert_eq!(word(&lab(engine, ""), "i1 > fd00:42::12"), inside, "{engine}");
        assert_eq!(word(&lab(engine, ""), "a1 > fd00:41::1"), "yes", "{engine}: the bridge itself");
        assert_eq!(word(&lab(engine, ""), "l1 > r1"), "neighbour", "{engine}: the policy");
        assert_eq!(word(&lab(engine, ""), "l1 > h"), "yes", "{engine}");
        let off = lab(engine, "net.bridge.bridge-nf-call-ip6tables: 0");
        assert_eq!(word(&off, "l1 > r1"), "yes", "{engine}");
    }
}

#[test]
fn rules_for_ipv6_are_there_from_docker_27_on_and_before_that_as_an_experiment() {
    let between = |engine: &str, daemon_json: &str| {
        let lab = format!(
            "
hosts: {{ h: {{ engine: {engine}, daemon_json: {{ {daemon_json} }} }} }}
networks:
  red: {{ enable_ipv6: true, ipam: {{ config: [ {{ subnet: \"fd00:41::/64\" }} ] }} }}
  blue: {{ enable_ipv6: true, ipam: {{ config: [ {{ subnet: \"fd00:42::/64\" }} ] }} }}
containers:
  r1: {{ networks: {{ red: {{ ipv6_address: \"fd00:41::11\" }} }} }}
  b1: {{ networks: {{ blue: {{ ipv6_address: \"fd00:42::11\" }} }} }}
"
        );
        word(&lab, "r1 > fd00:42::11")
    };
    assert_eq!(between("trixie", ""), "yes");
    assert_eq!(between("trixie", "ip6tables: true"), "yes");
    assert_eq!(between("trixie", "ip6tables: true, experimental: true"), "silent");
    assert_eq!(between("forky", ""), "silent");
    assert_eq!(between("forky", "ip6tables: false"), "yes");
}

#[test]
fn the_network_with_the_highest_priority_has_the_way_out_whatever_it_is_called() {
    let lab = ROUTED_TO.replace("ENGINE", "forky").replace("MODE", "nat-unprotected").replace(
        "d1: { networks: [other] }",
        "d1: { networks: { net: { gw_priority: -1 }, other: { interface_name: up0 } }, ports: [ '8081:80' ] }",
    );
    let (there, _) = ways(&lab, "d1 > far");
    assert!(there.contains("route default via 172.22.0.1 dev up0"), "{there}");
    let (there, _) = ways(&lab, "far > h tcp/8081");
    assert!(there.contains("DNAT --to-destination 172.22.0.2:80"), "{there}");
}

#[test]
fn the_walks_of_a_labs_own_cells_are_those_that_explain_shows() {
    let text = "
name: t
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts: { a: { lan: 192.168.56.3 }, b: { lan: 192.168.56.4 } }
expect:
  - { interfaces: a, contains: [eth0] }
  - { from: [a, b], to: [a, b], verdict: yes }
steps:
  - { name: cut a, do: cut a }
  - { name: cut b, do: [heal a, cut b], expect: [{ probe: tcp/80, from: a, to: b, verdict: no }] }
";
    let lab = labctl_topology::parse(text, "t.yaml").unwrap_or_else(|e| panic!("{}", e.render(false)));
    // Those of a fact, of a step without checks and of no step are none.
    let asked = BTreeSet::from([(0, 0, 0), (0, 1, 1), (1, 0, 0), (2, 0, 0), (3, 0, 0)]);
    let walked = walks(&lab, &asked);
    let explained = |from: &str, to: &str, probe: &str, step| {
        let (from, to, probe) = (from.to_owned(), Target::from(to), probe.parse().unwrap());
        let by = By::Address;
        explain(&lab, &Query { from, to, probe, by, family: Default::default(), size: None, step }).walks
    };
    assert_eq!(walked.keys().copied().collect::<Vec<_>>(), [(0, 1, 1), (2, 0, 0)]);
    let json = |ways: &_| serde_json::to_string(ways).unwrap();
    assert_eq!(json(&walked[&(0, 1, 1)]), json(&explained("b", "a", "icmp", 0)));
    assert_eq!(json(&walked[&(2, 0, 0)]), json(&explained("a", "b", "tcp/80", 2)));
}
