//! A lab at one moment: what it is, which of its hosts run, and why others ended.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use indexmap::IndexMap;
use labctl_model::{Container, Lab, Network, Service, Swarm};
use labctl_report::seen::Seen;
use labctl_wire::Wire;

use crate::{Error, filters::Filters, host::RunningHost, peers::Peers, probe::Here};

/// The running hosts by name. Hosts that come and go do not change a clone; what was last seen of the swarm is shared.
#[derive(Clone, Default)]
pub struct Hosts {
    running: IndexMap<String, Arc<RunningHost>>,
    /// The lab's name, as the user gives it to commands.
    lab: String,
    /// Why hosts that ran before have ended.
    pub ended: BTreeMap<String, String>,
    seen: Arc<Mutex<LastSeen>>,
}

/// What was seen last, for when nobody answers.
#[derive(Default)]
struct LastSeen {
    swarm: Option<Seen>,
    containers: BTreeMap<String, Here>,
}

impl Deref for Hosts {
    type Target = IndexMap<String, Arc<RunningHost>>;

    fn deref(&self) -> &Self::Target {
        &self.running
    }
}

impl DerefMut for Hosts {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.running
    }
}

impl Hosts {
    /// No hosts yet, for a lab of this name.
    pub fn of(lab: &str) -> Self {
        Self { lab: lab.to_owned(), ..Self::default() }
    }

    /// Stores what a manager of the swarm has just reported.
    pub fn remember(&self, seen: &Seen) {
        self.seen().swarm = Some(seen.clone());
    }

    /// What a manager of the swarm reported last, if one ever did.
    pub fn last_seen(&self) -> Option<Seen> {
        self.seen().swarm.clone()
    }

    /// Stores what a host's dockerd has just said of its containers.
    pub fn remember_containers(&self, host: &str, here: &Here) {
        self.seen().containers.insert(host.to_owned(), here.clone());
    }

    /// What a host's dockerd said last of its containers, if it ever did.
    pub fn last_containers(&self, host: &str) -> Option<Here> {
        self.seen().containers.get(host).cloned()
    }

    fn seen(&self) -> MutexGuard<'_, LastSeen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running lab at one moment: what it is, which hosts run, its peers and its wire. In this crate, a name that the lab does
/// not have is an error here and nowhere else.
#[derive(Clone)]
pub struct View<'a> {
    /// What the lab is.
    pub lab: &'a Lab,
    /// Its hosts that run.
    pub hosts: Hosts,
    /// Its peers.
    pub peers: Peers,
    pub(crate) wire: Option<Arc<Wire>>,
    /// What is filtered on machines that exist, whose segments are no wire's.
    pub(crate) filters: Option<Arc<Filters>>,
}

impl<'a> View<'a> {
    /// The wire.
    ///
    /// # Errors
    /// It does not run, or the hosts are machines that exist.
    pub fn wire(&self) -> Result<&Wire, Error> {
        self.wire.as_deref().ok_or_else(|| match self.filters {
            Some(_) => Error::NoWire(self.lab.name.clone()),
            None => Error::NotUp(self.lab.name.clone()),
        })
    }

    /// A host that runs.
    ///
    /// # Errors
    /// The lab has no such host, or it does not run.
    pub fn host(&self, name: &str) -> Result<&RunningHost, Error> {
        if let Some(host) = self.hosts.get(name) {
            return Ok(host);
        }
        self.named("host", &self.lab.hosts, name)?;
        Err(Error::Down {
            lab: self.hosts.lab.clone(),
            host: name.to_owned(),
            why: self.hosts.ended.get(name).map(|why| format!(": {why}")).unwrap_or_default(),
        })
    }

    /// The host of a container.
    ///
    /// # Errors
    /// The lab has no such container, or its host does not run.
    pub fn home(&self, container: &str) -> Result<&RunningHost, Error> {
        self.host(&self.container(container)?.host)
    }

    /// A container of the topology.
    ///
    /// # Errors
    /// The lab has none of this name.
    pub fn container(&self, name: &str) -> Result<&'a Container, Error> {
        self.named("container", &self.lab.containers, name)
    }

    /// A network of the topology.
    ///
    /// # Errors
    /// The lab has none of this name.
    pub fn network(&self, name: &str) -> Result<&'a Network, Error> {
        self.named("network", &self.lab.networks, name)
    }

    /// A service of the topology.
    ///
    /// # Errors
    /// The lab has none of this name.
    pub fn service(&self, name: &str) -> Result<&'a Service, Error> {
        self.named("service", &self.lab.services, name)
    }

    /// The swarm of the topology.
    ///
    /// # Errors
    /// The lab has none.
    pub fn swarm(&self) -> Result<&'a Swarm, Error> {
        self.lab.swarm.as_ref().ok_or_else(|| Error::Swarm("the topology has no `swarm`".to_owned()))
    }

    /// The same view without one of its hosts.
    pub fn without(&self, host: &str) -> Self {
        let mut others = self.clone();
        others.hosts.shift_remove(host);
        others
    }

    /// The part of this kind and name, out of `all` parts of the kind.
    pub(crate) fn named<T>(
        &self,
        kind: &'static str,
        all: &'a IndexMap<String, T>,
        name: &str,
    ) -> Result<&'a T, Error> {
        all.get(name).ok_or_else(|| self.no_such(kind, name, all.keys().map(String::as_str)))
    }

    /// The error for a name that the lab does not have.
    pub(crate) fn no_such<'n>(
        &self,
        kind: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) -> Error {
        Error::no_such(self.lab, kind, name, known)
    }
}
