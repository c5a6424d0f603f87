//! Where a swarm puts the tasks of a service.

use std::{collections::BTreeSet, net::IpAddr};

use indexmap::IndexMap;
use labctl_model::{Role, Service, ServiceMode};

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// `web.1`, of a global service `web.HOST`.
    pub name: String,
    /// Its service.
    pub service: String,
    /// Its host.
    pub host: String,
    /// Its addresses on overlays, by key.
    pub addresses: IndexMap<String, IpAddr>,
    /// Its address on the bridge by which it has its way out, and that bridge.
    pub gwbridge: Option<(String, IpAddr)>,
}

/// Tasks, and whether their hosts are certain.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The tasks.
    pub tasks: Vec<Task>,
    /// Whether every node that may have one is known to have as many as here.
    pub certain: bool,
}

impl Placed {
    /// Hosts with a task.
    pub fn hosts(&self) -> BTreeSet<&str> {
        hosts(&self.tasks)
    }
}

/// Hosts with a task.
pub fn hosts(tasks: &[Task]) -> BTreeSet<&str> {
    tasks.iter().map(|t| t.host.as_str()).collect()
}

/// Puts tasks on nodes: name, role, and whether it takes tasks. The swarm's scheduler spreads a service over the nodes that
/// have the fewest of its tasks (swarmkit manager/scheduler); which node gets an odd one is its choice.
pub fn place<'n>(name: &str, spec: &Service, nodes: impl Iterator<Item = (&'n str, Role, bool)>) -> Placed {
    let mut certain = true;
    let mut eligible = Vec::new();
    for (host, role, takes) in nodes {
        let admitted = spec.placement.constraints.iter().all(|c| {
            admits(c, host, role).unwrap_or_else(|| {
                certain = false;
                true
            })
        });
        let named = spec.placement.hosts.is_empty() || spec.placement.hosts.iter().any(|h| h == host);
        if takes && admitted && named {
            eligible.push(host);
        }
    }
    let task = |part: String, host: &str| Task {
        name: format!("{name}.{part}"),
        service: name.to_owned(),
        host: host.to_owned(),
        addresses: IndexMap::new(),
        gwbridge: None,
    };
    let tasks = match spec.mode {
        ServiceMode::Global => eligible.iter().map(|host| task((*host).to_owned(), host)).collect(),
        ServiceMode::Replicated(_) if eligible.is_empty() => Vec::new(),
        ServiceMode::Replicated(n) => {
            certain &= (n as usize).is_multiple_of(eligible.len());
            let turn = eligible.iter().cycle().zip(1..=n);
            turn.map(|(host, slot)| task(slot.to_string(), host)).collect()
        }
    };
    Placed { tasks, certain }
}

/// Whether a constraint admits a node; `None` where it tests what the oracle does not know.
fn admits(constraint: &str, host: &str, role: Role) -> Option<bool> {
    let (key, value, equal) = match (constraint.split_once("=="), constraint.split_once("!=")) {
        (Some((key, value)), _) => (key, value, true),
        (None, Some((key, value))) => (key, value, false),
        (None, None) => return None,
    };
    let role = match role {
        Role::Manager => "manager",
        Role::Worker => "worker",
    };
    let is = match key.trim() {
        "node.hostname" => host,
        "node.role" => role,
        _ => return None,
    };
    Some((is == value.trim()) == equal)
}
