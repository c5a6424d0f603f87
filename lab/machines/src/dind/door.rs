//! Access to a container that is a node: its agent, and its dockerd's socket offered on this machine.

use std::{io, path::Path};

use bollard::{
    Docker,
    container::LogOutput,
    errors::Error as BollardError,
    exec::{CreateExecOptions, StartExecOptions, StartExecResults},
};
use bytes::Bytes;
use futures::StreamExt;
use labctl_docker::{HostDocker, message};
use labctl_protocol::{client::AgentClient, node::AGENT};
use tokio_util::io::StreamReader;

use crate::{
    Error,
    forward::{Forward, GUEST_DOCKER_SOCKET},
    machine::Stream,
};

/// Largest piece of the agent's output, in bytes: more than a yamux frame.
const PIECE: usize = 64 << 10;

/// Open access to a node. Dropping it closes it.
#[derive(Debug)]
pub struct Door {
    /// The node's agent.
    pub agent: AgentClient,
    /// The node's dockerd.
    pub docker: HostDocker,
    _forward: Forward,
}

impl Door {
    /// Opens access to this container of `docker`, whose engine was started and has answered. Its socket is offered at
    /// `socket`, in a folder that only this user can enter.
    ///
    /// # Errors
    /// The agent or dockerd does not answer, or the socket cannot be made.
    pub async fn open(docker: &Docker, container: &str, socket: &Path) -> Result<Self, Error> {
        let failed = |e| labctl_docker::Error::Refused {
            host: container.to_owned(),
            what: "run the agent".into(),
            message: message(e),
        };
        let stream = agent_stream(docker, container).await.map_err(failed)?;
        let agent = AgentClient::connect(stream).await.map_err(Error::agent(container))?;
        let forward = Forward::start(socket.to_owned(), agent.clone(), GUEST_DOCKER_SOCKET)?;
        // dockerd runs with this configuration already; the answer is its API version.
        let api = agent.docker(serde_json::Map::new()).await.map_err(Error::agent(container))?;
        let docker = HostDocker::connect(container, socket, &api, false)?;
        Ok(Self { agent, docker, _forward: forward })
    }
}

/// The agent's output to labctl; its messages for people go to the log.
fn stdout(container: &str, piece: Result<LogOutput, BollardError>) -> Option<io::Result<Bytes>> {
    match piece {
        Ok(LogOutput::StdErr { message }) => {
            tracing::info!("agent of {container}: {}", String::from_utf8_lossy(&message).trim_end());
            None
        }
        Ok(LogOutput::StdOut { message }) => Some(Ok(message)),
        Ok(_) => None,
        Err(error) => Some(Err(io::Error::other(error))),
    }
}

/// A stream to a new agent in the container, which ends with the stream.
///
/// # Errors
/// Docker refuses.
pub async fn agent_stream(docker: &Docker, container: &str) -> Result<Box<dyn Stream>, BollardError> {
    let options = CreateExecOptions {
        cmd: Some(vec![AGENT, "serve", "--node"]),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let exec = docker.create_exec(container, options).await?;
    let options = StartExecOptions { detach: false, tty: false, output_capacity: Some(PIECE) };
    match docker.start_exec(&exec.id, Some(options)).await? {
        StartExecResults::Attached { output, input } => {
            let name = container.to_owned();
            let said = output.filter_map(move |piece| std::future::ready(stdout(&name, piece)));
            Ok(Box::new(tokio::io::join(StreamReader::new(Box::pin(said)), input)))
        }
        StartExecResults::Detached => {
            Err(BollardError::IOError { err: io::Error::other("the agent was started without a stream") })
        }
    }
}
