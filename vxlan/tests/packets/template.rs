//! A patched frame is the frame built anew from the changed stack, byte for byte.

use proptest::collection::vec;
use proptest::prelude::*;
use vxlan::{FrameTemplate, Kind, Layer, MacAddr, Stack, Value, checksum, text};

use crate::stacks;

/// Keys that can vary, per layer; the rest of the text form's keys cannot.
const KEYS: [&str; 20] = [
    "dst", "src", "vid", "smac", "tell", "tmac", "who", "id", "ttl", "flow", "hlim", "seq", "mtu", "sport",
    "dport", "ack", "win", "spi", "vni", "policy",
];

/// The bits of a field, and how its value is written in the text form.
fn written(kind: Kind, key: &str, value: u128) -> (u128, String) {
    let bits = match (kind, key) {
        (Kind::Ether, _) | (Kind::Arp, "smac" | "tmac") => 48,
        (Kind::Ipv6, "src" | "dst") => 128,
        (Kind::Ipv4, "src" | "dst") | (Kind::Arp, _) => 32,
        (Kind::Tcp, "seq" | "ack") | (Kind::Esp, _) => 32,
        (Kind::Dot1q, _) => 12,
        (_, "ttl" | "hlim") => 8,
        (_, "vni") => 24,
        (_, "flow") => 20,
        _ => 16,
    };
    let value = value & u128::MAX >> (128 - bits);
    let text = match bits {
        48 => MacAddr(std::array::from_fn(|i| (value >> (40 - 8 * i)) as u8)).to_string(),
        128 => std::net::Ipv6Addr::from(value).to_string(),
        32 if matches!(kind, Kind::Ipv4 | Kind::Arp) => std::net::Ipv4Addr::from(value as u32).to_string(),
        _ => value.to_string(),
    };
    (value, text)
}

/// The key that an alias stands for.
fn canonical(kind: Kind, key: &'static str) -> &'static str {
    match (kind, key) {
        (Kind::Dot1q, "id") => "vid",
        (Kind::Ipv6, "ttl") => "hlim",
        (_, "mtu") => "seq",
        _ => key,
    }
}

/// The layer with one field set, by way of its text form.
fn with(layer: &Layer, key: &str, text: &str) -> Layer {
    let mut fields: Vec<String> = Vec::new();
    let shown = layer.to_string();
    if let Some((_, inside)) = shown.split_once('(') {
        let inside = inside.strip_suffix(')').unwrap();
        // No layer that has fields to vary has one with a comma in it.
        fields.extend(
            inside.split(',').filter(|field| field.split('=').next() != Some(key)).map(str::to_owned),
        );
    }
    fields.push(format!("{key}={text}"));
    let text = format!("{}({})", layer.kind().name(), fields.join(","));
    text.parse::<Stack>().unwrap().layers.remove(0)
}

/// `name#ordinal` of a layer, as a template wants it.
fn name(stack: &Stack, index: usize) -> String {
    let kind = stack.layers[index].kind();
    let ordinal = stack.layers[..=index].iter().filter(|layer| layer.kind() == kind).count();
    format!("{}#{ordinal}", kind.name())
}

/// Values in which the corner cases of ones' complement are not rare.
fn values() -> impl Strategy<Value = u128> {
    prop_oneof![Just(0), Just(u128::MAX), any::<u16>().prop_map(u128::from), any::<u128>()]
}

/// What a header says of the layer above is not what is there, or bits are set that mean something elsewhere.
fn contradict(layer: &mut Layer, how: u16) {
    let [low, high] = how.to_be_bytes();
    let ethertype = [0x0800, 0x86dd, 0x8100, 0x0806][usize::from(low % 4)];
    let protocol = [6, 17, 4, 41][usize::from(low % 4)];
    match layer {
        Layer::Ether(ether) => ether.ethertype = Some(ethertype),
        Layer::Dot1q(tag) => tag.ethertype = Some(ethertype),
        Layer::Ipv4(ip) if high & 1 == 0 => ip.ihl = Some(low % 16),
        Layer::Ipv4(ip) => ip.protocol = Some(protocol),
        Layer::Ipv6(ip) => ip.next_header = Some(protocol),
        Layer::Vxlan(header) => (header.flags, header.reserved1) = (high, (low % 5).into()),
        Layer::Gbp(header) => (header.flags, header.policy) = (high, (low % 5).into()),
        Layer::Gpe(header) => (header.flags, header.next_protocol) = (high, Some(low % 5)),
        _ => {}
    }
}

/// Random stacks, some of them with what can be left out left out, some with contradictions.
fn any_stack() -> impl Strategy<Value = Stack> {
    let which = prop_oneof![stacks::right(2), stacks::any_set(2)];
    let contradictions =
        prop_oneof![Just(vec![None; 32]), vec(prop::option::weighted(0.3, any::<u16>()), 32),];
    (which, vec(any::<bool>(), 32), contradictions).prop_map(|(mut stack, leave_out, contradictions)| {
        for (layer, how) in stack.layers.iter_mut().zip(contradictions) {
            if let Some(how) = how {
                contradict(layer, how);
            }
        }
        for (layer, leave_out) in stack.layers.iter_mut().zip(leave_out) {
            match layer {
                _ if !leave_out => {}
                Layer::Ether(ether) => (ether.dst, ether.src) = (None, None),
                Layer::Arp(arp) => (arp.sender_mac, arp.sender_ip) = (None, None),
                Layer::Ipv4(ip) => ip.src = None,
                Layer::Udp(udp) => udp.src_port = None,
                _ => {}
            }
        }
        stack
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 2000 }))]

    #[test]
    fn patched_is_built_anew(
        mut stack in any_stack(),
        changes in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), values(), any::<bool>()), 1..12),
    ) {
        let mut template = FrameTemplate::new(&stack).unwrap();
        prop_assert_eq!(template.frame(), stack.build().unwrap());
        for (at, which, value, look) in changes {
            let index = at.index(stack.layers.len());
            let layer = &mut stack.layers[index];
            if let Layer::Payload(payload) = layer {
                // Some of its bytes, from anywhere to anywhere.
                let (from, to) = (which.index(payload.0.len()), (value % 81) as usize);
                let range = from.min(to)..from.max(to).min(payload.0.len());
                payload.0[range.clone()].fill(value as u8);
                let new = payload.0[range.clone()].to_vec();
                let field = template.payload(&name(&stack, index), range).unwrap();
                template.set_bytes(field, &new).unwrap();
            } else {
                let kind = layer.kind();
                let known: Vec<_> = KEYS.iter().filter(|key| text::keys(kind).contains(key)).collect();
                let key = *known[which.index(known.len())];
                let (value, text) = written(kind, key, value);
                *layer = with(layer, canonical(kind, key), &text);
                let field = template.field(&format!("{}.{key}", name(&stack, index))).unwrap();
                template.set(field, value).unwrap();
            }
            // Several changes settle as one does.
            if look {
                prop_assert_eq!(template.frame(), stack.build().unwrap(), "{}", stack);
            }
        }
        prop_assert_eq!(template.frame(), stack.build().unwrap(), "{}", stack);
    }
}

/// Where the hash of the outer source port looks at bytes that change only because others do: found by random tests, or
/// by thinking on from those.
#[test]
fn odd_frames_follow_their_flow() {
    // Of VXLAN, whatever its flags: P is no flag of its, and so the last reserved byte no next protocol.
    let doubly_tagged = "eth/dot1q/dot1q/ip(ttl=0)/udp(dport=4789)/vxlan(flags=0x34,reserved1=0x163e01)\
        /eth/ip(dst=0.0.0.1,ttl=TTL)/udp(sport=0,dport=4789)/vxlan";
    // Of GPE whose next protocol is not what is there.
    let gpe = "eth/ip/udp/gpe(next=ip)/eth/ip(dst=0.0.0.1,ttl=TTL)/udp(sport=0)";
    // Of an IP header whose length nobody believes: all bytes count, those of two checksums included.
    let unread = "eth/ip/udp/vxlan/eth/ip(ihl=3,ttl=TTL)/udp(sport=0)";
    // A protocol number that promises ports where there is a checksum.
    let no_ports = "eth/ip/udp/vxlan/eth/ip(proto=17)/icmp(seq=TTL)";
    // A flow in a flow, both ports filled in.
    let nested = "eth/ip/udp/gpe(next=nsh)/eth/ip/udp/vxlan/eth/ip(proto=6)/icmp(seq=TTL)";
    for text in [doubly_tagged, gpe, unread, no_ports, nested] {
        let with = |value: u8| text.replace("TTL", &value.to_string());
        let (name, key) = if text.contains("icmp") { ("icmp", "seq") } else { ("ip", "ttl") };
        let ordinal = text.split("TTL").next().unwrap().matches(&format!("/{name}")).count();
        let mut frames = template(&with(0));
        let field = frames.field(&format!("{name}#{ordinal}.{key}")).unwrap();
        for value in [1, 0, 255] {
            frames.set(field, value).unwrap();
            let anew: Stack = with(value).parse().unwrap();
            assert_eq!(frames.frame(), anew.build().unwrap(), "{anew}");
        }
    }
}

fn template(text: &str) -> FrameTemplate {
    FrameTemplate::new(&text.parse().unwrap()).unwrap()
}

/// The two zeros of ones' complement: an ICMP message of nothing but zeros has a sum of all ones, no other has.
#[test]
fn nothing_but_zeros() {
    let mut pong = template("ip(src=10.0.0.1,dst=10.0.0.2)/icmp(type=0,seq=1)");
    let seq = pong.field("icmp.seq").unwrap();
    for value in [0, 0xffff, 1, 0, 0xffff, 0u16] {
        pong.set(seq, value).unwrap();
        let anew = format!("ip(src=10.0.0.1,dst=10.0.0.2)/icmp(type=0,seq={value})");
        assert_eq!(pong.frame(), anew.parse::<Stack>().unwrap().build().unwrap(), "{value}");
    }
    // UDP: a sum that comes out as zero is sent as ones.
    let mut datagram = template("ip(src=10.0.0.1,dst=10.0.0.2)/udp(sport=0,dport=2)");
    let port = datagram.field("udp.sport").unwrap();
    let sum = u16::from_be_bytes([datagram.frame()[26], datagram.frame()[27]]);
    datagram.set(port, sum).unwrap();
    assert_eq!(datagram.frame()[26..28], [0xff, 0xff]);
    datagram.set(port, 0u16).unwrap();
    assert_eq!(datagram.frame()[26..28], sum.to_be_bytes());
}

/// All 2^16 sequence numbers, all sums.
#[test]
fn every_sequence_number() {
    let text = |seq| format!("eth/ip(src=10.0.0.1,dst=10.0.0.2)/udp/vxlan(vni=5)/eth/ip/icmp(seq={seq})");
    let mut frames = template(&text(0));
    let seq = frames.field("icmp.seq").unwrap();
    for value in (0..=u16::MAX).step_by(if cfg!(miri) { 4093 } else { 1 }) {
        frames.set(seq, value).unwrap();
        // Against a sum over all, as building anew 65,536 times takes its time.
        let frame = frames.frame();
        assert_eq!(checksum::of(&frame[84..]), 0);
        assert_eq!(frame[90..92], value.to_be_bytes());
        if value % 1021 == 0 {
            assert_eq!(frame, text(value).parse::<Stack>().unwrap().build().unwrap());
        }
    }
}

#[test]
fn errors_name_the_field() {
    let mut frames = template("eth/dot1q/ip/udp(sum=0)/vxlan/eth/arp");
    let mut fails = |name: &str| frames.field(name).unwrap_err().to_string();
    assert_eq!(
        fails("tcp.seq"),
        "no layer \"tcp\" in this stack; hint: there are eth, dot1q, ip, udp, vxlan, eth, arp"
    );
    assert!(fails("eth#3.dst").starts_with("no layer \"eth#3\""));
    assert!(fails("eth#0.dst").starts_with("no layer \"eth#0\""));
    assert!(fails("eth#-1.dst").starts_with("no layer \"eth#-1\""));
    assert_eq!(
        fails("udp.sum"),
        "udp.sum: no such field, or one that cannot vary; hint: there are sport, dport"
    );
    assert_eq!(fails("vxlan"), "vxlan: no such field, or one that cannot vary; hint: there are vni");
    let vid = frames.field("dot1q.vid").unwrap();
    assert_eq!(frames.set(vid, 4096u32).unwrap_err().to_string(), "dot1q.vid: 4096 is more than 4095");
    assert_eq!(
        frames.set_bytes(vid, &[0, 1]).unwrap_err().to_string(),
        "dot1q.vid: 2 bytes for a field of 2, or a field that is no whole bytes"
    );
    let vni = frames.field("vxlan.vni").unwrap();
    assert_eq!(
        frames.set(vni, MacAddr::BROADCAST).unwrap_err().to_string(),
        "vxlan.vni: 281474976710655 is more than 16777215"
    );
    let mut other = template("eth/arp");
    assert_eq!(other.set(vni, 1u8).unwrap_err().to_string(), "a field of another template");
    assert!(other.payload("eth", 0..1).is_err());
    let mut data = template("payload(size=40)");
    assert_eq!(
        data.payload("payload", 39..41).unwrap_err().to_string(),
        "payload: no bytes 39..41 in a payload of 40"
    );
    let all = data.field("payload").unwrap();
    data.set(all, Value::from(u128::MAX)).unwrap();
    assert_eq!(data.frame(), [vec![0; 24], vec![0xff; 16]].concat());
}
