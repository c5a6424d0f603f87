//! What can go wrong between a lab's host and its machine.

use std::{io, path::PathBuf};

use labctl_protocol::client::ClientError;
use labctl_words::plain_lines;

/// Why a machine could not be made, known or cleared. The text names the operand and, after `hint:`, the way out where
/// there is one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    Lacks(Box<labctl_yaml::Diagnostics>),
    /// What is on disk of a lab.
    #[error(transparent)]
    State(#[from] labctl_state::Error),
    /// The file of machines.
    #[error(transparent)]
    Machines(#[from] labctl_state::MachinesError),
    /// An image is missing or could not be made.
    #[error(transparent)]
    Images(#[from] labctl_images::Error),
    /// A host's dockerd did not do what it was asked.
    #[error(transparent)]
    Docker(#[from] labctl_docker::Error),
}

impl Error {
    /// 2 if the topology or the usage is at fault, 3 if the environment is, 130 if somebody ended it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::State(e) => e.exit_code(),
            Error::Refused { .. } | Error::NoMachines | Error::Machines(_) | Error::Docker(_) => 2,
            Error::Images(e) => e.exit_code(),
            _ => 3,
        }
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
        let with_path = labctl_state::Error::io(what, path);
        move |source| with_path(source).into()
    }
}
