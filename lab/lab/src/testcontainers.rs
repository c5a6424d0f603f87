//! A swarm node as a container of [testcontainers](::testcontainers): a dockerd in a container of this machine's Docker.
//!
//! ```no_run
//! use lab::{bollard::models::SwarmInitRequest, testcontainers::Node};
//!
//! #[tokio::test]
//! # async fn not_run() {}
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), lab::Error> { a_swarm_of_one().await }
//! async fn a_swarm_of_one() -> Result<(), lab::Error> {
//!     let node = Node::default().start().await?;
//!     let docker = node.docker()?;                            // a bollard client of the dockerd in it
//!
//!     docker.init_swarm(SwarmInitRequest {
//!         listen_addr: Some("127.0.0.1:2377".into()),
//!         advertise_addr: Some("127.0.0.1".into()),
//!         ..Default::default()
//!     }).await?;
//!     Ok(())                                                  // removed on drop
//! }
//! ```
//!
//! Several nodes share a Docker network. testcontainers makes it with the first node and removes it after the last:
//!
//! ```no_run
//! use lab::{
//!     bollard::{models::{SwarmInitRequest, SwarmJoinRequest}, query_parameters::ListNodesOptions},
//!     testcontainers::{Node, RunningNode},
//! };
//! use testcontainers::ImageExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), lab::Error> { a_swarm_of_two().await }
//! async fn a_swarm_of_two() -> Result<(), lab::Error> {
//!     let image = Node::default().image().await?;
//!     let named = |name: &str| image.clone().request().with_hostname(name).with_network("nodes");
//!     let (one, two) = (RunningNode::start(named("node1")).await?, RunningNode::start(named("node2")).await?);
//!     let (first, second) = (one.get_bridge_ip_address().await?, two.get_bridge_ip_address().await?);
//!
//!     let (manager, worker) = (one.docker()?, two.docker()?);
//!     manager.init_swarm(SwarmInitRequest {
//!         listen_addr: Some("0.0.0.0:2377".into()),
//!         advertise_addr: Some(first.to_string()),
//!         ..Default::default()
//!     }).await?;
//!     let tokens = manager.inspect_swarm().await?.join_tokens.unwrap_or_default();
//!     worker.join_swarm(SwarmJoinRequest {
//!         listen_addr: Some("0.0.0.0:2377".into()),
//!         advertise_addr: Some(second.to_string()),
//!         remote_addrs: Some(vec![format!("{first}:2377")]),
//!         join_token: tokens.worker,
//!         ..Default::default()
//!     }).await?;
//!     assert_eq!(manager.list_nodes(None::<ListNodesOptions>).await?.len(), 2);
//!     Ok(())
//! }
//! ```
//!
//! Traffic between nodes passes a bridge of this machine, like that of any container; a [`Lab`](crate::Lab) has a wire
//! of its own.
//!
//! The node image is the one that labs use, made of Debian packages. The first start imports it into the Docker daemon;
//! no registry is asked. A node has only the networks that its own dockerd makes, unless it is given one (see
//! [`NodeImage::request`]). No port of this machine leads to it: its dockerd is reached through the agent's stream.
//! A node needs a Docker daemon on this machine whose containers may have `SYS_ADMIN`; a [`Lab`](crate::Lab) needs none.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt, fs,
    ops::Deref,
    path::{Path, PathBuf},
};

use bollard::{Docker, models::HostConfig};
use labctl_images::BuildOptions;
use labctl_machines::{
    dind::{self, Door, NodeContainer},
    images, install,
};
use labctl_model::Suite;
use labctl_protocol::node::ENGINE_ANSWERS;
use testcontainers::{
    ContainerAsync, ContainerRequest, Image, ImageExt,
    core::{WaitFor, client::docker_client_instance},
    runners::AsyncRunner,
};

use crate::{Error, home::Home, lab};

/// The file with the running kernel's unique boot id (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A node that is not started yet.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is made before `start`"]
pub struct Node {
    suite: Suite,
    cache: Option<PathBuf>,
    agent: Option<PathBuf>,
}

impl Node {
    /// Chooses whose dockerd runs in it; the default is Debian trixie's, 26.1.
    pub fn engine(self, suite: Suite) -> Self {
        Self { suite, ..self }
    }

    /// Sets where node images are kept; see [`crate::Lab::cache_dir`].
    pub fn cache_dir(self, dir: impl Into<PathBuf>) -> Self {
        Self { cache: Some(dir.into()), ..self }
    }

    /// Sets the agent's binary; see [`crate::Lab::agent`].
    pub fn agent(self, path: impl Into<PathBuf>) -> Self {
        Self { agent: Some(path.into()), ..self }
    }

    /// Returns the image. Makes it if it is missing (half a minute, once) and imports it into the Docker daemon (seconds,
    /// once).
    ///
    /// # Errors
    /// If it cannot be made, or there is no Docker daemon.
    pub async fn image(self) -> Result<NodeImage, Error> {
        let home = Home::start("node image")?;
        let cache = lab::cache_folder(self.cache)?;
        let agent = match self.agent {
            Some(agent) => install::find_agent(Some(agent), &[])?,
            None => install::find_agent_of_this_program()?,
        };
        let events = home.events(lab::trace);
        let suite = self.suite;
        let making = async move {
            let options = BuildOptions { cache, suite, rebuild: false };
            let image = images::build_telling(&options, &events).await?;
            let docker = docker().await?;
            dind::import(&image, &docker, &|_, _| {}).await?;
            Ok::<_, Error>(dind::reference(&image))
        };
        let reference = home.run(making).await?;
        drop(home.end().await);
        Ok(NodeImage::new(&reference, &agent))
    }

    /// Starts it; returns once its dockerd answers.
    ///
    /// # Errors
    /// Those of [`Node::image`]; or if the container does not become a node, with its log.
    pub async fn start(self) -> Result<RunningNode, Error> {
        RunningNode::start(self.image().await?.request()).await
    }
}

/// The Docker daemon that testcontainers uses.
async fn docker() -> Result<Docker, Error> {
    let client = docker_client_instance().await;
    Ok(client.map_err(testcontainers::TestcontainersError::from)?)
}

/// The node image, imported into the Docker daemon.
#[derive(Clone, Debug)]
pub struct NodeImage {
    name: String,
    tag: String,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    host_config: HostConfig,
}

impl NodeImage {
    fn new(reference: &str, agent: &Path) -> Self {
        let mut node = NodeContainer::new(reference, agent);
        node.command.push("--engine".into());
        if let Ok(boot_id) = fs::read_to_string(BOOT_ID) {
            // A daemon on another machine would not find the agent; with the boot id, the node can say why.
            node.command.extend(["--boot-id".to_owned(), boot_id.trim().to_owned()]);
        }
        let body = node.create_body("node", HashMap::new());
        let variable = |v: &String| v.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        let (name, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
        Self {
            name: name.to_owned(),
            tag: tag.to_owned(),
            command: node.command,
            environment: body.env.iter().flatten().filter_map(variable).collect(),
            host_config: body.host_config.unwrap_or_default(),
        }
    }

    /// A request for a container of this image, with the capabilities and mounts that a node needs. [`ImageExt`] gives it a
    /// name, a network or a host name; [`RunningNode::start`] starts it.
    ///
    /// ```no_run
    /// # use lab::testcontainers::{Node, RunningNode};
    /// # use testcontainers::ImageExt;
    /// # async fn f() -> Result<(), lab::Error> {
    /// let image = Node::default().image().await?;
    /// let request = image.request().with_hostname("node1").with_network("nodes");
    /// let node = RunningNode::start(request).await?;
    /// # Ok(()) }
    /// ```
    pub fn request(self) -> ContainerRequest<Self> {
        let ours = self.host_config.clone();
        ContainerRequest::<Self>::from(self).with_host_config_modifier(move |config| {
            let given = std::mem::take(config);
            *config = HostConfig {
                network_mode: given.network_mode.or(ours.network_mode.clone()),
                extra_hosts: given.extra_hosts,
                port_bindings: given.port_bindings,
                shm_size: given.shm_size,
                mounts: Some(ours.mounts.iter().chain(&given.mounts).flatten().cloned().collect()),
                ..ours.clone()
            };
        })
    }
}

impl Image for NodeImage {
    fn name(&self) -> &str {
        &self.name
    }

    fn tag(&self) -> &str {
        &self.tag
    }

    fn ready_conditions(&self) -> Vec<WaitFor> {
        vec![WaitFor::message_on_stderr(ENGINE_ANSWERS)]
    }

    fn env_vars(&self) -> impl IntoIterator<Item = (impl Into<Cow<'_, str>>, impl Into<Cow<'_, str>>)> {
        self.environment.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    fn entrypoint(&self) -> Option<&str> {
        self.command.first().map(String::as_str)
    }

    fn cmd(&self) -> impl IntoIterator<Item = impl Into<Cow<'_, str>>> {
        self.command.iter().skip(1).map(String::as_str)
    }
}

/// A node whose dockerd answers. It derefs to its container. Dropping it removes the container and what was in it.
pub struct RunningNode {
    // Dropped in this order: the door closes before its thread ends and the container is removed.
    door: Door,
    _home: Home,
    folder: tempfile::TempDir,
    container: ContainerAsync<NodeImage>,
}

impl RunningNode {
    /// Starts a container of the node image; returns once its dockerd answers.
    ///
    /// # Errors
    /// If Docker refuses, or the container does not become a node.
    pub async fn start(request: ContainerRequest<NodeImage>) -> Result<Self, Error> {
        let container: ContainerAsync<NodeImage> = request.start().await?;
        // Mode 0700, as `tempfile` makes them.
        let folder = tempfile::Builder::new()
            .prefix("labctl-node-")
            .tempdir()
            .map_err(labctl_machines::Error::io("cannot make a folder in", std::env::temp_dir()))?;
        let home = Home::start("node")?;
        let daemon = docker().await?;
        let (id, socket) = (container.id().to_owned(), socket(&folder));
        let door = home.run(async move { Door::open(&daemon, &id, &socket).await }).await?;
        Ok(Self { door, _home: home, folder, container })
    }

    /// A client of the dockerd in it. Other programs use its socket: [`RunningNode::docker_host`].
    ///
    /// # Errors
    /// If the client cannot be made.
    pub fn docker(&self) -> Result<Docker, Error> {
        let client = self.door.docker.another(&socket(&self.folder));
        Ok(client.map_err(labctl_machines::Error::from)?)
    }

    /// The `DOCKER_HOST` of the dockerd in it: `unix://` and a socket that only this user may use.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", socket(&self.folder).display())
    }
}

fn socket(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("docker.sock")
}

impl Deref for RunningNode {
    type Target = ContainerAsync<NodeImage>;

    fn deref(&self) -> &Self::Target {
        &self.container
    }
}

impl fmt::Debug for RunningNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningNode").field("id", &self.container.id()).finish_non_exhaustive()
    }
}
