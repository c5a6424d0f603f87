//! What can go wrong between a lab's host and its machine.

use std::{io, path::PathBuf};

use labctl_model::plain_lines;
use labctl_protocol::client::ClientError;

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

/// Why a machine could not be made, known or cleared. The text names the operand and, after `hint:`, the way out where
/// there is one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such lab.
    #[error("there is no lab `{name}`\nhint: {hint}")]
    NoSuchLab {
        /// Name that was asked for.
        name: String,
        /// The labs that exist.
        hint: String,
    },
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
    /// The lab was taken down while a command worked on it.
    #[error("lab `{lab}` was taken down meanwhile, by {by}")]
    TakenDown {
        /// Lab.
        lab: String,
        /// Who did it, if known.
        by: String,
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
    /// The host itself refused something: its kernel, or the agent on its behalf.
    #[error("host `{host}`: {}", plain_lines(message))]
    Refused {
        /// Host.
        host: String,
        /// The agent's message.
        message: String,
    },
    /// The agent's binary is not there.
    #[error(
        "there is no agent at {path}: {said}\n\
         hint: install labctl again, or `make build` in its sources; labctl looks at {beside}, or where LABCTL_AGENT says",
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
    #[error("the agent at {path} does not work: {why}\nhint: install labctl again, or `make build` in its sources", path = path.display())]
    BadAgent {
        /// Where it is.
        path: PathBuf,
        /// What happened when it was tried.
        why: String,
    },
    /// An image of packages, as a topology defines it, could not be made.
    #[error("line {line}: image `{name}`: {source}")]
    OfPackages {
        /// Image.
        name: String,
        /// Line in the topology.
        line: u32,
        /// Why not.
        source: labctl_images::Error,
    },
    /// Docker did not take the image.
    #[error("cannot import {name} into this machine's Docker: {why}")]
    Import {
        /// The name it should have got.
        name: String,
        /// Docker's message.
        why: String,
    },
    /// This machine's Docker lacks a node image that was just imported.
    #[error("no node image of {0} in Docker")]
    NotImported(labctl_model::Engine),
    /// This machine cannot run the lab on the requested runtime: what is missing, and what needs it.
    #[error("{0}")]
    Unfit(String),
    /// The `ssh` runtime was asked for without machines.
    #[error(
        "--runtime ssh needs machines\nhint: `--machines machines.yaml`, with `host1: {{ ssh: user@host, nics: {{ lan: eth1 }} }}`"
    )]
    NoMachines,
    /// A host, or a machine for it, lacks features that the topology needs, each with its line.
    #[error("{0}")]
    Lacks(Box<labctl_model::Diagnostics>),
    /// The file of machines.
    #[error(transparent)]
    Machines(#[from] crate::MachinesError),
    /// An image is missing or could not be made.
    #[error(transparent)]
    Images(#[from] labctl_images::Error),
    /// A host's dockerd did not do what it was asked.
    #[error(transparent)]
    Docker(#[from] labctl_docker::Error),
}

/// Exit status of a command that somebody ended, as shells report it (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

impl Error {
    /// 2 if the topology or the usage is at fault, 3 if the environment is, 130 if somebody ended it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::TakenDown { .. } => INTERRUPTED,
            Error::NoSuchLab { .. }
            | Error::Refused { .. }
            | Error::NoMachines
            | Error::Machines(_)
            | Error::Docker(_) => 2,
            Error::Images(e) => e.exit_code(),
            _ => 3,
        }
    }

    /// A lab that was taken down; `by` says by whom, if known.
    pub fn taken_down(lab: &str, by: Option<&str>) -> Self {
        Error::TakenDown { lab: lab.to_owned(), by: by.unwrap_or("another command").to_owned() }
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
