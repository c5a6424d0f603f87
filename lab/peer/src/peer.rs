//! The handles of a peer and of its sessions.

use std::{io, os::unix::net::UnixStream, time::Duration};

use labctl_model::Protocol;
use labctl_protocol::{
    frames::{Gathered, Marks},
    messages::{SeenFrame, Shot, ShotResult, Sighting},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::Instant,
};

use crate::{
    Config,
    station::{Command, Station},
};

/// The peer's task has ended: its port of the wire is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("peer `{0}` is not on the wire any more")]
pub struct Gone(pub String);

/// A station on the wire. Dropping it takes it off.
#[derive(Debug)]
pub struct Peer {
    name: String,
    commands: mpsc::UnboundedSender<Command>,
    task: AbortHandle,
}

impl Peer {
    /// Starts a peer at the end of `stream`, which carries frames like the wire's connected ports (a 32-bit big-endian
    /// length, then the frame). Call it within a tokio runtime.
    ///
    /// # Errors
    /// If the stream cannot be watched.
    pub fn start(config: Config, stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let stream = tokio::net::UnixStream::from_std(stream)?;
        let (commands, orders) = mpsc::unbounded_channel();
        let name = config.name.clone();
        let task = tokio::spawn(Station::new(config, Instant::now()).live(stream, orders)).abort_handle();
        Ok(Self { name, commands, task })
    }

    /// Begins a probe session: listens on these ports in the peer's name and watches for the run's packets. An earlier
    /// session ends.
    ///
    /// # Errors
    /// [`Gone`] if the peer has ended.
    pub fn open(&self, run: u64, listeners: Vec<(Protocol, u16)>) -> Result<Session, Gone> {
        let session = Session { name: self.name.clone(), run, commands: self.commands.clone() };
        session.send(Command::Open { run, listeners })?;
        Ok(session)
    }

    /// Sends a frame as it is. Returns when the wire has it.
    ///
    /// # Errors
    /// [`Gone`] if the peer has ended.
    pub async fn send(&self, frame: Vec<u8>) -> Result<(), Gone> {
        self.ask(|done| Command::Send { frame, done }).await
    }

    /// Begins to watch for the frames of a run. UDP to one of `vxlan_ports` is read as VXLAN. After this returns, no such
    /// frame is missed.
    ///
    /// # Errors
    /// [`Gone`] if the peer has ended.
    pub async fn watch(&self, run: u64, marks: Marks, vxlan_ports: Vec<u16>) -> Result<Watch, Gone> {
        let gathered = Gathered::new(marks, vxlan_ports);
        self.ask(|ready| Command::Watch { run, gathered, ready }).await?;
        Ok(Watch { name: self.name.clone(), run, commands: self.commands.clone() })
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Gone> {
        ask(&self.name, &self.commands, command).await
    }
}

/// Gives a command and waits for its answer.
async fn ask<T>(
    name: &str,
    commands: &mpsc::UnboundedSender<Command>,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<T, Gone> {
    let (reply, answer) = oneshot::channel();
    let gone = || Gone(name.to_owned());
    commands.send(command(reply)).map_err(|_| gone())?;
    answer.await.map_err(|_| gone())
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An open probe session. Dropping it closes its listeners.
#[derive(Debug)]
pub struct Session {
    name: String,
    run: u64,
    commands: mpsc::UnboundedSender<Command>,
}

impl Session {
    fn gone(&self) -> Gone {
        Gone(self.name.clone())
    }

    fn send(&self, command: Command) -> Result<(), Gone> {
        self.commands.send(command).map_err(|_| self.gone())
    }

    /// Fires all shots at once and returns every result, in order of arrival. Waits `deadline` for silent ones. A peer has
    /// no resolver: shots at names give [`labctl_protocol::messages::Outcome::Failed`].
    ///
    /// # Errors
    /// [`Gone`] if the peer has ended.
    pub async fn fire(&self, shots: Vec<Shot>, deadline: Duration) -> Result<Vec<ShotResult>, Gone> {
        let expected = shots.len();
        let (results, mut came) = mpsc::unbounded_channel();
        self.send(Command::Fire { run: self.run, shots, deadline, results })?;
        let mut all = Vec::with_capacity(expected);
        while all.len() < expected {
            all.push(came.recv().await.ok_or_else(|| self.gone())?);
        }
        Ok(all)
    }

    /// The packets of the run seen so far, in order of time.
    ///
    /// # Errors
    /// [`Gone`] if the peer has ended.
    pub async fn sightings(&self) -> Result<Vec<Sighting>, Gone> {
        ask(&self.name, &self.commands, |reply| Command::Sightings { run: self.run, reply }).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A peer that is gone has closed everything already.
        let _ = self.commands.send(Command::Close { run: self.run });
    }
}

/// A watch for the frames of a run. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    name: String,
    run: u64,
    commands: mpsc::UnboundedSender<Command>,
}

impl Watch {
    /// The frames that passed the peer's interface so far, and how many more of the run were not recorded because there
    /// were too many kinds.
    ///
    /// # Errors
    /// [`Gone`] if the peer has ended.
    pub async fn seen(&self) -> Result<(Vec<SeenFrame>, u64), Gone> {
        ask(&self.name, &self.commands, |reply| Command::Seen { run: self.run, reply }).await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A peer that is gone watches no more.
        let _ = self.commands.send(Command::Unwatch { run: self.run });
    }
}
