//! What is set is built as it is, and shows when it is read; what is left out is right.

use vxlan::checksum::{self, Addresses};
use vxlan::proto::vxlan::source_port;
use vxlan::{Kind, Layer, Stack, UdpView, describe};

const HEAD: &str = "eth/ip(src=10.0.0.1,dst=10.0.0.2)";

fn build(text: &str) -> Vec<u8> {
    text.parse::<Stack>().unwrap().build().unwrap()
}

fn fails(text: &str) -> String {
    text.parse::<Stack>().unwrap().build().unwrap_err().to_string()
}

#[test]
fn wrong_lengths_and_checksums_are_read_back() {
    for text in [
        "eth/ip(src=10.0.0.1,dst=10.0.0.2,sum=0xdead)/icmp",
        "eth/ip(src=10.0.0.1,dst=10.0.0.2,len=9)/icmp",
        "eth/ip(src=10.0.0.1,dst=10.0.0.2,len=9000)/icmp",
        "eth/ip(src=10.0.0.1,dst=10.0.0.2)/icmp(sum=0xdead)",
        "eth/ip(src=10.0.0.1,dst=10.0.0.2)/tcp(sum=0xdead)",
        "eth/ip(src=10.0.0.1,dst=10.0.0.2)/udp(sport=1,dport=2,sum=0xdead)",
        "eth/ip(src=10.0.0.1,dst=10.0.0.2)/udp(sport=1,dport=2,len=7)",
        "eth/ip(src=10.0.0.1,dst=10.0.0.2)/udp(sport=1,dport=2,len=900)",
        "eth/ip6(src=::1,dst=::2,len=900)/icmp6",
        "eth/ip6(src=::1,dst=::2)/icmp6(sum=0xdead)",
    ] {
        let bytes = build(text);
        let read = Stack::parse(&bytes).unwrap();
        let without_frame = |text: &str| text.split_once('/').unwrap().1.to_owned();
        assert_eq!(without_frame(&read.to_string()), without_frame(text));
        let wrong: Vec<_> = read.layers.iter().flat_map(Layer::wrong).collect();
        assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
        assert!(describe(&bytes).contains(&format!("[bad {}]", wrong[0])), "{}", describe(&bytes));
    }
}

/// The first fragment of a datagram has length and checksum of the whole: they are kept, and not called bad.
#[test]
fn a_first_fragment_is_not_bad() {
    let text =
        format!("{}mf)/udp(sport=1,dport=2,len=3008,sum=0xdead)/payload(size=16)", &HEAD.replace(')', ","));
    let bytes = build(&text);
    let read = Stack::parse(&bytes).unwrap();
    assert!(read.to_string().ends_with("udp(sport=1,dport=2,len=3008,sum=0xdead)/payload(size=16)"));
    assert_eq!(
        describe(&bytes),
        "00:00:00:00:00:00 > 00:00:00:00:00:00, IP 10.0.0.1.1 > 10.0.0.2.2 fragment id 0 at 0+, UDP length 16"
    );
    // The header's own sum is the fragment's.
    let wrong = text.replace("mf", "mf,sum=0x1");
    assert!(describe(&build(&wrong)).contains("[bad sum 0x0001]"));
}

#[test]
fn no_udp_checksum_is_none_and_not_wrong() {
    let bytes = build(&format!("{HEAD}/udp(dport=2,sum=0)/payload(text=\"x\")"));
    assert_eq!(bytes[40..42], [0, 0]);
    let read = Stack::parse(&bytes).unwrap();
    assert!(read.layers.iter().all(|layer| layer.wrong().is_empty()));
    assert!(describe(&bytes).contains("UDP no sum"));
}

/// pnet's own function returns 0 here (libpnet issue 585); zero on the wire would say that there is none.
#[test]
fn a_checksum_of_zero_is_sent_as_ones() {
    let text = |data: u16| format!("{HEAD}/udp(sport=1,dport=2)/payload(hex={data:04x})");
    let ends = Addresses::V4 { src: [10, 0, 0, 1].into(), dst: [10, 0, 0, 2].into() };
    // With the first sum as data, the sum over all comes out as zero.
    let sum = ends.checksum(17, &build(&text(0))[34..], 6);
    let bytes = build(&text(sum));
    assert_eq!(ends.checksum(17, &bytes[34..], 6), 0);
    assert_eq!(bytes[40..42], [0xff, 0xff]);
    assert_eq!(checksum::udp(ends, &bytes[34..]), 0xffff);
    assert!(UdpView::new_checked(&bytes[34..]).unwrap().checksum_ok(ends));
}

#[test]
fn the_source_port_is_the_flows() {
    let port = |inner: &str| {
        let bytes = build(&format!("{HEAD}/udp/vxlan(vni=5)/{inner}"));
        assert_eq!(source_port(Kind::Vxlan, &bytes[42..]), u16::from_be_bytes([bytes[34], bytes[35]]));
        source_port(Kind::Vxlan, &bytes[42..])
    };
    let flow =
        |from: u16, more: &str| port(&format!("eth/ip(src=10.3.1.1,dst=10.3.1.3)/udp(sport={from}{more}"));
    // A flow keeps its port, whatever it sends.
    assert_eq!(flow(7, ")"), flow(7, ")/payload(text=\"data\")"));
    // Flows spread: by port, by address, and frames without IP by address.
    let ports: std::collections::HashSet<_> = (0..1000).map(|from| flow(from, ")")).collect();
    assert!(ports.len() > 900, "{}", ports.len());
    assert!(ports.iter().all(|port| *port >= 49152));
    assert_ne!(port("eth(src=02:00:00:00:00:01)/arp"), port("eth(src=02:00:00:00:00:02)/arp"));
    // Fragments of one datagram go one way though only the first has ports.
    let fragment =
        |fields: &str| port(&format!("eth/ip(src=10.3.1.1,dst=10.3.1.3,proto=17,{fields})/payload(size=64)"));
    assert_eq!(fragment("mf"), fragment("frag=8"));
    // Set, it is as set.
    assert_eq!(build(&format!("{HEAD}/udp(sport=5)/vxlan/eth/arp"))[34..36], [0, 5]);
}

/// Which kind of VXLAN it is says what lies behind the header; P and I say nothing of that, unless it is GPE.
#[test]
fn the_kind_says_what_is_behind() {
    let inner = "eth(src=02:00:00:00:00:01)/ip(src=10.3.1.1,dst=10.3.1.3)/icmp";
    let built = |tunnel: &str| build(&format!("{HEAD}/udp/{tunnel}/{inner}"));
    let port = |tunnel: &str| built(tunnel)[34..36].to_vec();
    let kinds = |tunnel: &str| {
        let stack = Stack::parse(&built(tunnel)).unwrap();
        stack.layers[3..].iter().map(Layer::kind).collect::<Vec<_>>()
    };
    for vxlan in ["vxlan", "vxlan(flags=0)", "vxlan(flags=0x0c,reserved1=1)", "vxlan(flags=4,reserved1=2)"] {
        assert_eq!(port(vxlan), port("vxlan"), "{vxlan}");
        assert_eq!(kinds(vxlan), [Kind::Vxlan, Kind::Ether, Kind::Ipv4, Kind::Icmp], "{vxlan}");
        let line = describe(&built(vxlan));
        assert!(line.ends_with(", IP 10.3.1.1 > 10.3.1.3, ICMP echo-request id 0 seq 0 length 0"), "{line}");
    }
    for gbp in ["gbp(policy=1)", "gbp(policy=1,flags=0x84)"] {
        assert_eq!(port(gbp), port("vxlan"), "{gbp}");
        assert_eq!(kinds(gbp), [Kind::Gbp, Kind::Ether, Kind::Ipv4, Kind::Icmp], "{gbp}");
    }
    // The flow is the same without a frame around it.
    for gpe in ["gpe", "gpe(flags=0)", "gpe(flags=8,next=1)", "gpe(flags=4)"] {
        assert_eq!(port(gpe), port("vxlan"), "{gpe}");
        assert_eq!(kinds(gpe), [Kind::Gpe, Kind::Ether, Kind::Ipv4, Kind::Icmp], "{gpe}");
    }
    let bare = build(&format!("{HEAD}/udp/gpe/ip(src=10.3.1.1,dst=10.3.1.3)/icmp"));
    assert_eq!(bare[34..36], port("vxlan"));
}

#[test]
fn ports_say_what_is_above() {
    let dport = |above: &str| {
        let bytes = build(&format!("{HEAD}/udp{above}"));
        u16::from_be_bytes([bytes[36], bytes[37]])
    };
    assert_eq!([dport("/vxlan"), dport("/gbp"), dport("/gpe"), dport("")], [4789, 4789, 4790, 9]);
}

#[test]
fn errors_name_layer_and_field() {
    assert_eq!(fails("eth/dot1q(vid=4096)"), "layer 2 (dot1q), vid: 4096 is more than 4095");
    assert_eq!(fails("eth/dot1q(pcp=8)"), "layer 2 (dot1q), pcp: 8 is more than 7");
    assert_eq!(fails("vxlan(vni=16777216)"), "layer 1 (vxlan), vni: 16777216 is more than 16777215");
    assert_eq!(fails("eth/ip6(flow=0x100000)"), "layer 2 (ip6), flow: 1048576 is more than 1048575");
    assert_eq!(fails("ip(dscp=64)"), "layer 1 (ip), dscp: 64 is more than 63");
    assert_eq!(
        fails("ip(options=0102)"),
        "layer 1 (ip), options: must be a multiple of 4 bytes; hint: pad with 00"
    );
    assert_eq!(
        fails("eth/udp"),
        "layer 2 (udp), sum: covers the addresses of an IP layer below, and there is none; hint: add one, or set it"
    );
    // Those of the outer frame are not the inner's.
    assert!(fails(&format!("{HEAD}/udp/vxlan/eth/tcp")).starts_with("layer 6 (tcp), sum"));
    let big = "payload(size=40000)/payload(size=40000)";
    assert_eq!(fails(&format!("ip(src=1.1.1.1)/{big}")), "layer 1 (ip), len: 80020 is more than 65535");
    let deep = Stack::from_iter(vec![Layer::of(Kind::Dot1q); 33]);
    assert_eq!(deep.build().unwrap_err().to_string(), "layer 33 (dot1q), layers: 33 is more than 32");
}

#[test]
fn who_sends_is_filled_in_where_left_out() {
    let filled = |text: &str| {
        let mut stack: Stack = text.parse().unwrap();
        let own = ["10.0.0.9", "fe80::9", "fd00::9", "10.0.0.10"].map(|address| address.parse().unwrap());
        stack.fill_source(vxlan::MacAddr([2, 0, 0, 0, 0, 9]), &own);
        stack.to_string()
    };
    assert_eq!(filled("eth/arp(who=10.0.0.1)"), "eth(src=02:00:00:00:00:09)/arp(who=10.0.0.1,tell=10.0.0.9)");
    assert_eq!(
        filled("eth(src=02:00:00:00:00:01)/dot1q(vid=5)/ip(dst=10.0.0.1)/udp/vxlan/eth/ip"),
        "eth(src=02:00:00:00:00:01)/dot1q(vid=5)/ip(src=10.0.0.9,dst=10.0.0.1)/udp/vxlan/eth/ip"
    );
    assert_eq!(filled("eth/ip(src=192.0.2.1)"), "eth(src=02:00:00:00:00:09)/ip(src=192.0.2.1)");
    // Of IPv6, the address that the destination can answer.
    for (dst, src) in
        [("fd00::1", "fd00::9"), ("ff0e::1", "fd00::9"), ("fe80::1", "fe80::9"), ("ff02::1", "fe80::9")]
    {
        let head = "eth(src=02:00:00:00:00:09)";
        assert_eq!(
            filled(&format!("eth/ip6(dst={dst})/udp")),
            format!("{head}/ip6(src={src},dst={dst})/udp")
        );
    }
    let mut lacking: Stack = "eth/ip6(dst=fd00::1)/udp".parse().unwrap();
    lacking.fill_source(vxlan::MacAddr([2, 0, 0, 0, 0, 9]), &[[10, 0, 0, 9].into()]);
    assert_eq!(lacking.to_string(), "eth(src=02:00:00:00:00:09)/ip6(dst=fd00::1)/udp");
}
