//! Peers on a real wire: what they say of each other, of nobody, and of the stand-in.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{net::IpAddr, os::unix::net::UnixStream, time::Duration};

use indexmap::IndexMap;
use ipnet::IpNet;
use labctl_model::{Family, PerFamily, Protocol, Segment};
use labctl_peer::{Config, Peer, Session};
use labctl_protocol::{
    frames::Marks,
    messages::{Outcome, Shot, ShotKind, ShotResult, ShotTarget},
    probe::nonce::{Kind, Nonce},
};
use labctl_wire::{CaptureSpec, LinkState, PortSpec, Transport, Wire};
use vxlan::{Payload, Stack};

const DEADLINE: Duration = Duration::from_millis(600);

fn address(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn v6(last: u8) -> IpAddr {
    format!("fd00::{last:x}").parse().unwrap()
}

fn both(last: u8) -> PerFamily<IpAddr> {
    [address(last), v6(last)].into_iter().collect()
}

fn nets(last: u8) -> PerFamily<IpNet> {
    let (v4, v6) = (IpNet::new(address(last), 24), IpNet::new(v6(last), 64));
    [v4.unwrap(), v6.unwrap()].into_iter().collect()
}

fn wire() -> Wire {
    let lan = Segment {
        subnet: nets(0),
        gateway: both(254),
        mtu: 1500,
        port_security: true,
        outside: vec!["8.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        block: Vec::new(),
        path_mtu: None,
        ra: None,
        mld: false,
    };
    Wire::start(&IndexMap::from([("lan".into(), lan)]), Vec::new()).unwrap()
}

fn name(last: u8) -> String {
    format!("p{last}")
}

fn port(last: u8) -> String {
    format!("p{last}/eth0")
}

async fn plug(wire: &Wire, last: u8) -> Peer {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mac = [2, 0, 0, 0, 0, last];
    let transport = Transport::Connected(theirs);
    wire.add_port(PortSpec { name: port(last), segment: "lan".into(), mac, transport }).await.unwrap();
    let config = Config {
        name: name(last),
        interface: "eth0".into(),
        mac,
        addresses: nets(last),
        gateway: if last < 100 { both(254) } else { PerFamily::default() },
        routes: Vec::new(),
        mtu: 1500,
    };
    Peer::start(config, ours).unwrap()
}

fn shot(cell: u32, kind: ShotKind, to: IpAddr) -> Shot {
    Shot { cell, from: String::new(), kind, size: 0, to: ShotTarget::Address(to), relayed: false }
}

async fn fire(session: &Session, shots: Vec<(ShotKind, IpAddr)>) -> Vec<ShotResult> {
    let shots = (0..).zip(shots).map(|(cell, (kind, to))| shot(cell, kind, to)).collect();
    let mut results = session.fire(shots, DEADLINE).await.unwrap();
    results.sort_by_key(|r| r.cell);
    results
}

fn by(result: &ShotResult) -> Option<&str> {
    match &result.outcome {
        Outcome::Answered { by, .. } => by.as_ref().map(|taker| taker.name.as_str()),
        other => panic!("{other:?}"),
    }
}

fn answered(result: &ShotResult) -> bool {
    matches!(result.outcome, Outcome::Answered { .. })
}

/// Addresses of a family: of a peer, in the outside, and beyond it; and what says that a host is unreachable.
type OfFamily = (fn(u8) -> IpAddr, &'static str, &'static str, (u8, u8));

#[tokio::test]
async fn everything_that_a_shot_can_come_out_as() {
    let families: [OfFamily; 2] =
        [(address, "8.8.8.8", "9.9.9.9", (3, 1)), (v6, "2001:db8::8", "2001:db9::9", (1, 3))];
    let wire = wire();
    let (one, two) = (plug(&wire, 1).await, plug(&wire, 2).await);
    for (run, (at, outside, beyond, (icmp_type, icmp_code))) in (7..).zip(families) {
        let there = two.open(run, vec![(Protocol::Tcp, 80), (Protocol::Udp, 53)]).unwrap();
        let here = one.open(run, Vec::new()).unwrap();
        let (outside, beyond): (IpAddr, IpAddr) = (outside.parse().unwrap(), beyond.parse().unwrap());
        let results = fire(
            &here,
            vec![
                (ShotKind::Icmp, at(2)),
                (ShotKind::Tcp(80), at(2)),
                (ShotKind::Udp(53), at(2)),
                (ShotKind::Tcp(81), at(2)),
                (ShotKind::Udp(54), at(2)),
                (ShotKind::Icmp, at(99)),
                (ShotKind::Icmp, at(254)),
                (ShotKind::Icmp, outside),
                (ShotKind::Tcp(80), outside),
                (ShotKind::Icmp, beyond),
                (ShotKind::Icmp, at(1)),
            ],
        )
        .await;
        assert!([0, 6, 7, 10].iter().all(|n| answered(&results[*n])), "{results:?}");
        assert_eq!((by(&results[1]), by(&results[2])), (Some("p2"), Some("p2")));
        for result in &results[1..3] {
            let Outcome::Answered { by: Some(taker), .. } = &result.outcome else { panic!("{result:?}") };
            assert_eq!(taker.source, at(1));
        }
        for refused in [3, 4] {
            assert_eq!(results[refused].outcome, Outcome::Refused { from: Some(at(2)) });
        }
        assert_eq!(results[5].outcome, Outcome::NeighborFailed { next_hop: Some(at(99)) });
        assert_eq!(results[8].outcome, Outcome::Refused { from: Some(outside) });
        let unreachable = Outcome::Unreachable { from: Some(at(254)), icmp_type, icmp_code };
        assert_eq!(results[9].outcome, unreachable);

        let seen = there.sightings().await.unwrap();
        for cell in [0, 2] {
            let arrived = seen.iter().find(|s| s.cell == Some(cell) && s.inbound && !s.answer).unwrap();
            assert!(arrived.local && arrived.source == at(1) && arrived.endpoint == "p2", "{arrived:?}");
            assert!(seen.iter().any(|s| s.cell == Some(cell) && !s.inbound && s.answer), "{seen:?}");
        }
        let mine = here.sightings().await.unwrap();
        let own_port = results[1].source_port.unwrap();
        let syn =
            |s: &&labctl_protocol::messages::Sighting| s.tcp.as_ref().is_some_and(|t| t.client == own_port);
        assert!(mine.iter().any(|s| syn(&s) && !s.inbound) && seen.iter().any(|s| syn(&s) && s.inbound));
        assert!(
            !mine.iter().any(|s| s.cell == Some(5)),
            "what waits for its neighbour was not seen to leave"
        );
    }
}

/// Whole packets of a size, never in fragments: what fits arrives and is answered by as many bytes, what does not is told
/// at once, and what only the path is too narrow for is silent.
#[tokio::test]
async fn packets_of_a_size() {
    let wire = wire();
    let (one, two) = (plug(&wire, 1).await, plug(&wire, 2).await);
    let _there = two.open(7, vec![(Protocol::Udp, 53)]).unwrap();
    let here = one.open(7, Vec::new()).unwrap();
    let mut frames = wire.capture("lan", CaptureSpec::default()).await.unwrap();
    let sized = |cell, kind, size| Shot { size, ..shot(cell, kind, address(2)) };
    let kinds = [ShotKind::Icmp, ShotKind::Udp(53)];
    let shots = (0..).zip(kinds.iter().flat_map(|k| [1500, 1501, 48].map(|size| (k.clone(), size))));
    let shots = shots.map(|(cell, (kind, size))| sized(cell, kind, size)).collect();
    let mut results = here.fire(shots, DEADLINE).await.unwrap();
    results.sort_by_key(|r| r.cell);
    let too_large = Outcome::Unreachable { from: None, icmp_type: 3, icmp_code: 4 };
    for [fits, larger, least] in [[0, 1, 2], [3, 4, 5]] {
        assert!(answered(&results[fits]) && answered(&results[least]), "{results:?}");
        assert_eq!(results[larger].outcome, too_large);
    }
    assert_eq!(by(&results[3]), Some("p2"));

    // There and back: 14 bytes of Ethernet, and 1500, with the flag that forbids fragments.
    let mut large = 0;
    while large < 4
        && let Ok(Some(frame)) = tokio::time::timeout(DEADLINE, frames.next()).await
    {
        if frame.original_len == 1514 {
            assert_eq!(frame.data[20] & 0xe0, 0x40, "DF alone");
            large += 1;
        }
    }
    assert_eq!(large, 4, "a ping and a datagram, and their answers");
}

#[tokio::test]
async fn one_way_links_are_silent_and_show_how_far_it_came() {
    let wire = wire();
    let (one, two) = (plug(&wire, 1).await, plug(&wire, 2).await);
    let kinds = [ShotKind::Icmp, ShotKind::Tcp(80), ShotKind::Udp(80)];
    let shots = || kinds.iter().map(|k| (k.clone(), address(2))).collect::<Vec<_>>();
    let (here, there) = (one.open(1, Vec::new()).unwrap(), two.open(1, Vec::new()).unwrap());
    // So that each knows the other's MAC, and silence is not ARP's.
    assert!(answered(&fire(&here, vec![(ShotKind::Icmp, address(2))]).await[0]));
    wire.set_link(&port(2), LinkState { from_host: false, to_host: true }).await.unwrap();
    let results = fire(&here, shots()).await;
    assert!(results.iter().all(|r| r.outcome == Outcome::Silent), "{results:?}");
    assert!(there.sightings().await.unwrap().iter().any(|s| s.cell == Some(2) && s.inbound));
    // The next run asks for its neighbours anew.
    let here = one.open(2, Vec::new()).unwrap();
    assert_eq!(
        fire(&here, vec![(ShotKind::Icmp, address(2))]).await[0].outcome,
        Outcome::NeighborFailed { next_hop: Some(address(2)) }
    );
}

#[tokio::test]
async fn what_no_route_leads_to_and_what_has_no_resolver() {
    let wire = wire();
    let lone = plug(&wire, 200).await;
    let session = lone.open(1, Vec::new()).unwrap();
    assert_eq!(
        fire(&session, vec![(ShotKind::Icmp, IpAddr::from([8, 8, 8, 8]))]).await[0].outcome,
        Outcome::NoRoute
    );
    let named = Shot {
        cell: 0,
        from: String::new(),
        kind: ShotKind::Dns,
        size: 0,
        to: ShotTarget::Name("web".into(), Family::V4),
        relayed: false,
    };
    let result = session.fire(vec![named], DEADLINE).await.unwrap().remove(0);
    assert!(matches!(result.outcome, Outcome::Failed { .. }), "{result:?}");
}

/// A session that ends takes its listeners along; the one after it finds nothing of it.
#[tokio::test]
async fn sessions_follow_each_other() {
    let wire = wire();
    let (one, two) = (plug(&wire, 1).await, plug(&wire, 2).await);
    for run in 1..=20 {
        let there = two.open(run, vec![(Protocol::Tcp, 80)]).unwrap();
        let here = one.open(run, Vec::new()).unwrap();
        assert_eq!(by(&fire(&here, vec![(ShotKind::Tcp(80), address(2))]).await[0]), Some("p2"), "run {run}");
        drop(there);
        let closed = fire(&here, vec![(ShotKind::Tcp(80), address(2))]).await.remove(0);
        assert_eq!(closed.outcome, Outcome::Refused { from: Some(address(2)) }, "run {run}");
    }
}

/// A thousand connections at one listener, together with as many datagrams and pings.
#[tokio::test]
async fn a_large_volley_loses_nothing() {
    let wire = wire();
    let (one, two) = (plug(&wire, 1).await, plug(&wire, 2).await);
    let _there = two.open(1, vec![(Protocol::Tcp, 80), (Protocol::Udp, 80)]).unwrap();
    let here = one.open(1, Vec::new()).unwrap();
    let kinds = [ShotKind::Icmp, ShotKind::Tcp(80), ShotKind::Udp(80)];
    let shots = (0..3000).map(|n| shot(n, kinds[n as usize % 3].clone(), address(2))).collect();
    let results = here.fire(shots, Duration::from_secs(20)).await.unwrap();
    assert_eq!(results.iter().filter(|r| answered(r)).count(), 3000);
    assert!(results.iter().filter(|r| r.source_port.is_some()).all(|r| by(r) == Some("p2")));
}

#[tokio::test]
async fn a_peer_whose_port_is_gone_says_so() {
    let wire = wire();
    let one = plug(&wire, 1).await;
    wire.stop().unwrap();
    let gone = async {
        loop {
            match one.open(1, Vec::new()) {
                Ok(session) => drop(session.sightings().await),
                Err(gone) => return gone,
            }
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    assert_eq!(gone.to_string(), "peer `p1` is not on the wire any more");
}

/// A peer receives what its port is sent for its own MAC or a group. The rest comes by and is not for it.
#[tokio::test]
async fn frames_are_sent_and_seen_as_they_are() {
    const RUN: u64 = 7;
    let wire = wire();
    let peers = [plug(&wire, 1).await, plug(&wire, 2).await, plug(&wire, 3).await];
    let mut watches = Vec::new();
    for peer in &peers {
        watches.push(peer.watch(RUN, Marks::new(RUN, None), vec![4789]).await.unwrap());
    }
    for (cell, (run, to)) in
        (0..).zip([(RUN, "02:00:00:00:00:02"), (RUN, "ff:ff:ff:ff:ff:ff"), (8, "ff:ff:ff:ff:ff:ff")])
    {
        let text = format!("eth(src=02:00:00:00:00:01,dst={to})/ip(src=10.0.0.1,dst=10.0.0.99)/udp");
        let mark = Payload(Nonce { kind: Kind::Frame, run, cell }.bytes().to_vec());
        peers[0].send((text.parse::<Stack>().unwrap() / mark).build().unwrap()).await.unwrap();
    }
    let end = std::time::Instant::now() + Duration::from_secs(5);
    let marks = async |n: usize, inbound: bool| {
        let (seen, missed) = watches[n].seen().await.unwrap();
        assert_eq!(missed, 0);
        let mut marks: Vec<_> = seen
            .iter()
            .filter(|s| s.inbound == inbound && s.for_us == inbound)
            .filter_map(|s| s.mark)
            .collect();
        marks.sort_unstable();
        marks
    };
    while marks(1, true).await.len() + marks(2, true).await.len() < 3 {
        assert!(std::time::Instant::now() < end, "what was sent did not arrive");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(marks(0, false).await, [0, 1], "left");
    assert_eq!(marks(0, true).await, [0u32; 0], "nobody is sent what is its own");
    assert_eq!((marks(1, true).await, marks(2, true).await), (vec![0, 1], vec![1]));
}
