//! What topologies and command lines say of the wire and of hosts' lives.

use labctl_model::{Action, Check, Direction, Lab, Place, Power, Probe, Protocol, Token, Traffic};

const LAB: &str = r#"
name: wire
segments:
  lan: { subnet: 10.0.0.0/24, mtu: 1400, block: [udp/4789, esp, vxlan/8472] }
  wan: { subnet: 10.9.0.0/24 }
hosts:
  host1: { lan: { address: 10.0.0.3, mtu: 1500 }, wan: 10.9.0.3 }
  host2: { lan: 10.0.0.7 }
containers: { c1: { host: host1 }, docker: { host: host1 } }
steps:
  - do:
      - kill host2
      - stop host2
      - start host2
      - restart host2
      - stop c1
      - kill docker host1
      - restart docker host1
      - stop docker
      - cut host1
      - cut host1 on lan inbound
      - cut host1 outbound on wan
      - heal host1 on lan
      - heal host1
      - block tcp/2377
      - block vxlan to host2 from host1 on lan
      - unblock vxlan
      - unblock all on wan
"#;

fn lab() -> Lab {
    labctl_topology::parse(LAB, "wire.yaml").unwrap_or_else(|e| panic!("{e}"))
}

fn place(segment: Option<&str>, from: Option<&str>, to: Option<&str>) -> Place {
    let own = |s: Option<&str>| s.map(str::to_owned);
    Place { segment: own(segment), from: own(from), to: own(to) }
}

fn cut(segment: Option<&str>, direction: Direction) -> Action {
    Action::Cut { host: "host1".into(), segment: segment.map(str::to_owned), direction }
}

#[test]
fn actions_on_hosts_and_the_wire() {
    let power = |power| Action::Power { host: "host2".into(), power };
    let docker = |power| Action::Docker { host: "host1".into(), power };
    let udp = Traffic::Vxlan(4789);
    let heal =
        |segment: Option<&str>| Action::Heal { host: "host1".into(), segment: segment.map(str::to_owned) };
    assert_eq!(
        lab().steps[0].actions,
        [
            power(Power::Kill),
            power(Power::Stop),
            power(Power::Start),
            power(Power::Restart),
            Action::Stop("c1".into()),
            docker(Power::Kill),
            docker(Power::Restart),
            // A container may be called that.
            Action::Stop("docker".into()),
            cut(None, Direction::Both),
            cut(Some("lan"), Direction::Inbound),
            cut(Some("wan"), Direction::Outbound),
            heal(Some("lan")),
            heal(None),
            Action::Block { filter: Traffic::Port(Protocol::Tcp, 2377), place: Place::default() },
            Action::Block { filter: udp, place: place(Some("lan"), Some("host1"), Some("host2")) },
            Action::Unblock { filter: Some(udp), place: Place::default() },
            Action::Unblock { filter: None, place: place(Some("wan"), None, None) },
        ]
    );
}

#[test]
fn a_segment_may_be_broken_from_the_start_and_a_nic_not_know_it() {
    let lab = lab();
    let block = [Traffic::Port(Protocol::Udp, 4789), Traffic::Ip(50), Traffic::Vxlan(8472)];
    assert_eq!(lab.segments["lan"].block, block);
    assert!(lab.segments["wan"].block.is_empty());
    let mtus: Vec<u16> = lab.hosts.values().flat_map(|h| &h.nics).map(|n| n.mtu).collect();
    assert_eq!(mtus, [1500, 1500, 1400]);
    assert_eq!(serde_json::from_str::<Lab>(&serde_json::to_string(&lab).unwrap()).unwrap(), lab);
}

#[test]
fn an_action_of_the_command_line_is_read_as_one_of_a_topology() {
    let lab = lab();
    let spoken = labctl_topology::parse_action("cut host1 on lan inbound", &lab).unwrap();
    assert_eq!(spoken, cut(Some("lan"), Direction::Inbound));
    let wrong = labctl_topology::parse_action("cut host1 on lam", &lab).unwrap_err().render(false);
    for words in ["no segment `lam`", "cut host1 on lam", "did you mean `lan`?"] {
        assert!(wrong.contains(words), "{wrong}");
    }
    for nonsense in
        ["", "   ", "\n", "stop", "kill c1", "cut host9", "block", "join host1 as worker", "\u{1b}[2J"]
    {
        assert!(labctl_topology::parse_action(nonsense, &lab).is_err(), "{nonsense:?}");
    }
}

#[test]
fn a_host_may_advertise_another_address() {
    let text =
        LAB.to_owned() + "  - do: join host1 as worker advertising wan with a wrong token\nswarm: {}\n";
    let lab = labctl_topology::parse(&text, "wire.yaml").unwrap_or_else(|e| panic!("{e}"));
    let Action::Join { advertise, token, .. } = &lab.steps[1].actions[0] else { panic!() };
    assert_eq!((*advertise, *token), (Some("10.9.0.3".parse().unwrap()), Token::Wrong));
    let by_address =
        labctl_topology::parse_action("join host1 as manager advertising 10.0.0.3", &lab).unwrap();
    assert!(matches!(by_address, Action::Join { advertise: Some(_), token: Token::Right, .. }));
    for wrong in ["join host2 as worker advertising wan", "join host1 as worker advertising"] {
        assert!(labctl_topology::parse_action(wrong, &lab).is_err(), "{wrong}");
    }
}

#[test]
fn a_probe_may_have_a_size() {
    let text = LAB.to_owned()
        + "expect:
  - { probe: icmp, size: 1400, from: host1, to: host2, verdict: yes }
  - { probe: tcp/80, size: 100000, from: host1, to: host2, verdict: stalled }
";
    let lab = labctl_topology::parse(&text, "wire.yaml").unwrap_or_else(|e| panic!("{e}"));
    let sizes: Vec<_> = lab
        .expect
        .iter()
        .map(|c| match c {
            Check::Matrix(m) => (m.probe.clone(), m.size),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sizes, [(Probe::Icmp, Some(1400)), (Probe::Tcp(80), Some(100_000))]);
}
