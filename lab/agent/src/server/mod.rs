//! The agent's side of the protocol.

pub mod port;
mod session;

pub(crate) use session::{ServerStream, refuse};

use std::io;

use labctl_protocol::{
    messages::HostConfig,
    mux,
    preamble::{self, PreambleError},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader},
    sync::Mutex,
    task::JoinSet,
};

use crate::{netns::Namespace, ops::docker::Engine};

/// Whether the host has the kernel for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The kernel serves only this host (a vm): the agent controls clock, random generator and power.
    Own,
    /// Others use this kernel too (a container, an existing machine).
    Shared,
}

/// An agent. Sessions follow one another; the configuration outlives them.
#[derive(Debug)]
pub struct Server {
    pub(crate) kernel: Kernel,
    /// The host's own network namespace.
    pub(crate) namespace: Namespace,
    pub(crate) engine: Mutex<Engine>,
    /// The last configuration, to know what to remove.
    pub(crate) configured: Mutex<Option<HostConfig>>,
}

impl Server {
    /// An agent whose host lives in `namespace`.
    pub fn new(kernel: Kernel, namespace: Namespace) -> Self {
        Self { kernel, namespace, engine: Mutex::new(Engine::default()), configured: Mutex::new(None) }
    }

    /// Waits for a session to begin on the stream and serves it until it ends. All requests of the session end with it.
    pub async fn session(
        self: &std::sync::Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin,
    ) -> Result<(), PreambleError> {
        let mut transport = BufReader::new(stream);
        preamble::await_begin(&mut transport).await?;
        let mut handlers = JoinSet::new();
        let ended = mux::serve(transport, |stream| {
            // Drop finished handlers, so that the set holds only open streams.
            while handlers.try_join_next().is_some() {}
            handlers.spawn(session::stream(self.clone(), stream));
        });
        if let Err(error) = ended.await {
            tracing::info!("the session ended: {error}");
        }
        handlers.shutdown().await;
        Ok(())
    }

    /// Serves one session after another on a virtio-serial port, for ever.
    ///
    /// # Errors
    /// If the port fails.
    pub async fn port(self: std::sync::Arc<Self>, port: port::Port) -> io::Result<()> {
        port.connected().await?;
        // If labctl disconnects now, there is no session to end.
        let _ = preamble::end_earlier(&mut port.stream()?).await;
        loop {
            port.connected().await?;
            match self.session(port.stream()?).await {
                Ok(()) | Err(PreambleError::Ended) => {}
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }
}
