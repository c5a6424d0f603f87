//! Checks what this machine can do for labs. Changes nothing (except for a probe file in labctl's own folders).

use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use labctl_images::durable;
use labctl_machines::{dind::Daemon, kernel, qemu};
use labctl_state::{Dirs, LabDir, MAX_SOCKET_PATH, Runtime};
use serde::Serialize;
use tokio::process::Command;

/// MiB of free memory below which not even a small lab fits.
const LEAST_MEMORY: u64 = 768;
/// MiB of free memory below which labs of more than two hosts are a risk.
const GOOD_MEMORY: u64 = 2560;
/// MiB of disk that making a node image needs.
const GOOD_DISK: u64 = 3072;
/// Where libvirt's daemon listens.
const LIBVIRT: &str = "/var/run/libvirt/libvirt-sock";
/// Limit for any program or daemon that is asked.
const PATIENCE: Duration = Duration::from_secs(5);
/// How a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Good for labs.
    Ok,
    /// Labs run, but not all, or slowly.
    Limits,
    /// Labs cannot run.
    Missing,
    /// Worth knowing; the vm runtime does not need it.
    Fact,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it, if anything.
    pub advice: Option<String>,
}

/// All findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Whether labs can run on the vm runtime.
    pub vm: bool,
    /// Whether containers of this machine's Docker can be hosts, as far as `features` allow.
    pub dind: bool,
    /// The runtime that `auto` chooses here; `dind` only for labs that need no more than `features`.
    pub auto: Runtime,
    /// Kernel features that such hosts may need, and whether they are there; empty if they could not be tried.
    pub features: BTreeMap<String, bool>,
    /// In reading order.
    pub findings: Vec<Finding>,
}

impl Finding {
    fn new(name: &str, level: Level, found: impl Into<String>) -> Self {
        Self { name: name.to_owned(), level, found: found.into(), advice: None }
    }

    fn advice(mut self, text: impl Into<String>) -> Self {
        self.advice = Some(text.into());
        self
    }
}

/// Checks everything. `path` is the search path for programs, as in `PATH`; with the agent's binary KVM is tried by
/// booting a node image.
pub async fn examine(dirs: &Dirs, path: &OsStr, agent: Option<&Path>) -> Diagnosis {
    let mut findings = vec![qemu(path).await];
    let mut kvm = false;
    if findings[0].level == Level::Ok {
        let found = accel(dirs, agent).await;
        kvm = found.level == Level::Ok;
        findings.push(found);
    }
    let images = images(dirs);
    let has_image = images.level == Level::Ok;
    findings.push(images);
    findings.extend(image_build(path, has_image).await);
    findings.push(folder("state folder", &dirs.state, "--state-dir or LABCTL_STATE_DIR"));
    findings.push(folder("cache folder", &dirs.cache, "--cache-dir or LABCTL_CACHE_DIR"));
    findings.push(socket_paths(dirs));
    findings.push(disk(&dirs.cache, has_image));
    findings.push(memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default()));
    findings.push(cores());
    let daemon = tokio::time::timeout(PATIENCE, Daemon::find()).await;
    let dind = matches!(daemon, Ok(Ok(_)));
    findings.push(docker_daemon(daemon.ok()));
    findings.push(ssh(path));
    findings.push(vagrant(path, Path::new(LIBVIRT)));
    let features = match agent {
        Some(agent) => {
            let tried: Result<BTreeMap<_, _>, _> = kernel::examine(agent).await.map(|found| {
                found.into_iter().map(|(feature, why)| (feature.name().to_owned(), why.is_none())).collect()
            });
            findings.push(kernel_features(&tried));
            tried.unwrap_or_default()
        }
        None => BTreeMap::new(),
    };
    let vm = findings.iter().all(|f| f.level != Level::Missing);
    // As in `runtimes::resolve`, which does not use dind if the kernel cannot be examined.
    let auto = if kvm || !dind || features.is_empty() { Runtime::Vm } else { Runtime::Dind };
    Diagnosis { vm, dind, auto, features, findings }
}

/// The client of `--runtime ssh`. Which machines it reaches is for `up` to say.
fn ssh(path: &OsStr) -> Finding {
    match find_program("ssh", path) {
        Some(program) => {
            Finding::new("ssh", Level::Fact, format!("{}, for --runtime ssh", program.display()))
        }
        None => Finding::new("ssh", Level::Fact, "no ssh in PATH: --runtime ssh needs it")
            .advice("to run labs on machines that exist: apt-get install openssh-client"),
    }
}

/// Vagrant for `--runtime vagrant`, and the daemon whose machines it makes.
fn vagrant(path: &OsStr, libvirt: &Path) -> Finding {
    let install = format!("to have Vagrant make the hosts: {}", labctl_machines::vagrant::INSTALL);
    match find_program("vagrant", path) {
        None => Finding::new("vagrant", Level::Fact, "no vagrant in PATH: --runtime vagrant needs it")
            .advice(install),
        Some(program) if libvirt.exists() => Finding::new(
            "vagrant",
            Level::Fact,
            format!("{}, with libvirt, for --runtime vagrant", program.display()),
        ),
        Some(program) => Finding::new(
            "vagrant",
            Level::Fact,
            format!(
                "{}, but no libvirt at {}: --runtime vagrant needs it, or VirtualBox",
                program.display(),
                libvirt.display()
            ),
        )
        .advice("start it: systemctl start libvirtd, or without systemd `virtlogd -d; libvirtd -d`"),
    }
}

async fn qemu(path: &OsStr) -> Finding {
    const PROGRAM: &str = "qemu-system-x86_64";
    let install = "install it: apt-get install qemu-system-x86";
    let Some(program) = find_program(PROGRAM, path) else {
        return Finding::new("qemu", Level::Missing, format!("no {PROGRAM} in PATH")).advice(install);
    };
    match first_line(&program, &["--version"]).await {
        Ok(version) if qemu_version(&version).is_some_and(|v| v < qemu::OLDEST) => {
            let (major, minor) = qemu::OLDEST;
            Finding::new("qemu", Level::Missing, format!("{version} is too old, {major}.{minor} is needed"))
                .advice("take it from your distribution's backports")
        }
        Ok(version) => Finding::new("qemu", Level::Ok, version),
        Err(why) => {
            Finding::new("qemu", Level::Missing, format!("{}: {why}", program.display())).advice(install)
        }
    }
}

/// Major and minor of `QEMU emulator version 10.0.2 (Debian …)`.
fn qemu_version(line: &str) -> Option<(u64, u64)> {
    let mut numbers = line.split("version ").nth(1)?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Boots the node image if there is one: under a hypervisor KVM may run a few instructions but no kernel.
async fn accel(dirs: &Dirs, agent: Option<&Path>) -> Finding {
    let image = labctl_images::ls(&dirs.cache).unwrap_or_default().into_iter().find(|l| l.current);
    let (tried, done) = match (image, agent) {
        (Some(listed), Some(agent)) => (qemu::kvm_boots(&listed.image, agent).await, "boots the node image"),
        _ => (
            qemu::kvm_works().await,
            "starts machines; whether it boots a host shows once there is a node image",
        ),
    };
    match tried {
        Ok(()) => Finding::new("kvm", Level::Ok, done),
        Err(why) => {
            Finding::new("kvm", Level::Limits, format!("not usable: {why}; machines are emulated (TCG)"))
                .advice(
                    "labs run all the same, several times slower; where /dev/kvm exists, join the group kvm",
                )
        }
    }
}

fn images(dirs: &Dirs) -> Finding {
    match labctl_images::ls(&dirs.cache) {
        Ok(list) if list.is_empty() => Finding::new("node images", Level::Limits, "none yet")
            .advice("the first `labctl up` makes one; or now: labctl image build"),
        Ok(list) => {
            let names: Vec<_> = list.iter().map(|l| l.image.id()).collect();
            Finding::new("node images", Level::Ok, names.join(", "))
        }
        Err(e) => Finding::new("node images", Level::Limits, e.to_string()),
    }
}

/// Checks what making a node image needs: a program, and root or a user namespace. Required only if there is no image.
async fn image_build(path: &OsStr, has_image: bool) -> [Finding; 2] {
    let lacking = if has_image { Level::Limits } else { Level::Missing };
    let builder = match find_program("mmdebstrap", path) {
        Some(program) => match first_line(&program, &["--version"]).await {
            Ok(version) => Finding::new("mmdebstrap", Level::Ok, version),
            Err(why) => Finding::new("mmdebstrap", lacking, why),
        },
        None => Finding::new("mmdebstrap", lacking, "not in PATH: no node image can be made")
            .advice("install it: apt-get install mmdebstrap"),
    };
    let privilege = if nix::unistd::geteuid().is_root() {
        Finding::new("making images", Level::Ok, "as root")
    } else {
        match user_namespaces(path).await {
            Ok(()) => Finding::new("making images", Level::Ok, "in a user namespace, without root"),
            Err((why, advice)) => Finding::new("making images", lacking, why).advice(advice),
        }
    };
    [builder, privilege]
}

/// Whether an ordinary user gets a user namespace with a range of ids in it.
async fn user_namespaces(path: &OsStr) -> Result<(), (String, String)> {
    let Some(unshare) = find_program("unshare", path) else {
        return Err(("no unshare in PATH".into(), "install it: apt-get install util-linux".into()));
    };
    if let Err(why) = first_line(&unshare, &["--user", "--map-root-user", "echo", "ok"]).await {
        let advice = "run `labctl image build` once as root, or allow user namespaces (sysctl \
                      kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)";
        return Err((format!("not root, and no user namespace: {why}"), advice.into()));
    }
    if find_program("newuidmap", path).is_none() {
        return Err(("no newuidmap in PATH".into(), "install it: apt-get install uidmap".into()));
    }
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|u| u.name);
    let uid = nix::unistd::geteuid().to_string();
    let ranges = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let mine = |line: &str| line.split(':').next().is_some_and(|n| n == uid || Some(n) == me.as_deref());
    if !ranges.lines().any(mine) {
        let user = me.unwrap_or(uid);
        return Err((
            format!("{user} has no range of ids in /etc/subuid"),
            format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"),
        ));
    }
    Ok(())
}

/// Whether a folder can be made and written to.
fn folder(name: &str, path: &Path, option: &str) -> Finding {
    let tried = fs::create_dir_all(path).and_then(|()| tempfile::tempfile_in(path));
    match tried {
        Ok(_) => Finding::new(name, Level::Ok, path.display().to_string()),
        Err(e) => Finding::new(name, Level::Missing, format!("{}: {e}", path.display()))
            .advice(format!("name one that can be written to with {option}")),
    }
}

/// Whether the socket paths of a lab with names of usual length fit; `up` reports longer ones that do not.
fn socket_paths(dirs: &Dirs) -> Finding {
    let typical = LabDir::of(dirs, "ipvlan-2host").docker_socket("manager1");
    let length = typical.as_os_str().len();
    let found = format!("{length} of at most {MAX_SOCKET_PATH} bytes, in a lab like {}", typical.display());
    if length <= MAX_SOCKET_PATH {
        Finding::new("socket paths", Level::Ok, found)
    } else {
        Finding::new("socket paths", Level::Missing, found)
            .advice("give a shorter state folder with --state-dir or LABCTL_STATE_DIR")
    }
}

fn disk(cache: &Path, has_image: bool) -> Finding {
    let there = cache.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    match durable::free(there) {
        Err(e) => Finding::new("disk", Level::Limits, format!("{}: {e}", there.display())),
        Ok(free) => {
            let free = free >> 20;
            let found = format!("{free} MiB free in {}", there.display());
            if free >= GOOD_DISK || has_image {
                Finding::new("disk", Level::Ok, found)
            } else {
                Finding::new("disk", Level::Missing, found)
                    .advice(format!("a node image and its making need {GOOD_DISK} MiB: make room, or name another cache folder"))
            }
        }
    }
}

fn memory(meminfo: &str) -> Finding {
    let kib = |key: &str| -> Option<u64> {
        meminfo.lines().find_map(|l| l.strip_prefix(key)?.trim().strip_suffix("kB")?.trim().parse().ok())
    };
    let Some(free) = kib("MemAvailable:").map(|k| k >> 10) else {
        return Finding::new("memory", Level::Limits, "unknown: /proc/meminfo does not say");
    };
    let found = format!("{free} MiB available");
    match free {
        f if f >= GOOD_MEMORY => Finding::new("memory", Level::Ok, found),
        f if f >= LEAST_MEMORY => Finding::new("memory", Level::Limits, found)
            .advice("enough for a lab of two hosts; `memory:` of a host makes it smaller"),
        _ => Finding::new("memory", Level::Missing, found)
            .advice(format!("a small lab needs {LEAST_MEMORY} MiB: end something")),
    }
}

fn cores() -> Finding {
    let n = std::thread::available_parallelism().map_or(1, usize::from);
    let finding = Finding::new("cores", if n > 1 { Level::Ok } else { Level::Limits }, n.to_string());
    if n > 1 { finding } else { finding.advice("hosts of a lab start one after another") }
}

/// Whether containers of this machine's Docker can be hosts.
fn docker_daemon(found: Option<Result<Daemon, String>>) -> Finding {
    let fact = |found: String| Finding::new("docker here", Level::Fact, found);
    match found {
        Some(Ok(daemon)) => fact(format!(
            "{}; `--runtime dind` can use it, and root in a host is root of this machine then",
            daemon.version
        )),
        Some(Err(why)) => fact(format!("{why}; the vm runtime does not need it")),
        None => fact("the daemon does not answer; the vm runtime does not need it".into()),
    }
}

/// The kernel features that hosts in containers would find.
fn kernel_features(tried: &Result<BTreeMap<String, bool>, String>) -> Finding {
    let found = match tried {
        Err(why) => format!("not known what it can do for `--runtime dind`: {why}"),
        Ok(features) => {
            let names = |there: bool| {
                let some = features.iter().filter(|(_, has)| **has == there);
                let names: Vec<&str> = some.map(|(name, _)| name.as_str()).collect();
                if names.is_empty() { "nothing".to_owned() } else { names.join(" ") }
            };
            format!("for `--runtime dind` it has {}; it lacks {}", names(true), names(false))
        }
    };
    Finding::new("kernel", Level::Fact, found)
}

fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |p: &PathBuf| p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    env::split_paths(path).map(|dir| dir.join(name)).find(runs)
}

/// The first line that a program prints, or why it failed.
async fn first_line(program: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(args).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let line =
        |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().trim().to_owned();
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Err(_) => Err(format!("it did not end within {PATIENCE:?}")),
        Ok(Err(e)) => Err(e.to_string()),
        Ok(Ok(out)) if out.status.success() => Ok(line(&out.stdout)),
        Ok(Ok(out)) => Err(format!("{}: {}", out.status, line(&out.stderr))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_is_judged_by_what_is_available() {
        let level = |mib: u64| memory(&format!("MemTotal: 99 kB\nMemAvailable:   {} kB\n", mib << 10)).level;
        assert_eq!([level(4096), level(1024), level(100)], [Level::Ok, Level::Limits, Level::Missing]);
        assert_eq!(memory("").level, Level::Limits);
    }

    #[test]
    fn a_folder_that_cannot_be_is_missing_with_the_way_out() {
        let tmp = tempfile::tempdir().unwrap();
        assert_eq!(folder("state folder", &tmp.path().join("a/b"), "--state-dir").level, Level::Ok);
        fs::write(tmp.path().join("file"), "").unwrap();
        let bad = folder("state folder", &tmp.path().join("file/b"), "--state-dir");
        assert_eq!(bad.level, Level::Missing);
        assert!(bad.advice.unwrap().contains("--state-dir"));
    }

    #[test]
    fn a_state_folder_too_deep_for_sockets_is_missing() {
        let dirs = |state: &str| Dirs { cache: "/c".into(), state: state.into() };
        assert_eq!(socket_paths(&dirs("/home/me/.local/state/labctl")).level, Level::Ok);
        assert_eq!(socket_paths(&dirs(&format!("/{}", "x".repeat(100)))).level, Level::Missing);
    }

    #[test]
    fn the_version_of_qemu_is_read_from_what_it_says() {
        assert_eq!(qemu_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"), Some((10, 0)));
        assert_eq!(qemu_version("QEMU emulator version 7.2"), Some((7, 2)));
        assert_eq!(qemu_version("no such thing"), None);
    }

    #[tokio::test]
    async fn without_qemu_labs_cannot_run() {
        let tmp = tempfile::tempdir().unwrap();
        let dirs = Dirs { cache: tmp.path().join("c"), state: tmp.path().join("s") };
        let diagnosis = examine(&dirs, OsStr::new("/no/such/folder"), None).await;
        assert!(!diagnosis.vm);
        let qemu = diagnosis.findings.iter().find(|f| f.name == "qemu").unwrap();
        assert!(qemu.level == Level::Missing && qemu.advice.as_ref().unwrap().contains("apt-get install"));
    }

    #[tokio::test]
    async fn a_program_is_asked_and_its_failure_told() {
        let sh = find_program("sh", OsStr::new("/bin:/usr/bin")).unwrap();
        assert_eq!(first_line(&sh, &["-c", "echo one; echo two"]).await.unwrap(), "one");
        assert!(first_line(&sh, &["-c", "echo no >&2; exit 3"]).await.unwrap_err().contains("no"));
    }
}
