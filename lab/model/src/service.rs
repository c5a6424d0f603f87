//! Services of a swarm.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{
    options::{Rolling, RunOptions},
    traffic::Protocol,
};

/// A service: tasks that the swarm keeps running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Image; the built-in one if the topology names none.
    pub image: String,
    /// Arguments; empty means the image's own.
    pub command: Vec<String>,
    /// Environment.
    pub environment: IndexMap<String, String>,
    /// Networks by key, each with the service's aliases on it.
    pub networks: IndexMap<String, Vec<String>>,
    /// Published ports.
    pub ports: Vec<ServicePort>,
    /// How many tasks.
    pub mode: ServiceMode,
    /// How its name resolves.
    pub endpoint_mode: EndpointMode,
    /// Where its tasks may run.
    pub placement: Placement,
    /// What it shares with containers.
    pub run: RunOptions,
    /// How its tasks are replaced.
    pub rolling: Rolling,
    /// Made only by a step (`do: create service NAME`).
    pub deferred: bool,
}

/// The changes of a service update; what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceChange {
    /// Another image.
    pub image: Option<String>,
    /// Other arguments; empty means the image's own.
    pub command: Option<Vec<String>>,
    /// The whole environment.
    pub environment: Option<IndexMap<String, String>>,
    /// All of its networks by key, each with the service's aliases on it.
    pub networks: Option<IndexMap<String, Vec<String>>>,
    /// All of its published ports.
    pub ports: Option<Vec<ServicePort>>,
    /// How many tasks a replicated service has.
    pub replicas: Option<u32>,
    /// How its name resolves.
    pub endpoint_mode: Option<EndpointMode>,
    /// Where its tasks may run.
    pub placement: Option<Placement>,
    /// What services share with containers.
    pub run: RunOptions,
    /// How tasks are replaced.
    pub rolling: Rolling,
}

/// Where the tasks of a service may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Constraints on nodes, in Docker's syntax: `node.role==worker`.
    pub constraints: Vec<String>,
    /// The hosts that they may run on; empty: any node.
    pub hosts: Vec<String>,
}

/// How many tasks a service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceMode {
    /// This many, anywhere.
    Replicated(u32),
    /// One on every node.
    Global,
}

/// How the name of a service resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointMode {
    /// To one virtual address, behind which IPVS spreads connections.
    Vip,
    /// To the addresses of the tasks.
    Dnsrr,
}

/// A published port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Port on the hosts; Docker chooses if absent.
    pub published: Option<u16>,
    /// Port in the tasks.
    pub target: u16,
    /// Transport.
    pub protocol: Protocol,
    /// Which nodes answer on it.
    pub mode: PublishMode,
}

/// Where a published port answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PublishMode {
    /// On every node, for all tasks, by the routing mesh.
    Ingress,
    /// On the nodes that run a task, each for its own.
    Host,
}
