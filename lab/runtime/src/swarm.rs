//! Forms the swarm of a lab, changes it, and waits for it.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use futures::future::{select_ok, try_join_all};
use labctl_docker::{Error as DockerError, HostDocker, is_transient, swarm::NodeChange};
use labctl_machines::Events;
use labctl_model::{Driver, INGRESS, Lab, Network, Role, Swarm, SwarmNode, Token};
use labctl_protocol::polling::Polling;
use labctl_report::{count, seen::NodeSeen};

use crate::{Error, host::RunningHost, view::View};

/// How long nodes may take to be ready: certificates and Raft are slow without KVM.
const READY: Duration = Duration::from_secs(180);

/// How long Docker's default network for the routing mesh may take to be replaced.
const MESH: Duration = Duration::from_secs(30);

/// What dockerd says if the mesh already has a network (swarmkit manager/controlapi/network.go).
const MESH_EXISTS: &str = "is already present";

/// Pause between two looks at the nodes.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long a node has to get an address on the topology's own mesh before it is updated, and updated again.
const TOUCH: Duration = Duration::from_secs(4);

/// How long a host that is about to go may take to say whether it is a node.
const ASKED: Duration = Duration::from_secs(2);

/// How long a look may wait for what only a leader knows. Without a leader a manager takes 20 s to say so (moby
/// daemon/cluster/cluster.go, `swarmRequestTimeout`).
const LEADER: Duration = Duration::from_secs(5);

/// Forms the topology's swarm, if it has one, waits until every node is ready, and creates the overlay networks.
///
/// # Errors
/// Docker's refusals; nodes that are not ready in time, each with its state.
pub async fn form(view: &View<'_>, events: &Events) -> Result<(), Error> {
    let lab = view.lab;
    let Some(swarm) = &lab.swarm else { return Ok(()) };
    let Some((first, node)) = swarm.nodes.first() else { return Ok(()) };
    let manager = view.host(first)?;
    events.phase(format!("forming a swarm of {}", count(swarm.nodes.len(), "node")));
    let line = Some(&lab.lines.swarm);
    manager.note_swarm(lab).await?;
    manager.docker.init_swarm(swarm, node).await.map_err(Error::at(line))?;
    events.host(first, "swarm initialized");
    // Before others join, so that no node ever has the default one.
    if let Some((key, mesh)) = lab.mesh() {
        replace_mesh(lab, mesh, &manager.docker).await.map_err(Error::at(lab.lines.networks.get(key)))?;
        events.host(first, format!("network {key} is the routing mesh's"));
    }
    let tokens = manager.docker.join_tokens().await?;
    let join = async |role: Role, host: &str| {
        let Some(joining) = swarm.nodes.get(host).filter(|n| n.role == role) else { return Ok(()) };
        let joiner = view.host(host)?;
        joiner.note_swarm(lab).await?;
        let joined = joiner.docker.join_swarm(joining, node, &tokens).await;
        joined.map_err(Error::at(line))?;
        events.host(host, format!("joined as {}", word(role)));
        Ok::<_, Error>(())
    };
    // Managers one by one: while one joins, the Raft quorum cannot take another.
    for host in swarm.nodes.keys().skip(1) {
        join(Role::Manager, host).await?;
    }
    try_join_all(swarm.nodes.keys().skip(1).map(|host| join(Role::Worker, host))).await?;
    wait_ready(swarm, view, &manager.docker).await.map_err(Error::at(line))?;
    let line = lab.mesh().and_then(|(key, _)| lab.lines.networks.get(key)).or(line);
    let on_mesh = swarm.nodes.keys().map(|name| wait_on_mesh(view, name, &manager.docker));
    try_join_all(on_mesh).await.map_err(Error::at(line))?;
    for (key, network) in &lab.networks {
        if !network.deferred && !network.ingress && network.driver == Driver::Overlay {
            let created = manager.docker.create_network(lab, network).await;
            created.map_err(Error::at(lab.lines.networks.get(key)))?;
        }
    }
    Ok(())
}

/// Replaces Docker's default network for the routing mesh with the topology's.
async fn replace_mesh(lab: &Lab, mesh: &Network, manager: &HostDocker) -> Result<(), Error> {
    let wait = Polling::new(MESH, LOOK_AGAIN);
    loop {
        // The new manager creates the default network some time later (swarmkit manager/manager.go, becomeLeader).
        manager.remove_network_if_there(INGRESS).await?;
        // The swarm forgets the network before this node has left it, and until then it gets on no other.
        let gone = !manager.network_names().await?.iter().any(|n| n == INGRESS);
        if gone || wait.is_over() {
            match manager.create_network(lab, mesh).await {
                Err(DockerError::Refused { message, .. })
                    if message.contains(MESH_EXISTS) && !wait.is_over() => {}
                done => return Ok(done.map(drop)?),
            }
        }
        wait.pause().await;
    }
}

/// Waits until a node has an address on the routing mesh's network.
///
/// A node is ready before that. It makes its networks one by one, and gives a container 20 s to be attached to one (moby
/// daemon/cluster/networks.go). Without KVM that is too short for a container that comes while the mesh is being made.
async fn wait_on_mesh(view: &View<'_>, name: &str, manager: &HostDocker) -> Result<(), Error> {
    let (lab, host) = (view.lab, view.host(name)?);
    let mesh = lab.mesh_name();
    let wait = Polling::new(READY, LOOK_AGAIN);
    let mut touch = lab.mesh().map(|_| Instant::now() + TOUCH);
    while !host.docker.is_on_mesh(mesh).await? {
        if touch.is_some_and(|touch| Instant::now() >= touch) {
            // A node that was there before the network gets no address until it is updated (moby/moby#40184). It then
            // makes the network and notes its address at the same time (moby daemon/network.go, `setupIngress`). If the
            // address is noted too late ("failed to find a load balancer IP"), it tries again only after another change.
            for marked in [true, false] {
                manager.update_node(name, None, NodeChange::Marked(marked)).await?;
            }
            touch = Some(Instant::now() + TOUCH);
        }
        if !wait.again().await {
            return Err(Error::Swarm(format!(
                "after {} s node {name} has no address on {mesh}, the routing mesh's network",
                READY.as_secs()
            )));
        }
    }
    Ok(())
}

async fn wait_ready(swarm: &Swarm, view: &View<'_>, manager: &HostDocker) -> Result<(), Error> {
    let wait = Polling::new(READY, LOOK_AGAIN);
    loop {
        let seen = match manager.nodes().await {
            Err(error) if is_transient(&error) && !wait.is_over() => Vec::new(),
            seen => seen?,
        };
        let missing: Vec<&String> = swarm.nodes.keys().filter(|h| !is_ready(&seen, h)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if !wait.again().await {
            let mut words = Vec::new();
            for host in missing {
                let own = match view.host(host) {
                    Ok(h) => h.docker.swarm_state().await.unwrap_or_else(|e| e.to_string()),
                    Err(e) => e.to_string(),
                };
                words.push(not_ready(&seen, host, &own));
            }
            return Err(Error::Swarm(format!("after {} s {}", READY.as_secs(), words.join("; "))));
        }
    }
}

/// Returns the first manager that answers, and the nodes as it sees them. Asks all at once: one without a leader is
/// slow.
///
/// # Errors
/// If none answers: the last one's error.
pub async fn manager<'a>(view: &'a View<'_>) -> Result<(&'a RunningHost, Vec<NodeSeen>), Error> {
    let nodes = view.lab.swarm.iter().flat_map(|s| s.nodes.keys()).filter_map(|n| view.hosts.get(n));
    let asked: Vec<_> = nodes
        .map(|host| Box::pin(async move { Ok::<_, Error>((&**host, host.docker.nodes().await?)) }))
        .collect();
    if asked.is_empty() {
        return Err(Error::Swarm("no manager of it runs".to_owned()));
    }
    Ok(select_ok(asked).await?.0)
}

/// Asks for what only a leader knows, with a short time limit.
///
/// # Errors
/// Those of `ask`; no answer in time.
pub async fn soon<T, E: Into<Error>>(ask: impl Future<Output = Result<T, E>>) -> Result<T, Error> {
    let late = || Error::Swarm(format!("no answer within {} s: is there a leader?", LEADER.as_secs()));
    tokio::time::timeout(LEADER, ask).await.map_err(|_| late())?.map_err(Into::into)
}

/// The node id that a host reports for itself; `None` if it is no node or does not answer.
///
/// A host that left and joined again is listed twice by the managers, and both entries are ready for a while.
async fn own_id(view: &View<'_>, name: &str) -> Option<String> {
    let id = tokio::time::timeout(ASKED, view.hosts.get(name)?.docker.node_id()).await;
    id.ok()?.ok()?
}

/// Waits until a host is a ready node of this role.
///
/// # Errors
/// It is not so in time.
async fn wait_node(view: &View<'_>, name: &str, role: Role) -> Result<(), Error> {
    let wait = Polling::new(READY, LOOK_AGAIN);
    loop {
        // A node that is joining has an id only once it has joined.
        let own = own_id(view, name).await;
        let is =
            |n: &NodeSeen| own.as_ref() == Some(&n.id) && n.ready && n.manager == (role == Role::Manager);
        // While managers change, the one that is asked may have no answer.
        let looked = manager(view).await;
        if matches!(&looked, Ok((_, seen)) if seen.iter().any(is)) {
            return Ok(());
        }
        if !wait.again().await {
            looked?;
            let words = format!("after {} s {name} is no {} that is ready", READY.as_secs(), word(role));
            return Err(Error::Swarm(words));
        }
    }
}

/// Joins a host to the swarm of a running manager, and waits until it is ready.
///
/// # Errors
/// Docker's refusals, a wrong token among them.
pub async fn join(
    view: &View<'_>,
    name: &str,
    role: Role,
    token: Token,
    advertise: Option<IpAddr>,
) -> Result<(), Error> {
    let (manager, _) = manager(view).await?;
    let there = view.named("node", &view.swarm()?.nodes, &manager.name)?;
    let joining = view.host(name)?;
    let node = as_node(view.lab, name, role, advertise)?;
    let tokens = manager.docker.tokens(token).await?;
    joining.note_swarm(view.lab).await?;
    joining.docker.join_swarm(&node, there, &tokens).await?;
    wait_node(view, name, role).await?;
    wait_on_mesh(view, name, &manager.docker).await
}

/// A host as a node: as `swarm` declares it, or else by its first NIC.
fn as_node(lab: &Lab, name: &str, role: Role, advertise: Option<IpAddr>) -> Result<SwarmNode, Error> {
    let declared = lab.swarm.as_ref().and_then(|s| s.nodes.get(name));
    match (declared, lab.hosts.get(name).and_then(|h| h.first_address())) {
        (Some(node), _) => {
            Ok(SwarmNode { role, advertise: advertise.unwrap_or(node.advertise), ..node.clone() })
        }
        (None, Some(first)) => {
            Ok(SwarmNode { role, advertise: advertise.unwrap_or(first), data_path: None, listen: None })
        }
        (None, None) => Err(Error::Swarm(format!("host {name} has no NIC to join by"))),
    }
}

/// Changes a node's role and waits until the managers see it. A node that is down changes when it is up again.
///
/// # Errors
/// Docker's refusals; a change that is not done in time.
pub async fn set_role(view: &View<'_>, name: &str, role: Role) -> Result<(), Error> {
    let is_up = change_node(view, name, NodeChange::Role(role)).await?;
    if is_up && own_id(view, name).await.is_some() {
        wait_node(view, name, role).await?;
    }
    Ok(())
}

/// Changes a node and returns whether it is up.
///
/// # Errors
/// Docker's refusals.
pub async fn change_node(view: &View<'_>, name: &str, change: NodeChange) -> Result<bool, Error> {
    let own = own_id(view, name).await;
    Ok(manager(view).await?.0.docker.update_node(name, own.as_deref(), change).await?)
}

/// Removes a node that has left or is down, as `docker node rm`; with `force` also one that is up.
///
/// # Errors
/// Docker's refusals.
pub async fn remove_node(view: &View<'_>, name: &str, force: bool) -> Result<(), Error> {
    let own = own_id(view, name).await;
    Ok(manager(view).await?.0.docker.remove_node(name, own.as_deref(), force).await?)
}

/// Makes a manager the only one of its swarm, and waits until it leads.
///
/// # Errors
/// Docker's refusals; it does not lead in time.
pub async fn force_new_cluster(view: &View<'_>, name: &str) -> Result<(), Error> {
    let host = view.host(name)?;
    let swarm = view.swarm()?;
    let node = as_node(view.lab, name, Role::Manager, None)?;
    let wait = Polling::new(READY, LOOK_AGAIN);
    loop {
        match host.docker.force_new_cluster(swarm, &node).await {
            // Docker gives the old manager 15 s to stop, and the new one 5 s to answer (moby daemon/cluster,
            // `nodeRunner.Stop` and `initClusterSpec`). After that it must be asked again.
            Err(DockerError::Refused { message, .. })
                if message.contains("context deadline exceeded") && !wait.is_over() =>
            {
                wait.pause().await;
            }
            done => break done?,
        }
    }
    loop {
        // Former managers are still listed, but not as members. Until the manager leads, Docker refuses in several ways:
        // no leader, no control socket, no manager.
        let looked = host.docker.nodes().await;
        let leads = |n: &NodeSeen| n.host == name && n.ready && n.manager;
        if matches!(&looked, Ok(seen) if seen.iter().any(leads)) {
            return Ok(());
        }
        if !wait.again().await {
            looked?;
            return Err(Error::Swarm(format!("after {} s {name} does not lead", READY.as_secs())));
        }
    }
}

/// Whether a host says that it is a node of a swarm; `None` if it does not answer.
pub async fn is_node(host: &RunningHost) -> Option<bool> {
    let state = tokio::time::timeout(ASKED, host.docker.swarm_state()).await.ok()?.ok()?;
    Some(!state.starts_with("inactive"))
}

/// Joins a host again after it got a new machine, which has lost its swarm state: its old entry is removed. A host
/// whose entry somebody removed stays outside.
///
/// # Errors
/// No manager is left: then the swarm's state is lost too.
pub async fn join_again(view: &View<'_>, name: &str, events: &Events) -> Result<(), Error> {
    let others = view.without(name);
    let (manager, _) = manager(&others).await.map_err(|why| {
        Error::Swarm(format!(
            "{name} was a node of it and cannot join again: {why}\nhint: a swarm lives in the memory of its managers; \
             with three, one may be killed"
        ))
    })?;
    let Some(role) = manager.docker.forget_node(name).await? else {
        events.host(name, "is no node of the swarm any more");
        return Ok(());
    };
    join(view, name, role, Token::Right, None).await?;
    events.host(name, format!("joined again as {}", word(role)));
    Ok(())
}

fn is_ready(seen: &[NodeSeen], host: &str) -> bool {
    seen.iter().any(|n| n.host == host && n.ready)
}

/// Why a node is not ready, as the manager and as the host itself see it.
fn not_ready(seen: &[NodeSeen], host: &str, own: &str) -> String {
    match seen.iter().find(|n| n.host == host) {
        Some(node) => format!("node {host} is {} (the host itself says {own})", node.state),
        None => format!("{host} has not joined (the host itself says {own})"),
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Manager => "manager",
        Role::Worker => "worker",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_missing_is_named_with_what_both_sides_say() {
        let seen = |host: &str, ready, state: &str| NodeSeen {
            id: "x".into(),
            host: host.into(),
            active: true,
            manager: false,
            ready,
            state: state.into(),
        };
        let seen = [seen("host1", true, "ready"), seen("host2", false, "down (heartbeat failure)")];
        assert!(is_ready(&seen, "host1") && !is_ready(&seen, "host2") && !is_ready(&seen, "host3"));
        let words = not_ready(&seen, "host2", "active");
        assert_eq!(words, "node host2 is down (heartbeat failure) (the host itself says active)");
        assert_eq!(
            not_ready(&seen, "host3", "pending"),
            "host3 has not joined (the host itself says pending)"
        );
    }
}
