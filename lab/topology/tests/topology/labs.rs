//! What sound topologies become.

use std::{fs, net::IpAddr, path::Path, time::Duration};

use labctl_model::{
    Action, Attach, By, Cell, Check, Driver, Engine, Expected, Family, InterfaceKind, Lab, Matrix, Must, No,
    Parent, Probe, Protocol, Route, Subject, Target,
};

const FLAGSHIP: &str = include_str!("../good/flagship.yaml");

fn lab(text: &str) -> Lab {
    labctl_topology::parse(text, "lab.yaml").unwrap_or_else(|e| panic!("{e}"))
}

fn matrix(check: &Check) -> &Matrix {
    match check {
        Check::Matrix(m) => m,
        other => panic!("a matrix, not {other:?}"),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_flagship_has_thirty_cells() {
    let lab = lab(FLAGSHIP);
    let m = matrix(&lab.expect[0]);
    assert_eq!((m.cells.len(), &m.probe, m.by, m.line), (30, &Probe::Icmp, By::Address, 18));
    assert_eq!((m.timeout, m.within), (Duration::from_secs(2), Duration::ZERO));
    for Cell { from, to, expected, .. } in &m.cells {
        let Target::Endpoint { name: to, at: None } = to else { panic!("{to}") };
        // The flagship's law: a host and its own containers do not meet, every other pair does.
        let own = from.starts_with("host") != to.starts_with("host") && lab.host_of(from) == lab.host_of(to);
        assert_eq!(*expected, if own { Expected::No } else { Expected::Yes }, "{from} to {to}");
    }
    assert_eq!(m.cells[0].line, 21);
    assert_eq!(m.cells.last().unwrap().line, 26);

    let net = &lab.networks["ipvlan_net"];
    assert_eq!(
        net.driver,
        Driver::Ipvlan { parent: Some(Parent::Segment { segment: "lan".into(), vlan: None }) }
    );
    assert_eq!(net.options.get("ipvlan_mode").map(String::as_str), Some("l2"));
    assert!(!net.options.contains_key("parent"));
    assert_eq!(net.hosts, ["host1", "host2"]);
    assert_eq!(net.parent_interface(&lab, "host2").as_deref(), Some("eth0"));
    assert_eq!(lab.segments["lan"].outside, ["0.0.0.0/0".parse().unwrap()]);
    assert_eq!(lab.containers_on("host2").map(|(n, _)| n).collect::<Vec<_>>(), ["c2-1", "c2-2"]);
}

#[test]
fn a_lab_survives_json() {
    let lab = lab(FLAGSHIP);
    assert_eq!(serde_json::from_str::<Lab>(&serde_json::to_string(&lab).unwrap()).unwrap(), lab);
}

/// The topologies that people run.
#[test]
fn every_topology_of_the_project_is_sound() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topologies");
    let mut names = std::collections::HashSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let lab = labctl_topology::load(&path).unwrap_or_else(|e| panic!("{e}"));
            assert!(names.insert(lab.name.clone()), "{} is there twice", lab.name);
            assert!(!lab.expect.is_empty() || !lab.steps.is_empty(), "{} checks nothing", lab.name);
        }
    }
    assert!(names.contains("ipvlan-2host") && names.len() > 15, "{names:?}");
}

const HOSTS: &str = "
name: hosts
segments:
  lan: { subnet: 192.168.56.0/24, mtu: 9000, port_security: true }
  vpn: { subnet: 10.0.1.0/24, gateway: 10.0.1.66, outside: [172.20.2.0/24] }
hosts:
  host1:
    lan: 192.168.56.3
    vpn: { address: 10.0.1.65, interface: tun0, peer: 10.0.1.66 }
    engine: bookworm
    memory: 2048
    sysctls: { net.ipv4.ip_forward: 1, net.ipv4.conf.eth0/10.rp_filter: 0 }
    daemon_json: { mtu: 1400, default-address-pools: [ { base: 12.11.0.0/16, size: 24 } ], live-restore: true }
    routes:
      - { to: 172.16.0.0/12, via: 10.0.1.66, dev: vpn }
      - { to: 10.3.2.146, dev: top, metric: 20 }
    interfaces:
      top: { type: ipvlan, parent: eth0.10 }
      eth0.10: { type: vlan, id: 10, parent: lan, addresses: [10.10.0.3/24] }
      shim: { type: macvlan, parent: lan, addresses: [192.168.56.3/32], deferred: true }
  host2: { vpn: 10.0.1.7 }
networks:
  by_vlan: { driver: macvlan, driver_opts: { parent: lan.20, macvlan_mode: bridge }, hosts: [host1] }
  by_name: { driver: ipvlan, driver_opts: { parent: top }, hosts: [host1] }
  nowhere: { driver: macvlan, internal: true, hosts: [host1] }
";

#[test]
fn hosts_get_their_links() {
    let lab = lab(HOSTS);
    let host = &lab.hosts["host1"];
    let nics = host.nics.iter().map(|n| {
        let prefix_len = n.addresses.first().map(|net| net.prefix_len());
        (n.name.as_str(), prefix_len, n.peer.first())
    });
    let nics: Vec<_> = nics.collect();
    assert_eq!(nics, [("eth0", Some(24), None), ("tun0", Some(32), Some(ip("10.0.1.66")))]);
    assert_eq!((host.engine.name(), host.memory_mib), ("bookworm", 2048));
    assert_eq!(lab.hosts["host2"].engine, Engine::default());
    assert_eq!(host.sysctls["net.ipv4.ip_forward"], "1");
    assert_eq!(
        serde_json::Value::Object(host.daemon_json.clone()),
        serde_json::json!({
            "mtu": 1400, "default-address-pools": [{ "base": "12.11.0.0/16", "size": 24 }], "live-restore": true
        })
    );
    // What sits on another comes after it, whatever the order in the file.
    let interfaces: Vec<_> = host.interfaces.iter().map(|i| (i.name.as_str(), i.parent())).collect();
    assert_eq!(interfaces, [("eth0.10", "eth0"), ("top", "eth0.10"), ("shim", "eth0")]);
    assert_eq!(host.interfaces[0].kind, InterfaceKind::Vlan(10));
    let route = |to: &str, via: Option<&str>, dev: &str, metric| Route {
        to: to.parse().unwrap(),
        via: via.map(ip),
        dev: Some(dev.into()),
        metric,
    };
    assert_eq!(
        host.routes,
        [
            route("172.16.0.0/12", Some("10.0.1.66"), "tun0", None),
            route("10.3.2.146/32", None, "top", Some(20))
        ]
    );

    assert_eq!(host.link_of("top"), Some(("lan", Some(10))));
    assert_eq!(host.link_of("eth0.30"), Some(("lan", Some(30))));
    assert_eq!(host.link_of("shim"), Some(("lan", None)));
    assert_eq!(host.link_of("wlan0"), None);
    assert_eq!(lab.networks["by_vlan"].parent_interface(&lab, "host1").as_deref(), Some("eth0.20"));
    assert_eq!(lab.networks["by_vlan"].parent_interface(&lab, "host2"), None);
    assert_eq!(lab.networks["by_name"].parent_interface(&lab, "host1").as_deref(), Some("top"));
    assert_eq!(lab.networks["nowhere"].parent_interface(&lab, "host1"), None);

    let lan = &lab.segments["lan"];
    assert_eq!((lan.mtu, lan.port_security, lan.gateway.first(), lan.outside.len()), (9000, true, None, 0));
    assert!(lab.networks["nowhere"].internal);
}

#[test]
fn macs_differ_are_local_and_stay() {
    let mut text = String::from("name: lab\nsegments:\n");
    (0..4).for_each(|s| text.push_str(&format!("  s{s}: {{ subnet: 10.{s}.0.0/24 }}\n")));
    text.push_str("hosts:\n");
    for h in 1..=60 {
        text.push_str(&format!(
            "  h{h}: {{ s0: 10.0.0.{h}, s1: 10.1.0.{h}, s2: 10.2.0.{h}, s3: 10.3.0.{h} }}\n"
        ));
    }
    let lab = lab(&text);
    let macs: Vec<_> = lab.hosts.values().flat_map(|h| &h.nics).map(|n| n.mac).collect();
    let distinct: std::collections::HashSet<_> = macs.iter().collect();
    assert_eq!((macs.len(), distinct.len()), (240, 240));
    assert!(macs.iter().all(|m| m[0] & 0b11 == 0b10), "locally administered, not a group");
    assert_eq!(lab.hosts["h2"].nics[3].mac, [0x02, 0x6c, 0x61, 3, 0, 1]);
}

const CONTAINERS: &str = r#"
name: containers
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts: { host1: { lan: 192.168.56.3 } }
networks:
  front: { name: real_front, ipam: { config: [ { subnet: 172.20.0.0/16, ip_range: 172.20.5.0/24, aux_addresses: { nas: 172.20.0.9 } } ] }, labels: { a: 1 } }
  back: { driver_opts: { com.docker.network.bridge.enable_icc: "false" }, attachable: true }
  later: { deferred: true }
containers:
  plain: {}
  asked: { network_mode: bridge, ipv4_address: 172.17.0.50 }
  first: { links: [last, "web:www"], command: "sh -c 'sleep 5; echo \"a b\"' x\\ y" }
  web:
    image: nginx:1
    command: [nginx, -g, "daemon off;"]
    hostname: www
    environment: [A=1, "B=x=y"]
    networks: { front: { ipv4_address: 172.20.0.5, aliases: [w], mac_address: "02:42:AC:14:00:05" }, back: }
    ports: [ "8080:80", "127.0.0.1:8080:80/udp", 443, "192.168.56.3::53/udp" ]
    cap_add: [NET_ADMIN]
    sysctls: { net.core.somaxconn: 128 }
  db: { networks: [back], environment: { C: 2 } }
  hosted: { network_mode: host }
  bare: { network_mode: none }
  joined: { network_mode: "container:web" }
  twice: { network_mode: "container:joined" }
  last: {}
  extra: { deferred: true, networks: [later] }
"#;

#[test]
fn containers_get_what_was_asked() {
    let lab = lab(CONTAINERS);
    let c = |name: &str| &lab.containers[name];
    assert_eq!(c("plain").attach, Attach::DefaultBridge { ipv4_address: None });
    assert_eq!(c("plain").image, labctl_model::BUILTIN_IMAGE);
    assert_eq!(c("plain").host, "host1");
    // Docker refuses that, and that is what the lab shows.
    assert_eq!(c("asked").attach, Attach::DefaultBridge { ipv4_address: "172.17.0.50".parse().ok() });
    assert_eq!(c("first").command, ["sh", "-c", "sleep 5; echo \"a b\"", "x y"]);
    assert_eq!(c("first").links[1].alias, "www");
    let web = c("web");
    assert_eq!(web.command, ["nginx", "-g", "daemon off;"]);
    assert_eq!(web.environment.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["A=1", "B=x=y"]);
    let Attach::Networks(on) = &web.attach else { panic!() };
    assert_eq!(on.keys().collect::<Vec<_>>(), ["front", "back"]);
    assert_eq!(on["front"].mac_address.as_deref(), Some("02:42:ac:14:00:05"));
    assert_eq!(on["front"].aliases, ["w"]);
    let ports: Vec<_> = web.ports.iter().map(|p| (p.host_ip, p.published, p.target, p.protocol)).collect();
    assert_eq!(
        ports,
        [
            (None, Some(8080), 80, Protocol::Tcp),
            (Some(ip("127.0.0.1")), Some(8080), 80, Protocol::Udp),
            (None, None, 443, Protocol::Tcp),
            (Some(ip("192.168.56.3")), None, 53, Protocol::Udp),
        ]
    );
    assert_eq!((c("hosted").attach.clone(), c("bare").attach.clone()), (Attach::Host, Attach::None));
    assert_eq!(c("db").environment["C"], "2");
    let front = &lab.networks["front"];
    assert_eq!((front.docker_name.as_str(), front.labels["a"].as_str()), ("real_front", "1"));
    assert_eq!(front.ipam[0].aux_addresses["nas"], ip("172.20.0.9"));
    assert_eq!(lab.networks["back"].options["com.docker.network.bridge.enable_icc"], "false");
    assert!(lab.networks["later"].deferred && lab.networks["later"].hosts == ["host1"]);
}

#[test]
fn what_is_needed_comes_first() {
    let lab = lab(CONTAINERS);
    assert_eq!(
        lab.start_order("host1"),
        ["plain", "asked", "last", "web", "first", "db", "hosted", "bare", "joined", "twice", "extra"]
    );
    assert!(lab.start_order("host9").is_empty());
}

const CHECKS: &str = r#"
name: checks
hosts: { host1: {} }
networks: { net1: {}, net2: { deferred: true } }
containers: { c1: { networks: [net1] }, c2: { networks: [net1] }, late: { deferred: true } }
expect:
  - probe: tcp/80
    by: name
    timeout: 500ms
    within: 10s
    rules:
      - { from: all, to: all, verdict: yes }
      - { from: [c1, host1], to: c2, verdict: no-route }
  - { from: containers, to: [8.8.8.8, "c1@net1"], verdict: no }
  - probe: dns/c1
    table: |
      from\to  c1   8.8.8.8  c2@net1
      c2       yes  -        down
  - { interfaces: c1, equals: [lo, eth0], within: 1s }
  - { addresses: host1, same_as: c1 }
  - { status: late, equals: absent }
  - { subnets: net1, inside: 12.11.0.0/16 }
  - { hosts_file: c1, lacks: c2 }
  - { networks: host1, contains: [net1] }
"#;

#[test]
fn rules_become_cells_and_the_last_counts() {
    let lab = lab(CHECKS);
    let m = matrix(&lab.expect[0]);
    assert_eq!(
        (&m.probe, m.by, m.timeout, m.within),
        (&Probe::Tcp(80), By::Name, Duration::from_millis(500), Duration::from_secs(10))
    );
    let cells: Vec<_> = m.cells.iter().map(|c| format!("{} {} {}", c.from, c.to, c.expected)).collect();
    assert_eq!(
        cells,
        ["host1 c1 yes", "host1 c2 no-route", "c1 host1 yes", "c1 c2 no-route", "c2 host1 yes", "c2 c1 yes",],
        "`all` is what exists, no cell from an endpoint to itself, and the later rule won"
    );
    let m = matrix(&lab.expect[1]);
    let cells: Vec<_> = m.cells.iter().map(|c| format!("{} {} {}", c.from, c.to, c.expected)).collect();
    assert_eq!(cells, ["c1 8.8.8.8 no", "c2 8.8.8.8 no", "c2 c1@net1 no"]);
    assert_eq!(m.cells[0].to, Target::Address(ip("8.8.8.8")));
    let m = matrix(&lab.expect[2]);
    assert_eq!(m.probe, Probe::Dns("c1".into()));
    assert_eq!(m.cells.len(), 2);
    assert_eq!(m.cells[1].expected, Expected::Because(No::Down));
}

#[test]
fn facts_say_one_thing_of_one_thing() {
    let lab = lab(CHECKS);
    let facts: Vec<_> = lab.expect[3..]
        .iter()
        .map(|c| match c {
            Check::Fact(f) => (f.subject.clone(), f.must.clone()),
            other => panic!("a fact, not {other:?}"),
        })
        .collect();
    let words = |w: &[&str]| w.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        facts,
        [
            (Subject::Interfaces("c1".into()), Must::Equal(words(&["lo", "eth0"]))),
            (Subject::Addresses("host1".into()), Must::Same("c1".into())),
            (Subject::Status("late".into()), Must::Equal(words(&["absent"]))),
            (Subject::Subnets("net1".into()), Must::Inside("12.11.0.0/16".parse().unwrap())),
            (Subject::Hosts("c1".into()), Must::Lack(words(&["c2"]))),
            (Subject::Networks("host1".into()), Must::Contain(words(&["net1"]))),
        ]
    );
}

const STEPS: &str = r#"
name: steps
segments: { lan: { subnet: 10.0.0.0/24 } }
hosts:
  host1:
    lan: 10.0.0.3
    interfaces: { shim: { type: macvlan, parent: lan, addresses: [10.0.0.3/32], deferred: true } }
networks: { net1: {}, net2: { deferred: true } }
containers: { c1: {}, late: { deferred: true, networks: [net2] }, network: {} }
steps:
  - do: [create network net2, create late, "connect c1 net2 172.20.0.9"]
    within: 10s
    expect:
      - { from: all, to: all, verdict: yes }
      - { within: 1s, status: late, equals: running }
  - { name: refused, do: remove network net2, fails: has active endpoints }
  - do:
      - stop c1
      - start c1
      - restart c1
      - disconnect c1 net2
      - remove late
      - remove network
      - prune networks host1
      - create interface host1 shim
      - route add host1 10.3.2.146 dev shim
      - route add host1 default via 10.0.0.9 dev lan metric 100
      - route del host1 10.3.2.146 metric 5
      - remove interface host1 shim
      - 'configure docker host1 {"mtu": 1400,   "x": [1]}'
    expect:
      - { from: host1, to: containers, verdict: yes }
"#;

#[test]
fn steps_are_read_word_by_word() {
    let lab = lab(STEPS);
    let [first, refused, all] = lab.steps.as_slice() else { panic!() };
    assert_eq!(first.name, "create network net2; create late; connect c1 net2 172.20.0.9");
    assert_eq!(first.actions[0], Action::CreateNetwork("net2".into()));
    assert_eq!(
        first.actions[2],
        Action::Connect { container: "c1".into(), network: "net2".into(), address: Some(ip("172.20.0.9")) }
    );
    // The deferred container is there now: host1, c1, network and late.
    assert_eq!(matrix(&first.expect[0]).cells.len(), 12);
    assert_eq!(
        matrix(&first.expect[0]).within,
        Duration::from_secs(10),
        "the step's, where the check has none"
    );
    assert!(matches!(&first.expect[1], Check::Fact(f) if f.within == Duration::from_secs(1)));
    assert_eq!((refused.name.as_str(), refused.fails.as_deref()), ("refused", Some("has active endpoints")));
    assert_eq!(all.actions.len(), 13);
    assert_eq!(all.actions[5], Action::Remove("network".into()), "a container may be called that");
    let route = |to: &str, via: Option<&str>, dev: Option<&str>, metric| Route {
        to: to.parse().unwrap(),
        via: via.map(ip),
        dev: dev.map(str::to_owned),
        metric,
    };
    assert_eq!(
        all.actions[8],
        Action::RouteAdd { host: "host1".into(), route: route("10.3.2.146/32", None, Some("shim"), None) }
    );
    assert_eq!(
        all.actions[9],
        Action::RouteAdd {
            host: "host1".into(),
            route: route("0.0.0.0/0", Some("10.0.0.9"), Some("eth0"), Some(100))
        }
    );
    assert_eq!(
        all.actions[10],
        Action::RouteDel { host: "host1".into(), route: route("10.3.2.146/32", None, None, Some(5)) }
    );
    let Action::ConfigureDocker { daemon_json, .. } = &all.actions[12] else { panic!() };
    assert_eq!(serde_json::Value::Object(daemon_json.clone()), serde_json::json!({ "mtu": 1400, "x": [1] }));
    assert_eq!(matrix(&all.expect[0]).cells.len(), 1, "of the containers only c1 is left");
    assert_eq!(first.line, 11);
}

#[test]
fn aliases_merges_and_own_keys_work() {
    let lab = lab("
name: lab
x-common: &common { image: nginx, cap_add: [NET_RAW] }
hosts: { host1: {} }
containers:
  c1: { <<: *common }
  c2: { <<: *common, image: other, x-note: [anything] }
");
    assert_eq!(lab.containers["c1"].image, "nginx");
    assert_eq!((lab.containers["c2"].image.as_str(), lab.containers["c2"].cap_add.len()), ("other", 1));
}

#[test]
fn both_families_or_ipv6_alone_are_read_alike() {
    let lab = lab("name: t
segments:
  lan: { subnet: [192.168.56.0/24, 'fd00:56::/64'], gateway: ['fd00:56::1', 192.168.56.1] }
  six: { subnet: 'fd00:6::/64' }
hosts:
  host1: { lan: [192.168.56.3, 'fd00:56::3'], six: 'fd00:6::3', routes: [ { to: default, via: 'fd00:6::9' } ] }
peers: { client: { lan: 'fd00:56::20' } }
networks: { net: { enable_ipv6: true, ipam: { config: [ { subnet: 'fd00:30::/64' } ] } } }
containers:
  c1: { networks: { net: { ipv6_address: 'fd00:30::2' } }, ports: [ '[fd00:56::3]:80:8080', '[::]::53/udp' ] }
expect:
  - { family: both, from: host1, to: c1, verdict: yes }
  - { family: 6, from: host1, to: 'fd00:56::1', verdict: yes }
");
    assert_eq!(lab.segments["lan"].subnet.to_string(), "192.168.56.0/24, fd00:56::/64");
    assert_eq!(lab.segments["lan"].gateway.to_string(), "192.168.56.1, fd00:56::1");
    let everything: Vec<String> = lab.segments["lan"].outside.iter().map(ToString::to_string).collect();
    assert_eq!(everything, ["0.0.0.0/0", "::/0"]);
    let host = &lab.hosts["host1"];
    let nics: Vec<String> = host.nics.iter().map(|n| n.addresses.to_string()).collect();
    assert_eq!(nics, ["192.168.56.3/24, fd00:56::3/64", "fd00:6::3/64"]);
    assert_eq!(host.routes[0].to.to_string(), "::/0", "the family of its next hop");
    assert_eq!(host.gateway(&lab, Family::V6), Some(ip("fd00:56::1")));
    // The segment's IPv4 gateway is of no use to a peer without IPv4, and it has it all the same.
    assert_eq!(lab.peers["client"].nic.address(Family::V4), None);
    let c1 = &lab.containers["c1"];
    let ports: Vec<_> = c1.ports.iter().map(|p| (p.host_ip, p.published, p.target)).collect();
    assert_eq!(ports, [(Some(ip("fd00:56::3")), Some(80), 8080), (Some(ip("::")), None, 53)]);
    let families: Vec<_> = lab.expect.iter().map(|c| matrix(c).family.family()).collect();
    assert_eq!(families, [Some(Family::V4), Some(Family::V6), Some(Family::V6)]);
    let again: Lab = serde_json::from_str(&serde_json::to_string(&lab).unwrap()).unwrap();
    assert_eq!((again.segments, again.hosts), (lab.segments.clone(), lab.hosts.clone()));
}
