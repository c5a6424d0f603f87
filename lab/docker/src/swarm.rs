//! The swarm operations of a host's dockerd.

use std::{net::SocketAddr, time::Duration};

use bollard::models::{
    LocalNodeState, Node as Entry, NodeSpec, NodeSpecAvailabilityEnum, NodeSpecRoleEnum, NodeState,
    Reachability, SwarmInitRequest, SwarmJoinRequest, SwarmSpec,
};
use bollard::query_parameters::{
    DeleteNodeOptionsBuilder, LeaveSwarmOptionsBuilder, ListNodesOptions, UpdateNodeOptionsBuilder,
    UpdateSwarmOptionsBuilder,
};
use labctl_model::{OfFamily, Role, Swarm, SwarmNode, Token};
use labctl_protocol::polling::Polling;
use labctl_report::seen::NodeSeen;

use crate::{Call, Error, HostDocker, docker_error, retry_transient};

/// TCP port on which managers are reached.
pub const CONTROL_PORT: u16 = 2377;

/// dockerd's error if joining takes longer than it waits; it goes on trying.
const STILL_JOINING: &str = "Timeout was reached before node joined";

/// dockerd's error if a node to be removed has not stopped being a manager.
const STILL_MEMBER: &str = "member of the raft cluster";

/// Label of a node that is marked.
const MARK: &str = "labctl.mark";

/// How long a demoted manager may take to stop being one.
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

    /// Tokens of no swarm. They are well formed, so it is the swarm that refuses them.
    pub fn wrong() -> Self {
        let token = format!("SWMTKN-1-{}-{}", "0".repeat(50), "0".repeat(25));
        Self { worker: token.clone(), manager: token }
    }
}

/// A change of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// Its role.
    Role(Role),
    /// Whether it takes tasks.
    Active(bool),
    /// Whether it has labctl's mark. The mark means nothing, but a change of it makes the node look at its networks again:
    /// an update without a change is noticed only by the managers (swarmkit agent/agent.go, `nodesEqual`).
    Marked(bool),
}

impl NodeChange {
    fn word(self) -> &'static str {
        match self {
            NodeChange::Role(Role::Manager) => "promote",
            NodeChange::Role(Role::Worker) => "demote",
            NodeChange::Active(true) => "activate",
            NodeChange::Active(false) => "drain",
            NodeChange::Marked(_) => "update",
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
            NodeChange::Marked(marked) => {
                let mut labels = spec.labels.unwrap_or_default();
                labels.remove(MARK);
                labels.extend(marked.then(|| (MARK.to_owned(), String::new())));
                NodeSpec { labels: Some(labels), ..spec }
            }
        }
    }
}

impl HostDocker {
    /// Makes this host the first manager of a new swarm.
    pub async fn init_swarm(&self, swarm: &Swarm, node: &SwarmNode) -> Result<(), Error> {
        let request = init_request(swarm, node);
        self.api.init_swarm(request).whole().await.map(drop).map_err(self.failed("init swarm"))
    }

    /// The join tokens of the swarm that this host manages.
    pub async fn join_tokens(&self) -> Result<Tokens, Error> {
        let swarm = self.api.inspect_swarm().whole().await.map_err(self.failed("inspect swarm"))?;
        let tokens = swarm.join_tokens.unwrap_or_default();
        Ok(Tokens { worker: tokens.worker.unwrap_or_default(), manager: tokens.manager.unwrap_or_default() })
    }

    /// Joins this host to a swarm. Returns once it has joined, or when dockerd stops waiting while it still tries.
    pub async fn join_swarm(
        &self,
        node: &SwarmNode,
        manager: &SwarmNode,
        tokens: &Tokens,
    ) -> Result<(), Error> {
        let token = tokens.of(node.role);
        let request = SwarmJoinRequest {
            listen_addr: Some(listen(node)),
            advertise_addr: Some(node.advertise.to_string()),
            data_path_addr: node.data_path.map(|a| a.to_string()),
            remote_addrs: Some(vec![SocketAddr::new(manager.advertise, CONTROL_PORT).to_string()]),
            join_token: Some(token.to_owned()),
        };
        match self.api.join_swarm(request).whole().await {
            Ok(()) => Ok(()),
            Err(e) => match docker_error(&self.host, "join swarm", e) {
                Error::Refused { message, .. } if message.contains(STILL_JOINING) => Ok(()),
                Error::Refused { host, what, message } if !token.is_empty() => {
                    Err(Error::Refused { host, what, message: message.replace(token, "TOKEN") })
                }
                other => Err(other),
            },
        }
    }

    /// The tokens for a join: the right ones, wrong ones, or ones that were just rotated away.
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

    /// Takes this host out of its swarm, by force: without it a manager does not leave.
    pub async fn leave_swarm(&self) -> Result<(), Error> {
        let options = LeaveSwarmOptionsBuilder::new().force(true).build();
        self.api.leave_swarm(Some(options)).whole().await.map_err(self.failed("leave swarm"))
    }

    /// Makes this manager the only one of its swarm, whatever happened to the others.
    pub async fn force_new_cluster(&self, swarm: &Swarm, node: &SwarmNode) -> Result<(), Error> {
        let request = SwarmInitRequest { force_new_cluster: Some(true), ..init_request(swarm, node) };
        self.api.init_swarm(request).whole().await.map(drop).map_err(self.failed("force new cluster"))
    }

    /// Changes a node; this host must be a manager. `own` is the node's id as reported by its host, if it was. Returns
    /// whether the node is up.
    pub async fn update_node(
        &self,
        host: &str,
        own: Option<&str>,
        change: NodeChange,
    ) -> Result<bool, Error> {
        retry_transient(|| self.update_node_once(host, own, change)).await
    }

    async fn update_node_once(
        &self,
        host: &str,
        own: Option<&str>,
        change: NodeChange,
    ) -> Result<bool, Error> {
        let what = format!("{} {host}", change.word());
        let entries = self.entries(host, &what).await?;
        let is_own = |n: &&Entry| n.id.is_some() && n.id.as_deref() == own;
        let node = entries.iter().find(is_own).or(entries.last());
        let Some(node) = node else { return Err(self.no_node(what)) };
        let spec = change.apply(node.spec.clone().unwrap_or_default());
        let version = node.version.as_ref().and_then(|v| v.index).unwrap_or_default();
        let options =
            UpdateNodeOptionsBuilder::new().version(i64::try_from(version).unwrap_or(i64::MAX)).build();
        let id = node.id.as_deref().unwrap_or(host);
        self.api.update_node(id, spec, options).whole().await.map_err(self.failed(what))?;
        Ok(is_up(node))
    }

    /// Removes a host's old node entries, or its only one; this host must be a manager. Docker removes a node that is up
    /// only with `force`, and a manager never.
    pub async fn remove_node(&self, host: &str, own: Option<&str>, force: bool) -> Result<(), Error> {
        let what = format!("remove node {host}");
        let mut entries = self.entries(host, &what).await?;
        if entries.is_empty() {
            return Err(self.no_node(what));
        }
        if entries.len() > 1 {
            entries.retain(|n| n.id.as_deref() != own);
        }
        for node in entries {
            self.delete_node(&node.id.unwrap_or_default(), force, &what).await?;
        }
        Ok(())
    }

    /// Removes every node entry of a host that is gone, by force, and returns its last role; `None` if it had none. This
    /// host must be a manager.
    pub async fn forget_node(&self, host: &str) -> Result<Option<Role>, Error> {
        let what = format!("remove node {host}");
        let mut was = None;
        for node in self.entries(host, &what).await? {
            let is_manager = node.spec.as_ref().and_then(|s| s.role) == Some(NodeSpecRoleEnum::MANAGER);
            was = Some(if is_manager { Role::Manager } else { Role::Worker });
            let id = node.id.unwrap_or_default();
            let wait = Polling::new(DEMOTED, LOOK_AGAIN);
            let mut demoted = false;
            loop {
                match self.delete_node(&id, true, &what).await {
                    // Raft removes nobody who has a vote, and takes a moment after a demotion. After a new cluster was
                    // forced a manager may have no vote, and cannot be demoted.
                    Err(Error::Refused { message, .. })
                        if message.contains(STILL_MEMBER) && !wait.is_over() =>
                    {
                        if !demoted {
                            self.update_node(host, Some(&id), NodeChange::Role(Role::Worker)).await?;
                            demoted = true;
                        }
                        wait.pause().await;
                    }
                    done => break done?,
                }
            }
        }
        Ok(was)
    }

    async fn delete_node(&self, id: &str, force: bool, what: &str) -> Result<(), Error> {
        let options = DeleteNodeOptionsBuilder::new().force(force).build();
        self.api.delete_node(id, Some(options)).whole().await.map_err(self.failed(what))
    }

    /// The nodes with a host's name, one for each time that it joined, the newest last.
    async fn entries(&self, host: &str, what: &str) -> Result<Vec<Entry>, Error> {
        let nodes = self.api.list_nodes(None::<ListNodesOptions>).whole().await.map_err(self.failed(what))?;
        let named = |n: &Entry| n.description.as_ref().and_then(|d| d.hostname.as_deref()) == Some(host);
        let mut entries: Vec<Entry> = nodes.into_iter().filter(named).collect();
        entries.sort_by_key(|n| n.created_at.as_ref().map(ToString::to_string));
        Ok(entries)
    }

    fn no_node(&self, what: String) -> Error {
        Error::Refused { host: self.host.clone(), what, message: "it is no node of the swarm".to_owned() }
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

    /// This host's id in the swarm, as it reports it; `None` if it is in none.
    pub async fn node_id(&self) -> Result<Option<String>, Error> {
        let info = self.api.info().whole().await.map_err(self.failed("info"))?;
        Ok(info.swarm.and_then(|s| s.node_id).filter(|id| !id.is_empty()))
    }

    /// This host's swarm state as it reports it: `active`, `pending`, `error: …`.
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

fn init_request(swarm: &Swarm, node: &SwarmNode) -> SwarmInitRequest {
    SwarmInitRequest {
        listen_addr: Some(listen(node)),
        advertise_addr: Some(node.advertise.to_string()),
        data_path_addr: node.data_path.map(|a| a.to_string()),
        data_path_port: swarm.data_path_port.map(u32::from),
        default_addr_pool: (!swarm.default_addr_pool.is_empty())
            .then(|| swarm.default_addr_pool.iter().map(ToString::to_string).collect()),
        subnet_size: swarm.subnet_size.map(u32::from),
        // Without a spec, 20.10 answers with an error that says nothing.
        spec: Some(SwarmSpec::default()),
        ..Default::default()
    }
}

fn is_up(node: &Entry) -> bool {
    node.status.as_ref().and_then(|s| s.state) == Some(NodeState::READY)
}

fn listen(node: &SwarmNode) -> String {
    match node.listen {
        Some(address) => SocketAddr::new(address, CONTROL_PORT).to_string(),
        None => SocketAddr::new(node.advertise.family().unspecified(), CONTROL_PORT).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_a_change_that_can_be_taken_back() {
        let labels = [("rack".to_owned(), "7".to_owned())].into();
        let spec = NodeSpec { labels: Some(labels), ..Default::default() };
        let marked = NodeChange::Marked(true).apply(spec.clone());
        assert_ne!(marked, spec);
        assert_eq!(NodeChange::Marked(true).apply(marked.clone()), marked);
        assert_eq!(NodeChange::Marked(false).apply(marked), spec);
        assert_eq!(NodeChange::Marked(false).apply(spec.clone()), spec);
    }
}
