//! Nodes by testcontainers: a swarm in a container, and nothing left of it. Needs Docker and the node image; fails where
//! there is none.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lab::{
    bollard::{
        Docker,
        models::{NetworkCreateRequest, NodeState, SwarmInitRequest, SwarmJoinRequest},
        query_parameters::{InspectContainerOptions, ListNetworksOptions, ListNodesOptions},
    },
    testcontainers::{Node, RunningNode},
};
use testcontainers::ImageExt;

async fn machine() -> Docker {
    Docker::connect_with_local_defaults().unwrap().negotiate_version().await.unwrap()
}

/// Two lines to a node; a swarm of one in it, with an overlay. On the runtime with one thread.
#[tokio::test]
async fn a_node_is_a_swarm_in_two_lines() -> Result<(), lab::Error> {
    let node = Node::default().start().await?;
    let docker = node.docker()?;

    docker
        .init_swarm(SwarmInitRequest {
            listen_addr: Some("127.0.0.1:2377".into()),
            advertise_addr: Some("127.0.0.1".into()),
            ..SwarmInitRequest::default()
        })
        .await?;
    let nodes = docker.list_nodes(None::<ListNodesOptions>).await?;
    assert_eq!(nodes.len(), 1);
    let overlay = NetworkCreateRequest {
        name: "front".into(),
        driver: Some("overlay".into()),
        attachable: Some(true),
        ..NetworkCreateRequest::default()
    };
    docker.create_network(overlay).await?;

    // A program that blocks this thread is answered too, by a socket that is this user's alone.
    let host = node.docker_host();
    let networks = Command::new("docker")
        .args(["network", "ls", "--filter", "driver=overlay", "--format", "{{.Name}}"])
        .env("DOCKER_HOST", &host)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let mut networks: Vec<_> =
        String::from_utf8(networks.stdout).unwrap().lines().map(str::to_owned).collect();
    networks.sort();
    assert_eq!(networks, ["front", "ingress"]);
    let socket = PathBuf::from(host.strip_prefix("unix://").unwrap());
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    // It is no network of the machine's, and no port of it.
    let (id, machine) = (node.id().to_owned(), machine().await);
    let of = |network: Option<lab::bollard::models::NetworkSettings>| {
        network.and_then(|n| n.ports).unwrap_or_default()
    };
    let inside = machine.inspect_container(&id, None::<InspectContainerOptions>).await?;
    assert_eq!(inside.host_config.and_then(|h| h.network_mode).as_deref(), Some("none"));
    assert!(of(inside.network_settings).is_empty());

    drop(node);
    assert!(machine.inspect_container(&id, None::<InspectContainerOptions>).await.is_err(), "it is removed");
    assert!(!socket.parent().unwrap().exists(), "with its socket");
    Ok(())
}

/// Names of the machine's own networks, sorted.
async fn networks(machine: &Docker) -> Vec<String> {
    let all = machine.list_networks(None::<ListNetworksOptions>).await.unwrap();
    let mut names: Vec<String> = all.into_iter().filter_map(|n| n.name).collect();
    names.sort();
    names
}

/// Two nodes on a network that is made for them become one swarm; both go, and the network with them.
#[tokio::test]
async fn two_nodes_are_one_swarm_on_a_network_of_their_own() -> Result<(), lab::Error> {
    let machine = machine().await;
    let before = networks(&machine).await;
    let network = format!("labctl-nodes-{}", std::process::id());

    let image = Node::default().image().await?;
    let named = |name: &str| image.clone().request().with_hostname(name).with_network(&network);
    let one = RunningNode::start(named("node1")).await?;
    let two = RunningNode::start(named("node2")).await?;
    let (first, second) = (one.get_bridge_ip_address().await?, two.get_bridge_ip_address().await?);
    assert!(networks(&machine).await.contains(&network));

    let (manager, worker) = (one.docker()?, two.docker()?);
    manager
        .init_swarm(SwarmInitRequest {
            listen_addr: Some("0.0.0.0:2377".into()),
            advertise_addr: Some(first.to_string()),
            ..SwarmInitRequest::default()
        })
        .await?;
    let tokens = manager.inspect_swarm().await?.join_tokens.unwrap_or_default();
    worker
        .join_swarm(SwarmJoinRequest {
            listen_addr: Some("0.0.0.0:2377".into()),
            advertise_addr: Some(second.to_string()),
            remote_addrs: Some(vec![format!("{first}:2377")]),
            join_token: tokens.worker,
            ..SwarmJoinRequest::default()
        })
        .await?;

    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let nodes = manager.list_nodes(None::<ListNodesOptions>).await?;
        let ready =
            nodes.iter().filter(|n| n.status.as_ref().is_some_and(|s| s.state == Some(NodeState::READY)));
        let mut seen: Vec<(String, String)> = ready
            .map(|n| {
                let host = n.description.as_ref().and_then(|d| d.hostname.clone()).unwrap_or_default();
                (host, n.status.as_ref().and_then(|s| s.addr.clone()).unwrap_or_default())
            })
            .collect();
        seen.sort();
        if seen == [("node1".into(), first.to_string()), ("node2".into(), second.to_string())] {
            break;
        }
        assert!(Instant::now() < deadline, "both are ready, each at its own address: {seen:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    drop((one, two));
    assert_eq!(networks(&machine).await, before, "the network went with the last of them");
    Ok(())
}
