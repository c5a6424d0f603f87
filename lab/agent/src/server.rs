//! What the agent knows of its host, and what every request works on.

use std::io;

use labctl_protocol::{
    lines,
    messages::{HostConfig, Netns, Reply},
    mux,
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    sync::Mutex,
};

use crate::{engine::Engine, foreign::Foreign, netns::Namespace};

/// The agent's end of a stream, buffered so that no byte after a line is lost.
pub type ServerStream = BufReader<mux::Accepted>;

/// Whether the host has the kernel for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The kernel serves only this host (a vm): the agent controls clock, random generator and power.
    Own,
    /// Others use this kernel too (a container, an existing machine).
    Shared,
}

/// An agent. Sessions ([`crate::session`]) follow one another; the configuration outlives them.
#[derive(Debug)]
pub struct Server {
    pub(crate) kernel: Kernel,
    /// The host's own network namespace.
    pub(crate) namespace: Namespace,
    pub(crate) engine: Mutex<Engine>,
    /// The last configuration, to know what to remove.
    pub(crate) configured: Mutex<Option<HostConfig>>,
    /// The lab's part of a machine that is not labctl's own.
    pub(crate) foreign: Option<Foreign>,
}

impl Server {
    /// An agent whose host lives in `namespace`.
    pub fn new(kernel: Kernel, namespace: Namespace) -> Self {
        let (engine, configured) = (Mutex::new(Engine::default()), Mutex::new(None));
        Self { kernel, namespace, engine, configured, foreign: None }
    }

    /// An agent on a machine that is not labctl's own, for one lab.
    pub(crate) fn foreign(namespace: Namespace, part: Foreign) -> Self {
        Self { foreign: Some(part), ..Self::new(Kernel::Shared, namespace) }
    }

    /// Opens a namespace of the host.
    pub(crate) fn enter(&self, netns: &Netns) -> io::Result<Namespace> {
        match netns {
            Netns::Host => Ok(self.namespace.clone()),
            Netns::Pid(pid) => Namespace::of_pid(*pid),
        }
    }
}

/// Answers with an error and closes the stream.
pub(crate) async fn refuse(mut stream: ServerStream, why: String) {
    // If this fails too, nobody is left to tell.
    let _ = lines::write(&mut stream, &Reply::Err(why)).await;
    let _ = stream.shutdown().await;
}
