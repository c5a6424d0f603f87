//! What a container needs to be a lab host: its own dockerd inside, which by itself changes nothing on the machine. That
//! is no protection: root in a node is root of this machine (docs/runtimes/dind.md, "Trust").
//!
//! Plain data, so that other clients than labctl's can start such containers too.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountType,
};
use labctl_protocol::node::AGENT;

/// Where this machine's dockerd notes its process.
const PID_FILE: &str = "/var/run/docker.pid";

/// Capabilities by number, from `linux/capability.h`. The three newest (38 to 40: PERFMON, BPF, CHECKPOINT_RESTORE) are
/// parts of SYS_ADMIN whose names older engines do not know.
const CAPABILITIES: [&str; 38] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
];

/// Capabilities that a node never gets: the kernel's clock and modules belong to the machine.
pub const WITHHELD: [&str; 3] = ["SYS_MODULE", "SYS_RAWIO", "SYS_TIME"];

/// A container that serves as a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeContainer {
    /// The node image, as Docker knows it (see [`super::import()`]).
    pub image: String,
    /// The agent as process 1, and its arguments (`labctl-agent --help`). It prepares the container for a
    /// dockerd, which `--engine` starts too; then it writes [`labctl_protocol::node::ENGINE_ANSWERS`] to stderr.
    pub command: Vec<String>,
    /// Capabilities to add, without `CAP_`: those that this machine's dockerd can give.
    pub cap_add: Vec<String>,
    /// `--security-opt`. Also, no path of /proc and /sys may be masked or read-only: `systempaths=unconfined` on
    /// Docker's command line, empty `MaskedPaths` and `ReadonlyPaths` in its API.
    pub security_opt: Vec<String>,
    /// `--device-cgroup-rule`.
    pub device_cgroup_rules: Vec<String>,
    /// `--device`, with the same path inside.
    pub devices: Vec<String>,
    /// Read-only bind mounts: path on this machine, path inside.
    pub binds: Vec<(PathBuf, String)>,
    /// Anonymous volumes, which are removed with the container if it is removed with `v=true`.
    pub volumes: Vec<String>,
    /// `--tmpfs`: path and options.
    pub tmpfs: BTreeMap<String, String>,
}

impl NodeContainer {
    /// A node of this image, with this agent (a static executable on this machine).
    ///
    /// The container has no network but what its agent makes, its own cgroup namespace, so that what its dockerd makes
    /// goes with it, and dockerd's files in a volume: overlay2 takes no overlay as its upper layer.
    pub fn new(image: impl Into<String>, agent: &Path) -> Self {
        Self {
            image: image.into(),
            command: [AGENT, "node"].map(String::from).to_vec(),
            cap_add: capabilities(bounding_set()),
            security_opt: ["seccomp=unconfined", "apparmor=unconfined", "label=disable"]
                .map(String::from)
                .to_vec(),
            device_cgroup_rules: vec!["a *:* rwm".into()],
            devices: vec!["/dev/net/tun".into()],
            binds: vec![(agent.to_owned(), AGENT.into())],
            volumes: vec!["/var/lib/docker".into()],
            tmpfs: [("/run", "rw,nosuid,nodev,mode=755"), ("/tmp", "rw,nosuid,nodev,exec,mode=1777")]
                .map(|(path, options)| (path.to_owned(), options.to_owned()))
                .into(),
        }
    }

    /// Converts it to the body of bollard's `create_container`.
    pub fn create_body(&self, hostname: &str, labels: HashMap<String, String>) -> ContainerCreateBody {
        ContainerCreateBody {
            image: Some(self.image.clone()),
            hostname: Some(hostname.to_owned()),
            entrypoint: Some(self.command.clone()),
            cmd: Some(Vec::new()),
            env: Some(vec![format!("PATH={PATH}"), "HOME=/root".into(), "container=docker".into()]),
            labels: Some(labels),
            stop_signal: Some("SIGTERM".into()),
            host_config: Some(self.host_config()),
            ..ContainerCreateBody::default()
        }
    }

    fn host_config(&self) -> HostConfig {
        let device = |path: &String| DeviceMapping {
            path_on_host: Some(path.clone()),
            path_in_container: Some(path.clone()),
            cgroup_permissions: Some("rwm".into()),
        };
        let bind = |(source, target): &(PathBuf, String)| Mount {
            typ: Some(MountType::BIND),
            source: Some(source.to_string_lossy().into_owned()),
            target: Some(target.clone()),
            read_only: Some(true),
            ..Mount::default()
        };
        let volume = |target: &String| Mount {
            typ: Some(MountType::VOLUME),
            target: Some(target.clone()),
            ..Mount::default()
        };
        HostConfig {
            cap_add: Some(self.cap_add.clone()),
            security_opt: Some(self.security_opt.clone()),
            masked_paths: Some(Vec::new()),
            readonly_paths: Some(Vec::new()),
            device_cgroup_rules: Some(self.device_cgroup_rules.clone()),
            devices: Some(self.devices.iter().map(device).collect()),
            mounts: Some(self.binds.iter().map(bind).chain(self.volumes.iter().map(volume)).collect()),
            tmpfs: Some(self.tmpfs.iter().map(|(k, v)| (k.clone(), v.clone())).collect()),
            cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
            network_mode: Some("none".into()),
            // The machine's default log driver may be one that cannot be read back.
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".into()),
                config: Some(HashMap::from([("max-size".into(), "1m".into())])),
            }),
            ..HostConfig::default()
        }
    }
}

/// Where programs are looked up in a node.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The capabilities that this machine's dockerd can pass on: its bounding set if its process can be looked at, else that
/// of this process, which is usually the same.
fn bounding_set() -> u64 {
    let pid = fs::read_to_string(PID_FILE).ok().map(|text| text.trim().to_owned());
    let dockerd = pid.filter(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == "dockerd")
    });
    let of = |who: &str| bounding_set_in(&fs::read_to_string(format!("/proc/{who}/status")).ok()?);
    dockerd.and_then(|pid| of(&pid)).or_else(|| of("self")).unwrap_or(u64::MAX)
}

/// The bounding set in /proc/PID/status (proc(5)).
fn bounding_set_in(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

fn capabilities(set: u64) -> Vec<String> {
    let there = CAPABILITIES.iter().enumerate().filter(|(number, _)| set >> number & 1 == 1);
    there.map(|(_, name)| *name).filter(|name| !WITHHELD.contains(name)).map(String::from).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_capabilities_that_there_are_are_asked_for() {
        // Everything but SYS_RESOURCE, which is number 24.
        let set = bounding_set_in("Name:\tx\nCapBnd:\t000001fffeffffff\n").unwrap();
        let asked = capabilities(set);
        assert!(asked.contains(&"SYS_ADMIN".to_owned()) && asked.contains(&"AUDIT_READ".to_owned()));
        assert!(!asked.contains(&"SYS_RESOURCE".to_owned()) && !asked.contains(&"SYS_TIME".to_owned()));
        assert_eq!(asked.len(), 38 - 3 - 1);
        assert_eq!(capabilities(1 << 21), ["SYS_ADMIN"]);
    }
}
