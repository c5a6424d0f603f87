//! Builds the network of a lab's state, as Linux and Docker would have it.

mod docker;
mod overlay;

pub use docker::MTU as MTU_OPTION;
pub use overlay::{PORT as VXLAN_PORT, path_mtu as overlay_path_mtu};

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use indexmap::IndexMap;
use ipnet::IpNet;
use labctl_dataplane::{
    net::{
        Address, At, Block, Interface, IpvlanFlag, IpvlanMode, Link, MacvlanMode, Namespace, Net, Port,
        ProxyAt, Role, Route, Taken, Wire,
    },
    packet::{Mac, Proto},
};
use labctl_model::{Attach, Driver, Family, Host, InterfaceKind, Nic, OfFamily, Route as Described};
use serde_json::Value;

use crate::{
    state::{State, Status},
    swarm::Gossip,
};

/// MTU of what Docker makes, if nobody says otherwise.
const MTU: u32 = 1500;
/// Whether what a bridge passes on is handed to iptables, and to ip6tables.
const BRIDGED: [&str; 2] = ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"];
/// Keys of daemon.json that the oracle knows, or that change nothing of the network.
const KNOWN_KEYS: [&str; 21] = [
    "ipv6",
    "fixed-cidr-v6",
    "ip6tables",
    "iptables",
    "ip-forward",
    "userland-proxy",
    "default-address-pools",
    "mtu",
    "live-restore",
    "icc",
    "ip-masq",
    "bip",
    "debug",
    "log-level",
    "log-driver",
    "log-opts",
    "storage-driver",
    "data-root",
    "experimental",
    "max-concurrent-downloads",
    "features",
];

/// The network of a state, and where everybody is in it.
#[derive(Debug, Default)]
pub struct Built {
    /// The network.
    pub net: Net,
    /// Namespace of every host, container, task and peer that runs.
    pub spaces: IndexMap<String, usize>,
    /// Who hears whom in the swarm.
    pub gossip: Gossip,
    /// Interfaces of containers that wait for their overlay, by namespace and key.
    waiting: BTreeMap<(usize, String), At>,
    macs: u32,
}

/// Builds it. Where nodes of the swarm hear each other only one way, nobody can say whether they know each other's
/// endpoints: `generous` says that they do.
pub fn build(state: &State<'_>, generous: bool) -> Built {
    let mut built = Built::default();
    for (name, segment) in &state.lab.segments {
        let here = |p: &labctl_model::Place| p.segment.as_ref().is_none_or(|s| s == name);
        let blocks = state.blocks.iter().filter(|(_, p)| here(p));
        built.net.wires.push(Wire {
            name: name.clone(),
            mtu: segment.mtu.into(),
            port_security: segment.port_security,
            ports: Vec::new(),
            blocks: blocks
                .map(|(filter, p)| Block { filter: *filter, from: p.from.clone(), to: p.to.clone() })
                .collect(),
            advertised: segment.ra.is_some(),
        });
    }
    for (name, host) in &state.lab.hosts {
        if state.hosts.get(name.as_str()).is_some_and(|h| h.up) {
            built.host(state, name, host);
        }
    }
    built.peers(state);
    built.stand_ins(state);
    for name in state.lab.hosts.keys().filter(|n| state.hosts.get(n.as_str()).is_some_and(|h| h.up)) {
        built.bridges(state, name);
        for container in state.lab.start_order(name) {
            built.container(state, container);
        }
    }
    built.net.index();
    built.gossip = Gossip::of(state, &built.net, &built.spaces, generous);
    built.overlays(state);
    for name in state.lab.hosts.keys().filter(|n| state.hosts.get(n.as_str()).is_some_and(|h| h.up)) {
        built.rules(state, name);
    }
    built.net.index();
    built
}

impl Built {
    /// A MAC that nobody else has.
    fn mac(&mut self) -> Mac {
        self.macs += 1;
        let [a, b, c, d] = self.macs.to_be_bytes();
        Mac([0x0e, 0x00, a, b, c, d])
    }

    fn interface(&mut self, name: impl Into<String>, link: Link) -> Interface {
        let (name, mac) = (name.into(), self.mac());
        Interface {
            name,
            mac,
            mtu: MTU,
            addresses: Vec::new(),
            link,
            master: None,
            above: Vec::new(),
            unknown: None,
        }
    }

    fn nic(&mut self, state: &State<'_>, ns: usize, nic: &Nic, host: Option<&str>) -> Option<At> {
        let wire = state.lab.segments.get_index_of(&nic.segment)?;
        let addresses = nic.addresses.iter();
        let addresses =
            addresses.map(|net| Address { ip: net.addr(), prefix_len: net.prefix_len() }).collect();
        let mac = Mac(nic.mac);
        let at = self.net.plug(
            ns,
            Interface {
                name: nic.name.clone(),
                mac,
                mtu: nic.mtu.into(),
                addresses,
                link: Link::Wire(wire),
                master: None,
                above: Vec::new(),
                unknown: None,
            },
        );
        for peer in nic.peer.iter() {
            let to = IpNet::from(peer);
            self.net.spaces[ns].routes.push(Route { to, via: None, dev: at.iface, metric: 0 });
        }
        let cut = host.and_then(|h| state.hosts.get(h)?.cut.get(&nic.segment)).copied().unwrap_or_default();
        let host = host.map(str::to_owned);
        self.net.wires[wire].ports.push(Port { at, host, from: !cut.1, to: !cut.0 });
        Some(at)
    }

    fn host(&mut self, state: &State<'_>, name: &str, host: &Host) {
        let Some(now) = state.hosts.get(name) else { return };
        let mut space = Namespace::new(name, Role::Endpoint);
        space.unknown = now.unknown.clone().or_else(|| unmodelled(host, &now.daemon_json));
        let set = |key: &str| host.sysctls.get(key).map(String::as_str);
        let docker_forwards = now.daemon_json.get("ip-forward") != Some(&Value::Bool(false));
        space.forwards = docker_forwards || set("net.ipv4.ip_forward") == Some("1");
        space.filters_bridged = set(BRIDGED[0]) != Some("0");
        space.filters_bridged_v6 = set(BRIDGED[1]) != Some("0");
        space.forwards_v6 = set(FORWARD_V6) == Some("1");
        let ns = self.net.add(space);
        self.spaces.insert(name.to_owned(), ns);
        for nic in &host.nics {
            self.nic(state, ns, nic, Some(name));
        }
        for i in host.interfaces.iter().filter(|i| now.interfaces.contains(&i.name)) {
            let Some(parent) = self.net.spaces[ns].interface(i.parent()) else { continue };
            let parent = At { ns, iface: parent };
            let mut made = match i.kind {
                InterfaceKind::Macvlan => self.interface(&i.name, Link::Macvlan(parent, MacvlanMode::Bridge)),
                InterfaceKind::Ipvlan => {
                    self.interface(&i.name, Link::Ipvlan(parent, IpvlanMode::L2, IpvlanFlag::Bridge))
                }
                InterfaceKind::Vlan(id) => self.interface(&i.name, Link::Vlan(parent, id)),
                InterfaceKind::Bridge => self.interface(&i.name, Link::Bridge),
            };
            // A bridge has the lowest MAC and the smallest MTU of its ports (Linux, net/bridge/br_stp_if.c, br_if.c).
            let ports = self.net.spaces[ns].interfaces.iter().filter(|port| i.has_port(&port.name));
            let own = self.net.at(parent);
            let (mac, mtu) = ports.fold((own.mac, own.mtu), |(mac, mtu), p| (mac.min(p.mac), mtu.min(p.mtu)));
            if i.kind != InterfaceKind::Macvlan {
                made.mac = mac;
            }
            made.mtu = mtu;
            let addresses = i.addresses.iter();
            made.addresses =
                addresses.map(|a| Address { ip: a.addr(), prefix_len: a.prefix_len() }).collect();
            let bridge = self.net.spaces[ns].interfaces.len();
            for port in self.net.spaces[ns].interfaces.iter_mut().filter(|port| i.has_port(&port.name)) {
                port.master = Some(bridge);
                made.addresses.append(&mut port.addresses);
            }
            self.net.plug(ns, made);
        }
        let gateways = Family::ALL.into_iter().filter_map(|family| host.gateway(state.lab, family));
        let defaults = gateways.map(|via| Described {
            to: via.family().everything(),
            via: Some(via),
            dev: None,
            metric: None,
        });
        for route in defaults.collect::<Vec<_>>().iter().chain(&now.routes) {
            self.route(ns, route, host);
        }
    }

    fn route(&mut self, ns: usize, route: &Described, host: &Host) {
        let space = &self.net.spaces[ns];
        let nic_on =
            |segment: &String| host.nics.iter().find(|n| n.segment == *segment).map(|n| n.name.as_str());
        let named =
            route.dev.as_ref().and_then(|dev| space.interface(dev).or_else(|| space.interface(nic_on(dev)?)));
        let near = |via: IpAddr| match space.route(via, None) {
            labctl_dataplane::net::Next::Out { dev, .. } => Some(dev),
            _ => None,
        };
        // By an address of its own the destination is on link, at that address's interface (Linux, net/ipv4/route.c,
        // `rt_set_nexthop`); IPv6 refuses it (net/ipv6/route.c, `ip6_validate_gw`).
        let own = route.via.filter(|via| via.is_ipv4() && space.is_local(*via));
        let at = |ip: IpAddr| space.interfaces.iter().position(|i| i.addresses.iter().any(|a| a.ip == ip));
        let via = route.via.filter(|_| own.is_none());
        // The kernel refuses a route whose next hop is nowhere.
        if let Some(dev) = named.or_else(|| own.map_or_else(|| near(via?), at)) {
            let metric = route.metric.unwrap_or_default();
            self.net.spaces[ns].routes.push(Route { to: route.to.trunc(), via, dev, metric });
        }
    }

    fn peers(&mut self, state: &State<'_>) {
        for (name, peer) in &state.lab.peers {
            let ns = self.net.add(Namespace::new(name, Role::Endpoint));
            self.spaces.insert(name.clone(), ns);
            let Some(at) = self.nic(state, ns, &peer.nic, None) else { continue };
            let gateways = peer.gateway.iter().filter(|g| peer.nic.addresses.has(g.family()));
            let defaults = gateways.map(|via| (via.family().everything(), Some(via)));
            let others = peer.routes.iter().map(|r| (r.to.trunc(), r.via));
            for (to, via) in defaults.chain(others) {
                self.net.spaces[ns].routes.push(Route { to, via, dev: at.iface, metric: 0 });
            }
        }
    }

    fn stand_ins(&mut self, state: &State<'_>) {
        let inside: Vec<IpNet> =
            state.lab.segments.values().flat_map(|s| s.subnet.iter()).map(|net| net.trunc()).collect();
        for (wire, (name, segment)) in state.lab.segments.iter().enumerate() {
            if segment.gateway.is_empty() {
                continue;
            }
            let mut space = Namespace::new(format!("gateway of {name}"), Role::StandIn);
            let outside = segment.outside.iter().map(|n| n.trunc()).collect();
            space.outside = (outside, inside.clone());
            space.path_mtu = segment.path_mtu.map_or(u32::MAX, u32::from);
            let ns = self.net.add(space);
            let mut nic = self.interface("eth0", Link::Wire(wire));
            nic.mtu = u32::from(segment.mtu);
            let own = segment.gateway.iter().filter_map(|ip| {
                Some(Address { ip, prefix_len: segment.subnet.get(ip.family())?.prefix_len() })
            });
            nic.addresses = own.collect();
            let at = self.net.plug(ns, nic);
            self.net.wires[wire].ports.push(Port { at, host: None, from: true, to: true });
        }
    }

    /// The namespace of a container, made or shared.
    fn container(&mut self, state: &State<'_>, name: &str) {
        let (Some(described), Some(now)) = (state.lab.containers.get(name), state.containers.get(name))
        else {
            return;
        };
        if now.status != Status::Running {
            return;
        }
        let shared = match &described.attach {
            Attach::Host => self.spaces.get(&described.host).copied(),
            Attach::Container(of) => {
                let same = state
                    .containers
                    .get(of.as_str())
                    .is_some_and(|x| x.status == Status::Running && Some(x.generation) == now.joined);
                self.spaces.get(of).copied().filter(|_| same)
            }
            _ => None,
        };
        let ns = shared.unwrap_or_else(|| self.inside(&described.host, name, Role::Endpoint));
        self.spaces.insert(name.to_owned(), ns);
        if described.image != labctl_model::BUILTIN_IMAGE {
            let why = format!("what listens in the image {}", described.image);
            self.net.spaces[ns].taken.push(Taken { port: None, why });
        }
        let space = &mut self.net.spaces[ns];
        space.unknown = space.unknown.take().or_else(|| now.unknown.clone());
        if shared.is_some() || !matches!(described.attach, Attach::DefaultBridge { .. } | Attach::Networks(_))
        {
            return;
        }
        for (key, at) in &now.networks {
            let mac = at.mac.as_deref().and_then(mac_of);
            let named = match &described.attach {
                Attach::Networks(all) => all.get(key).and_then(|a| a.interface_name.clone()),
                _ => None,
            };
            let made = self.attach_local(state, &described.host, ns, key, (at.ip, at.v6), mac);
            if let (Some(made), Some(named)) = (made, named) {
                self.net.spaces[made.ns].interfaces[made.iface].name = named;
            }
        }
        if let Some(ip) = now.gwbridge {
            self.attach_local(state, &described.host, ns, state.gwbridge(), (ip, None), None);
        }
        for family in Family::ALL {
            if let Some(by) = state.way_out(name, family) {
                self.default_route(state, &described.host, ns, by);
            }
        }
    }

    /// A namespace of a host. It has the host's setting of ip_forward (Linux, net/ipv4/devinet.c, devinet_init_net).
    fn inside(&mut self, host: &str, name: &str, role: Role) -> usize {
        let mut space = Namespace::new(name, role);
        space.forwards = self.spaces.get(host).is_some_and(|ns| self.net.spaces[*ns].forwards);
        self.net.add(space)
    }

    /// Attaches a namespace to a network of its host; an overlay comes later.
    fn attach_local(
        &mut self,
        state: &State<'_>,
        host: &str,
        ns: usize,
        key: &str,
        (ip, v6): (IpAddr, Option<IpAddr>),
        mac: Option<Mac>,
    ) -> Option<At> {
        let name = eth(&self.net.spaces[ns]);
        let driver = state.lab.networks.get(key).map_or(&Driver::Bridge, |n| &n.driver);
        let pools = state.hosts.get(host)?.networks.get(key);
        let address = |ip: IpAddr| {
            let pool = pools.and_then(|p| p.iter().find(|p| p.subnet.contains(&ip)));
            Address { ip, prefix_len: pool.map_or(ip.family().bits(), |p| p.subnet.prefix_len()) }
        };
        let addresses: Vec<Address> = [ip].into_iter().chain(v6).map(address).collect();
        let host_ns = *self.spaces.get(host)?;
        match driver {
            // The place is kept: interfaces are numbered as networks are connected.
            Driver::Overlay => {
                let mut i = self.interface(name, Link::Dummy);
                i.mac = mac.unwrap_or(docker_mac(ip));
                let at = self.net.plug(ns, i);
                self.waiting.insert((ns, key.to_owned()), at);
                Some(at)
            }
            Driver::Bridge => {
                let bridge = self.net.spaces[host_ns].interface(&docker::bridge_name(state, key))?;
                let mtu = self.net.spaces[host_ns].interfaces[bridge].mtu;
                Some(self.pair((host_ns, bridge), ns, name, addresses, mac.unwrap_or(docker_mac(ip)), mtu))
            }
            Driver::Macvlan { .. } | Driver::Ipvlan { .. } => {
                let network = state.lab.networks.get(key)?;
                let parent = self.parent(state, network, host, key)?;
                let engine = &state.lab.hosts.get(host)?.engine;
                let (link, mac) =
                    docker::sub_interface(engine, network, (parent, self.net.at(parent).mac), mac, ip);
                let mut i = self.interface(name, link);
                (i.mac, i.addresses, i.mtu) = (mac, addresses, self.net.at(parent).mtu);
                let passthru = matches!(i.link, Link::Macvlan(_, MacvlanMode::Passthru));
                let passthru = passthru.then(|| "macvlan in mode passthru".to_owned());
                i.unknown = docker::unmodelled_options(network).or(passthru);
                Some(self.net.plug(ns, i))
            }
        }
    }

    /// Two ends of a veth: a port of a bridge, and an interface of a namespace.
    fn pair(
        &mut self,
        (bridge_ns, bridge): (usize, usize),
        ns: usize,
        name: String,
        addresses: Vec<Address>,
        mac: Mac,
        mtu: u32,
    ) -> At {
        let port = At { ns: bridge_ns, iface: self.net.spaces[bridge_ns].interfaces.len() };
        let inside = At { ns, iface: self.net.spaces[ns].interfaces.len() };
        let mut outer = self.interface(format!("veth-{}", self.net.spaces[ns].name), Link::Veth(inside));
        (outer.master, outer.mtu) = (Some(bridge), mtu);
        self.net.plug(bridge_ns, outer);
        let mut inner = self.interface(name, Link::Veth(port));
        (inner.addresses, inner.mac, inner.mtu) = (addresses, mac, mtu);
        self.net.plug(ns, inner)
    }

    /// The interface that a macvlan or ipvlan network sits on; VLANs are made as Docker makes them.
    fn parent(
        &mut self,
        state: &State<'_>,
        network: &labctl_model::Network,
        host: &str,
        key: &str,
    ) -> Option<At> {
        let ns = *self.spaces.get(host)?;
        let wanted = network.parent_interface(state.lab, host).unwrap_or_else(|| format!("dm-{key}"));
        if let Some(iface) = self.net.spaces[ns].interface(&wanted) {
            return Some(At { ns, iface });
        }
        let tagged = wanted
            .rsplit_once('.')
            .and_then(|(base, id)| Some((self.net.spaces[ns].interface(base)?, id.parse::<u16>().ok()?)));
        let made = match tagged {
            Some((base, id)) => {
                let base = At { ns, iface: base };
                let mut vlan = self.interface(wanted, Link::Vlan(base, id));
                (vlan.mac, vlan.mtu) = (self.net.at(base).mac, self.net.at(base).mtu);
                vlan
            }
            None => self.interface(wanted, Link::Dummy),
        };
        Some(self.net.plug(ns, made))
    }

    /// The default route of a family, by this network.
    fn default_route(&mut self, state: &State<'_>, host: &str, ns: usize, (key, ip): (&str, IpAddr)) {
        let space = &self.net.spaces[ns];
        let dev = space.interfaces.iter().position(|i| i.addresses.iter().any(|a| a.ip == ip));
        let pools = state.hosts.get(host).and_then(|h| h.networks.get(key));
        let pool = pools.and_then(|p| p.iter().find(|p| p.subnet.contains(&ip)));
        let (Some(dev), Some(pool)) = (dev, pool) else { return };
        let routed = matches!(space.interfaces[dev].link, Link::Ipvlan(_, IpvlanMode::L3, _));
        let via = (!routed).then_some(pool.gateway);
        let to = ip.family().everything();
        self.net.spaces[ns].routes.push(Route { to, via, dev, metric: 0 });
    }

    /// Ports of a host that dockerd itself has.
    fn own_ports(&mut self, state: &State<'_>, host: &str, mesh: &BTreeSet<(Proto, u16)>) {
        let (Some(ns), Some(node)) = (self.spaces.get(host).copied(), state.nodes.get(host)) else { return };
        let mesh = mesh.iter().filter(|_| node.sandbox.is_some());
        let data = state.lab.swarm.as_ref().and_then(|s| s.data_path_port).unwrap_or(4789);
        let swarm = [(Proto::Tcp, 2377), (Proto::Tcp, 7946), (Proto::Udp, 7946), (Proto::Udp, data)];
        for port in swarm.into_iter().chain(mesh.clone().copied()) {
            let why = format!("what dockerd does at its own port {}/{}", port.0, port.1);
            self.net.spaces[ns].taken.push(Taken { port: Some(port), why });
        }
        // The mesh is of IPv4: by IPv6, who connects is taken by a socket that nobody reads (moby
        // libnetwork/service_linux.go, `plumbIngressProxy`).
        let kept = |(proto, port): &_| ProxyAt {
            ip: None,
            family: Family::V6,
            proto: *proto,
            port: *port,
            to: None,
            answers_as_asked: false,
        };
        if state.hosts.get(host).is_some_and(|h| h.docker) {
            self.net.spaces[ns].proxies.extend(mesh.map(kept));
        }
    }
}

/// The next free name of an interface.
fn eth(space: &Namespace) -> String {
    let n = space.interfaces.iter().filter(|i| i.name.starts_with("eth")).count();
    format!("eth{n}")
}

/// The MAC that Docker derives from an address; IPv6 has none of these.
fn docker_mac(ip: IpAddr) -> Mac {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            Mac([0x02, 0x42, a, b, c, d])
        }
        IpAddr::V6(ip) => {
            let o = ip.octets();
            Mac([0x06, o[11], o[12], o[13], o[14], o[15]])
        }
    }
}

fn mac_of(text: &str) -> Option<Mac> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for octet in &mut mac {
        *octet = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    Some(Mac(mac))
}

/// Whether a host forwards IPv6.
const FORWARD_V6: &str = "net.ipv6.conf.all.forwarding";

/// Settings of a host that may change what it does with packets, and that the oracle does not know.
fn unmodelled(host: &Host, daemon_json: &serde_json::Map<String, Value>) -> Option<String> {
    let harmless = |k: &str| {
        k == "net.ipv4.ip_forward"
            || k == FORWARD_V6
            || !k.starts_with("net.")
            || BRIDGED.contains(&k)
            || k.starts_with("net.core.")
            || k.contains(".neigh.")
    };
    let sysctl = host.sysctls.keys().find(|k| !harmless(k));
    let key = daemon_json.keys().find(|k| !KNOWN_KEYS.contains(&k.as_str()));
    let sysctl = sysctl.map(|k| format!("what the sysctl `{k}` changes"));
    sysctl.or_else(|| key.map(|k| format!("what `{k}` in daemon.json changes")))
}
