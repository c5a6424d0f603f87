//! Turns cells into orders for each agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use labctl_model::{
    By, Cell, Family, Lab, Matrix, No, Observed, OfFamily, Probe, Protocol, PublishMode, Service, Target,
};
use labctl_protocol::messages::{Endpoint, Listener, Shot, ShotKind, ShotTarget};

use crate::snapshot::{NoAddress, ServiceAt, Snapshot, TaskAt};

/// What one host's agent, or a peer, has to do for a matrix.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// Endpoints of the host to watch: all that run, since a packet may turn up anywhere. A peer watches itself.
    pub endpoints: Vec<Endpoint>,
    /// Ports to listen on.
    pub listeners: Vec<Listener>,
    /// Cells to fire.
    pub shots: Vec<Shot>,
}

/// A cell, ready to be judged.
#[derive(Clone, Debug, Default)]
pub struct Aim {
    /// Endpoints of which one must get the request for a `yes`: one, or the tasks of a service. Empty for a bare address
    /// that nobody has.
    pub arrives_at: Vec<String>,
    /// The host that owns the probed address, if its port leads to those: it only passes requests on.
    pub door: Option<String>,
    /// Where the run listens for this cell.
    pub listeners: Vec<(String, u16)>,
    /// The verdict, if it is known without sending anything.
    pub foregone: Option<(Observed, String)>,
    /// Numbers of its shots; empty if the verdict is known.
    pub shots: Vec<u32>,
}

/// Orders by host or peer, and one aim per cell.
pub fn plan(lab: &Lab, matrix: &Matrix, snapshot: &Snapshot) -> (BTreeMap<String, Orders>, Vec<Aim>) {
    let mut orders: BTreeMap<String, Orders> = BTreeMap::new();
    for name in snapshot.endpoints(lab) {
        let Some(host) = snapshot.home_of(lab, name) else { continue };
        let Some(netns) = snapshot.netns(lab, name) else {
            if lab.peers.contains_key(name) {
                orders.entry(host.to_owned()).or_default();
            }
            continue;
        };
        orders.entry(host.to_owned()).or_default().endpoints.push(Endpoint {
            name: name.to_owned(),
            netns,
            pid: snapshot.pid(name),
        });
    }
    let mut listeners: BTreeMap<String, BTreeSet<(String, u16)>> = BTreeMap::new();
    let mut aims = Vec::with_capacity(matrix.cells.len());
    let mut number = 0;
    let size = matrix.size.unwrap_or(0);
    for cell in &matrix.cells {
        let (mut aim, to) = aim(lab, matrix, cell, snapshot);
        for (name, port) in &aim.listeners {
            // Nobody can be told to listen if nothing is known to run.
            let home = snapshot.home_of(lab, name).filter(|_| snapshot.runs(lab, name));
            if let Some(host) = home {
                listeners.entry(host.to_owned()).or_default().insert((name.clone(), *port));
            }
        }
        if let (None, Some(to), Some(home)) = (&aim.foregone, to, snapshot.home_of(lab, &cell.from)) {
            let shots = &mut orders.entry(home.to_owned()).or_default().shots;
            let asked = cell.answers.and_then(|index| matrix.answers.get(index));
            for _ in 0..asked.map_or(1, |a| a.requests) {
                let (from, kind, to) = (cell.from.clone(), kind(&matrix.probe), to.clone());
                shots.push(Shot { cell: number, from, kind, size, to, relayed: aim.door.is_some() });
                aim.shots.push(number);
                number += 1;
            }
        }
        aims.push(aim);
    }
    if let Some((protocol, _)) = transport(&matrix.probe) {
        let families = families(&orders);
        for (host, ports) in listeners {
            orders.entry(host).or_default().listeners = ports
                .into_iter()
                .map(|(endpoint, port)| Listener {
                    endpoint,
                    protocol,
                    port,
                    families: families.clone(),
                    size,
                })
                .collect();
        }
    }
    (orders, aims)
}

/// The families that listeners need: a proxy may pass a request of IPv6 on by IPv4.
fn families(orders: &BTreeMap<String, Orders>) -> Vec<Family> {
    let is_v6 = |shot: &Shot| match &shot.to {
        ShotTarget::Address(address) => address.is_ipv6(),
        ShotTarget::Name(_, family) => *family == Family::V6,
    };
    match orders.values().flat_map(|o| &o.shots).any(is_v6) {
        true => Family::ALL.to_vec(),
        false => vec![Family::V4],
    }
}

fn aim(lab: &Lab, matrix: &Matrix, cell: &Cell, snapshot: &Snapshot) -> (Aim, Option<ShotTarget>) {
    let foregone =
        |observed: Observed, why: String| (Aim { foregone: Some((observed, why)), ..Aim::default() }, None);
    let down = |why: String| foregone(Observed::No(No::Down), why);
    if let Some(why) = snapshot.why_unseen(lab, &cell.from).or_else(|| hidden(lab, matrix, cell, snapshot)) {
        return foregone(Observed::Failed, why.to_owned());
    }
    if !snapshot.runs(lab, &cell.from) {
        return down(format!("{} is {}", cell.from, snapshot.status(lab, &cell.from)));
    }
    let owner = endpoint(lab, cell, snapshot);
    let meant = owner.as_deref().map(|e| snapshot.takers(lab, e)).unwrap_or_default();
    let address = snapshot.address(lab, &cell.from, &cell.to, matrix.family);
    // Who shares a host's namespace has its addresses, and a published port there is the host's.
    let host = owner.as_deref().and_then(|name| lab.hosts.get_key_value(lab.namespace_of(name)?));
    let behind = transport(&matrix.probe).zip(host).and_then(|(port, (name, host))| {
        let by = match matrix.by {
            By::Address => address.clone().ok(),
            // Hosts know each other by their first address.
            By::Name => host.first_address(),
        };
        published(lab, snapshot, name, by, port)
    });
    let door = host.map(|(name, _)| name.clone());
    let aim = match (behind, transport(&matrix.probe)) {
        // If the run listened on the host itself, it would answer instead of what is behind that port.
        (Some(behind), _) if behind.is_empty() => Aim { arrives_at: meant, ..Aim::default() },
        (Some(listeners), _) => {
            let arrives_at = listeners.iter().map(|(name, _)| name.clone()).collect();
            Aim { arrives_at, door, listeners, ..Aim::default() }
        }
        (None, Some((_, port))) => {
            let listeners = meant.iter().map(|name| (name.clone(), port)).collect();
            Aim { arrives_at: meant, listeners, ..Aim::default() }
        }
        (None, None) => Aim { arrives_at: meant, ..Aim::default() },
    };
    let name = match (&matrix.probe, matrix.by, &cell.to) {
        (Probe::Dns(name), _, _) => Some(name.clone()),
        (_, By::Name, Target::Endpoint { name, .. }) => Some(name.clone()),
        _ => None,
    };
    match (name, address) {
        // If the owner of the name is down, only a look-up makes sense.
        (_, Err(NoAddress::Down(why))) if !matches!(matrix.probe, Probe::Dns(_)) => down(why),
        (_, Err(NoAddress::Unseen(why))) if !matches!(matrix.probe, Probe::Dns(_)) => {
            foregone(Observed::Failed, why)
        }
        (Some(name), _) => {
            let family = snapshot.family(lab, &cell.from, &cell.to, matrix.family);
            (aim, Some(ShotTarget::Name(name, family)))
        }
        (None, Ok(address)) => (aim, Some(ShotTarget::Address(address))),
        (None, Err(NoAddress::Down(why) | NoAddress::Unseen(why) | NoAddress::None(why))) => {
            (Aim { foregone: Some((Observed::No(No::NoRoute), why)), ..aim }, None)
        }
    }
}

/// The endpoint that the cell means.
fn endpoint(lab: &Lab, cell: &Cell, snapshot: &Snapshot) -> Option<String> {
    match &cell.to {
        Target::Endpoint { name, .. } => Some(name.clone()),
        Target::Address(address) => snapshot.owner(lab, *address).map(str::to_owned),
    }
}

/// Why it is unknown who answers at a host's port: it may be a container that cannot be looked at.
fn hidden<'a>(lab: &Lab, matrix: &Matrix, cell: &Cell, snapshot: &'a Snapshot) -> Option<&'a str> {
    let (protocol, port) = transport(&matrix.probe)?;
    let owner = endpoint(lab, cell, snapshot)?;
    let host = lab.namespace_of(&owner).unwrap_or(&owner);
    let publishes = |c: &labctl_model::Container| {
        c.ports.iter().any(|p| p.published == Some(port) && p.protocol == protocol)
    };
    if lab.containers_on(host).any(|(_, c)| publishes(c))
        && let Some(why) = snapshot.unseen.get(host)
    {
        return Some(why);
    }
    // A port of a service may lead to any of its tasks.
    let leads = |s: &ServiceAt| s.ports.iter().any(|p| p.published == Some(port) && p.protocol == protocol);
    let is_host = lab.hosts.contains_key(host);
    snapshot.tasks.iter().filter(|_| is_host).find_map(|(task, t)| {
        snapshot.services.get(&t.service).filter(|s| leads(s))?;
        snapshot.why_unseen(lab, task)
    })
}

/// The running containers and tasks that a port of a host leads to by one of its addresses, each with its own port.
/// `None` if nobody publishes that port; empty if it is published by another address, or nothing runs behind it.
fn published(
    lab: &Lab,
    snapshot: &Snapshot,
    host: &str,
    address: Option<IpAddr>,
    (protocol, port): (Protocol, u16),
) -> Option<Vec<(String, u16)>> {
    // Where the topology publishes a port it means nothing but what is behind it, also while that does not run.
    let of_service =
        |s: &Service| s.ports.iter().any(|p| p.published == Some(port) && p.protocol == protocol);
    let mut is_published = lab.services.values().any(of_service);
    let mut behind = Vec::new();
    for (name, c) in lab.containers.iter().filter(|(_, c)| c.host == host) {
        for p in c.ports.iter().filter(|p| p.published == Some(port) && p.protocol == protocol) {
            is_published = true;
            if !snapshot.runs(lab, name) {
                continue;
            }
            // `0.0.0.0` is every address of IPv4, `::` every one of IPv6.
            let covers = |ip: IpAddr| match address {
                Some(address) if ip.is_unspecified() => ip.family() == address.family(),
                address => ip.is_unspecified() || Some(ip) == address,
            };
            if p.host_ip.is_none_or(covers) {
                behind.push((name.clone(), p.target));
            }
        }
    }
    for (name, s) in &snapshot.services {
        for p in s.ports.iter().filter(|p| p.published == Some(port) && p.protocol == protocol) {
            is_published = true;
            let leads_to = |task: &TaskAt| match p.mode {
                PublishMode::Ingress => snapshot.nodes.contains(host),
                PublishMode::Host => task.host == host,
            };
            let tasks = snapshot.tasks_of(name).filter(|(_, task)| leads_to(task));
            behind.extend(tasks.map(|(task, _)| (task.clone(), p.target)));
        }
    }
    is_published.then_some(behind)
}

fn transport(probe: &Probe) -> Option<(Protocol, u16)> {
    match probe {
        Probe::Tcp(port) => Some((Protocol::Tcp, *port)),
        Probe::Udp(port) => Some((Protocol::Udp, *port)),
        Probe::Icmp | Probe::Dns(_) => None,
    }
}

fn kind(probe: &Probe) -> ShotKind {
    match probe {
        Probe::Icmp => ShotKind::Icmp,
        Probe::Tcp(port) => ShotKind::Tcp(*port),
        Probe::Udp(port) => ShotKind::Udp(*port),
        Probe::Dns(_) => ShotKind::Dns,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use labctl_model::{Check, ServicePort};

    use super::*;
    use crate::seen::ContainerState;

    const LAB: &str = "
name: t
segments: { lan: { subnet: 10.1.0.0/24 }, lan2: { subnet: 10.2.0.0/24 } }
hosts: { a: { lan: 10.1.0.1, lan2: 10.2.0.1 }, b: { lan: 10.1.0.2 } }
swarm: {}
peers: { client: { lan: 10.1.0.20 }, client2: { lan2: 10.2.0.20 } }
containers:
  one: { host: a, ports: [ '10.1.0.1:443:443' ] }
  two: { host: a, ports: [ '10.2.0.1:443:8443' ] }
  local: { host: a, ports: [ '127.0.0.1:80:8080' ] }
  every: { host: a, ports: [ '0.0.0.0:81:8081' ] }
  same: { host: a, network_mode: host }
services:
  here: { ports: [ { target: 80, published: 8443, mode: host } ] }
  there: { ports: [ { target: 81, published: 8443, mode: host } ] }
  mesh: { ports: [ '9000:90' ] }
expect:
  - { ";

    /// Where a request that is described like this goes to, and whether a host passes it on.
    fn aim_of(rule: &str) -> (Vec<(String, u16)>, Vec<String>, Option<String>) {
        let lab = labctl_topology::parse(&format!("{LAB}{rule}, verdict: yes }}\n"), "t.yaml").unwrap();
        let Check::Matrix(matrix) = &lab.expect[0] else { panic!() };
        let mut snapshot =
            Snapshot { nodes: BTreeSet::from(["a".to_owned(), "b".to_owned()]), ..Snapshot::default() };
        let runs = || ContainerState { status: "running".into(), pid: Some(1), ..Default::default() };
        for name in lab.containers.keys() {
            snapshot.containers.insert(name.clone(), runs());
        }
        for (service, host) in [("here", "a"), ("there", "b"), ("mesh", "b")] {
            let ports: Vec<ServicePort> = lab.services[service].ports.clone();
            snapshot.services.insert(service.into(), ServiceAt { ports, ..ServiceAt::default() });
            let task = format!("{service}.1");
            snapshot.containers.insert(task.clone(), runs());
            snapshot.tasks.insert(task, TaskAt { service: service.into(), host: host.into() });
        }
        let (_, mut aims) = plan(&lab, matrix, &snapshot);
        let Aim { listeners, arrives_at, door, .. } = aims.remove(0);
        (listeners, arrives_at, door)
    }

    #[test]
    fn a_published_port_leads_to_those_who_publish_it_there() {
        for (rule, to, port, host) in [
            ("probe: tcp/443, from: client, to: a@lan", "one", 443, "a"),
            ("probe: tcp/443, from: client2, to: a@lan2", "two", 8443, "a"),
            ("probe: tcp/443, from: client2, to: 10.2.0.1", "two", 8443, "a"),
            ("probe: tcp/443, by: name, from: b, to: a", "one", 443, "a"),
            ("probe: tcp/81, from: client2, to: a@lan2", "every", 8081, "a"),
            ("probe: tcp/81, from: client2, to: same@lan2", "every", 8081, "a"),
            ("probe: tcp/8443, from: client, to: a", "here.1", 80, "a"),
            ("probe: tcp/8443, from: client, to: b", "there.1", 81, "b"),
            ("probe: tcp/9000, from: client, to: a", "mesh.1", 90, "a"),
        ] {
            let (to, host) = (to.to_owned(), Some(host.to_owned()));
            assert_eq!(aim_of(rule), (vec![(to.clone(), port)], vec![to], host), "{rule}");
        }
    }

    #[test]
    fn nobody_listens_where_a_port_leads_to_nobody() {
        let nobody = |host: &str| (Vec::new(), vec![host.to_owned()], None);
        assert_eq!(aim_of("probe: tcp/80, from: client, to: a"), nobody("a"), "published by another address");
        assert_eq!(
            aim_of("probe: udp/9000, from: client, to: a").0,
            [("a".to_owned(), 9000)],
            "another protocol"
        );
        assert_eq!(aim_of("probe: tcp/443, from: client, to: b").0, [("b".to_owned(), 443)], "another host");
    }

    const AWAY: &str = "
name: t
segments: { lan: { subnet: 10.1.0.0/24 } }
hosts: { a: { lan: 10.1.0.1 }, b: { lan: 10.1.0.2 } }
peers: { client: { lan: 10.1.0.20 } }
containers: { ca: { host: a, ports: ['81:80'] }, cb: { host: b } }
swarm: {}
services: { web: { ports: ['8080:80'], deploy: { replicas: 2 } } }
expect:
  - { probe: PROBE, from: [client, ca, cb], to: [a, ca, cb], verdict: yes }
";

    /// The cells that cannot be probed where the dockerd of `a` is away.
    fn untold(probe: &str, tasks: &[(&str, &str)]) -> Vec<String> {
        let lab = labctl_topology::parse(&AWAY.replace("PROBE", probe), "t.yaml").unwrap();
        let Check::Matrix(matrix) = &lab.expect[0] else { panic!() };
        let mut snapshot = Snapshot::default();
        snapshot.unseen.insert("a".into(), "away".into());
        let running = |address| ContainerState {
            status: "running".into(),
            pid: Some(7),
            addresses: vec![("bridge".into(), address)],
            ..Default::default()
        };
        snapshot.containers.insert("cb".into(), running([172, 17, 0, 2].into()));
        let ports = lab.services["web"].ports.clone();
        snapshot.services.insert("web".into(), ServiceAt { ports, ..ServiceAt::default() });
        snapshot.nodes = ["a".to_owned(), "b".to_owned()].into();
        for (task, host) in tasks {
            let at = TaskAt { service: "web".into(), host: (*host).to_owned() };
            snapshot.tasks.insert((*task).to_owned(), at);
            if *host == "b" {
                snapshot.containers.insert((*task).to_owned(), running([172, 18, 0, 2].into()));
            }
        }
        let (_, aims) = plan(&lab, matrix, &snapshot);
        let untold = matrix.cells.iter().zip(aims).filter_map(|(cell, aim)| {
            let (observed, why) = aim.foregone?;
            assert_eq!((observed, why.as_str()), (Observed::Failed, "away"));
            Some(format!("{} {}", cell.from, cell.to))
        });
        untold.collect()
    }

    #[test]
    fn only_what_needs_a_dockerd_that_is_away_cannot_be_probed() {
        // A container there has no known namespace and no known address; its host and all others have.
        let of_ca = ["client ca", "ca a", "ca cb", "cb ca"];
        assert_eq!(untold("icmp", &[]), of_ca);
        assert_eq!(untold("tcp/82", &[]), of_ca);
        // Nobody knows who would answer at the port that it publishes.
        assert_eq!(untold("tcp/81", &[]), ["client a", "client ca", "ca a", "ca cb", "cb a", "cb ca"]);
    }

    #[test]
    fn a_port_of_a_service_may_lead_to_a_task_that_cannot_be_looked_at() {
        let mesh = |tasks: &[(&str, &str)]| untold("tcp/8080", tasks).contains(&"client a".to_owned());
        assert!(!mesh(&[("web.1", "b"), ("web.2", "b")]));
        assert!(mesh(&[("web.1", "a"), ("web.2", "b")]));
    }
}
