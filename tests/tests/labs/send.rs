//! Frames that somebody wrote: `labctl send`, `capture` with a filter, and `vxlan`, on two real hosts.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use labctl_tests::{Labctl, Ran, facts, write};
use serde_json::Value;

const LAB: &str = "
name: frames
segments:
  lan: { subnet: [192.168.56.0/24, 'fd00:56::/64'], gateway: [192.168.56.1, 'fd00:56::1'] }
  narrow: { subnet: 10.20.0.0/24, mtu: 1400 }
hosts:
  host1: { lan: [192.168.56.3, 'fd00:56::3'], narrow: { address: 10.20.0.3, mtu: 1500 } }
  host2: { lan: [192.168.56.7, 'fd00:56::7'], narrow: { address: 10.20.0.7, mtu: 1500 } }
networks:
  macnet:
    driver: macvlan
    driver_opts: { parent: lan }
    ipam: { config: [ { subnet: 192.168.56.0/24, gateway: 192.168.56.1 } ] }
containers:
  behind: { host: host1 }
  onlan: { host: host2, networks: { macnet: { ipv4_address: 192.168.56.71 } } }
expect:
  - { from: 'wire:lan', inject: 'eth/ip(dst=${ip:onlan})/icmp', received_by: onlan, not_received_by: host1, timeout: 1s }
  - probe: icmp
    from: host1
    to: host2
    verdict: yes
    on_wire: { lan: ['icmp and dst host ${ip:host2}', 'src mac ${mac:host2}'] }
    not_on_wire: { lan: 'src host 192.168.56.71 or bad' }
steps:
  - name: what must not pass and does is told of, with the frame
    expect:
      - { probe: icmp, from: host1, to: host2, verdict: yes, not_on_wire: { lan: icmp } }
";

#[test]
fn frames_are_sent_seen_and_told_apart() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let lab = write(dir.path(), "frames.yaml", LAB);
    labctl.up(&lab);

    checks_watch_the_wire(&labctl);
    a_frame_arrives_where_it_should(&labctl);
    a_frame_that_does_not_arrive_is_told_of(&labctl);
    containers_send_and_receive(&labctl);
    ipv6_is_filled_in_as_ipv4_is(&labctl);
    mistakes_are_marked(&labctl);
    a_capture_shows_what_the_filter_means(&labctl);
    vxlan_differs_where_the_host_drops_it(&labctl);
    vxlan_differs_where_the_wire_drops_it(&labctl);

    labctl.run(["down", "--all"]).exits(0);
}

fn send(labctl: &Labctl, args: &[&str]) -> Ran {
    let head = ["send", "frames", "--format", "json"];
    labctl.run(head.iter().chain(args))
}

/// `ENDPOINT INTERFACE HOW` of everybody who received it.
fn receipts(report: &Value) -> Vec<String> {
    let received = report["receipts"].as_array().unwrap().iter().filter(|r| r["received"] == true);
    received
        .map(|r| {
            let how = r["how"].as_str().map_or_else(|| r["how"].to_string(), str::to_owned);
            format!("{} {} {how}", r["endpoint"].as_str().unwrap(), r["interface"].as_str().unwrap())
        })
        .collect()
}

fn checks_watch_the_wire(labctl: &Labctl) {
    let report = labctl.run(["check", "frames", "--format", "json"]).exits(0).json();
    assert_eq!(facts(&report).len(), 4, "{report}");
    let report = labctl.run(["check", "frames", "--steps", "--format", "json"]).exits(1).json();
    let wrong: Vec<_> = facts(&report).into_iter().filter(|f| f["holds"] == false).collect();
    assert!(wrong.len() == 1 && wrong[0]["expected"] == "never carries icmp", "{wrong:?}");
    assert!(wrong[0]["observed"][1].as_str().unwrap().contains("ICMP echo-request"), "{wrong:?}");
}

fn a_frame_arrives_where_it_should(labctl: &Labctl) {
    let frame = "eth/ip(dst=${ip:host2})/udp(dport=5353)";
    let args = ["host1", frame, "--expect-at", "host2", "--not-at", "host2/onlan", "--within", "500ms"];
    let report = send(labctl, &args).exits(0).json();
    assert_eq!(receipts(&report), ["host2 eth0 as-sent"], "{report}");
    assert!(report["frame"].as_str().unwrap().contains("src=192.168.56.3,dst=192.168.56.7"), "{report}");
    let wire = &report["wire"][0];
    assert_eq!(
        report["wire"].as_array().unwrap().len(),
        1,
        "the ICMP error about it is another frame: {report}"
    );
    assert_eq!((wire["port"].as_str(), wire["fate"].as_str()), (Some("host1/eth0"), Some("to host2/eth0")));

    // Many of them, and as text.
    let many = ["send", "frames", "host1", frame, "--count", "50", "--rate", "500", "--expect-at", "host2"];
    let said = labctl.run(many).exits(0).stdout();
    assert!(said.contains("received 50 of 50 frames") && said.contains("to host2/eth0, 50 times"), "{said}");

    // Half of them will not do.
    labctl.run(["do", "frames", "block", "udp/10"]).exits(0);
    let half = [
        "send",
        "frames",
        "host1",
        frame,
        "--count",
        "10",
        "--vary",
        "udp.dport=9..10",
        "--expect-at",
        "host2",
    ];
    let said = labctl.run(half).exits(1).stdout();
    assert!(said.contains("received 5 of 10 frames"), "{said}");
    labctl.run(["do", "frames", "unblock", "all"]).exits(0);

    // From nobody's station, with the address of somebody else, unmarked, to a host whose MAC is looked up.
    let spoofed = "eth/ip(src=192.168.56.3,dst=192.168.56.7)/udp(dport=9)/payload(text=hello)";
    let report = send(labctl, &["wire:lan", spoofed, "--expect-at", "host2", "--unmarked"]).exits(0).json();
    assert_eq!(report["wire"][0]["port"], "lan/station");
    assert_eq!(report["bytes"], 14 + 20 + 8 + 5);
    // A question for all reaches all, and the gateway's stand-in.
    let report = send(
        labctl,
        &["wire:lan", "eth/arp(who=192.168.56.99)", "--expect-at", "host1", "--expect-at", "onlan"],
    );
    assert_eq!(
        receipts(&report.exits(0).json()),
        ["host1 eth0 as-sent", "host2 eth0 as-sent", "onlan eth0 as-sent"]
    );
}

fn a_frame_that_does_not_arrive_is_told_of(labctl: &Labctl) {
    let nobody = "eth(dst=02:00:00:00:00:77)/ip(dst=192.168.56.77)/udp";
    let ran =
        labctl.run(["send", "frames", "host1", nobody, "--expect-at", "host2", "--within", "500ms"]).exits(1);
    assert!(ran.stdout().contains("host2 must receive it: received nothing of it"), "{}", ran.stdout());
    assert!(ran.stdout().contains("received by nobody"), "{}", ran.stdout());
    let here = "eth/ip(dst=192.168.56.7)/udp";
    send(labctl, &["host1", here, "--not-at", "host2", "--within", "500ms"]).exits(1);
}

fn containers_send_and_receive(labctl: &Labctl) {
    // Out of docker0: its host routes and masquerades it, and it is the same frame for whoever gets it.
    let out =
        send(labctl, &["host1/behind", "eth/ip(dst=192.168.56.7)/udp(dport=77)", "--expect-at", "host2"]);
    let report = out.exits(0).json();
    let got = receipts(&report);
    assert!(
        got.contains(&"host1 docker0 as-sent".into()) && got.contains(&"host2 eth0 as-sent".into()),
        "{got:?}"
    );
    // VXLAN for nobody's VTEP reaches the NIC, and no further.
    let tunnel = "eth/ip(dst=${ip:host2})/udp/vxlan(vni=7)/eth(dst=${mac:onlan})/ip(dst=192.168.56.71)/icmp";
    let args = ["behind:eth0", tunnel, "--expect-at", "host2", "--not-at", "onlan", "--within", "1s"];
    send(labctl, &args).exits(0);
}

fn ipv6_is_filled_in_as_ipv4_is(labctl: &Labctl) {
    let sent = |frame: &str, expected: &[&str]| {
        let report = send(labctl, &["host1", frame, "--expect-at", "host2"]).exits(0).json();
        let frame = report["frame"].as_str().unwrap().to_owned();
        assert!(expected.iter().all(|part| frame.contains(part)), "{frame}");
        assert_eq!(receipts(&report), ["host2 eth0 as-sent"], "{report}");
    };
    let ends = "src=fd00:56::3,dst=fd00:56::7";
    sent("eth/ip6(dst=${ip6:host2})/udp(dport=5353)", &[ends, "dst=02:6c:61:00:00:01"]);
    sent("eth/ip6(dst=${ip6:host2})/icmp6", &[ends]);
    // From one link-local address to another.
    let far = "fe80::6c:61ff:fe00:1";
    sent(&format!("eth/ip6(dst={far})/icmp6"), &["src=fe80::6c:61ff:fe00:0", "dst=02:6c:61:00:00:01"]);
    // Through the gateway.
    let out = send(labctl, &["host1", "eth/ip6(dst=2001:db8::1)/icmp6", "--within", "300ms"]).exits(0).json();
    assert_eq!(out["wire"][0]["fate"], "to gateway", "{out}");
    let tunnel = "eth/ip6(dst=${ip6:host2})/udp/vxlan(vni=7)/eth(dst=${mac:onlan})/ip6(src=fd00:9::1,dst=fd00:9::2)/icmp6";
    sent(tunnel, &[ends, "/vxlan(vni=7)/eth(dst="]);
    let none = send(labctl, &["host1/behind", "eth/ip6(dst=${ip6:host2})/udp"]).exits(2);
    none.says("no IPv6 address");
}

fn mistakes_are_marked(labctl: &Labctl) {
    let ran = labctl.run(["send", "frames", "host1", "eth/ip(dts=10.0.0.1)"]).exits(2);
    assert!(ran.stderr().contains("       ^^^"), "{}", ran.stderr());
    labctl.run(["send", "frames", "host1", "eth/ip(dst=${ip:host9})"]).exits(2).says("host9");
    labctl.run(["send", "frames", "host9", "eth/ip"]).exits(2).says("host1");
    labctl.run(["send", "frames", "wire:wan", "eth/ip"]).exits(2).says("lan");
    labctl.run(["send", "frames", "host1:eth9", "eth/ip"]).exits(2).says("eth0");
    labctl
        .run(["send", "frames", "host1", "eth/ip(dst=192.168.56.77)"])
        .exits(2)
        .says("the MAC for 192.168.56.77");
    labctl.run(["send", "frames", "host1", "eth/payload(size=3000)"]).exits(2).says("a frame of 3014 bytes");
    labctl.run(["capture", "frames", "lan", "udp", "prot", "7"]).exits(2).says("      ^^^^");
}

fn a_capture_shows_what_the_filter_means(labctl: &Labctl) {
    let args = ["capture", "frames", "lan", "--format", "json", "--count", "2", "--duration", "20s"];
    let filter = ["vxlan", "and", "inner", "dst", "host", "${ip:onlan}"];
    let mut capture = labctl.command(args.iter().chain(&filter));
    let mut capture = capture.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(capture.stderr.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "capturing on lan");
    let inner =
        |dst: &str| format!("eth/ip(dst=192.168.56.7)/udp/vxlan(vni=9)/eth/ip(src=10.9.9.9,dst={dst})/icmp");
    for dst in ["192.168.56.71", "192.168.56.72", "192.168.56.71"] {
        send(labctl, &["host1", &inner(dst), "--within", "100ms"]).exits(0);
    }
    let shown = capture.wait_with_output().unwrap();
    assert!(shown.status.success());
    let frames: Vec<Value> =
        serde_json::Deserializer::from_slice(&shown.stdout).into_iter().map(Result::unwrap).collect();
    assert_eq!(frames.len(), 2);
    for frame in frames {
        assert!(frame["summary"].as_str().unwrap().contains("VXLAN vni 9: "), "{frame}");
        assert!(frame["summary"].as_str().unwrap().contains("10.9.9.9 > 192.168.56.71"), "{frame}");
        // What is shown can be sent again.
        let typed = frame["frame"].as_str().unwrap();
        send(labctl, &["host1", typed, "--expect-at", "host2"]).exits(0);
    }
}

/// An SDN, a firewall and a dead path, each made on the wire, are told from one another.
fn vxlan_differs_where_the_wire_drops_it(labctl: &Labctl) {
    let act = |action: &[&str]| labctl.run(["do", "frames"].iter().chain(action)).exits(0);
    for (fault, repair, finding) in [
        (&["block", "vxlan"][..], &["unblock", "all"][..], "an SDN in between"),
        (&["block", "udp/4789"], &["unblock", "all"], "a firewall on the way"),
        (&["cut", "host2"], &["heal", "host2"], "no UDP at all"),
    ] {
        act(fault);
        let ran = labctl.run(["vxlan", "frames", "--from", "host1", "--to", "host2", "--format", "json"]);
        let report = ran.exits(1).json();
        for pair in report["pairs"].as_array().unwrap() {
            let findings = pair["findings"].as_array().unwrap();
            let told = findings.iter().filter(|f| f.as_str().unwrap().contains(finding)).count();
            // Those of the port that is not blocked on the segment that is too narrow come on top.
            assert!(told == 1 && (findings.len() == 1 || pair["segment"] == "narrow"), "{fault:?}: {pair}");
        }
        act(repair);
    }
}

fn vxlan_differs_where_the_host_drops_it(labctl: &Labctl) {
    let report = labctl.run(["vxlan", "frames", "--format", "json"]).exits(1).json();
    let pairs = report["pairs"].as_array().unwrap();
    // Each way: on `lan` by IPv4 and by IPv6, on `narrow` by IPv4.
    assert_eq!(pairs.len(), 6);
    assert_eq!(pairs.iter().filter(|p| p["source"].as_str().unwrap().contains("fd00:56::")).count(), 2);
    for pair in pairs {
        assert_eq!(pair["probes"].as_array().unwrap().len(), 18, "{pair}");
        let findings: Vec<&str> =
            pair["findings"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
        match pair["segment"].as_str() {
            Some("lan") => assert!(findings.is_empty(), "{pair}"),
            _ => assert!(
                findings.len() == 1 && findings[0].contains("packets of more than 1400 bytes are lost"),
                "{pair}"
            ),
        }
    }
    let on_host2 = |command: &str| {
        let words = ["exec", "frames", "host2", "--"].into_iter().chain(command.split(' '));
        labctl.run(words).exits(0).stdout()
    };
    on_host2("iptables -I INPUT -p udp --dport 4789 -j DROP");
    let ran = labctl.run(["vxlan", "frames", "--from", "host1", "--to", "host2", "--port", "4790"]).exits(1);
    let said = ran.stdout();
    // Rules of iptables are of IPv4 alone.
    assert!(said.contains("a rule of the host's own") && said.contains("1 of 3 pairs"), "{said}");
    assert!(!said.contains("at port 4790"), "the other port is as it should be:\n{said}");
    on_host2("iptables -D INPUT -p udp --dport 4789 -j DROP");
    assert!(!on_host2("ip -o link").contains("labvtep"), "nothing is left behind");
    labctl.run(["vxlan", "frames", "--from", "host9"]).exits(2).says("host2");
}
