//! The text form: what is written, and what is said of what is wrong.

use vxlan::{Stack, text};

fn error(text: &str) -> String {
    text.parse::<Stack>().unwrap_err().to_string()
}

/// The example of the issue: what a tester types to fake an overlay's ARP.
#[test]
fn an_overlay_arp() {
    let text =
        "eth(dst=02:42:0a:03:01:03)/ip(dst=10.3.1.3)/udp(dport=4789)/vxlan(vni=4097)/eth/arp(who=10.3.1.3)";
    let stack: Stack = text.parse().unwrap();
    assert_eq!(stack.to_string(), text);
    assert_eq!(stack.build().unwrap().len(), 14 + 20 + 8 + 8 + 14 + 28);
}

#[test]
fn written_in_other_ways() {
    for (typed, shown) in [
        (
            " eth ( src = 2:0:0:0:0:1 , type=0x0800 ) / vlan( id = 5 ) ",
            "eth(src=02:00:00:00:00:01,type=0x800)/dot1q(vid=5)",
        ),
        ("ETH()/IPv4(df)", "eth/ip(df)"),
        ("ip(df=true,mf=0,ttl=64)", "ip(df)"),
        ("tcp(flags=as)/raw(hex=00ff)", "tcp(flags=SA)/payload(hex=00ff)"),
        ("tcp(flags=none,win=0x10)", "tcp(flags=none,win=16)"),
        ("icmp(type=8)/payload", "icmp/payload"),
        ("icmp(type=unreachable,code=4,mtu=1400)", "icmp(type=unreachable,code=4,seq=1400)"),
        ("icmp6(type=135)", "icmp6(type=neighbor-solicitation)"),
        ("gpe(next=nsh,vni=0xffffff)", "gpe(vni=16777215,next=nsh)"),
        ("arp(op=2,sha=02:00:00:00:00:01,tpa=10.0.0.1)", "arp(op=reply,who=10.0.0.1,smac=02:00:00:00:00:01)"),
        ("payload(hex=6869)", "payload(text=\"hi\")"),
        ("payload(size=3)", "payload(size=3)"),
        (r#"payload(text="a/b, \"c\")\n\\\0")"#, "payload(hex=612f622c20226322290a5c00)"),
        (r#"payload(text="a/b, \"c\")\n\\")"#, r#"payload(text="a/b, \"c\")\n\\")"#),
    ] {
        let stack: Stack = typed.parse().unwrap();
        assert_eq!(stack.to_string(), shown);
        assert_eq!(shown.parse::<Stack>().unwrap(), stack);
    }
}

#[test]
fn errors_point_at_the_column() {
    for (text, said) in [
        ("", "column 1: the end where a layer's name should be"),
        ("eth/", "column 5: the end where a layer's name should be"),
        ("eth//ip", "column 5: '/' where a layer's name should be"),
        ("eth ip", "column 5: 'i' where / or the end should be"),
        ("eth/vxlam", "column 5: no layer \"vxlam\"; hint: did you mean \"vxlan\"?"),
        (
            "é/ip",
            "column 1: no layer \"é\"; hint: there are eth, dot1q, arp, ip, ip6, icmp, icmp6, tcp, udp, esp, vxlan, gbp, gpe, payload",
        ),
        ("eth(dst", "column 5: eth: dst: needs a value"),
        ("eth(dst=", "column 9: the end where a value should be"),
        ("eth(dst=1)", "column 9: eth: dst: \"1\" is no address such as 02:42:0a:03:01:03"),
        ("eth(dst=ff:ff:ff:ff:ff:ff", "column 26: the end where , or ) should be"),
        ("eth(dst=ff:ff:ff:ff:ff:ff/ip", "column 26: '/' where , or ) should be"),
        ("eth(type=65536)", "column 10: eth: type: \"65536\" is no number from 0 to 65535"),
        ("ip(ttl=-1)", "column 8: ip: ttl: \"-1\" is no number from 0 to 255"),
        ("ip(ttl=+1)", "column 8: ip: ttl: \"+1\" is no number from 0 to 255"),
        ("ip(tll=1)", "column 4: ip has no field \"tll\"; hint: did you mean \"ttl\"?"),
        ("esp(what=1)", "column 5: esp has no field \"what\"; hint: there are spi, seq"),
        ("ip(df=perhaps)", "column 7: ip: df: \"perhaps\" is neither true nor false"),
        ("vxlan(vni=1,vni=2)", "column 13: vxlan: vni is set twice"),
        ("icmp(seq=1,mtu=2)", "column 12: icmp: seq is set twice"),
        ("payload(hex=00,size=3)", "column 16: payload: its bytes is set twice"),
        ("payload(hex=0g)", "column 13: payload: hex: bytes are hex digits, as in 0a1b2c"),
        ("payload(hex=000)", "column 13: payload: hex: an odd number of hex digits"),
        ("payload(text=\"é)", "column 14: no closing quote"),
        ("payload(text=\"é\\x\")", "column 17: 'x' where one of n, r, t, 0, \" and \\ should be"),
        ("tcp(flags=SYN)", "column 11: tcp: flags: \"SYN\" is none and no letters out of FSRPAUEC"),
    ] {
        assert_eq!(error(text), said, "{text}");
    }
    assert_eq!(error(&["eth"; 33].join("/")), "column 129: more than 32 layers");
}

/// Every layer has a name and takes its keys.
#[test]
fn every_key_is_taken() {
    for kind in vxlan::Kind::ALL {
        // Any word is a payload's text.
        for key in text::keys(*kind).iter().filter(|key| **key != "text") {
            let said = error(&format!("{}({key}=?)", kind.name()));
            assert!(said.contains(&format!("{}: {key}: ", kind.name())), "{said}");
        }
        assert_eq!(kind.name().parse::<Stack>().unwrap().layers, [vxlan::Layer::of(*kind)]);
    }
}
