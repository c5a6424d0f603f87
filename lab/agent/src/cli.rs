//! The agent's command line.

use std::{
    ffi::{OsStr, OsString},
    io::Write,
    net::IpAddr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use labctl_protocol::{
    made::{FOREIGN, OWN},
    messages::VIRTIO_PORT,
};
use tracing_subscriber::EnvFilter;

use crate::{
    fd::FdStream,
    foreign::Foreign,
    init, kernel,
    netns::Namespace,
    node, pause,
    port::{self, Port},
    runc::{self, setkey},
    server::{Kernel, Server},
    session,
};

const USAGE: &str = "\
The agent of a lab host; labctl starts it.

Usage: labctl-agent serve [--stdio | --port PATH]   serve labctl (default: the virtio-serial port)
       labctl-agent serve --node                    the same on stdin and stdout, once `node` is ready
       labctl-agent serve --own                     the same for a machine that was made for a lab
       labctl-agent serve --foreign LAB [SSH_CONNECTION]
                                                    the same for a lab on a machine that is not labctl's own: what is
                                                    changed there is noted first, in labs/LAB.json beside the agent
       labctl-agent node [--boot-id ID] [--nic NAME=MAC]... [--engine]
                                                    make this container a lab host; with --engine start dockerd, too
       labctl-agent kernel                          what this kernel can do for hosts that share it, as JSON
       labctl-agent pause                           do nothing until SIGTERM
       labctl-agent --version

As PID 1 of a machine, without arguments, it is that machine's init. Under the names runc, crun and libnetwork-setkey
it is what Docker takes it for.
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Init,
    ServeStdio,
    ServeNode,
    ServeOwn,
    ServeForeign(String, Option<IpAddr>),
    Node(node::Options),
    Engine,
    Kernel,
    ServePort(Option<PathBuf>),
    Pause,
    Version,
    Help,
    Unknown(String),
}

fn parse(mut arguments: impl Iterator<Item = String>, pid: u32) -> Command {
    let words: Vec<String> = arguments.by_ref().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["pause"] => Command::Pause,
        ["serve"] => Command::ServePort(None),
        ["serve", "--stdio"] => Command::ServeStdio,
        ["serve", "--node"] => Command::ServeNode,
        ["serve", OWN] => Command::ServeOwn,
        ["serve", FOREIGN, lab, rest @ ..] if labctl_model::Lab::is_name(lab) && rest.len() < 2 => {
            // Address and port of the client, address and port here (ssh(1)).
            let door = rest.first().and_then(|words| words.split(' ').nth(2)?.parse().ok());
            Command::ServeForeign((*lab).to_owned(), door)
        }
        ["engine"] => Command::Engine,
        ["kernel"] => Command::Kernel,
        ["node", rest @ ..] => {
            node::Options::parse(rest).map_or_else(|| Command::Unknown(words.join(" ")), Command::Node)
        }
        ["serve", "--port", path] => Command::ServePort(Some(PathBuf::from(path))),
        ["--version" | "-V"] => Command::Version,
        ["--help" | "-h"] => Command::Help,
        // The kernel passes unknown words of its command line to init.
        _ if pid == 1 => Command::Init,
        other => Command::Unknown(other.join(" ")),
    }
}

/// Runs the command that the process was started with. Exit codes: 0 done, 2 usage, 3 failed.
pub fn run() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    match Path::new(&name).file_name().and_then(OsStr::to_str) {
        Some(name) if runc::NAMES.contains(&name) => return failed(runc::run(name, arguments()).into()),
        Some(setkey::NAME) => return ended(setkey::run(&arguments())),
        _ => {}
    }
    let result = match parse(std::env::args().skip(1), std::process::id()) {
        Command::Init => init::run(),
        Command::Pause => pause::pause().context("pause"),
        Command::ServeStdio => runtime(serve_stdio(|namespace| Server::new(Kernel::Shared, namespace))),
        Command::ServeOwn => runtime(serve_stdio(|namespace| Server::new(Kernel::Own, namespace))),
        Command::ServeForeign(lab, door) => runtime(serve_foreign(lab, door)),
        Command::ServeNode => runtime(async {
            node::ready().await?;
            serve_stdio(|namespace| Server::new(Kernel::Shared, namespace)).await
        }),
        Command::Node(options) => node::run(&options).map_err(Into::into),
        Command::Engine => runtime(node::engine()),
        Command::Kernel => examine(),
        Command::ServePort(path) => runtime(serve_port(path)),
        Command::Version => say(&format!("labctl-agent {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Help => say(USAGE),
        Command::Unknown(words) => {
            let _ = write!(std::io::stderr(), "labctl-agent: not understood: {words:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error),
    }
}

fn arguments() -> Vec<OsString> {
    std::env::args_os().skip(1).collect()
}

fn ended(result: std::io::Result<()>) -> ExitCode {
    result.map_or_else(|e| failed(e.into()), |()| ExitCode::SUCCESS)
}

fn failed(error: anyhow::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "labctl-agent: {error:#}");
    ExitCode::from(3)
}

fn examine() -> anyhow::Result<()> {
    let findings = kernel::examine()?;
    say(&format!("{}\n", serde_json::to_string(&findings)?))
}

fn say(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn runtime(serve: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_from_env("LABCTL_AGENT_LOG").unwrap_or_else(|_| EnvFilter::new("info,yamux=off"));
    // In a vm the console looks like a terminal, but labctl saves it to a file.
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    raise_descriptors();
    // One thread: a lab's machines have one processor, and long operations wait rather than compute.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve)
}

/// Raises the limit of descriptors: a socket per cell needs more than the usual 1024.
fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    const WANTED: u64 = 65_536;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < WANTED {
        // Root may raise the hard limit, others only up to it.
        let raised = setrlimit(Resource::RLIMIT_NOFILE, WANTED, hard.max(WANTED));
        if raised.is_err() {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
    }
}

async fn serve_foreign(lab: String, door: Option<IpAddr>) -> anyhow::Result<()> {
    let part = Foreign::of(&lab, door)?;
    serve_stdio(|namespace| Server::foreign(namespace, part)).await
}

async fn serve_stdio(server: impl FnOnce(Namespace) -> Server) -> anyhow::Result<()> {
    let server = Arc::new(server(Namespace::own().context("/proc/self/ns/net")?));
    // The runtime's own would hand each write to another thread.
    let stdio = tokio::io::join(
        FdStream::new(std::io::stdin().as_fd().try_clone_to_owned()?).context("stdin")?,
        FdStream::new(std::io::stdout().as_fd().try_clone_to_owned()?).context("stdout")?,
    );
    match session::serve(&server, stdio).await {
        Ok(()) | Err(labctl_protocol::preamble::PreambleError::Ended) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn serve_port(path: Option<PathBuf>) -> anyhow::Result<()> {
    let Some(path) = path.or_else(|| port::find(VIRTIO_PORT)) else {
        bail!("this machine has no virtio-serial port named {VIRTIO_PORT}");
    };
    let port = Port::open(&path).with_context(|| path.display().to_string())?;
    let server = Arc::new(Server::new(Kernel::Own, Namespace::own().context("/proc/self/ns/net")?));
    tracing::info!("serving on {}", path.display());
    Ok(session::serve_port(&server, &port).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &str, pid: u32) -> Command {
        parse(words.split_whitespace().map(str::to_owned), pid)
    }

    #[test]
    fn the_first_word_decides_and_only_then_the_pid() {
        assert_eq!(of("pause", 1), Command::Pause);
        assert_eq!(of("serve --stdio", 1), Command::ServeStdio);
        assert_eq!(of("serve --port /dev/vport1p1", 7), Command::ServePort(Some("/dev/vport1p1".into())));
        assert_eq!(of("node", 1), Command::Node(node::Options::default()));
        assert_eq!(of("serve --foreign lab", 7), Command::ServeForeign("lab".into(), None));
        let words = ["serve", "--foreign", "lab", "10.0.2.2 5 10.0.2.15 22"].map(str::to_owned).into_iter();
        assert_eq!(parse(words, 7), Command::ServeForeign("lab".into(), Some([10, 0, 2, 15].into())));
        assert_eq!(of("serve --foreign ../lab", 7), Command::Unknown("serve --foreign ../lab".into()));
        assert_eq!(of("node --nic", 1), Command::Unknown("node --nic".into()));
        assert_eq!(of("", 1), Command::Init);
        assert_eq!(of("quiet splash", 1), Command::Init);
        assert_eq!(of("", 7), Command::Unknown(String::new()));
        assert_eq!(of("pause now", 7), Command::Unknown("pause now".into()));
    }
}
