//! Network namespaces. A thread that enters one ends there, so that no thread of the runtime is left in the wrong
//! namespace. Sockets stay in the namespace where they were made and can be used from anywhere.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    sync::Arc,
    thread,
};

use nix::sched::{CloneFlags, setns};
use tokio::{runtime::Handle, sync::oneshot};

/// An open network namespace. It keeps the namespace alive.
#[derive(Clone, Debug)]
pub struct Namespace {
    file: Arc<File>,
    id: (u64, u64),
}

impl Namespace {
    /// Opens that of this process's main thread.
    pub fn own() -> io::Result<Self> {
        Self::open("/proc/self/ns/net")
    }

    /// Opens that of a process.
    pub fn of_pid(pid: u32) -> io::Result<Self> {
        Self::open(&format!("/proc/{pid}/ns/net"))
    }

    /// Opens that of an nsfs file, such as one in /run/netns.
    pub fn open(path: &str) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        Ok(Self { file: Arc::new(file), id: (meta.dev(), meta.ino()) })
    }

    /// Equal for two handles of the same namespace, and only then.
    pub fn id(&self) -> (u64, u64) {
        self.id
    }

    /// A new descriptor of it, for setns in a child.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned()
    }

    /// Runs `work` on its own thread within the namespace; `work` can register sockets with the runtime.
    pub async fn run<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let namespace = self.clone();
        on_thread(move || namespace.enter().and_then(|()| work())).await?
    }

    fn enter(&self) -> io::Result<()> {
        Ok(setns(&*self.file, CloneFlags::CLONE_NEWNET)?)
    }
}

/// [`Namespace::run`] with each of these inputs in turn, each in its namespace, on one thread.
///
/// # Errors
/// There can be no thread.
pub async fn run_in_each<I, T, F>(inputs: Vec<(Namespace, I)>, work: F) -> io::Result<Vec<io::Result<T>>>
where
    I: Send + 'static,
    T: Send + 'static,
    F: Fn(I) -> io::Result<T> + Send + 'static,
{
    let one = move |(namespace, input): (Namespace, I)| namespace.enter().and_then(|()| work(input));
    on_thread(move || inputs.into_iter().map(one).collect()).await
}

async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let runtime = Handle::current();
    thread::Builder::new().name("netns".into()).stack_size(256 << 10).spawn(move || {
        let _runtime = runtime.enter();
        // The caller may be gone.
        let _ = done.send(work());
    })?;
    result.await.map_err(|_| io::Error::other("the thread in the namespace died"))
}
