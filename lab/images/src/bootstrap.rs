//! Runs mmdebstrap.

use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, Uid, User};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use labctl_model::Suite;

use crate::{Error, Progress, durable, sources};

/// Time limit for a build: packages come over the network.
pub const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Steps of a build: the text that mmdebstrap or a hook prints when one begins, and its name.
pub type Marks = &'static [(&'static str, &'static str)];

/// A job for mmdebstrap.
#[derive(Debug)]
pub struct Job<'a> {
    /// Debian release.
    pub suite: Suite,
    /// How to become root.
    pub mode: Mode,
    /// Which packages are added by default (mmdebstrap, `--variant`).
    pub variant: &'static str,
    /// The packages, separated by commas.
    pub packages: &'a str,
    /// Further options: hooks, settings of dpkg.
    pub options: Vec<String>,
    /// The archive to write.
    pub to: PathBuf,
    /// Its steps.
    pub marks: Marks,
    /// MiB that it needs meanwhile in a folder for temporary files.
    pub scratch_mib: u64,
    /// File for its whole output.
    pub log: &'a Path,
}

/// Excludes documents, translations and the like, which nothing in a lab reads.
fn without_documents() -> impl Iterator<Item = String> {
    ["doc", "man", "info", "locale", "lintian", "bug"]
        .into_iter()
        .map(|unread| format!("--dpkgopt=path-exclude=/usr/share/{unread}/*"))
}

/// The hook's line with Docker's version.
const DOCKER: &str = "labctl: docker ";

/// How long killed processes may take to be gone.
const KILLED: Duration = Duration::from_secs(3);

/// Lines of the log that an error shows.
const TAIL: usize = 15;

/// How to become root in the new filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// We are root.
    Root,
    /// In a user namespace.
    Unshare,
}

impl Mode {
    /// Finds out what this user can do here.
    pub async fn detect() -> Result<Self, Error> {
        let uid = Uid::effective();
        if uid.is_root() {
            return Ok(Self::Root);
        }
        let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |u| u.name);
        let ids = fs::read_to_string("/etc/subuid").unwrap_or_default();
        let mine =
            |line: &str| line.split(':').next().is_some_and(|who| who == name || who == uid.to_string());
        if !ids.lines().any(mine) {
            return Err(Error::Unprivileged {
                why: format!("the user {name} has no range of subordinate ids in /etc/subuid"),
                hint: "an administrator gives one with `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`",
            });
        }
        // Distributions forbid it in different ways (sysctls, AppArmor): trying is the only sure test.
        let tried =
            Command::new("unshare").args(["--user", "--map-auto", "--map-root-user", "true"]).output().await;
        let output =
            tried.map_err(|source| Error::Missing { program: "unshare", package: "util-linux", source })?;
        if output.status.success() {
            return Ok(Self::Unshare);
        }
        Err(Error::Unprivileged {
            why: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            hint: "install the package uidmap and allow user namespaces (sysctl kernel.unprivileged_userns_clone, \
                   kernel.apparmor_restrict_unprivileged_userns)",
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Unshare => "unshare",
        }
    }
}

/// Fails if `dir` has less than `mib` free.
pub fn need_space(dir: &Path, mib: u64, hint: &'static str) -> Result<(), Error> {
    let free_mib = free_mib(dir)?;
    if free_mib >= mib {
        return Ok(());
    }
    Err(Error::NoSpace { path: dir.to_owned(), need_mib: mib, free_mib, hint })
}

fn free_mib(dir: &Path) -> Result<u64, Error> {
    Ok(durable::free(dir).map_err(Error::io("examine", dir))? >> 20)
}

/// mmdebstrap's work folder, removed with its contents when dropped.
struct Scratch {
    path: PathBuf,
    mode: Mode,
}

impl Scratch {
    /// Chooses a place that root of a user namespace can write to and that has room: /tmp is often in RAM and small.
    fn new(mode: Mode, need_mib: u64) -> Result<Self, Error> {
        let folders = ["/tmp", "/var/tmp"].map(Path::new);
        let roomy = folders.into_iter().find(|f| free_mib(f).is_ok_and(|mib| mib >= need_mib));
        let Some(parent) = roomy else {
            need_space(folders[0], need_mib, "free some there or in /var/tmp")?;
            return Err(Error::content(folders[0], "filled up a moment ago"));
        };
        let path = tempfile::Builder::new()
            .prefix("labctl-image-")
            .permissions(fs::Permissions::from_mode(0o1777))
            .tempdir_in(parent)
            .map_err(Error::io("make a folder in", parent))?
            .keep();
        // The umask may have removed some bits.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777)).map_err(Error::io("change", &path))?;
        Ok(Self { path, mode })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Most files belong to ids that the user has only in a namespace.
        let mut command = match self.mode {
            Mode::Root => std::process::Command::new("rm"),
            Mode::Unshare => {
                let mut command = std::process::Command::new("unshare");
                command.args(["--user", "--map-auto", "--map-root-user", "rm"]);
                command
            }
        };
        command.args(["-rf", "--one-file-system"]).arg(&self.path).stdin(Stdio::null());
        // What cannot be removed stays in a folder for temporary files.
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Writes the archive and the hooks' output files. Returns the version of the package docker.io, if a hook reported it.
pub async fn run(job: &Job<'_>, progress: &(dyn Fn(Progress<'_>) + Send + Sync)) -> Result<String, Error> {
    // Dropped after the processes that work in it.
    let scratch = Scratch::new(job.mode, job.scratch_mib)?;
    let log = job.log;
    let mut command = command(job, &scratch.path).await?;
    let missing = |source| Error::Missing { program: "mmdebstrap", package: "mmdebstrap", source };
    Command::new("mmdebstrap").arg("--version").output().await.map_err(missing)?;
    let mut file = fs::File::create(log).map_err(Error::io("write", log))?;
    let mut group = Group(Some(command.spawn().map_err(missing)?));
    let mut report = Report {
        start: Instant::now(),
        marks: job.marks,
        step: 0,
        docker: String::new(),
        tail: VecDeque::new(),
    };
    let work = async {
        let Some(child) = &mut group.0 else { return Ok(None) };
        let output = child.stderr.take();
        if let Some(output) = output {
            let mut lines = BufReader::new(output).split(b'\n');
            while let Some(line) = lines.next_segment().await? {
                let line = String::from_utf8_lossy(&line);
                writeln!(file, "{line}")?;
                report.line(&line, progress);
            }
        }
        child.wait().await.map(Some)
    };
    let ended = tokio::time::timeout(LIMIT, work).await;
    let step = report.step.checked_sub(1).map_or("starting", |i| job.marks[i].1);
    let Ok(ended) = ended else {
        return Err(Error::TimedOut {
            step: step.into(),
            minutes: LIMIT.as_secs() / 60,
            log: log.to_owned(),
        });
    };
    let status = ended.map_err(Error::io("read from mmdebstrap or write", log))?;
    group.0 = None;
    if status.is_none_or(|s| !s.success()) {
        if let Some(said) = report.tail.iter().find_map(|l| no_package(l)) {
            return Err(Error::NoPackage { suite: job.suite, said });
        }
        let why = report.tail.into_iter().collect::<Vec<_>>().join("\n  ");
        return Err(Error::Failed { step, why, log: log.to_owned() });
    }
    Ok(report.docker)
}

/// apt's message about a package that it does not have.
fn no_package(line: &str) -> Option<String> {
    let said = line.strip_prefix("E: ")?;
    let so = said.starts_with("Unable to locate package") || said.ends_with("has no installation candidate");
    so.then(|| said.to_owned())
}

async fn command(job: &Job<'_>, scratch: &Path) -> Result<Command, Error> {
    let mut command = Command::new("mmdebstrap");
    if job.mode == Mode::Root {
        // Its mounts are then private, and end with it.
        command = Command::new("unshare");
        command.args(["--mount", "mmdebstrap"]);
    }
    command.arg(format!("--mode={}", job.mode.name())).arg(format!("--variant={}", job.variant));
    command.arg("--architectures=amd64").arg(format!("--include={}", job.packages));
    command.arg("--aptopt=Acquire::Languages \"none\"");
    for setting in sources::settings().await? {
        command.arg(format!("--aptopt={setting}"));
    }
    command.args(without_documents()).args(&job.options);
    command.arg(job.suite.name()).arg(&job.to).args(sources::lines(job.suite).await?);
    command
        .current_dir("/")
        .env("TMPDIR", scratch)
        // An ordinary user's PATH has no /usr/sbin, where mke2fs is.
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    Ok(command)
}

/// mmdebstrap and all its processes: one group. It delays SIGTERM, so it is killed.
struct Group(Option<Child>);

impl Drop for Group {
    fn drop(&mut self) {
        let Some(child) = &mut self.0 else { return };
        let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else { return };
        let deadline = Instant::now() + KILLED;
        // Nobody may still write when the folder is removed. A reaped leader leaves the others in the group.
        while killpg(group, Signal::SIGKILL).is_ok() && Instant::now() < deadline {
            let _ = child.try_wait();
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

struct Report {
    start: Instant,
    marks: Marks,
    /// How many of `marks` were seen.
    step: usize,
    docker: String,
    tail: VecDeque<String>,
}

impl Report {
    fn line(&mut self, line: &str, progress: &(dyn Fn(Progress<'_>) + Send + Sync)) {
        if let Some(version) = line.strip_prefix(DOCKER) {
            version.trim().clone_into(&mut self.docker);
        }
        if let Some(index) =
            self.marks.iter().position(|(mark, _)| line.starts_with(mark)).filter(|i| *i >= self.step)
        {
            self.step = index + 1;
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let (step, of) = (number(self.step), number(self.marks.len()));
            progress(Progress { step, of, what: self.marks[index].1, elapsed: self.start.elapsed() });
        }
        // mmdebstrap's own progress would push the errors out.
        if line.starts_with("I: ") {
            return;
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.trim_end().to_owned());
    }
}
