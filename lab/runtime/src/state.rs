//! What is on disk of a lab: one folder each, mode 0700, written before anything is made.
//!
//! ```text
//! <state>/<lab>/lock             held (flock) by the supervisor for as long as it lives
//!               plan.json        what will be made
//!               processes.json   what was started, a line each, so that `down` works after a crash
//!               control.sock     the verbs' way in
//!               supervisor.log
//!               hosts/<host>/    docker.sock, console.log, agent.sock, qmp.sock, eth0.sock, …
//! ```

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use lab_model::Lab;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Longest path of a unix socket, in bytes: `sun_path` less its NUL (unix(7)).
pub const MAX_SOCKET_PATH: usize = 107;

/// Where labctl keeps things; whoever calls the library decides.
#[derive(Clone, Debug)]
pub struct Dirs {
    /// Node images and templates; may be deleted at any time.
    pub cache: PathBuf,
    /// Labs.
    pub state: PathBuf,
}

/// Everything that a supervisor needs to bring a lab up, and `down` to take it away.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The lab.
    pub lab: Lab,
    /// The file that it came from.
    pub topology: PathBuf,
    /// Runtime (`vm`).
    pub runtime: String,
    /// Boot instead of restoring.
    pub cold: bool,
    /// Keep what was made of a lab that does not come up.
    pub keep: bool,
    /// Seconds since the epoch when it was begun.
    pub since: u64,
    /// The agent's binary.
    pub agent: PathBuf,
    /// Cache folder.
    pub cache: PathBuf,
}

/// A process that belongs to a lab. The start time tells it from a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of /proc/PID/stat, proc(5)).
    pub start_time: u64,
    /// What it is: `machine of host1`.
    pub what: String,
}

impl Process {
    /// The process with this id, if it is there.
    pub fn observe(pid: u32, what: impl Into<String>) -> Option<Self> {
        let start_time = start_time(pid)?;
        Some(Self { pid, start_time, what: what.into() })
    }

    /// Whether this very process still runs.
    pub fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }
}

/// Flag of a process that is on its way out: its sockets may be closed before it is a zombie (include/linux/sched.h).
const PF_EXITING: u32 = 0x4;

/// Start time of a process; `None` where there is none, or only one that has ended.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything, so count from its end.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    let flags: u32 = fields.nth(5)?.parse().ok()?;
    if flags & PF_EXITING != 0 {
        return None;
    }
    fields.nth(12)?.parse().ok()
}

/// Bytes that a lab's folder may come to hold, captures aside.
const LEAST_ROOM: u64 = 8 << 20;

/// The folder of one lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabDir {
    path: PathBuf,
}

impl LabDir {
    /// The folder at this path, which need not exist.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the lab of this name is or would be.
    pub fn of(dirs: &Dirs, lab: &str) -> Self {
        Self::at(dirs.state.join(lab))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name of the lab.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|n| n.to_str()).unwrap_or("?")
    }

    /// The verbs' way in.
    pub fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// Folder of what the wire carried while matrices did not hold.
    pub fn captures(&self) -> PathBuf {
        self.path.join("captures")
    }

    /// The supervisor's log.
    pub fn log(&self) -> PathBuf {
        self.path.join("supervisor.log")
    }

    /// Folder of a host.
    pub fn host(&self, host: &str) -> PathBuf {
        self.path.join("hosts").join(host)
    }

    /// Where the host's dockerd answers on this machine.
    pub fn docker_socket(&self, host: &str) -> PathBuf {
        self.host(host).join("docker.sock")
    }

    /// The guest's console.
    pub fn console(&self, host: &str) -> PathBuf {
        self.host(host).join("console.log")
    }

    /// Where the wire listens for a NIC.
    pub fn nic_socket(&self, host: &str, nic: &str) -> PathBuf {
        self.host(host).join(format!("{nic}.sock"))
    }

    /// Makes the folder if need be and takes its lock. `None`: a supervisor holds it, so the lab lives.
    pub fn lock(&self) -> Result<Option<File>, Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(Error::io("cannot make the folder", &self.path))?;
        let path = self.path.join("lock");
        let file = open_private(&path).map_err(Error::io("cannot open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(Error::Io { what: "cannot lock", path, source: e }),
        }
    }

    /// Whether its supervisor lives. Takes no lock that it does not give back at once.
    pub fn is_alive(&self) -> bool {
        let Ok(file) = File::open(self.path.join("lock")) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Writes the plan, all or nothing.
    pub fn write_plan(&self, plan: &Plan) -> Result<(), Error> {
        let path = self.path.join("plan.json");
        let draft = self.path.join("plan.json.new");
        let text = serde_json::to_vec(plan)
            .map_err(|e| Error::Damaged { path: path.clone(), why: e.to_string() })?;
        let write = || -> io::Result<()> {
            let mut file = open_private(&draft)?;
            file.set_len(0)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().map_err(Error::io("cannot write", &path))
    }

    /// Whether a plan was written.
    pub fn has_plan(&self) -> bool {
        self.path.join("plan.json").exists()
    }

    /// Reads the plan.
    pub fn plan(&self) -> Result<Plan, Error> {
        let path = self.path.join("plan.json");
        let text = fs::read(&path).map_err(Error::io("cannot read", &path))?;
        serde_json::from_slice(&text).map_err(|e| Error::Damaged { path, why: e.to_string() })
    }

    /// Notes a process, at once and for good.
    pub fn record(&self, process: &Process) -> Result<(), Error> {
        let path = self.path.join("processes.json");
        let append = || -> io::Result<()> {
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            let mut line = serde_json::to_vec(process)?;
            line.push(b'\n');
            file.write_all(&line)
        };
        append().map_err(Error::io("cannot write", &path))
    }

    /// Processes noted. A torn last line is passed over: it was written as its process was being started, by a
    /// supervisor whose machines die with it.
    pub fn processes(&self) -> Vec<Process> {
        let text = fs::read_to_string(self.path.join("processes.json")).unwrap_or_default();
        text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
    }

    /// Fails where there is no room for the logs and notes of a lab.
    pub fn check_room(&self) -> Result<(), Error> {
        let there = self.path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
        let stat =
            nix::sys::statvfs::statvfs(there).map_err(|e| Error::io("cannot look at", there)(e.into()))?;
        match stat.blocks_available().saturating_mul(stat.fragment_size()) {
            free if free < LEAST_ROOM => Err(Error::NoRoom { path: there.to_owned(), free_kib: free >> 10 }),
            _ => Ok(()),
        }
    }

    /// Fails if a socket of this lab would have too long a path.
    pub fn check_socket_paths(&self, lab: &Lab) -> Result<(), Error> {
        let nics =
            lab.hosts.iter().flat_map(|(h, host)| host.nics.iter().map(|n| self.nic_socket(h, &n.name)));
        let others = lab.hosts.keys().map(|h| self.docker_socket(h)).chain([self.control_socket()]);
        match nics.chain(others).max_by_key(|p| p.as_os_str().len()) {
            Some(path) if path.as_os_str().len() > MAX_SOCKET_PATH => {
                Err(Error::PathTooLong { length: path.as_os_str().len(), max: MAX_SOCKET_PATH, path })
            }
            _ => Ok(()),
        }
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Every lab that has a folder, sorted by name.
pub fn list(dirs: &Dirs) -> Result<Vec<LabDir>, Error> {
    let entries = match fs::read_dir(&dirs.state) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::Io { what: "cannot read", path: dirs.state.clone(), source: e }),
    };
    let mut labs: Vec<LabDir> = entries
        .filter_map(Result::ok)
        .map(|e| LabDir::at(e.path()))
        .filter(|d| d.has_plan() || d.path.join("lock").exists())
        .collect();
    labs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(labs)
}

/// The lab of this name.
pub fn find(dirs: &Dirs, name: &str) -> Result<LabDir, Error> {
    let labs = list(dirs)?;
    match labs.iter().find(|d| d.name() == name) {
        Some(dir) => Ok(dir.clone()),
        None => {
            let known: Vec<_> = labs.iter().map(LabDir::name).collect();
            let hint = match known.as_slice() {
                [] => "no lab is up; bring one up with `labctl up FILE`".to_owned(),
                names => format!("there are: {}", names.join(", ")),
            };
            Err(Error::NoSuchLab { name: name.to_owned(), hint })
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_number() {
        let me = Process::observe(std::process::id(), "me").unwrap();
        assert!(me.is_alive());
        assert!(!Process { start_time: me.start_time + 1, ..me }.is_alive());
    }

    #[test]
    fn a_lock_is_seen_and_keeps_a_second_supervisor_out() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = LabDir::at(tmp.path().join("lab"));
        assert!(!dir.is_alive());
        let held = dir.lock().unwrap().unwrap();
        assert!(dir.is_alive());
        assert!(dir.lock().unwrap().is_none());
        drop(held);
        assert!(!dir.is_alive());
        assert!(dir.lock().unwrap().is_some());
    }

    #[test]
    fn a_torn_journal_keeps_its_whole_lines() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = LabDir::at(tmp.path());
        let one = Process { pid: 7, start_time: 9, what: "machine of a".into() };
        dir.record(&one).unwrap();
        OpenOptions::new()
            .append(true)
            .open(tmp.path().join("processes.json"))
            .unwrap()
            .write_all(b"{\"pid\":8,")
            .unwrap();
        assert_eq!(dir.processes(), vec![one]);
    }
}
