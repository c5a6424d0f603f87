//! What the tests of this crate share.

use std::{path::PathBuf, process::Stdio, sync::Arc};

use labctl_agent::{
    netns::Namespace,
    server::{Kernel, Server},
    session,
};
use labctl_protocol::client::AgentClient;
use tokio::{
    io::Join,
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// The agent's binary.
pub fn agent() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_labctl-agent"))
}

/// Tests in namespaces need root; without it they must fail, not pass.
pub fn need_root() {
    assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
}

/// A client of an agent in this process whose host is `namespace`.
pub async fn client_in(namespace: Namespace) -> AgentClient {
    let (near, far) = tokio::net::UnixStream::pair().unwrap();
    let server = Arc::new(Server::new(Kernel::Shared, namespace));
    tokio::spawn(async move { session::serve(&server, far).await });
    AgentClient::connect(near).await.unwrap()
}

/// A client of an agent in this process.
pub async fn client() -> AgentClient {
    client_in(Namespace::own().unwrap()).await
}

/// The stdio of an agent of its own, whose process ends when the child is dropped.
pub fn spawn(command: &mut Command) -> (Child, Join<ChildStdout, ChildStdin>) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let stdio = tokio::io::join(child.stdout.take().unwrap(), child.stdin.take().unwrap());
    (child, stdio)
}
