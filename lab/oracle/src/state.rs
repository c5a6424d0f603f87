//! What exists in a lab at a point of its life: as the topology describes it, and as its steps have changed it since.

use std::{collections::BTreeSet, net::IpAddr};

use indexmap::{IndexMap, IndexSet};
use ipnet::IpNet;
use labctl_model::{
    Action, Attach, Direction, Driver, Lab, Network, Place, Power, Role, Route, Service, ServiceChange,
    Step, Swarm, Traffic,
};
use serde_json::{Map, Value};

use crate::{
    addressing::{self, Pool},
    placement::{self, Task},
};

/// Key of the default bridge, as Docker calls it.
pub const BRIDGE: &str = "bridge";
/// Docker's name of the bridge by which overlays have their way out.
pub const GWBRIDGE: &str = "docker_gwbridge";
/// Programs that change nothing of a host's network.
const HARMLESS: [&str; 8] = ["sleep", "ping", "hostname", "cat", "test", "true", "redis-cli", "echo"];

/// A host.
#[derive(Clone, Debug)]
pub struct HostState {
    /// Whether it runs.
    pub up: bool,
    /// Whether its dockerd runs.
    pub docker: bool,
    /// Its daemon.json.
    pub daemon_json: Map<String, Value>,
    /// Its routes beyond the connected ones and the default.
    pub routes: Vec<Route>,
    /// Those of its `interfaces` that are there.
    pub interfaces: IndexSet<String>,
    /// Its Docker networks but overlays, by key, each with its pools.
    pub networks: IndexMap<String, Vec<Pool>>,
    /// Where Docker begins to look for the next subnet.
    next_pool: usize,
    /// Segments that it is cut from: frames to it, frames from it.
    pub cut: IndexMap<String, (bool, bool)>,
    /// Why nothing can be told of it, if so.
    pub unknown: Option<String>,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is none.
    Absent,
    /// It runs.
    Running,
    /// It has ended.
    Exited,
}

/// An attachment of a container to a network.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Its address.
    pub ip: IpAddr,
    /// Whether the topology chose it.
    pub fixed: bool,
    /// Whether the container has it now: while it is stopped, another one may get it.
    pub held: bool,
    /// Further names.
    pub aliases: Vec<String>,
    /// MAC that the topology gives.
    pub mac: Option<String>,
}

/// A container.
#[derive(Clone, Debug)]
pub struct ContainerState {
    /// What it is doing.
    pub status: Status,
    /// Its networks by key, in the order in which it was connected.
    pub networks: IndexMap<String, Attached>,
    /// Its address on docker_gwbridge.
    pub gwbridge: Option<IpAddr>,
    /// How often it was started: each time in a new namespace.
    pub generation: u32,
    /// With `network_mode: container:X`: the start of X whose namespace it has.
    pub joined: Option<u32>,
    /// Why nothing can be told of it, if so.
    pub unknown: Option<String>,
}

/// An overlay.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Its addresses.
    pub pool: Pool,
    /// Its network identifier, as far as it matters: no two have the same.
    pub vni: u32,
    /// Virtual addresses of services.
    pub vips: IndexMap<String, IpAddr>,
}

/// A node of the swarm.
#[derive(Clone, Debug)]
pub struct NodeState {
    /// Its role.
    pub role: Role,
    /// Where it says it is.
    pub advertise: IpAddr,
    /// Where its VXLAN is.
    pub data_path: IpAddr,
    /// Whether it takes tasks.
    pub active: bool,
    /// Address of the routing mesh's sandbox on docker_gwbridge.
    pub sandbox: Option<IpAddr>,
}

/// A service.
#[derive(Clone, Debug)]
pub struct ServiceState {
    /// As it is now.
    pub spec: Service,
    /// Its tasks.
    pub tasks: Vec<Task>,
    /// Whether it is certain which nodes have a task.
    pub certain: bool,
}

/// The state of a lab.
#[derive(Clone, Debug)]
pub struct State<'a> {
    /// The lab.
    pub lab: &'a Lab,
    /// Hosts.
    pub hosts: IndexMap<&'a str, HostState>,
    /// Containers.
    pub containers: IndexMap<&'a str, ContainerState>,
    /// The swarm's nodes.
    pub nodes: IndexMap<String, NodeState>,
    /// Overlays by key.
    pub overlays: IndexMap<String, Overlay>,
    /// Services.
    pub services: IndexMap<String, ServiceState>,
    /// What the wire drops.
    pub blocks: Vec<(Traffic, Place)>,
    /// Why nothing can be told of the swarm, if so.
    pub swarm_unknown: Option<String>,
    vnis: u32,
}

impl<'a> State<'a> {
    /// The lab when it has just come up.
    pub fn new(lab: &'a Lab) -> Self {
        let mut state = Self {
            lab,
            hosts: IndexMap::new(),
            containers: IndexMap::new(),
            nodes: IndexMap::new(),
            overlays: IndexMap::new(),
            services: IndexMap::new(),
            blocks: Vec::new(),
            swarm_unknown: None,
            // dockerd's first (moby libnetwork/drivers/overlay/ovmanager).
            vnis: 4096,
        };
        for (name, segment) in &lab.segments {
            let place = Place { segment: Some(name.clone()), ..Place::default() };
            state.blocks.extend(segment.block.iter().map(|filter| (*filter, place.clone())));
        }
        for name in lab.hosts.keys() {
            state.make_host(name);
        }
        for name in lab.containers.keys() {
            state.containers.insert(name, ContainerState::absent());
        }
        let made = |n: &Network| !n.deferred && n.driver != Driver::Overlay;
        for (host, _) in &lab.hosts {
            for (key, network) in lab.networks.iter().filter(|(_, n)| made(n)) {
                if network.hosts.contains(host) {
                    state.make_local(host, key);
                }
            }
        }
        if let Some(swarm) = &lab.swarm {
            state.form(swarm);
        }
        for host in lab.hosts.keys() {
            for name in lab.start_order(host) {
                if !lab.containers.get(name).is_none_or(|c| c.deferred) {
                    state.create(name);
                }
            }
        }
        for (name, service) in &lab.services {
            if !service.deferred {
                state.create_service(name, service);
            }
        }
        state
    }

    /// Does what a step does. What a step expects to be refused changes nothing.
    pub fn apply(&mut self, step: &Step) {
        let refused = usize::from(step.fails.is_some());
        let done = step.actions.len().saturating_sub(refused);
        for action in step.actions.iter().take(done) {
            self.act(action);
        }
        if step.fails.is_some() {
            self.refused(step);
        }
    }

    /// Some refusals leave traces.
    fn refused(&mut self, step: &Step) {
        if let Some(Action::Update { service, .. }) = step.actions.last()
            && let Some(s) = self.services.get_mut(service)
        {
            // Docker stops at the first task that fails: which, and how many are left, is its choice.
            s.certain = false;
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Create(c) => self.create(c),
            Action::Start(c) => self.start(c),
            Action::Stop(c) => self.stop(c, Status::Exited),
            Action::Restart(c) => {
                self.stop(c, Status::Exited);
                self.start(c);
            }
            Action::Remove(c) => self.stop(c, Status::Absent),
            Action::Connect { container, network, ipv4_address } => {
                self.connect(container, network, ipv4_address.map(IpAddr::V4));
            }
            Action::Disconnect { container, network } => self.disconnect(container, network),
            Action::CreateNetwork(key) => self.create_network(key),
            Action::RemoveNetwork(key) => {
                self.overlays.shift_remove(key);
                for host in self.hosts.values_mut() {
                    host.networks.shift_remove(key);
                }
            }
            Action::PruneNetworks(host) => self.prune(host),
            Action::RouteAdd { host, route } => {
                if let Some(h) = self.hosts.get_mut(host.as_str()) {
                    // As `ip route replace`: one to the same destination with the same metric goes.
                    h.routes.retain(|r| (r.to, r.metric) != (route.to, route.metric));
                    h.routes.push(route.clone());
                }
            }
            Action::RouteDel { host, route } => {
                if let Some(h) = self.hosts.get_mut(host.as_str()) {
                    let is = |r: &Route| {
                        r.to == route.to
                            && (route.via.is_none() || r.via == route.via)
                            && (route.dev.is_none() || r.dev.is_none() || r.dev == route.dev)
                            && (route.metric.is_none() || r.metric == route.metric)
                    };
                    h.routes.retain(|r| !is(r));
                }
            }
            Action::CreateInterface { host, name } => {
                if let Some(h) = self.hosts.get_mut(host.as_str()) {
                    h.interfaces.insert(name.clone());
                }
            }
            Action::RemoveInterface { host, name } => {
                if let Some(h) = self.hosts.get_mut(host.as_str()) {
                    h.interfaces.shift_remove(name);
                    h.routes.retain(|r| r.dev.as_deref() != Some(name));
                }
            }
            Action::CreateService { service, .. } => {
                if let Some(spec) = self.lab.services.get(service) {
                    self.create_service(service, spec);
                }
            }
            Action::RemoveService(service) => drop(self.services.shift_remove(service)),
            Action::Scale { service, replicas, .. } => {
                let change = ServiceChange { replicas: Some(*replicas), ..ServiceChange::default() };
                self.update(service, &change);
            }
            Action::Update { service, change, .. } => self.update(service, change),
            Action::Drain(host) | Action::Activate(host) => {
                if let Some(node) = self.nodes.get_mut(host) {
                    node.active = matches!(action, Action::Activate(_));
                }
                self.place_all(false);
            }
            Action::Promote(host) | Action::Demote(host) => {
                if let Some(node) = self.nodes.get_mut(host) {
                    node.role = if matches!(action, Action::Promote(_)) { Role::Manager } else { Role::Worker };
                }
                self.place_all(false);
            }
            Action::Leave(host) => {
                let sandbox = self.nodes.shift_remove(host).and_then(|n| n.sandbox);
                let gwbridge = self.gwbridge();
                sandbox.into_iter().for_each(|ip| self.take_back(host, gwbridge, ip));
                self.end_overlays_of(host);
                self.place_all(false);
            }
            Action::Join { host, role, advertise, .. } => self.join(host, *role, advertise.map(IpAddr::V4)),
            Action::RemoveNode { .. } => {}
            Action::ForceNewCluster(host) => {
                self.nodes.retain(|name, _| name == host);
                self.swarm_unknown =
                    Some(format!("what {host} tells others after force-new-cluster, until its dockerd starts anew"));
                self.place_all(false);
            }
            Action::Exec(command) => self.exec(command),
            Action::ConfigureDocker { host, daemon_json } => {
                if let Some(h) = self.hosts.get_mut(host.as_str()) {
                    h.daemon_json = daemon_json.clone();
                }
                self.docker(host, Power::Restart);
            }
            Action::Power { host, power } => self.power(host, *power),
            Action::Docker { host, power } => self.docker(host, *power),
            Action::Cut { host, segment, direction } => {
                let to = *direction != Direction::Outbound;
                let from = *direction != Direction::Inbound;
                for name in self.segments_of(host, segment.as_deref()) {
                    if let Some(h) = self.hosts.get_mut(host.as_str()) {
                        let cut = h.cut.entry(name).or_default();
                        *cut = (cut.0 || to, cut.1 || from);
                    }
                }
            }
            Action::Heal { host, segment } => {
                for name in self.segments_of(host, segment.as_deref()) {
                    if let Some(h) = self.hosts.get_mut(host.as_str()) {
                        h.cut.shift_remove(&name);
                    }
                }
            }
            Action::Block { filter, place } => self.block(*filter, place),
            Action::Unblock { filter, place } => {
                let covers = |mine: &Option<String>, its: &Option<String>| mine.is_none() || mine == its;
                self.blocks.retain(|(f, p)| {
                    !(filter.is_none_or(|filter| filter == *f)
                        && covers(&place.segment, &p.segment)
                        && covers(&place.from, &p.from)
                        && covers(&place.to, &p.to))
                });
            }
        }
    }

    fn block(&mut self, filter: Traffic, place: &Place) {
        // One entry for each segment, so that one of them can be unblocked alone.
        let segments: Vec<String> = match &place.segment {
            Some(one) => vec![one.clone()],
            None => self.lab.segments.keys().cloned().collect(),
        };
        for segment in segments {
            self.blocks.push((filter, Place { segment: Some(segment), ..place.clone() }));
        }
    }

    fn segments_of(&self, host: &str, only: Option<&str>) -> Vec<String> {
        let nics = self.lab.hosts.get(host).map(|h| h.nics.as_slice()).unwrap_or_default();
        nics.iter().map(|n| n.segment.clone()).filter(|s| only.is_none_or(|only| only == s)).collect()
    }

    /// A command in a host or a container: who knows what it does.
    fn exec(&mut self, command: &labctl_model::Command) {
        let program = command.argv.first().map(|p| p.rsplit('/').next().unwrap_or(p)).unwrap_or_default();
        if HARMLESS.contains(&program) {
            return;
        }
        let why = Some(format!("what `{program}` has done in {}", command.place));
        match self.lab.namespace_of(&command.place) {
            Some(place) if self.hosts.contains_key(place) => {
                if let Some(host) = self.hosts.get_mut(place) {
                    host.unknown = host.unknown.take().or(why);
                }
            }
            place => {
                if let Some(c) = place.and_then(|name| self.containers.get_mut(name)) {
                    c.unknown = c.unknown.take().or(why);
                }
            }
        }
    }

    // Hosts and their dockerds.

    fn make_host(&mut self, name: &str) {
        let Some((name, host)) = self.lab.hosts.get_key_value(name) else { return };
        let there = host.interfaces.iter().filter(|i| !i.deferred).map(|i| i.name.clone());
        let cut = self.hosts.get(name.as_str()).map(|h| h.cut.clone()).unwrap_or_default();
        let state = HostState {
            up: true,
            docker: true,
            daemon_json: host.daemon_json.clone(),
            routes: host.routes.clone(),
            interfaces: there.collect(),
            networks: IndexMap::new(),
            next_pool: 0,
            cut,
            unknown: None,
        };
        self.hosts.insert(name, state);
        let bip = host.daemon_json.get("bip").and_then(Value::as_str);
        match bip.and_then(|b| b.parse::<IpNet>().ok()) {
            Some(bip) => {
                let mut pool = Pool::new(bip.trunc(), false);
                pool.release(pool.gateway);
                pool.gateway = bip.addr();
                pool.request(bip.addr());
                self.put(name, BRIDGE, vec![pool]);
            }
            None => self.choose(name, BRIDGE),
        }
    }

    fn put(&mut self, host: &str, key: &str, pools: Vec<Pool>) {
        if let Some(h) = self.hosts.get_mut(host) {
            h.networks.insert(key.to_owned(), pools);
        }
    }

    /// Lets Docker choose a subnet.
    fn choose(&mut self, host: &str, key: &str) {
        let Some(h) = self.hosts.get_mut(host) else { return };
        let pools = match h.daemon_json.get("default-address-pools") {
            Some(value) => addressing::configured_pools(value).unwrap_or_default(),
            None => addressing::default_pools(),
        };
        let mut taken: Vec<IpNet> = h.networks.values().flatten().map(|p| p.subnet).collect();
        // What is on link: only routes with scope link count (from 20.10.15).
        if let Some(described) = self.lab.hosts.get(host) {
            let nics = described.nics.iter().filter_map(|n| match n.peer {
                Some(peer) => Some(IpNet::from(IpAddr::V4(peer))),
                None => IpNet::new(n.address.into(), n.prefix_len).ok(),
            });
            taken.extend(nics.map(|n| n.trunc()));
            taken.extend(h.routes.iter().filter(|r| r.via.is_none()).map(|r| IpNet::V4(r.to)));
        }
        // Where nothing is left Docker refuses, and a step says so.
        if let Some((place, subnet)) = addressing::choose(&pools, h.next_pool, &taken) {
            h.next_pool = place + 1;
            h.networks.insert(key.to_owned(), vec![Pool::new(subnet, false)]);
        }
    }

    fn make_local(&mut self, host: &str, key: &str) {
        let there = self.hosts.get(host).is_none_or(|h| h.networks.contains_key(key));
        let Some(network) = self.lab.networks.get(key).filter(|_| !there) else { return };
        match network.ipam.is_empty() {
            true => self.choose(host, key),
            false => {
                let pools = network.ipam.iter().map(|p| Pool::described(p, false)).collect();
                self.put(host, key, pools);
            }
        }
    }

    /// The key of docker_gwbridge: the topology's own, or Docker's.
    pub fn gwbridge(&self) -> &'a str {
        let own = self.lab.networks.iter().find(|(_, n)| n.docker_name == GWBRIDGE && n.driver == Driver::Bridge);
        own.map_or(GWBRIDGE, |(key, _)| key.as_str())
    }

    fn power(&mut self, host: &str, power: Power) {
        if power != Power::Start {
            for name in self.lab.containers_on(host).map(|(n, _)| n) {
                self.stop(name, Status::Absent);
            }
            if let Some(h) = self.hosts.get_mut(host) {
                (h.up, h.docker) = (false, false);
                h.networks.clear();
            }
            self.place_all(false);
        }
        if matches!(power, Power::Start | Power::Restart) {
            // The other nodes may have to be asked: the one that is gone is removed, and its successor joins.
            let node = self.nodes.shift_remove(host);
            self.make_host(host);
            let described = self.lab.networks.iter().filter(|(_, n)| !n.deferred && n.driver != Driver::Overlay);
            for (key, _) in described.filter(|(_, n)| n.hosts.iter().any(|h| h == host)) {
                self.make_local(host, key);
            }
            let was = node.or_else(|| self.described_node(host));
            if let Some(was) = was {
                self.join(host, was.role, Some(was.advertise));
            }
            for name in self.lab.start_order(host) {
                if !self.lab.containers.get(name).is_none_or(|c| c.deferred) {
                    self.create(name);
                }
            }
            self.place_all(false);
        }
    }

    fn docker(&mut self, host: &str, power: Power) {
        let live = |h: &HostState| h.daemon_json.get("live-restore") == Some(&Value::Bool(true));
        let Some(h) = self.hosts.get_mut(host) else { return };
        let lives = live(h);
        h.docker = matches!(power, Power::Start | Power::Restart);
        // What runs goes on running while it was killed, until it is back and finds nothing that it owns.
        let ended = match power {
            Power::Kill => false,
            Power::Stop | Power::Restart | Power::Start => !lives,
        };
        h.next_pool = 0;
        if ended {
            let running = self.lab.containers_on(host).map(|(n, _)| n);
            let running: Vec<_> = running.filter(|n| self.is_running(n)).collect();
            for name in running {
                self.stop(name, Status::Exited);
            }
        }
        if matches!(power, Power::Start | Power::Restart) {
            self.swarm_unknown = None;
        }
        self.place_all(false);
    }

    // Networks and containers.

    fn create_network(&mut self, key: &str) {
        let Some(network) = self.lab.networks.get(key) else { return };
        match network.driver {
            Driver::Overlay => self.make_overlay(key),
            _ => {
                for host in &network.hosts {
                    self.make_local(host, key);
                }
            }
        }
    }

    fn prune(&mut self, host: &str) {
        let used: BTreeSet<String> = self
            .lab
            .containers_on(host)
            .filter_map(|(name, _)| self.containers.get(name))
            .filter(|c| c.status != Status::Absent)
            .flat_map(|c| c.networks.keys().cloned())
            .collect();
        if let Some(h) = self.hosts.get_mut(host) {
            h.networks.retain(|key, _| key == BRIDGE || key == GWBRIDGE || used.contains(key));
        }
    }

    /// Whether a container runs.
    pub fn is_running(&self, container: &str) -> bool {
        self.containers.get(container).is_some_and(|c| c.status == Status::Running)
    }

    fn create(&mut self, name: &str) {
        let Some(described) = self.lab.containers.get(name) else { return };
        let Some(state) = self.containers.get_mut(name) else { return };
        let generation = state.generation;
        *state = ContainerState { generation, ..ContainerState::absent() };
        state.status = Status::Exited;
        state.unknown = unmodelled_sysctls(described);
        match &described.attach {
            Attach::DefaultBridge { .. } => self.connect(name, BRIDGE, None),
            Attach::Networks(networks) => {
                for (key, at) in networks {
                    self.connect(name, key, at.ipv4_address.map(IpAddr::V4));
                }
            }
            _ => {}
        }
        self.start(name);
    }

    fn connect(&mut self, container: &str, key: &str, wanted: Option<IpAddr>) {
        let Some(described) = self.lab.containers.get(container) else { return };
        let declared = match &described.attach {
            Attach::Networks(networks) => networks.get(key).cloned().unwrap_or_default(),
            _ => labctl_model::Attachment::default(),
        };
        let wanted = wanted.or(declared.ipv4_address.map(IpAddr::V4));
        let Some(ip) = self.give(&described.host, key, wanted) else { return };
        let attached =
            Attached { ip, fixed: wanted.is_some(), held: true, aliases: declared.aliases, mac: declared.mac_address };
        if let Some(c) = self.containers.get_mut(container) {
            c.networks.insert(key.to_owned(), attached);
        }
        self.settle_gateway(container);
    }

    fn disconnect(&mut self, container: &str, key: &str) {
        let host = self.lab.containers.get(container).map(|c| c.host.clone()).unwrap_or_default();
        let gone = self.containers.get_mut(container).and_then(|c| c.networks.shift_remove(key));
        if let Some(at) = gone {
            self.take_back(&host, key, at.ip);
        }
        self.settle_gateway(container);
    }

    fn give(&mut self, host: &str, key: &str, wanted: Option<IpAddr>) -> Option<IpAddr> {
        let pools: Vec<&mut Pool> = match self.overlays.get_mut(key) {
            Some(overlay) => vec![&mut overlay.pool],
            None => self.hosts.get_mut(host)?.networks.get_mut(key)?.iter_mut().collect(),
        };
        for pool in pools {
            match wanted {
                Some(wanted) if pool.subnet.contains(&wanted) => {
                    pool.request(wanted);
                    return Some(wanted);
                }
                Some(_) => {}
                None => return pool.allocate(),
            }
        }
        None
    }

    fn take_back(&mut self, host: &str, key: &str, ip: IpAddr) {
        if let Some(overlay) = self.overlays.get_mut(key) {
            overlay.pool.release(ip);
        } else if let Some(pools) = self.hosts.get_mut(host).and_then(|h| h.networks.get_mut(key)) {
            pools.iter_mut().filter(|p| p.subnet.contains(&ip)).for_each(|p| p.release(ip));
        }
    }

    /// Whether a network provides a default route: it is not internal, and no overlay.
    pub fn has_way_out(&self, key: &str) -> bool {
        match self.lab.networks.get(key) {
            None => true,
            Some(n) => {
                let parentless = matches!(n.driver, Driver::Macvlan { parent: None } | Driver::Ipvlan { parent: None });
                n.driver != Driver::Overlay && !n.internal && !parentless
            }
        }
    }

    /// An endpoint on docker_gwbridge is there where no other network leads out, and one is not internal.
    fn settle_gateway(&mut self, container: &str) {
        let Some(c) = self.containers.get(container) else { return };
        let open = |k: &String| self.lab.networks.get(k).is_some_and(|n| n.driver == Driver::Overlay && !n.internal);
        let runs = c.status == Status::Running;
        let needs = runs && c.networks.keys().any(open) && !c.networks.keys().any(|k| self.has_way_out(k));
        let (key, had) = (self.gwbridge(), c.gwbridge);
        let host = self.lab.containers.get(container).map(|c| c.host.clone()).unwrap_or_default();
        let now = match (needs, had) {
            (true, None) => self.give(&host, key, None),
            (false, Some(ip)) => {
                self.take_back(&host, key, ip);
                None
            }
            (_, had) => had,
        };
        if let Some(c) = self.containers.get_mut(container) {
            c.gwbridge = now;
        }
    }

    fn start(&mut self, name: &str) {
        let Some(described) = self.lab.containers.get(name) else { return };
        let joined = match &described.attach {
            Attach::Container(of) => self.containers.get(of.as_str()).map(|c| c.generation),
            _ => None,
        };
        let Some(c) = self.containers.get_mut(name).filter(|c| c.status == Status::Exited) else { return };
        c.status = Status::Running;
        c.generation += 1;
        c.joined = joined;
        let given_up = c.networks.iter().filter(|(_, a)| !a.held);
        let given_up: Vec<_> = given_up.map(|(k, a)| (k.clone(), a.fixed.then_some(a.ip))).collect();
        for (key, wanted) in given_up {
            // What Docker chose it chooses anew.
            let Some(ip) = self.give(&described.host, &key, wanted) else { continue };
            if let Some(at) = self.containers.get_mut(name).and_then(|c| c.networks.get_mut(&key)) {
                (at.ip, at.held) = (ip, true);
            }
        }
        self.settle_gateway(name);
    }

    fn stop(&mut self, name: &str, status: Status) {
        let Some(described) = self.lab.containers.get(name) else { return };
        let Some(c) = self.containers.get_mut(name) else { return };
        c.status = if c.status == Status::Absent { Status::Absent } else { status };
        let held = c.networks.iter().filter(|(_, a)| a.held);
        let given: Vec<(String, IpAddr)> = held.map(|(k, a)| (k.clone(), a.ip)).collect();
        match status {
            Status::Absent => c.networks.clear(),
            _ => c.networks.values_mut().for_each(|a| a.held = false),
        }
        for (key, ip) in given {
            self.take_back(&described.host, &key, ip);
        }
        self.settle_gateway(name);
    }

    // The swarm.

    fn form(&mut self, swarm: &'a Swarm) {
        for host in swarm.nodes.keys() {
            if let Some(node) = self.described_node(host) {
                self.nodes.insert(host.clone(), node);
                self.make_gwbridge(host);
            }
        }
        // The mesh's network is the first, and each node has an address on it.
        let mesh = self.lab.mesh().map_or(labctl_model::INGRESS, |(key, _)| key);
        self.make_overlay(mesh);
        for (key, network) in &self.lab.networks {
            if !network.deferred && !network.ingress && network.driver == Driver::Overlay {
                self.make_overlay(key);
            }
        }
    }

    fn described_node(&self, host: &str) -> Option<NodeState> {
        let node = self.lab.swarm.as_ref()?.nodes.get(host)?;
        let advertise = IpAddr::V4(node.advertise);
        let data_path = node.data_path.map_or(advertise, IpAddr::V4);
        Some(NodeState { role: node.role, advertise, data_path, active: true, sandbox: None })
    }

    fn join(&mut self, host: &str, role: Role, advertise: Option<IpAddr>) {
        let described = self.described_node(host);
        let first = self.lab.hosts.get(host).and_then(|h| h.nics.first()).map(|n| IpAddr::V4(n.address));
        let Some(advertise) = advertise.or(described.as_ref().map(|d| d.advertise)).or(first) else { return };
        let own = described.filter(|d| d.advertise != d.data_path).map(|d| d.data_path);
        let node = NodeState { role, advertise, data_path: own.unwrap_or(advertise), active: true, sandbox: None };
        self.nodes.insert(host.to_owned(), node);
        self.make_gwbridge(host);
        self.place_all(false);
    }

    fn make_gwbridge(&mut self, host: &str) {
        let key = self.gwbridge();
        if self.hosts.get(host).is_some_and(|h| !h.networks.contains_key(key)) {
            self.choose(host, key);
        }
        // The mesh's sandbox takes the first address.
        let sandbox = self.give(host, key, None);
        if let Some(node) = self.nodes.get_mut(host) {
            node.sandbox = sandbox;
        }
    }

    fn make_overlay(&mut self, key: &str) {
        if self.overlays.contains_key(key) {
            return;
        }
        let ipam = self.lab.networks.get(key).and_then(|n| n.ipam.first());
        let pool = match ipam {
            Some(described) => Some(Pool::described(described, true)),
            None => self.swarm_subnet().map(|subnet| Pool::new(subnet, true)),
        };
        let Some(pool) = pool else { return };
        self.vnis += 1;
        self.overlays.insert(key.to_owned(), Overlay { pool, vni: self.vnis, vips: IndexMap::new() });
    }

    fn swarm_subnet(&self) -> Option<IpNet> {
        let swarm = self.lab.swarm.as_ref()?;
        let size = swarm.subnet_size.unwrap_or(24);
        let default = [ipnet::Ipv4Net::new_assert([10, 0, 0, 0].into(), 8)];
        let pools = if swarm.default_addr_pool.is_empty() { &default[..] } else { &swarm.default_addr_pool };
        let taken: Vec<IpNet> = self.overlays.values().map(|o| o.pool.subnet).collect();
        let all: Vec<IpNet> =
            pools.iter().flat_map(|p| p.subnets(size).into_iter().flatten().take(1 << 16)).map(IpNet::V4).collect();
        addressing::choose(&all, 0, &taken).map(|(_, subnet)| subnet)
    }

    /// Ends what a node that leaves has of the swarm.
    fn end_overlays_of(&mut self, host: &str) {
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

    fn create_service(&mut self, name: &str, spec: &Service) {
        let state = ServiceState { spec: spec.clone(), tasks: Vec::new(), certain: true };
        self.services.insert(name.to_owned(), state);
        self.place(name, true);
    }

    fn update(&mut self, name: &str, change: &ServiceChange) {
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

    fn place_all(&mut self, anew: bool) {
        let names: Vec<String> = self.services.keys().cloned().collect();
        names.iter().for_each(|name| self.place(name, anew));
    }

    /// Puts the tasks of a service where the swarm puts them.
    fn place(&mut self, name: &str, anew: bool) {
        let Some(s) = self.services.get(name) else { return };
        let ready = |host: &str| self.hosts.get(host).is_some_and(|h| h.up && h.docker);
        let nodes = self.nodes.iter().map(|(n, s)| (n.as_str(), s.role, s.active && ready(n)));
        let placed = placement::place(name, &s.spec, nodes);
        let certain = placed.certain && (anew || s.certain && placed.hosts() == placement::hosts(&s.tasks));
        let mut tasks = placed.tasks;
        let keys: Vec<String> = s.spec.networks.keys().cloned().collect();
        let meshed = s.spec.ports.iter().any(|p| p.mode == labctl_model::PublishMode::Ingress);
        let vip = s.spec.endpoint_mode == labctl_model::EndpointMode::Vip;
        let mesh = self.lab.mesh().map_or(labctl_model::INGRESS, |(key, _)| key).to_owned();
        let open = |k: &String| self.lab.networks.get(k).is_some_and(|n| n.driver == Driver::Overlay && !n.internal);
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
            for key in &all {
                if let Some(ip) = self.give(&task.host, key, None) {
                    task.addresses.insert(key.clone(), ip);
                }
            }
            let on = if all.is_empty() { BRIDGE } else { gwbridge };
            if (gateway || all.is_empty())
                && let Some(ip) = self.give(&task.host, on, None)
            {
                task.gwbridge = Some((on.to_owned(), ip));
            }
        }
        if let Some(s) = self.services.get_mut(name) {
            (s.tasks, s.certain) = (tasks, certain);
        }
    }

    /// The tasks of all services.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.services.values().flat_map(|s| &s.tasks)
    }

    /// The task of this name.
    pub fn task(&self, name: &str) -> Option<&Task> {
        self.tasks().find(|t| t.name == name)
    }
}

impl ContainerState {
    fn absent() -> Self {
        Self {
            status: Status::Absent,
            networks: IndexMap::new(),
            gwbridge: None,
            generation: 0,
            joined: None,
            unknown: None,
        }
    }
}

/// Settings of a container that may change what it does with packets.
fn unmodelled_sysctls(c: &labctl_model::Container) -> Option<String> {
    let harmless = |k: &str| k.ends_with("ip_default_ttl") || !k.starts_with("net.ipv4.");
    let odd = c.sysctls.keys().find(|k| !harmless(k));
    odd.map(|k| format!("what `{k}` changes in a container"))
}
