//! A unix socket of a host, offered on this machine.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use lab_agent::client::AgentClient;
use tokio::{net::UnixListener, task::JoinHandle};

use crate::Error;

/// A listening socket of mode 0600 whose connections end in a socket of the host. Ends when dropped.
#[derive(Debug)]
pub struct Forward {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Forward {
    /// Listens on `path` and connects what comes to `remote` in the host.
    pub fn start(path: PathBuf, agent: AgentClient, remote: &'static str) -> Result<Self, Error> {
        let listener = listen_private(&path).map_err(Error::io("cannot listen on", &path))?;
        let task = tokio::spawn(async move {
            while let Ok((mut local, _)) = listener.accept().await {
                let agent = agent.clone();
                tokio::spawn(async move {
                    match agent.dial_unix(remote).await {
                        Ok(mut far) => {
                            // Either side closing is the usual end.
                            let _ = tokio::io::copy_bidirectional(&mut local, &mut far).await;
                        }
                        Err(e) => tracing::warn!("{remote}: {e}"),
                    }
                });
            }
        });
        Ok(Self { path, task })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path);
    }
}

/// A listening unix socket of mode 0600. The folder that it lies in is 0700, so there is no moment in which another
/// user could connect.
pub fn listen_private(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
