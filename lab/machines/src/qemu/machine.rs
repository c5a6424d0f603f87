//! A running machine.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream as StdUnixStream};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use labctl_protocol::client::{Dial, Stream};
use labctl_state::{MAX_SOCKET_PATH, Process};
use nix::unistd::geteuid;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::spec::{Inherited, VmSpec};
use super::{Error, OLDEST, QEMU, Qmp, tail};
use crate::{
    console::Console,
    spawn::{self, GONE, Tied},
};

/// How long QEMU may take to answer first: before that it maps memory and loads the kernel.
const GREETING: Duration = Duration::from_secs(20);

/// How long QEMU may take to say its version.
const VERSION: Duration = Duration::from_secs(20);

/// A started machine. Dropping it kills it.
#[derive(Debug)]
pub struct Vm {
    spec: VmSpec,
    child: Tied,
    qmp: Arc<Qmp>,
    console: Console,
    process: Option<Process>,
    ended: Option<ExitStatus>,
}

impl Vm {
    /// Starts QEMU and returns once its monitor answers; the guest then boots, or waits for its state.
    ///
    /// # Errors
    /// QEMU is missing, too old, or ended at once (its output is in [`Error::Died`]); a socket or a file cannot be used.
    pub async fn start(spec: VmSpec) -> Result<Self, Error> {
        let (ours, theirs) = StdUnixStream::pair().map_err(Error::io("make", "a socket pair"))?;
        let qmp: OwnedFd = theirs.into();
        let agent: OwnedFd = listen(&spec.agent_socket())?.into();
        let (serial, port) = StdUnixStream::pair().map_err(Error::io("make", "a socket pair"))?;
        let serial: OwnedFd = serial.into();
        let console = Console::start(port, &spec.console()).map_err(Error::io("write", spec.console()))?;
        let mut nics = Vec::new();
        for nic in &spec.nics {
            nics.push(nic.socket.as_deref().map(connect).transpose()?);
        }
        let fds = Inherited {
            qmp: qmp.as_raw_fd(),
            agent: agent.as_raw_fd(),
            console: serial.as_raw_fd(),
            nics: nics.iter().map(|n| n.as_ref().map(|fd| fd.as_raw_fd())).collect(),
        };
        let mut command = Command::new(QEMU);
        command.args(spec.arguments(&fds)).current_dir("/").stdin(Stdio::null());
        let log = fs::File::create(spec.log()).map_err(Error::io("write", spec.log()))?;
        let errors = log.try_clone().map_err(Error::io("write", spec.log()))?;
        command.stdout(log).stderr(errors);

        let keep = [qmp, agent, serial].into_iter().chain(nics.into_iter().flatten()).collect();
        let any_file = !spec.files().into_iter().all(is_open_to_owner);
        let mut child = spawn::spawn(command, keep, any_file).await.map_err(Error::NoQemu)?;
        let process = child.id().and_then(|pid| Process::observe(pid, format!("machine of {}", spec.name)));
        match Qmp::handshake(&spec.name, ours, GREETING).await {
            Ok(qmp) => Ok(Self { spec, child, qmp: Arc::new(qmp), console, process, ended: None }),
            Err(error) => Err(explain(&spec, &mut child, error).await),
        }
    }

    /// The spec it was started from.
    pub fn spec(&self) -> &VmSpec {
        &self.spec
    }

    /// Its monitor.
    pub fn qmp(&self) -> &Arc<Qmp> {
        &self.qmp
    }

    /// Its process, to be noted on disk. `None` if it ended before it could be looked at.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Connects to the agent's port. QEMU serves one connection at a time; the next gets through when the last has
    /// ended.
    ///
    /// # Errors
    /// The machine has ended.
    pub async fn agent(&self) -> Result<UnixStream, Error> {
        let path = self.spec.agent_socket();
        UnixStream::connect(&path).await.map_err(Error::io("connect to", path))
    }

    /// Connects to its agent, as often as needed.
    pub fn dial(&self) -> Dial {
        let path = self.spec.agent_socket();
        Dial::new(move || {
            let path = path.clone();
            async move { Ok(Box::new(UnixStream::connect(path).await?) as Box<dyn Stream>) }
        })
    }

    /// Waits until it ends, for whatever reason, and says what is known of the cause.
    pub fn gone(&self) -> BoxFuture<'static, String> {
        let closed = self.qmp.closed();
        Box::pin(async move {
            match closed.await.as_deref() {
                // A panicking kernel reboots at once, and then QEMU ends instead of resetting the machine.
                Some("guest-reset" | "guest-panic") => "its guest rebooted or panicked",
                Some("guest-shutdown") => "its guest powered off",
                _ => "its machine ended",
            }
            .to_owned()
        })
    }

    /// Waits until it has ended. Cancel-safe.
    pub async fn wait(&mut self) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        let status = self.child.wait().await.unwrap_or_default();
        self.ended = Some(status);
        status
    }

    /// Kills it and waits until it is gone. A guest keeps nothing on this machine's disks, so nothing must be written
    /// first. A machine that has ended already is no error.
    ///
    /// # Errors
    /// The process does not end: it is stuck in the kernel.
    pub async fn kill(&mut self) -> Result<(), Error> {
        // Fails only if it has ended.
        let _ = self.child.start_kill();
        if tokio::time::timeout(GONE, self.wait()).await.is_err() {
            return Err(Error::Silent {
                name: self.spec.name.clone(),
                command: "SIGKILL".into(),
                within: GONE,
                tail: String::new(),
            });
        }
        // The next start makes it anew; `down` removes the folder.
        let _ = fs::remove_file(self.spec.agent_socket());
        Ok(())
    }

    /// Describes a machine that no longer answers: whether it runs, and the last lines of QEMU's log and its console.
    pub fn post_mortem(&mut self) -> String {
        let ended = self.ended.or_else(|| self.child.try_wait().ok().flatten());
        self.ended = ended;
        let gone = self.process.as_ref().is_some_and(|p| !p.is_alive());
        let state = match ended {
            Some(status) => format!("the machine has ended ({status})"),
            // A process that is exiting has no status yet.
            None if gone => "the machine has ended".to_owned(),
            None => "the machine still runs".to_owned(),
        };
        self.console.catch_up();
        let mut text = state;
        for (what, path) in [("QEMU said", self.spec.log()), ("its console ends with", self.spec.console())] {
            let tail = tail(&path);
            if !tail.is_empty() {
                text.push_str(&format!("\n{what}:\n  {tail}"));
            }
        }
        text
    }
}

fn listen(path: &Path) -> Result<UnixListener, Error> {
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(Error::LongPath { path: path.to_owned(), max: MAX_SOCKET_PATH });
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("replace", path)(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(Error::io("listen on", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(Error::io("protect", path))?;
    Ok(listener)
}

/// Whether this user may read a file by its permissions, without being root: the user or everybody can read it and enter
/// the folders above it. Then no capability is needed to open it.
fn is_open_to_owner(path: &Path) -> bool {
    let may = |path: &Path, others: u32| {
        fs::metadata(path).is_ok_and(|m| m.uid() == geteuid().as_raw() || m.mode() & others != 0)
    };
    may(path, 0o004) && path.ancestors().skip(1).all(|folder| may(folder, 0o001))
}

fn connect(path: &Path) -> Result<OwnedFd, Error> {
    StdUnixStream::connect(path).map(Into::into).map_err(Error::io("connect to", path))
}

/// Explains why QEMU did not greet.
async fn explain(spec: &VmSpec, child: &mut Child, error: Error) -> Error {
    let said = tail(&spec.log());
    // If the monitor hung up, QEMU is ending; if it is only silent, QEMU is killed here.
    let status = match tokio::time::timeout(Duration::from_secs(2), child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        _ => {
            let _ = child.kill().await;
            let Error::Silent { name, command, within, .. } = error else { return error };
            let tail = if said.is_empty() { said } else { format!(":\n  {said}") };
            return Error::Silent { name, command, within, tail };
        }
    };
    if let Some(version) = too_old().await {
        return Error::TooOld(version);
    }
    let why = if said.is_empty() { "it said nothing".to_owned() } else { said };
    let hint = if why.contains("-sandbox") {
        "this QEMU was built without seccomp, which confines it: take the distribution's"
    } else if why.contains("memory") {
        "give the hosts less (memory: in the topology), or run fewer of them"
    } else if why.contains("KVM") || why.contains("kvm") {
        "`labctl doctor` tries KVM"
    } else {
        "`labctl doctor` looks for what is missing"
    };
    Error::Died { name: spec.name.clone(), status, why, hint }
}

/// QEMU's version if it is too old.
async fn too_old() -> Option<String> {
    match require_qemu().await {
        Err(Error::TooOld(version)) => Some(version),
        _ => None,
    }
}

/// Fails if QEMU is missing or too old.
///
/// # Errors
/// [`Error::NoQemu`], [`Error::TooOld`].
pub async fn require_qemu() -> Result<QemuVersion, Error> {
    let mut command = Command::new(QEMU);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let said = tokio::time::timeout(VERSION, command.output()).await;
    let output = said.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(Error::NoQemu)?;
    let text = String::from_utf8_lossy(&output.stdout);
    // `QEMU emulator version 10.0.2 (Debian …)`
    let version = text.split_ascii_whitespace().nth(3).unwrap_or_default();
    let mut parts = version.split('.').map(|p| p.parse().unwrap_or(0));
    let found: (u64, u64) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found < OLDEST {
        return Err(Error::TooOld(version.to_owned()));
    }
    Ok(QemuVersion { number: found, text: text.lines().next().unwrap_or_default().to_owned() })
}

/// The QEMU that is installed.
#[derive(Clone, Debug, Default)]
pub struct QemuVersion {
    /// Major and minor.
    pub number: (u64, u64),
    /// Its own version line, packaging included.
    pub text: String,
}
