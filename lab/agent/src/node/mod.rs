//! PID 1 of a lab host that is a container.
//!
//! Such a host shares its kernel, so we touch nothing outside of its own namespaces. We make the mounts that a nested
//! dockerd needs, reset IPv4 settings to those after boot, let look-ups fail at once, and make a TAP for each NIC, which
//! goes to the wire. From then on PID 1 only reaps children, until it is told to end or the wire lets go of every NIC:
//! labctl is gone then.

mod mounts;
mod settings;
pub mod tap;

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use labctl_protocol::node::{AGENT, FOLDER};
use nix::{
    errno::Errno,
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};
use rtnetlink::LinkUnspec;
use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use crate::{
    engine::Engine,
    netlink::{Netlink, NetlinkError},
    netns::Namespace,
    network,
};

/// File that exists once the node is ready to be used.
const READY: &str = "/run/labctl-ready";

/// How long a node may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The kernel's boot id, unique to each boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Contents of /etc/resolv.conf. Nothing listens there, so look-ups are refused at once: else dockerd would wait 25 s
/// for a registry before it uses a local image.
const RESOLV_CONF: &str = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";

/// Command line of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The boot id of labctl's machine. If it differs here, the container runs elsewhere, which is an error.
    pub boot_id: Option<String>,
    /// Name and MAC of each NIC.
    pub nics: Vec<(String, [u8; 6])>,
    /// Whether to start a dockerd with its defaults too.
    pub engine: bool,
}

impl Options {
    /// Parses the arguments after `node`; `None` if they are invalid.
    pub fn parse(words: &[&str]) -> Option<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--engine" => options.engine = true,
                "--boot-id" => options.boot_id = Some((*words.next()?).to_owned()),
                "--nic" => {
                    let (name, mac) = words.next()?.split_once('=')?;
                    options.nics.push((name.to_owned(), mac_of(mac)?));
                }
                _ => return None,
            }
        }
        Some(options)
    }
}

fn mac_of(text: &str) -> Option<[u8; 6]> {
    let octets: Option<Vec<u8>> =
        text.split(':').map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2)).collect();
    octets?.try_into().ok()
}

/// Why a container did not become a node. Printed to its log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written, or a call failed.
    #[error("{what}: {error}")]
    Io {
        /// On what.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// An error of rtnetlink.
    #[error(transparent)]
    Network(#[from] NetlinkError),
    /// The daemon that started this container runs on another machine.
    #[error("this container runs on another kernel than labctl (boot id {here}, there {there})")]
    Elsewhere {
        /// Here.
        here: String,
        /// Where labctl runs.
        there: String,
    },
    /// The requested dockerd does not answer; the reason was printed.
    #[error("dockerd did not start")]
    Engine,
}

impl Error {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }
}

/// Runs until it is told to end.
///
/// # Errors
/// If the container cannot be made a node, or the requested dockerd does not start.
pub fn run(options: &Options) -> Result<(), Error> {
    on_this_kernel(options)?;
    mounts::prepare()?;
    settings::reset()?;
    fs::write("/etc/resolv.conf", RESOLV_CONF).map_err(Error::io("/etc/resolv.conf"))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::io("epoll"))?;
    runtime.block_on(async {
        let listen = |kind| signal(kind).map_err(Error::io("signal"));
        let mut children = listen(SignalKind::child())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let wire = plug_in(&options.nics).await?;
        fs::write(READY, "").map_err(Error::io(READY))?;
        say("ready");
        let engine = if options.engine { Some(start_engine()?) } else { None };
        let mut unplugged = std::pin::pin!(unplugged(wire));
        loop {
            tokio::select! {
                _ = children.recv() => match reap(engine) {
                    Some(true) => say("dockerd answers"),
                    Some(false) => return Err(Error::Engine),
                    None => {}
                },
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                () = &mut unplugged => return Ok(()),
            }
        }
    })
}

/// Waits until PID 1 of this container has made it a node.
///
/// # Errors
/// If it has not after 20 s.
pub async fn ready() -> io::Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    while !Path::new(READY).exists() {
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "PID 1 of this container is not ready"));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Starts a dockerd with its defaults and returns once it answers; it outlives this process.
///
/// # Errors
/// If it does not start: the end of its log.
pub async fn engine() -> anyhow::Result<()> {
    Ok(Engine::default().ensure(serde_json::Map::new()).await.map(drop)?)
}

fn on_this_kernel(options: &Options) -> Result<(), Error> {
    let Some(there) = &options.boot_id else { return Ok(()) };
    let here = fs::read_to_string(BOOT_ID).map_err(Error::io(BOOT_ID))?;
    if here.trim() == there {
        return Ok(());
    }
    Err(Error::Elsewhere { here: here.trim().to_owned(), there: there.clone() })
}

/// Writes one line to the container's log.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "labctl-node: {text}");
}

/// Makes the NICs and hands each to the wire; a connection stays open as long as the wire has its NIC.
async fn plug_in(nics: &[(String, [u8; 6])]) -> Result<Vec<UnixStream>, Error> {
    let namespace = Namespace::own().map_err(Error::io("/proc/self/ns/net"))?;
    let netlink = Netlink::open(&namespace).await?;
    // `lo` is the first interface of every network namespace.
    let lo = LinkUnspec::new_with_index(1).up().build();
    netlink.0.link().set(lo).execute().await.map_err(NetlinkError::of("set lo up"))?;
    let mut wire = Vec::new();
    for (name, mac) in nics {
        let tap = tap::make(name).map_err(Error::io(format!("make the TAP {name}")))?;
        let link = netlink.link(name).await?.ok_or_else(|| NetlinkError::NoInterface(name.clone()))?;
        network::set_mac(&netlink, &link, *mac).await?;
        let socket: PathBuf = Path::new(FOLDER).join(format!("{name}.sock"));
        let stream = tap::hand_over(tap, &socket).map_err(Error::io(socket.display().to_string()))?;
        wire.push(UnixStream::from_std(stream).map_err(Error::io(socket.display().to_string()))?);
    }
    Ok(wire)
}

/// Waits until the wire has let go of every NIC; for ever if there are none.
async fn unplugged(wire: Vec<UnixStream>) {
    if wire.is_empty() {
        std::future::pending::<()>().await;
    }
    for mut stream in wire {
        // Nothing arrives but the end of the stream.
        while let Ok(1..) = stream.read(&mut [0; 16]).await {}
    }
}

/// Starts dockerd from another process, because PID 1 itself reaps every child.
fn start_engine() -> Result<Pid, Error> {
    let child = Command::new(AGENT).arg("engine").spawn().map_err(Error::io(AGENT))?;
    // A process id always fits: Linux has at most 2^22.
    Ok(Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX)))
}

/// Reaps all dead children; returns whether `engine` succeeded if it was among them.
fn reap(engine: Option<Pid>) -> Option<bool> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
            Ok(status) if engine.is_some() && status.pid() == engine => {
                ended = Some(matches!(status, WaitStatus::Exited(_, 0)));
            }
            Ok(_) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nics_are_read_and_nonsense_is_not() {
        let options =
            Options::parse(&["--boot-id", "x-1", "--nic", "eth0=02:00:00:00:00:0a", "--engine"]).unwrap();
        assert_eq!(options.boot_id.as_deref(), Some("x-1"));
        assert_eq!(options.nics, [("eth0".to_owned(), [2, 0, 0, 0, 0, 10])]);
        assert!(options.engine);
        for bad in [&["--nic", "eth0"][..], &["--nic", "eth0=02:00"], &["--nic"], &["eth0"]] {
            assert_eq!(Options::parse(bad), None, "{bad:?}");
        }
    }
}
