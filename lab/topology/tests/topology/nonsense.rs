//! What can mean nothing is refused where it stands, and not by whoever meets it first in a running lab.

use labctl_words::is_hostile;

/// A lab with a segment, two hosts, a network and a container, and these lines in the places of its comments.
fn topology(place: &str, text: &str) -> String {
    let at = |name: &str| if name == place { text } else { "" };
    format!(
        "name: lab
segments: {{ lan: {{ subnet: 192.168.56.0/24, gateway: 192.168.56.1 }} }}
hosts: {{ h1: {{ lan: 192.168.56.3 }}, h2: {{ lan: 192.168.56.4 }}{} }}
networks: {{ net: {{ hosts: [h1] }}{} }}
containers: {{ c1: {{ host: h1 }}{} }}
{}
",
        at("hosts"),
        at("networks"),
        at("containers"),
        at("end")
    )
}

/// Where it is put, what is put there, and what is said of it. In the order of the kinds.
const NONSENSE: &[(&str, &str, &str)] = &[
    // Subnets that no interface can have addresses of.
    ("end", "segments: { bad: { subnet: 0.0.0.0/8 } }", "0.0.0.0/8 is for hosts that have no address yet"),
    ("end", "segments: { bad: { subnet: 127.0.0.0/8 } }", "127.0.0.0/8 is every host's own loopback"),
    ("end", "segments: { bad: { subnet: 112.0.0.0/4 } }", "127.0.0.0/8 is every host's own loopback"),
    ("end", "segments: { bad: { subnet: 224.0.0.0/4 } }", "224.0.0.0/4 is for groups (multicast)"),
    ("end", "segments: { bad: { subnet: 240.0.0.0/4 } }", "240.0.0.0/4 is reserved"),
    ("end", "segments: { bad: { subnet: 255.255.255.0/24 } }", "240.0.0.0/4 is reserved"),
    ("end", "segments: { bad: { subnet: 010.0.0.0/24 } }", "without leading zeros"),
    ("end", "segments: { bad: { subnet: 10.0.0.0/024 } }", "without leading zeros"),
    (
        "end",
        "segments: { bad: { subnet: 10.0.0.0/24, gateway: 10.0.0.1, outside: [127.1.0.0/16] } }",
        "loopback",
    ),
    // A name of a family that its host lacks.
    (
        "end",
        "expect: [ { from: h1, inject: 'eth/ip6(dst=${ip6:h2})/icmp6', received_by: h2 } ]",
        "`h2` has no IPv6 address",
    ),
    (
        "end",
        "expect: [ { from: h1, inject: 'eth/ip6(dst=${ip6:h2@lan})/icmp6', received_by: h2 } ]",
        "`h2` has no IPv6 address on `lan`",
    ),
    (
        "end",
        "expect: [ { from: h1, inject: 'eth/ip6(dst=${ip:h2})/icmp6', received_by: h2 } ]",
        "`h2` has no IPv6 address",
    ),
    // What only a gateway does.
    (
        "end",
        "segments: { bad: { subnet: 'fd00::/64', ra: { dns: 'fd00::53' } } }",
        "advertised by its own IPv6 address",
    ),
    (
        "end",
        "segments: { bad: { subnet: 'fd00::/64', gateway: 'fd00::1', ra: { dns: 10.0.0.53 } } }",
        "10.0.0.53 is IPv4: IPv6 routers advertise none",
    ),
    (
        "end",
        "segments: { bad: { subnet: 'fd00::/64', gateway: 'fd00::1', ra: { dns: ['fd00::2', 'fd00::3', 'fd00::4', 'fd00::5'] } } }",
        "a resolver takes 3 name servers",
    ),
    (
        "end",
        "segments: { bad: { subnet: 'fd00::/64', gateway: 'fd00::1', ra: { dns: 'fe80::53' } } }",
        "fe80::53 is of one link alone",
    ),
    ("end", "segments: { bad: { subnet: 'fd00::/64', ra: true } }", "advertised by its own IPv6 address"),
    ("end", "segments: { bad: { subnet: 10.0.0.0/24, path_mtu: 1400 } }", "there is none"),
    (
        "end",
        "segments: { bad: { subnet: 10.0.0.0/24, gateway: 10.0.0.1, mtu: 1400, path_mtu: 1401 } }",
        "a packet of 1401 bytes does not get to the gateway",
    ),
    (
        "end",
        "segments: { bad: { subnet: 'fd00::/64', gateway: 'fd00::1', path_mtu: 1279 } }",
        "IPv6 needs an MTU of 1280 at least",
    ),
    (
        "networks",
        ", bad: { hosts: [h1], ipam: { config: [ { subnet: 239.1.0.0/16 } ] } }",
        "groups (multicast)",
    ),
    (
        "networks",
        ", bad: { hosts: [h1], ipam: { config: [ { subnet: 172.020.0.0/16 } ] } }",
        "without leading zeros",
    ),
    ("end", "swarm: { default_addr_pool: 127.0.0.0/16 }", "loopback"),
    // Addresses of interfaces, next hops, destinations.
    ("hosts", ", bad: { lan: { address: 192.168.56.9, peer: 224.0.0.5 } }", "groups (multicast)"),
    (
        "hosts",
        ", bad: { interfaces: { x: { type: macvlan, parent: lan, addresses: [255.255.255.255/32] } }, lan: 192.168.56.9 }",
        "240.0.0.0/4 is reserved",
    ),
    (
        "hosts",
        ", bad: { lan: 192.168.56.9, routes: [ { to: 10.1.0.0/16, via: 0.0.0.0 } ] }",
        "no address yet",
    ),
    ("hosts", ", bad: { lan: 192.168.56.9, routes: [ { to: 127.0.0.0/8, dev: lan } ] }", "loopback"),
    (
        "hosts",
        ", bad: { lan: 192.168.56.9, routes: [ { to: 010.1.0.0/16, dev: lan } ] }",
        "expected a prefix",
    ),
    (
        "end",
        "peers: { bad: { lan: 192.168.56.9, routes: [ { to: 250.0.0.0/8, via: 192.168.56.3 } ] } }",
        "240.0.0.0/4 is reserved",
    ),
    ("containers", ", bad: { host: h1, networks: { net: { ipv4_address: 127.0.0.2 } } }", "loopback"),
    ("containers", ", bad: { host: h1, ipv4_address: 255.255.255.255 }", "240.0.0.0/4 is reserved"),
    ("containers", ", bad: { host: h1, ports: [\"224.0.0.1:80:80\"] }", "groups (multicast)"),
    ("end", "steps: [ { do: connect c1 net 0.0.0.0 } ]", "no address yet"),
    ("end", "steps: [ { do: route add h1 10.1.0.0/16 via 224.0.0.1 } ]", "groups (multicast)"),
    ("end", "swarm: { advertise_addr: { h1: 0.0.0.0, h2: 192.168.56.4 } }", "no address yet"),
    ("end", "swarm: { listen_addr: { h1: 224.0.0.1, h2: 0.0.0.0 } }", "groups (multicast)"),
    // Targets and sources.
    ("end", "expect: [ { from: h1, to: 0.0.0.0, verdict: yes } ]", "no address yet"),
    ("end", "expect: [ { from: h1, to: 224.0.0.1, verdict: yes } ]", "groups (multicast)"),
    (
        "end",
        "expect: [ { from: h1, to: 255.255.255.255, verdict: yes } ]",
        "its last address means everybody",
    ),
    ("end", "expect: [ { from: h1, to: h2, verdict: yes, source: 224.0.0.1 } ]", "groups (multicast)"),
    ("end", "expect: [ { table: \"x 0.0.0.0\\nh1 yes\" } ]", "no address yet"),
    // Names that are looked up or given.
    ("end", "expect: [ { probe: dns/.., from: h1, to: h2, verdict: yes } ]", "`..` is no name to look up"),
    (
        "end",
        "expect: [ { probe: dns/a..b, from: h1, to: h2, verdict: yes } ]",
        "`a..b` is no name to look up",
    ),
    ("end", "expect: [ { probe: dns/-a, from: h1, to: h2, verdict: yes } ]", "`-a` is no name to look up"),
    ("containers", ", bad: { host: h1, hostname: \"a\\nb\" }", "cannot be a host name"),
    ("containers", ", bad: { host: h1, hostname: ../etc }", "cannot be a host name"),
    (
        "containers",
        ", bad: { host: h1, networks: { net: { aliases: [\"a b\"] } } }",
        "`a b` cannot be an alias",
    ),
    ("containers", ", bad: { host: h1, links: [\"c1:..\"] }", "is no link"),
    ("networks", ", bad: { hosts: [h1], name: ../x }", "`../x` cannot be the name of a network"),
    ("networks", ", bad: { hosts: [h1], name: \"a\\nb\" }", "cannot be the name of a network"),
    ("networks", ", bad: { hosts: [h1], name: \"\" }", "cannot be the name of a network"),
    (
        "hosts",
        ", bad: { lan: { address: 192.168.56.9, interface: eth%d } }",
        "cannot be the name of an interface",
    ),
    (
        "hosts",
        ", bad: { lan: { address: 192.168.56.9, interface: \"e\\u202eth\" } }",
        "nothing that cannot be seen",
    ),
    // Images.
    ("containers", ", bad: { host: h1, image: \"a:b:c\" }", "is no name of an image"),
    ("containers", ", bad: { host: h1, image: A }", "`A` is no name of an image"),
    ("containers", ", bad: { host: h1, image: a//b }", "is no name of an image"),
    ("containers", ", bad: { host: h1, image: ../b }", "is no name of an image"),
    ("containers", ", bad: { host: h1, image: \"a:\" }", "is no name of an image"),
    ("containers", ", bad: { host: h1, image: a@sha256:12 }", "is no name of an image"),
    ("containers", ", bad: { host: h1, image: \"a\\nb\" }", "is no name of an image"),
    ("end", "swarm: {}\nservices: { bad: { image: a__.b } }", "is no name of an image"),
    (
        "end",
        "swarm: {}\nservices: { web: {} }\nsteps: [ { do: 'update web { image: \":x\" }' } ]",
        "is no name of an image",
    ),
    (
        "end",
        "images: { \"a@sha256:00000000000000000000000000000000\": { debian: redis } }",
        "cannot be the name of an image",
    ),
    // Control characters.
    ("containers", ", bad: { host: h1, command: [\"a\\0b\"] }", "control character, U+0000"),
    ("containers", ", bad: { host: h1, command: \"echo \\e[2J\" }", "control character, U+001B"),
    ("containers", ", bad: { host: h1, environment: { A: \"a\\0b\" } }", "control character, U+0000"),
    ("containers", ", bad: { host: h1, environment: [ \"A=\\x9b\" ] }", "control character, U+009B"),
    (
        "containers",
        ", bad: { host: h1, environment: { \"A\\nB\": c } }",
        "this key has a control character, U+000A",
    ),
    (
        "containers",
        ", bad: { host: h1, environment: { \"A=B\": c } }",
        "`A=B` cannot be the name of a variable",
    ),
    ("containers", ", bad: { host: h1, environment: { \"\": c } }", "cannot be the name of a variable"),
    ("networks", ", bad: { hosts: [h1], labels: { \"a\\0\": b } }", "this key has a control character"),
    (
        "hosts",
        ", bad: { lan: 192.168.56.9, daemon_json: { data-root: \"/a\\0\" } }",
        "control character, U+0000",
    ),
    (
        "end",
        "swarm: {}\nservices: { web: {} }\nsteps: [ { do: 'update web { command: [\"a\\0\"] }' } ]",
        "control character, U+0000",
    ),
    // What becomes part of a line.
    (
        "hosts",
        ", bad: { lan: 192.168.56.9, sysctls: { net.ipv4.ip_forward: \"1\\n2\" } }",
        "a kernel setting is one line",
    ),
    (
        "networks",
        ", bad: { hosts: [h1], driver_opts: { a: \"1\\n2\" } }",
        "an option of a driver is one line",
    ),
    (
        "end",
        "swarm: {}\nservices: { bad: { deploy: { placement: { constraints: [\"node.role==a\\nb\"] } } } }",
        "a constraint is one line",
    ),
    ("containers", ", bad: { host: h1, cap_add: [\"NET ADMIN\"] }", "`NET ADMIN` is no capability"),
];

#[test]
fn nonsense_is_refused_by_line() {
    let mut wrong = Vec::new();
    for (place, text, said) in NONSENSE {
        // A second mapping of segments would be one key twice.
        let whole = match text.strip_prefix("segments: {") {
            Some(rest) => topology("", "").replacen(
                "segments: {",
                &format!("segments: {{{},", &rest[..rest.len() - 1].trim_end()),
                1,
            ),
            None => topology(place, text),
        };
        let Err(found) = labctl_topology::parse(&whole, "x.yaml") else {
            wrong.push(format!("{text}: taken"));
            continue;
        };
        let line = whole
            .lines()
            .position(|l| l.contains("bad") || l.contains(text.lines().last().unwrap()))
            .unwrap()
            + 1;
        let right = found.mistakes().into_iter().any(|r| {
            let all = r.message + &r.hint.unwrap_or_default();
            all.contains(said) && r.line as usize == line
        });
        let shown = found.render(true);
        if !right {
            wrong.push(format!("{text}: not {said:?} in line {line}, but\n{shown}"));
        }
        let bare = without_emphasis(&shown);
        assert!(!bare.contains(|c| is_hostile(c) && c != '\n'), "{bare:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The text without its emphasis.
fn without_emphasis(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('m').unwrap().1)
}

/// The neighbours of what is refused.
const SENSE: &[(&str, &str)] = &[
    (
        "hosts",
        ", h3: { lan: 192.168.56.9, routes: [ { to: 224.0.0.0/4, dev: lan }, { to: 0.0.0.0/1, via: 192.168.56.3 } ] }",
    ),
    (
        "networks",
        ", n2: { hosts: [h1], name: My_net.2, driver_opts: { com.docker.network.bridge.name: br-n2 } }",
    ),
    (
        "containers",
        ", c2: { host: h1, hostname: c_2.example.org, ports: [\"0.0.0.0:80:80\", \"127.0.0.1:81:80\"] }",
    ),
    (
        "containers",
        ", c2: { host: h1, networks: { net: { aliases: [a.b, _srv] } }, cap_add: [ALL, CAP_NET_RAW] }",
    ),
    (
        "containers",
        ", c2: { host: h1, command: [sh, -c, \"a\\n\\tb\"], environment: { A: \"1\\n2\", B: \"\" } }",
    ),
    ("containers", ", c2: { host: h1, image: nginx }"),
    ("containers", ", c2: { host: h1, image: \"nobody/has:this\" }"),
    ("containers", ", c2: { host: h1, image: \"localhost:5000/a/b__c--d.e:V1.2_x-y\" }"),
    (
        "containers",
        ", c2: { host: h1, image: \"Reg.example.org/a@sha256:00000000000000000000000000000000\" }",
    ),
    ("end", "expect: [ { from: h1, to: [127.0.0.1, 127.0.0.11, 223.255.255.255], verdict: yes } ]"),
    ("end", "expect: [ { probe: dns/tasks.web., from: h1, to: c1, verdict: yes } ]"),
    ("end", "expect: [ { from: h1, to: h2, verdict: yes, source: 127.0.0.1 } ]"),
    ("end", "swarm: { listen_addr: { h1: 0.0.0.0, h2: lan }, default_addr_pool: [10.1.0.0/16] }"),
    ("end", "description: \"a\\tb\\nעברית \\u200f\""),
];

#[test]
fn what_has_a_meaning_is_taken() {
    for (place, text) in SENSE {
        if let Err(found) = labctl_topology::parse(&topology(place, text), "x.yaml") {
            panic!("{text}:\n{}", found.render(false));
        }
    }
}
