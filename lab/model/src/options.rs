//! What a container or service has beside its image, networks and ports, in Compose's words.

use std::{net::IpAddr, time::Duration};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// Options that containers and services share. Of what is `None` Docker is told nothing: its own default holds, and in an
/// update what was there stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunOptions {
    /// Name servers behind Docker's own.
    pub dns: Option<Vec<IpAddr>>,
    /// Domains that are searched.
    pub dns_search: Option<Vec<String>>,
    /// Options of the resolver, as in resolv.conf(5).
    pub dns_opt: Option<Vec<String>>,
    /// Names in `/etc/hosts`, each with its address.
    pub extra_hosts: Option<Vec<(String, HostAddress)>>,
    /// Volumes and tmpfs.
    pub volumes: Option<Vec<Volume>>,
    /// How Docker finds out whether it is well.
    pub healthcheck: Option<Healthcheck>,
    /// Limits by name, as `nofile`.
    pub ulimits: Option<IndexMap<String, Ulimit>>,
    /// How long it may take to stop before it is killed.
    pub stop_grace_period: Option<Duration>,
}

/// The address of a name in `extra_hosts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostAddress {
    /// This one.
    Ip(IpAddr),
    /// That of the host's docker0.
    HostGateway,
}

/// What is mounted in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// What it is.
    pub source: VolumeSource,
    /// Where, as an absolute path.
    pub target: String,
    /// Whether nothing can be written to it.
    pub read_only: bool,
}

/// What a [`Volume`] is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeSource {
    /// A volume of this name, which Docker makes on the host; without a name, one of the container's own.
    Named(Option<String>),
    /// Memory.
    Tmpfs {
        /// Most bytes in it.
        size: Option<u64>,
        /// Mode of its folder.
        mode: Option<u32>,
    },
}

/// A health check. Of what is `None` the image's own holds, else Docker's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// In Docker's form: empty, or `NONE`, `CMD` or `CMD-SHELL` and what follows.
    pub test: Vec<String>,
    /// Time between two checks.
    pub interval: Option<Duration>,
    /// After which a check has failed.
    pub timeout: Option<Duration>,
    /// How many in a row must fail.
    pub retries: Option<u32>,
    /// Time after its start in which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between two checks in the start period (Docker 25 and later).
    pub start_interval: Option<Duration>,
}

/// A limit; -1 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// What a process begins with.
    pub soft: i64,
    /// What it can raise that to.
    pub hard: i64,
}

/// When Docker starts a container again that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    No,
    /// Always, and when dockerd starts.
    Always,
    /// Always, unless it was stopped.
    UnlessStopped,
    /// If it failed, at most so often.
    OnFailure(Option<u32>),
}

/// A device of the host in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the host.
    pub host: String,
    /// Path in the container.
    pub container: String,
    /// What it may do: some of `r`, `w` and `m`.
    pub permissions: String,
}

/// How the swarm replaces tasks of a service and makes new ones for those that ended. `None` as in [`RunOptions`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rolling {
    /// `update_config`.
    pub update: Option<UpdatePace>,
    /// `rollback_config`.
    pub rollback: Option<UpdatePace>,
    /// `restart_policy`.
    pub restart: Option<TaskRestart>,
}

/// How tasks are replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpdatePace {
    /// How many at once; 0 is all.
    pub parallelism: Option<u32>,
    /// Time between them.
    pub delay: Option<Duration>,
    /// What to do when one fails.
    pub failure_action: Option<FailureAction>,
    /// How long a new task is watched.
    pub monitor: Option<Duration>,
    /// Share of tasks that may fail, 0 to 1.
    pub max_failure_ratio: Option<f64>,
    /// Whether the new task starts before the old one stops.
    pub start_first: Option<bool>,
}

/// What to do when a task fails in an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureAction {
    /// Go on.
    Continue,
    /// Leave it as it is.
    Pause,
    /// Go back; only in `update_config`.
    Rollback,
}

/// When the swarm makes a new task for one that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRestart {
    /// When.
    pub condition: Option<RestartCondition>,
    /// Time before it.
    pub delay: Option<Duration>,
    /// How often.
    pub max_attempts: Option<u32>,
    /// Time in which these attempts are counted.
    pub window: Option<Duration>,
}

/// After what a new task is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    /// Nothing.
    None,
    /// A failure.
    OnFailure,
    /// Any end.
    Any,
}
