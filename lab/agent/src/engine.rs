//! Starts, restarts and ends dockerd.

use std::{
    fs, io,
    io::{Read, Seek, SeekFrom},
    os::fd::OwnedFd,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use labctl_protocol::messages::{BUILTIN_RUNTIME, DOCKERD_LOG as LOG};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, unix::AsyncFd},
    net::UnixStream,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{runc, sys};

/// Where the host's programs are looked up, unless a request says otherwise.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const SOCKET: &str = "/var/run/docker.sock";
const SOCKET_URL: &str = "unix:///var/run/docker.sock";
const CONFIG: &str = "/etc/docker/daemon.json";
const PID_FILE: &str = "/var/run/docker.pid";
const CONTAINERD_PID_FILE: &str = "/var/run/docker/containerd/containerd.pid";

/// How long dockerd may take to answer. On an emulated processor it takes ten seconds and more.
const START: Duration = Duration::from_secs(120);

/// How often dockerd is started if its containerd is late, and what it logs then (moby, libcontainerd/supervisor).
const STARTS: u32 = 3;
const LATE: &str = "timeout waiting for containerd to start";

/// How long dockerd may take to stop: it first stops its containers, for up to 15 s.
const STOP: Duration = Duration::from_secs(20);

/// Pause between two looks at a socket that is not there yet.
const LOOK: Duration = Duration::from_millis(10);

/// Longest time for one `_ping`.
const PING: Duration = Duration::from_secs(5);

/// Longest answer to a `_ping`, in bytes.
const ANSWER: u64 = 4 << 10;

/// Most bytes and lines of the log in an error.
const TAIL_BYTES: u64 = 16 << 10;
const TAIL_LINES: usize = 20;

/// Why dockerd does not run as requested.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// dockerd could not be started at all.
    #[error("cannot start dockerd: {0}")]
    Spawn(io::Error),
    /// It ended before it answered.
    #[error("dockerd ended ({status}) before it answered; the end of its log:\n{log}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// It did not answer.
    #[error("dockerd did not answer within {START:?}; the end of its log:\n{log}")]
    Silent {
        /// The end of its log.
        log: String,
    },
    /// The running one could not be stopped.
    #[error("cannot stop the dockerd that runs (process {pid}): {error}")]
    Stop {
        /// Its process.
        pid: i32,
        /// What the kernel said.
        error: io::Error,
    },
}

fn file(path: &'static str) -> impl FnOnce(io::Error) -> DockerError {
    move |error| DockerError::File { path, error }
}

/// The host's dockerd. It outlives the agent; a new agent finds it by its pid file.
#[derive(Debug, Default)]
pub struct Engine {
    /// API version of the running one, from before the machine was saved; a restored machine need not ask again.
    settled: Option<String>,
}

impl Engine {
    /// Prepares for being saved.
    pub async fn settle(&mut self) {
        if running().is_some() {
            self.settled = ping().await;
        }
    }

    /// Ensures that dockerd runs with this daemon.json and answers; returns its newest API version.
    pub async fn ensure(&mut self, daemon_json: Map<String, Value>) -> Result<String, DockerError> {
        let wanted = with_ours(daemon_json, runc::stands_in());
        if let Some(process) = running() {
            if configured() == wanted {
                let answered = match self.settled.take() {
                    None => ping().await,
                    before => before,
                };
                if let Some(api) = answered {
                    return Ok(api);
                }
            }
            process.stop().await?;
        }
        self.settled = None;
        write_config(&wanted)?;
        start(&wanted).await
    }

    /// Ends the running dockerd. With SIGKILL, what it has started lives on, as after a crash.
    pub async fn end(&mut self, kill: bool) -> Result<(), DockerError> {
        let Some(process) = running() else { return Ok(()) };
        self.settled = None;
        match kill {
            false => process.stop().await,
            true => match process.end(Signal::SIGKILL, STOP).await? {
                true => Ok(()),
                false => Err(process.survives()),
            },
        }
    }

    /// Starts dockerd with the present daemon.json, unless it runs.
    pub async fn start(&mut self) -> Result<(), DockerError> {
        self.ensure(configured()).await.map(drop)
    }
}

/// Adds the socket that the agent dials to a daemon.json with `hosts`; with shortcuts, also the runtime of labctl's own
/// image to one with `runtimes`.
fn with_ours(mut daemon_json: Map<String, Value>, shortcuts: bool) -> Map<String, Value> {
    if let Some(Value::Array(hosts)) = daemon_json.get_mut("hosts")
        && !hosts.contains(&json!(SOCKET_URL))
    {
        hosts.push(json!(SOCKET_URL));
    }
    if shortcuts && let Some(Value::Object(runtimes)) = daemon_json.get_mut("runtimes") {
        runtimes.entry(BUILTIN_RUNTIME).or_insert_with(|| json!({ "path": BUILTIN_RUNTIME }));
    }
    daemon_json
}

/// The present daemon.json; empty, which means the defaults, if there is none.
fn configured() -> Map<String, Value> {
    let text = fs::read_to_string(CONFIG).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn write_config(wanted: &Map<String, Value>) -> Result<(), DockerError> {
    let path = Path::new(CONFIG);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(file(CONFIG))?;
    }
    // Maps of strings and values always serialise.
    let text = serde_json::to_string_pretty(wanted).unwrap_or_default() + "\n";
    fs::write(path, text).map_err(file(CONFIG))
}

/// Starts dockerd. On a busy machine its containerd can miss its limit of 15 s. Such a start has not touched the network
/// yet, so we try again, as systemd would (docker.service: `Restart=always`, `StartLimitBurst=3`).
async fn start(config: &Map<String, Value>) -> Result<String, DockerError> {
    for attempt in 1..STARTS {
        match start_once(config).await {
            Err(DockerError::Ended { log, .. }) if log.contains(LATE) => {
                tracing::warn!("dockerd, start {attempt}: its containerd was late");
            }
            ended => return ended,
        }
    }
    start_once(config).await
}

async fn start_once(config: &Map<String, Value>) -> Result<String, DockerError> {
    // The socket of a killed dockerd would never answer.
    let _ = fs::remove_file(SOCKET);
    let mut log = fs::OpenOptions::new().create(true).append(true).open(LOG).map_err(file(LOG))?;
    let begin = log.seek(SeekFrom::End(0)).map_err(file(LOG))?;
    let mut command = Command::new("dockerd");
    // dockerd rejects an option that is also in daemon.json.
    if !config.contains_key("hosts") {
        command.args(["--host", SOCKET_URL]);
    }
    let shortcuts = runc::stands_in();
    if shortcuts && !config.contains_key("runtimes") {
        command.args(["--add-runtime", &format!("{BUILTIN_RUNTIME}={BUILTIN_RUNTIME}")]);
    }
    let path = if shortcuts { format!("{}:{PATH}", runc::DIR) } else { PATH.to_owned() };
    command.env("PATH", path).current_dir("/").process_group(0).stdin(Stdio::null());
    command.stdout(log.try_clone().map_err(file(LOG))?).stderr(log);
    if shortcuts {
        sys::coarse_timers(&mut command, runc::slack::DOCKER_NS);
    }
    let mut child = command.spawn().map_err(DockerError::Spawn)?;
    let answered = tokio::select! {
        status = child.wait() => {
            let status = status.map_err(DockerError::Spawn)?;
            return Err(DockerError::Ended { status, log: tail(begin) });
        }
        answered = timeout(START, answers()) => answered,
    };
    let Ok(api) = answered else {
        let log = tail(begin);
        // Report the silence, not an error of stopping.
        if let Some(process) = child.id().and_then(|pid| Process::open(pid.cast_signed())) {
            let _ = process.stop().await;
        }
        reap(child);
        return Err(DockerError::Silent { log });
    };
    reap(child);
    Ok(api)
}

fn reap(mut child: Child) {
    tokio::spawn(async move {
        let status = child.wait().await;
        tracing::info!("dockerd ended: {status:?}");
    });
}

async fn answers() -> String {
    loop {
        if let Some(api) = ping().await {
            return api;
        }
        sleep(LOOK).await;
    }
}

/// The API version if dockerd answers. `/version` has it too, but runs runc and docker-init for their versions.
pub async fn ping() -> Option<String> {
    let exchange = async {
        let mut socket = UnixStream::connect(SOCKET).await?;
        socket.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n").await?;
        let mut answer = Vec::new();
        socket.take(ANSWER).read_to_end(&mut answer).await?;
        io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    api_version(&timeout(PING, exchange).await.ok()?.ok()?)
}

/// The API version in the headers of a successful answer (docs.docker.com, Engine API, "Ping").
fn api_version(answer: &str) -> Option<String> {
    let mut lines = answer.lines();
    lines.next()?.contains(" 200").then_some(())?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("api-version").then(|| value.trim().to_owned())
    };
    lines.find_map(header)
}

fn tail(begin: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut log = fs::File::open(LOG)?;
        let end = log.seek(SeekFrom::End(0))?;
        log.seek(SeekFrom::Start(begin.max(end.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        log.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = match read() {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("{LOG}: {error}"),
    };
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// A process that is not necessarily a child of ours.
struct Process {
    pid: i32,
    ended: AsyncFd<OwnedFd>,
}

/// The running dockerd, if any. Its pid file can be a stale one.
fn running() -> Option<Process> {
    let process = Process::open(pid_in(PID_FILE)?)?;
    (name(process.pid)? == "dockerd").then_some(process)
}

fn pid_in(file: &str) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok().filter(|&pid| pid > 1)
}

fn name(pid: i32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

impl Process {
    fn open(pid: i32) -> Option<Self> {
        Some(Self { pid, ended: sys::watch(sys::pidfd_open(pid).ok()?).ok()? })
    }

    /// Sends SIGTERM; if it does not end, kills it and the containerd that it started, which would outlive it.
    async fn stop(self) -> Result<(), DockerError> {
        if self.end(Signal::SIGTERM, STOP).await? {
            return Ok(());
        }
        tracing::warn!("dockerd does not stop: killing it");
        let containerd =
            pid_in(CONTAINERD_PID_FILE).filter(|&pid| name(pid).as_deref() == Some("containerd"));
        let stopped = self.end(Signal::SIGKILL, STOP).await?;
        if let Some(containerd) = containerd.and_then(Process::open) {
            containerd.end(Signal::SIGKILL, STOP).await?;
        }
        match stopped {
            true => Ok(()),
            false => Err(self.survives()),
        }
    }

    fn survives(&self) -> DockerError {
        DockerError::Stop { pid: self.pid, error: io::Error::other("it survives SIGKILL") }
    }

    /// Sends a signal and waits for the end; returns whether it ended.
    async fn end(&self, signal: Signal, limit: Duration) -> Result<bool, DockerError> {
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) => {}
            Err(nix::errno::Errno::ESRCH) => return Ok(true),
            Err(errno) => return Err(DockerError::Stop { pid: self.pid, error: errno.into() }),
        }
        let deadline = Instant::now() + limit;
        Ok(tokio::time::timeout_at(deadline, self.ended.readable()).await.is_ok())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_tells_the_version_of_the_api() {
        let well = "HTTP/1.0 200 OK\r\nApi-Version: 1.45\r\nContent-Length: 2\r\n\r\nOK";
        assert_eq!(api_version(well).as_deref(), Some("1.45"));
        assert_eq!(api_version(&well.replace("200 OK", "500 Internal Server Error")), None);
        assert_eq!(api_version(""), None);
    }

    #[test]
    fn sockets_and_runtimes_named_in_daemon_json_include_ours() {
        let with = |key: &str, value: Value| with_ours(Map::from_iter([(key.to_owned(), value)]), true);
        assert_eq!(with("hosts", json!(["fd://"]))["hosts"], json!(["fd://", SOCKET_URL]));
        assert_eq!(with("hosts", json!([SOCKET_URL]))["hosts"], json!([SOCKET_URL]));
        assert!(with_ours(Map::new(), true).is_empty());
        let kata = json!({ "kata": { "path": "/k" } });
        let both = json!({ "kata": { "path": "/k" }, "crun": { "path": "crun" } });
        assert_eq!(with("runtimes", kata.clone())["runtimes"], both);
        let stock = Map::from_iter([("runtimes".to_owned(), kata)]);
        assert_eq!(with_ours(stock.clone(), false), stock);
        let own = json!({ "crun": { "path": "/opt/crun" } });
        assert_eq!(with("runtimes", own.clone())["runtimes"], own);
    }
}
