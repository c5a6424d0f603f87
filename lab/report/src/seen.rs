//! What Docker says of a lab's containers, services and nodes at one moment.

use std::net::IpAddr;

use labctl_model::{INGRESS, Lab, ServicePort};

/// What probing needs to know of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerState {
    /// Docker's id of it; empty if there is none.
    pub id: String,
    /// `running`, `exited`, `created`, …; `absent` if there is no such container.
    pub status: String,
    /// Process id in the host, while it runs.
    pub pid: Option<u32>,
    /// Addresses by the Docker name of the network.
    pub addresses: Vec<(String, IpAddr)>,
    /// Ids of these networks by Docker's name of each.
    pub network_ids: Vec<(String, String)>,
}

/// The services as a manager sees them at one moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Services of the topology that exist.
    pub services: Vec<ServiceSeen>,
    /// Their tasks that should run.
    pub tasks: Vec<NamedTask>,
    /// The nodes.
    pub nodes: Vec<NodeSeen>,
}

/// A task with its name in the lab.
#[derive(Clone, Debug)]
pub struct NamedTask {
    /// `web.1`; for a global service `web.HOST`.
    pub name: String,
    /// Name of its service.
    pub service: String,
    /// The host that it is on, once it has one.
    pub host: Option<String>,
    /// What the manager knows of it.
    pub task: TaskSeen,
}

impl Seen {
    /// A service.
    pub fn service(&self, name: &str) -> Option<&ServiceSeen> {
        self.services.iter().find(|s| s.name == name)
    }

    /// The tasks of a service.
    pub fn tasks_of<'a>(&'a self, service: &str) -> impl Iterator<Item = &'a NamedTask> {
        self.tasks.iter().filter(move |t| t.service == service)
    }
}

/// A task as a manager sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskSeen {
    /// Its id.
    pub id: String,
    /// Id of its service.
    pub service: String,
    /// Its number in a replicated service.
    pub slot: Option<i64>,
    /// Id of the node that it is on, once it has one.
    pub node: String,
    /// Its container, once it has one.
    pub container: Option<String>,
    /// Whether it runs.
    pub running: bool,
    /// Its state in words: `preparing`, `rejected: No such image`.
    pub state: String,
}

impl TaskSeen {
    /// Its place: its number, or its node in a global service.
    pub fn place(&self) -> String {
        self.slot.map_or_else(|| self.node.clone(), |slot| slot.to_string())
    }
}

/// A service as a manager sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSeen {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its virtual address by the Docker name of the network.
    pub addresses: Vec<(String, IpAddr)>,
    /// How many tasks it should have.
    pub desired: u64,
    /// Whether it has a task on every node that it may run on.
    pub global: bool,
    /// Constraints on the nodes of its tasks.
    pub constraints: Vec<String>,
    /// Its published ports, Docker-chosen ones included.
    pub ports: Vec<ServicePort>,
    /// Whether its name resolves to its tasks' addresses rather than its own.
    pub dnsrr: bool,
    /// Status of its last update, once Docker has begun one.
    pub update: Option<UpdateSeen>,
}

/// Status of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateSeen {
    /// Tasks are being replaced.
    UnderWay,
    /// All are replaced.
    Completed,
    /// Docker has stopped it or rolled it back, with this message.
    Stopped(String),
}

/// A node as a manager sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSeen {
    /// Its id.
    pub id: String,
    /// Name of its host.
    pub host: String,
    /// Whether it is part of the swarm now.
    pub ready: bool,
    /// Whether it takes tasks.
    pub active: bool,
    /// Whether it is a manager that the others reach.
    pub manager: bool,
    /// Its state in words: `ready`, `down`, ….
    pub state: String,
}

/// Docker's name for a network of the topology, or for the routing mesh.
pub fn docker_name<'a>(lab: &'a Lab, key: &'a str) -> &'a str {
    match lab.networks.get(key) {
        Some(network) => &network.docker_name,
        None if key == INGRESS => lab.mesh_name(),
        None => key,
    }
}
