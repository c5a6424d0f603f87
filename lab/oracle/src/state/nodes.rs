//! The swarm: nodes, overlays, services.

use std::net::IpAddr;

use indexmap::IndexMap;
use ipnet::{IpNet, Ipv4Net};
use labctl_model::{Driver, Family, Role, Service, ServiceChange, Swarm};

use super::{BRIDGE, NodeState, Overlay, ServiceState, State};
use crate::{
    addressing::{self, Pool},
    placement,
};

impl<'a> State<'a> {
    pub(super) fn form(&mut self, swarm: &'a Swarm) {
        // The mesh's network is the first, and each node has an address on it.
        let nodes = swarm.nodes.keys().filter_map(|host| Some((host.clone(), self.described_node(host)?)));
        self.nodes = nodes.collect();
        self.make_overlay(self.mesh());
        for host in swarm.nodes.keys() {
            self.make_gwbridge(host);
        }
        for (key, network) in &self.lab.networks {
            if !network.deferred && !network.ingress && network.driver == Driver::Overlay {
                self.make_overlay(key);
            }
        }
    }

    /// The network of the routing mesh, by its key.
    fn mesh(&self) -> &'a str {
        self.lab.mesh().map_or(labctl_model::INGRESS, |(key, _)| key)
    }

    pub(super) fn described_node(&self, host: &str) -> Option<NodeState> {
        let node = self.lab.swarm.as_ref()?.nodes.get(host)?;
        let advertise = node.advertise;
        let data_path = node.data_path.unwrap_or(advertise);
        Some(NodeState { role: node.role, advertise, data_path, active: true, sandbox: None })
    }

    pub(super) fn join(&mut self, host: &str, role: Role, advertise: Option<IpAddr>) {
        let described = self.described_node(host);
        let first = self.lab.hosts.get(host).and_then(|h| h.first_address());
        let Some(advertise) = advertise.or(described.as_ref().map(|d| d.advertise)).or(first) else { return };
        let own = described.filter(|d| d.advertise != d.data_path).map(|d| d.data_path);
        let node =
            NodeState { role, advertise, data_path: own.unwrap_or(advertise), active: true, sandbox: None };
        self.nodes.insert(host.to_owned(), node);
        self.make_gwbridge(host);
        self.place_all(false);
    }

    pub(super) fn make_gwbridge(&mut self, host: &str) {
        let key = self.gwbridge();
        if self.hosts.get(host).is_some_and(|h| !h.networks.contains_key(key)) {
            self.choose(host, key);
        }
        // The mesh's sandbox takes the first address.
        self.join_mesh(host);
    }

    /// Gives a node an address on the mesh, as the swarm does when the node joins, is updated or gets a task there, but not
    /// when the mesh is made (moby#40184).
    pub(super) fn join_mesh(&mut self, host: &str) {
        if self.nodes.get(host).is_none_or(|node| node.sandbox.is_some())
            || !self.overlays.contains_key(self.mesh())
        {
            return;
        }
        let sandbox = self.give(host, self.gwbridge(), Family::V4, None);
        if let Some(node) = self.nodes.get_mut(host) {
            node.sandbox = sandbox;
        }
    }

    /// Takes all nodes off the mesh, which is removed.
    pub(super) fn end_mesh(&mut self) {
        let gwbridge = self.gwbridge();
        let on = self.nodes.iter_mut().filter_map(|(name, n)| Some((name.clone(), n.sandbox.take()?)));
        for (host, ip) in on.collect::<Vec<_>>() {
            self.take_back(&host, gwbridge, ip);
        }
    }

    pub(super) fn make_overlay(&mut self, key: &str) {
        if self.overlays.contains_key(key) {
            return;
        }
        let ipam = self.lab.networks.get(key).and_then(|n| n.pools(Family::V4).next());
        let pool = match ipam {
            Some(described) => Some(Pool::described(described, true)),
            None => self.swarm_subnet().map(|subnet| Pool::new(subnet, true)),
        };
        let Some(pool) = pool else { return };
        let v6 = self.lab.networks.get(key).and_then(|n| n.pools(Family::V6).next());
        let own = |host: &&str| Some(((*host).to_owned(), Pool::described(v6?, false)));
        let v6 = self.hosts.keys().filter_map(own).collect();
        self.vnis += 1;
        self.overlays.insert(key.to_owned(), Overlay { pool, v6, vni: self.vnis, vips: IndexMap::new() });
    }

    /// What the swarm gives subnets to overlays from.
    pub(crate) fn swarm_pools(&self) -> Vec<IpNet> {
        let own = self.lab.swarm.iter().flat_map(|s| s.default_addr_pool.iter().copied());
        let own: Vec<_> = own.collect();
        if own.is_empty() { vec![IpNet::V4(Ipv4Net::new_assert([10, 0, 0, 0].into(), 8))] } else { own }
    }

    pub(super) fn swarm_subnet(&self) -> Option<IpNet> {
        let swarm = self.lab.swarm.as_ref()?;
        let size = swarm.subnet_size.unwrap_or(24);
        let taken: Vec<IpNet> = self.overlays.values().map(|o| o.pool.subnet).collect();
        let all: Vec<IpNet> = self
            .swarm_pools()
            .iter()
            .flat_map(|p| p.subnets(size).into_iter().flatten().take(1 << 16))
            .collect();
        addressing::choose(&all, 0, &taken).map(|(_, subnet)| subnet)
    }

    /// Ends what a node that leaves has of the swarm.
    pub(super) fn end_overlays_of(&mut self, host: &str) {
        let on: Vec<(&str, String)> = self
            .lab
            .containers_on(host)
            .filter_map(|(name, _)| Some((name, self.containers.get(name)?)))
            .flat_map(|(name, c)| c.networks.keys().map(move |k| (name, k.clone())))
            .filter(|(_, key)| self.overlays.contains_key(key))
            .collect();
        for (name, key) in on {
            self.disconnect(name, &key);
        }
    }

    pub(super) fn create_service(&mut self, name: &str, spec: &Service) {
        let state = ServiceState { spec: spec.clone(), tasks: Vec::new(), certain: true };
        self.services.insert(name.to_owned(), state);
        self.place(name, true);
    }

    pub(super) fn update(&mut self, name: &str, change: &ServiceChange) {
        let Some(s) = self.services.get_mut(name) else { return };
        let spec = &mut s.spec;
        change.image.iter().for_each(|v| spec.image.clone_from(v));
        change.networks.iter().for_each(|v| spec.networks.clone_from(v));
        change.ports.iter().for_each(|v| spec.ports.clone_from(v));
        change.endpoint_mode.iter().for_each(|v| spec.endpoint_mode = *v);
        change.placement.iter().for_each(|v| spec.placement.clone_from(v));
        if let Some(n) = change.replicas {
            spec.mode = labctl_model::ServiceMode::Replicated(n);
        }
        self.place(name, true);
    }

    pub(super) fn place_all(&mut self, anew: bool) {
        let names: Vec<String> = self.services.keys().cloned().collect();
        names.iter().for_each(|name| self.place(name, anew));
    }

    /// Puts the tasks of a service where the swarm puts them.
    pub(super) fn place(&mut self, name: &str, anew: bool) {
        let Some(s) = self.services.get(name) else { return };
        let ready = |host: &str| self.hosts.get(host).is_some_and(|h| h.up && h.docker);
        let managers = self.nodes.iter().filter(|(_, n)| n.role == Role::Manager);
        let (all, alive) =
            managers.fold((0, 0), |(all, alive), (n, _)| (all + 1, alive + usize::from(ready(n))));
        // Without a majority of its managers a swarm decides nothing.
        if alive * 2 <= all {
            return;
        }
        let nodes = self.nodes.iter().map(|(n, s)| (n.as_str(), s.role, s.active && ready(n)));
        let placed = placement::place(name, &s.spec, nodes);
        let certain = placed.certain && (anew || s.certain && placed.hosts() == placement::hosts(&s.tasks));
        let mut tasks = placed.tasks;
        let keys: Vec<String> = s.spec.networks.keys().cloned().collect();
        let meshed = s.spec.ports.iter().any(|p| p.mode == labctl_model::PublishMode::Ingress);
        let vip = s.spec.endpoint_mode == labctl_model::EndpointMode::Vip;
        let mesh = self.mesh().to_owned();
        let open =
            |k: &String| self.lab.networks.get(k).is_some_and(|n| n.driver == Driver::Overlay && !n.internal);
        let gateway = meshed || keys.iter().any(open);
        // Addresses of tasks differ from run to run; here they only have to be different.
        let all: Vec<String> = keys.into_iter().chain(meshed.then_some(mesh)).collect();
        let old = s.tasks.clone();
        for task in old {
            for (key, ip) in task.addresses.iter().chain(task.gwbridge.iter().map(|(k, ip)| (k, ip))) {
                self.take_back(&task.host, key, *ip);
            }
        }
        let gwbridge = self.gwbridge();
        for key in &all {
            if let Some(o) = self.overlays.get_mut(key).filter(|o| vip && !o.vips.contains_key(name))
                && let Some(ip) = o.pool.allocate()
            {
                o.vips.insert(name.to_owned(), ip);
            }
        }
        for task in &mut tasks {
            if meshed {
                self.join_mesh(&task.host);
            }
            for key in &all {
                if let Some(ip) = self.give(&task.host, key, Family::V4, None) {
                    task.addresses.insert(key.clone(), ip);
                }
            }
            let on = if all.is_empty() { BRIDGE } else { gwbridge };
            if (gateway || all.is_empty())
                && let Some(ip) = self.give(&task.host, on, Family::V4, None)
            {
                task.gwbridge = Some((on.to_owned(), ip));
            }
        }
        if let Some(s) = self.services.get_mut(name) {
            (s.tasks, s.certain) = (tasks, certain);
        }
    }
}
