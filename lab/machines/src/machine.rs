//! The interface between a lab and what its hosts run on. A runtime only implements [`Provider`]: plan, wire, agent,
//! Docker, probing and teardown are the same for all.

use std::path::PathBuf;

use futures::future::BoxFuture;
use labctl_model::{Host, Lab};
pub use labctl_protocol::client::{Dial, Stream};
use labctl_state::checkpoint::Fingerprint;
use labctl_state::{Process, checkpoint::SavedMachine};
use labctl_wire::Transport;

use crate::{Error, Events, qemu::Saving};

/// Makes hosts.
pub trait Provider: Send + Sync {
    /// Fails before anything is made if this lab cannot run here, and says what is missing and what needs it.
    /// `restored`: all its hosts come from a checkpoint.
    fn preflight<'a>(
        &'a self,
        lab: &'a Lab,
        restored: bool,
        events: &'a Events,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// What saved hosts of this lab depend on. `None`: they cannot be saved.
    fn fingerprint<'a>(&'a self, _lab: &'a Lab) -> BoxFuture<'a, Result<Option<Fingerprint>, Error>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// How a NIC's frames reach the wire, which listens at this path.
    ///
    /// # Errors
    /// There is no room for it.
    fn transport(&self, listen: PathBuf) -> Result<Transport, Error> {
        Ok(Transport::QemuStream { listen })
    }

    /// Whether the wire carries its hosts' NICs. If not, their segments are networks that exist.
    fn has_wire(&self) -> bool {
        true
    }

    /// Ends the machine of a host that does not end with its [`Machine`].
    fn pull_plug<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// How many start slots the start of this host takes (slots are per processor).
    fn turns(&self, _host: &Host) -> u32 {
        1
    }

    /// Starts one host and returns once its agent can be called.
    fn start<'a>(&'a self, host: &'a HostPlan) -> BoxFuture<'a, Result<Started, Error>>;
}

/// What a provider gets to know about a host.
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
    /// The socket where the wire listens, for each NIC in order.
    pub nic_sockets: Vec<PathBuf>,
    /// The machine that it is restored from. It is then stopped, until [`Saving::resume`].
    pub saved: Option<SavedMachine>,
}

/// A host that was started.
pub struct Started {
    /// Connects to its agent.
    pub agent: Dial,
    /// Resolves once the machine has ended, for whatever reason, and says why.
    pub ended: BoxFuture<'static, String>,
    /// The host itself.
    pub machine: Box<dyn Machine>,
    /// Images that its dockerd has from the start.
    pub images: &'static [&'static str],
}

/// A running host.
pub trait Machine: Send {
    /// Its process, which is noted on disk so that `down` finds it after a crash.
    fn process(&self) -> Option<Process>;

    /// Saves it; `None` if it cannot be saved.
    fn saving(&self) -> Option<Saving> {
        None
    }

    /// Describes a machine that no longer answers: its state, and the tail of its console.
    fn post_mortem(&mut self) -> String;

    /// Ends it and waits until it is gone. A machine that is already gone is no error.
    fn kill(&mut self) -> BoxFuture<'_, Result<(), Error>>;
}
