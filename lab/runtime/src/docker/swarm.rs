//! What a host's dockerd has to do with the swarm.

use std::time::{Duration, Instant};

use bollard::models::{
    LocalNodeState, NodeSpec, NodeSpecAvailabilityEnum, NodeSpecRoleEnum, NodeState, Reachability,
    SwarmInitRequest, SwarmJoinRequest, SwarmSpec,
};
use bollard::query_parameters::{
    DeleteNodeOptionsBuilder, LeaveSwarmOptionsBuilder, ListNodesOptions, UpdateNodeOptionsBuilder,
    UpdateSwarmOptionsBuilder,
};
use lab_model::{Node, Role, Swarm, Token};

use super::{Call, HostDocker, docker_error, patiently};
use crate::error::Error;

/// TCP port on which managers are reached.
pub const CONTROL_PORT: u16 = 2377;

/// What dockerd says when joining takes longer than it waits, while it goes on trying.
const STILL_JOINING: &str = "Timeout was reached before node joined";

/// What dockerd says of a node that is to be removed and has not stopped being a manager.
const STILL_MEMBER: &str = "member of the raft cluster";

/// How long a manager may take to be no more, once it is demoted.
const DEMOTED: Duration = Duration::from_secs(30);

/// Pause between two attempts to remove it.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The secrets by which hosts join: never shown, stored or logged.
pub struct Tokens {
    worker: String,
    manager: String,
}

impl Tokens {
    fn of(&self, role: Role) -> &str {
        match role {
            Role::Manager => &self.manager,
            Role::Worker => &self.worker,
        }
    }

    /// Tokens that no swarm has: well formed, so that it is the swarm that refuses them.
    pub fn wrong() -> Self {
        let token = format!("SWMTKN-1-{}-{}", "0".repeat(50), "0".repeat(25));
        Self { worker: token.clone(), manager: token }
    }
}

/// A node as a manager sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSeen {
    /// Its id.
    pub id: String,
    /// Name of its host.
    pub host: String,
    /// Whether it takes part.
    pub ready: bool,
    /// Whether it takes tasks.
    pub active: bool,
    /// Whether it is a manager that the others reach.
    pub manager: bool,
    /// Its state in words: `ready`, `down`, ….
    pub state: String,
}

/// A change of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// What it is.
    Role(Role),
    /// Whether it takes tasks.
    Active(bool),
}

impl NodeChange {
    fn word(self) -> &'static str {
        match self {
            NodeChange::Role(Role::Manager) => "promote",
            NodeChange::Role(Role::Worker) => "demote",
            NodeChange::Active(true) => "activate",
            NodeChange::Active(false) => "drain",
        }
    }

    fn apply(self, spec: NodeSpec) -> NodeSpec {
        match self {
            NodeChange::Role(Role::Manager) => NodeSpec { role: Some(NodeSpecRoleEnum::MANAGER), ..spec },
            NodeChange::Role(Role::Worker) => NodeSpec { role: Some(NodeSpecRoleEnum::WORKER), ..spec },
            NodeChange::Active(true) => {
                NodeSpec { availability: Some(NodeSpecAvailabilityEnum::ACTIVE), ..spec }
            }
            NodeChange::Active(false) => {
                NodeSpec { availability: Some(NodeSpecAvailabilityEnum::DRAIN), ..spec }
            }
        }
    }
}

impl HostDocker {
    /// Makes this host the first manager of a new swarm.
    pub async fn init_swarm(&self, swarm: &Swarm, node: &Node) -> Result<(), Error> {
        let request = SwarmInitRequest {
            listen_addr: Some(listen(node)),
            advertise_addr: Some(node.advertise.to_string()),
            data_path_addr: node.data_path.map(|a| a.to_string()),
            data_path_port: swarm.data_path_port.map(u32::from),
            default_addr_pool: (!swarm.default_addr_pool.is_empty())
                .then(|| swarm.default_addr_pool.iter().map(ToString::to_string).collect()),
            subnet_size: swarm.subnet_size.map(u32::from),
            // Without one, 20.10 answers with an error that says nothing.
            spec: Some(SwarmSpec::default()),
            ..Default::default()
        };
        self.api.init_swarm(request).whole().await.map(drop).map_err(self.failed("init swarm"))
    }

    /// The tokens by which hosts join the swarm that this host manages.
    pub async fn join_tokens(&self) -> Result<Tokens, Error> {
        let swarm = self.api.inspect_swarm().whole().await.map_err(self.failed("inspect swarm"))?;
        let tokens = swarm.join_tokens.unwrap_or_default();
        Ok(Tokens { worker: tokens.worker.unwrap_or_default(), manager: tokens.manager.unwrap_or_default() })
    }

    /// Joins this host to a swarm. Returns once it has joined or, where that takes longer than dockerd waits, while it
    /// still tries.
    pub async fn join_swarm(&self, node: &Node, manager: &Node, tokens: &Tokens) -> Result<(), Error> {
        let token = tokens.of(node.role);
        let request = SwarmJoinRequest {
            listen_addr: Some(listen(node)),
            advertise_addr: Some(node.advertise.to_string()),
            data_path_addr: node.data_path.map(|a| a.to_string()),
            remote_addrs: Some(vec![format!("{}:{CONTROL_PORT}", manager.advertise)]),
            join_token: Some(token.to_owned()),
        };
        match self.api.join_swarm(request).whole().await {
            Ok(()) => Ok(()),
            Err(e) => match docker_error(&self.host, "join swarm", e) {
                Error::Docker { message, .. } if message.contains(STILL_JOINING) => Ok(()),
                Error::Docker { host, what, message } if !token.is_empty() => {
                    Err(Error::Docker { host, what, message: message.replace(token, "TOKEN") })
                }
                other => Err(other),
            },
        }
    }

    /// The tokens by which a host is to join: the right ones, none of this swarm's, or ones rotated away just now.
    pub async fn tokens(&self, which: Token) -> Result<Tokens, Error> {
        match which {
            Token::Right => self.join_tokens().await,
            Token::Wrong => Ok(Tokens::wrong()),
            Token::Old => {
                let old = self.join_tokens().await?;
                self.rotate_tokens().await?;
                Ok(old)
            }
        }
    }

    async fn rotate_tokens(&self) -> Result<(), Error> {
        let what = "rotate join tokens";
        let swarm = self.api.inspect_swarm().whole().await.map_err(self.failed(what))?;
        let version = swarm.version.and_then(|v| v.index).unwrap_or_default();
        let options = UpdateSwarmOptionsBuilder::new()
            .version(i64::try_from(version).unwrap_or(i64::MAX))
            .rotate_worker_token(true)
            .rotate_manager_token(true)
            .build();
        let spec = swarm.spec.unwrap_or_default();
        self.api.update_swarm(spec, options).whole().await.map_err(self.failed(what))
    }

    /// Takes this host out of its swarm, by force: a manager does not go otherwise.
    pub async fn leave_swarm(&self) -> Result<(), Error> {
        let options = LeaveSwarmOptionsBuilder::new().force(true).build();
        self.api.leave_swarm(Some(options)).whole().await.map_err(self.failed("leave swarm"))
    }

    /// Changes what a node is or does; this host must be a manager.
    pub async fn update_node(&self, host: &str, change: NodeChange) -> Result<(), Error> {
        patiently(|| self.update_node_once(host, change)).await
    }

    async fn update_node_once(&self, host: &str, change: NodeChange) -> Result<(), Error> {
        let what = format!("{} {host}", change.word());
        let nodes = self
            .api
            .list_nodes(None::<ListNodesOptions>)
            .whole()
            .await
            .map_err(self.failed(what.as_str()))?;
        // One that left and joined again is there twice: the one that is up is meant.
        let of = |n: &&bollard::models::Node| {
            n.description.as_ref().and_then(|d| d.hostname.as_deref()) == Some(host)
        };
        let up =
            |n: &&bollard::models::Node| n.status.as_ref().and_then(|s| s.state) == Some(NodeState::READY);
        let Some(node) = nodes.iter().filter(of).find(up).or_else(|| nodes.iter().find(of)) else {
            let message = "it is no node of the swarm".to_owned();
            return Err(Error::Docker { host: self.host.clone(), what, message });
        };
        let spec = change.apply(node.spec.clone().unwrap_or_default());
        let version = node.version.as_ref().and_then(|v| v.index).unwrap_or_default();
        let options =
            UpdateNodeOptionsBuilder::new().version(i64::try_from(version).unwrap_or(i64::MAX)).build();
        let id = node.id.as_deref().unwrap_or(host);
        self.api.update_node(id, spec, options).whole().await.map_err(self.failed(what))
    }

    /// Removes every entry of a host that is no more, by force, and says what it was; `None` where there is none. This
    /// host must be a manager.
    pub async fn remove_node(&self, host: &str) -> Result<Option<Role>, Error> {
        let what = format!("remove node {host}");
        let nodes = self
            .api
            .list_nodes(None::<ListNodesOptions>)
            .whole()
            .await
            .map_err(self.failed(what.as_str()))?;
        let mut was = None;
        for node in nodes {
            if node.description.as_ref().and_then(|d| d.hostname.as_deref()) != Some(host) {
                continue;
            }
            let id = node.id.clone().unwrap_or_default();
            if node.spec.as_ref().and_then(|s| s.role) == Some(NodeSpecRoleEnum::MANAGER) {
                // Raft lets nobody go who still has a vote.
                was = Some(Role::Manager);
                self.update_node(host, NodeChange::Role(Role::Worker)).await?;
            } else {
                was = was.or(Some(Role::Worker));
            }
            let deadline = Instant::now() + DEMOTED;
            loop {
                let options = DeleteNodeOptionsBuilder::new().force(true).build();
                let Err(error) = self.api.delete_node(&id, Some(options)).whole().await else { break };
                let error = self.failed(what.as_str())(error);
                // The managers take a moment to let one go that is demoted.
                let member =
                    matches!(&error, Error::Docker { message, .. } if message.contains(STILL_MEMBER));
                if !member || Instant::now() >= deadline {
                    return Err(error);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        Ok(was)
    }

    /// The nodes, as this manager sees them.
    pub async fn nodes(&self) -> Result<Vec<NodeSeen>, Error> {
        let nodes =
            self.api.list_nodes(None::<ListNodesOptions>).whole().await.map_err(self.failed("list nodes"))?;
        let seen = nodes.into_iter().map(|n| {
            let status = n.status.unwrap_or_default();
            let state = status.state.unwrap_or(NodeState::UNKNOWN);
            let message =
                status.message.filter(|m| !m.is_empty()).map(|m| format!(" ({m})")).unwrap_or_default();
            NodeSeen {
                id: n.id.unwrap_or_default(),
                host: n.description.and_then(|d| d.hostname).unwrap_or_default(),
                active: n.spec.and_then(|s| s.availability) == Some(NodeSpecAvailabilityEnum::ACTIVE),
                manager: n.manager_status.and_then(|m| m.reachability) == Some(Reachability::REACHABLE),
                ready: state == NodeState::READY,
                state: format!("{state}{message}"),
            }
        });
        Ok(seen.collect())
    }

    /// How this host stands to a swarm, in its own words: `active`, `pending`, `error: …`.
    pub async fn swarm_state(&self) -> Result<String, Error> {
        let info = self.api.info().whole().await.map_err(self.failed("info"))?;
        let swarm = info.swarm.unwrap_or_default();
        let state = swarm.local_node_state.unwrap_or(LocalNodeState::INACTIVE);
        Ok(match swarm.error.filter(|e| !e.is_empty()) {
            Some(why) => format!("{state}: {why}"),
            None => state.to_string(),
        })
    }
}

fn listen(node: &Node) -> String {
    match node.listen {
        Some(address) => format!("{address}:{CONTROL_PORT}"),
        None => format!("0.0.0.0:{CONTROL_PORT}"),
    }
}
