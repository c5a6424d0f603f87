//! PID 1 of a lab host that is a virtual machine.
//!
//! The kernel starts this binary as `/init` of the initial RAM disk. It loads the kernel modules from there, puts a
//! writable layer in RAM over the read-only root image, makes that the root, and starts `labctl-agent serve` as its
//! child. From then on it only reaps dead processes and restarts the agent.
//!
//! Contract with the node image: `/modules/` holds the modules and `/modules/order`, one file name per line, each
//! after those it needs; the root image is the first virtio disk, ext4.

mod modules;
mod mounts;
mod runc;
mod watch;

use std::fmt::Arguments;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use labctl_protocol::messages::SHORTCUTS;
use nix::sys::reboot::{RebootMode, reboot};
use rtnetlink::LinkUnspec;

/// Folder with the virtio-serial ports by name, as udev makes it.
pub const PORTS: &str = "/dev/virtio-ports";

/// The kernel's command line (proc(5)).
const COMMAND_LINE: &str = "/proc/cmdline";

/// Why a guest did not come up. Printed on the console; the machine then powers off, so that labctl sees it end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of the guest could not be read or made.
    #[error("{}: {source}", path.display())]
    File {
        /// The path it is about.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A mount failed.
    #[error("cannot mount {}: {errno}", target.display())]
    Mount {
        /// Where it should be mounted.
        target: PathBuf,
        /// What the kernel said.
        errno: nix::errno::Errno,
    },
    /// The disk with the root image did not appear.
    #[error("no disk {0} with the root image: the machine has none, or its driver did not load")]
    NoRoot(&'static str),
    /// The loopback interface did not come up.
    #[error("cannot set lo up: {0}")]
    Loopback(#[source] rtnetlink::Error),
    /// The agent died too often.
    #[error("the agent died {0} times in a row: giving up")]
    AgentDies(u32),
}

impl Error {
    fn file(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File { path, source }
    }
}

/// Runs as PID 1 until the machine is powered off; never returns.
pub fn run() -> ! {
    if let Err(error) = start() {
        say(format_args!("fatal: {error}"));
    }
    power_off()
}

fn start() -> Result<(), Error> {
    mounts::early()?;
    for skipped in modules::load(Path::new("/modules"))? {
        say(format_args!("skipped: {skipped}"));
    }
    mounts::root()?;
    mounts::system()?;
    no_fallback_tunnels()?;
    mounts::name_ports()?;
    if fs::read_to_string(COMMAND_LINE)
        .is_ok_and(|line| line.split_ascii_whitespace().any(|w| w == SHORTCUTS))
    {
        runc::prepare(crate::engine::PATH)?;
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::file("epoll"))?;
    runtime.block_on(async {
        loopback_up().await?;
        say(format_args!("up, the kernel's clock at {} s", uptime()));
        watch::agent(Path::new(crate::runc::AGENT)).await
    })
}

/// Stops loaded tunnel modules from adding `tunl0`, `gre0` and the like to every new namespace: a container in none mode
/// must have only `lo` (Linux, admin-guide/sysctl/net.rst).
fn no_fallback_tunnels() -> Result<(), Error> {
    let path = "/proc/sys/net/core/fb_tunnels_only_for_init_net";
    fs::write(path, "2").map_err(Error::file(path))
}

/// Writes one line to the console, which labctl keeps in the lab's folder.
fn say(line: Arguments<'_>) {
    // Without a console there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "labctl-init: {line}");
}

fn uptime() -> String {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

/// Sets `lo` up before anything else runs: look-ups go to 127.0.0.1 and fail at once only if `lo` can refuse them.
async fn loopback_up() -> Result<(), Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::file("netlink"))?;
    let connection = tokio::spawn(connection);
    // `lo` is the first interface of every network namespace.
    let up = handle.link().set(LinkUnspec::new_with_index(1).up().build()).execute().await;
    connection.abort();
    up.map_err(Error::Loopback)
}

fn power_off() -> ! {
    nix::unistd::sync();
    // Fails only without CAP_SYS_BOOT, which PID 1 of a machine has.
    let _ = reboot(RebootMode::RB_POWER_OFF);
    loop {
        std::thread::park();
    }
}
