//! Spare shims, which are started before there is a container for them.
//!
//! We make them before a machine is saved: the real shim's `start`, with the arguments that containerd used, in a folder
//! that looks like a container's bundle. Its answer is kept there and given to the next equal order. Taking a shim moves
//! its folder, so that no shim is given away twice. Until then its process is stopped: else Go's runtime would collect
//! garbage in each of them for as long as a lab lives.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::NAME;
use crate::runc;

/// The argument with which this program, as the shim, makes spare shims.
pub const MAKE: &str = "make-spares";

/// How many to make: most hosts of a lab have no more containers, and each takes 5 MiB of the saved machine.
const COUNT: usize = 4;

/// How long a shim may take until it waits for containerd, and the pause between two looks at it.
const AT_REST: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(200);

const FOLDER: &str = "/run/labctl/shims";

/// File with the noted order, in [`FOLDER`] and beside each spare shim.
const ORDER: &str = "order.json";

/// File in the bundle with the real shim's address (containerd, runtime/v2/shim/util.go).
const ADDRESS: &str = "address";

/// File with the stdout of the real `start`.
const ANSWER: &str = "answer";

/// File with the process id.
const PROCESS: &str = "process";

/// The kernel's score for ending processes when memory is short (proc(5)); a shim takes it from its parent.
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// What containerd asks of a shim, without the container's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The arguments, with an empty container id.
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    oom_score_adj: String,
}

/// A shim that serves but has no container yet.
pub struct Spare {
    /// Address of its socket, as in the bundle's file.
    pub address: String,
    /// The answer of its `start`.
    pub answer: Vec<u8>,
}

impl Order {
    /// This process's order, if it is `start`.
    pub fn of(arguments: &[OsString]) -> Option<Self> {
        let mut arguments =
            arguments.iter().map(|a| Some(a.to_str()?.to_owned())).collect::<Option<Vec<_>>>()?;
        if arguments.last()? != "start" {
            return None;
        }
        id(&mut arguments)?.clear();
        let variable =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Some(Self {
            arguments,
            environment: std::env::vars_os().map(variable).collect::<Option<_>>()?,
            oom_score_adj: fs::read_to_string(OOM_SCORE).ok()?,
        })
    }

    /// Saves it for [`make`], unless there is one already.
    pub fn note(&self) {
        let path = Path::new(FOLDER).join(ORDER);
        if path.exists() {
            return;
        }
        // Without it there will be no spare shims, and every container gets its own as usual.
        let _ = fs::create_dir_all(FOLDER);
        let _ = serde_json::to_vec(self).map(|text| fs::write(path, text));
    }
}

/// The argument that is the container's id.
fn id(arguments: &mut [String]) -> Option<&mut String> {
    let flag = arguments.iter().position(|a| a == "-id")?;
    arguments.get_mut(flag + 1)
}

/// Makes spare shims by the noted order; does nothing if there is none.
///
/// # Errors
/// If the real shim does not exist or fails.
pub fn make() -> io::Result<()> {
    let Ok(text) = fs::read(Path::new(FOLDER).join(ORDER)) else { return Ok(()) };
    let order: Order = serde_json::from_slice(&text)?;
    // The shim derives its own from that of its parent, which normally is containerd.
    fs::write(OOM_SCORE, order.oom_score_adj.trim())?;
    fs::create_dir_all(free())?;
    let names: Vec<String> = (0..COUNT).map(|index| format!("labctl-spare-{index}")).collect();
    let pids = names.iter().map(|name| make_one(&order, name)).collect::<io::Result<Vec<_>>>()?;
    rest(&pids);
    pids.iter().try_for_each(|pid| Ok(kill(*pid, Signal::SIGSTOP)?))
}

/// The process that has this id among its arguments.
fn serving(name: &str) -> Option<Pid> {
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw).find(|pid| serves(*pid, name))
}

/// Looks repeatedly for something that takes a moment. A program that is being started, for one, has no arguments yet when
/// its parent goes on (Linux, fs/exec.c: in `begin_new_exec`, before the loader sets `arg_start`).
fn soon<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + AT_REST;
    loop {
        let found = look();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        sleep(Duration::from_millis(5));
    }
}

fn serves(pid: Pid, name: &str) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split(|octet| *octet == 0).any(|argument| argument == name.as_bytes())
}

/// Waits until these processes have been idle for a while: then they serve. One that is stopped sooner continues when it
/// is taken, so a timeout is no error.
fn rest(pids: &[Pid]) {
    let deadline = Instant::now() + AT_REST;
    let spent =
        || -> u64 { pids.iter().filter_map(|pid| ticks(&fs::read_to_string(stat(*pid)).ok()?)).sum() };
    let mut before = spent();
    while Instant::now() < deadline {
        sleep(LOOK);
        let now = spent();
        if now == before {
            return;
        }
        before = now;
    }
}

fn stat(pid: Pid) -> String {
    format!("/proc/{pid}/stat")
}

/// A process's processor time in clock ticks, from /proc/PID/stat (proc(5), `utime` and `stime`).
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().skip(11).take(2).map(|t| t.parse::<u64>().ok()).sum()
}

fn make_one(order: &Order, name: &str) -> io::Result<Pid> {
    let bundle = Path::new(FOLDER).join(name);
    fs::create_dir(&bundle)?;
    fs::write(bundle.join("config.json"), "{}")?;
    // For containers, containerd makes a pipe of this name and copies from it to its own log.
    fs::write(bundle.join("log"), "")?;
    let mut arguments = order.arguments.clone();
    if let Some(id) = id(&mut arguments) {
        name.clone_into(id);
    }
    let path = order.environment.get("PATH").map_or("", String::as_str);
    let real = runc::real_in(path, NAME).ok_or(io::ErrorKind::NotFound)?;
    let output = Command::new(real)
        .args(arguments)
        .env_clear()
        .envs(&order.environment)
        .current_dir(&bundle)
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    fs::write(bundle.join(ANSWER), output.stdout)?;
    fs::copy(Path::new(FOLDER).join(ORDER), bundle.join(ORDER))?;
    let pid = soon(|| serving(name)).ok_or_else(|| io::Error::other(format!("{name} has ended")))?;
    fs::write(bundle.join(PROCESS), pid.to_string())?;
    fs::rename(bundle, free().join(name))?;
    Ok(pid)
}

fn free() -> PathBuf {
    Path::new(FOLDER).join("free")
}

/// Takes a spare shim that was made by the same order and still serves.
pub fn take(order: &Order) -> Option<Spare> {
    take_from(&free(), order)
}

fn take_from(free: &Path, order: &Order) -> Option<Spare> {
    let mut names: Vec<OsString> = fs::read_dir(free).ok()?.flatten().map(|e| e.file_name()).collect();
    names.sort();
    names.into_iter().find_map(|name| take_one(free, &name, order))
}

fn take_one(free: &Path, name: &OsStr, order: &Order) -> Option<Spare> {
    let found = free.join(name);
    let made_by: Order = serde_json::from_slice(&fs::read(found.join(ORDER)).ok()?).ok()?;
    if made_by != *order {
        return None;
    }
    // Of two that want it, only one can move it. It stays the working folder of its process.
    let taken = free.parent()?.join(name);
    fs::rename(found, &taken).ok()?;
    let address = fs::read_to_string(taken.join(ADDRESS)).ok()?;
    let pid = Pid::from_raw(fs::read_to_string(taken.join(PROCESS)).ok()?.parse().ok()?);
    // The process id may have been reused.
    if !serves(pid, name.to_str()?) {
        return None;
    }
    kill(pid, Signal::SIGCONT).ok()?;
    UnixStream::connect(address.strip_prefix("unix://")?).ok()?;
    Some(Spare { answer: fs::read(taken.join(ANSWER)).ok()?, address })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixListener;

    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(Into::into).collect()
    }

    fn order(text: &str) -> Option<Order> {
        Order::of(&words(text))
    }

    const START: &str = "-namespace moby -address /a.sock -publish-binary /c -id c1 start";

    #[test]
    fn an_order_is_the_same_for_every_container_and_for_start_alone() {
        let one = order(START).unwrap();
        assert_eq!(
            one.arguments,
            ["-namespace", "moby", "-address", "/a.sock", "-publish-binary", "/c", "-id", "", "start"]
        );
        assert_eq!(order(&START.replace("c1", "c2")), Some(order(START).unwrap()));
        assert_ne!(order(&START.replace("/a.sock", "/b.sock")), Some(one));
        assert_eq!(order(&START.replace("start", "delete")), None);
        assert_eq!(order("start"), None);
    }

    #[test]
    fn time_on_the_processor_is_that_of_user_and_kernel() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 25 17 3 4 20 0 9 0 5000 1000 200";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn a_spare_shim_is_given_away_once_and_only_by_its_own_order_while_it_serves() {
        let folder = tempfile::tempdir().unwrap();
        let free = folder.path().join("free");
        let order = order(START).unwrap();
        let mut serving = Vec::new();
        let mut processes = Vec::new();
        for name in ["one", "three", "two-dead"] {
            let spare = free.join(name);
            fs::create_dir_all(&spare).unwrap();
            // A shim's socket lies elsewhere, and does not move with the folder.
            let socket = folder.path().join(format!("{name}.sock"));
            fs::write(spare.join(ADDRESS), format!("unix://{}", socket.display())).unwrap();
            // A process with the name among its arguments.
            let process =
                Command::new("sh").args(["-c", "read line", name]).stdin(Stdio::piped()).spawn().unwrap();
            let pid = Pid::from_raw(process.id().cast_signed());
            soon(|| serves(pid, name).then_some(())).unwrap();
            kill(pid, Signal::SIGSTOP).unwrap();
            fs::write(spare.join(PROCESS), pid.to_string()).unwrap();
            processes.push(process);
            fs::write(spare.join(ANSWER), name).unwrap();
            fs::write(spare.join(ORDER), serde_json::to_vec(&order).unwrap()).unwrap();
            serving.push(UnixListener::bind(socket).unwrap());
        }
        serving.pop();
        let other = Order { arguments: vec!["start".into()], ..order.clone() };
        assert!(take_from(&free, &other).is_none());
        let answers: Vec<_> = (0..3).map(|_| take_from(&free, &order).map(|s| s.answer)).collect();
        assert_eq!(answers, [Some(b"one".to_vec()), Some(b"three".to_vec()), None]);
        assert_eq!(fs::read_dir(&free).unwrap().count(), 0, "a dead one is not tried again");
        for mut process in processes {
            // It goes on, reads the end of its input, and ends.
            drop(process.stdin.take());
            soon(|| process.try_wait().unwrap()).expect("it was let go on");
        }
    }
}
