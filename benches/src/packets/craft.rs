//! Building and dissecting a VXLAN frame, against scapy.

use std::hint::black_box;
use std::process::Command;

use vxlan::{EthernetFrame, FrameTemplate, Ipv4View, Stack, UdpView, describe};

use super::{FRAME, per_second};
use crate::measure::{RUNS, against_aim, versus};
use crate::need::need;

/// Debian's package is for Debian's interpreter, whatever else is first in PATH.
const PYTHON: &str = "/usr/bin/python3";

/// What a user of scapy writes; prints frames built and frames dissected a second.
const SCAPY: &str = r#"
import sys, time
from scapy.layers.l2 import Ether
from scapy.layers.inet import IP, UDP, ICMP
from scapy.layers.vxlan import VXLAN
def build(i):
    return bytes(Ether(dst="02:00:00:00:00:0b", src="02:00:00:00:00:0a")/IP(src="192.0.2.1", dst="192.0.2.2", id=0)
        /UDP(sport=49152)/VXLAN(vni=4097, flags=8)/Ether(dst="02:42:0a:03:01:03", src="02:42:0a:03:01:01")
        /IP(src="10.3.1.1", dst="10.3.1.3", id=0)/ICMP(id=7, seq=i & 0xffff)/(b"\0" * 28))
def rate(work, least=0.7):
    n, began = 0, time.process_time()
    while time.process_time() - began < least:
        work(n); n += 1
    return n / (time.process_time() - began)
frame = build(1)
print(frame.hex())
print(rate(build), rate(lambda i: Ether(frame)[VXLAN][ICMP].seq))
"#;

fn scapy() -> (Vec<u8>, f64, f64) {
    let output = Command::new(PYTHON).args(["-c", SCAPY]).output().expect("python3 runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let digits = lines.next().unwrap_or_default();
    let frame = digits
        .as_bytes()
        .chunks(2)
        .filter_map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
    let rates = lines.next().and_then(|line| line.split_once(' '));
    let rates = rates.and_then(|(build, read)| Some((build.parse().ok()?, read.parse().ok()?)));
    let (build, read) = rates.unwrap_or_else(|| panic!("scapy: {}", String::from_utf8_lossy(&output.stderr)));
    (frame.collect(), build, read)
}

/// The sequence number inside, by the views that hot paths use.
fn inner_seq(bytes: &[u8]) -> Option<u16> {
    let outer = EthernetFrame::new_checked(bytes).ok()?;
    let ip = Ipv4View::new_checked(outer.payload()).ok()?;
    let udp = UdpView::new_checked(ip.payload()).ok()?;
    let inner = EthernetFrame::new_checked(udp.payload().get(vxlan::proto::vxlan::HEADER_LEN..)?).ok()?;
    let ip = Ipv4View::new_checked(inner.payload()).ok()?;
    Some(vxlan::IcmpView::new_checked(ip.payload()).ok()?.seq())
}

/// Frames built, patched and read a second, on one core.
pub fn craft() {
    need("scapy", &format!("{PYTHON} -c 'import scapy.layers.vxlan'"), "python3-scapy");
    let stack: Stack = FRAME.parse().expect("the frame is one");
    let bytes = stack.build().expect("the frame builds");
    let mut template = FrameTemplate::new(&stack).expect("the frame builds");
    let fields =
        ["vxlan.vni", "ip#2.dst", "icmp.seq"].map(|name| template.field(name).expect("the frame has it"));

    let (mut anew, mut patched, mut layers, mut views, mut lines) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut scapy_builds, mut scapy_reads) = (vec![], vec![]);
    for _ in 0..RUNS {
        let (frame, builds, reads) = scapy();
        assert_eq!(frame, bytes, "both make the same frame");
        scapy_builds.push(builds);
        scapy_reads.push(reads);
        anew.push(per_second(|_| drop(black_box(black_box(&stack).build()))));
        patched.push(per_second(|i| {
            let values = [i & 0xff_ffff, 0x0a03_0000 | i & 0xffff, i & 0xffff];
            for (field, value) in fields.into_iter().zip(values) {
                template.set(field, value).expect("the value fits");
            }
            black_box(template.frame());
        }));
        layers.push(per_second(|_| drop(black_box(Stack::parse(black_box(&bytes))))));
        views.push(per_second(|_| assert!(black_box(inner_seq(black_box(&bytes))).is_some())));
        lines.push(per_second(|_| drop(black_box(describe(black_box(&bytes))))));
    }
    versus("building a VXLAN frame, from layers / scapy", "frames/s", &anew, &scapy_builds);
    versus("building a VXLAN frame, patched in a template / scapy", "frames/s", &patched, &scapy_builds);
    against_aim("building a VXLAN frame, patched in a template", "frames/s", &patched, 10e6);
    versus("dissecting a VXLAN frame, to layers / scapy", "frames/s", &layers, &scapy_reads);
    versus("dissecting a VXLAN frame, by views / scapy", "frames/s", &views, &scapy_reads);
    against_aim("dissecting a VXLAN frame, by views", "frames/s", &views, 10e6);
    versus("dissecting a VXLAN frame, to a line / scapy's layers", "frames/s", &lines, &scapy_reads);
}
