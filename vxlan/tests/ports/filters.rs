//! Filters, judged by the kernel that runs them.

use std::time::Duration;

use vxlan::Stack;
use vxlan::port::{Batch, KernelFilter, Ready, wait};

use crate::net::{self, PATIENCE};

/// Frames by a letter each.
const FRAMES: [(char, &str); 14] = [
    ('a', "eth/arp(who=10.0.0.2)"),
    ('b', "eth/ip(src=10.0.0.1,dst=10.0.0.2)/udp(sport=5,dport=4789)/vxlan(vni=4097)/eth/arp"),
    ('c', "eth/ip(src=10.0.0.1,dst=10.0.0.3)/udp(sport=6,dport=4789)/vxlan(vni=4098,reserved2=0xff)/eth/arp"),
    (
        'd',
        "eth/ip(src=10.0.0.9,dst=10.0.0.2,options=01010101)/udp(sport=5,dport=4789)/vxlan(vni=4097)/eth/arp",
    ),
    ('e', "eth/ip(src=10.0.0.1,dst=10.0.0.2,frag=3,proto=17)/payload(hex=000512b5001a00000800000000100100)"),
    ('f', "eth/ip(src=10.0.0.1,dst=10.0.0.2,mf)/udp(sport=5,dport=4789)/vxlan(vni=4097)/eth/arp"),
    ('g', "eth/ip(src=10.0.0.1,dst=10.0.0.2)/tcp(sport=5,dport=4789)/payload(size=40)"),
    ('h', "eth/ip6(src=2001:db8::1,dst=2001:db8::2)/udp(sport=5,dport=4789)/vxlan(vni=4097)/eth/arp"),
    ('i', "eth/ip6(src=2001:db8::1,dst=2001:db8::3)/icmp6"),
    ('j', "eth/ip(src=10.0.0.1,dst=10.0.0.2)/icmp"),
    ('k', "eth/dot1q(vid=5)/ip(src=10.0.0.1,dst=10.0.0.2)/udp(sport=5,dport=4789)/vxlan(vni=4097)/eth/arp"),
    ('l', "eth/ip(src=10.0.0.1,dst=10.0.0.2)/esp(spi=0x1)/payload(size=40)"),
    // Too short for what is asked.
    ('m', "eth/ip(src=10.0.0.1,dst=10.0.0.2)/udp(sport=5,dport=4789)"),
    ('n', "eth(type=0x800)/payload(size=4)"),
];

#[test]
fn the_kernel_takes_what_the_filter_says() {
    net::cable();
    let (one, two) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let six = "2001:db8::2".parse().unwrap();
    let cases: [(KernelFilter, &str); 14] = [
        (KernelFilter::new(), "abcdefghijklmn"),
        (KernelFilter::nothing(), ""),
        (KernelFilter::new().ethertype(0x0806), "a"),
        (KernelFilter::new().ethertype(0x86dd), "hi"),
        (KernelFilter::new().protocol(1), "j"),
        (KernelFilter::new().protocol(50).from(one), "l"),
        (KernelFilter::new().udp_to(4789), "bcdfhkm"),
        (KernelFilter::new().udp_from(6), "c"),
        (KernelFilter::new().udp_to(4789).vni(4097), "bdfhk"),
        // The byte behind the VNI is not the VNI's.
        (KernelFilter::new().vni(4098), "c"),
        (KernelFilter::new().udp_to(4789).from(one).to(two), "bfkm"),
        (KernelFilter::new().to(six), "h"),
        (KernelFilter::new().to(six).from(one), ""),
        (KernelFilter::new().ethertype(0x0800).udp_to(4789).vni(4097), "bdfk"),
    ];
    let a = net::open("a", None);
    let ports: Vec<_> = cases.iter().map(|(filter, _)| net::open("b", Some(filter))).collect();
    let built = FRAMES.map(|(_, text)| text.parse::<Stack>().unwrap().build().unwrap());
    assert_eq!(a.send_batch(&built).unwrap(), built.len());
    // The port that takes all is done last: what the others get is there by then.
    assert_eq!(net::receive(&ports[0], built.len()), built);
    for (port, (filter, expected)) in ports.iter().zip(&cases).skip(1) {
        let mut batch = Batch::new(64, 2048);
        let seen = if expected.is_empty() {
            assert!(!wait(port, Ready::Receive, Duration::from_millis(20)).unwrap(), "{filter:?}");
            Vec::new()
        } else {
            assert!(wait(port, Ready::Receive, PATIENCE).unwrap(), "{filter:?}");
            port.recv_batch(&mut batch).unwrap();
            batch.iter().map(|received| received.frame().into_owned()).collect()
        };
        let name = |frame: &Vec<u8>| FRAMES[built.iter().position(|known| known == frame).unwrap()].0;
        assert_eq!(seen.iter().map(name).collect::<String>(), **expected, "{filter:?}");
    }
}

#[test]
fn only_so_much_is_kept() {
    net::cable();
    let (a, b) = (net::open("a", None), net::open("b", Some(&KernelFilter::new().keep(20))));
    a.send_batch(&[[2u8; 100]]).unwrap();
    let mut batch = Batch::new(1, 2048);
    assert!(wait(&b, Ready::Receive, PATIENCE).unwrap());
    b.recv_batch(&mut batch).unwrap();
    assert_eq!(batch.iter().next().unwrap().bytes(), [2; 20]);
}
