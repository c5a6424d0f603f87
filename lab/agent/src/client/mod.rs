//! labctl's side of the protocol.

mod exec;
mod frames;
mod probe;
mod stream;

use std::{sync::Arc, time::Duration};

use lab_model::{Interface, Route, Tools};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader},
    time::timeout,
};

pub use exec::{ExecEvent, ExecInput, ExecOutput, ExecSession, Output};
pub use frames::{VtepClient, WatchClient};
pub use probe::ProbeClient;
pub use stream::AgentStream;

use crate::{
    lines::{self, LineError},
    mux::Opener,
    preamble::{self, PreambleError},
    protocol::{Exec, Hello, HostConfig, Netns, NetnsFacts, ProbeSession, Reply, Request, VERSION},
};

/// How long [`AgentClient::connect`] waits for the agent. A machine that is still booting counts into it.
pub const CONNECT: Duration = Duration::from_secs(60);

/// How long an ordinary request may take.
const ORDINARY: Duration = Duration::from_secs(30);

/// A dockerd may have to be stopped first, and starts slowly where the processor is emulated.
const DOCKER: Duration = Duration::from_secs(180);

/// Why a request failed. The host's name is the caller's to add.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No session came about.
    #[error("cannot reach the agent: {0}")]
    Connect(#[from] PreambleError),
    /// The agent is of another version.
    #[error(
        "the agent speaks version {found} of the protocol, this labctl version {VERSION}\n\
         hint: build the node image again with this labctl"
    )]
    Version {
        /// The agent's.
        found: u32,
    },
    /// The agent refused, or could not.
    #[error("{op}: {why}")]
    Refused {
        /// The request.
        op: &'static str,
        /// The agent's words.
        why: String,
    },
    /// No answer in time.
    #[error("{op}: no answer within {limit:?}")]
    Timeout {
        /// The request.
        op: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The session ended before or during the request.
    #[error("{op}: the agent is gone: {why}")]
    Gone {
        /// The request.
        op: &'static str,
        /// What is known of it.
        why: Arc<str>,
    },
    /// The agent answered something else than the protocol allows.
    #[error("{op}: the agent's answer makes no sense: {why}")]
    Garbled {
        /// The request.
        op: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// One host's agent. Clones share the session; it ends when the last of them and of its streams is dropped.
#[derive(Clone, Debug)]
pub struct AgentClient {
    opener: Opener,
    hello: Arc<Hello>,
}

impl AgentClient {
    /// Begins a session on a fresh stream to an agent; bytes of an earlier session on it do no harm. Must run on a
    /// tokio runtime, which then drives the session.
    ///
    /// # Errors
    /// No agent that answers within [`CONNECT`], or one of another version.
    pub async fn connect(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Result<Self, ClientError> {
        Self::connect_within(stream, CONNECT).await
    }

    /// [`AgentClient::connect`] with another limit.
    pub async fn connect_within(
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        limit: Duration,
    ) -> Result<Self, ClientError> {
        let mut transport = BufReader::new(Box::pin(stream));
        preamble::begin(&mut transport, limit).await?;
        let opener = Opener::start(transport);
        let hello = Arc::new(Hello { version: VERSION, kernel: String::new(), hostname: String::new() });
        let unchecked = Self { opener, hello };
        let hello: Hello = unchecked.typed(&Request::Hello { version: VERSION }, ORDINARY).await?;
        if hello.version != VERSION {
            return Err(ClientError::Version { found: hello.version });
        }
        Ok(Self { hello: Arc::new(hello), ..unchecked })
    }

    /// What the agent said of itself when the session began.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Waits until the session ends, and says why. Ready at once if it has.
    pub async fn gone(&self) -> Arc<str> {
        self.opener.ended().await
    }

    /// Sends a request that is answered by a reply alone, within 30 s.
    pub async fn request(&self, request: &Request) -> Result<Value, ClientError> {
        self.request_within(request, ORDINARY).await
    }

    /// [`AgentClient::request`] with another limit.
    pub async fn request_within(&self, request: &Request, limit: Duration) -> Result<Value, ClientError> {
        Ok(self.open_within(request, limit).await?.0)
    }

    /// Sends a request whose stream goes on after the reply, and gives that stream.
    pub async fn open(&self, request: &Request) -> Result<(Value, AgentStream), ClientError> {
        self.open_within(request, ORDINARY).await
    }

    async fn open_within(
        &self,
        request: &Request,
        limit: Duration,
    ) -> Result<(Value, AgentStream), ClientError> {
        let op = request.op();
        let exchange = async {
            let Some(stream) = self.opener.open().await else {
                return Err(ClientError::Gone { op, why: self.opener.ended().await });
            };
            let mut stream = AgentStream::new(stream);
            let reply = async {
                lines::write(&mut stream, request).await?;
                lines::read::<Reply>(&mut stream).await
            };
            match reply.await {
                Ok(Some(Reply::Ok(value))) => Ok((value, stream)),
                Ok(Some(Reply::Err(why))) => Err(ClientError::Refused { op, why }),
                Ok(None) => Err(self.broken(op, LineError::Torn).await),
                Err(error) => Err(self.broken(op, error).await),
            }
        };
        timeout(limit, exchange).await.unwrap_or(Err(ClientError::Timeout { op, limit }))
    }

    /// A stream that fails is most often a session that ended: a moment later it is known to have.
    async fn broken(&self, op: &'static str, error: LineError) -> ClientError {
        match timeout(Duration::from_millis(100), self.opener.ended()).await {
            Ok(why) => ClientError::Gone { op, why },
            Err(_elapsed) => ClientError::Garbled { op, why: error.to_string() },
        }
    }

    async fn typed<T: DeserializeOwned>(&self, request: &Request, limit: Duration) -> Result<T, ClientError> {
        let value = self.request_within(request, limit).await?;
        serde_json::from_value(value)
            .map_err(|e| ClientError::Garbled { op: request.op(), why: e.to_string() })
    }

    /// Makes the machine the host that the lab calls it.
    pub async fn configure(&self, config: HostConfig) -> Result<(), ClientError> {
        // It may end a dockerd.
        self.request_within(&Request::Configure(Box::new(config)), DOCKER).await.map(drop)
    }

    /// Sees to it that dockerd runs with this daemon.json and answers; the newest version of the API that it speaks.
    pub async fn docker(&self, daemon_json: serde_json::Map<String, Value>) -> Result<String, ClientError> {
        self.typed(&Request::Docker { daemon_json }, DOCKER).await
    }

    /// Ends dockerd, by SIGKILL if asked.
    pub async fn end_docker(&self, kill: bool) -> Result<(), ClientError> {
        self.request_within(&Request::EndDocker { kill }, DOCKER).await.map(drop)
    }

    /// Starts dockerd with the daemon.json that it had.
    pub async fn start_docker(&self) -> Result<(), ClientError> {
        self.request_within(&Request::StartDocker, DOCKER).await.map(drop)
    }

    /// Connects to a unix socket of the host.
    pub async fn dial_unix(&self, path: &str) -> Result<AgentStream, ClientError> {
        Ok(self.open(&Request::DialUnix { path: path.to_owned() }).await?.1)
    }

    /// Starts a command of the host's own.
    pub async fn exec(&self, exec: Exec) -> Result<ExecSession, ClientError> {
        Ok(ExecSession::new(self.open(&Request::Exec(exec)).await?.1))
    }

    /// Runs a command without terminal or input in the host's own namespace and collects what it says.
    pub async fn run(&self, argv: &[&str], limit: Duration) -> Result<Output, ClientError> {
        let argv = argv.iter().map(|&a| a.to_owned()).collect();
        let exec = Exec { argv, netns: Netns::Host, tools: Tools::Own, tty: None, env: Default::default() };
        let ended = async { self.exec(exec).await?.output().await };
        timeout(limit, ended).await.unwrap_or(Err(ClientError::Timeout { op: exec::OP, limit }))
    }

    /// Begins a probe session: when this returns, its listeners listen and its watchers watch.
    pub async fn probe(&self, session: ProbeSession) -> Result<ProbeClient, ClientError> {
        let (absent, stream) = self.open(&Request::Probe(session)).await?;
        ProbeClient::new(absent, stream)
    }

    /// Sets the clock of a vm, to ns since the epoch.
    pub async fn clock(&self, clock_ns: u64) -> Result<(), ClientError> {
        self.request(&Request::Clock { clock_ns }).await.map(drop)
    }

    /// Gets the machine ready for being saved.
    pub async fn settle(&self) -> Result<(), ClientError> {
        self.request_within(&Request::Settle, DOCKER).await.map(drop)
    }

    /// Interfaces and addresses of a namespace.
    pub async fn facts(&self, netns: Netns) -> Result<NetnsFacts, ClientError> {
        self.typed(&Request::Facts { netns }, ORDINARY).await
    }

    /// Names in the /etc/hosts that a process sees, sorted.
    pub async fn hosts_file(&self, pid: u32) -> Result<Vec<String>, ClientError> {
        self.typed(&Request::HostsFile { pid }, ORDINARY).await
    }

    /// Adds or removes a route of the host.
    pub async fn route(&self, add: bool, route: Route) -> Result<(), ClientError> {
        self.request(&Request::Route { add, route }).await.map(drop)
    }

    /// Makes or removes an interface of the host.
    pub async fn interface(&self, add: bool, interface: Interface) -> Result<(), ClientError> {
        self.request(&Request::Interface { add, interface }).await.map(drop)
    }

    /// Powers a vm off; the session ends soon after.
    pub async fn power_off(&self) -> Result<(), ClientError> {
        self.request(&Request::PowerOff).await.map(drop)
    }
}
