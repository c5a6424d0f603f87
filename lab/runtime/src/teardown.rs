//! Takes labs down, also those whose supervisor is gone.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    Dirs, Error, LabDir,
    control::{
        Client,
        protocol::{Answer, Request},
    },
    runtimes,
    state::{self, Process},
};

/// How long a process may take to die of SIGKILL.
const DIES_WITHIN: Duration = Duration::from_secs(5);

/// How long a supervisor may take to take its lab down before it is ended itself.
const SUPERVISOR_WITHIN: Duration = Duration::from_secs(20);

/// Takes a lab down: by its supervisor or, where that is gone or does not answer, from what is on disk. Returns what
/// did not go as it should; the lab is gone all the same.
pub async fn down(dirs: &Dirs, name: &str) -> Result<Vec<String>, Error> {
    let dir = state::find(dirs, name)?;
    let mut warnings = Vec::new();
    if dir.is_alive() {
        match tokio::time::timeout(SUPERVISOR_WITHIN, ask(&dir)).await {
            Ok(Ok(())) => {}
            // It was already going, and is gone.
            Ok(Err(Error::Control(_) | Error::Dead { .. })) if !dir.path().exists() => {}
            Ok(Err(e)) => warnings.push(e.to_string()),
            Err(_) => warnings.push(format!("the supervisor did not answer within {SUPERVISOR_WITHIN:?}")),
        }
    }
    if dir.path().exists() {
        warnings.extend(clear(&dir).await);
    }
    Ok(warnings)
}

async fn ask(dir: &LabDir) -> Result<(), Error> {
    let mut client = Client::connect(dir).await?;
    client.send(&Request::Down).await?;
    while let Some(answer) = client.next().await? {
        match answer {
            Answer::Done => break,
            Answer::Error(failure) => return Err(Error::Remote(failure)),
            _ => {}
        }
    }
    Ok(())
}

/// Ends every process that the lab noted and removes its folder. Collects what fails instead of stopping at it.
pub async fn clear(dir: &LabDir) -> Vec<String> {
    let mut warnings = Vec::new();
    // The supervisor notes itself first, and is ended first: it would report its machines' end as a crash.
    for process in dir.processes() {
        if let Err(e) = end(&process).await {
            warnings.push(format!("{} (process {}): {e}", process.what, process.pid));
        }
    }
    warnings.extend(runtimes::sweep(dir).await);
    if let Err(e) = std::fs::remove_dir_all(dir.path())
        && e.kind() != std::io::ErrorKind::NotFound
    {
        warnings.push(format!("{}: {e}", dir.path().display()));
    }
    warnings
}

/// Kills a process, unless its number belongs to another by now, and waits until it is gone.
async fn end(process: &Process) -> Result<(), String> {
    if !process.is_alive() || process.pid == std::process::id() {
        return Ok(());
    }
    let pid = Pid::from_raw(i32::try_from(process.pid).map_err(|e| e.to_string())?);
    match kill(pid, Signal::SIGKILL) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(e) => return Err(e.to_string()),
    }
    let deadline = Instant::now() + DIES_WITHIN;
    while process.is_alive() {
        if Instant::now() > deadline {
            return Err("does not die".into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
