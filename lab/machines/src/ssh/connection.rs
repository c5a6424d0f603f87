//! An open connection to a machine: one ssh for all, and the agent, copied there once.

use std::{
    fs, io,
    path::{Path, PathBuf},
    pin::Pin,
    process::Stdio,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use labctl_images::{durable, hash::sha256};
use labctl_protocol::{made::FOREIGN, polling::Polling};
use labctl_state::{Process, SshMachine};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, ReadBuf},
    process::{Child, ChildStdin, ChildStdout},
    sync::{Mutex, watch},
};

use super::way::{LOOK, Way, no_ssh, said};
use crate::{
    Error,
    machine::{Dial, Stream},
    spawn::{self, Tied},
    tail::tail,
};

/// How long a connection may take, jump hosts and all.
const OPENED: Duration = Duration::from_secs(60);
/// Pause between two looks for its socket.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a machine may be away before it counts as down.
const AWAY: Duration = Duration::from_secs(30);
/// Pause between two attempts to reach it again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How long the agent may take to be copied.
const COPIED: Duration = Duration::from_secs(600);

/// Name of the connection's socket in the host's folder. Short: ssh adds 17 characters while it makes it.
const CONTROL: &str = "c";
/// Name of the note that the agent was, or was about to be, copied there.
const TOUCHED: &str = "touched";
/// Log of ssh.
const LOG: &str = "ssh.log";

/// Sets `$c` to the user's cache folder there and `$d` to the one that holds the agent and the notes, for sh.
const FOLDER: &str = "c=\"${XDG_CACHE_HOME:-$HOME/.cache}\"; d=\"$c/labctl\"";

/// A connection that is open, or is opened again when it breaks.
#[derive(Debug)]
pub(crate) struct Connection {
    way: Way,
    /// How the agent serves there: the words after `serve`.
    serves: String,
    /// Path of the agent there.
    agent: String,
    /// The host's folder on this machine.
    dir: PathBuf,
    /// Resolves the wait for the end.
    ended: watch::Receiver<Option<String>>,
    /// Ends the task that holds the connection. Taken when it is closed.
    hold: Mutex<Option<tokio::task::JoinHandle<()>>>,
    process: Option<Process>,
}

/// How the agent serves for a lab on a machine that is not labctl's own.
pub(super) fn foreign(lab: &str) -> String {
    format!("{FOREIGN} {lab} \"$SSH_CONNECTION\"")
}

/// Whether something may be left on the machine of the host with this folder.
pub(super) fn was_touched(dir: &Path) -> bool {
    dir.join(TOUCHED).exists()
}

impl Connection {
    /// Connects, and copies the agent if it is not there. `dir` is a folder on this machine for its socket and its notes.
    /// `serves`: [`foreign`], or how else the agent serves.
    ///
    /// # Errors
    /// ssh's words.
    pub async fn open(
        host: &str,
        machine: &SshMachine,
        serves: String,
        agent: &Path,
        dir: &Path,
    ) -> Result<Self, Error> {
        let failed = |why: String| Error::Machine { host: host.to_owned(), why };
        fs::create_dir_all(dir).map_err(Error::io("cannot make the folder", dir))?;
        let way = Way::new(host, machine).sharing(&dir.join(CONTROL));
        let master = open(&way, dir).await.map_err(|why| failed(format!("ssh: {why}")))?;
        let note = dir.join(TOUCHED);
        durable::write(&note, 0o600, b"").map_err(Error::io("cannot write", note))?;
        let binary = fs::read(agent).map_err(Error::io("cannot read", agent))?;
        let path =
            copy(&way, binary).await.map_err(|why| failed(format!("cannot copy the agent there: {why}")))?;
        let process = master.id().and_then(|pid| Process::observe(pid, format!("ssh to {host}")));
        let (tell, ended) = watch::channel(None);
        let task = tokio::spawn(hold(way.clone(), dir.to_owned(), master, tell));
        Ok(Self {
            way,
            serves,
            agent: path,
            dir: dir.to_owned(),
            ended,
            hold: Mutex::new(Some(task)),
            process,
        })
    }

    /// Starts a new agent there for each stream.
    pub fn dial(&self) -> Dial {
        let (way, host) = (self.way.clone(), self.way.host.clone());
        let script = self.as_root(&format!("serve {}", self.serves));
        Dial::new(move || {
            let (way, host, script) = (way.clone(), host.clone(), script.clone());
            async move { Ok(Box::new(Agent::start(&way, &host, &script)?) as Box<dyn Stream>) }
        })
    }

    /// What the kernel there can do for hosts that share it: the words of `labctl-agent kernel`.
    ///
    /// # Errors
    /// The agent's words.
    pub async fn kernel(&self) -> Result<String, String> {
        self.way.run(&self.as_root("kernel"), None, LOOK).await
    }

    /// The agent with these arguments, as root.
    fn as_root(&self, arguments: &str) -> String {
        let agent = &self.agent;
        format!(
            "if [ \"$(id -u)\" = 0 ]; then exec \"{agent}\" {arguments}; else exec sudo -n \"{agent}\" {arguments}; fi"
        )
    }

    /// Removes the agent from the machine, unless another lab is there, and the folders that are then empty.
    ///
    /// # Errors
    /// ssh's words.
    pub async fn remove_agent(&self) -> Result<(), String> {
        let script = format!(
            "{FOLDER}; cd \"$d\" 2>/dev/null || exit 0\n\
             if [ -d labs ]; then rmdir labs 2>/dev/null || sudo -n rmdir labs 2>/dev/null || exit 0; fi\n\
             rm -f agent-*; new=; if [ -e new-cache ]; then rm -f new-cache; new=yes; fi; cd /\n\
             rmdir \"$d\" 2>/dev/null || exit 0; if [ \"$new\" ]; then rmdir \"$c\" 2>/dev/null || true; fi"
        );
        self.way.run(&script, None, LOOK).await?;
        // Nothing is left there.
        let _ = fs::remove_file(self.dir.join(TOUCHED));
        Ok(())
    }

    /// Resolves once the machine has been away for too long, and says why.
    pub fn gone(&self) -> BoxFuture<'static, String> {
        let mut ended = self.ended.clone();
        Box::pin(async move {
            let end = ended.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
            match end {
                Some(why) => why,
                // It was closed on purpose.
                None => std::future::pending().await,
            }
        })
    }

    /// The process of ssh that holds it.
    pub fn process(&self) -> Option<Process> {
        self.process.clone()
    }

    /// The last words of ssh.
    pub fn log(&self) -> String {
        tail(&self.dir.join(LOG))
    }

    /// Ends it.
    pub async fn close(&self) {
        if let Some(task) = self.hold.lock().await.take() {
            task.abort();
            // Drops, and so ends, the ssh that it held.
            let _ = task.await;
        }
        spawn::settled().await;
        let _ = fs::remove_file(self.dir.join(CONTROL));
    }
}

/// Opens the connection that all calls share, and returns once it can be used.
async fn open(way: &Way, dir: &Path) -> Result<Tied, String> {
    let (control, log) = (dir.join(CONTROL), dir.join(LOG));
    let _ = fs::remove_file(&control);
    let _ = fs::remove_file(&log);
    let log_path = log.display().to_string();
    let command = way.bare(&["ControlMaster=yes", "ControlPersist=no"], &["-N", "-E", &log_path]);
    let mut master = spawn::spawn_as_user(command).await.map_err(|e| no_ssh(&e))?;
    let wait = Polling::new(OPENED, LOOK_AGAIN);
    loop {
        if control.exists() {
            return Ok(master);
        }
        if let Ok(Some(status)) = master.try_wait() {
            return Err(said(&fs::read_to_string(&log).unwrap_or_default(), &status.to_string()));
        }
        if !wait.again().await {
            return Err(format!("no connection within {} s", OPENED.as_secs()));
        }
    }
}

/// Holds the connection, and opens it again when it breaks. Ends, and says why, when that does not work.
async fn hold(way: Way, dir: PathBuf, mut master: Tied, tell: watch::Sender<Option<String>>) {
    loop {
        let _ = master.wait().await;
        let mut why = tail(&dir.join(LOG));
        tracing::warn!("the connection to {} broke: {why}", way.host);
        let wait = Polling::new(AWAY, TRY_AGAIN);
        master = loop {
            match open(&way, &dir).await {
                Ok(again) => break again,
                Err(e) => why = e,
            }
            if !wait.again().await {
                tell.send_replace(Some(format!("ssh: {why}")));
                return;
            }
        };
    }
}

/// Copies the agent there, unless it is there, and returns its path.
async fn copy(way: &Way, binary: Vec<u8>) -> Result<String, String> {
    let hash = sha256(&binary);
    let name = format!("agent-{}", &hash[..16]);
    let is_right = format!("[ \"$(sha256sum < \"$f\" | cut -c1-64)\" = {hash} ]");
    let script = format!(
        "umask 077; {FOLDER}; new=; [ -d \"$c\" ] || new=yes; mkdir -p \"$d\" && \
         if [ \"$new\" ]; then : > \"$d/new-cache\"; fi; f=\"$d/{name}\" && if [ -x \"$f\" ] && {is_right}; then \
         echo \"have $f\"; else echo \"want $f\"; fi"
    );
    let answer = way.run(&script, None, LOOK).await?;
    let (have, path) = answer
        .lines()
        .find_map(|line| match line.split_once(' ') {
            Some(("have", path)) => Some((true, path)),
            Some(("want", path)) => Some((false, path)),
            _ => None,
        })
        .ok_or_else(|| format!("its shell says: {}", said(&answer, "nothing")))?;
    // It becomes part of later scripts.
    if path.chars().any(|c| "\"$`\\\n".contains(c)) {
        return Err(format!("{path} is no path for a script"));
    }
    if !have {
        let script = format!(
            "umask 077; f=\"{path}.$$\"; trap 'rm -f \"$f\"' EXIT; cat > \"$f\" && {is_right} && chmod 700 \"$f\" && \
             mv -f \"$f\" \"{path}\" || {{ echo 'what arrived is not the agent, or there is no room' >&2; exit 1; }}"
        );
        way.run(&script, Some(binary), COPIED).await?;
    }
    Ok(path.to_owned())
}

/// The stream to an agent: stdin and stdout of an ssh, which ends with it.
struct Agent {
    _child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Agent {
    fn start(way: &Way, host: &str, script: &str) -> io::Result<Self> {
        let mut command = way.script(script);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        if let Some(stderr) = stderr {
            let host = host.to_owned();
            tokio::spawn(async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    tracing::info!("agent of {host}: {line}");
                }
            });
        }
        match (stdin, stdout) {
            (Some(stdin), Some(stdout)) => Ok(Self { _child: child, stdin, stdout }),
            _ => Err(io::Error::other("ssh has no stdin or stdout")),
        }
    }
}

impl AsyncRead for Agent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, buf)
    }
}

impl AsyncWrite for Agent {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stdin).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_shutdown(cx)
    }
}
