//! Starts children that die with this process.
//!
//! The signal that the kernel sends a child on its parent's death is bound to the *thread* that made it (prctl(2),
//! PR_SET_PDEATHSIG), and threads of an async runtime come and go. So one thread, which lives as long as the process,
//! makes them all.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

struct Job {
    command: Command,
    runtime: Handle,
    done: oneshot::Sender<io::Result<Child>>,
}

/// Starts `command`, killed when this process ends, which inherits `keep` under the same numbers.
///
/// # Errors
/// Those of fork and exec.
pub async fn spawn(mut command: Command, keep: Vec<OwnedFd>) -> io::Result<Child> {
    crate::sys::tie(&mut command, keep);
    let (done, started) = oneshot::channel();
    let job = Job { command, runtime: Handle::current(), done };
    let gone = || io::Error::other("the thread that starts machines has ended");
    {
        static THREAD: OnceLock<Mutex<Option<Sender<Job>>>> = OnceLock::new();
        let thread = THREAD.get_or_init(|| Mutex::new(start().ok()));
        let sender = thread.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().and_then(|s| s.send(job).ok()).ok_or_else(gone)?;
    }
    started.await.map_err(|_| gone())?
}

fn start() -> io::Result<Sender<Job>> {
    let (sender, jobs) = channel::<Job>();
    let work = move || {
        for Job { mut command, runtime, done } in jobs {
            let _inside = runtime.enter();
            // Whoever asked may be gone; the child then dies with the handle (kill_on_drop).
            let _ = done.send(command.kill_on_drop(true).spawn());
        }
    };
    std::thread::Builder::new().name("machines".into()).spawn(work)?;
    Ok(sender)
}
