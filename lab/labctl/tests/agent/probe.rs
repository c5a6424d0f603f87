//! Probe sessions among real namespaces.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    common,
    net::{A, B, Net, pair},
};
use labctl_model::{Family, Protocol};
use labctl_protocol::{
    client::ProbeClient,
    messages::{
        Endpoint, Listener, Netns, Outcome, ProbeSession, Shot, ShotKind, ShotResult, ShotTarget, Sighting,
    },
};

const DEADLINE_MS: u32 = 1000;

async fn session(endpoints: Vec<Endpoint>, listeners: Vec<Listener>) -> ProbeClient {
    let session = ProbeSession { run: rand::random(), endpoints, listeners };
    common::client().await.probe(session).await.unwrap()
}

fn ip(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    [a, b, c, d].into()
}

fn listener(endpoint: &str, protocol: Protocol, port: u16) -> Listener {
    Listener { endpoint: endpoint.into(), protocol, port, families: vec![Family::V4], size: 0 }
}

fn shot(cell: u32, from: &str, kind: ShotKind, to: IpAddr) -> Shot {
    Shot { cell, from: from.into(), kind, size: 0, to: ShotTarget::Address(to), relayed: false }
}

async fn fire(client: &mut ProbeClient, shots: Vec<Shot>) -> BTreeMap<u32, ShotResult> {
    let expected = shots.len();
    let begin = Instant::now();
    let results = client.fire(shots, DEADLINE_MS).await.unwrap();
    let limit = Duration::from_millis(DEADLINE_MS.into()) + Duration::from_secs(6);
    assert!(begin.elapsed() < limit, "one deadline for all, but it took {:?}", begin.elapsed());
    let results: BTreeMap<u32, ShotResult> = results.into_iter().map(|r| (r.cell, r)).collect();
    assert_eq!(results.len(), expected, "one result per shot");
    results
}

fn answered_by(result: &ShotResult) -> Option<&str> {
    match &result.outcome {
        Outcome::Answered { by, .. } => by.as_ref().map(|taker| taker.name.as_str()),
        other => panic!("cell {}: {other:?}", result.cell),
    }
}

fn seen<'a>(all: &'a [Sighting], cell: u32, endpoint: &str) -> Vec<&'a Sighting> {
    all.iter().filter(|s| s.cell == Some(cell) && s.endpoint == endpoint).collect()
}

/// Both directions have windows: if one side only wrote while the other only wrote, both would wait.
#[tokio::test]
async fn results_come_while_shots_are_still_sent() {
    let (a, _b) = pair();
    let mut client = session(vec![a.endpoint()], vec![]).await;
    // Their results are there at once: an address is no name.
    let shots = (1..=50_000).map(|cell| shot(cell, "a", ShotKind::Dns, A)).collect();
    let results = fire(&mut client, shots).await;
    assert!(results.values().all(|r| matches!(r.outcome, Outcome::Failed { .. })));
}

#[tokio::test]
async fn every_outcome_between_neighbours() {
    let (a, b) = pair();
    a.ip("neigh add 10.0.0.66 lladdr 02:00:00:00:00:66 dev eth0");
    let foreign = b.within(|| std::net::TcpListener::bind("0.0.0.0:82").unwrap());
    let listeners = vec![
        listener("b", Protocol::Tcp, 80),
        listener("b", Protocol::Tcp, 82),
        listener("b", Protocol::Udp, 53),
    ];
    let mut client = session(vec![a.endpoint(), b.endpoint()], listeners).await;
    let (nobody, quiet, elsewhere) = (ip(10, 0, 0, 77), ip(10, 0, 0, 66), ip(10, 9, 9, 9));
    let mut shots = vec![
        shot(1, "a", ShotKind::Icmp, B),
        shot(2, "a", ShotKind::Tcp(80), B),
        shot(3, "a", ShotKind::Tcp(81), B),
        shot(4, "a", ShotKind::Tcp(82), B),
        shot(5, "a", ShotKind::Udp(53), B),
        shot(6, "a", ShotKind::Udp(54), B),
        shot(7, "b", ShotKind::Icmp, A),
        shot(8, "b", ShotKind::Icmp, B),
    ];
    let kinds = [ShotKind::Icmp, ShotKind::Tcp(80), ShotKind::Udp(53)];
    for (n, kind) in (0..).zip(kinds) {
        shots.push(shot(10 + n, "a", kind.clone(), nobody));
        shots.push(shot(20 + n, "a", kind.clone(), quiet));
        shots.push(shot(30 + n, "a", kind, elsewhere));
    }
    // One after another, these alone would take 20 s.
    shots.extend((100..120).map(|cell| shot(cell, "a", ShotKind::Udp(53), quiet)));
    let results = fire(&mut client, shots).await;
    let outcome = |cell: u32| results[&cell].outcome.clone();

    for cell in [1, 7, 8] {
        let Outcome::Answered { rtt_us, by: None } = outcome(cell) else { panic!("{:?}", outcome(cell)) };
        assert!((1..1_000_000).contains(&rtt_us), "{rtt_us} µs");
    }
    assert_eq!(answered_by(&results[&2]), Some("b"));
    assert_eq!(outcome(3), Outcome::Refused { from: Some(B) });
    assert_eq!(answered_by(&results[&4]), None, "a listener of somebody else's does not say who it is");
    assert_eq!(answered_by(&results[&5]), Some("b"));
    assert_eq!(outcome(6), Outcome::Refused { from: Some(B) });
    for n in 0..3 {
        assert_eq!(outcome(10 + n), Outcome::NeighborFailed { next_hop: Some(nobody) }, "cell {}", 10 + n);
        assert_eq!(outcome(20 + n), Outcome::Silent, "cell {}", 20 + n);
        assert_eq!(outcome(30 + n), Outcome::NoRoute, "cell {}", 30 + n);
    }
    assert!((100..120).all(|cell| outcome(cell) == Outcome::Silent));
    assert!(results.values().all(|r| r.address.is_some() && r.resolved.is_empty()));
    drop(foreign);

    let all = client.sightings(HashSet::new()).await.unwrap();
    for cell in [1, 5] {
        let at_b = seen(&all, cell, "b");
        assert!(
            at_b.iter().any(|s| s.inbound && s.local && !s.answer && (s.source, s.destination) == (A, B))
        );
        assert!(at_b.iter().any(|s| !s.inbound && !s.local && s.answer && s.interface == "eth0"));
        let at_a = seen(&all, cell, "a");
        assert!(at_a.iter().any(|s| s.inbound && s.local && s.answer && s.interface == "eth0"));
    }
    assert!(seen(&all, 8, "b").iter().any(|s| s.interface == "lo" && s.local));
    assert!(seen(&all, 8, "a").is_empty(), "what stays in b is not seen in a");
    assert!(seen(&all, 20, "a").iter().all(|s| !s.inbound && !s.answer) && !seen(&all, 20, "a").is_empty());
    let brief = client.sightings([5].into()).await.unwrap();
    let receipts: Vec<(&str, bool)> =
        brief.iter().filter(|s| s.cell == Some(5)).map(|s| (&*s.endpoint, s.answer)).collect();
    assert_eq!(receipts, [("b", false), ("b", true)], "who got it and answered, but not the way");
    let others = |of: &[Sighting]| of.iter().filter(|s| s.cell != Some(5)).count();
    assert!(others(&brief) >= others(&all));
    // In order of time within a namespace. Between two of them the kernel's stamps decide, and it begins to stamp some
    // time after it was asked to (net_enable_timestamp is deferred): until then the time of reading has to do.
    let order = |endpoint: &str| -> Vec<(bool, bool)> {
        seen(&all, 1, endpoint).iter().map(|s| (s.inbound, s.answer)).collect()
    };
    assert_eq!(order("a"), [(false, false), (true, true)]);
    assert_eq!(order("b"), [(true, false), (false, true)]);

    let port = results[&2].source_port.unwrap();
    let tcp: Vec<&Sighting> =
        all.iter().filter(|s| s.tcp.as_ref().is_some_and(|t| (t.client, t.server) == (port, 80))).collect();
    assert!(tcp.iter().any(|s| s.endpoint == "b" && s.inbound && s.local && !s.answer));
    assert!(tcp.iter().any(|s| s.endpoint == "a" && s.inbound && s.answer));
    let reset = results[&3].source_port.unwrap();
    let is_reset =
        |s: &&Sighting| s.tcp.as_ref().is_some_and(|t| (t.client, t.server) == (reset, 81)) && s.answer;
    assert!(all.iter().any(|s| is_reset(&s)), "the reset is the answer");
}

#[tokio::test]
async fn a_router_that_refuses_is_named() {
    let (a, b, r) = (Net::new("a"), Net::new("b"), Net::new("r"));
    a.link("eth0", "10.0.0.1/24", &r, "eth0", "10.0.0.254/24");
    a.ip("route add default via 10.0.0.254");
    b.link("eth0", "10.0.4.1/24", &r, "eth1", "10.0.4.254/24");
    b.ip("route add default via 10.0.4.254");
    r.sysctl("net.ipv4.ip_forward", "1");
    // As a host of a lab has it. What a kernel spends on errors to one host is five at once all the same (ip_error in
    // net/ipv4/route.c), and what is late is asked for again: so there are two hosts.
    r.sysctl("net.ipv4.icmp_ratelimit", "0");
    r.ip("route add unreachable 10.1.0.0/16");
    r.ip("route add prohibit 10.2.0.0/16");
    r.ip("route add blackhole 10.3.0.0/16");
    let mut client = session(vec![a.endpoint(), b.endpoint(), r.endpoint()], vec![]).await;
    let mut shots = Vec::new();
    for (n, kind) in (0..).zip([ShotKind::Icmp, ShotKind::Tcp(80), ShotKind::Udp(53)]) {
        let to = |net| ip(10, net, 0, 10 + n as u8);
        shots.push(shot(10 + n, "a", kind.clone(), to(1)));
        shots.push(shot(20 + n, "a", kind, to(3)));
    }
    shots.push(shot(30, "b", ShotKind::Tcp(80), ip(10, 2, 0, 1)));
    shots.push(shot(31, "b", ShotKind::Icmp, ip(10, 9, 0, 1)));
    shots.push(shot(40, "r", ShotKind::Icmp, ip(10, 2, 0, 1)));
    shots.push(shot(41, "r", ShotKind::Udp(9), ip(10, 3, 0, 1)));
    let results = fire(&mut client, shots).await;
    let unreachable = |from, icmp_code| Outcome::Unreachable { from, icmp_type: 3, icmp_code };
    let router = |net| Some(ip(10, 0, net, 254));
    for n in 0..3 {
        assert_eq!(results[&(10 + n)].outcome, unreachable(router(0), 1), "kind {n}");
        assert_eq!(results[&(20 + n)].outcome, Outcome::Silent, "kind {n}");
    }
    assert_eq!(results[&30].outcome, unreachable(router(4), 13));
    assert_eq!(results[&31].outcome, unreachable(router(4), 0));
    // What the own kernel refuses, before anything is sent.
    assert_eq!(results[&40].outcome, unreachable(None, 13));
    assert_eq!(results[&41].outcome, Outcome::NoRoute);
}

#[tokio::test]
async fn a_request_that_arrives_without_an_answer_is_seen_at_its_destination() {
    let (a, b) = pair();
    for net in [&a, &b] {
        for device in ["all", "eth0"] {
            net.sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), "0");
        }
    }
    let link = b.ip("-o link show eth0");
    let mac = link.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    a.ip(&format!("neigh replace 10.0.0.2 lladdr {mac} dev eth0"));
    b.ip("route del 10.0.0.0/24 dev eth0");
    let mut client = session(vec![a.endpoint(), b.endpoint()], vec![listener("b", Protocol::Udp, 7)]).await;
    let results =
        fire(&mut client, vec![shot(1, "a", ShotKind::Icmp, B), shot(2, "a", ShotKind::Udp(7), B)]).await;
    let all = client.sightings(HashSet::new()).await.unwrap();
    for cell in [1, 2] {
        assert_eq!(results[&cell].outcome, Outcome::Silent);
        assert!(
            seen(&all, cell, "b").iter().any(|s| s.inbound && s.local && !s.answer),
            "cell {cell}: {all:?}"
        );
        assert!(!all.iter().any(|s| s.cell == Some(cell) && s.answer));
    }
}

#[tokio::test]
async fn udp_is_answered_from_the_address_that_was_asked() {
    let (a, b) = pair();
    b.ip("addr add 10.0.0.22/24 dev eth0");
    let mut client = session(vec![a.endpoint(), b.endpoint()], vec![listener("b", Protocol::Udp, 7)]).await;
    let results = fire(&mut client, vec![shot(1, "a", ShotKind::Udp(7), ip(10, 0, 0, 22))]).await;
    assert_eq!(answered_by(&results[&1]), Some("b"));
}

#[tokio::test]
async fn endpoints_of_one_namespace_share_what_is_seen() {
    let (a, b) = pair();
    let joiner = Endpoint { name: "joiner".into(), ..b.endpoint() };
    let listeners = vec![listener("b", Protocol::Tcp, 80), listener("joiner", Protocol::Tcp, 80)];
    let mut client = session(vec![a.endpoint(), b.endpoint(), joiner], listeners).await;
    let results = fire(
        &mut client,
        vec![
            shot(1, "a", ShotKind::Icmp, B),
            shot(2, "joiner", ShotKind::Icmp, A),
            shot(3, "a", ShotKind::Tcp(80), B),
        ],
    )
    .await;
    answered_by(&results[&1]);
    answered_by(&results[&2]);
    assert_eq!(answered_by(&results[&3]), Some("b"), "the first that was asked to listen");
    let all = client.sightings(HashSet::new()).await.unwrap();
    for name in ["b", "joiner"] {
        assert!(seen(&all, 1, name).iter().any(|s| s.inbound && s.local), "{name}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_gone_fails_alone() {
    let (a, b) = pair();
    // Beyond the largest process id that there can be.
    let gone = Endpoint { name: "gone".into(), netns: Netns::Pid(5_000_000), pid: None };
    let mut client = session(vec![a.endpoint(), b.endpoint(), gone], vec![]).await;
    assert_eq!(client.absent().keys().collect::<Vec<_>>(), ["gone"]);
    let results =
        fire(&mut client, vec![shot(1, "a", ShotKind::Icmp, B), shot(2, "gone", ShotKind::Icmp, B)]).await;
    answered_by(&results[&1]);
    assert!(matches!(&results[&2].outcome, Outcome::Failed { why } if why.contains("gone")));
}

#[tokio::test]
async fn closing_the_session_closes_its_listeners() {
    let (a, b) = pair();
    let endpoints = vec![a.endpoint(), b.endpoint()];
    let mut first = session(endpoints.clone(), vec![listener("b", Protocol::Tcp, 80)]).await;
    assert_eq!(answered_by(&fire(&mut first, vec![shot(1, "a", ShotKind::Tcp(80), B)]).await[&1]), Some("b"));
    drop(first);
    let mut second = session(endpoints, vec![]).await;
    let end = Instant::now() + Duration::from_secs(5);
    while !matches!(
        fire(&mut second, vec![shot(1, "a", ShotKind::Tcp(80), B)]).await[&1].outcome,
        Outcome::Refused { .. }
    ) {
        assert!(Instant::now() < end, "still somebody listens");
    }
}

/// Fifty endpoints behind a router, every pair by every probe: 7,350 cells.
#[tokio::test]
async fn a_large_matrix_is_probed_at_once() {
    const N: u8 = 50;
    let router = Net::new("router");
    router.sysctl("net.ipv4.ip_forward", "1");
    let nets: Vec<Net> = (0..N)
        .map(|n| {
            let net = Net::new(&format!("n{n}"));
            net.link("eth0", &format!("10.1.{n}.2/24"), &router, &format!("p{n}"), &format!("10.1.{n}.1/24"));
            net.ip(&format!("route add default via 10.1.{n}.1"));
            net
        })
        .collect();
    let names: Vec<String> = nets.iter().map(|n| n.name.clone()).collect();
    let listeners =
        names.iter().flat_map(|n| [listener(n, Protocol::Tcp, 80), listener(n, Protocol::Udp, 53)]).collect();
    let mut endpoints: Vec<Endpoint> = nets.iter().map(Net::endpoint).collect();
    endpoints.push(router.endpoint());
    let begin = Instant::now();
    let mut client = session(endpoints, listeners).await;
    let opened = begin.elapsed();

    let mut shots = Vec::new();
    let mut target = BTreeMap::new();
    for kind in [ShotKind::Icmp, ShotKind::Tcp(80), ShotKind::Udp(53)] {
        for from in 0..N {
            for to in (0..N).filter(|&to| to != from) {
                let cell = shots.len() as u32;
                target.insert(cell, names[usize::from(to)].clone());
                shots.push(shot(cell, &names[usize::from(from)], kind.clone(), ip(10, 1, to, 2)));
            }
        }
    }
    let total = shots.len();
    let begin = Instant::now();
    // Longer than all may take, so that waiting for it in spite of the answers is noticed.
    let results = client.fire(shots, 40_000).await.unwrap();
    let fired = begin.elapsed();
    assert_eq!(results.len(), total);
    for result in &results {
        if let Some(by) = answered_by(result) {
            assert_eq!(by, target[&result.cell]);
        }
    }
    let begin = Instant::now();
    let all = client.sightings(HashSet::new()).await.unwrap();
    let looked = begin.elapsed();
    assert!(fired < Duration::from_secs(20), "everything answers, but it took {fired:?}");
    assert!(
        opened + looked < Duration::from_secs(20),
        "opened in {opened:?}, {} sightings in {looked:?}",
        all.len()
    );
    // TCP carries no cell: those are told by their ports.
    for result in results.iter().filter(|r| r.cell % 97 == 0) {
        let port = result.source_port;
        let arrived = all.iter().any(|s| {
            let its = s.cell == Some(result.cell)
                || s.tcp
                    .as_ref()
                    .is_some_and(|t| Some(t.client) == port && Some(s.destination) == result.address);
            its && s.endpoint == target[&result.cell] && s.inbound && s.local && !s.answer
        });
        assert!(arrived, "cell {} was not seen to arrive", result.cell);
    }
}

/// A link in the middle that carries less than both ends believe, and says nothing: small things pass, large ones do
/// not, and a connection is made that then hangs.
#[tokio::test]
async fn what_is_too_large_for_the_path_is_told_from_what_is_not() {
    let (a, m, b) = (Net::new("a"), Net::new("m"), Net::new("b"));
    a.link("eth0", "10.0.0.1/24", &m, "eth0", "192.0.2.1/32");
    m.link("eth1", "192.0.2.2/32", &b, "eth0", "10.0.0.2/24");
    m.ip("link add br0 type bridge");
    m.ip("link set br0 up");
    for port in ["eth0", "eth1"] {
        // A bridge drops what is larger than the port that it would go out by, in silence.
        m.ip(&format!("link set {port} mtu 1400 master br0"));
    }
    for net in [&a, &b] {
        // On a real wire there is no segment of 64 KiB.
        net.ip("link set eth0 gso_max_segs 1");
    }
    let big = |size| Listener { size, ..listener("b", Protocol::Tcp, 80) };
    let listeners = vec![big(100_000), listener("b", Protocol::Udp, 53)];
    let mut client = session(vec![a.endpoint(), b.endpoint()], listeners).await;
    let sized = |cell, kind, size| Shot { size, ..shot(cell, "a", kind, B) };
    let shots = vec![
        sized(1, ShotKind::Icmp, 1400),
        sized(2, ShotKind::Icmp, 1401),
        sized(3, ShotKind::Icmp, 1501),
        sized(4, ShotKind::Udp(53), 1400),
        sized(5, ShotKind::Udp(53), 1401),
        sized(6, ShotKind::Udp(53), 1501),
        sized(7, ShotKind::Tcp(80), 100_000),
        sized(8, ShotKind::Tcp(81), 100_000),
        shot(9, "a", ShotKind::Icmp, B),
    ];
    let results = fire(&mut client, shots).await;
    let outcome = |cell: u32| results[&cell].outcome.clone();
    assert!(matches!(outcome(1), Outcome::Answered { .. }), "{:?}", outcome(1));
    assert_eq!(outcome(2), Outcome::Silent);
    assert_eq!(answered_by(&results[&4]), Some("b"));
    assert_eq!(outcome(5), Outcome::Silent);
    for own in [3, 6] {
        let refused = Outcome::Unreachable { from: None, icmp_type: 3, icmp_code: 4 };
        assert_eq!(outcome(own), refused, "larger than the own interface takes");
    }
    let Outcome::Stalled { back: 0, of: 100_000, .. } = outcome(7) else { panic!("{:?}", outcome(7)) };
    assert_eq!(outcome(8), Outcome::Refused { from: Some(B) });
    assert!(matches!(outcome(9), Outcome::Answered { .. }));
    let at_b = client.sightings(HashSet::new()).await.unwrap();
    assert!(seen(&at_b, 5, "b").is_empty() && !seen(&at_b, 4, "b").is_empty());
}

#[tokio::test]
async fn a_transfer_comes_back_as_a_whole() {
    let (a, b) = pair();
    let foreign = b.within(|| std::net::TcpListener::bind("0.0.0.0:82").unwrap());
    let big = |port, size| Listener { size, ..listener("b", Protocol::Tcp, port) };
    let mut client = session(vec![a.endpoint(), b.endpoint()], vec![big(80, 3_000_000), big(81, 1)]).await;
    let sized = |cell, port, size| Shot { size, ..shot(cell, "a", ShotKind::Tcp(port), B) };
    let results = fire(&mut client, vec![sized(1, 80, 3_000_000), sized(2, 81, 1), sized(3, 82, 10)]).await;
    assert_eq!(answered_by(&results[&1]), Some("b"));
    assert_eq!(answered_by(&results[&2]), Some("b"));
    // Nobody of the run: it takes what it is sent and says nothing.
    assert!(matches!(results[&3].outcome, Outcome::Stalled { back: 0, of: 10, .. }), "{:?}", results[&3]);
    drop(foreign);
}

#[tokio::test]
async fn ipv6_comes_out_as_ipv4_does() {
    let (a, b) = pair();
    a.add_v6("fd00::1/64", "eth0");
    b.add_v6("fd00::2/64", "eth0");
    let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
    let (there, nobody) = (v6("fd00::2"), v6("fd00::77"));
    let both = |listener| Listener { families: Family::ALL.to_vec(), ..listener };
    let listeners = vec![listener("b", Protocol::Tcp, 80), listener("b", Protocol::Udp, 53)];
    let listeners = listeners.into_iter().map(both).collect();
    let mut client = session(vec![a.endpoint(), b.endpoint()], listeners).await;
    let results = fire(
        &mut client,
        vec![
            shot(1, "a", ShotKind::Icmp, there),
            shot(2, "a", ShotKind::Tcp(80), there),
            shot(3, "a", ShotKind::Udp(53), there),
            shot(4, "a", ShotKind::Tcp(81), there),
            shot(5, "a", ShotKind::Udp(54), there),
            shot(6, "a", ShotKind::Icmp, nobody),
            shot(7, "a", ShotKind::Tcp(80), nobody),
            shot(8, "a", ShotKind::Icmp, v6("fd99::1")),
            Shot { size: 1501, ..shot(9, "a", ShotKind::Udp(53), there) },
            Shot { size: 1500, ..shot(10, "a", ShotKind::Icmp, there) },
        ],
    )
    .await;
    assert!([1, 10].iter().all(|n| matches!(results[n].outcome, Outcome::Answered { .. })), "{results:?}");
    for cell in [2, 3] {
        let Outcome::Answered { by: Some(taker), .. } = &results[&cell].outcome else {
            panic!("{results:?}")
        };
        assert_eq!((taker.name.as_str(), taker.source), ("b", v6("fd00::1")));
    }
    for cell in [4, 5] {
        assert_eq!(results[&cell].outcome, Outcome::Refused { from: Some(there) }, "cell {cell}");
    }
    for cell in [6, 7] {
        assert_eq!(results[&cell].outcome, Outcome::NeighborFailed { next_hop: Some(nobody) }, "cell {cell}");
    }
    assert_eq!(results[&8].outcome, Outcome::NoRoute);
    assert_eq!(results[&9].outcome, Outcome::Unreachable { from: None, icmp_type: 2, icmp_code: 0 });
    let sightings = client.sightings(HashSet::new()).await.unwrap();
    for cell in [1, 3] {
        assert!(seen(&sightings, cell, "b").iter().any(|s| s.inbound && s.local && !s.answer), "cell {cell}");
        assert!(seen(&sightings, cell, "a").iter().any(|s| s.inbound && s.answer), "cell {cell}");
    }
    let begun = |s: &Sighting| s.tcp.as_ref().is_some_and(|t| Some(t.client) == results[&2].source_port);
    assert!(sightings.iter().any(|s| s.endpoint == "b" && s.inbound && begun(s)));
}
