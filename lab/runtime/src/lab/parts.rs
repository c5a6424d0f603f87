//! The parts of a lab that are made so far, and the watch over its machines.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::BoxFuture;
use indexmap::IndexMap;
use labctl_machines::machine::Machine;
use labctl_model::{Action, Lab};
use labctl_wire::Wire;

use crate::{host::RunningHost, peers::Peers, view::Hosts};

/// What was made so far. Filled step by step, so that an interrupted bring-up leaves nothing unknown.
#[derive(Default)]
pub(super) struct Parts {
    pub wire: Option<Arc<Wire>>,
    /// Includes ended machines, for their post-mortem, until they are made again.
    pub machines: IndexMap<String, Box<dyn Machine>>,
    pub hosts: Hosts,
    /// Hosts that were nodes of a swarm when they went.
    pub nodes_gone: BTreeSet<String>,
    pub peers: Peers,
    /// The actions that were done since the end of `up`, in order.
    pub done: Vec<Action>,
    /// Hosts that are nodes in the topology.
    declared: BTreeSet<String>,
}

impl Parts {
    /// Of a lab with nothing made yet, which clients know by this name.
    fn of(lab: &Lab, name: &str) -> Self {
        let declared = lab.swarm.iter().flat_map(|s| s.nodes.keys().cloned()).collect();
        Self { hosts: Hosts::of(name), declared, ..Self::default() }
    }

    /// Counts every host that does not run as down, for this reason. Returns the machines that were started for them.
    pub fn give_up(&mut self, lab: &Lab, why: &str) -> Self {
        let mut unused = Self::default();
        for host in lab.hosts.keys() {
            if self.hosts.contains_key(host) {
                continue;
            }
            self.hosts.ended.insert(host.clone(), why.to_owned());
            unused.machines.extend(self.machines.swap_remove_entry(host));
        }
        unused
    }

    /// Takes a host out of those that run.
    pub fn remove(&mut self, name: &str) {
        if let Some(host) = self.hosts.shift_remove(name) {
            host.withdraw();
        }
    }

    /// Notes that a host no longer runs. `is_node`: whether it was a swarm node, if that is known.
    pub fn lose(&mut self, name: &str, is_node: Option<bool>, why: String) {
        let seen = || self.hosts.last_seen().map(|s| s.nodes.iter().any(|n| n.host == name));
        if is_node.or_else(seen).unwrap_or_else(|| self.declared.contains(name)) {
            self.nodes_gone.insert(name.to_owned());
        }
        self.remove(name);
        self.hosts.ended.insert(name.to_owned(), why);
    }
}

/// The parts of a lab, shared with the tasks that watch its machines.
pub(super) struct Shared(Arc<Mutex<Parts>>);

impl Shared {
    /// For a lab with nothing made yet, which clients know by this name.
    pub fn new(lab: &Lab, name: &str) -> Self {
        Self(Arc::new(Mutex::new(Parts::of(lab, name))))
    }

    pub fn lock(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all parts, to take them down.
    pub fn take(&self) -> Parts {
        std::mem::take(&mut *self.lock())
    }

    /// Takes all parts, to make the lab again.
    pub fn clear(&self, lab: &Lab, name: &str) -> Parts {
        let parts = std::mem::replace(&mut *self.lock(), Parts::of(lab, name));
        parts.hosts.values().for_each(|host| host.withdraw());
        parts
    }

    /// Adds a running host. When its machine ends, it is noted as down at once.
    pub fn admit(&self, host: RunningHost, ended: BoxFuture<'static, String>) {
        let host = Arc::new(host);
        let (name, this) = (host.name.clone(), Arc::downgrade(&host));
        {
            let mut parts = self.lock();
            parts.hosts.ended.remove(&name);
            parts.hosts.insert(name.clone(), host);
        }
        let parts = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let why = ended.await;
            let Some(parts) = parts.upgrade() else { return };
            let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
            // A host that was ended on purpose is gone already, and a new one may have its name.
            if parts.hosts.get(&name).is_some_and(|h| std::ptr::eq(Arc::as_ptr(h), this.as_ptr())) {
                tracing::warn!("host {name} is down: {why}");
                parts.lose(&name, None, why);
            }
        });
    }
}
