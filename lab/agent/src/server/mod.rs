//! The agent's side of the protocol.

pub mod port;
mod session;

pub(crate) use session::{ServerStream, refuse};

use std::io;

use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader},
    sync::Mutex,
    task::JoinSet,
};

use crate::{
    mux,
    netns::Namespace,
    ops::docker::Engine,
    preamble::{self, PreambleError},
    protocol::HostConfig,
};

/// What a server may do beyond its own files and namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The kernel serves this host alone (a vm): clock, random generator and power are the agent's to set.
    Own,
    /// Others live on this kernel too (a container, a machine that existed before).
    Shared,
}

/// An agent. Sessions follow one another; what was configured outlives them.
#[derive(Debug)]
pub struct Server {
    pub(crate) kernel: Kernel,
    /// The host's own network namespace.
    pub(crate) namespace: Namespace,
    pub(crate) engine: Mutex<Engine>,
    /// What was last configured, to know what is no longer wanted.
    pub(crate) configured: Mutex<Option<HostConfig>>,
}

impl Server {
    /// An agent whose host lives in `namespace`.
    pub fn new(kernel: Kernel, namespace: Namespace) -> Self {
        Self { kernel, namespace, engine: Mutex::new(Engine::default()), configured: Mutex::new(None) }
    }

    /// Waits for a session to begin on the stream and serves it until it ends. Everything that hangs on the session
    /// ends with it.
    pub async fn session(
        self: &std::sync::Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin,
    ) -> Result<(), PreambleError> {
        let mut transport = BufReader::new(stream);
        preamble::await_begin(&mut transport).await?;
        let mut handlers = JoinSet::new();
        let ended = mux::serve(transport, |stream| {
            // Those that have finished are let go of, so that the set stays as small as what is open.
            while handlers.try_join_next().is_some() {}
            handlers.spawn(session::stream(self.clone(), stream));
        });
        if let Err(error) = ended.await {
            tracing::info!("the session ended: {error}");
        }
        handlers.shutdown().await;
        Ok(())
    }

    /// Serves one session after the other on a virtio-serial port, for ever.
    ///
    /// # Errors
    /// Only a port that fails.
    pub async fn port(self: std::sync::Arc<Self>, port: port::Port) -> io::Result<()> {
        port.connected().await?;
        // Whoever is connected may go at any moment: then there is no session to be ended.
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
