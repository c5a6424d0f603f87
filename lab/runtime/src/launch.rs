//! Begins a lab: makes its folder, writes its plan, starts its supervisor.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use labctl_machines::{clear::clear, limits, sys::detach};
use labctl_model::Lab;
use labctl_protocol::polling::Polling;
use labctl_state::{Dirs, LabDir, Lock, Machines, Origin, Plan, Runtime};
use tokio::net::UnixStream;

use crate::Error;

/// How long a supervisor may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// Interval between attempts. There is no event to wait for: the socket does not exist yet.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// How long a folder may be locked without a lab that answers: by a `labctl down` that clears it, or briefly by a
/// `labctl ps`.
const UNLOCKED_WITHIN: Duration = Duration::from_secs(5);

/// What to bring up, and how.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// The lab.
    pub lab: Lab,
    /// The topology file.
    pub topology: PathBuf,
    /// What its hosts run on.
    pub runtime: Runtime,
    /// Boot instead of restoring a saved machine.
    pub cold: bool,
    /// Keep what was made if the lab does not come up, for inspection.
    pub keep: bool,
    /// Which checkpoint it is taken from.
    pub origin: Origin,
    /// The agent's binary.
    pub agent: PathBuf,
    /// The machines that exist, for the `ssh` runtime.
    pub machines: Option<Machines>,
}

/// Writes the plan and starts `exe supervise DIR PID`, detached; returns once it answers.
///
/// # Errors
/// [`Error::AlreadyUp`], or a folder or process cannot be made.
pub async fn begin(dirs: &Dirs, options: UpOptions, exe: &Path) -> Result<LabDir, Error> {
    let dir = LabDir::of(dirs, &options.lab.name);
    let (_, lock) = claim(&dir, dirs, &options).await?;
    let started = start(&dir, exe, &lock).await;
    if started.is_err() {
        let _ = dir.remove(&lock);
    }
    started.map(|()| dir)
}

/// Makes a lab's folder and writes its plan there. The folder belongs to the caller while the lock is held.
///
/// # Errors
/// [`Error::AlreadyUp`], or the folder cannot be made; then nothing is left of it.
pub async fn claim(dir: &LabDir, dirs: &Dirs, options: &UpOptions) -> Result<(Plan, Lock), Error> {
    dir.check_socket_paths(&options.lab)?;
    dir.check_room()?;
    limits::allow_files(&options.lab)?;
    let mut lock = take_lock(dir).await?;
    if dir.has_plan() {
        // A lab whose supervisor died without taking it down. Nobody can be using it: we hold its lock.
        clear(dir, &lock).await;
        drop(lock);
        lock = take_lock(dir).await?;
    }
    let written = write_plan(dir, dirs, options);
    if written.is_err() {
        let _ = dir.remove(&lock);
    }
    Ok((written?, lock))
}

fn write_plan(dir: &LabDir, dirs: &Dirs, options: &UpOptions) -> Result<Plan, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let plan = Plan {
        lab: options.lab.clone(),
        topology: options.topology.clone(),
        runtime: options.runtime,
        cold: options.cold,
        keep: options.keep,
        origin: options.origin.clone(),
        since: now.as_secs(),
        agent: options.agent.clone(),
        cache: dirs.cache.clone(),
        machines: options.machines.clone().filter(|_| options.runtime == Runtime::Ssh),
    };
    dir.write_plan(&plan)?;
    Ok(plan)
}

/// Takes the lock, or fails with [`Error::AlreadyUp`]. One refusal proves nothing: a lab that is up answers.
async fn take_lock(dir: &LabDir) -> Result<Lock, Error> {
    let wait = Polling::new(UNLOCKED_WITHIN, ASK_EVERY);
    loop {
        if let Some(lock) = dir.lock()? {
            return Ok(lock);
        }
        if UnixStream::connect(dir.control_socket()).await.is_ok() || !wait.again().await {
            return Err(Error::AlreadyUp(dir.name().to_owned()));
        }
    }
}

async fn start(dir: &LabDir, exe: &Path, lock: &Lock) -> Result<(), Error> {
    let log = File::create(dir.log()).map_err(Error::io("cannot write", dir.log()))?;
    let errors = log.try_clone().map_err(Error::io("cannot write", dir.log()))?;
    let mut command = Command::new(exe);
    command.arg("supervise").arg(dir.path()).arg(std::process::id().to_string());
    // Passes the lock as stdin: the file description is shared, so it stays locked until the supervisor ends.
    let stdin = lock.share().map_err(Error::io("cannot hand on the lock of", dir.path()))?;
    command.stdin(Stdio::from(stdin)).stdout(log).stderr(errors);
    detach(&mut command);
    let mut child = command.spawn().map_err(Error::io("cannot start", exe))?;
    let wait = Polling::new(ANSWERS_WITHIN, ASK_EVERY);
    loop {
        if UnixStream::connect(dir.control_socket()).await.is_ok() {
            return Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            if status.success() {
                // It was taken down before we asked.
                return Err(labctl_state::Error::taken_down(dir.name(), None).into());
            }
            return Err(Error::Control(format!("the supervisor ended at once ({status}){}", log_tail(dir))));
        }
        if !wait.again().await {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::Control(format!("the supervisor did not answer{}", log_tail(dir))));
        }
    }
}

/// The last lines of the supervisor's log, for an error's text.
fn log_tail(dir: &LabDir) -> String {
    let text = std::fs::read_to_string(dir.log()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.iter().rev().map(|l| format!("\n  {l}")).collect()
}
