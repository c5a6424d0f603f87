//! A unix socket of a host, offered on this machine.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use labctl_protocol::client::AgentClient;
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

use crate::Error;

/// The Docker socket inside a host.
pub const GUEST_DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// A listening socket of mode 0600 whose connections end in a socket of the host. Ends when told, or when dropped.
#[derive(Debug)]
pub struct Forward {
    path: PathBuf,
    task: JoinHandle<()>,
    ended: AtomicBool,
}

impl Forward {
    /// Listens on `path` and connects each client to `remote` in the host.
    pub fn start(path: PathBuf, agent: AgentClient, remote: &'static str) -> Result<Self, Error> {
        let listener = listen_private(&path).map_err(Error::io("cannot listen on", &path))?;
        let task = tokio::spawn(serve(listener, agent, remote));
        Ok(Self { path, task, ended: AtomicBool::new(false) })
    }

    /// Ends it, though others may still hold it: its path is free for the next one.
    pub fn end(&self) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            self.task.abort();
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn serve(listener: UnixListener, agent: AgentClient, remote: &'static str) {
    loop {
        match listener.accept().await {
            Ok((local, _)) => {
                tokio::spawn(connect(local, agent.clone(), remote));
            }
            Err(e) => {
                // Most likely out of file descriptors: pause for a moment.
                tracing::warn!("{remote}, offered here: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connect(mut local: UnixStream, agent: AgentClient, remote: &'static str) {
    match agent.dial_unix(remote).await {
        Ok(mut far) => {
            // Either side closing is the usual end.
            let _ = tokio::io::copy_bidirectional(&mut local, &mut far).await;
        }
        Err(e) => tracing::warn!("{remote}: {e}"),
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.end();
    }
}

/// Opens a listening unix socket of mode 0600. Its folder is 0700, so there is no moment in which another user could
/// connect.
pub fn listen_private(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
