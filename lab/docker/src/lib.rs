//! The dockerd of one lab host, by bollard over the host's own socket: networks, containers, services and the swarm.

pub mod containers;
mod error;
pub mod networks;
mod options;
mod owned;
pub mod services;
pub mod swarm;

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker, errors::Error as BollardError};
use tokio::time::timeout;

pub use error::Error;
pub use owned::LABEL_LAB;

/// Limit for one call of the Docker API, in seconds: generous, since without KVM starting a container may take seconds
/// while other machines boot.
const TIMEOUT_S: u64 = 120;

/// Limit for one call with its whole answer: the client's own limit ends with the answer's head.
const WHOLE: Duration = Duration::from_secs(TIMEOUT_S + 30);

/// Limit for a ping. A dockerd that is busy with a thousand containers still answers in time.
const PING: Duration = Duration::from_secs(10);

/// The dockerd of one lab host.
#[derive(Clone, Debug)]
pub struct HostDocker {
    /// Name of the host.
    pub host: String,
    /// The connection.
    pub api: Docker,
    /// Whether its host has shortcuts (docs/vanilla.md), which containers of labctl's own image use.
    shortcuts: bool,
    /// Labels of all that is made, on a machine that is not labctl's own.
    labels: HashMap<String, String>,
}

impl HostDocker {
    /// Connects to a host's socket on this machine; its dockerd speaks the API up to version `newest` (`1.45`).
    ///
    /// bollard's own negotiation asks for all components' versions, for which dockerd starts runc and more.
    pub fn connect(host: &str, socket: &Path, newest: &str, shortcuts: bool) -> Result<Self, Error> {
        let version = version(newest).filter(|v| v < API_DEFAULT_VERSION).unwrap_or(*API_DEFAULT_VERSION);
        let api = Docker::connect_with_unix(&socket.to_string_lossy(), TIMEOUT_S, &version)
            .map_err(|e| docker_error(host, "connect", e))?;
        Ok(Self { host: host.to_owned(), api, shortcuts, labels: HashMap::new() })
    }

    /// Asks whether the dockerd answers.
    pub async fn ping(&self) -> Result<(), Error> {
        self.api.ping().within(PING).await.map(drop).map_err(self.failed("ping"))
    }

    /// The API version that is spoken, `1.45`.
    pub fn newest(&self) -> String {
        let ClientVersion { major_version, minor_version } = self.api.client_version();
        format!("{major_version}.{minor_version}")
    }

    /// Another client of the same dockerd, on another socket.
    pub fn another(&self, socket: &Path) -> Result<Docker, Error> {
        Docker::connect_with_unix(&socket.to_string_lossy(), TIMEOUT_S, &self.api.client_version())
            .map_err(|e| docker_error(&self.host, "connect", e))
    }

    /// Converts errors of this host's API; for `map_err`.
    pub fn failed(&self, what: impl Into<String>) -> impl FnOnce(BollardError) -> Error {
        let what = what.into();
        move |e| docker_error(&self.host, &what, e)
    }
}

/// Whether Docker refuses this only for now: its managers are busy or changing.
pub fn is_transient(error: &Error) -> bool {
    let Error::Refused { message, .. } = error else { return false };
    // The node has its place on an overlay but has not heard of the network yet, and names it by its id. A network that
    // does not exist is named by its name.
    let of_id = |text: &str| text.strip_prefix("network ")?.strip_suffix(" not found").map(str::len);
    let not_heard_of = of_id(message).is_some_and(|length| length == SWARM_ID);
    let is_one_of = [UNATTACHED, OVERTAKEN, LEADERLESS].iter().any(|words| message.contains(words));
    not_heard_of || is_one_of || is_late_attachment(message)
}

/// Whether a node has waited in vain for its place on an overlay. It waits 20 s (moby daemon/cluster/networks.go). A
/// busy manager without KVM may be slower; or it has no place to give, and says so only in its log.
pub fn is_late_attachment(message: &str) -> bool {
    message.contains("attaching to network failed") && message.contains("context deadline exceeded")
}

/// Length of a swarmkit id (identity/randomid.go).
const SWARM_ID: usize = 25;

/// Docker's error if it attaches another network of a container before the overlay that the container was made on. At a
/// start it attaches them in any order, and after each looks for that one, which a worker does not know until then (from 25
/// on; moby daemon/container_operations.go, `normalizeNetMode`).
const UNATTACHED: &str = "could not find a network matching network mode";

/// Docker's error if something changed between reading and writing it, for example an update's status, which Docker
/// writes itself.
const OVERTAKEN: &str = "update out of sequence";

/// Docker's error while managers come and go.
const LEADERLESS: &str = "does not have a leader";

/// Limits of [`retry_transient`]: number of tries, pause between two, and when no further try begins. Three late attachments
/// fit: on two busy cores without KVM two were not enough.
const MOST_TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
const LAST_TRY: Duration = Duration::from_secs(45);

/// Retries what Docker refuses only for now.
///
/// # Errors
/// The last refusal, or the late attachment if there was one: dockerd keeps its remains, and answers every later attempt
/// for that container with `no such network`.
pub(crate) async fn retry_transient<T, F>(attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let began = Instant::now();
    let mut late = None;
    let mut tries = 1;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if !is_transient(&error) || tries == MOST_TRIES || began.elapsed() >= LAST_TRY {
            return Err(late.unwrap_or(error));
        }
        tracing::warn!("{error}: trying again");
        if matches!(&error, Error::Refused { message, .. } if is_late_attachment(message)) {
            late.get_or_insert(error);
        }
        tries += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

fn version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

/// A call of the API.
pub(crate) trait Call<T> {
    /// Waits for the whole answer, at most `limit`.
    fn within(self, limit: Duration) -> impl Future<Output = Result<T, BollardError>> + Send;

    /// Waits for the whole answer, at most [`WHOLE`].
    fn whole(self) -> impl Future<Output = Result<T, BollardError>> + Send;
}

impl<T, F: Future<Output = Result<T, BollardError>> + Send> Call<T> for F {
    async fn within(self, limit: Duration) -> Result<T, BollardError> {
        timeout(limit, self).await.unwrap_or(Err(BollardError::RequestTimeoutError))
    }

    async fn whole(self) -> Result<T, BollardError> {
        self.within(WHOLE).await
    }
}

fn docker_error(host: &str, what: &str, error: BollardError) -> Error {
    let (host, what) = (host.to_owned(), what.to_owned());
    match broken(&error) {
        Some(why) => Error::NoAnswer { host, what, why },
        None => Error::Refused { host, what, message: message(error) },
    }
}

/// Why a call failed: Docker's own message if there is one, else what became of the connection.
pub fn message(error: BollardError) -> String {
    match (broken(&error), error) {
        (Some(why), _) => why,
        (None, BollardError::DockerResponseServerError { message, .. }) => message,
        (None, other) => other.to_string(),
    }
}

/// What happened to the connection, if that is why there is no answer.
fn broken(error: &BollardError) -> Option<String> {
    match error {
        BollardError::RequestTimeoutError => return Some("it takes too long".to_owned()),
        BollardError::HyperLegacyError { .. }
        | BollardError::HyperResponseError { .. }
        | BollardError::IOError { .. } => {}
        _ => return None,
    }
    // The client wraps the kernel's error in several of its own.
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Some(innermost.to_string())
}

/// Whether Docker says that the thing is not there.
pub fn is_not_found(error: &BollardError) -> bool {
    matches!(error, BollardError::DockerResponseServerError { status_code: 404, .. })
}

/// Whether Docker says that another operation on the thing is under way.
pub fn is_conflict(error: &BollardError) -> bool {
    matches!(error, BollardError::DockerResponseServerError { status_code: 409, .. })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
    };

    use super::*;

    const LATE: &str =
        "attaching to network failed, make sure your network options are correct: context deadline exceeded";

    fn refusal(message: &str) -> Error {
        Error::Refused { host: "host1".into(), what: "connect".into(), message: message.into() }
    }

    #[tokio::test]
    async fn what_becomes_of_a_connection_is_not_put_into_dockers_mouth() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let far = tokio::spawn(async move {
            // Hangs up; the next time answers in part.
            drop(listener.accept().await.unwrap());
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{").await.unwrap();
            (listener, stream)
        });
        let docker = HostDocker::connect("host1", &socket, "1.45", false).unwrap();
        let said = |error: Error| {
            let said = error.to_string();
            assert!(said.contains(": dockerd of host1 does not answer: "), "{said}");
            assert!(!said.contains("Docker says") && !said.contains("hyper"), "{said}");
            said
        };
        said(docker.state("c1").await.unwrap_err());
        let inspected = docker.api.inspect_container("c1", None).within(Duration::from_millis(200)).await;
        let late = said(docker.failed("inspect")(inspected.unwrap_err()));
        assert!(late.contains("takes too long"), "{late}");
        drop(far.await.unwrap());
        said(docker.ping().await.unwrap_err());
    }

    #[test]
    fn what_is_transient_is_told_from_what_is_not() {
        let is_transient = |message: &str| is_transient(&refusal(message));
        assert!(is_transient("network w1z8csjivf7us7i4ubs6chjdm not found"));
        assert!(!is_transient("network front not found"));
        assert!(is_transient(
            "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that …"
        ));
        assert!(is_transient(LATE));
        assert!(is_transient(
            "could not find a network matching network mode front: network front not found"
        ));
        assert!(!is_transient("Pool overlaps with other one on this address space"));
    }

    #[tokio::test]
    async fn a_late_attachment_is_what_is_told_whatever_a_later_attempt_says() {
        let said = |words: &'static [&'static str]| {
            let next = std::sync::Mutex::new(words.iter());
            async move {
                let attempt = || async {
                    match next.lock().ok().and_then(|mut next| next.next()) {
                        Some(words) => Err::<(), _>(refusal(words)),
                        None => Ok(()),
                    }
                };
                retry_transient(attempt).await.map_err(|e| e.to_string())
            }
        };
        assert!(said(&[LATE, "network net not found"]).await.unwrap_err().ends_with("deadline exceeded"));
        assert!(said(&[OVERTAKEN, "no such port"]).await.unwrap_err().ends_with("no such port"));
        assert_eq!(said(&[OVERTAKEN, LEADERLESS]).await, Ok(()));
        assert!(said(&[LEADERLESS; 9]).await.unwrap_err().contains(LEADERLESS), "it ends");
    }
}
