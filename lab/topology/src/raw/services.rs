//! `services`.

use std::time::Duration;

use labctl_yaml::{At, Cx, FromNode, Map, OneOrMany, Value, Yaml, inline_schema, raw};
use schemars::json_schema;

use super::{
    Attachments, CommandLine, Environment, ExtraHosts, Healthcheck, RestartPolicy, Ulimit, UpdatePace, Volume,
};

raw! {
    /// A service of the swarm, in compose's words.
    Service, "a service" {
        /// Its image; default a built-in one that only waits, static and without a shell.
        image: Option<At<String>>,
        /// Its command, as a list or as words; default the image's own.
        command: Option<CommandLine>,
        /// Environment, as a mapping or a list of `KEY=VALUE`.
        environment: Option<Environment>,
        /// The overlay networks it is on, by name, each with `aliases` if any.
        networks: Option<Attachments>,
        /// Published ports: `[PUBLISHED:]TARGET[/udp]`, or in the long form with `mode`.
        ports: Option<Vec<ServicePort>>,
        /// How many tasks there are, and where.
        deploy: Option<Deploy>,
        /// Name servers behind Docker's own: one or a list.
        dns: Option<OneOrMany<At<String>>>,
        /// Domains that are searched: one or a list.
        dns_search: Option<OneOrMany<At<String>>>,
        /// Options of the resolver, as `ndots:2`.
        dns_opt: Option<Vec<At<String>>>,
        /// Names for `/etc/hosts`: a mapping to addresses, or a list of `NAME=ADDRESS`; `host-gateway` is docker0's.
        extra_hosts: Option<ExtraHosts>,
        /// Volumes: `[NAME:]PATH[:ro]`, or in the long form, also with `type: tmpfs`.
        volumes: Option<Vec<Volume>>,
        /// How Docker finds out whether it is well.
        healthcheck: Option<Healthcheck>,
        /// Limits by name: a number, or `{ soft, hard }`; -1 is none.
        ulimits: Option<Map<Ulimit>>,
        /// How long it may take to stop before it is killed.
        stop_grace_period: Option<At<Duration>>,
        /// The hosts that its tasks may run on; default every node.
        hosts: Option<Vec<At<String>>>,
        /// Made only by a step (`do: create service NAME`).
        deferred: Option<At<bool>>,
    }
}

raw! {
    /// How many tasks a service has, and where.
    Deploy, "deploy" {
        /// `replicated` (default) or `global`: one task on every node.
        #[schemars(extend("enum" = ["replicated", "global"]))]
        mode: Option<At<String>>,
        /// How many tasks a replicated service has. Default 1.
        replicas: Option<At<u32>>,
        /// `vip` (default): the name resolves to one virtual address; `dnsrr`: to the addresses of the tasks.
        #[schemars(extend("enum" = ["vip", "dnsrr"]))]
        endpoint_mode: Option<At<String>>,
        /// Where tasks may run.
        placement: Option<Placement>,
        /// How its tasks are replaced in an update.
        update_config: Option<UpdatePace>,
        /// How its tasks are replaced when Docker goes back to what was before an update.
        rollback_config: Option<UpdatePace>,
        /// When a new task is made for one that ended.
        restart_policy: Option<RestartPolicy>,
    }
}

raw! {
    /// Where tasks may run.
    Placement, "placement" {
        /// All must hold, as `node.role==worker`.
        constraints: Option<Vec<At<String>>>,
    }
}

raw! {
    /// A published port in its long form.
    LongPort, "a published port" {
        /// Port in the tasks.
        target: At<u32>,
        /// Port on the hosts; Docker chooses where it is absent.
        published: Option<At<u32>>,
        /// `tcp` (default) or `udp`.
        #[schemars(extend("enum" = ["tcp", "udp"]))]
        protocol: Option<At<String>>,
        /// `ingress` (default): every node answers, for all tasks; `host`: nodes with a task, each for its own.
        #[schemars(extend("enum" = ["ingress", "host"]))]
        mode: Option<At<String>>,
    }
}

/// A published port in either form.
#[derive(Clone, Debug)]
pub(crate) enum ServicePort {
    Short(At<String>),
    Long(LongPort),
}

impl FromNode for ServicePort {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        match node.value {
            Value::Map(_) => LongPort::from_node(node, cx).map(Self::Long),
            _ => At::from_node(node, cx).map(Self::Short),
        }
    }
}

inline_schema!(ServicePort, g => {
    let long = g.subschema_for::<LongPort>();
    json_schema!({ "anyOf": [{ "type": ["string", "number"] }, long] })
});
