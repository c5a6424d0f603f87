//! The hosts of a lab at one moment: those that run, and why others ended.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use indexmap::IndexMap;
use labctl_report::seen::Seen;

use crate::{Error, host::RunningHost};

/// The running hosts by name. Hosts that come and go do not change a clone; what was last seen of the swarm is shared.
#[derive(Clone, Default)]
pub struct Hosts {
    running: IndexMap<String, Arc<RunningHost>>,
    /// The lab's name, as the user gives it to commands.
    lab: String,
    /// Why hosts that ran before have ended.
    pub ended: BTreeMap<String, String>,
    seen: Arc<Mutex<Option<Seen>>>,
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

    /// All hosts but one.
    pub fn without(&self, name: &str) -> Self {
        let mut others = self.clone();
        others.running.shift_remove(name);
        others
    }

    /// Stores what a manager of the swarm has just reported.
    pub fn remember(&self, seen: &Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen.clone());
    }

    /// What a manager of the swarm reported last, if one ever did.
    pub fn last_seen(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Returns the running host of this name.
///
/// # Errors
/// The host does not run.
pub fn host<'a>(hosts: &'a Hosts, name: &str) -> Result<&'a RunningHost, Error> {
    hosts.running.get(name).map(AsRef::as_ref).ok_or_else(|| Error::Down {
        lab: hosts.lab.clone(),
        host: name.to_owned(),
        why: hosts.ended.get(name).map(|why| format!(": {why}")).unwrap_or_default(),
    })
}
