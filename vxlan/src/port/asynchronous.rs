//! Ports for async code.

use std::io;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Port, sys};

/// A port under tokio.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use vxlan::port::{AsyncPort, Batch, PacketPort, index_of};
///
/// let port = AsyncPort::new(PacketPort::open(index_of("eth0")?, None)?)?;
/// let mut batch = Batch::new(64, 2048);
/// port.receive(|port| port.recv_batch(&mut batch)).await?;
/// for received in batch.iter() {
///     println!("{}", vxlan::describe(&received.frame()));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncPort<P: Port>(AsyncFd<P>);

impl<P: Port> AsyncPort<P> {
    /// Registers the port with the current runtime.
    ///
    /// # Errors
    /// Those of epoll(7).
    ///
    /// # Panics
    /// If called outside a tokio runtime with I/O.
    pub fn new(port: P) -> io::Result<Self> {
        sys::watch(port).map(Self)
    }

    /// Waits until there is something to receive, then does `what`; repeats if that would block.
    ///
    /// # Errors
    /// Those of `what`.
    pub async fn receive<T>(&self, what: impl FnMut(&P) -> io::Result<T>) -> io::Result<T> {
        self.0.async_io(Interest::READABLE, what).await
    }

    /// Waits until there is room to send, then does `what`; repeats if that would block.
    ///
    /// # Errors
    /// Those of `what`.
    pub async fn send<T>(&self, what: impl FnMut(&P) -> io::Result<T>) -> io::Result<T> {
        self.0.async_io(Interest::WRITABLE, what).await
    }

    /// The port.
    pub fn get(&self) -> &P {
        self.0.get_ref()
    }
}
