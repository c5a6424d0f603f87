//! What can go wrong between a lab and its hosts, and whose fault it is.

use std::{
    io,
    path::{Path, PathBuf},
};

use labctl_model::plain_lines;
use labctl_protocol::client::ClientError;
use serde::{Deserialize, Serialize};

/// Why something failed and whose fault it is: the form in which an error crosses the control socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Text, with a hint where there is a way out.
    pub message: String,
    /// 2: the topology or the usage; 3: the environment.
    pub exit_code: u8,
}

/// What room on a disk is needed for.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Bytes.
    pub bytes: u64,
    /// What takes them, for example `a lab's logs`.
    pub what: &'static str,
    /// How to use another disk.
    pub hint: &'static str,
}

/// An error of the runtime. Its text names the operand and, after `hint:`, the way out where there is one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A lab of that name is up already.
    #[error(
        "lab `{0}` is already up\nhint: look at it with `labctl check {0}`, or take it down with `labctl down {0}`"
    )]
    AlreadyUp(String),
    /// No such lab.
    #[error("there is no lab `{name}`\nhint: {hint}")]
    NoSuchLab {
        /// Name that was asked for.
        name: String,
        /// The labs that exist.
        hint: String,
    },
    /// No such host, container or segment in the lab.
    #[error("lab `{lab}` has no {kind} `{name}`\nhint: it has {known}")]
    NoSuchPart {
        /// Lab.
        lab: String,
        /// `host`, `segment`, ….
        kind: &'static str,
        /// Name that was asked for.
        name: String,
        /// Names that exist.
        known: String,
    },
    /// A peer was asked for something that only hosts and containers can do.
    #[error(
        "`{peer}` is a peer, which lives on the wire: no command can run in it\n\
         hint: `expect` probes from it, and `labctl capture {lab} {segment}` shows what it sends"
    )]
    APeer {
        /// Lab.
        lab: String,
        /// Peer.
        peer: String,
        /// Its segment.
        segment: String,
    },
    /// The lab is not up yet, or being taken down.
    #[error("lab `{0}` is not up yet\nhint: `labctl ps` shows its stage")]
    NotUp(String),
    /// The lab's supervisor has died.
    #[error(
        "the supervisor of lab `{name}` is gone\nhint: its log is {log}; `labctl down {name}` clears what is left"
    )]
    Dead {
        /// Lab.
        name: String,
        /// Its log.
        log: PathBuf,
    },
    /// The open-files limit of this process is too low for a lab.
    #[error(
        "lab `{lab}` takes up to {need} open files, and no more than {hard} are allowed here (`ulimit -Hn`)\n\
         hint: raise the limit: `ulimit -n {need}` as root, limits.conf(5), or LimitNOFILE= of a systemd unit"
    )]
    TooFewFiles {
        /// Lab.
        lab: String,
        /// How many files the lab opens.
        need: u64,
        /// How many are allowed (hard limit).
        hard: u64,
    },
    /// A disk is full.
    #[error(
        "no space left in {}: {} KiB are free, and {} up to {} MiB\nhint: make room, {}",
        path.display(), free >> 10, need.what, need.bytes >> 20, need.hint
    )]
    NoRoom {
        /// An existing folder on that disk.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// What it is needed for.
        need: Need,
    },
    /// A host is in the wrong state for what was asked.
    #[error("host `{host}` {state}\nhint: {hint}")]
    WrongState {
        /// Host.
        host: String,
        /// Its state, as `runs already`.
        state: &'static str,
        /// The way out.
        hint: String,
    },
    /// A host that does not run.
    #[error("host `{host}` does not run{why}\nhint: `labctl host start {lab} {host}` makes it again")]
    Down {
        /// Lab.
        lab: String,
        /// Host.
        host: String,
        /// For example `: it was killed`; empty if unknown.
        why: String,
    },
    /// Nothing to unblock.
    #[error("nothing blocks {what}\nhint: {}", if known.is_empty() { "nothing at all is blocked".to_owned() } else { format!("blocked are {}", known.join("; ")) })]
    NothingBlocked {
        /// What was to be unblocked.
        what: String,
        /// What is blocked.
        known: Vec<String>,
    },
    /// Nobody waits for the result any more.
    #[error("cancelled")]
    Cancelled,
    /// The lab was taken down while a command worked on it.
    #[error("lab `{lab}` was taken down meanwhile, by {by}")]
    TakenDown {
        /// Lab.
        lab: String,
        /// Who did it, if known.
        by: String,
    },
    /// A socket path does not fit the kernel's limit.
    #[error(
        "the path of a socket would be {length} bytes long, the kernel takes at most {max}: {path}\n\
         hint: give a shorter state folder with --state-dir or LABCTL_STATE_DIR"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A file or folder could not be used.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// The operation that failed.
        what: &'static str,
        /// Its file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of the lab's state has unexpected content.
    #[error("{path} is damaged: {why}\nhint: `labctl down` clears the lab that it belongs to", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The agent of a host failed or is gone.
    #[error("host `{host}`: {why}")]
    Agent {
        /// Host.
        host: String,
        /// Why.
        why: String,
    },
    /// A host's machine could not be started or died.
    #[error("host `{host}`: {why}")]
    Machine {
        /// Host.
        host: String,
        /// Why.
        why: String,
    },
    /// dockerd refused a request.
    #[error("host `{host}`: {what}: Docker says: {}", plain_lines(message))]
    Docker {
        /// Host.
        host: String,
        /// What was asked, in words: `create network ipvlan_net`.
        what: String,
        /// Docker's message.
        message: String,
    },
    /// dockerd gave no answer at all.
    #[error("{what}: dockerd of {host} does not answer: {why}")]
    NoDocker {
        /// Host.
        host: String,
        /// What was asked, in words: `create network ipvlan_net`.
        what: String,
        /// What happened to the connection.
        why: String,
    },
    /// An error in what one line of the topology asks for.
    #[error("{}: {source}", place(file.as_deref(), *line))]
    At {
        /// The topology, once it is known.
        file: Option<PathBuf>,
        /// Line in it, 1-based.
        line: u32,
        /// What went wrong.
        source: Box<Error>,
    },
    /// The agent's binary is not there.
    #[error(
        "there is no agent at {path}: {said}\n\
         hint: build it with `make build`, and put it at {beside} or let LABCTL_AGENT name it",
        path = path.display(), beside = beside.display()
    )]
    NoAgent {
        /// Where it should be.
        path: PathBuf,
        /// What named this path.
        said: &'static str,
        /// Where it is looked for.
        beside: PathBuf,
    },
    /// The agent's binary cannot be run, or is not one.
    #[error("the agent at {path} does not work: {why}\nhint: build it anew with `make build`", path = path.display())]
    BadAgent {
        /// Where it is.
        path: PathBuf,
        /// What happened when it was tried.
        why: String,
    },
    /// A container's image is not available.
    #[error(
        "container `{container}`: image `{image}` is not to be had: {why}\n\
         hint: add it with `labctl image add FILE`, where FILE is what `docker save` wrote; or leave `image:` out to \
         use the built-in one"
    )]
    NoImage {
        /// Image.
        image: String,
        /// A container that wants it.
        container: String,
        /// What this machine's Docker says.
        why: String,
    },
    /// The host itself refused something: its kernel, or the agent on its behalf.
    #[error("host `{host}`: {}", plain_lines(message))]
    Refused {
        /// Host.
        host: String,
        /// The agent's message.
        message: String,
    },
    /// A frame cannot be built for the lab as it is.
    #[error("{0}")]
    Frame(String),
    /// The swarm did not become what the topology says.
    #[error("the swarm: {0}")]
    Swarm(String),
    /// Tasks of services did not run in time.
    #[error("after {after_s} s {missing}")]
    Tasks {
        /// How long they were waited for, in seconds.
        after_s: u64,
        /// Each service with what it lacks and why.
        missing: String,
    },
    /// The wire could not be made.
    #[error("the wire: {0}")]
    Wire(String),
    /// A node image is missing or could not be made.
    #[error("{0}")]
    Image(String),
    /// The topology needs something that this runtime does not have.
    #[error("{0}")]
    Unsupported(String),
    /// This machine cannot run the lab on the requested runtime: what is missing, and what needs it.
    #[error("{0}")]
    Unfit(String),
    /// This machine's kernel lacks features that the topology needs, each with its line.
    #[error("{0}")]
    Lacks(Box<labctl_model::Diagnostics>),
    /// An error that the supervisor answered with.
    #[error("{}", .0.message)]
    Remote(Failure),
    /// The supervisor and the client do not understand each other.
    #[error("control socket: {0}")]
    Control(String),
}

/// Exit status of a command that somebody ended, as shells report it (128 + SIGINT).
const INTERRUPTED: u8 = 130;

/// `FILE:LINE`, as compilers write it.
fn place(file: Option<&Path>, line: u32) -> String {
    match file {
        Some(file) => format!("{}:{line}", file.display()),
        None => format!("line {line}"),
    }
}

impl Error {
    /// 2 if the topology or the usage is at fault, 3 if the environment is, 130 if somebody ended it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::TakenDown { .. } => INTERRUPTED,
            Error::AlreadyUp(_)
            | Error::NoSuchLab { .. }
            | Error::NoSuchPart { .. }
            | Error::APeer { .. }
            | Error::NotUp(_)
            | Error::WrongState { .. }
            | Error::Down { .. }
            | Error::NothingBlocked { .. }
            | Error::Unsupported(_)
            | Error::Docker { .. }
            | Error::NoDocker { .. }
            | Error::NoImage { .. }
            | Error::Frame(_)
            | Error::Refused { .. } => 2,
            Error::At { source, .. } => source.exit_code(),
            Error::Remote(f) => f.exit_code,
            _ => 3,
        }
    }

    /// A lab that was taken down; `by` says by whom, if known.
    pub fn taken_down(lab: &str, by: Option<&str>) -> Self {
        Error::TakenDown { lab: lab.to_owned(), by: by.unwrap_or("another command").to_owned() }
    }

    /// Whether somebody else took the lab down, so that there is nothing left to clear.
    pub fn is_taken_down(&self) -> bool {
        self.exit_code() == INTERRUPTED
    }

    /// Adds a line of the topology to an error; for `map_err`.
    pub fn at(line: Option<&u32>) -> impl FnOnce(Error) -> Self {
        let line = line.copied().filter(|l| *l > 0);
        move |e| match line {
            Some(line) => Error::At { file: None, line, source: Box::new(e) },
            None => e,
        }
    }

    /// Adds the topology file to an error that has a line.
    pub fn in_file(self, topology: &Path) -> Self {
        match self {
            Error::At { line, source, .. } => Error::At { file: Some(topology.to_owned()), line, source },
            other => other,
        }
    }

    /// The host that the error is about, if it is down or its dockerd refused or did not answer.
    pub fn docker_host(&self) -> Option<&str> {
        match self {
            Error::Docker { host, .. } | Error::NoDocker { host, .. } | Error::Down { host, .. } => {
                Some(host)
            }
            Error::At { source, .. } => source.docker_host(),
            _ => None,
        }
    }

    /// Whether an action of a step was refused rather than something being broken: by Docker, by a host's kernel, or by
    /// labctl itself because of the lab's state.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Error::Docker { .. }
                | Error::NoDocker { .. }
                | Error::Refused { .. }
                | Error::WrongState { .. }
                | Error::Down { .. }
                | Error::NothingBlocked { .. }
                | Error::Tasks { .. }
                | Error::Swarm(_)
        )
    }

    /// Converts the error for the control socket.
    pub fn to_failure(&self) -> Failure {
        Failure { message: self.to_string(), exit_code: self.exit_code() }
    }

    /// Converts an agent client's error; for `map_err`.
    pub fn agent(host: &str) -> impl Fn(ClientError) -> Self + '_ {
        move |e| match e {
            ClientError::Refused { .. } => Error::Refused { host: host.to_owned(), message: e.to_string() },
            _ => Error::Agent { host: host.to_owned(), why: e.to_string() },
        }
    }

    /// Adds operation and path to an I/O error; for `map_err`.
    pub fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Error::Io { what, path, source }
    }
}
