//! A third reader, tshark, sees in what is built what was asked for, and every checksum right.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use vxlan::{Layer, MacAddr, Stack};

use crate::stacks;

const STACKS: usize = 1000;

/// What tshark is to read: everything else would see itself in random ports and payloads.
const PROTOCOLS: [&str; 18] = [
    "frame",
    "eth",
    "ethertype",
    "vlan",
    "ieee8021ad",
    "arp",
    "ip",
    "ipv6",
    "icmp",
    "icmpv6",
    "tcp",
    "udp",
    "esp",
    "vxlan",
    "vxlan_gpe",
    "data",
    "pkt_comment",
    "_ws.malformed",
];

const OPTIONS: [&str; 8] = [
    "ip.check_checksum:TRUE",
    "ip.defragment:FALSE",
    "tcp.check_checksum:TRUE",
    "tcp.desegment_tcp_streams:FALSE",
    "tcp.relative_sequence_numbers:FALSE",
    "tcp.analyze_sequence_numbers:FALSE",
    "udp.check_checksum:TRUE",
    "esp.enable_null_encryption_decode_heuristic:FALSE",
];

/// tshark's name of a field, and what a layer has in it.
type Column = (&'static str, fn(&Layer) -> Option<String>);

macro_rules! column {
    ($name:literal, $kind:ident($layer:ident) => $value:expr) => {
        ($name, |layer| match layer {
            Layer::$kind($layer) => Some($value.to_string()),
            _ => None,
        })
    };
}

fn mac(mac: Option<MacAddr>) -> MacAddr {
    mac.unwrap()
}

const COLUMNS: [Column; 37] = [
    column!("eth.dst", Ether(eth) => mac(eth.dst)),
    column!("eth.src", Ether(eth) => mac(eth.src)),
    column!("vlan.id", Dot1q(tag) => tag.vid),
    column!("vlan.priority", Dot1q(tag) => tag.pcp),
    column!("arp.opcode", Arp(arp) => arp.operation),
    column!("arp.src.hw_mac", Arp(arp) => mac(arp.sender_mac)),
    column!("arp.src.proto_ipv4", Arp(arp) => arp.sender_ip.unwrap()),
    column!("arp.dst.hw_mac", Arp(arp) => arp.target_mac),
    column!("arp.dst.proto_ipv4", Arp(arp) => arp.target_ip),
    column!("ip.src", Ipv4(ip) => ip.src.unwrap()),
    column!("ip.dst", Ipv4(ip) => ip.dst.unwrap()),
    column!("ip.id", Ipv4(ip) => format!("{:#06x}", ip.id)),
    column!("ip.ttl", Ipv4(ip) => ip.ttl),
    column!("ip.dsfield.dscp", Ipv4(ip) => ip.dscp),
    column!("ip.checksum.status", Ipv4(_ip) => GOOD),
    column!("ipv6.src", Ipv6(ip) => ip.src.unwrap()),
    column!("ipv6.dst", Ipv6(ip) => ip.dst.unwrap()),
    column!("ipv6.hlim", Ipv6(ip) => ip.hop_limit),
    column!("ipv6.flow", Ipv6(ip) => format!("{:#08x}", ip.flow_label)),
    column!("icmp.type", Icmp(icmp) => icmp.icmp_type),
    column!("icmp.code", Icmp(icmp) => icmp.code),
    column!("icmp.checksum.status", Icmp(_icmp) => GOOD),
    column!("icmpv6.type", Icmpv6(icmp) => icmp.icmp_type),
    column!("icmpv6.checksum.status", Icmpv6(_icmp) => GOOD),
    column!("tcp.srcport", Tcp(tcp) => tcp.src_port),
    column!("tcp.dstport", Tcp(tcp) => tcp.dst_port),
    column!("tcp.seq_raw", Tcp(tcp) => tcp.seq),
    column!("tcp.ack_raw", Tcp(tcp) => tcp.ack),
    column!("tcp.window_size_value", Tcp(tcp) => tcp.window),
    column!("tcp.checksum.status", Tcp(_tcp) => GOOD),
    column!("udp.srcport", Udp(udp) => udp.src_port.unwrap()),
    column!("udp.dstport", Udp(udp) => udp.dst_port.unwrap()),
    column!("udp.checksum.status", Udp(_udp) => GOOD),
    column!("esp.spi", Esp(esp) => format!("{:#010x}", esp.spi)),
    column!("esp.sequence", Esp(esp) => esp.seq),
    ("vxlan.vni", |layer| match layer {
        Layer::Vxlan(header) => Some(header.vni.to_string()),
        Layer::Gbp(header) => Some(header.vni.to_string()),
        Layer::Gpe(header) => Some(header.vni.to_string()),
        _ => None,
    }),
    // Shown whatever the flags are.
    ("vxlan.gbp", |layer| match layer {
        Layer::Vxlan(header) => Some(header.reserved1.to_string()),
        Layer::Gbp(header) => Some(header.policy.to_string()),
        _ => None,
    }),
];

/// tshark's word for a checksum that it found right.
const GOOD: u8 = 1;

/// The stack without what tshark looks at in its own way.
fn plain(mut stack: Stack) -> Option<Stack> {
    for layer in &mut stack.layers {
        match layer {
            // Source routes change the destination that it shows.
            Layer::Ipv4(ip) => {
                ip.options.fill(1);
                // Sums in a first fragment it leaves alone.
                ip.mf = false;
            }
            Layer::Arp(arp) => (arp.hardware_type, arp.protocol_type) = (1, 0x0800),
            // Errors quote packets, whose fields would be among the frame's.
            Layer::Icmp(icmp) => (icmp.icmp_type, icmp.code) = (icmp.icmp_type & 8, 0),
            Layer::Icmpv6(icmp) => (icmp.icmp_type, icmp.code) = (128 | icmp.icmp_type & 1, 0),
            // A group policy is the low half of this, and GPE's P flag is not looked at.
            Layer::Vxlan(header) => header.reserved1 &= 0xffff,
            Layer::Gpe(gpe) if gpe.flags & 4 == 0 => return None,
            _ => {}
        }
    }
    Some(stack)
}

fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    // libpcap's format, version 2.4, of Ethernet frames (draft-ietf-opsawg-pcap).
    let mut file = Vec::new();
    for number in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0x4_0000, 1u32] {
        file.extend(number.to_le_bytes());
    }
    for frame in frames {
        let len = frame.len() as u32;
        for number in [0, 0, len, len] {
            file.extend(number.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

fn tshark(config: &std::path::Path, args: &[&str]) -> String {
    let output = Command::new("tshark").env("WIRESHARK_CONFIG_DIR", config).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("tshark: {error}; hint: scripts/setup installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn tshark_agrees() {
    let mut runner = TestRunner::deterministic();
    let strategy = stacks::right(2);
    let random = std::iter::from_fn(|| Some(strategy.new_tree(&mut runner).unwrap().current()));
    let stacks: Vec<Stack> = random.filter_map(plain).take(STACKS).collect();
    let frames: Vec<_> = stacks.iter().map(|stack| stack.build().unwrap()).collect();

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("frames.pcap");
    fs::write(&file, pcap(&frames)).unwrap();
    let all = tshark(dir.path(), &["-G", "protocols"]);
    let names = all.lines().filter_map(|line| line.split('\t').nth(2));
    let disabled =
        names.filter(|name| !PROTOCOLS.contains(name)).fold(String::new(), |list, name| list + name + "\n");
    fs::write(dir.path().join("disabled_protos"), disabled).unwrap();

    let mut args =
        vec!["-r", file.to_str().unwrap(), "-n", "-T", "fields", "-E", "separator=|", "-E", "aggregator=,"];
    args.extend(OPTIONS.iter().flat_map(|option| ["-o", option]));
    args.extend(COLUMNS.iter().flat_map(|(name, _)| ["-e", name]));
    let seen = tshark(dir.path(), &args);
    assert_eq!(seen.lines().count(), STACKS);

    let mut differences = String::new();
    let mut compared = [0; COLUMNS.len()];
    for ((stack, frame), line) in stacks.iter().zip(&frames).zip(seen.lines()) {
        for (index, ((name, of), seen)) in COLUMNS.iter().zip(line.split('|')).enumerate() {
            let built: Vec<_> = stack.layers.iter().filter_map(of).collect();
            compared[index] += built.len();
            if built.join(",") != seen {
                writeln!(
                    differences,
                    "{name}: built {}, seen {seen} in {stack}, {frame:02x?}",
                    built.join(",")
                )
                .unwrap();
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
    // Each is in the stacks often enough to say something.
    for ((name, _), count) in COLUMNS.iter().zip(compared) {
        assert!(count >= 20, "{name}: only {count} to compare");
    }
}
