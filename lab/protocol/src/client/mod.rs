//! labctl's side of the protocol.

mod exec;
mod frames;
mod probe;
mod stream;

use std::{fmt, io, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use labctl_model::{Interface, Route, Tools};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader},
    sync::Mutex,
    time::timeout,
};

pub use exec::{ExecEvent, ExecInput, ExecOutput, ExecSession, Output};
pub use frames::{CaptureClient, CaptureReader, VtepClient, WatchClient};
pub use probe::ProbeClient;
pub use stream::AgentStream;

use crate::{
    lines::{self, LineError},
    made::{Made, Notes, NotesRequest},
    messages::{Exec, Hello, HostConfig, Netns, NetnsFacts, ProbeSession, Reply, Request, VERSION},
    mux::Opener,
    preamble::{self, PreambleError},
};

/// How long [`AgentClient::connect`] waits for the agent, the boot of its machine included.
pub const CONNECT: Duration = Duration::from_secs(60);

/// How long an agent that has died may take to answer again. Its machine's init restarts it after 20 ms, or after
/// seconds if it has died several times.
const CONNECT_AGAIN: Duration = Duration::from_secs(10);

/// How long an ordinary request may take.
const ORDINARY: Duration = Duration::from_secs(30);

/// How long dockerd may take: it may have to stop first, and starts slowly on an emulated processor.
const DOCKER: Duration = Duration::from_secs(180);

/// Why a request failed. The caller adds the host's name.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No session could be begun.
    #[error("cannot reach the agent: {0}")]
    Connect(#[from] PreambleError),
    /// The agent speaks another version of the protocol.
    #[error(
        "the agent speaks version {found} of the protocol, this labctl version {VERSION}\n\
         hint: build the node image again with this labctl"
    )]
    Version {
        /// The agent's.
        found: u32,
    },
    /// The agent refused the request, or failed to carry it out.
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
        /// How long we waited.
        limit: Duration,
    },
    /// The session ended before or during the request.
    #[error("{op}: the agent is gone: {why}")]
    Gone {
        /// The request.
        op: &'static str,
        /// What is known of the reason.
        why: Arc<str>,
    },
    /// The agent's answer breaks the protocol.
    #[error("{op}: the agent's answer makes no sense: {why}")]
    Garbled {
        /// The request.
        op: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// A two-way byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream that is being opened.
type Dialing = BoxFuture<'static, io::Result<Box<dyn Stream>>>;

/// Opens a stream to an agent, and another one when that has ended.
#[derive(Clone)]
pub struct Dial(Arc<dyn Fn() -> Dialing + Send + Sync>);

impl Dial {
    /// Opens streams with this function.
    pub fn new<F>(dial: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Box<dyn Stream>>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(dial())))
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

/// A client of one host's agent. Clones share the session; it ends when the last of them and of its streams is dropped.
#[derive(Clone, Debug)]
pub struct AgentClient {
    session: Arc<Session>,
    hello: Arc<Hello>,
}

#[derive(Debug)]
struct Session {
    opener: Mutex<Opener>,
    /// Opens the stream of the next session when this one has ended; absent if there is to be none.
    dial: Option<Dial>,
}

impl AgentClient {
    /// Begins a session on a fresh stream to an agent; bytes of an earlier session on it are skipped. Must run on a tokio
    /// runtime, which then drives the session.
    ///
    /// # Errors
    /// If no agent answers within [`CONNECT`], or it speaks another version.
    pub async fn connect(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Result<Self, ClientError> {
        Self::connect_within(stream, CONNECT).await
    }

    /// [`AgentClient::connect`] with another limit.
    pub async fn connect_within(
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        limit: Duration,
    ) -> Result<Self, ClientError> {
        Self::begin(stream, limit, None).await
    }

    /// [`AgentClient::connect`] on the stream that `dial` opens. A request that finds the session ended begins another
    /// one: so an agent that has died can be used again once it is restarted.
    ///
    /// # Errors
    /// As [`AgentClient::connect`], or if `dial` fails.
    pub async fn dial(dial: Dial) -> Result<Self, ClientError> {
        let stream = (dial.0)().await.map_err(PreambleError::Io)?;
        Self::begin(stream, CONNECT, Some(dial)).await
    }

    async fn begin(
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        limit: Duration,
        dial: Option<Dial>,
    ) -> Result<Self, ClientError> {
        let (opener, hello) = begin(stream, limit).await?;
        Ok(Self { session: Arc::new(Session { opener: Mutex::new(opener), dial }), hello: Arc::new(hello) })
    }

    /// What the agent said about itself when the session began.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Waits until the session ends and returns the reason; returns at once if it has ended.
    pub async fn gone(&self) -> Arc<str> {
        let opener = self.session.opener.lock().await.clone();
        opener.ended().await
    }

    /// Sends a request whose only answer is a reply, within 30 s.
    pub async fn request(&self, request: &Request) -> Result<Value, ClientError> {
        self.request_within(request, ORDINARY).await
    }

    /// [`AgentClient::request`] with another limit.
    pub async fn request_within(&self, request: &Request, limit: Duration) -> Result<Value, ClientError> {
        Ok(self.open_within(request, limit).await?.0)
    }

    /// Sends a request whose stream goes on after the reply; returns the reply's value and that stream.
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
            let opener = self.session.opener(op).await?;
            exchange(&opener, request).await
        };
        timeout(limit, exchange).await.unwrap_or(Err(ClientError::Timeout { op, limit }))
    }

    async fn typed<T: DeserializeOwned>(&self, request: &Request, limit: Duration) -> Result<T, ClientError> {
        typed(request, self.request_within(request, limit).await?)
    }

    /// Makes the machine the configured host.
    pub async fn configure(&self, config: HostConfig) -> Result<(), ClientError> {
        // The agent may have to end a dockerd.
        self.request_within(&Request::Configure(Box::new(config)), DOCKER).await.map(drop)
    }

    /// Ensures that dockerd runs with this daemon.json and answers; returns its newest API version.
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

    /// Starts a command in the host.
    pub async fn exec(&self, exec: Exec) -> Result<ExecSession, ClientError> {
        Ok(ExecSession::new(self.open(&Request::Exec(exec)).await?.1))
    }

    /// Runs a command without terminal or input in the host's own namespace and collects its output.
    pub async fn run(&self, argv: &[&str], limit: Duration) -> Result<Output, ClientError> {
        let argv = argv.iter().map(|&a| a.to_owned()).collect();
        let exec = Exec { argv, netns: Netns::Host, tools: Tools::Own, tty: None, env: Default::default() };
        let ended = async { self.exec(exec).await?.output().await };
        timeout(limit, ended).await.unwrap_or(Err(ClientError::Timeout { op: exec::OP, limit }))
    }

    /// Begins a probe session; when this returns, its listeners listen and its watchers watch.
    pub async fn probe(&self, session: ProbeSession) -> Result<ProbeClient, ClientError> {
        let (absent, stream) = self.open(&Request::Probe(session)).await?;
        ProbeClient::new(absent, stream)
    }

    /// Sets the clock of a vm, to ns since the epoch.
    pub async fn clock(&self, clock_ns: u64) -> Result<(), ClientError> {
        self.request(&Request::Clock { clock_ns }).await.map(drop)
    }

    /// Makes a machine that was restored as it was one of now; `entropy` is hex.
    pub async fn wake(&self, clock_ns: u64, entropy: String) -> Result<(), ClientError> {
        self.request(&Request::Wake { clock_ns, entropy }).await.map(drop)
    }

    /// Prepares the machine for being saved.
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

    /// Whether processes are still in the cgroup of their container, each given by its id and the container's.
    pub async fn in_containers(&self, processes: Vec<(u32, String)>) -> Result<Vec<bool>, ClientError> {
        self.typed(&Request::InContainers { processes }, ORDINARY).await
    }

    /// Adds or removes a route of the host.
    pub async fn route(&self, add: bool, route: Route) -> Result<(), ClientError> {
        self.request(&Request::Route { add, route }).await.map(drop)
    }

    /// Makes or removes an interface of the host.
    pub async fn interface(&self, add: bool, interface: Interface) -> Result<(), ClientError> {
        self.request(&Request::Interface { add, interface }).await.map(drop)
    }

    /// Begins the notes of a lab on a machine that is not labctl's own.
    pub async fn begin_notes(&self, owner: &str) -> Result<(), ClientError> {
        self.request(&Request::Notes(NotesRequest::Begin { owner: owner.to_owned() })).await.map(drop)
    }

    /// Notes what is about to be made there.
    pub async fn note(&self, made: Made) -> Result<(), ClientError> {
        self.request(&Request::Notes(NotesRequest::Add(made))).await.map(drop)
    }

    /// The notes there, if there are any.
    pub async fn notes(&self) -> Result<Option<Notes>, ClientError> {
        self.typed(&Request::Notes(NotesRequest::Read), ORDINARY).await
    }

    /// Undoes what the agent made there; returns what could not be undone.
    pub async fn undo(&self) -> Result<Vec<String>, ClientError> {
        self.typed(&Request::Notes(NotesRequest::Undo), ORDINARY).await
    }

    /// Removes the notes there.
    pub async fn end_notes(&self) -> Result<(), ClientError> {
        self.request(&Request::Notes(NotesRequest::End)).await.map(drop)
    }

    /// Replaces or removes the lab's nftables table there. `cut` are the interfaces that it cuts.
    pub async fn table(&self, rules: Option<String>, cut: Vec<String>) -> Result<(), ClientError> {
        self.request(&Request::Table { rules, cut }).await.map(drop)
    }

    /// Powers a vm off; the session ends soon after.
    pub async fn power_off(&self) -> Result<(), ClientError> {
        self.request(&Request::PowerOff).await.map(drop)
    }
}

impl Session {
    /// The current session, or a new one if it has ended.
    async fn opener(&self, op: &'static str) -> Result<Opener, ClientError> {
        let mut opener = self.opener.lock().await;
        if let (true, Some(dial)) = (opener.has_ended(), &self.dial) {
            let why = opener.ended().await;
            let Ok(stream) = (dial.0)().await else { return Err(ClientError::Gone { op, why }) };
            *opener = begin(stream, CONNECT_AGAIN).await?.0;
        }
        Ok(opener.clone())
    }
}

/// Begins a session; also returns what the agent says about itself.
async fn begin(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    limit: Duration,
) -> Result<(Opener, Hello), ClientError> {
    let mut transport = BufReader::new(Box::pin(stream));
    preamble::begin(&mut transport, limit).await?;
    let opener = Opener::start(transport);
    let request = Request::Hello { version: VERSION };
    let op = request.op();
    let (value, _) = timeout(ORDINARY, exchange(&opener, &request))
        .await
        .unwrap_or(Err(ClientError::Timeout { op, limit: ORDINARY }))?;
    let hello: Hello = typed(&request, value)?;
    if hello.version != VERSION {
        return Err(ClientError::Version { found: hello.version });
    }
    Ok((opener, hello))
}

/// Sends a request and reads its reply.
async fn exchange(opener: &Opener, request: &Request) -> Result<(Value, AgentStream), ClientError> {
    let op = request.op();
    let Some(stream) = opener.open().await else {
        return Err(ClientError::Gone { op, why: opener.ended().await });
    };
    let mut stream = AgentStream::new(stream);
    let reply = async {
        lines::write(&mut stream, request).await?;
        lines::read::<Reply>(&mut stream).await
    };
    let broken = match reply.await {
        Ok(Some(Reply::Ok(value))) => return Ok((value, stream)),
        Ok(Some(Reply::Err(why))) => return Err(ClientError::Refused { op, why }),
        Ok(None) => LineError::Torn,
        Err(error) => error,
    };
    // A stream usually fails because the session has ended, which we learn a moment later.
    match timeout(Duration::from_millis(100), opener.ended()).await {
        Ok(why) => Err(ClientError::Gone { op, why }),
        Err(_elapsed) => Err(ClientError::Garbled { op, why: broken.to_string() }),
    }
}

fn typed<T: DeserializeOwned>(request: &Request, value: Value) -> Result<T, ClientError> {
    serde_json::from_value(value).map_err(|e| ClientError::Garbled { op: request.op(), why: e.to_string() })
}
