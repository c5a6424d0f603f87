//! A node image imported into this machine's Docker, and a container that becomes a node. Needs Docker and the node
//! image; fails where there is none.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bollard::{
    Docker,
    exec::{CreateExecOptions, StartExecResults},
    query_parameters::{LogsOptionsBuilder, RemoveContainerOptionsBuilder},
};
use futures::StreamExt;
use labctl_machines::dind::{NodeContainer, import, imported, reference};

fn cache() -> PathBuf {
    std::env::var_os("LABCTL_CACHE_DIR")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/labctl"), PathBuf::from)
}

fn agent() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    exe.ancestors().skip(1).map(|dir| dir.join("labctl-agent")).find(|path| path.exists()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_image_becomes_a_node_whose_dockerd_answers() {
    let docker = Docker::connect_with_unix_defaults().unwrap().negotiate_version().await.unwrap();
    let image =
        labctl_images::find(&cache(), &Default::default()).expect("make the node image first: `make image`");
    let told = AtomicU64::new(0);
    let name = import(&image, &docker, &|done, of| {
        assert!(done <= of);
        told.store(done, Ordering::Relaxed);
    })
    .await
    .unwrap();
    assert_eq!(name, reference(&image));
    let again = import(&image, &docker, &|_, _| panic!("it is there already")).await.unwrap();
    assert_eq!(again, name);
    assert!(imported(&docker).await.unwrap().contains(&name));

    let mut node = NodeContainer::new(&name, &agent());
    node.command.push("--engine".into());
    let container = format!("labctl-test-node-{}", std::process::id());
    let options = bollard::query_parameters::CreateContainerOptionsBuilder::new().name(&container).build();
    docker.create_container(Some(options), node.create_body("n1", HashMap::new())).await.unwrap();
    let found = tokio::time::timeout(Duration::from_secs(60), start(docker.clone(), container.clone()));
    // In a task, so that the container is removed whatever panics there.
    let found = tokio::spawn(found).await;
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    docker.remove_container(&container, Some(options)).await.unwrap();
    let (seen, version, interfaces) = found.unwrap().expect("a node is ready within a minute");
    assert!(version.starts_with("26.1"), "{version}\n{seen}");
    // No network but what a dockerd makes for itself.
    assert_eq!(interfaces.split_whitespace().collect::<Vec<_>>(), ["docker0", "lo"], "{seen}");
}

/// Starts a node: what it says until its dockerd answers, that one's version, and the node's interfaces.
async fn start(docker: Docker, container: String) -> (String, String, String) {
    docker.start_container(&container, None).await.unwrap();
    let options = LogsOptionsBuilder::new().follow(true).stderr(true).build();
    let mut logs = docker.logs(&container, Some(options));
    let mut seen = String::new();
    while let Some(line) = logs.next().await {
        seen += &line.unwrap().to_string();
        if seen.contains(labctl_protocol::node::ENGINE_ANSWERS) {
            break;
        }
    }
    let version = exec(&docker, &container, &["docker", "version", "--format", "{{.Server.Version}}"]).await;
    let interfaces = exec(&docker, &container, &["ls", "/sys/class/net"]).await;
    (seen, version, interfaces)
}

async fn exec(docker: &Docker, container: &str, argv: &[&str]) -> String {
    let options = CreateExecOptions {
        cmd: Some(argv.to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let exec = docker.create_exec(container, options).await.unwrap();
    let StartExecResults::Attached { mut output, .. } = docker.start_exec(&exec.id, None).await.unwrap()
    else {
        panic!("not attached")
    };
    let mut text = String::new();
    while let Some(piece) = output.next().await {
        text += &piece.unwrap().to_string();
    }
    text
}
