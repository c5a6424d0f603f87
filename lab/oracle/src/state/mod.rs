//! What exists in a lab at a point of its life: as the topology describes it, and as its steps have changed it since.

mod actions;
mod containers;
mod hosts;
mod nodes;

use std::net::IpAddr;

use indexmap::{IndexMap, IndexSet};
use ipnet::IpNet;
use labctl_model::{Driver, Family, Lab, Network, OfFamily, Place, Role, Route, Service, Traffic};
use serde_json::{Map, Value};

use crate::{addressing::Pool, placement::Task};

/// Key of the default bridge, as Docker calls it.
pub const BRIDGE: &str = "bridge";
/// Docker's name of the bridge by which overlays have their way out.
pub const GWBRIDGE: &str = "docker_gwbridge";

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

impl HostState {
    /// The IPv6 subnet that daemon.json gives the default bridge.
    fn bridge_v6(&self) -> Option<IpNet> {
        self.daemon_json.get("ipv6").filter(|on| **on == Value::Bool(true))?;
        self.daemon_json.get("fixed-cidr-v6")?.as_str()?.parse().ok()
    }

    /// Why the addresses of the default bridge are not known: from Docker 28 on `ipv6` alone draws a subnet.
    pub fn unknown_bridge(&self) -> Option<String> {
        let on = self.daemon_json.get("ipv6") == Some(&Value::Bool(true));
        let drawn = on && self.bridge_v6().is_none();
        drawn.then(|| "which subnet `ipv6` in daemon.json gives the default bridge".to_owned())
    }
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
    /// Its address; if it has one of each family, that of IPv4.
    pub ip: IpAddr,
    /// Its second address, of IPv6.
    pub v6: Option<IpAddr>,
    /// Whether the topology chose the first.
    pub fixed: bool,
    /// Whether the container has it now: while it is stopped, another one may get it.
    pub held: bool,
    /// Further names.
    pub aliases: Vec<String>,
    /// MAC that the topology gives.
    pub mac: Option<String>,
}

impl Attached {
    /// Its addresses.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [self.ip].into_iter().chain(self.v6)
    }

    /// Its address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.ips().find(|ip| ip.family() == family)
    }
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
    /// Those of IPv6, which each node gives out by itself.
    v6: IndexMap<String, Pool>,
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
    /// Nodes that a forced cluster has lost: a host that is started again joins as what it was.
    former: IndexMap<String, NodeState>,
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
            former: IndexMap::new(),
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
        lab.done.iter().for_each(|action| state.act(action));
        state
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
    pub(super) fn absent() -> Self {
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
