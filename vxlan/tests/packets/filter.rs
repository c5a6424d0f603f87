//! Filters over whole stacks.

use proptest::prelude::*;
use vxlan::Stack;
use vxlan::filter::Filter;

const OVERLAY: &str = "eth(dst=02:00:00:00:00:02,src=02:00:00:00:00:01)/ip(src=192.168.56.3,dst=192.168.56.7)\
    /udp(sport=50000)/vxlan(vni=4097)/eth(dst=02:42:0a:03:01:03,src=02:42:0a:03:01:01)\
    /ip(src=10.3.1.1,dst=10.3.1.3)/icmp";

fn meets(filter: &str, frame: &str) -> bool {
    let frame = frame.parse::<Stack>().unwrap().build().unwrap();
    filter.parse::<Filter>().unwrap_or_else(|error| panic!("{filter}: {error}")).matches(&frame)
}

#[test]
fn every_word_means_its_layers() {
    let yes = [
        "eth",
        "ip",
        "udp",
        "vxlan",
        "icmp",
        "vni 4097",
        "host 10.3.1.3",
        "src host 10.3.1.1",
        "dst net 10.3.0.0/16",
        "net 0.0.0.0/0",
        "mac 02:42:0a:03:01:03",
        "src mac 02:00:00:00:00:01",
        "port 4789",
        "udp port 50000",
        "udp dst port 4789",
        "src port 50000",
        "inner icmp",
        "outer udp",
        "outer vxlan",
        "inner host 10.3.1.3",
        "outer host 192.168.56.3",
        "not arp",
        "! arp && udp",
        "arp or udp",
        "(arp or udp) and not (inner udp or bad)",
        "not not vxlan",
    ];
    let no = [
        "arp",
        "tcp",
        "vni 4098",
        "host 10.3.1.4",
        "dst host 10.3.1.1",
        "src net 10.4.0.0/16",
        "vlan 1",
        "dst mac 02:00:00:00:00:01",
        "port 4790",
        "tcp port 4789",
        "src port 4789",
        "inner udp",
        "outer icmp",
        "inner vxlan",
        "outer host 10.3.1.3",
        "inner mac 02:00:00:00:00:02",
        "bad",
        "not vxlan",
        "udp and arp",
        "arp and arp or not udp",
    ];
    for filter in yes {
        assert!(meets(filter, OVERLAY), "{filter}");
    }
    for filter in no {
        assert!(!meets(filter, OVERLAY), "{filter}");
    }
}

#[test]
fn other_layers_have_their_words_too() {
    assert!(meets("arp and host 10.0.0.7", "eth/arp(who=10.0.0.7)"));
    assert!(meets("vlan 10 and host 2001:db8::1", "eth/dot1q(vid=10)/ip6(dst=2001:db8::1)"));
    assert!(meets("net 2001:db8::/32", "eth/ip6(src=2001:db8::9)"));
    assert!(meets("vni 7", "eth/ip/udp/gpe(vni=7)") && meets("vxlan and vni 7", "eth/ip/udp/gbp(vni=7)"));
    assert!(meets("esp", "eth/ip/esp(spi=256)/payload(size=32)"));
    assert!(meets("bad", "eth/ip/udp(sum=0x1234)") && !meets("bad", "eth/ip/udp(sum=0)"));
    assert!("bad".parse::<Filter>().unwrap().matches(&[0; 9]), "cut short");
    assert!(!"inner bad".parse::<Filter>().unwrap().matches(&[0; 9]));
}

#[test]
fn mistakes_are_found_where_they_are() {
    for (filter, error) in [
        ("", "column 1: a filter's word is missing"),
        ("udp and", "column 8: a filter's word is missing"),
        ("vni", "column 4: a VNI is missing; hint: as in 4097"),
        ("vni x", "column 5: \"x\" is not a VNI; hint: as in 4097"),
        ("udp arp", "column 5: `and` or `or` should be here"),
        ("(udp", "column 5: a closing parenthesis is missing"),
        ("udp)", "column 4: there is no parenthesis to close"),
        ("host 10.0.0", "column 6: \"10.0.0\" is not an address; hint: as in 192.168.56.3"),
        ("net 10.0.0.0/33", "column 5: \"10.0.0.0/33\" is not a prefix; hint: as in 10.3.1.0/24"),
        ("dst vni 7", "column 5: `host`, `net`, `mac` or `port` should be here"),
        ("udp src host 10.0.0.1", "column 9: `port` should be here"),
        ("port 70000", "column 6: \"70000\" is not a port; hint: as in 4789"),
        ("src", "column 4: here the filter ends too early"),
    ] {
        assert_eq!(filter.parse::<Filter>().unwrap_err().to_string(), error, "{filter}");
    }
    // Under miri each word takes its time.
    let deep = format!("{}udp", "not ".repeat(if cfg!(miri) { 100 } else { 100_000 }));
    assert!(deep.parse::<Filter>().unwrap_err().problem.contains("64 levels"));
}

proptest! {
    #[test]
    fn no_text_and_no_frame_panics(text in "[a-z0-9 ()!.:/|&é]{0,40}", frame in prop::collection::vec(any::<u8>(), 0..90)) {
        if let Ok(filter) = text.parse::<Filter>() {
            let _ = filter.matches(&frame);
        }
    }

    #[test]
    fn a_filter_reads_back_from_what_it_prints(words in prop::collection::vec(
        prop::sample::select(vec![
            "udp", "not", "(", ")", "and", "or", "vni 7", "inner icmp", "host 10.0.0.1", "net 10.0.0.0/8",
            "tcp src port 80", "bad", "outer mac 02:00:00:00:00:01", "vlan 9",
        ]), 1..12)) {
        if let Ok(filter) = words.join(" ").parse::<Filter>() {
            let shown = filter.to_string();
            prop_assert_eq!(shown.parse::<Filter>().unwrap().to_string(), shown);
        }
    }
}
