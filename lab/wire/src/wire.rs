//! The handle of a running wire.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use indexmap::IndexMap;
use labctl_model::{Traffic, lab::Segment};
use mio::{Poll, Waker};
use tokio::{sync::oneshot, time::timeout};
use vxlan::MacAddr;

use crate::{
    Block, Capture, CaptureSpec, LinkState, PortSpec, Stats, Transport, WireError, WireState,
    command::{Command, NewPort, Reply, Socket},
    engine::{Engine, WAKER},
    frame::MAX_FRAME_LEN,
    listen::{self, SocketFile},
    port::Brings,
    switch::Switch,
};

/// How long the wire's thread may take to answer. It never blocks, so only an overloaded machine needs this long.
const ANSWER: Duration = Duration::from_secs(5);

/// A running wire: all segments of one lab. Dropping it stops it.
///
/// The async calls wait for the answer of the wire's thread, which takes microseconds. They need a tokio runtime with timers.
#[derive(Debug)]
pub struct Wire {
    commands: Sender<Command>,
    waker: Waker,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// By name of the port.
    sockets: Mutex<HashMap<String, SocketFile>>,
}

impl Wire {
    /// Opens the ports' sockets and starts the thread; once this returns, QEMU can connect.
    ///
    /// # Errors
    /// If a port's name is taken, its segment is unknown, or a socket cannot be made. Then no socket is left.
    pub fn start(segments: &IndexMap<String, Segment>, ports: Vec<PortSpec>) -> Result<Self, WireError> {
        let system = |what| move |source| WireError::System { what, source };
        let poll = Poll::new().map_err(system("make an event loop"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(system("make a waker"))?;
        let (commands, receiver) = channel();
        let macs: Vec<_> = ports.iter().map(|port| MacAddr(port.mac)).collect();
        let mut engine = Engine::new(poll, receiver, Switch::new(segments, &macs));
        let mut sockets = HashMap::new();
        for spec in ports {
            let name = spec.name.clone();
            let (port, socket) = open(spec)?;
            engine.add_port(port)?;
            sockets.extend(socket.map(|socket| (name, socket)));
        }
        let thread = std::thread::Builder::new()
            .name("wire".into())
            .spawn(move || engine.run())
            .map_err(system("start the wire's thread"))?;
        Ok(Self { commands, waker, thread: Mutex::new(Some(thread)), sockets: Mutex::new(sockets) })
    }

    /// Adds a port to the running wire.
    ///
    /// # Errors
    /// Those of [`Wire::start`].
    pub async fn add_port(&self, spec: PortSpec) -> Result<(), WireError> {
        let name = spec.name.clone();
        let (port, socket) = open(spec)?;
        self.ask(|reply| Command::AddPort { port, reply }).await?;
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.extend(socket.map(|socket| (name, socket)));
        Ok(())
    }

    /// Removes a port, its connection and its socket.
    ///
    /// # Errors
    /// If there is no such port.
    pub async fn remove_port(&self, name: &str) -> Result<(), WireError> {
        self.ask(|reply| Command::RemovePort { name: name.into(), reply }).await?;
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    /// Cuts or heals a port or one of its directions. The host's NIC keeps its carrier, as behind a failed switch.
    ///
    /// # Errors
    /// If there is no such port.
    pub async fn set_link(&self, port: &str, state: LinkState) -> Result<(), WireError> {
        self.ask(|reply| Command::SetLink { port: port.into(), state, reply }).await
    }

    /// Begins to drop something on a segment, until [`Wire::unblock`]. Adding the same block twice is no error.
    ///
    /// # Errors
    /// If there is no such segment, or no such port on it.
    pub async fn block(&self, segment: &str, block: Block) -> Result<(), WireError> {
        self.ask(|reply| Command::Block { segment: segment.into(), block, reply }).await
    }

    /// Ends the blocks of a segment that have the given filter and ports; `None` means any. Returns how many ended.
    ///
    /// # Errors
    /// If there is no such segment, or no such port on it.
    pub async fn unblock(
        &self,
        segment: &str,
        filter: Option<Traffic>,
        from: Option<String>,
        to: Option<String>,
    ) -> Result<usize, WireError> {
        self.ask(|reply| Command::Unblock { segment: segment.into(), filter, from, to, reply }).await
    }

    /// Begins to record a segment: every frame once, as it enters, dropped ones included.
    ///
    /// # Errors
    /// If there is no such segment, or a limit is out of range.
    pub async fn capture(&self, segment: &str, spec: CaptureSpec) -> Result<Capture, WireError> {
        self.ask(|reply| Command::Capture { segment: segment.into(), spec, reply }).await
    }

    /// Sends a frame into a segment as a station there would: it is switched, learned, recorded and answered like any
    /// other. It comes in by a port of its own ([`station_port`]), which also takes the frames to that source. If the source
    /// MAC belongs to another station, its frames go to this port until it sends again, as on any switch.
    ///
    /// If a host takes frames more slowly than they come, further ones are dropped; a capture shows that.
    ///
    /// # Errors
    /// If there is no such segment, or the frame is longer than [`MAX_FRAME_LEN`](crate::MAX_FRAME_LEN).
    pub async fn inject(&self, segment: &str, frame: &[u8]) -> Result<(), WireError> {
        if frame.len() > MAX_FRAME_LEN {
            return Err(WireError::FrameTooLong(frame.len()));
        }
        self.ask(|reply| Command::Inject { segment: segment.into(), frame: frame.into(), reply }).await
    }

    /// Returns the counters.
    ///
    /// # Errors
    /// If the wire has stopped.
    pub async fn stats(&self) -> Result<Stats, WireError> {
        self.ask(|reply| Command::Stats { reply }).await
    }

    /// Returns what it has learned and was told.
    ///
    /// # Errors
    /// If the wire has stopped.
    pub async fn save(&self) -> Result<WireState, WireError> {
        self.ask(|reply| Command::Save { reply }).await
    }

    /// Learns and does what another wire had ([`Wire::save`]). Every NIC must be connected, or about to be accepted.
    ///
    /// # Errors
    /// If the other wire had ports or segments that this one lacks.
    pub async fn restore(&self, state: WireState) -> Result<(), WireError> {
        self.ask(|reply| Command::Restore { state, reply }).await
    }

    /// Ends the thread and removes the sockets; running captures end. Doing so twice is no error.
    ///
    /// # Errors
    /// If the thread had panicked, which is a bug.
    pub fn stop(&self) -> Result<(), WireError> {
        // Fails if the thread has ended already; then it need not be told.
        drop(self.commands.send(Command::Stop));
        drop(self.waker.wake());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ended = thread.map_or(Ok(()), JoinHandle::join);
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clear();
        ended.map_err(|_| WireError::Stopped)
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, WireError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| WireError::Stopped)?;
        self.waker.wake().map_err(|source| WireError::System { what: "wake the wire's thread", source })?;
        match timeout(ANSWER, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(WireError::Stopped),
            Err(_) => Err(WireError::NoAnswer(ANSWER)),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the wire's thread had ended by itself");
        }
    }
}

/// Opens the socket that the port listens on, if it has one.
fn open(spec: PortSpec) -> Result<(NewPort, Option<SocketFile>), WireError> {
    let (socket, file) = match spec.transport {
        Transport::QemuStream { listen } => {
            let (listener, file) = listen::listen(&listen)?;
            (Socket::Listening(listener, Brings::Frames), Some(file))
        }
        Transport::Tap { listen } => {
            let (listener, file) = listen::listen(&listen)?;
            (Socket::Listening(listener, Brings::Tap), Some(file))
        }
        Transport::Connected(stream) => {
            stream
                .set_nonblocking(true)
                .map_err(|source| WireError::System { what: "make a stream non-blocking", source })?;
            (Socket::Connected(mio::net::UnixStream::from_std(stream)), None)
        }
        Transport::Datagrams(socket) => (Socket::Datagrams(socket.into()), None),
    };
    Ok((NewPort { name: spec.name, segment: spec.segment, mac: MacAddr(spec.mac), socket }, file))
}
