//! Starts children that die with this process.
//!
//! The signal that the kernel sends a child when its parent dies is bound to the *thread* that made it (prctl(2),
//! PR_SET_PDEATHSIG), and an async runtime's threads come and go. So one thread that lives as long as the process makes
//! them all.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// How long a killed process may take to be gone; the kernel frees its memory first.
pub const GONE: Duration = Duration::from_secs(10);

/// Pause between two looks at processes that are ending.
const LOOK: Duration = Duration::from_millis(5);

type Work = Box<dyn FnOnce() + Send>;

/// Sends work to the thread; `None` if it could not be made.
static THREAD: OnceLock<Option<Sender<Work>>> = OnceLock::new();

/// Children that were dropped without being waited for, and when.
static LEFT: Mutex<Vec<(Pid, Instant)>> = Mutex::new(Vec::new());

/// A child that dies with this process, or when dropped. [`settled`] waits for children that nobody waited for.
#[derive(Debug)]
pub struct Tied(Child);

impl Deref for Tied {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Tied {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        // It has no pid once it was waited for. `kill_on_drop` kills it after this.
        if let Some(pid) = self.0.id().and_then(|pid| i32::try_from(pid).ok()) {
            left().push((Pid::from_raw(pid), Instant::now()));
        }
    }
}

/// Starts `command`, killed when this process ends. It inherits `keep` under the same numbers, and no capabilities
/// except, with `any_file`, the one to open any file.
///
/// # Errors
/// Those of fork and exec.
pub async fn spawn(mut command: Command, keep: Vec<OwnedFd>, any_file: bool) -> io::Result<Tied> {
    crate::sys::tie(&mut command, keep, any_file);
    on_thread(command).await
}

/// Starts `command`, ended by SIGTERM when this process ends, with this process's rights.
///
/// # Errors
/// Those of fork and exec.
pub async fn spawn_as_user(mut command: Command) -> io::Result<Tied> {
    crate::sys::end_with_parent(&mut command);
    on_thread(command).await
}

async fn on_thread(mut command: Command) -> io::Result<Tied> {
    let runtime = Handle::current();
    let start = move || {
        let _inside = runtime.enter();
        command.kill_on_drop(true).spawn().map(Tied)
    };
    let started = on(THREAD.get_or_init(|| thread().ok()), start);
    started.await.map_err(|_| io::Error::other("the thread that starts machines has ended"))?
}

/// Waits until earlier starts are done, and until children that nobody waits for are gone: a start that was given up
/// leaves one. Gives up after some ten seconds.
pub async fn settled() {
    // No thread, no children.
    let Some(thread) = THREAD.get() else { return };
    // The thread does one thing at a time. If it is gone, that is no error here.
    let _ = tokio::time::timeout(GONE, on(thread, || ())).await;
    while any_left() {
        tokio::time::sleep(LOOK).await;
    }
}

fn thread() -> io::Result<Sender<Work>> {
    let (sender, works) = channel::<Work>();
    let run = move || works.into_iter().for_each(|work| work());
    std::thread::Builder::new().name("machines".into()).spawn(run)?;
    Ok(sender)
}

/// Runs `work` on the thread. It runs even if nobody waits any more; its result is then dropped there.
fn on<T: Send + 'static>(
    thread: &Option<Sender<Work>>,
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (done, result) = oneshot::channel();
    let work = Box::new(move || drop(done.send(work())));
    if let Some(thread) = thread {
        // If it cannot be sent, `done` is dropped with it, which the receiver notices.
        let _ = thread.send(work);
    }
    result
}

fn left() -> MutexGuard<'static, Vec<(Pid, Instant)>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn any_left() -> bool {
    // Looks without reaping, which tokio does. A process has ended only when its last thread has.
    let how = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let runs = |pid| matches!(waitid(Id::Pid(pid), how), Ok(WaitStatus::StillAlive));
    let mut left = left();
    left.retain(|(pid, since)| since.elapsed() < GONE && runs(*pid));
    !left.is_empty()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_child_that_nobody_waits_for_is_gone_once_settled() {
        // Nobody else's argument.
        let nap = format!("60.{:06}", std::process::id());
        let sleep = || {
            let mut command = Command::new("sleep");
            command.arg(&nap);
            command
        };
        let is_asleep = || {
            std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
                let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(&nap)
            })
        };
        let child = spawn(sleep(), Vec::new(), false).await.unwrap();
        // Its arguments show a moment after it was started.
        while !is_asleep() {
            tokio::time::sleep(LOOK).await;
        }
        drop(child);
        settled().await;
        assert!(!is_asleep(), "it was dropped");
        for _ in 0..10 {
            tokio::select! {
                biased;
                started = spawn(sleep(), Vec::new(), false) => drop(started),
                () = std::future::ready(()) => {}
            }
            settled().await;
            assert!(!is_asleep(), "its start was given up");
        }
    }
}
