#![allow(clippy::unwrap_used)]
use super::*;
use crate::{Listener, Station, WireState, advert};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use vxlan::{checksum::Addresses, proto::ethertype, reply};

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

proptest! {
    #[test]
    fn no_frame_panics_and_the_stand_in_never_floods(
        payload in proptest::collection::vec(any::<u8>(), 0..120),
        header in proptest::option::of((any::<u8>(), any::<u8>())),
        kind in prop::sample::select(vec![ethertype::IPV4, ethertype::ARP, ethertype::DOT1Q, 0x86dd, 60]),
        to_all in any::<bool>(),
        group in proptest::option::of((
            prop::sample::select(vec![130u8, 131, 132, 133, 135, 136, 143]),
            prop::sample::select(vec![1u8, 64, 255]),
        )),
    ) {
        let lan = lab::Segment {
            subnet: [net("10.0.0.0/24"), net("fd00::/64")].into_iter().collect(),
            gateway: ["10.0.0.1", "fd00::1"].map(|ip| ip.parse::<IpAddr>().unwrap()).into_iter().collect(),
            mtu: 1500,
            port_security: false,
            outside: vec!["0.0.0.0/0".parse().unwrap()],
            block: ["udp/9", "vxlan", "tcp/80"].iter().map(|f| f.parse().unwrap()).collect(),
            path_mtu: Some(100),
            ra: Some(lab::Advertised::default()),
            mld: true,
        };
        let mut switch = Switch::new(&IndexMap::from([("lan".into(), lan)]), &[]);
        let own = MacAddr([2, 0, 0, 0, 0, 9]);
        let port = switch.add_port("a", "lan", own).unwrap();
        switch.connected(port, false);
        let now = Now { instant: Instant::now(), secs: 0 };
        // Half of the packets have a sound IPv4 header, so that what follows it is looked at as well.
        let payload = match header {
            Some((protocol, ttl)) => {
                reply::ipv4(Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(8, 8, 8, 8), protocol, ttl, &payload)
            }
            None => payload,
        };
        let gateway = gateway_mac(0);
        let dst = if to_all { MacAddr::BROADCAST } else { gateway };
        switch.ingress(port, None, &reply::ethernet(dst, own, None, kind, &payload), now);
        switch.ingress(port, None, &payload, now);
        // Sound messages of ICMPv6 to a group, of which the body alone is odd.
        if let Some((kind, hops)) = group {
            let ends = Addresses::V6 { src: "fe80::9".parse().unwrap(), dst: "ff02::2".parse().unwrap() };
            let message = ends.icmp_message(kind, 0, [0, 0, 0, 9], &payload);
            let packet = reply::ip(ends, 58, hops, &message);
            let to = MacAddr::for_ipv6_multicast("ff02::2".parse().unwrap());
            switch.ingress(port, None, &reply::ethernet(to, own, None, ethertype::IPV6, &packet), now);
        }
        let answers = switch.stats(now).ports["a"].tx_frames;
        prop_assert!(answers <= 3, "{answers}");
    }
}

/// TCP of 2,500 bytes that is to be cut into pieces of 1,000, from one station to another: header and frame.
fn uncut(dst: MacAddr) -> ([u8; offload::HEADER_LEN], Vec<u8>) {
    let text = format!(
        "eth(dst={dst},src=02:00:00:00:00:09)/ip(src=10.0.0.9,dst=10.0.0.1)/tcp(sport=5,dport=80,flags=A)\
         /payload(size=2500)"
    );
    let mut header = [0; offload::HEADER_LEN];
    (header[0], header[1]) = (1, 1);
    for (at, value) in [(4, 1000u16), (6, 34), (8, 16)] {
        header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }
    (header, text.parse::<vxlan::Stack>().unwrap().build().unwrap())
}

/// The lengths of what waits for a port, and whether all its checksums are right.
fn waiting(switch: &mut Switch, port: PortId) -> Vec<(usize, bool)> {
    let mut all = Vec::new();
    let drained = switch.outbox(port).drain(|parts| {
        all.extend(parts.iter().flat_map(|part| part.to_vec()));
        Ok(parts.iter().map(|part| part.len()).sum())
    });
    drained.unwrap();
    let mut frames = Vec::new();
    while let Some((prefix, rest)) = all.split_first_chunk() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*prefix) as usize);
        let eth = EthernetFrame::new_checked(frame).unwrap();
        let sound = vxlan::Ipv4View::new_checked(eth.payload()).is_ok_and(|ip| {
            let tcp = vxlan::TcpView::new_checked(ip.payload());
            ip.checksum_ok() && tcp.is_ok_and(|tcp| tcp.checksum_ok(ip.addresses()))
        });
        frames.push((frame.len(), sound));
        all = rest.to_vec();
    }
    frames
}

#[test]
fn who_takes_no_offloads_gets_what_a_cable_would_carry() {
    let lan = lab::Segment {
        subnet: net("10.0.0.0/24").into(),
        gateway: IpAddr::from([10, 0, 0, 1]).into(),
        mtu: 1500,
        port_security: false,
        outside: vec![],
        block: vec![],
        path_mtu: None,
        ra: None,
        mld: false,
    };
    let mut switch = Switch::new(&IndexMap::from([("lan".into(), lan)]), &[]);
    let port = |switch: &mut Switch, name, last, offloads| {
        let id = switch.add_port(name, "lan", MacAddr([2, 0, 0, 0, 0, last])).unwrap();
        switch.connected(id, offloads);
        id
    };
    let from = port(&mut switch, "a", 9, true);
    let (tap, stream) = (port(&mut switch, "tap", 1, true), port(&mut switch, "stream", 2, false));
    let now = Now { instant: Instant::now(), secs: 0 };
    let (header, frame) = uncut(MacAddr([2, 0, 0, 0, 0, 1]));
    // Its station is not known yet: one port gets it as it is, the other in three pieces.
    assert_eq!(switch.ingress(from, Some(&header), &frame, now), None);
    let stats = switch.stats(now);
    assert_eq!((stats.ports["tap"].tx_frames, stats.ports["stream"].tx_frames), (3, 3));
    assert_eq!((stats.ports["tap"].tx_bytes, stats.ports["stream"].tx_bytes), (2662, 2662));
    assert_eq!(waiting(&mut switch, stream), [(1054, true), (1054, true), (554, true)]);
    let mut bytes = 0;
    let drained = switch.outbox(tap).drain(|parts| {
        let len = parts.iter().map(|part| part.len()).sum();
        bytes += len;
        Ok(len)
    });
    drained.unwrap();
    assert_eq!(bytes, 4 + offload::HEADER_LEN + frame.len());

    // The stand-in is no kernel either: each piece is answered by a reset.
    let (header, frame) = uncut(gateway_mac(0));
    switch.ingress(from, Some(&header), &frame, now);
    assert_eq!(switch.stats(now).segments["lan"].gateway_rx_frames, 3);

    // What makes no sense goes nowhere.
    let mut nonsense = header;
    nonsense[1] = 77;
    switch.ingress(from, Some(&nonsense), &frame, now);
    assert_eq!(switch.stats(now).ports["a"].drops[&DropReason::Malformed], 1);
}

/// A report of MLDv2 with one record of a kind, without sources.
fn report(mac: MacAddr, kind: u8, group: Ipv6Addr) -> Vec<u8> {
    let ends = Addresses::V6 { src: "fe80::b".parse().unwrap(), dst: "ff02::16".parse().unwrap() };
    let record = [&[kind, 0, 0, 0][..], &group.octets()].concat();
    let message = ends.icmp_message(143, 0, [0, 0, 0, 1], &record);
    let to = MacAddr::for_ipv6_multicast("ff02::16".parse().unwrap());
    reply::ethernet(to, mac, None, ethertype::IPV6, &reply::ip(ends, 58, 1, &message))
}

/// A datagram to a group.
fn to_group(mac: MacAddr, group: Ipv6Addr) -> Vec<u8> {
    let ends = Addresses::V6 { src: "fd00:56::3".parse().unwrap(), dst: group };
    let packet = reply::ip(ends, 99, 8, &[0; 24]);
    reply::ethernet(MacAddr::for_ipv6_multicast(group), mac, None, ethertype::IPV6, &packet)
}

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// A segment of IPv6 with MLD snooping and the ports a and b, maybe with a gateway.
fn snooping(gateway: Option<&str>) -> Switch {
    let lan = lab::Segment {
        subnet: net("fd00:56::/64").into(),
        gateway: gateway.map(|ip| ip.parse::<IpAddr>().unwrap()).into_iter().collect(),
        mtu: 1500,
        port_security: false,
        outside: vec![],
        block: vec![],
        path_mtu: None,
        ra: None,
        mld: true,
    };
    let mut switch = Switch::new(&IndexMap::from([("lan".into(), lan)]), &[]);
    for (name, mac) in [("a", A), ("b", B)] {
        let id = switch.add_port(name, "lan", mac).unwrap();
        switch.connected(id, false);
    }
    switch
}

#[test]
fn who_leaves_a_group_is_not_alone_at_its_port() {
    let mut switch = snooping(Some("fd00:56::1"));
    let (a, b) = (A, B);
    let instant = Instant::now();
    let group: Ipv6Addr = "ff05::99".parse().unwrap();
    let mut asked = 0;
    let mut sent = |bytes: &[u8], from, secs| {
        let now = Now { instant, secs };
        let before = switch.stats(now);
        switch.ingress(from, None, bytes, now);
        let after = switch.stats(now);
        asked += after.segments["lan"].gateway_tx_frames - before.segments["lan"].gateway_tx_frames;
        after.ports["b"].tx_frames - before.ports["b"].tx_frames
    };
    let (joins, leaves) = (report(b, 4, group), report(b, 3, group));
    let datagram = to_group(a, group);
    assert_eq!(sent(&joins, 1, 10), 0);
    assert_eq!(sent(&datagram, 0, 10), 1);
    assert_eq!(sent(&leaves, 1, 11), 1, "it is asked who else listens");
    assert_eq!(sent(&datagram, 0, 13), 1, "there is time to say so");
    assert_eq!(sent(&joins, 1, 13), 0);
    assert_eq!(sent(&datagram, 0, 100), 1, "somebody did");
    assert_eq!(sent(&leaves, 1, 101), 1);
    assert_eq!(sent(&leaves, 1, 103), 1, "another one is asked about too");
    assert_eq!(sent(&datagram, 0, 103), 1);
    assert_eq!(sent(&datagram, 0, 104), 0, "but gains the port no time, and nobody answered");
    for secs in 105..108 {
        assert_eq!(sent(&leaves, 1, secs), 0);
    }
    assert_eq!(asked, 3, "nobody is left to be asked about");
}

#[test]
fn without_a_querier_the_first_to_leave_is_the_last() {
    let group: Ipv6Addr = "ff05::99".parse().unwrap();
    // Whether b gets a datagram at these times after it has left, if a querier was heard at a.
    let gets = |query: Option<(u32, u16)>| {
        let mut switch = snooping(None);
        let instant = Instant::now();
        let mut sent = |bytes: &[u8], from, secs| {
            let now = Now { instant, secs };
            let before = switch.stats(now).ports["b"].tx_frames;
            switch.ingress(from, None, bytes, now);
            switch.stats(now).ports["b"].tx_frames - before
        };
        if let Some((secs, vid)) = query {
            let mut frame = advert::query((A, "fe80::a".parse().unwrap()), None);
            if vid != 0 {
                let [high, low] = vid.to_be_bytes();
                frame.splice(12..12, [0x81, 0, high, low]);
            }
            sent(&frame, 0, secs);
        }
        sent(&report(B, 4, group), 1, 300);
        assert_eq!(sent(&to_group(A, group), 0, 300), 1);
        sent(&report(B, 3, group), 1, 301);
        [301, 303, 304].map(|secs| sent(&to_group(A, group), 0, secs))
    };
    assert_eq!(gets(None), [0, 0, 0]);
    assert_eq!(gets(Some((300, 0))), [1, 1, 0], "it asks, and others have 3 s to answer");
    assert_eq!(gets(Some((40, 0))), [0, 0, 0], "it has not asked for 255 s");
    assert_eq!(gets(Some((300, 5))), [0, 0, 0], "it asks in another VLAN");
}

#[test]
fn groups_that_found_no_room_go_to_all() {
    let mut mld = Mld::default();
    let group =
        |n: u32| Ipv6Addr::from(u128::from(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0)) | u128::from(n));
    let ports = |mld: &Mld, n, now| {
        let frame = to_group(MacAddr([2, 0, 0, 0, 0, 1]), group(n));
        mld.ports(&Frame::read(&frame, Offload::default()).unwrap(), now)
    };
    assert_eq!(ports(&mld, 7, 0), Some([].into()));
    for n in 0..4096 {
        mld.join((0, group(n)), 1, 0);
    }
    assert_eq!(ports(&mld, 7, 0), Some([1].into()));
    assert_eq!(ports(&mld, 4999, 0), Some([].into()), "all have found room");
    mld.join((0, group(4096)), 1, 0);
    assert_eq!(ports(&mld, 7, 0), Some([1].into()));
    assert_eq!(ports(&mld, 4096, 0), None, "it was not learned");
    assert_eq!(ports(&mld, 4999, 259), None, "nor would others be");
    assert_eq!(ports(&mld, 4999, 260), Some([].into()), "its report does not count");
    mld.join((0, group(4999)), 2, 260);
    assert_eq!(ports(&mld, 4999, 260), Some([2].into()), "those that have aged made room");
    assert_eq!(ports(&mld, 7, 260), Some([].into()));
}

#[test]
fn another_switch_goes_on_in_its_place() {
    let lan = lab::Segment {
        subnet: net("10.0.0.0/24").into(),
        gateway: Default::default(),
        mtu: 1500,
        port_security: false,
        outside: vec![],
        block: vec!["esp".parse().unwrap()],
        path_mtu: None,
        ra: None,
        mld: true,
    };
    let segments = IndexMap::from([("lan".to_owned(), lan)]);
    let switch = || {
        let mut switch = Switch::new(&segments, &[]);
        for (name, last) in [("a", 1), ("b", 2), ("c", 3)] {
            let id = switch.add_port(name, "lan", MacAddr([2, 0, 0, 0, 0, last])).unwrap();
            switch.connected(id, false);
        }
        switch
    };
    let now = |secs| Now { instant: Instant::now(), secs };
    let frame = |dst, src| reply::ethernet(dst, src, None, 60, &[0; 46]);
    let (a, b) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let mut one = switch();
    one.ingress(1, None, &frame(MacAddr::BROADCAST, b), now(1000));
    one.inject("lan", &frame(a, MacAddr([2, 0, 0, 0, 0, 77])), now(1000)).unwrap();
    one.set_link(2, LinkState { from_host: false, to_host: true });
    one.unblock("lan", None, &None, &None).unwrap();
    one.block("lan", &Block { filter: "udp/53".parse().unwrap(), from: Some("a".into()), to: None }).unwrap();
    let group = "ff05::99".parse().unwrap();
    one.ingress(1, None, &report(b, 4, group), now(1000));
    one.inject("lan", &report(MacAddr([2, 0, 0, 0, 0, 77]), 4, "ff05::98".parse().unwrap()), now(1000))
        .unwrap();
    assert_eq!(one.segments[0].mld.as_ref().unwrap().iter(1000).count(), 2);
    let state = one.save(now(1000));
    let listens = Listener { vid: 0, group, port: "b".into() };
    assert_eq!(state.listeners["lan"], [listens], "what was injected is nobody's NIC");
    let heard = [Station { vid: 0, mac: b.octets(), port: "b".into() }];
    assert_eq!(state.stations["lan"], heard, "what was injected is nobody's NIC");

    let mut two = switch();
    two.restore(&state, now(0)).unwrap();
    assert_eq!(two.save(now(0)), state);
    assert_eq!(two.ingress(0, None, &frame(b, a), now(0)), Some(1), "it knows where b is");
    let foreign = WireState { links: [("d".to_owned(), LinkState::UP)].into(), ..WireState::default() };
    assert!(two.restore(&foreign, now(0)).is_err());
}

#[test]
fn a_block_stops_what_the_stand_in_sends() {
    let answers = |block: &[&str]| {
        let lan = lab::Segment {
            subnet: net("10.0.0.0/24").into(),
            gateway: IpAddr::from([10, 0, 0, 1]).into(),
            mtu: 1500,
            port_security: false,
            outside: vec!["0.0.0.0/0".parse().unwrap()],
            block: block.iter().map(|f| f.parse().unwrap()).collect(),
            path_mtu: None,
            ra: None,
            mld: false,
        };
        let mut switch = Switch::new(&IndexMap::from([("lan".into(), lan)]), &[]);
        let own = MacAddr([2, 0, 0, 0, 0, 9]);
        let port = switch.add_port("a", "lan", own).unwrap();
        switch.connected(port, false);
        let now = Now { instant: Instant::now(), secs: 0 };
        let (ip, gateway) = (IpAddr::from([10, 0, 0, 9]), IpAddr::from([10, 0, 0, 1]));
        switch.ingress(port, None, &reply::who_has(own, ip, gateway).unwrap(), now);
        let text = format!("eth(dst={},src={own})/ip(src={ip},dst=8.8.8.8)/udp(dport=53)", gateway_mac(0));
        switch.ingress(port, None, &text.parse::<vxlan::Stack>().unwrap().build().unwrap(), now);
        switch.stats(now).ports["a"].tx_frames
    };
    assert_eq!(answers(&[]), 2, "to the question, and that the port is closed");
    assert_eq!(answers(&["icmp"]), 1);
}

/// A segment whose gateway is an IPv6 router that says so, and a querier or not.
fn advertising(mld: bool) -> lab::Segment {
    lab::Segment {
        subnet: net("fd00:56::/64").into(),
        gateway: "fd00:56::1".parse::<IpAddr>().unwrap().into(),
        mtu: 1500,
        port_security: false,
        outside: vec![],
        block: vec![],
        path_mtu: None,
        ra: Some(lab::Advertised::default()),
        mld,
    }
}

#[test]
fn who_solicits_too_early_without_an_address_is_answered_later() {
    let mut switch = Switch::new(&IndexMap::from([("lan".into(), advertising(false))]), &[]);
    let port = switch.add_port("a", "lan", A).unwrap();
    switch.connected(port, false);
    let instant = Instant::now();
    let ends = Addresses::V6 { src: Ipv6Addr::UNSPECIFIED, dst: "ff02::2".parse().unwrap() };
    let packet = reply::ip(ends, 58, 255, &ends.icmp_message(133, 0, [0; 4], &[]));
    let to = MacAddr::for_ipv6_multicast("ff02::2".parse().unwrap());
    let solicitation = reply::ethernet(to, A, None, ethertype::IPV6, &packet);
    // The seconds at which advertisements are sent, as the loop of the wire sends them, with a solicitation at one of them.
    let mut said = Vec::new();
    for secs in 0..30 {
        let now = Now { instant, secs };
        let told = |switch: &Switch| switch.stats(now).ports["a"].tx_frames;
        let before = told(&switch);
        if switch.next_wake(now).unwrap() <= instant {
            switch.advertise(now);
        }
        if secs == 1 {
            switch.ingress(port, None, &solicitation, now);
            assert_eq!(switch.next_wake(now).unwrap(), instant + Duration::from_secs(2));
        }
        said.extend((told(&switch) > before).then_some(secs));
    }
    assert_eq!(said, [0, 3, 19], "3 s after the last one, and the next after 16 s more");
}

#[test]
fn a_gateway_says_unasked_what_it_has_to_say() {
    let mut switch = Switch::new(&IndexMap::from([("lan".into(), advertising(true))]), &[]);
    let port = switch.add_port("a", "lan", MacAddr([2, 0, 0, 0, 0, 9])).unwrap();
    switch.connected(port, false);
    let instant = Instant::now();
    let mut said = Vec::new();
    for secs in 0..40 {
        let now = Now { instant, secs };
        let due = switch.next_wake(now).unwrap() <= instant;
        let before = switch.stats(now).ports["a"].tx_frames;
        switch.advertise(now);
        let sent = switch.stats(now).ports["a"].tx_frames - before;
        assert_eq!(due, sent > 0, "at {secs}");
        if sent > 0 {
            said.push((secs, sent));
        }
    }
    // Both at once; advertisements after 16 s each, a query after 31.
    assert_eq!(said, [(0, 2), (16, 1), (31, 1), (32, 1)]);
    let query = advert::query((MacAddr([2, 0, 0, 0, 0, 1]), "fe80::1".parse().unwrap()), None);
    assert_eq!(
        vxlan::describe(&query).split(',').next(),
        Some("02:00:00:00:00:01 > 33:33:00:00:00:01"),
        "{}",
        vxlan::describe(&query)
    );
    let packet = vxlan::IpView::new_checked(&query[14..]).unwrap();
    assert!(packet.is_icmp() && packet.addresses().icmp_checksum_ok(packet.payload()));
    assert_eq!((packet.hops(), packet.payload()[0], packet.payload().len()), (1, 130, 28));
}
