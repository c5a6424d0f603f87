//! Frames sent, seen and let out of their tunnel, in real namespaces.

use std::time::{Duration, Instant};

use crate::{
    common,
    net::{Net, pair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use labctl_model::Family;
use labctl_protocol::{
    client::{AgentClient, ClientError, WatchClient},
    messages::{FrameWatch, Netns, Outgoing, ScratchVtep, SeenFrame, SendFrame},
    probe::nonce::{Kind, Nonce},
};
use vxlan::{
    Layer, MacAddr, Payload, Stack,
    port::{Batch, PacketPort, Ready, index_of, wait},
};

const RUN: u64 = 7;
const SOON: Duration = Duration::from_secs(5);

fn mac(net: &Net) -> MacAddr {
    let shown = net.ip("-o link show dev eth0");
    shown.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

fn marked(text: &str, cell: u32) -> String {
    let stack = text.parse::<Stack>().unwrap()
        / Payload(Nonce { kind: Kind::Frame, run: RUN, cell }.bytes().to_vec());
    STANDARD.encode(stack.build().unwrap())
}

fn order(net: &Net, frames: Vec<String>, count: u32, rate: u32) -> SendFrame {
    let (netns, frames) = (Netns::Pid(net.pid()), Outgoing::Built(frames));
    SendFrame { netns, interface: "eth0".into(), frames, count, rate: Some(rate) }
}

async fn watch(client: &AgentClient, nets: &[&Net], needle: Option<&[u8]>) -> WatchClient {
    let endpoints = nets.iter().map(|n| n.endpoint()).collect();
    let needle = needle.map(|n| STANDARD.encode(n));
    client.watch_frames(FrameWatch { endpoints, run: RUN, needle, vxlan_ports: vec![4789] }).await.unwrap()
}

/// What was seen, once there is as much as is waited for.
async fn seen(watch: &mut WatchClient, enough: impl Fn(&[SeenFrame]) -> bool) -> Vec<SeenFrame> {
    let end = Instant::now() + SOON;
    loop {
        let seen = watch.seen().await.unwrap();
        if enough(&seen) {
            return seen;
        }
        assert!(Instant::now() < end, "{seen:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn frames_are_seen_where_they_leave_and_where_they_arrive() {
    let (a, b) = pair();
    let client = common::client().await;
    let mut watch = watch(&client, &[&a, &b], None).await;
    let to_b = marked(&format!("eth(dst={},src=02:00:00:00:00:99)/ip(dst=10.0.0.2)/udp", mac(&b)), 1);
    let to_nobody = marked("eth(dst=02:00:00:00:00:77)/arp(who=10.0.0.2)", 2);
    client.send_frame(order(&a, vec![to_b.clone(), to_nobody], 3, 1000)).await.unwrap();
    let inbound = |seen: &[SeenFrame]| seen.iter().filter(|s| s.inbound).map(|s| s.count).sum::<u64>();
    let seen = seen(&mut watch, |seen| inbound(seen) >= 6).await;
    let find = |endpoint: &str, mark| {
        let all: Vec<_> = seen.iter().filter(|s| s.endpoints == [endpoint] && s.mark == Some(mark)).collect();
        assert_eq!(all.len(), 1, "{endpoint} {mark}: {seen:#?}");
        all[0].clone()
    };
    let arrived = find("b", 1);
    assert_eq!(
        (arrived.inbound, arrived.for_us, arrived.count, arrived.interface.as_str()),
        (true, true, 3, "eth0")
    );
    assert_eq!(arrived.frame, to_b, "as it was sent, spoofed source and all");
    assert!(!find("a", 1).inbound);
    let overheard = find("b", 2);
    assert!(overheard.inbound && !overheard.for_us && overheard.count == 3);
}

#[tokio::test]
async fn a_frame_without_a_mark_is_known_by_its_bytes() {
    let (a, b) = pair();
    let client = common::client().await;
    let mut watch = watch(&client, &[&b], Some(b"by this")).await;
    for text in ["known by this", "and not by that"] {
        let stack: Stack = format!("eth(dst={})/payload(text=\"{text}\")", mac(&b)).parse().unwrap();
        client.send_frame(order(&a, vec![STANDARD.encode(stack.build().unwrap())], 1, 1)).await.unwrap();
    }
    let seen = seen(&mut watch, |seen| !seen.is_empty()).await;
    assert!(seen.len() == 1 && seen[0].mark.is_none() && seen[0].count == 1, "{seen:#?}");
}

#[tokio::test]
async fn a_vtep_lets_out_what_is_for_it_and_goes_with_its_stream() {
    let (a, b) = pair();
    b.ip("addr add fd00::2/64 dev eth0 nodad");
    let client = common::client_in(b.namespace()).await;
    let own = MacAddr([6, 0, 0, 0, 0, 1]);
    let spec =
        ScratchVtep { name: "vtep".into(), vni: 99, port: 4789, mac: own.octets(), family: Family::V4 };
    let vtep = client.vtep(spec.clone()).await.unwrap();
    // The same VNI and port, by IPv6.
    let vtep6 = client.vtep(ScratchVtep { name: "vtep6".into(), family: Family::V6, ..spec }).await.unwrap();
    let mut watch = watch(&client, &[&b], None).await;
    let frame = |ip: &str, udp: &str, vni: u32, mark| {
        let (b, inner) = (mac(&b), format!("eth(dst={own},src=06:00:00:00:00:02)/arp(who=192.0.2.1)"));
        marked(&format!("eth(dst={b})/{ip}/{udp}/vxlan(vni={vni})/{inner}"), mark)
    };
    let (v4, v6) = ("ip(src=10.0.0.1,dst=10.0.0.2)", "ip6(src=fd00::1,dst=fd00::2)");
    let sender = common::client().await;
    let frames = vec![
        frame(v4, "udp", 98, 1),
        frame(v4, "udp", 99, 2),
        frame(v4, "udp(sum=0)", 99, 3),
        // Over IPv6 the kernel insists on a checksum.
        frame(v6, "udp(sum=0)", 99, 4),
        frame(v6, "udp", 99, 5),
    ];
    sender.send_frame(order(&a, frames, 1, 1000)).await.unwrap();
    let is_done =
        |seen: &[SeenFrame]| ["vtep", "vtep6"].iter().all(|vtep| seen.iter().any(|s| s.interface == *vtep));
    let seen = seen(&mut watch, is_done).await;
    let let_out = |vtep: &str| {
        let mut marks: Vec<_> =
            seen.iter().filter(|s| s.interface == vtep).map(|s| (s.mark, s.for_us)).collect();
        marks.sort();
        marks
    };
    assert_eq!(let_out("vtep"), [(Some(2), true), (Some(3), true)], "{seen:#?}");
    assert_eq!(let_out("vtep6"), [(Some(5), true)], "{seen:#?}");
    drop((vtep, vtep6));
    let end = Instant::now() + SOON;
    while b.ip("-o link").contains("vtep") {
        assert!(Instant::now() < end, "the VTEP stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Source port and VNI of a frame in which nothing is wrong.
fn varied(frame: &[u8]) -> Option<(u16, u32)> {
    let stack = Stack::parse(frame).ok()?;
    let [_, _, Layer::Udp(udp), Layer::Vxlan(vxlan), ..] = &stack.layers[..] else { return None };
    assert!(stack.layers.iter().all(|layer| layer.wrong().is_empty()), "{stack}");
    Some((udp.src_port?, vxlan.vni))
}

#[tokio::test]
async fn frames_vary_one_by_one_at_a_rate_and_flat_out() {
    const COUNT: u32 = 5000;
    let (a, b) = pair();
    let client = common::client().await;
    let mark = Layer::from(Payload(Nonce { kind: Kind::Frame, run: RUN, cell: 1 }.bytes().to_vec()));
    let frame =
        format!("eth(dst={})/ip(src=10.0.0.1,dst=10.0.0.2)/udp/vxlan/eth/arp(who=10.3.1.3)/{mark}", mac(&b));
    let order = |rate, vary: &[&str]| {
        let vary = vary.iter().map(ToString::to_string).collect();
        SendFrame {
            frames: Outgoing::Varied { frame: frame.clone(), vary },
            rate,
            ..order(&a, vec![], COUNT, 1)
        }
    };
    for rate in [Some(20_000), None] {
        let port = b.within(|| PacketPort::open(index_of("eth0").unwrap()).unwrap());
        let mut watch = watch(&client, &[&b], None).await;
        let began = Instant::now();
        client.send_frame(order(rate, &["udp.sport=1000..1099", "vxlan.vni=1..3"])).await.unwrap();
        let took = began.elapsed();
        assert!(rate.is_none() || took > Duration::from_millis(200), "{took:?} for 250 ms of frames");
        let inbound = |seen: &[SeenFrame]| seen.iter().filter(|s| s.inbound).map(|s| s.count).sum::<u64>();
        let seen = seen(&mut watch, |seen| inbound(seen) >= u64::from(COUNT)).await;
        assert_eq!((inbound(&seen), watch.missed().is_empty()), (COUNT.into(), true), "{rate:?}");
        let (mut batch, mut got) = (Batch::new(64, 2048), Vec::new());
        while wait(&port, Ready::Receive, Duration::ZERO).unwrap() {
            port.recv_batch(&mut batch).unwrap();
            got.extend(batch.iter().filter_map(|received| varied(received.bytes())));
        }
        let expected: Vec<_> = (0..COUNT).map(|n| (1000 + (n % 100) as u16, 1 + n % 3)).collect();
        assert_eq!(got, expected, "{rate:?}");
    }
    let refused = client.send_frame(order(None, &["udp.sprot"])).await;
    assert!(matches!(refused, Err(ClientError::Refused { why, .. }) if why.contains("sport")));
}

/// What is in no list is told as missed: silence about it would look like a frame that did not come.
#[tokio::test]
async fn more_kinds_than_are_kept_apart_are_told_of() {
    const KEPT: usize = 10_000;
    const COUNT: u32 = 12_000;
    let (a, b) = pair();
    let client = common::client().await;
    let mark = Layer::from(Payload(Nonce { kind: Kind::Frame, run: RUN, cell: 1 }.bytes().to_vec()));
    let frame =
        format!("eth(dst={})/ip(src=10.0.0.1,dst=10.0.0.2)/udp/vxlan/eth/arp(who=10.3.1.3)/{mark}", mac(&b));
    let mut watch = watch(&client, &[&b], None).await;
    let frames = Outgoing::Varied { frame, vary: vec![format!("vxlan.vni=1..{COUNT}")] };
    client.send_frame(SendFrame { frames, ..order(&a, vec![], COUNT, 20_000) }).await.unwrap();
    let end = Instant::now() + SOON;
    loop {
        let seen = watch.seen().await.unwrap();
        let counted: u64 = seen.iter().filter(|s| s.inbound).map(|s| s.count).sum();
        let missed: u64 = watch.missed().values().sum();
        // What the kernel answers, nobody having that port, is of a kind of its own.
        if seen.len() == KEPT && counted + missed >= u64::from(COUNT) {
            break;
        }
        assert!(Instant::now() < end, "{} kinds, {counted} counted, {missed} missed", seen.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_and_what_nobody_waits_for_ends() {
    let (a, b) = pair();
    let client = common::client().await;
    let refusal = async |order: SendFrame| match client.send_frame(order).await {
        Err(ClientError::Refused { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    let long = STANDARD.encode([2; 3000]);
    for rate in [Some(1), None] {
        let order = SendFrame { rate, ..order(&a, vec![long.clone()], 1, 1) };
        assert!(refusal(order).await.contains("a frame of 3000 bytes by eth0"));
    }
    let nowhere = SendFrame { interface: "eth9".into(), ..order(&a, vec![String::new()], 1, 1) };
    assert!(refusal(nowhere).await.contains("no interface eth9"));
    assert!(refusal(order(&a, vec![String::new()], 1, 0)).await.contains("at most"));
    assert!(refusal(order(&a, vec![String::new()], 1_000, 1)).await.contains("at most"));

    let mut watch = watch(&client, &[&b], None).await;
    let slow = order(&a, vec![marked(&format!("eth(dst={})/ip", mac(&b)), 1)], 500, 50);
    let cut = tokio::time::timeout(Duration::from_millis(500), client.send_frame(slow)).await;
    assert!(cut.is_err());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let count = |seen: &[SeenFrame]| seen.iter().map(|s| s.count).sum::<u64>();
    let before = count(&watch.seen().await.unwrap());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(count(&watch.seen().await.unwrap()), before, "it goes on");
    assert!((5..60).contains(&before), "{before}");
}
