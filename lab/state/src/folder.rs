//! What is on disk of a lab: one folder each, mode 0700, written before anything is made.
//!
//! ```text
//! <state>/<lab>/lock             held (flock) by the supervisor for as long as it lives
//!               plan.json        what will be made
//!               processes.json   what was started, a line each, so that `down` works after a crash
//!               control.sock     takes commands
//!               supervisor.log
//!               hosts/<host>/    docker.sock, console.log, agent.sock, qmp.sock, eth0.sock, …
//! ```

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use labctl_images::durable;
use labctl_model::Lab;

use crate::{
    error::{DiskNeed, Error},
    plan::{Dirs, Plan},
    process::Process,
};

/// Longest path of a unix socket, in bytes: `sun_path` without its NUL (unix(7)).
pub const MAX_SOCKET_PATH: usize = 107;

/// Space that a lab's folder may need, without captures.
const LOGS: DiskNeed = DiskNeed {
    bytes: 8 << 20,
    what: "a lab's logs take",
    hint: "or name another folder with --state-dir or LABCTL_STATE_DIR",
};

/// The lock of a lab's folder. A lab lives as long as somebody holds it, and only its holder clears the folder.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// The lock that this process got as its stdin.
    ///
    /// # Errors
    /// There is no stdin.
    pub fn inherited() -> io::Result<Self> {
        Ok(Self(io::stdin().as_fd().try_clone_to_owned()?.into()))
    }

    /// A handle to pass on. The lab is locked until the last one is closed.
    ///
    /// # Errors
    /// This process has too many files open.
    pub fn share(&self) -> io::Result<File> {
        self.0.try_clone()
    }
}

/// Name under which a supervisor is noted.
const SUPERVISOR: &str = "supervisor";

/// The folder of one lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabDir {
    path: PathBuf,
}

/// Name of the lock in a lab's folder.
const LOCK: &str = "lock";

/// Name of the plan in a lab's folder.
const PLAN: &str = "plan.json";

/// How often the folder may vanish during locking. Each time somebody else has cleared a whole lab.
const LOCK_ATTEMPTS: u32 = 100;

impl LabDir {
    /// The folder at this path, which may not exist.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder of the lab of this name, which may not exist.
    pub fn of(dirs: &Dirs, lab: &str) -> Self {
        Self::at(dirs.state.join(lab))
    }

    /// The error for a lab whose supervisor is gone: one that ended normally leaves no folder.
    pub fn gone(&self) -> Error {
        match self.path.exists() {
            true => Error::Dead { name: self.name().to_owned(), log: self.log() },
            false => Error::taken_down(self.name(), None),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name of the lab.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|n| n.to_str()).unwrap_or("?")
    }

    /// The socket on which the supervisor takes commands.
    pub fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// Folder for captures of the wire from failed matrices.
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

    /// The socket on this machine for the host's dockerd.
    pub fn docker_socket(&self, host: &str) -> PathBuf {
        self.host(host).join("docker.sock")
    }

    /// The guest's console.
    pub fn console(&self, host: &str) -> PathBuf {
        self.host(host).join("console.log")
    }

    /// What ssh said of the way to a machine that exists.
    pub fn ssh_log(&self, host: &str) -> PathBuf {
        self.host(host).join("ssh.log")
    }

    /// The socket where the wire listens for a NIC.
    pub fn nic_socket(&self, host: &str, nic: &str) -> PathBuf {
        self.host(host).join(format!("{nic}.sock"))
    }

    /// Makes the folder if needed and takes its lock. `None`: somebody holds it, most likely the lab's supervisor.
    pub fn lock(&self) -> Result<Option<Lock>, Error> {
        let path = self.path.join(LOCK);
        for _ in 0..LOCK_ATTEMPTS {
            match fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path) {
                // It existed, and its holder cleared it before its type was checked.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && !self.path.is_file() => continue,
                made => made.map_err(Error::io("cannot make the folder", &self.path))?,
            }
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path);
            let file = match file {
                // Its holder has cleared it since the line above.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(Error::io("cannot open", &path))?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(Error::io("cannot lock", path)(e)),
            }
            let lock = Lock(file);
            // It may have been cleared between opening and locking: then the lock is worthless.
            if self.is_locked_by(&lock) {
                return Ok(Some(lock));
            }
        }
        Err(Error::io("cannot lock", path)(io::ErrorKind::ResourceBusy.into()))
    }

    /// Whether this is the lock of the current folder, and not of one that was cleared since.
    pub fn is_locked_by(&self, lock: &Lock) -> bool {
        let id = |m: fs::Metadata| (m.dev(), m.ino());
        let (ours, there) = (lock.0.metadata().map(id), fs::metadata(self.path.join(LOCK)).map(id));
        matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
    }

    /// Removes the folder. Does nothing if somebody else has cleared it and another lab may have it now.
    ///
    /// # Errors
    /// Something cannot be removed. Then the plan and the lock stay too, so that `down` finds the rest.
    pub fn remove(&self, lock: &Lock) -> io::Result<()> {
        if !self.is_locked_by(lock) {
            return Ok(());
        }
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name() == LOCK || entry.file_name() == PLAN {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        for last in [PLAN, LOCK] {
            match fs::remove_file(self.path.join(last)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        match fs::remove_dir(&self.path) {
            // Once the lock is gone, the next lab of this name may begin in the same folder.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                Ok(())
            }
            removed => removed,
        }
    }

    /// Whether its supervisor lives. Gives back at once any lock that it takes.
    pub fn is_alive(&self) -> bool {
        let Ok(file) = File::open(self.path.join(LOCK)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Writes the plan atomically.
    pub fn write_plan(&self, plan: &Plan) -> Result<(), Error> {
        let path = self.path.join(PLAN);
        let text = serde_json::to_vec(plan)
            .map_err(|e| Error::Damaged { path: path.clone(), why: e.to_string() })?;
        durable::write(&path, 0o600, &text).map_err(Error::io("cannot write", path))
    }

    /// Whether a plan was written.
    pub fn has_plan(&self) -> bool {
        self.path.join(PLAN).exists()
    }

    /// Reads the plan.
    pub fn plan(&self) -> Result<Plan, Error> {
        let path = self.path.join(PLAN);
        let text = fs::read(&path).map_err(Error::io("cannot read", &path))?;
        serde_json::from_slice(&text).map_err(|e| Error::Damaged { path, why: e.to_string() })
    }

    /// Notes a process durably.
    pub fn record(&self, process: &Process) -> Result<(), Error> {
        let path = self.path.join("processes.json");
        let append = || -> io::Result<()> {
            let mut line = serde_json::to_vec(process)?;
            line.push(b'\n');
            durable::append(&path, &line)
        };
        append().map_err(Error::io("cannot write", &path))
    }

    /// Notes this process as the lab's supervisor, before any other process.
    pub fn record_supervisor(&self) -> Result<(), Error> {
        match Process::observe(std::process::id(), SUPERVISOR) {
            Some(me) => self.record(&me),
            None => Ok(()),
        }
    }

    /// The lab's supervisor, once it has noted itself.
    pub fn supervisor(&self) -> Option<Process> {
        self.processes().into_iter().find(|p| p.what == SUPERVISOR)
    }

    /// The noted processes. A torn last line is skipped: it was written while its process was being started, by a
    /// supervisor whose machines die with it.
    pub fn processes(&self) -> Vec<Process> {
        let text = fs::read_to_string(self.path.join("processes.json")).unwrap_or_default();
        text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
    }

    /// Fails if there is no room for a lab's logs and notes.
    pub fn check_room(&self) -> Result<(), Error> {
        LOGS.check(&self.path)
    }

    /// Fails if a socket path of this lab would be too long.
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
        .filter(|d| d.has_plan() || d.path.join(LOCK).exists())
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
                names => match labctl_words::nearest(name, names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are: {}", names.join(", ")),
                },
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

    /// Whoever clears a lab removes its own folder only: never that of the next lab of the same name.
    #[test]
    fn a_folder_is_cleared_only_by_who_holds_its_lock() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = LabDir::at(tmp.path().join("lab"));
        let old = dir.lock().unwrap().unwrap();
        fs::create_dir_all(dir.host("h1")).unwrap();
        fs::write(dir.console("h1"), "").unwrap();
        dir.remove(&old).unwrap();
        assert!(!dir.path().exists());
        let new = dir.lock().unwrap().expect("what was cleared locks nobody out");
        fs::write(dir.log(), "").unwrap();
        assert!(!dir.is_locked_by(&old) && dir.is_locked_by(&new));
        dir.remove(&old).unwrap();
        assert!(dir.log().exists());
        dir.remove(&new).unwrap();
        assert!(!dir.path().exists());
    }

    /// Labs of one name that begin and end at the same time: each has the folder to itself while it holds the lock.
    #[test]
    fn labs_that_race_for_a_folder_do_not_meet_there() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = LabDir::at(tmp.path().join("lab"));
        let live = || {
            let mut had = 0;
            while had < 50 {
                let Some(lock) = dir.lock().unwrap() else { continue };
                assert!(!dir.log().exists(), "the folder of another lab");
                fs::write(dir.log(), "").unwrap();
                std::thread::yield_now();
                assert!(dir.log().exists(), "cleared by another lab");
                dir.remove(&lock).unwrap();
                had += 1;
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(live))));
        assert!(!dir.path().exists());
    }

    #[test]
    fn a_torn_journal_keeps_its_whole_lines() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = LabDir::at(tmp.path());
        let one = Process { pid: 7, start_time: 9, what: "machine of a".into() };
        dir.record(&one).unwrap();
        durable::append(&tmp.path().join("processes.json"), b"{\"pid\":8,").unwrap();
        assert_eq!(dir.processes(), vec![one]);
    }
}
