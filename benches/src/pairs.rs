//! All pairs of an emulated host's containers: against Mininet's `pingAll`, and both address families against one.

use std::process::Command;

use labctl_tests::{Labctl, write};

use crate::{
    measure::{RUNS, seconds, versus},
    need::need,
};

/// Containers of the lab, and hosts of Mininet. Both share this kernel, which keeps 1,024 neighbours over all
/// namespaces unless it is told otherwise (`net.ipv4.neigh.default.gc_thresh3`).
const BESIDE_MININET: usize = 30;
/// A machine has a kernel of its own.
const OF_TWO_FAMILIES: usize = 50;
/// Arguments: how many hosts, how many times. A line for each time: seconds, and percent lost.
const PING_ALL: &str = "
import sys, time
from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge
from mininet.topo import SingleSwitchTopo
setLogLevel('error')
net = Mininet(topo=SingleSwitchTopo(int(sys.argv[1])), switch=LinuxBridge, controller=None)
net.start()
for _ in range(int(sys.argv[2])):
    began = time.time()
    lost = net.pingAll()
    print(time.time() - began, lost)
net.stop()
";

/// Containers on one bridge of one host, which ask each other by ICMP.
fn topology(name: &str, count: usize, family: &str) -> String {
    let mut text = format!(
        "name: {name}\nsegments: {{ lan: {{ subnet: 192.168.56.0/24 }} }}\n\
         hosts: {{ host1: {{ lan: 192.168.56.3, memory: 2048 }} }}\n\
         networks:\n  open:\n    enable_ipv6: true\n    \
         ipam: {{ config: [ {{ subnet: 10.50.0.0/24 }}, {{ subnet: \"fd00:50::/64\" }} ] }}\n\
         containers:\n"
    );
    for i in 0..count {
        text += &format!("  c{i:02}: {{ host: host1, networks: [open] }}\n");
    }
    text + &format!(
        "expect: [ {{ from: containers, to: containers, family: {family}, verdict: yes, timeout: 20s }} ]\n"
    )
}

fn check(labctl: &Labctl, lab: &str) -> f64 {
    seconds(|| drop(labctl.run(["check", lab]).exits(0)))
}

/// Against `pingAll` of as many hosts on a Linux bridge, in a network namespace where no rule of Docker's is in the way.
/// One after the other: the neighbours of both would not fit.
pub fn mininet() {
    need(
        "mininet",
        "/usr/bin/python3 -c 'import mininet' && command -v ping",
        "mininet bridge-utils net-tools iputils-ping",
    );
    let dir = tempfile::tempdir().expect("a temporary folder");
    let labctl = Labctl::new();
    let file = write(dir.path(), "pairs.yaml", &topology("pairs", BESIDE_MININET, "4"));
    labctl.run(["up".as_ref(), "--no-check".as_ref(), "--runtime=dind".as_ref(), file.as_os_str()]).exits(0);
    let ours: Vec<f64> = (0..RUNS).map(|_| check(&labctl, "pairs")).collect();
    labctl.run(["down", "--all"]).exits(0);

    let words = format!("ip link set lo up && exec /usr/bin/python3 -c \"$1\" {BESIDE_MININET} {RUNS}");
    let output = Command::new("unshare").args(["--net", "sh", "-c", &words, "sh", PING_ALL]).output();
    let output = output.expect("unshare can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let theirs: Vec<f64> = text.lines().filter_map(|line| line.strip_suffix(" 0.0")?.parse().ok()).collect();
    assert_eq!(theirs.len(), RUNS, "{text}{}", String::from_utf8_lossy(&output.stderr));
    let cells = BESIDE_MININET * (BESIDE_MININET - 1);
    versus(&format!("{cells} pings, by labctl check on dind / by Mininet's pingAll"), "s", &ours, &theirs);
}

/// IPv4 and IPv6 against IPv4 alone: twice as many cells.
pub fn families() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let labctl = Labctl::new();
    for (lab, family) in [("one", "4"), ("two", "both")] {
        labctl.up(&write(dir.path(), &format!("{lab}.yaml"), &topology(lab, OF_TWO_FAMILIES, family)));
    }
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        one.push(check(&labctl, "one"));
        two.push(check(&labctl, "two"));
    }
    let cells = OF_TWO_FAMILIES * (OF_TWO_FAMILIES - 1);
    versus(&format!("{cells} cells of IPv4 and {cells} of IPv6 / of IPv4 alone"), "s", &two, &one);
    labctl.run(["down", "--all"]).exits(0);
}
