//! The body of `labctl supervise DIR PID`: one process per lab that owns its wire, its machines and its agents, and answers
//! requests on the lab's control socket until the lab is taken down. A lab in its user's own process answers them
//! through [`attend`].

use std::{path::Path, sync::Arc, time::Duration};

use labctl_machines::{Events, forward::listen_private, runtimes};
use labctl_state::{LabDir, Lock};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    control::{self, protocol::Stage},
    lab::RunningLab,
    service::{LabService, Progress},
};

/// How long the client that began a lab may take to follow it.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);

/// The same for a lab that is being taken down, where somebody waits for the end.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// How often a lab that nobody has followed yet looks whether the client that began it lives.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long the last answers may take to reach their clients after the lab is gone.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Brings the lab of this folder up and serves it until it is taken down, by request or by signal. `begun_by` is our
/// parent, the client that follows us next.
///
/// # Errors
/// Our stdin is not the folder's lock, the control socket cannot be made, or the plan cannot be read. A failed bring-up
/// is no error here: followers get it as an answer, and the lab is taken down, or kept if its plan says so.
pub async fn run(dir: &Path, begun_by: u32) -> Result<(), Error> {
    let dir = LabDir::at(dir);
    let lock = Lock::inherited().map_err(Error::io("cannot use the lock of", dir.path()))?;
    if !dir.is_locked_by(&lock) {
        return Err(Error::Control(
            "a supervisor is started by `labctl up`, which hands it the lab's lock".into(),
        ));
    }
    let plan = dir.plan()?;
    dir.record_supervisor()?;
    let listener =
        listen_private(&dir.control_socket()).map_err(Error::io("cannot listen on", dir.control_socket()))?;
    let provider = runtimes::provider(&plan, &dir);
    let lab = Arc::new(RunningLab::new(plan, dir.clone(), provider));
    let progress = Progress::at(Stage::Starting);
    let stop = CancellationToken::new();
    let service = Arc::new(LabService::new(lab.clone(), progress.clone(), stop.clone()));
    let tracker = tokio_util::task::TaskTracker::new();
    let mut terminate =
        signal(SignalKind::terminate()).map_err(Error::io("cannot watch signals of", dir.path()))?;
    tokio::select! {
        () = control::serve(&listener, service.clone(), &tracker) => {}
        () = live(&lab, &progress, &stop) => {}
        () = forsaken(&progress, begun_by) => tracing::warn!("who began it is gone, and nobody has followed"),
        _ = terminate.recv() => {
            tracing::info!("asked to end by a signal");
            progress.send_modify(|p| p.end("a signal to its supervisor"));
        }
    }
    let patience = if stop.is_cancelled() { TOLD_WITHIN } else { FOLLOWED_WITHIN };
    progress.send_modify(|p| {
        if p.stage == Stage::Starting && p.failure.is_none() {
            p.failure = Some(p.taken_down(dir.name()).to_failure());
        }
        p.stage = Stage::Stopping;
    });
    // Tells all users of the lab that it ends. New requests are still answered: with its stage.
    stop.cancel();
    let end = async {
        let warnings = lab.down().await;
        told_why(&progress, patience).await;
        warnings
    };
    let mut warnings = tokio::select! {
        () = control::serve(&listener, service, &tracker) => Vec::new(),
        warnings = end => warnings,
    };
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    warnings.extend(dir.remove(&lock).err().map(|e| format!("{}: {e}", dir.path().display())));
    progress.send_modify(|p| p.gone = Some(warnings));
    tracker.close();
    let _ = tokio::time::timeout(LAST_WORDS, tracker.wait()).await;
    Ok(())
}

/// Answers requests for a lab that is up in this process until one of them takes it down, with its folder.
///
/// # Errors
/// The control socket cannot be made.
pub async fn attend(lab: Arc<RunningLab>, lock: &Lock) -> Result<(), Error> {
    let socket = lab.dir().control_socket();
    let listener = listen_private(&socket).map_err(Error::io("cannot listen on", &socket))?;
    let (progress, stop) = (Progress::at(Stage::Up), CancellationToken::new());
    let service = Arc::new(LabService::new(lab.clone(), progress.clone(), stop.clone()));
    let tracker = tokio_util::task::TaskTracker::new();
    tokio::select! {
        () = control::serve(&listener, service, &tracker) => {}
        () = stop.cancelled() => {}
    }
    progress.send_modify(|p| p.stage = Stage::Stopping);
    let mut warnings = lab.down().await;
    warnings.extend(lab.dir().remove(lock).err().map(|e| format!("{}: {e}", lab.dir().path().display())));
    progress.send_modify(|p| p.gone = Some(warnings));
    tracker.close();
    let _ = tokio::time::timeout(LAST_WORDS, tracker.wait()).await;
    Ok(())
}

/// Waits until a client was told: a bring-up can fail before the client that began it follows it.
async fn told_why(progress: &watch::Sender<Progress>, within: Duration) {
    let mut watch = progress.subscribe();
    let told = watch.wait_for(|p| p.failure.is_none() || p.told);
    let _ = tokio::time::timeout(within, told).await;
}

/// Returns once the client that began the lab has ended before anybody followed: it was killed, and nobody would take
/// the lab down. Once followed, the lab lives on, except for what [`LabService`] does when its owner ends.
async fn forsaken(progress: &watch::Sender<Progress>, begun_by: u32) {
    let mut watch = progress.subscribe();
    while std::os::unix::process::parent_id() == begun_by {
        // A `Ref` that lived on would keep everybody else from the value.
        let followed = async { watch.wait_for(|p| p.followed).await.is_ok() };
        if tokio::time::timeout(LOOK_EVERY, followed).await == Ok(true) {
            break;
        }
    }
    // It may have followed at the last moment, and have ended since.
    if progress.borrow().followed {
        std::future::pending().await
    }
}

/// Brings the lab up and keeps it up; returns when it is to be taken down.
async fn live(lab: &RunningLab, progress: &watch::Sender<Progress>, stop: &CancellationToken) {
    let (events, mut received) = Events::channel();
    let collect = async {
        while let Some(event) = received.recv().await {
            tracing::info!("{event}");
            progress.send_modify(|p| p.events.push(event));
        }
    };
    let bring_up = async {
        let result = lab.bring_up(&events).await;
        drop(events);
        result
    };
    let result = tokio::select! {
        (result, ()) = async { tokio::join!(bring_up, collect) } => result,
        () = stop.cancelled() => Err(progress.borrow().taken_down(lab.dir().name())),
    };
    match result {
        Ok(()) => {
            progress.send_modify(|p| p.stage = Stage::Up);
            stop.cancelled().await;
        }
        Err(e) => {
            tracing::error!("{e}");
            progress.send_modify(|p| p.failure = Some(e.to_failure()));
            if lab.plan().keep && !stop.is_cancelled() {
                progress.send_modify(|p| p.stage = Stage::Partial);
                stop.cancelled().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_lab_that_nobody_has_followed_is_forsaken() {
        let soon = 4 * LOOK_EVERY;
        let (parent, nobody) = (std::os::unix::process::parent_id(), 0);
        let progress = Progress::at(Stage::Starting);
        forsaken(&progress, nobody).await;
        let ended = tokio::time::timeout(soon, forsaken(&progress, parent)).await;
        assert!(ended.is_err(), "who began it may still follow");
        progress.send_modify(|p| p.followed = true);
        tokio::select! {
            () = forsaken(&progress, parent) => panic!("it was followed"),
            () = tokio::time::sleep(soon) => progress.send_modify(|p| p.told = true),
        }
    }
}
