//! Where the parts of a lab are written.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// Lines in the topology, 1-based, by name, so that Docker's errors can be shown beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// Of `swarm`; 0 if there is none.
    pub swarm: u32,
    /// Of hosts.
    pub hosts: IndexMap<String, u32>,
    /// Of networks.
    pub networks: IndexMap<String, u32>,
    /// Of containers.
    pub containers: IndexMap<String, u32>,
    /// Of services.
    pub services: IndexMap<String, u32>,
}
