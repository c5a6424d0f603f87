//! `containers`.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use labctl_yaml::{At, Cx, Diagnostic, FromNode, Map, OneOrMany, Value, Yaml, inline_schema, raw};
use schemars::json_schema;

use super::{ExtraHosts, Healthcheck, Ulimit, Volume};

raw! {
    /// A container, in compose's words.
    Container, "a container" {
        /// The lab host it runs on; may be left out where there is only one.
        host: Option<At<String>>,
        /// Its image; default a built-in one that only waits, static and without a shell.
        image: Option<At<String>>,
        /// Its command, as a list or as words; default the image's own.
        command: Option<CommandLine>,
        /// Host name inside.
        hostname: Option<At<String>>,
        /// Environment, as a mapping or a list of `KEY=VALUE`.
        environment: Option<Environment>,
        /// The networks it is on, by name; the first is the one it is made on. Default: the default bridge.
        networks: Option<Attachments>,
        /// `bridge` (the default bridge), `host`, `none` or `container:NAME`.
        network_mode: Option<At<String>>,
        /// An address asked for on the default bridge, which Docker refuses.
        ipv4_address: Option<At<Ipv4Addr>>,
        /// Containers to link to: `NAME` or `NAME:ALIAS`.
        links: Option<Vec<At<String>>>,
        /// Published ports: `[[ADDRESS:]HOST_PORT:]PORT[/udp]`; an IPv6 address stands in brackets.
        ports: Option<Vec<At<String>>>,
        /// Added Linux capabilities, as `NET_ADMIN`.
        cap_add: Option<Vec<At<String>>>,
        /// Namespaced kernel settings.
        sysctls: Option<Map<At<String>>>,
        /// `no` (default), `always`, `unless-stopped` or `on-failure[:TIMES]`: when Docker starts it again.
        restart: Option<At<String>>,
        /// All capabilities and all devices of the host. Default false.
        privileged: Option<At<bool>>,
        /// Devices of the host: `PATH[:PATH[:rwm]]`.
        devices: Option<Vec<At<String>>>,
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
        /// Made only by a step (`do: create NAME`).
        deferred: Option<At<bool>>,
    }
}

raw! {
    /// How a container is attached to a network.
    Attachment, "an attachment" {
        /// Static IPv4 address, from one of the network's subnets.
        ipv4_address: Option<At<Ipv4Addr>>,
        /// Static IPv6 address, from one of the network's subnets.
        ipv6_address: Option<At<Ipv6Addr>>,
        /// Further names on this network.
        aliases: Option<Vec<At<String>>>,
        /// Static MAC, as 02:42:ac:11:00:02.
        mac_address: Option<At<String>>,
        /// Of several networks the one with the highest has the default route and the published ports. Default 0. From
        /// Docker 28.
        gw_priority: Option<At<i64>>,
        /// Name of its interface in the container, at most 15 bytes. From Docker 28.
        interface_name: Option<At<String>>,
    }
}

/// `command`: words as a list, or as one text that is split into them.
#[derive(Clone, Debug)]
pub(crate) enum CommandLine {
    Text(At<String>),
    Words(Vec<At<String>>),
}

impl FromNode for CommandLine {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        match node.value {
            Value::List(_) => Vec::from_node(node, cx).map(Self::Words),
            _ => At::from_node(node, cx).map(Self::Text),
        }
    }
}

inline_schema!(CommandLine, _ => json_schema!({
    "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": ["string", "number"] } }]
}));

/// `networks` of a container: a mapping or a list of names.
#[derive(Clone, Debug)]
pub(crate) struct Attachments(pub(crate) Vec<(At<String>, Option<Attachment>)>);

impl FromNode for Attachments {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        if let Value::List(_) = node.value {
            let names = Vec::<At<String>>::from_node(node, cx)?;
            return Some(Self(names.into_iter().map(|n| (n, None)).collect()));
        }
        if let Value::Text(name) | Value::Plain(name, _) = &node.value {
            let d = Diagnostic::new(node.at, format!("expected networks, found `{name}`"));
            cx.error(d.hint(format!("a list: `[{name}]`")));
            return None;
        }
        let map: Map<Option<Attachment>> = Map::from_node(node, cx)?;
        map.0.into_iter().map(|(k, v)| v.map(|v| (k, v))).collect::<Option<_>>().map(Self)
    }
}

inline_schema!(Attachments, g => {
    let map = g.subschema_for::<Map<Option<Attachment>>>();
    json_schema!({ "anyOf": [map, { "type": "array", "items": { "type": "string" } }] })
});

/// `environment`: a mapping or a list of `KEY=VALUE`.
#[derive(Clone, Debug)]
pub(crate) struct Environment(pub(crate) Vec<(String, String)>);

impl FromNode for Environment {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        if let Value::Map(_) = node.value {
            let map: Map<At<String>> = Map::from_node(node, cx)?;
            for (key, _) in map.0.iter().filter(|(k, _)| k.value.is_empty() || k.value.contains('=')) {
                let d = Diagnostic::new(key.at, format!("`{}` cannot be the name of a variable", key.value));
                cx.error(d.hint("a name is not empty and has no `=`"));
            }
            return map
                .0
                .into_iter()
                .map(|(k, v)| Some((k.value, v?.value)))
                .collect::<Option<_>>()
                .map(Self);
        }
        let list = Vec::<At<String>>::from_node(node, cx)?;
        let pair = |item: At<String>| match item.value.split_once('=') {
            Some((k, v)) if !k.is_empty() => Some((k.to_owned(), v.to_owned())),
            _ => {
                let d = Diagnostic::new(item.at, format!("expected `KEY=VALUE`, found `{}`", item.value));
                cx.error(
                    d.hint("a lab takes nothing from the environment of whoever starts it: give the value"),
                );
                None
            }
        };
        let pairs: Vec<_> = list.into_iter().map(pair).collect();
        pairs.into_iter().collect::<Option<_>>().map(Self)
    }
}

inline_schema!(Environment, g => {
    let map = g.subschema_for::<Map<At<String>>>();
    json_schema!({ "anyOf": [map, { "type": "array", "items": { "type": "string", "pattern": "=" } }] })
});
