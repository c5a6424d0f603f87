//! A running node.

use std::{io, path::PathBuf, time::Duration};

use bollard::{
    Docker,
    query_parameters::{LogsOptionsBuilder, WaitContainerOptions},
};
use futures::{StreamExt, future::BoxFuture};
use labctl_state::Process;
use tokio::task::JoinHandle;

use super::{door::agent_stream, note};
use crate::{
    Error,
    console::Ring,
    machine::{Dial, Machine},
    tail::tail,
};

/// How long an ended container's last output may take to be written.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Pause before asking a silent daemon again whether a container runs.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A node. Dropping it leaves the container, which the note on disk names.
pub(super) struct Node {
    host: String,
    api: Docker,
    container: String,
    console: PathBuf,
    log: JoinHandle<()>,
}

impl Node {
    /// Takes a started container; writes its log to `console` from now on.
    pub fn new(host: &str, api: Docker, container: String, console: PathBuf) -> Self {
        let log = tokio::spawn(follow(api.clone(), container.clone(), console.clone()));
        Self { host: host.to_owned(), api, container, console, log }
    }

    /// Starts a new agent in the node for each connection.
    pub fn dial(&self) -> Dial {
        let (api, container) = (self.api.clone(), self.container.clone());
        Dial::new(move || {
            let (api, container) = (api.clone(), container.clone());
            async move {
                agent_stream(&api, &container).await.map_err(|e| io::Error::other(labctl_docker::message(e)))
            }
        })
    }

    /// Waits until its container has ended.
    pub fn gone(&self) -> BoxFuture<'static, String> {
        let (api, container) = (self.api.clone(), self.container.clone());
        Box::pin(async move {
            loop {
                // The answer does not count: an error may be the daemon's own end.
                let _ = api.wait_container(&container, None::<WaitContainerOptions>).next().await;
                match api.inspect_container(&container, None).await {
                    Ok(found) if found.state.as_ref().and_then(|s| s.running) != Some(true) => break,
                    Err(e) if labctl_docker::is_not_found(&e) => break,
                    _ => tokio::time::sleep(ASK_AGAIN).await,
                }
            }
            "its container ended".to_owned()
        })
    }
}

async fn follow(api: Docker, container: String, console: PathBuf) {
    let written = async {
        let mut file = Ring::create(&console)?;
        let options = LogsOptionsBuilder::new().follow(true).stdout(true).stderr(true).build();
        let mut log = api.logs(&container, Some(options));
        while let Some(Ok(line)) = log.next().await {
            file.write(&line.into_bytes())?;
        }
        io::Result::Ok(())
    };
    if let Err(error) = written.await {
        tracing::warn!("{}: {error}", console.display());
    }
}

impl Machine for Node {
    /// No process of labctl's own: the container is noted, and Docker knows its processes.
    fn process(&self) -> Option<Process> {
        None
    }

    fn post_mortem(&mut self) -> String {
        let state = match self.log.is_finished() {
            true => "its container has ended",
            false => "its container still runs",
        };
        let said = tail(&self.console);
        if said.is_empty() { state.to_owned() } else { format!("{state}\nits log ends with:\n  {said}") }
    }

    fn kill(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let removed = note::remove(&self.api, &self.container, false).await;
            if tokio::time::timeout(LAST_WORDS, &mut self.log).await.is_err() {
                self.log.abort();
            }
            removed.map_err(|why| Error::Machine { host: self.host.clone(), why })
        })
    }
}
