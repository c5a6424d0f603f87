//! PID 1's main loop: reaps processes and keeps the agent running.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::{Error, say};

/// Lifetime after which an agent's death starts a new count.
const WELL: Duration = Duration::from_secs(10);
/// Deaths in a row after which the machine gives up; labctl notices that at once.
const MOST_DEATHS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Runs `agent serve` and starts it again when it dies, after 20 ms, 40 ms, 80 ms …; reaps every orphan of the machine.
/// Returns when the machine is told to go down (SIGTERM, SIGPWR, SIGINT).
pub async fn agent(agent: &Path) -> Result<(), Error> {
    let listen = |kind| signal(kind).map_err(Error::file("signal"));
    let mut children = listen(SignalKind::child())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut power = listen(SignalKind::from_raw(libc::SIGPWR))?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut deaths = 0;
    loop {
        let started = Instant::now();
        let pid = serve(agent)?;
        loop {
            tokio::select! {
                _ = children.recv() => if let Some(status) = reap(pid) {
                    say(format_args!("the agent ended: {status:?}"));
                    break;
                },
                _ = terminate.recv() => return Ok(()),
                _ = power.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
            }
        }
        deaths = if started.elapsed() > WELL { 1 } else { deaths + 1 };
        if deaths >= MOST_DEATHS {
            return Err(Error::AgentDies(deaths));
        }
        tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(deaths - 1)).await;
    }
}

/// The child inherits the console as its standard output and error.
fn serve(agent: &Path) -> Result<Pid, Error> {
    let child = Command::new(agent)
        .arg("serve")
        .env_clear()
        .env("PATH", crate::engine::PATH)
        .env("HOME", "/root")
        .spawn()
        .map_err(Error::file(agent))?;
    // A process id always fits: Linux has at most 2^22.
    Ok(Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX)))
}

/// Reaps all dead processes; returns how `agent` ended if it was among them.
fn reap(agent: Pid) -> Option<WaitStatus> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
            Ok(status) if status.pid() == Some(agent) => ended = Some(status),
            Ok(_) | Err(_) => {}
        }
    }
}
