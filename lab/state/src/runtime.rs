//! The names of the runtimes: what the hosts of a lab run on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A runtime, by the name that users and reports give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Each host is a machine with its own kernel.
    Vm,
    /// Each host is a container with its own dockerd.
    Dind,
    /// Each host is a machine that exists, reached by ssh.
    Ssh,
    /// Each host is a machine that Vagrant makes.
    Vagrant,
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Runtime::Vm => "vm",
            Runtime::Dind => "dind",
            Runtime::Ssh => "ssh",
            Runtime::Vagrant => "vagrant",
        })
    }
}
