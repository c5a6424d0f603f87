//! Look-ups, as an endpoint's own resolver would make them.

use std::{
    collections::BTreeMap,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    time::{Duration, Instant},
};

use crate::{
    common,
    net::{B, Net},
};
use labctl_model::Family;
use labctl_protocol::messages::{Endpoint, Outcome, ProbeSession, Shot, ShotKind, ShotResult, ShotTarget};
use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord, TYPE, rdata::RData};

const DEADLINE_MS: u32 = 1500;
const WEB: [IpAddr; 2] = [B, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3))];
const WEB_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

/// A name server for a handful of names; it answers the question for `again.lab` only when it is put a second time.
fn serve_names(socket: UdpSocket) {
    let mut buffer = [0; 512];
    let mut asked_again = false;
    while let Ok((n, from)) = socket.recv_from(&mut buffer) {
        let query = Packet::parse(&buffer[..n]).unwrap();
        let id = query.id();
        let name = query.questions[0].qname.to_string();
        let asks_v6 = query.questions[0].qtype == TYPE::AAAA.into();
        // Somebody else's answer, which must be told from ours by its id.
        let stray = Packet::new_reply(id.wrapping_add(1)).build_bytes_vec().unwrap();
        socket.send_to(&stray, from).unwrap();
        let mut reply = query.into_reply();
        reply.set_flags(PacketFlag::RESPONSE);
        let addresses: &[IpAddr] = match name.as_str() {
            "v6.lab" if asks_v6 => &[IpAddr::V6(WEB_V6)],
            "web.lab" => &WEB,
            "again.lab" if asked_again => &WEB[..1],
            "again.lab" => {
                asked_again = true;
                continue;
            }
            "quiet.lab" => continue,
            "broken.lab" => {
                *reply.rcode_mut() = RCODE::ServerFailure;
                &[]
            }
            "v6.lab" => &[],
            _ => {
                *reply.rcode_mut() = RCODE::NameError;
                &[]
            }
        };
        for &address in addresses {
            let data = match address {
                IpAddr::V4(address) => RData::A(address.into()),
                IpAddr::V6(address) => RData::AAAA(address.into()),
            };
            reply.answers.push(ResourceRecord::new(Name::new(&name).unwrap(), CLASS::IN, 5, data));
        }
        socket.send_to(&reply.build_bytes_vec().unwrap(), from).unwrap();
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[tokio::test]
async fn names_resolve_or_say_why_not() {
    let hosts = file("127.0.0.1 localhost\n10.0.0.2 written # not.this\n");
    let resolv = file("search lab\nnameserver 10.0.0.2\noptions ndots:1\n");
    let a = Net::with_files("a", hosts.path(), resolv.path());
    let resolv_none = file("nameserver 10.0.0.9\n");
    let lost = Net::with_files("lost", hosts.path(), resolv_none.path());
    let b = Net::new("b");
    a.link("eth0", "10.0.0.1/24", &b, "eth0", "10.0.0.2/24");
    let server = b.within(|| UdpSocket::bind("10.0.0.2:53").unwrap());
    std::thread::spawn(move || serve_names(server));

    // Its namespace is there, but not its process: beyond the largest process id that there can be.
    let gone = Endpoint { name: "gone".into(), pid: Some(5_000_000), ..a.endpoint() };
    let endpoints = vec![a.endpoint(), b.endpoint(), lost.endpoint(), gone];
    let session = ProbeSession { run: 1, endpoints, listeners: vec![] };
    let mut client = common::client().await.probe(session).await.unwrap();
    let look_up_in = |family, cell, from: &str, kind, name: &str| Shot {
        cell,
        from: from.into(),
        kind,
        size: 0,
        to: ShotTarget::Name(name.into(), family),
        relayed: false,
    };
    let look_up = |cell, from: &str, kind, name: &str| look_up_in(Family::V4, cell, from, kind, name);
    let names = ["web.lab", "web", "written", "nope", "broken", "quiet", "v6", "again", "10.0.0.2"];
    let mut shots: Vec<Shot> =
        (0..).zip(names).map(|(cell, name)| look_up(cell, "a", ShotKind::Dns, name)).collect();
    shots.push(look_up(20, "a", ShotKind::Icmp, "web"));
    shots.push(look_up(21, "a", ShotKind::Udp(9), "written"));
    shots.push(look_up(22, "a", ShotKind::Tcp(9), "nope"));
    shots.push(look_up(23, "lost", ShotKind::Dns, "web.lab"));
    shots.push(look_up(24, "gone", ShotKind::Dns, "web.lab"));
    shots.push(look_up_in(Family::V6, 25, "a", ShotKind::Dns, "v6"));
    // One after another, these alone would take 15 s.
    shots.extend((30..40).map(|cell| look_up(cell, "a", ShotKind::Dns, "quiet")));
    let begin = Instant::now();
    let results = client.fire(shots, DEADLINE_MS).await.unwrap();
    assert!(begin.elapsed() < Duration::from_millis(u64::from(DEADLINE_MS) + 4000), "{:?}", begin.elapsed());
    let results: BTreeMap<u32, ShotResult> = results.into_iter().map(|r| (r.cell, r)).collect();

    let resolved = |cell: u32| match &results[&cell].outcome {
        Outcome::Resolved { .. } => results[&cell].resolved.clone(),
        other => panic!("{cell}: {other:?}"),
    };
    assert_eq!(resolved(0), WEB);
    assert_eq!(resolved(1), WEB, "by the search domain");
    assert_eq!(resolved(2), [B], "from /etc/hosts");
    assert_eq!(resolved(7), [B], "a question is put again");
    assert_eq!(resolved(8), [B]);
    assert_eq!(resolved(25), [IpAddr::V6(WEB_V6)]);
    let why = |cell: u32| match &results[&cell].outcome {
        Outcome::NoName { why } => why.clone(),
        other => panic!("{cell}: {other:?}"),
    };
    assert_eq!(why(3), "NXDOMAIN for nope.lab from 10.0.0.2");
    assert_eq!(why(4), "SERVFAIL for broken.lab from 10.0.0.2");
    assert_eq!(why(5), "no answer from name server 10.0.0.2");
    assert_eq!(why(6), "no IPv4 address for v6.lab from 10.0.0.2");
    assert_eq!(why(22), why(3), "nothing is sent to a name that is none");
    assert!(why(23).contains("10.0.0.9"), "{}", why(23));
    assert!((30..40).all(|cell| why(cell) == why(5)));
    let Outcome::Failed { why: unread } = &results[&24].outcome else { panic!("{:?}", results[&24]) };
    assert!(unread.contains("/proc/5000000"), "{unread}");

    assert!(matches!(results[&20].outcome, Outcome::Answered { .. }), "{:?}", results[&20]);
    assert_eq!((results[&20].address, &results[&20].resolved[..]), (Some(B), &WEB[..]));
    assert_eq!(results[&21].outcome, Outcome::Refused { from: Some(B) });
}
