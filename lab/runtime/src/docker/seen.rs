//! The services of a lab, as a manager sees them.

use super::{
    services::{ServiceSeen, TaskSeen},
    swarm::NodeSeen,
};

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
    pub(crate) fn service(&self, name: &str) -> Option<&ServiceSeen> {
        self.services.iter().find(|s| s.name == name)
    }

    /// The tasks of a service.
    pub(crate) fn tasks_of<'a>(&'a self, service: &str) -> impl Iterator<Item = &'a NamedTask> {
        self.tasks.iter().filter(move |t| t.service == service)
    }
}
