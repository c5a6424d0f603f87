//! What containers and services have beside image, networks and ports.

use std::time::Duration;

use labctl_yaml::{At, Cx, FromNode, Map, OneOrMany, Value, Yaml, inline_schema, raw};
use schemars::json_schema;

use super::CommandLine;

raw! {
    /// How Docker finds out whether a container is well.
    Healthcheck, "a healthcheck" {
        /// The command, as a list that begins with `CMD`, `CMD-SHELL` or `NONE`, or as one text for the image's shell.
        test: Option<CommandLine>,
        /// Time between two checks.
        interval: Option<At<Duration>>,
        /// After which a check has failed.
        timeout: Option<At<Duration>>,
        /// How many in a row must fail.
        retries: Option<At<u32>>,
        /// Time after the start in which failures do not count.
        start_period: Option<At<Duration>>,
        /// Time between two checks in the start period; Docker 25 and later.
        start_interval: Option<At<Duration>>,
        /// `true`: none, not even the image's own.
        disable: Option<At<bool>>,
    }
}

raw! {
    /// A volume in its long form.
    LongVolume, "a volume" {
        /// `volume` (default) or `tmpfs`.
        #[schemars(extend("enum" = ["volume", "tmpfs"]))]
        r#type: Option<At<String>>,
        /// Name of the volume, which Docker makes; one of the container's own where it is absent.
        source: Option<At<String>>,
        /// Where it is mounted.
        target: At<String>,
        /// Whether nothing can be written to it.
        read_only: Option<At<bool>>,
        /// Options of a tmpfs.
        tmpfs: Option<Tmpfs>,
    }
}

raw! {
    /// Options of a tmpfs.
    Tmpfs, "tmpfs" {
        /// Most bytes in it, as `64m`.
        size: Option<At<String>>,
        /// Mode of its folder, as `1777`, in octal.
        mode: Option<At<String>>,
    }
}

/// A volume in either form: `[NAME:]PATH[:ro]`, or a mapping.
#[derive(Clone, Debug)]
pub(crate) enum Volume {
    Short(At<String>),
    Long(Box<LongVolume>),
}

impl FromNode for Volume {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        match node.value {
            Value::Map(_) => LongVolume::from_node(node, cx).map(|v| Self::Long(Box::new(v))),
            _ => At::from_node(node, cx).map(Self::Short),
        }
    }
}

inline_schema!(Volume, g => {
    let long = g.subschema_for::<LongVolume>();
    json_schema!({ "anyOf": [{ "type": "string" }, long] })
});

raw! {
    /// A limit with two numbers; -1 is none.
    SoftHard, "a limit" {
        /// What a process begins with.
        soft: At<String>,
        /// What it can raise that to.
        hard: At<String>,
    }
}

/// A limit: one number for both, or two.
#[derive(Clone, Debug)]
pub(crate) enum Ulimit {
    Both(At<String>),
    Each(SoftHard),
}

impl FromNode for Ulimit {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        match node.value {
            Value::Map(_) => SoftHard::from_node(node, cx).map(Self::Each),
            _ => At::from_node(node, cx).map(Self::Both),
        }
    }
}

inline_schema!(Ulimit, g => {
    let each = g.subschema_for::<SoftHard>();
    json_schema!({ "anyOf": [{ "type": ["integer", "string"] }, each] })
});

/// `extra_hosts`: a mapping of names to addresses, or a list of `NAME=ADDRESS`.
#[derive(Clone, Debug)]
pub(crate) enum ExtraHosts {
    Map(Map<OneOrMany<At<String>>>),
    List(Vec<At<String>>),
}

impl FromNode for ExtraHosts {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        match node.value {
            Value::Map(_) => Map::from_node(node, cx).map(Self::Map),
            _ => Vec::from_node(node, cx).map(Self::List),
        }
    }
}

inline_schema!(ExtraHosts, g => {
    let map = g.subschema_for::<Map<OneOrMany<At<String>>>>();
    json_schema!({ "anyOf": [map, { "type": "array", "items": { "type": "string" } }] })
});

raw! {
    /// How the tasks of a service are replaced.
    UpdatePace, "an update or rollback" {
        /// How many at once; 0 is all. Default 1.
        parallelism: Option<At<u32>>,
        /// Time between them.
        delay: Option<At<Duration>>,
        /// When one fails: `pause` (default), `continue`, or `rollback` in `update_config`.
        #[schemars(extend("enum" = ["pause", "continue", "rollback"]))]
        failure_action: Option<At<String>>,
        /// How long a new task is watched. Default 5s.
        monitor: Option<At<Duration>>,
        /// Share of tasks that may fail, 0 to 1. Default 0.
        max_failure_ratio: Option<At<String>>,
        /// `stop-first` (default): the old task stops before the new one starts; `start-first`.
        #[schemars(extend("enum" = ["stop-first", "start-first"]))]
        order: Option<At<String>>,
    }
}

raw! {
    /// When the swarm makes a new task for one that ended.
    RestartPolicy, "a restart policy" {
        /// `any` (default), `on-failure` or `none`.
        #[schemars(extend("enum" = ["any", "on-failure", "none"]))]
        condition: Option<At<String>>,
        /// Time before it. Default 5s.
        delay: Option<At<Duration>>,
        /// How often. Default: without end.
        max_attempts: Option<At<u32>>,
        /// Time in which these attempts are counted.
        window: Option<At<Duration>>,
    }
}

/// The options that containers and services share, as they are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunKeys<'r> {
    pub(crate) dns: Option<&'r OneOrMany<At<String>>>,
    pub(crate) dns_search: Option<&'r OneOrMany<At<String>>>,
    pub(crate) dns_opt: Option<&'r [At<String>]>,
    pub(crate) extra_hosts: Option<&'r ExtraHosts>,
    pub(crate) volumes: Option<&'r [Volume]>,
    pub(crate) healthcheck: Option<&'r Healthcheck>,
    pub(crate) ulimits: Option<&'r Map<Ulimit>>,
    pub(crate) stop_grace_period: Option<&'r At<Duration>>,
}

/// Gives a mapping with all of these keys its [`RunKeys`].
macro_rules! run_keys {
    ($type:ty) => {
        impl $type {
            /// The options that containers and services share.
            pub(crate) fn run_keys(&self) -> RunKeys<'_> {
                RunKeys {
                    dns: self.dns.as_ref(),
                    dns_search: self.dns_search.as_ref(),
                    dns_opt: self.dns_opt.as_deref(),
                    extra_hosts: self.extra_hosts.as_ref(),
                    volumes: self.volumes.as_deref(),
                    healthcheck: self.healthcheck.as_ref(),
                    ulimits: self.ulimits.as_ref(),
                    stop_grace_period: self.stop_grace_period.as_ref(),
                }
            }
        }
    };
}

run_keys!(super::Container);
run_keys!(super::Service);
