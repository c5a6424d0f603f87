//! The seam between a lab and what its hosts are made of. A runtime is an implementation of [`Provider`] and no more:
//! plan, wire, agent, Docker, probing and teardown are the same for all.

use std::path::PathBuf;

use futures::future::BoxFuture;
pub use lab_agent::client::{Dial, Stream};
use lab_model::{Host, Lab};
use lab_wire::Transport;

use crate::{Error, Events, state::Process};

/// Makes hosts.
pub trait Provider: Send + Sync {
    /// Name of the runtime, as in reports.
    fn name(&self) -> &'static str;

    /// Fails, before anything is made, if this lab cannot run here, and says what is missing and for what.
    fn preflight<'a>(&'a self, lab: &'a Lab, events: &'a Events) -> BoxFuture<'a, Result<(), Error>>;

    /// How the frames of a NIC get to the wire, which listens at this path.
    fn transport(&self, listen: PathBuf) -> Transport {
        Transport::QemuStream { listen }
    }

    /// How many of the turns that processors have the start of this host takes.
    fn turns(&self, _host: &Host) -> u32 {
        1
    }

    /// Starts one host and returns once its agent can be called.
    fn start<'a>(&'a self, host: &'a HostPlan) -> BoxFuture<'a, Result<Started, Error>>;
}

/// What a provider is told of a host.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// Lab.
    pub lab: String,
    /// Name of the host.
    pub name: String,
    /// The host.
    pub host: Host,
    /// Its folder on this machine; it exists.
    pub dir: PathBuf,
    /// For each of its NICs, in order, where the wire listens.
    pub nic_sockets: Vec<PathBuf>,
}

/// A host that was started.
pub struct Started {
    /// The way to its agent.
    pub agent: Dial,
    /// Resolves once it has ended, by itself or not, and says of what.
    pub ended: BoxFuture<'static, String>,
    /// The host itself.
    pub machine: Box<dyn Machine>,
    /// Container images that its dockerd has already.
    pub images: &'static [&'static str],
}

/// A host that runs.
pub trait Machine: Send {
    /// The process that is noted on disk, so that `down` finds it after a crash.
    fn process(&self) -> Option<Process>;

    /// What can be said of a machine that no longer answers: its state, and the tail of its console.
    fn post_mortem(&mut self) -> String;

    /// Ends it and waits until it is gone. Ending one that is gone is no error.
    fn kill(&mut self) -> BoxFuture<'_, Result<(), Error>>;
}
