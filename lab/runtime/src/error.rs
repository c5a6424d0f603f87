//! What can go wrong between a lab and its hosts, and whose fault it is.

use std::{
    io,
    path::{Path, PathBuf},
};

use labctl_machines::Error as MachineError;
use labctl_model::Lab;
use labctl_protocol::client::ClientError;
use labctl_state::INTERRUPTED;
use serde::{Deserialize, Serialize};

/// Why something failed and whose fault it is: the form in which an error crosses the control socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Text, with a hint where there is a way out.
    pub message: String,
    /// 2: the topology or the usage; 3: the environment.
    pub exit_code: u8,
}

/// An error of the runtime. Its text names the operand and, after `hint:`, the way out where there is one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A lab of that name is up already.
    #[error(
        "lab `{0}` is already up\nhint: look at it with `labctl check {0}`, take it down with `labctl down {0}`, or make it anew with `labctl up --replace`"
    )]
    AlreadyUp(String),
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
    #[error(
        "lab `{0}` has no wire: its hosts are machines that exist, on networks that exist\nhint: `--runtime vm` and `dind` have one"
    )]
    NoWire(String),
    /// The lab is not up.
    #[error("lab `{0}` is not up yet\nhint: `labctl ps` shows its stage")]
    NotUp(String),
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
    #[error("host `{host}` does not run{why}\nhint: `labctl do {lab} start {host}` makes it again")]
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
    /// A lab without a checkpoint to go back to.
    #[error(
        "lab `{0}` has no checkpoint of the end of `up`\n\
         hint: `labctl up` leaves one unless told otherwise; `labctl checkpoint save {0} NAME` makes one of now, and `labctl reset {0} \
         NAME` goes back to it"
    )]
    NoOrigin(String),
    /// A lab whose copy does not fit this machine's memory.
    #[error(
        "lab `{lab}` cannot be saved: its copy takes {mib} MiB of memory until it is on disk, at most half of what is free, \
         and {free} MiB are\nhint: take other labs down (`labctl ps`)"
    )]
    NoMemory {
        /// Lab.
        lab: String,
        /// What the copy takes, in MiB.
        mib: u64,
        /// What is free, in MiB.
        free: u64,
    },
    /// A lab that cannot be saved.
    #[error("lab `{lab}` cannot be saved: {why}")]
    NotSaved {
        /// Lab.
        lab: String,
        /// Why, and the way out.
        why: &'static str,
    },
    /// Nobody waits for the result any more.
    #[error("cancelled")]
    Cancelled,
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
    /// An error that the supervisor answered with.
    #[error("{}", .0.message)]
    Remote(Failure),
    /// The supervisor and the client do not understand each other.
    #[error("control socket: {0}")]
    Control(String),
    /// What is on disk of a lab.
    #[error(transparent)]
    State(#[from] labctl_state::Error),
    /// A machine, an image or a host's dockerd.
    #[error(transparent)]
    Machines(#[from] MachineError),
}

/// `FILE:LINE`, as compilers write it.
fn place(file: Option<&Path>, line: u32) -> String {
    match file {
        Some(file) => format!("{}:{line}", file.display()),
        None => format!("line {line}"),
    }
}

impl Error {
    /// The error for a name that a lab does not have; `known` are the names that it has.
    pub fn no_such<'n>(
        lab: &Lab,
        kind: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        let all: Vec<&str> = known.into_iter().collect();
        let known = match (all.is_empty(), labctl_words::nearest(name, all.iter().copied())) {
            (true, _) => format!("no {kind}"),
            (_, Some(near)) => format!("`{near}`, which is near; all are {}", all.join(", ")),
            (_, None) => all.join(", "),
        };
        Self::NoSuchPart { lab: lab.name.clone(), kind, name: name.to_owned(), known }
    }

    /// 2 if the topology or the usage is at fault, 3 if the environment is, 130 if somebody ended it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::State(e) => e.exit_code(),
            Error::Machines(e) => e.exit_code(),
            Error::AlreadyUp(_)
            | Error::NoSuchPart { .. }
            | Error::APeer { .. }
            | Error::NotUp(_)
            | Error::WrongState { .. }
            | Error::Down { .. }
            | Error::NothingBlocked { .. }
            | Error::NoOrigin(_)
            | Error::NotSaved { .. }
            | Error::Frame(_) => 2,
            Error::At { source, .. } => source.exit_code(),
            Error::Remote(f) => f.exit_code,
            _ => 3,
        }
    }

    /// Whether somebody else took the lab down, so that there is nothing left to clear.
    pub fn is_taken_down(&self) -> bool {
        self.exit_code() == INTERRUPTED
    }

    /// Adds a line of the topology to an error; for `map_err`.
    pub fn at<E: Into<Error>>(line: Option<&u32>) -> impl FnOnce(E) -> Self {
        let line = line.copied().filter(|l| *l > 0);
        move |e| match line {
            Some(line) => Error::At { file: None, line, source: Box::new(e.into()) },
            None => e.into(),
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
            Error::Down { host, .. } => Some(host),
            Error::Machines(MachineError::Docker(e)) => Some(e.host()),
            Error::At { source, .. } => source.docker_host(),
            _ => None,
        }
    }

    /// Whether an action of a step was refused rather than something being broken: by Docker, by a host's kernel, or by
    /// labctl itself because of the lab's state.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Error::Machines(MachineError::Docker(_) | MachineError::Refused { .. })
                | Error::WrongState { .. }
                | Error::Down { .. }
                | Error::NothingBlocked { .. }
                | Error::Tasks { .. }
                | Error::Swarm(_)
        )
    }

    /// Whether Docker refused it only for now.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Machines(MachineError::Docker(e)) if labctl_docker::is_transient(e))
    }

    /// Converts the error for the control socket.
    pub fn to_failure(&self) -> Failure {
        Failure { message: self.to_string(), exit_code: self.exit_code() }
    }

    /// Converts an agent client's error; for `map_err`.
    pub fn agent(host: &str) -> impl Fn(ClientError) -> Self + '_ {
        move |e| MachineError::agent(host)(e).into()
    }

    /// Adds operation and path to an I/O error; for `map_err`.
    pub fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let with_path = labctl_state::Error::io(what, path);
        move |source| with_path(source).into()
    }
}

impl From<labctl_images::Error> for Error {
    fn from(error: labctl_images::Error) -> Self {
        Error::Machines(error.into())
    }
}

impl From<labctl_docker::Error> for Error {
    fn from(error: labctl_docker::Error) -> Self {
        Error::Machines(error.into())
    }
}
