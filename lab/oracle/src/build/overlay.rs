//! Overlays: on each node that has an endpoint on one, a namespace with a bridge and a VXLAN device, and a load balancer.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use indexmap::IndexMap;
use ipnet::IpNet;
use labctl_dataplane::{
    net::{Address, At, Balancer, Link, Role, Route, Taken, Vxlan},
    netfilter::{Match, Table, Target},
    packet::Mac,
};
use labctl_model::{BUILTIN_IMAGE, EndpointMode, Family, INGRESS, Network, OfFamily, PublishMode};

use super::{
    Built,
    docker::{self, proto},
    docker_mac, eth,
};
use crate::{
    addressing::Pool,
    placement::Task,
    state::{Overlay, State, Status},
};

/// UDP port of VXLAN, unless the swarm has another.
pub const PORT: u16 = 4789;
/// What VXLAN takes from the MTU, and what ESP takes of what is left (moby libnetwork/drivers/overlay, `maxMTU`).
const VXLAN_BYTES: u32 = 50;
const ESP_BYTES: u32 = 26;

/// An endpoint of an overlay.
struct End {
    host: String,
    ip: IpAddr,
    /// Its node's own, of IPv6, with the length of its prefix.
    v6: Option<Address>,
    mac: Mac,
    ns: usize,
    /// The interface that waits for it; a new one if absent.
    waits: Option<At>,
}

impl Built {
    /// Makes tasks and overlays.
    pub(super) fn overlays(&mut self, state: &State<'_>) {
        let tasks: Vec<&Task> = state.tasks().collect();
        for task in &tasks {
            self.task(state, task);
        }
        for (key, overlay) in &state.overlays {
            let ends = self.ends(state, key, &tasks);
            self.overlay(state, key, overlay, &ends, &tasks);
        }
    }

    /// The namespace of a task, with its way out.
    fn task(&mut self, state: &State<'_>, task: &Task) {
        if !state.hosts.get(task.host.as_str()).is_some_and(|h| h.up) {
            return;
        }
        let ns = self.inside(&task.host, &task.name, Role::Endpoint);
        self.spaces.insert(task.name.clone(), ns);
        let spec = state.services.get(&task.service).map(|s| &s.spec);
        if let Some(image) = spec.map(|s| &s.image).filter(|i| *i != BUILTIN_IMAGE) {
            let why = format!("what listens in the image {image}");
            self.net.spaces[ns].taken.push(Taken { port: None, why });
        }
        let mesh = state.lab.mesh().map_or(INGRESS, |(key, _)| key);
        if let (Some(on_mesh), Some(spec)) = (task.addresses.get(mesh), spec) {
            for p in spec.ports.iter().filter(|p| p.mode == PublishMode::Ingress) {
                let Some(published) = p.published else { continue };
                let matches =
                    vec![Match::Dst(false, IpNet::from(*on_mesh)), Match::Port(proto(p.protocol), published)];
                let to = SocketAddr::new(*on_mesh, p.target);
                self.net.spaces[ns].firewall.append(Table::Nat, "PREROUTING", matches, Target::Dnat(to));
            }
        }
        if let Some((key, ip)) = &task.gwbridge {
            self.attach_local(state, &task.host, ns, key, (*ip, None), None);
            self.default_route(state, &task.host, ns, (key, *ip));
        }
    }

    fn ends(&self, state: &State<'_>, key: &str, tasks: &[&Task]) -> Vec<End> {
        let mut ends = Vec::new();
        for (name, c) in &state.containers {
            let (Some(at), Some(ns)) = (c.networks.get(key), self.spaces.get(*name)) else { continue };
            if c.status != Status::Running {
                continue;
            }
            let host = state.lab.containers.get(*name).map(|c| c.host.clone()).unwrap_or_default();
            let mac = at.mac.as_deref().and_then(super::mac_of).unwrap_or(docker_mac(at.ip));
            let waits = self.waiting.get(&(*ns, key.to_owned())).copied();
            let pool = state.lab.networks.get(key).and_then(|n| n.pools(Family::V6).next());
            let prefix_len = pool.map_or(Family::V6.bits(), |p| p.subnet.prefix_len());
            let v6 = at.v6.map(|ip| Address { ip, prefix_len });
            ends.push(End { host, ip: at.ip, v6, mac, ns: *ns, waits });
        }
        for task in tasks {
            let (Some(ip), Some(ns)) = (task.addresses.get(key), self.spaces.get(&task.name)) else {
                continue;
            };
            ends.push(End {
                host: task.host.clone(),
                ip: *ip,
                v6: None,
                mac: docker_mac(*ip),
                ns: *ns,
                waits: None,
            });
        }
        ends
    }

    fn overlay(&mut self, state: &State<'_>, key: &str, overlay: &Overlay, ends: &[End], tasks: &[&Task]) {
        let mesh = state.lab.mesh().map_or(INGRESS, |(key, _)| key) == key;
        let up = |h: &str| state.hosts.get(h).is_some_and(|h| h.up);
        // The nodes that have it.
        let on_mesh = |n: &str| mesh && state.nodes.get(n).is_some_and(|node| node.sandbox.is_some());
        let nodes = state.nodes.keys().filter(|n| up(n));
        let nodes: Vec<&String> =
            nodes.filter(|n| on_mesh(n) || ends.iter().any(|e| e.host == **n)).collect();
        let mut pool = overlay.pool.clone();
        let mut balancers: IndexMap<&String, End> = IndexMap::new();
        for node in &nodes {
            if let Some(ip) = pool.allocate() {
                let name =
                    if mesh { format!("ingress_sbox of {node}") } else { format!("lb-{key} of {node}") };
                let ns = self.inside(node, &name, Role::Inner);
                let end = End { host: (*node).clone(), ip, v6: None, mac: docker_mac(ip), ns, waits: None };
                balancers.insert(node, end);
            }
        }
        for node in &nodes {
            self.sandbox(state, key, overlay, node, ends, &balancers);
            if let Some(lb) = balancers.get(node) {
                self.balancer(state, key, overlay, node, lb, tasks, mesh);
            }
        }
    }

    /// The namespace of an overlay on a node.
    fn sandbox(
        &mut self,
        state: &State<'_>,
        key: &str,
        overlay: &Overlay,
        node: &str,
        ends: &[End],
        balancers: &IndexMap<&String, End>,
    ) {
        let Some(outer) = self.spaces.get(node).copied() else { return };
        let network = state.lab.networks.get(key);
        let encrypted = network.is_some_and(|n| n.options.contains_key("encrypted"));
        let mtu = mtu(network.map_or(super::MTU, path_mtu), encrypted);
        let pool: &Pool = &overlay.pool;
        let ns = self.inside(node, &format!("{key} of {node}"), Role::Inner);
        let mut bridge = self.interface("br0", Link::Bridge);
        bridge.addresses = vec![Address { ip: pool.gateway, prefix_len: pool.subnet.prefix_len() }];
        bridge.mtu = mtu;
        let bridge = self.net.plug(ns, bridge).iface;
        let all = || ends.iter().chain(balancers.values());
        let mut peers = BTreeMap::new();
        for end in all().filter(|e| e.host != node && self.gossip.knows(node, &e.host)) {
            if let Some(other) = state.nodes.get(&end.host) {
                peers.insert(end.ip, (end.mac, other.data_path));
            }
        }
        let port = state.lab.swarm.as_ref().and_then(|s| s.data_path_port).unwrap_or(PORT);
        // Over IPv6 from Docker 25 on (moby#46790).
        let own = state
            .nodes
            .get(node)
            .filter(|_| state.lab.hosts.get(node).is_some_and(|h| h.engine.is_at_least(25)));
        let family = own.map_or(Family::V4, |own| own.data_path.family());
        let vxlan = Vxlan { vni: overlay.vni, port, outer, encrypted, family, peers };
        let mut device = self.interface("vxlan0", Link::Vxlan(vxlan));
        (device.master, device.mtu) = (Some(bridge), mtu);
        device.unknown = network.and_then(docker::unmodelled_options).or_else(|| state.swarm_unknown.clone());
        self.net.plug(ns, device);
        for end in all().filter(|e| e.host == node) {
            let first = Address { ip: end.ip, prefix_len: pool.subnet.prefix_len() };
            let addresses = [first].into_iter().chain(end.v6).collect::<Vec<_>>();
            match end.waits {
                None => {
                    let name = eth(&self.net.spaces[end.ns]);
                    self.pair((ns, bridge), end.ns, name, addresses, end.mac, mtu);
                }
                Some(inside) => {
                    let mut outer =
                        self.interface(format!("veth-{}", self.net.spaces[end.ns].name), Link::Veth(inside));
                    (outer.master, outer.mtu) = (Some(bridge), mtu);
                    let port = self.net.plug(ns, outer);
                    let i = &mut self.net.spaces[inside.ns].interfaces[inside.iface];
                    (i.link, i.addresses, i.mac, i.mtu) = (Link::Veth(port), addresses, end.mac, mtu);
                }
            }
        }
    }

    /// What a load balancer of a node knows.
    #[allow(clippy::too_many_arguments, reason = "all of them are what one overlay on one node is made of")]
    fn balancer(
        &mut self,
        state: &State<'_>,
        key: &str,
        overlay: &Overlay,
        node: &str,
        lb: &End,
        tasks: &[&Task],
        mesh: bool,
    ) {
        for (name, service) in &state.services {
            if service.spec.endpoint_mode != EndpointMode::Vip {
                continue;
            }
            let own = tasks.iter().filter(|t| t.service == *name);
            let known = own.filter(|t| t.host == node || self.gossip.knows(node, &t.host));
            let backends: Vec<IpAddr> = known.filter_map(|t| t.addresses.get(key).copied()).collect();
            let published = service.spec.ports.iter().filter(|p| p.mode == PublishMode::Ingress);
            let ports = published.filter_map(|p| Some((proto(p.protocol), p.published?))).collect::<Vec<_>>();
            let (vip, ports) = match (mesh, overlay.vips.get(name)) {
                (true, _) if !ports.is_empty() => (None, ports),
                (false, Some(vip)) => (Some(*vip), Vec::new()),
                _ => continue,
            };
            let balancer = Balancer { vip, ports, backends, snat: lb.ip, service: name.clone() };
            let space = &mut self.net.spaces[lb.ns];
            space.balancers.push(balancer);
            if let (Some(ip), Some(eth0)) = (vip, space.interfaces.get_mut(1)) {
                eth0.addresses.push(Address { ip, prefix_len: 32 });
            }
        }
        let sandbox = state.nodes.get(node).and_then(|n| n.sandbox).filter(|_| mesh);
        if let Some(ip) = sandbox
            && let Some(at) = self.attach_local(state, node, lb.ns, state.gwbridge(), (ip, None), None)
        {
            let pools = state.hosts.get(node).and_then(|h| h.networks.get(state.gwbridge()));
            let via = pools.and_then(|p| p.first()).map(|p| p.gateway);
            let to = IpNet::V4(ipnet::Ipv4Net::default());
            self.net.spaces[lb.ns].routes.push(Route { to, via, dev: at.iface, metric: 0 });
        }
    }
}

/// How wide an overlay takes its path to be, in bytes of an IP packet.
pub fn path_mtu(network: &Network) -> u32 {
    let given = network.options.get(docker::MTU).and_then(|o| o.parse().ok());
    given.filter(|m| *m > 0).unwrap_or(super::MTU)
}

/// MTU inside of an overlay.
fn mtu(path: u32, encrypted: bool) -> u32 {
    let plain = path.saturating_sub(VXLAN_BYTES);
    if !encrypted {
        return plain;
    }
    let less = plain.saturating_sub(ESP_BYTES);
    less - less % 4
}
