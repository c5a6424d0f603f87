//! Swarms, overlays and services as topologies say them.

use std::time::Duration;

use labctl_model::{
    Action, Check, Driver, EndpointMode, Lab, Protocol, PublishMode, Role, ServiceMode, ServicePort, Target,
    Token,
};

const LAB: &str = "
name: swarm
segments: { lan: { subnet: 10.0.0.0/24 }, data: { subnet: 10.1.0.0/24 } }
hosts:
  host1: { lan: 10.0.0.1, data: 10.1.0.1 }
  host2: { lan: 10.0.0.2, data: 10.1.0.2 }
  host3: { lan: 10.0.0.3, data: 10.1.0.3 }
swarm:
  managers: host2
  data_path_addr: data
  advertise_addr: { host3: 203.0.113.9 }
  data_path_port: 4790
  default_addr_pool: [10.20.0.0/16]
  subnet_size: 26
networks:
  front: { driver: overlay, attachable: true }
services:
  web:
    networks: { front: { aliases: [www] } }
    ports: [ '8080:80', { target: 53, published: 5353, protocol: udp, mode: host } ]
    deploy: { replicas: 2, endpoint_mode: dnsrr, placement: { constraints: [ node.role==worker ] } }
    deferred: true
  each: { deploy: { mode: global }, hosts: [host1, host3] }
containers:
  c1: { host: host3, networks: [front] }
expect:
  - { from: c1, to: each, probe: tcp/80, verdict: yes }
steps:
  - do: [ create service web, scale web 3 within 20s, drain host1, join host1 as manager with an old token ]
    expect: [ { from: c1, to: web@front, probe: tcp/80, verdict: yes } ]
";

fn lab() -> Lab {
    labctl_topology::parse(LAB, "lab.yaml").unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn hosts_that_are_not_named_are_workers_and_addresses_follow_the_segments() {
    let swarm = lab().swarm.unwrap();
    assert_eq!(swarm.nodes.keys().collect::<Vec<_>>(), ["host2", "host1", "host3"]);
    assert_eq!(swarm.managers().collect::<Vec<_>>(), ["host2"]);
    let host3 = &swarm.nodes["host3"];
    assert_eq!((host3.role, host3.advertise), (Role::Worker, [203, 0, 113, 9].into()));
    assert_eq!((host3.data_path, host3.listen), (Some([10, 1, 0, 3].into()), None));
    assert_eq!(swarm.nodes["host1"].advertise, std::net::Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!((swarm.data_path_port, swarm.subnet_size), (Some(4790), Some(26)));
}

#[test]
fn nothing_said_makes_the_first_host_the_manager() {
    let text = "name: t\nsegments: { l: { subnet: 10.0.0.0/24 } }\nhosts: { a: { l: 10.0.0.1 }, b: { l: 10.0.0.2 } }\nswarm: {}\n";
    let swarm = labctl_topology::parse(text, "t.yaml").unwrap().swarm.unwrap();
    let roles: Vec<_> = swarm.nodes.iter().map(|(h, n)| (h.as_str(), n.role)).collect();
    assert_eq!(roles, [("a", Role::Manager), ("b", Role::Worker)]);
}

#[test]
fn an_overlay_spans_the_swarm() {
    let lab = lab();
    assert_eq!(lab.networks["front"].driver, Driver::Overlay);
    assert_eq!(lab.networks["front"].hosts, ["host1", "host2", "host3"]);
}

#[test]
fn services_are_read_in_composes_words() {
    let lab = lab();
    let web = &lab.services["web"];
    assert_eq!((web.mode, web.endpoint_mode), (ServiceMode::Replicated(2), EndpointMode::Dnsrr));
    assert_eq!(web.networks["front"], ["www"]);
    assert_eq!(web.placement.constraints, ["node.role==worker"]);
    let port = |published, target, protocol, mode| ServicePort {
        published: Some(published),
        target,
        protocol,
        mode,
    };
    assert_eq!(
        web.ports,
        [
            port(8080, 80, Protocol::Tcp, PublishMode::Ingress),
            port(5353, 53, Protocol::Udp, PublishMode::Host),
        ]
    );
    let each = &lab.services["each"];
    assert_eq!(
        (each.mode, each.placement.hosts.as_slice()),
        (ServiceMode::Global, &["host1".into(), "host3".into()][..])
    );
}

#[test]
fn an_update_has_what_it_names_and_nothing_else() {
    let lab = lab();
    let action = labctl_topology::parse_action(
        "update web { environment: { A: b }, ports: ['8081:80'], deploy: { replicas: 4 } } within 1m",
        &lab,
    );
    let Ok(Action::Update { service, change, within }) = action else { panic!("{action:?}") };
    assert_eq!((service.as_str(), within), ("web", Some(Duration::from_secs(60))));
    assert_eq!(change.environment.unwrap()["A"], "b");
    assert_eq!(change.ports.unwrap()[0].published, Some(8081));
    assert_eq!(change.replicas, Some(4));
    assert_eq!((change.image, change.command, change.networks), (None, None, None));
    assert_eq!((change.endpoint_mode, change.placement), (None, None));
    // `hosts` and `placement` are one thing, and a list of nothing is something.
    let action = labctl_topology::parse_action("update web { hosts: [host1], ports: [] }", &lab);
    let Ok(Action::Update { change, within: None, .. }) = action else { panic!("{action:?}") };
    let placement = change.placement.unwrap();
    assert_eq!((placement.hosts, placement.constraints), (vec!["host1".to_owned()], vec![]));
    assert_eq!((change.ports, change.replicas), (Some(vec![]), None));
    // Where it is wrong is where it stands, behind the words of the action.
    let wrong = labctl_topology::parse_action("update web { ports: [ '8081:0' ] }", &lab).unwrap_err();
    assert!(wrong.mistakes()[0].line == 1 && (23..=30).contains(&wrong.mistakes()[0].column), "{wrong}");
}

#[test]
fn a_network_that_an_update_adds_is_one_to_be_reached_on() {
    let text = LAB
        .replace("join host1 as manager with an old token ]", "'update web { networks: [front, late] }' ]");
    let text = text.replace("services:", "  late: { driver: overlay, deferred: true }\nservices:");
    let lab = labctl_topology::parse(&text.replace("web@front", "web@late"), "lab.yaml");
    assert!(lab.is_ok(), "{}", lab.unwrap_err());
    let never =
        labctl_topology::parse(&text.replace("web@front", "web@later"), "lab.yaml").unwrap_err().to_string();
    assert!(never.contains("has no address on `later`"), "{never}");
}

#[test]
fn steps_change_the_swarm_and_services_are_targets() {
    let lab = lab();
    let step = &lab.steps[0];
    assert_eq!(
        step.actions,
        [
            Action::CreateService { service: "web".into(), within: None },
            Action::Scale { service: "web".into(), replicas: 3, within: Some(Duration::from_secs(20)) },
            Action::Drain("host1".into()),
            Action::Join { host: "host1".into(), role: Role::Manager, token: Token::Old, advertise: None },
        ]
    );
    for (text, force) in [("remove node host1", false), ("remove node host1 by force", true)] {
        let removes = Action::RemoveNode { host: "host1".into(), force };
        assert_eq!(labctl_topology::parse_action(text, &lab).unwrap(), removes);
    }
    let alone = labctl_topology::parse_action("force-new-cluster host2", &lab).unwrap();
    assert_eq!(alone, Action::ForceNewCluster("host2".into()));
    let Check::Matrix(m) = &step.expect[0] else { panic!("a matrix") };
    assert_eq!(m.cells[0].to, Target::Endpoint { name: "web".into(), at: Some("front".into()) });
}
