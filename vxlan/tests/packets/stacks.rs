//! Random stacks, all of which read back: addresses and ports are set, no layer follows that its number does not name.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use vxlan::{
    Arp, Dot1q, Esp, Ether, Gbp, Gpe, Icmp, Icmpv6, Ipv4, Ipv6, Layer, MacAddr, Payload, Stack, Tcp,
    TcpFlags, Udp, Vxlan,
};

type Layers = BoxedStrategy<Vec<Layer>>;

/// A frame in which all is right, tunnels in it at most `tunnels` deep.
pub fn right(tunnels: u32) -> impl Strategy<Value = Stack> {
    frame(tunnels).prop_map(Stack::from_iter)
}

/// A frame with lengths and checksums set to anything.
pub fn any_set(tunnels: u32) -> impl Strategy<Value = Stack> {
    let set = (option::of(any::<u16>()), option::of(any::<u16>()));
    (right(tunnels), vec(set, 32)).prop_map(|(mut stack, sets)| {
        for (layer, (sum, len)) in stack.layers.iter_mut().zip(sets) {
            match layer {
                Layer::Ipv4(ip) => {
                    ip.checksum = sum;
                    // A length that fits moves the boundary to the trailer, so these never do.
                    ip.total_len = len.map(|len| if len < 20 { len } else { len | 0x8000 });
                    ip.trailer.clear();
                }
                Layer::Ipv6(ip) => {
                    ip.payload_len = len.map(|len| len | 0x8000);
                    ip.trailer.clear();
                }
                Layer::Udp(udp) => (udp.checksum, udp.len) = (sum, len),
                Layer::Tcp(tcp) => tcp.checksum = sum,
                Layer::Icmp(icmp) => icmp.checksum = sum,
                Layer::Icmpv6(icmp) => icmp.checksum = sum,
                _ => {}
            }
        }
        stack
    })
}

/// Puts strategies of layers on top of each other.
fn over(below: impl Strategy<Value = Layer> + 'static, above: Layers) -> Layers {
    (below, above).prop_map(|(below, above)| [vec![below], above].concat()).boxed()
}

fn nothing() -> Layers {
    Just(Vec::new()).boxed()
}

fn payload() -> Layers {
    vec(any::<u8>(), 1..80).prop_map(|bytes| vec![Payload(bytes).into()]).boxed()
}

fn data() -> Layers {
    prop_oneof![nothing(), payload()].boxed()
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

fn frame(tunnels: u32) -> Layers {
    let above = prop_oneof![
        2 => network(tunnels),
        1 => over(dot1q(), network(tunnels)),
        1 => over(dot1q(), over(dot1q(), network(tunnels))),
    ];
    let known = (mac(), mac()).prop_map(|(dst, src)| ether(dst, src, None));
    let other = (mac(), mac(), prop_oneof![0u16..0x600, Just(0x88cc), Just(0x0800)])
        .prop_map(|(dst, src, ethertype)| ether(dst, src, Some(ethertype)));
    // With nothing above, no number is too strange.
    prop_oneof![8 => over(known, above.boxed()), 1 => over(other, nothing())].boxed()
}

fn ether(dst: MacAddr, src: MacAddr, ethertype: Option<u16>) -> Layer {
    Ether { dst: Some(dst), src: Some(src), ethertype }.into()
}

fn dot1q() -> impl Strategy<Value = Layer> {
    (0u8..8, any::<bool>(), 0u16..4096)
        .prop_map(|(pcp, dei, vid)| Dot1q { pcp, dei, vid, ethertype: None }.into())
}

fn network(tunnels: u32) -> Layers {
    prop_oneof![
        4 => ipv4(tunnels),
        2 => ipv6(tunnels),
        1 => over(arp(), data()),
        1 => payload(),
    ]
    .boxed()
}

fn arp() -> impl Strategy<Value = Layer> {
    (any::<[u16; 3]>(), mac(), any::<[u32; 2]>(), mac()).prop_map(|(numbers, sender, ips, target_mac)| {
        Arp {
            hardware_type: numbers[0],
            protocol_type: numbers[1],
            operation: numbers[2],
            sender_mac: Some(sender),
            sender_ip: Some(ips[0].into()),
            target_mac,
            target_ip: ips[1].into(),
        }
        .into()
    })
}

fn ipv4(tunnels: u32) -> Layers {
    let words = |most| vec(any::<[u8; 4]>(), 0..most).prop_map(|words| words.concat());
    let header = (
        any::<[u32; 2]>(),
        0u8..64,
        0u8..4,
        any::<u16>(),
        any::<[bool; 3]>(),
        any::<u8>(),
        words(11),
        words(3),
    );
    let header = header.prop_map(|(ends, dscp, ecn, id, [reserved, df, mf], ttl, options, trailer)| Ipv4 {
        src: Some(ends[0].into()),
        dst: Some(ends[1].into()),
        dscp,
        ecn,
        id,
        reserved,
        df,
        mf,
        ttl,
        options,
        trailer,
        ..Ipv4::default()
    });
    let fragment =
        (header.clone(), 1u16..8192, any::<u8>()).prop_map(|(header, fragment_offset, protocol)| {
            // 253 is what is filled in, and so read as unset.
            let protocol = Some(protocol).filter(|protocol| *protocol != 253);
            Ipv4 { fragment_offset, protocol, ..header }.into()
        });
    let whole = header.prop_map(Layer::from);
    prop_oneof![
        8 => over(whole.clone(), transport(tunnels, false)),
        1 => over(whole, over(icmp(), data())),
        1 => over(fragment, payload()),
    ]
    .boxed()
}

fn ipv6(tunnels: u32) -> Layers {
    let header = (any::<[u128; 2]>(), any::<u8>(), 0u32..1 << 20, any::<u8>(), vec(any::<u8>(), 0..5));
    let header = header.prop_map(|(ends, traffic_class, flow_label, hop_limit, trailer)| {
        Ipv6 {
            src: Some(ends[0].into()),
            dst: Some(ends[1].into()),
            traffic_class,
            flow_label,
            hop_limit,
            next_header: None,
            payload_len: None,
            trailer,
        }
        .into()
    });
    over(header, transport(tunnels, true))
}

fn transport(tunnels: u32, v6: bool) -> Layers {
    let port = || prop_oneof![0u16..4789, 4791u16..];
    let udp = (any::<u16>(), port()).prop_map(|(from, to)| udp_to(from, to));
    let tunnel = (tunnels > 0).then(|| {
        prop_oneof![
            over(any::<u16>().prop_map(|from| udp_to(from, 4789)), over(vxlan(), inner(tunnels))),
            over(any::<u16>().prop_map(|from| udp_to(from, 4789)), over(gbp(), inner(tunnels))),
            over(any::<u16>().prop_map(|from| udp_to(from, 4790)), gpe(tunnels)),
        ]
        .boxed()
    });
    let icmp6 = if v6 { over(icmpv6(), data()) } else { nothing() };
    let direct = if tunnels > 0 { ipv4(tunnels - 1) } else { nothing() };
    prop_oneof![
        3 => over(udp, data()),
        2 => over(tcp(), data()),
        1 => over((any::<u32>(), any::<u32>()).prop_map(|(spi, seq)| Esp { spi, seq }.into()), data()),
        1 => icmp6,
        1 => direct,
        1 => data(),
        6 => tunnel.unwrap_or_else(nothing),
    ]
    .boxed()
}

fn udp_to(from: u16, to: u16) -> Layer {
    Udp { src_port: Some(from), dst_port: Some(to), ..Udp::default() }.into()
}

fn inner(tunnels: u32) -> Layers {
    prop_oneof![1 => nothing(), 8 => frame(tunnels - 1)].boxed()
}

fn vni() -> std::ops::Range<u32> {
    0..1 << 24
}

fn vxlan() -> impl Strategy<Value = Layer> {
    let strict = vni().prop_map(|vni| Vxlan { vni, ..Vxlan::default() }.into());
    let odd = (vni(), 0u8..0x80, vni(), any::<u8>())
        .prop_map(|(vni, flags, reserved1, reserved2)| Vxlan { vni, flags, reserved1, reserved2 }.into());
    prop_oneof![strict, odd]
}

fn gbp() -> impl Strategy<Value = Layer> {
    (vni(), any::<u16>(), any::<[bool; 2]>(), any::<[u8; 3]>()).prop_map(
        |(vni, policy, [dont_learn, applied], [flags, reserved1, reserved2])| {
            let (flags, reserved1) = (flags | 0x80, reserved1 & !0x48);
            Gbp { vni, policy, dont_learn, applied, flags, reserved1, reserved2 }.into()
        },
    )
}

fn gpe(tunnels: u32) -> Layers {
    let header = |flags: u8, next: Option<u8>| {
        (vni(), any::<u16>(), any::<u8>()).prop_map(move |(vni, reserved1, reserved2)| {
            Gpe { vni, next_protocol: next, flags, reserved1, reserved2 }.into()
        })
    };
    prop_oneof![
        over(header(0x0c, None), frame(tunnels - 1)),
        over(header(0x0c, None), ipv4(tunnels - 1)),
        over(header(0x0d, None), ipv6(tunnels - 1)),
        over(header(0x0c, None), payload()),
        over(header(0x0c, Some(4)), payload()),
        over(header(0x08, Some(200)), frame(tunnels - 1)),
        over(header(0x38, None), nothing()),
    ]
    .boxed()
}

fn icmp() -> impl Strategy<Value = Layer> {
    any::<(u8, u8, u16, u16)>()
        .prop_map(|(icmp_type, code, id, seq)| Icmp { icmp_type, code, id, seq, checksum: None }.into())
}

fn icmpv6() -> impl Strategy<Value = Layer> {
    any::<(u8, u8, u16, u16)>()
        .prop_map(|(icmp_type, code, id, seq)| Icmpv6 { icmp_type, code, id, seq, checksum: None }.into())
}

fn tcp() -> impl Strategy<Value = Layer> {
    let options = vec(any::<[u8; 4]>(), 0..11).prop_map(|words| words.concat());
    (any::<[u16; 4]>(), any::<[u32; 2]>(), 0u8..16, any::<u8>(), options).prop_map(
        |([src_port, dst_port, window, urgent], [seq, ack], reserved, flags, options)| {
            let flags = TcpFlags(flags);
            Tcp { src_port, dst_port, seq, ack, reserved, flags, window, urgent, options, ..Tcp::default() }
                .into()
        },
    )
}
