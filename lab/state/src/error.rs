//! What can go wrong with a lab's files.

use std::{io, path::PathBuf};

/// What room on a disk is needed for.
#[derive(Clone, Copy, Debug)]
pub struct DiskNeed {
    /// Bytes.
    pub bytes: u64,
    /// What takes them, for example `a lab's logs`.
    pub what: &'static str,
    /// How to use another disk.
    pub hint: &'static str,
}

/// Why a lab's folder cannot be used. The text names the operand and, after `hint:`, the way out where there is one.
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
    /// No checkpoint of this name.
    #[error("there is no checkpoint `{name}`\nhint: {hint}")]
    NoSuchCheckpoint {
        /// Name that was asked for.
        name: String,
        /// The way out.
        hint: String,
    },
    /// A checkpoint cannot be used or replaced.
    #[error(
        "checkpoint `{name}`: {why}\nhint: `labctl checkpoint ls` shows all, `labctl checkpoint rm {name}` removes it"
    )]
    Checkpoint {
        /// Its name.
        name: String,
        /// Why not.
        why: String,
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
        need: DiskNeed,
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
}

/// Exit status of a command that somebody ended, as shells report it (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

impl Error {
    /// 2 if the usage is at fault, 3 if the environment is, 130 if somebody ended it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::TakenDown { .. } => INTERRUPTED,
            Error::NoSuchLab { .. } | Error::NoSuchCheckpoint { .. } => 2,
            _ => 3,
        }
    }

    /// A lab that was taken down; `by` says by whom, if known.
    pub fn taken_down(lab: &str, by: Option<&str>) -> Self {
        Error::TakenDown { lab: lab.to_owned(), by: by.unwrap_or("another command").to_owned() }
    }

    /// Adds operation and path to an I/O error; for `map_err`.
    pub fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Error::Io { what, path, source }
    }
}
