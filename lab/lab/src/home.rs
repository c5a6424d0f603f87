//! Where a lab lives: a thread of its own with an async runtime of its own.
//!
//! A lab must work whatever its test does. Its docker sockets must answer while a test waits in `std::process::Command`.
//! `Drop` must take it down although it cannot await, even if the test's runtime has one thread. So nothing of a lab runs
//! on its user's runtime. docs/adr/0013 says more.

use std::{
    future::Future,
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use labctl_machines::{Event, Events};
use labctl_runtime::supervisor;
use labctl_state::{LabDir, Lock};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::Error;

/// Threads of a lab's runtime, as many as a supervisor has.
const WORKERS: usize = 2;

/// How long calls that nobody awaits any more may take to end.
const CALLS_END: Duration = Duration::from_secs(5);

/// How long taking a lab down may take. Each part of it has its own, shorter limit.
const DOWN: Duration = Duration::from_secs(60);

/// How long threads that read a capture may take to notice its end.
const THREADS_END: Duration = Duration::from_secs(1);

/// What to take down at the end.
pub(crate) struct Held {
    pub(crate) lab: Arc<labctl_runtime::RunningLab>,
    pub(crate) dir: LabDir,
    /// Marks the lab as alive while it is open.
    pub(crate) lock: Arc<Lock>,
}

/// The thread of a lab. Dropping it takes down what it holds, and waits for that.
pub(crate) struct Home {
    handle: Handle,
    calls: TaskTracker,
    held: Arc<Mutex<Option<Held>>>,
    stop: CancellationToken,
    ended: Option<oneshot::Receiver<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Home {
    /// Starts the thread.
    pub(crate) fn start(lab: &str) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name(format!("lab {lab}"))
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let handle = runtime.handle().clone();
        let (calls, stop) = (TaskTracker::new(), CancellationToken::new());
        let held: Arc<Mutex<Option<Held>>> = Arc::default();
        let (tell, ended) = oneshot::channel();
        let main = {
            let (calls, stop, held) = (calls.clone(), stop.clone(), held.clone());
            move || {
                let warnings = runtime.block_on(async {
                    stop.cancelled().await;
                    calls.close();
                    let _ = tokio::time::timeout(CALLS_END, calls.wait()).await;
                    let held = held.lock().unwrap_or_else(PoisonError::into_inner).take();
                    match held {
                        Some(held) => take_down(held).await,
                        None => Vec::new(),
                    }
                });
                runtime.shutdown_timeout(THREADS_END);
                let _ = tell.send(warnings);
            }
        };
        let thread =
            std::thread::Builder::new().name(format!("lab {lab}")).spawn(main).map_err(Error::Thread)?;
        Ok(Self { handle, calls, held, stop, ended: Some(ended), thread: Some(thread) })
    }

    /// The place for what the thread takes down; filled as soon as there is something.
    pub(crate) fn held(&self) -> Arc<Mutex<Option<Held>>> {
        self.held.clone()
    }

    /// Runs `work` on the lab's runtime. Dropping the returned future aborts the work.
    pub(crate) async fn run<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        E: Send + 'static,
        Error: From<E>,
    {
        match AbortOnDropHandle::new(self.calls.spawn_on(work, &self.handle)).await {
            Ok(done) => Ok(done?),
            Err(e) if e.is_panic() => resume_unwind(e.into_panic()),
            Err(_) => Err(labctl_runtime::Error::Cancelled.into()),
        }
    }

    /// Lets `labctl` look into a lab that is up.
    pub(crate) fn attend(&self, lab: Arc<labctl_runtime::RunningLab>, lock: Arc<Lock>) {
        self.handle.spawn(async move {
            if let Err(e) = supervisor::attend(lab, &lock).await {
                tracing::warn!("{e}");
            }
        });
    }

    /// Returns a sender; its events are passed to `tell` on the lab's thread.
    pub(crate) fn events(&self, mut tell: impl FnMut(Event) + Send + 'static) -> Events {
        let (events, mut heard) = Events::channel();
        self.handle.spawn(async move {
            while let Some(event) = heard.recv().await {
                tell(event);
            }
        });
        events
    }

    /// Takes down what it holds. Returns what could not be cleared.
    pub(crate) async fn end(mut self) -> Vec<String> {
        self.stop.cancel();
        match self.ended.take() {
            Some(ended) => ended.await.unwrap_or_default(),
            None => Vec::new(),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of a lab panicked; `labctl down` clears what is left");
        }
        if let Some(warnings) = self.ended.take().and_then(|mut ended| ended.try_recv().ok()) {
            warnings.iter().for_each(|w| tracing::warn!("{w}"));
        }
    }
}

async fn take_down(held: Held) -> Vec<String> {
    let Held { lab, dir, lock } = held;
    let mut warnings = match tokio::time::timeout(DOWN, lab.down()).await {
        Ok(warnings) => warnings,
        Err(_) => vec![format!("not down within {} s", DOWN.as_secs())],
    };
    warnings.extend(labctl_machines::clear::clear(&dir, &lock).await);
    warnings
}
