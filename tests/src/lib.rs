//! What the tests share: labctl as a user has it, in folders of its own, and a look at the machine around it.
//!
//! The tests drive the binaries that `make build` makes; they need the node image that `make image` makes. Where one
//! is missing a test fails and says so: nothing is skipped.
#![allow(clippy::expect_used, clippy::missing_panics_doc)]

use std::{
    ffi::OsStr,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

pub mod capture;
pub mod machine;
pub mod truth;

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository").to_owned()
}

/// A topology of the repository.
pub fn topology(name: &str) -> PathBuf {
    root().join("topologies").join(name)
}

/// The folder of the binaries: that of this very program, or the one above where a test lies in `deps`.
pub fn binaries() -> PathBuf {
    let exe = std::env::current_exe().expect("a test has a path");
    let complete = |dir: &&Path| ["labctl", "labctl-agent"].iter().all(|name| dir.join(name).exists());
    let found = exe.ancestors().skip(1).take(2).find(complete);
    found.unwrap_or_else(|| panic!("labctl and its agent are not built: run `make build` first")).to_owned()
}

/// The user's cache, where `make image` put the node image.
pub fn cache() -> PathBuf {
    if let Some(dir) = std::env::var_os("LABCTL_CACHE_DIR") {
        return dir.into();
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).expect("HOME is set");
    std::env::var_os("XDG_CACHE_HOME").map_or(home.join(".cache"), PathBuf::from).join("labctl")
}

/// Fills a cache folder of a test's own with the node image of the real one, so that the test can put other files in
/// place of its. Returns the image's folder.
pub fn own_images(own: &Path) -> PathBuf {
    let images = cache().join("images");
    let image = fs::read_dir(&images)
        .expect("make the node image first: `make image`")
        .flatten()
        .find(|e| e.file_name().to_string_lossy().starts_with("trixie-") && e.path().is_dir())
        .expect("make the node image first: `make image`");
    let to = own.join("images").join(image.file_name());
    fs::create_dir_all(&to).expect("a temporary folder can be written to");
    for entry in fs::read_dir(image.path()).expect("a folder can be read").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        // What labctl writes itself must not reach the real one.
        let done = match from.extension().is_some_and(|e| e == "json") {
            true => fs::copy(&from, &to).map(drop),
            false => std::os::unix::fs::symlink(&from, &to),
        };
        done.unwrap_or_else(|e| panic!("{}: {e}", to.display()));
    }
    to
}

/// labctl with a state folder of its own. Takes its labs down when dropped, or when the test is killed.
pub struct Labctl {
    /// Ends with the last of the labs.
    keeper: Child,
    state: tempfile::TempDir,
    binary: PathBuf,
    /// Cache folder.
    pub cache: PathBuf,
    /// Whether `up` may take labs from checkpoints and leave some. Most tests are about what `up` itself makes.
    pub checkpoints: bool,
    /// Words before labctl's own path: `setpriv …`, for one.
    pub prefix: Vec<String>,
}

impl Default for Labctl {
    fn default() -> Self {
        Self::new()
    }
}

impl Labctl {
    /// With an empty state folder.
    pub fn new() -> Self {
        Self::with_binary(binaries().join("labctl"))
    }

    /// With another binary.
    pub fn with_binary(binary: PathBuf) -> Self {
        let state = tempfile::Builder::new().prefix("lab").tempdir().expect("a temporary folder");
        let keeper = keeper(&binary, state.path());
        Self { keeper, state, binary, cache: cache(), checkpoints: false, prefix: Vec::new() }
    }

    /// Its state folder.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// A command of labctl, not started yet.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut words = self.prefix.iter().map(PathBuf::from).chain([self.binary.clone()]);
        let mut command = Command::new(words.next().expect("there is at least labctl"));
        command
            .args(words)
            .args(args)
            .env("LABCTL_STATE_DIR", self.state())
            .env("LABCTL_CACHE_DIR", &self.cache)
            .env("NO_COLOR", "1")
            .env_remove("DOCKER_HOST")
            // What a test does not say shall not hang on the machine that it runs on.
            .env("LABCTL_RUNTIME", "vm")
            .stdin(Stdio::null());
        match self.checkpoints {
            true => command.env_remove("LABCTL_CHECKPOINT"),
            false => command.env("LABCTL_CHECKPOINT", "false"),
        };
        command
    }

    /// Runs labctl to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        Ran(self.command(args).output().expect("labctl can be started"))
    }

    /// Brings a lab up without checking it; it must work.
    pub fn up(&self, topology: &Path) -> Ran {
        self.run([OsStr::new("up"), OsStr::new("--no-check"), topology.as_os_str()]).exits(0)
    }
}

impl Drop for Labctl {
    fn drop(&mut self) {
        // Closes its stdin first.
        let _ = self.keeper.wait();
    }
}

/// What takes the labs of a state folder down and removes it once its stdin closes, which it does with the test,
/// however that ends: a supervisor has a session of its own, so that nothing that is sent to the test reaches it. This
/// process group of its own is not reached either.
fn keeper(labctl: &Path, state: &Path) -> Child {
    Command::new("sh")
        .args(["-c", r#"read -r _; "$0" down --all; rm -rf "$LABCTL_STATE_DIR""#])
        .arg(labctl)
        // Not among its arguments: tests look for processes that have the folder there.
        .env("LABCTL_STATE_DIR", state)
        .env("LABCTL_CACHE_DIR", cache())
        .env_remove("DOCKER_HOST")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell")
}

/// What a run of labctl gave.
#[derive(Debug)]
pub struct Ran(pub Output);

impl Ran {
    /// Its stdout.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// Its stderr.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Panics, showing everything, unless it ended with this status.
    #[track_caller]
    pub fn exits(self, status: i32) -> Self {
        assert_eq!(
            self.0.status.code(),
            Some(status),
            "exit status\n-- stdout\n{}\n-- stderr\n{}",
            self.stdout(),
            self.stderr()
        );
        self
    }

    /// Panics unless stderr holds these words.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(self.stderr().contains(words), "stderr lacks {words:?}:\n{}", self.stderr());
        self
    }

    /// Its stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.0.stdout)
            .unwrap_or_else(|e| panic!("stdout is no JSON: {e}\n{}\n{}", self.stdout(), self.stderr()))
    }
}

/// The checks of a report, those of its steps after its own.
pub fn checks(report: &Value) -> impl Iterator<Item = &Value> {
    list(&report["checks"]).iter().chain(list(&report["steps"]).iter().flat_map(|s| list(&s["checks"])))
}

/// The cells of all checks of a report.
pub fn cells(report: &Value) -> Vec<&Value> {
    checks(report).flat_map(|c| list(&c["found"]["cells"])).collect()
}

/// The facts of all checks of a report, with what became of frames and what the wire carried.
pub fn facts(report: &Value) -> Vec<&Value> {
    let facts = checks(report).flat_map(|c| std::iter::once(&c["found"]).chain(list(&c["wire"])));
    facts.filter(|f| f["kind"] != "matrix").collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Waits until a condition holds; panics with its name when it does not in time.
#[track_caller]
pub fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes a topology into a file of its own.
pub fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).expect("a temporary folder can be written to");
    path
}

/// The smallest lab: one host, nothing on it.
pub fn one_host(name: &str) -> String {
    format!(
        "name: {name}\nsegments: {{ lan: {{ subnet: 192.168.56.0/24, gateway: 192.168.56.1 }} }}\n\
         hosts: {{ host1: {{ lan: 192.168.56.3 }} }}\n"
    )
}
