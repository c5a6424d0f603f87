//! A peer and its sessions, as the one who runs the lab holds them.

use std::{io, net::Ipv4Addr, os::unix::net::UnixStream, time::Duration};

use ipnet::Ipv4Net;
use lab_agent::protocol::{Shot, ShotResult, Sighting};
use lab_model::Protocol;
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::Instant,
};

use crate::station::{Command, Station};

/// Who a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name in the lab.
    pub name: String,
    /// What its interface is called in reports: `eth0`.
    pub interface: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
    /// The segment's subnet.
    pub subnet: Ipv4Net,
    /// Next hop of its default route.
    pub gateway: Option<Ipv4Addr>,
    /// Further routes: prefix and next hop, or on the link.
    pub routes: Vec<(Ipv4Net, Option<Ipv4Addr>)>,
    /// Bytes of an IP packet at most.
    pub mtu: u16,
}

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
    /// Begins to live at the end of `stream`, which carries frames as the wire's connected ports do (a 32-bit
    /// big-endian length, then the frame). To be called within a tokio runtime.
    ///
    /// # Errors
    /// The stream cannot be watched.
    pub fn start(config: Config, stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let stream = tokio::net::UnixStream::from_std(stream)?;
        let (commands, orders) = mpsc::unbounded_channel();
        let name = config.name.clone();
        let task = tokio::spawn(Station::new(config, Instant::now()).live(stream, orders)).abort_handle();
        Ok(Self { name, commands, task })
    }

    /// Begins a probe session: listens on these ports, in the name of the peer, and watches for the run's packets. One
    /// that was open before ends.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn open(&self, run: u64, listeners: Vec<(Protocol, u16)>) -> Result<Session, Gone> {
        let session = Session { name: self.name.clone(), run, commands: self.commands.clone() };
        session.send(Command::Open { run, listeners })?;
        Ok(session)
    }
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

    /// Fires all shots at once and waits for every result, in order of arrival. What stays silent is waited for
    /// `deadline`. A peer has no resolver: shots at names come out as [`lab_agent::protocol::Outcome::Failed`].
    ///
    /// # Errors
    /// [`Gone`].
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

    /// What was seen of the run so far, in order of time.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn sightings(&self) -> Result<Vec<Sighting>, Gone> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Sightings { run: self.run, reply })?;
        answer.await.map_err(|_| self.gone())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A peer that is gone has closed everything already.
        let _ = self.commands.send(Command::Close { run: self.run });
    }
}
