//! The note on disk about a node before it is made, so that it can be removed whatever happens to its supervisor.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{
    Docker,
    query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder},
};
use futures::future::join_all;
use labctl_images::{durable, hash::hex};
use labctl_state::LabDir;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::daemon::{Daemon, usual_socket};
use crate::{Error, machine::HostPlan};

/// Name of the file in the host's folder.
const FILE: &str = "container.json";

/// Limit for a killed container to be gone.
const GONE: Duration = Duration::from_secs(30);

/// How long dockerd may go on making a container whose client has hung up.
const MADE: Duration = Duration::from_secs(5);

/// Pause between two looks at a container that is being removed or made.
const LOOK: Duration = Duration::from_millis(50);

/// Label of a node: its lab.
pub(super) const LABEL_LAB: &str = "labctl.lab";
/// Label of a node: its host.
pub(super) const LABEL_HOST: &str = "labctl.host";
/// Label of a node: the lab's folder.
pub(super) const LABEL_DIR: &str = "labctl.dir";

/// A node's container and its daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Name of the container.
    pub container: String,
    /// Socket of the daemon.
    pub daemon: PathBuf,
    /// Whether dockerd was asked to make it and has not answered yet: it may still appear.
    #[serde(default)]
    pub making: bool,
}

impl Note {
    /// The note for a host's container before it is made: the same folder gets the same name, another folder another.
    pub fn of(plan: &HostPlan, daemon: &Daemon) -> Self {
        let digest = Sha256::digest(plan.dir.as_os_str().as_encoded_bytes());
        let container = format!("labctl-{}-{}-{}", plan.lab, plan.name, hex(&digest[..4]));
        Self { container, daemon: daemon.socket.clone(), making: true }
    }

    /// Reads the note of the host with this folder.
    pub fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()
    }

    /// Writes it to the host's folder atomically.
    pub fn write(&self, plan: &HostPlan) -> Result<(), Error> {
        let path = plan.dir.join(FILE);
        let text = serde_json::to_vec(self)
            .map_err(|e| labctl_state::Error::Damaged { path: path.clone(), why: e.to_string() })?;
        durable::write(&path, 0o600, &text).map_err(Error::io("cannot write", path))
    }
}

/// Removes the remaining nodes of a lab: those noted in its folder, and those labelled as its own, since a note may be
/// damaged. Returns what could not be removed.
pub async fn sweep(dir: &LabDir) -> Vec<String> {
    let hosts = fs::read_dir(dir.path().join("hosts")).into_iter().flatten().filter_map(Result::ok);
    let mut notes: BTreeMap<PathBuf, Vec<Note>> = BTreeMap::new();
    for host in hosts {
        if let Some(note) = Note::read(&host.path()) {
            notes.entry(note.daemon.clone()).or_default().push(note);
        } else if host.path().join(FILE).exists() {
            // There was a node on an unknown daemon: look where it would be made today.
            notes.entry(usual_socket()).or_default();
        }
    }
    let sweeps = notes.iter().map(|(socket, notes)| sweep_daemon(dir, socket, notes));
    join_all(sweeps).await.into_iter().flatten().collect()
}

async fn sweep_daemon(dir: &LabDir, socket: &Path, notes: &[Note]) -> Vec<String> {
    let left = |name: &str, why: &str| {
        format!("container {name} may be left: {why}\nhint: docker rm --force --volumes {name}")
    };
    let daemon = match Daemon::at(socket).await {
        Ok(daemon) => daemon,
        Err(why) if notes.is_empty() => {
            return vec![format!(
                "nodes of {} may be left: {why}\nhint: docker ps --all --filter label={LABEL_LAB}={}",
                dir.name(),
                dir.name()
            )];
        }
        Err(why) => return notes.iter().map(|n| left(&n.container, &why)).collect(),
    };
    let mut nodes: BTreeMap<String, bool> = notes.iter().map(|n| (n.container.clone(), n.making)).collect();
    let labelled = labelled(&daemon.api, dir).await;
    let mut warnings: Vec<String> = labelled.as_ref().err().cloned().into_iter().collect();
    for name in labelled.unwrap_or_default() {
        nodes.entry(name).or_insert(false);
    }
    let removals = nodes.iter().map(async |(name, making)| {
        remove(&daemon.api, name, *making).await.err().map(|why| left(name, &why))
    });
    warnings.extend(join_all(removals).await.into_iter().flatten());
    warnings
}

/// Containers labelled as nodes of the lab with this folder.
async fn labelled(docker: &Docker, dir: &LabDir) -> Result<Vec<String>, String> {
    let filters = HashMap::from([("label", vec![LABEL_DIR])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let found = docker.list_containers(Some(options)).await.map_err(labctl_docker::message)?;
    let of_lab = found.into_iter().filter(|container| {
        let folder = container.labels.as_ref().and_then(|labels| labels.get(LABEL_DIR));
        folder.is_some_and(|folder| Path::new(folder).starts_with(dir.path()))
    });
    Ok(of_lab.filter_map(|container| container.id).collect())
}

/// Ends a container and removes it with its volumes. One that is gone is no error. Waits for one that is being removed,
/// and for one that dockerd may still be `making`: it goes on when its client hangs up.
pub(super) async fn remove(docker: &Docker, container: &str, making: bool) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match docker.remove_container(container, Some(options)).await {
            Ok(()) => return Ok(()),
            Err(e) if labctl_docker::is_not_found(&e) => {
                if !making || began.elapsed() > MADE {
                    return Ok(());
                }
            }
            // 409: the removal is under way.
            Err(e) if labctl_docker::is_conflict(&e) && began.elapsed() < GONE => {}
            Err(e) => return Err(labctl_docker::message(e)),
        }
        tokio::time::sleep(LOOK).await;
    }
}
