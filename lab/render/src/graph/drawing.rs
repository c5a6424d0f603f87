//! What is drawn of a lab: nodes, some of them inside a host, and the edges between them. Knows no form and no place.

use indexmap::IndexMap;
use labctl_model::{
    Attach, Container, Driver, Engine, Host, InterfaceKind, Lab, Network, Nic, Parent, Peer, Publish,
    PublishMode, Role, Segment, Service, ServiceMode, ServicePort, Traffic,
};

/// A drawing without places.
#[derive(Debug, Default)]
pub struct Drawing {
    /// The lab's name.
    pub title: String,
    /// What the lab shows, in a sentence; may be empty.
    pub about: String,
    /// All nodes. A host comes before what is inside it.
    pub nodes: Vec<Node>,
    /// All edges.
    pub edges: Vec<Edge>,
}

/// A thing of the lab.
#[derive(Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What else is said of it, a line each.
    pub notes: Vec<String>,
    /// The host that it is inside, as an index of [`Drawing::nodes`].
    pub inside: Option<usize>,
    /// Whether only a step makes it.
    pub deferred: bool,
}

/// The kinds of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A segment of the underlay.
    Segment,
    /// A host, with nodes inside.
    Host,
    /// A NIC of a host, or an interface on top of one.
    Nic,
    /// A peer.
    Peer,
    /// A Docker network: inside each of its hosts, an overlay outside of all.
    Network,
    /// A container.
    Container,
    /// A service of the swarm.
    Service,
}

/// A line from one node to another.
#[derive(Debug)]
pub struct Edge {
    /// The node below: a NIC below its segment, a container below its network.
    pub from: usize,
    /// The node above.
    pub to: usize,
    /// What is written at it; may be empty.
    pub label: String,
}

impl Kind {
    /// A word for each kind, for classes and styles.
    pub fn word(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Host => "host",
            Self::Nic => "nic",
            Self::Peer => "peer",
            Self::Network => "network",
            Self::Container => "container",
            Self::Service => "service",
        }
    }
}

impl Drawing {
    /// What is drawn of a lab.
    pub fn of(lab: &Lab) -> Self {
        let mut builder = Builder {
            lab,
            drawing: Self { title: lab.name.clone(), about: lab.description.clone(), ..Self::default() },
            segments: IndexMap::new(),
            interfaces: IndexMap::new(),
            networks: IndexMap::new(),
            containers: IndexMap::new(),
        };
        lab.segments.iter().for_each(|(name, segment)| builder.segment(name, segment));
        lab.hosts.iter().for_each(|(name, host)| builder.host(name, host));
        lab.peers.iter().for_each(|(name, peer)| builder.peer(name, peer));
        lab.networks
            .iter()
            .filter(|(_, n)| n.driver == Driver::Overlay)
            .for_each(|(key, n)| builder.overlay(key, n));
        lab.services.iter().for_each(|(name, service)| builder.service(name, service));
        builder.joins();
        builder.drawing
    }

    /// The nodes of a kind with their indices.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter(move |(_, node)| node.kind == kind)
    }

    /// The node of a place of the oracle's walks: `segment lan`, `gateway of lan/eth0`, `host1/br-red`, `web/eth0`, `web.1`,
    /// `net of host1/vxlan0`.
    pub fn node_at(&self, at: &str) -> Option<usize> {
        let (space, interface) = at.split_once('/').unwrap_or((at, ""));
        let find = |name: &str, kinds: &[Kind]| {
            self.nodes.iter().position(|node| node.name == name && kinds.contains(&node.kind))
        };
        if let Some(segment) = ["segment ", "gateway of "].iter().find_map(|of| space.strip_prefix(of)) {
            return find(segment, &[Kind::Segment]);
        }
        // A host's part of an overlay, or its balancer's.
        if let Some((part, host)) = space.split_once(" of ") {
            let network = part.strip_prefix("lb-").unwrap_or(part);
            return find(network, &[Kind::Network]).or_else(|| find(host, &[Kind::Host]));
        }
        let task_of = || find(space.rsplit_once('.')?.0, &[Kind::Service]);
        let node = find(space, &[Kind::Host, Kind::Peer, Kind::Container, Kind::Service]).or_else(task_of)?;
        let bridge =
            if interface == "docker0" { DEFAULT_BRIDGE } else { interface.trim_start_matches("br-") };
        let is_there = |n: &Node| match n.kind {
            Kind::Network => n.name == bridge && bridge != interface,
            _ => n.name == interface,
        };
        let part = self.inside(node).find(|(_, n)| is_there(n));
        Some(part.map_or(node, |(n, _)| n))
    }

    /// The nodes inside a host with their indices.
    pub fn inside(&self, host: usize) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter(move |(_, node)| node.inside == Some(host))
    }
}

/// Makes a drawing. Remembers which node stands for what.
struct Builder<'a> {
    lab: &'a Lab,
    drawing: Drawing,
    segments: IndexMap<&'a str, usize>,
    /// By host and name in it.
    interfaces: IndexMap<(&'a str, &'a str), usize>,
    /// By host (none: an overlay) and key.
    networks: IndexMap<(Option<&'a str>, &'a str), usize>,
    containers: IndexMap<&'a str, usize>,
}

/// The network that a container has without any other.
const DEFAULT_BRIDGE: &str = "bridge";

impl<'a> Builder<'a> {
    fn node(
        &mut self,
        kind: Kind,
        name: &str,
        notes: Vec<String>,
        inside: Option<usize>,
        deferred: bool,
    ) -> usize {
        self.drawing.nodes.push(Node { kind, name: name.to_owned(), notes, inside, deferred });
        self.drawing.nodes.len() - 1
    }

    fn edge(&mut self, from: usize, to: Option<usize>, label: String) {
        if let Some(to) = to {
            self.drawing.edges.push(Edge { from, to, label });
        }
    }

    fn segment(&mut self, name: &'a str, segment: &Segment) {
        let mut notes = vec![segment.subnet.to_string()];
        notes.extend((!segment.gateway.is_empty()).then(|| format!("gateway {}", segment.gateway)));
        notes.extend((segment.mtu != 1500).then(|| format!("MTU {}", segment.mtu)));
        notes.extend(segment.port_security.then(|| "port security".to_owned()));
        notes.extend(segment.block.iter().map(|traffic| format!("blocks {traffic}")));
        let node = self.node(Kind::Segment, name, notes, None, false);
        self.segments.insert(name, node);
    }

    fn host(&mut self, name: &'a str, host: &'a Host) {
        let role =
            self.lab.swarm.as_ref().and_then(|swarm| swarm.nodes.get(name)).map(|node| match node.role {
                Role::Manager => "swarm manager".to_owned(),
                Role::Worker => "swarm worker".to_owned(),
            });
        let engine = (host.engine != Engine::default()).then(|| format!("Docker of {}", host.engine));
        let node = self.node(Kind::Host, name, role.into_iter().chain(engine).collect(), None, false);
        for nic in &host.nics {
            let made = self.node(Kind::Nic, &nic.name, vec![address(nic)], Some(node), false);
            self.interfaces.insert((name, &nic.name), made);
            self.edge(made, self.segments.get(nic.segment.as_str()).copied(), String::new());
        }
        for interface in &host.interfaces {
            let kind = match interface.kind {
                InterfaceKind::Macvlan => "macvlan".to_owned(),
                InterfaceKind::Ipvlan => "ipvlan".to_owned(),
                InterfaceKind::Vlan(id) => format!("VLAN {id}"),
                InterfaceKind::Bridge => "bridge".to_owned(),
            };
            let kind = format!("{kind} on {}", interface.on.join(", "));
            let notes =
                [kind].into_iter().chain(interface.addresses.iter().map(ToString::to_string)).collect();
            let made = self.node(Kind::Nic, &interface.name, notes, Some(node), interface.deferred);
            for below in &interface.on {
                self.edge(made, self.interfaces.get(&(name, below.as_str())).copied(), String::new());
            }
            self.interfaces.insert((name, &interface.name), made);
        }
        let lab = self.lab;
        let local = |n: &&Network| n.driver != Driver::Overlay && n.hosts.iter().any(|h| h == name);
        for (key, network) in lab.networks.iter().filter(|(_, n)| local(n)) {
            self.local_network(node, name, host, key, network);
        }
        let containers: Vec<_> = lab.containers.iter().filter(|(_, c)| c.host == name).collect();
        if containers.iter().any(|(_, c)| matches!(c.attach, Attach::DefaultBridge { .. })) {
            let made =
                self.node(Kind::Network, DEFAULT_BRIDGE, vec!["Docker's own".to_owned()], Some(node), false);
            self.networks.insert((Some(name), DEFAULT_BRIDGE), made);
        }
        for (key, container) in containers {
            let made = self.node(Kind::Container, key, notes_of(container), Some(node), container.deferred);
            self.containers.insert(key, made);
        }
    }

    fn local_network(
        &mut self,
        node: usize,
        name: &'a str,
        host: &'a Host,
        key: &'a str,
        network: &'a Network,
    ) {
        let (driver, parent) = match &network.driver {
            Driver::Bridge => ("bridge", None),
            Driver::Macvlan { parent } => ("macvlan", parent.as_ref()),
            Driver::Ipvlan { parent } => ("ipvlan", parent.as_ref()),
            Driver::Overlay => ("overlay", None),
        };
        let nic_on = |segment: &str| host.nics.iter().find(|n| n.segment == segment).map(|n| n.name.as_str());
        let (on, over) = match parent {
            Some(Parent::Segment { segment, vlan }) => {
                let nic = nic_on(segment);
                let tag = vlan.map(|id| format!(".{id}")).unwrap_or_default();
                (format!(" on {}{tag}", nic.unwrap_or(segment)), nic)
            }
            Some(Parent::Interface(interface)) => {
                // `eth0.10`, which Docker makes, is on top of eth0.
                let known = [interface.as_str(), interface.split('.').next().unwrap_or(interface)];
                let over = known.into_iter().find(|i| self.interfaces.contains_key(&(name, *i)));
                (format!(" on {interface}"), over)
            }
            None => (String::new(), None),
        };
        let made = self.network(&format!("{driver}{on}"), Some(node), key, network);
        self.networks.insert((Some(name), key), made);
        let over = over.and_then(|nic| self.interfaces.get(&(name, nic))).copied();
        self.edge(made, over, String::new());
    }

    fn network(&mut self, what: &str, inside: Option<usize>, key: &str, network: &Network) -> usize {
        let mode = ["ipvlan_mode", "macvlan_mode"].into_iter().find_map(|option| network.options.get(option));
        let words = mode.into_iter().cloned().chain(network.internal.then(|| "internal".to_owned()));
        let what = [what.to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(", ");
        let notes =
            [what].into_iter().chain(network.ipam.iter().map(|pool| pool.subnet.to_string())).collect();
        self.node(Kind::Network, key, notes, inside, network.deferred)
    }

    fn peer(&mut self, name: &str, peer: &Peer) {
        let node = self.node(Kind::Peer, name, vec![address(&peer.nic)], None, false);
        self.edge(node, self.segments.get(peer.nic.segment.as_str()).copied(), String::new());
    }

    fn overlay(&mut self, key: &'a str, network: &Network) {
        let encrypted = network.options.contains_key("encrypted");
        let what = match (network.ingress, encrypted) {
            (true, _) => "overlay, the routing mesh",
            (_, true) => "overlay, encrypted",
            _ => "overlay",
        };
        let node = self.network(what, None, key, network);
        self.networks.insert((None, key), node);
    }

    fn service(&mut self, name: &str, service: &'a Service) {
        let tasks = match service.mode {
            ServiceMode::Replicated(1) => "1 task".to_owned(),
            ServiceMode::Replicated(n) => format!("{n} tasks"),
            ServiceMode::Global => "a task on every node".to_owned(),
        };
        let hosts = &service.placement.hosts;
        let on = (!hosts.is_empty()).then(|| format!("on {}", hosts.join(", ")));
        let constraints = service.placement.constraints.iter().cloned();
        let ports = service.ports.iter().map(service_port);
        let notes = [tasks].into_iter().chain(on).chain(constraints).chain(ports).collect();
        let node = self.node(Kind::Service, name, notes, None, service.deferred);
        for key in service.networks.keys() {
            self.edge(node, self.networks.get(&(None, key.as_str())).copied(), String::new());
        }
    }

    /// The edges of containers, once all nodes are there.
    fn joins(&mut self) {
        for (key, container) in &self.lab.containers {
            let Some(node) = self.containers.get(key.as_str()).copied() else { continue };
            let host = Some(container.host.as_str());
            let network = |key| self.networks.get(&(host, key)).or_else(|| self.networks.get(&(None, key)));
            let edges: Vec<(Option<usize>, String)> = match &container.attach {
                Attach::DefaultBridge { ipv4_address } => {
                    let address = ipv4_address.map(|a| a.to_string()).unwrap_or_default();
                    vec![(network(DEFAULT_BRIDGE).copied(), address)]
                }
                Attach::Networks(all) => {
                    all.iter().map(|(key, at)| (network(key).copied(), at.addresses().to_string())).collect()
                }
                Attach::Container(other) => {
                    vec![(self.containers.get(other.as_str()).copied(), "shares its network".to_owned())]
                }
                Attach::Host | Attach::None => Vec::new(),
            };
            edges.into_iter().for_each(|(to, label)| self.edge(node, to, label));
        }
    }
}

/// `192.168.56.3/24`; of a point-to-point NIC with the other side.
fn address(nic: &Nic) -> String {
    let peer = if nic.peer.is_empty() { String::new() } else { format!(" to {}", nic.peer) };
    format!("{}{peer}", nic.addresses)
}

fn notes_of(container: &Container) -> Vec<String> {
    let attached = match &container.attach {
        Attach::Host => Some("the host's network".to_owned()),
        Attach::None => Some("no network".to_owned()),
        Attach::Container(other) => Some(format!("network of {other}")),
        Attach::DefaultBridge { .. } | Attach::Networks(_) => None,
    };
    attached.into_iter().chain(container.ports.iter().map(port)).collect()
}

fn port(port: &Publish) -> String {
    let ip = match port.host_ip {
        Some(std::net::IpAddr::V6(ip)) => format!("[{ip}]:"),
        Some(ip) => format!("{ip}:"),
        None => String::new(),
    };
    let published = port.published.map_or_else(|| "any".to_owned(), |p| p.to_string());
    format!("port {ip}{published} to {}", Traffic::Port(port.protocol, port.target))
}

fn service_port(port: &ServicePort) -> String {
    let published = port.published.map_or_else(|| "any".to_owned(), |p| p.to_string());
    let by = match port.mode {
        PublishMode::Ingress => "",
        PublishMode::Host => ", host mode",
    };
    format!("port {published} to {}{by}", Traffic::Port(port.protocol, port.target))
}
