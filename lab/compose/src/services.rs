//! `services` of the file.

use std::net::{Ipv4Addr, Ipv6Addr};

use labctl_yaml::{At, Diagnostic, Span, Value, Yaml};

use crate::{
    CONFIG, ImportOptions, flow,
    keys::{Keys, Notes, pairs, text, texts},
    networks::parsed,
    ports::{self, ComposePort},
    volumes,
};

/// A service as Compose has it.
pub(crate) struct ComposeService {
    pub(crate) name: At<String>,
    /// Its image, where it is one of its own.
    pub(crate) image: Option<String>,
    /// Another name that it is reached by on its networks.
    pub(crate) container_name: Option<String>,
    pub(crate) hostname: Option<String>,
    /// Networks with how it is on them; `None` where it names none.
    pub(crate) networks: Option<Vec<(At<String>, ComposeAttachment)>>,
    pub(crate) mode: Option<At<String>>,
    pub(crate) links: Vec<At<String>>,
    pub(crate) ports: Vec<ComposePort>,
    /// Ports that it listens on and publishes nowhere, and whether each is UDP.
    pub(crate) expose: Vec<(u16, bool)>,
    pub(crate) depends_on: Vec<String>,
    /// Keys with their values, as a topology has them.
    pub(crate) written: Vec<(&'static str, String)>,
    pub(crate) deploy: Deployment,
}

/// How a service is on a network.
#[derive(Clone, Debug, Default)]
pub(crate) struct ComposeAttachment {
    pub(crate) ipv4_address: Option<Ipv4Addr>,
    pub(crate) ipv6_address: Option<At<Ipv6Addr>>,
    pub(crate) aliases: Vec<String>,
    pub(crate) mac_address: Option<String>,
}

/// How many tasks or containers a service has, and where.
#[derive(Default)]
pub(crate) struct Deployment {
    pub(crate) replicas: Option<At<u32>>,
    pub(crate) global: bool,
    pub(crate) dnsrr: bool,
    pub(crate) constraints: Vec<String>,
    /// Keys with their values, as a topology has them.
    pub(crate) written: Vec<(&'static str, String)>,
}

/// Most containers or tasks of one service that are taken.
const MOST: u32 = 20;
/// Longest duration of a topology.
const LONGEST_S: u64 = 600;

pub(crate) fn read(
    key: &At<String>,
    node: &Yaml,
    options: &ImportOptions,
    notes: &mut Notes,
) -> Vec<ComposeService> {
    let Value::Map(entries) = &node.value else {
        notes.wrong(node, key.at, "a mapping of services");
        return Vec::new();
    };
    let named = entries.iter().filter(|(k, _)| !k.value.starts_with("x-"));
    named.filter_map(|(name, node)| service(name, node, options, notes)).collect()
}

fn service(
    name: &At<String>,
    node: &Yaml,
    options: &ImportOptions,
    notes: &mut Notes,
) -> Option<ComposeService> {
    let of = format!("`{}`", name.value);
    if name.value.len() > 63 || !name.value.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        let d = Diagnostic::new(name.at, format!("{of} cannot be the name of a service"));
        notes.cx.error(d.hint("letters, digits, `_`, `.` and `-`, at most 63"));
        return None;
    }
    let mut keys = Keys::new(node, of.clone(), notes)?;
    if let Some((key, _)) = keys.take("extends") {
        notes.cx.error(Diagnostic::new(key.at, "`extends` takes keys from elsewhere").hint(CONFIG));
    }
    let profiles = keys.texts("profiles", notes);
    let wanted = |p: &At<String>| options.profiles.iter().any(|w| *w == p.value || w == "*");
    if !profiles.is_empty() && !profiles.iter().any(wanted) {
        let named = labctl_words::list(profiles.iter().map(|p| p.value.as_str()));
        notes.add(name.at, format!("service {of}: left out, it is of profile {named} (`--profile`)"));
        return None;
    }
    let mut written = Vec::new();
    let image = image(&of, name, &mut keys, options, &mut written, notes);
    if options.swarm {
        for (key, _) in keys.take_all(&["cap_add", "sysctls", "container_name", "hostname", "links"]) {
            notes.add(key.at, format!("`{}` of {of}: left out, a lab's services have none", key.value));
        }
    }
    for key in ["cap_add", "extra_hosts", "dns", "dns_search", "dns_opt", "ulimits"] {
        if let Some((_, node)) = keys.take(key) {
            written.push((key, flow::node(node)));
        }
    }
    if let Some((key, node)) = keys.take("sysctls") {
        let pairs = pairs(node, key.at, notes).into_iter().map(|(k, v)| (k.value, flow::scalar(&v)));
        written.push(("sysctls", flow::map(pairs)));
    }
    if let Some(grace) = keys.text("stop_grace_period", notes).filter(|g| is_short(&of, g, notes)) {
        written.push(("stop_grace_period", flow::scalar(&grace.value)));
    }
    let restart = keys.text("restart", notes);
    let privileged = keys.take("privileged").filter(|(_, n)| text(n).is_some_and(|t| t == "true"));
    if options.swarm {
        if let Some(restart) = &restart {
            notes.add(
                restart.at,
                format!("`restart` of {of}: left out, a service has `deploy.restart_policy`"),
            );
        }
        if let Some((key, _)) = privileged {
            notes.add(key.at, format!("`privileged` of {of}: left out, tasks of services are not"));
        }
    } else {
        written.extend(restart.map(|r| ("restart", flow::scalar(&r.value))));
        written.extend(privileged.map(|_| ("privileged", "true".to_owned())));
    }
    let scale = keys.text("scale", notes);
    let mut deploy = match keys.take("deploy") {
        Some((_, node)) => deployment(&of, node, options, &mut written, notes),
        None => Deployment::default(),
    };
    if let Some(scale) = scale {
        deploy.replicas = deploy.replicas.or_else(|| replicas(&of, &scale, notes));
    }
    let mut ports =
        keys.take("ports").map(|(k, n)| ports::published(&of, k.at, n, notes)).unwrap_or_default();
    for port in ports.iter_mut().filter(|_| options.swarm) {
        if let Some(ip) = port.host_ip.take().filter(|ip| !ip.is_unspecified()) {
            let what = "a service publishes on all addresses of every node";
            notes.add(port.at, format!("{ip} of a port of {of}: left out, {what}"));
        }
    }
    let expose = keys.texts("expose", notes);
    let depends_on = keys.take("depends_on").map(|(k, n)| depends_on(&of, k.at, n, notes));
    let service = ComposeService {
        name: name.clone(),
        image,
        container_name: keys.text("container_name", notes).map(|t| t.value),
        hostname: keys.text("hostname", notes).map(|t| t.value),
        networks: keys.take("networks").map(|(k, n)| networks(&of, k.at, n, options.swarm, notes)),
        mode: keys.text("network_mode", notes),
        links: keys.texts("links", notes),
        ports,
        expose: ports::exposed(&of, expose, notes),
        depends_on: depends_on.unwrap_or_default(),
        written,
        deploy,
    };
    keys.finish(notes);
    Some(service)
}

/// Takes what is about the image and the program in it. Without `--images` both are labctl's own.
fn image(
    of: &str,
    name: &At<String>,
    keys: &mut Keys<'_>,
    options: &ImportOptions,
    written: &mut Vec<(&'static str, String)>,
    notes: &mut Notes,
) -> Option<String> {
    const PROGRAM: [&str; 8] =
        ["command", "environment", "healthcheck", "volumes", "tmpfs", "devices", "entrypoint", "env_file"];
    let image = keys.text("image", notes);
    let build = keys.take("build");
    if let (Some(image), Some((key, _))) = (&image, build) {
        notes.add(key.at, format!("`build` of {of}: left out, its image is {}", image.value));
    }
    if !options.images {
        let lines: Vec<String> =
            keys.take_all(&PROGRAM).iter().map(|(k, _)| format!("`{}`", k.value)).collect();
        let with =
            if lines.is_empty() { String::new() } else { format!(", without its {}", lines.join(", ")) };
        let (at, shown) = match (&image, build) {
            (Some(image), _) => (image.at, format!("image {}", image.value)),
            (None, Some((key, _))) => (key.at, "`build`".to_owned()),
            (None, None) => (name.at, "no image".to_owned()),
        };
        notes.add(at, format!("{shown} of {of}: labctl's own in its place{with} (`--images` keeps it)"));
        return None;
    }
    if let Some((key, node)) = keys.take("command") {
        if matches!(node.value, Value::List(_) | Value::Text(_) | Value::Plain(..)) {
            written.push(("command", flow::node(node)));
        } else {
            notes.wrong(node, key.at, "a command");
        }
    }
    if let Some((key, node)) = keys.take("environment") {
        let variables = environment(of, key.at, node, options, notes);
        written.push(("environment", flow::map(variables)));
    }
    if let Some((_, node)) = keys.take("healthcheck") {
        let long = |n: &Yaml| text(n).is_some_and(|t| seconds(&t).is_some_and(|s| s > LONGEST_S));
        match &node.value {
            Value::Map(entries) if entries.iter().any(|(_, n)| long(n)) => {
                notes.add(
                    node.at,
                    format!("`healthcheck` of {of}: left out, nothing in a lab takes longer than 10m"),
                );
            }
            _ => written.push(("healthcheck", flow::node(node))),
        }
    }
    let mut mounts = keys.take("volumes").map(|(k, n)| volumes::read(of, k.at, n, notes)).unwrap_or_default();
    if let Some((key, node)) = keys.take("tmpfs") {
        mounts.extend(volumes::tmpfs(of, key.at, node, notes));
    }
    if !mounts.is_empty() {
        written.push(("volumes", flow::list(mounts)));
    }
    if let Some((key, node)) = keys.take("devices") {
        match (&node.value, options.swarm) {
            (Value::List(list), false) if list.iter().all(|n| text(n).is_some()) => {
                written.push(("devices", flow::node(node)));
            }
            _ => notes.add(key.at, format!("`devices` of {of}: left out")),
        }
    }
    for (key, _) in keys.take_all(&["entrypoint", "env_file"]) {
        notes.add(key.at, format!("`{}` of {of}: left out; the image's own counts", key.value));
    }
    match (image, build) {
        (Some(image), _) => Some(image.value),
        (None, Some((key, _))) => {
            let what =
                "`docker compose build` makes it in this machine's Docker, and the lab takes it from there";
            notes.add(key.at, format!("`build` of {of}: {what}"));
            Some(String::new())
        }
        (None, None) => None,
    }
}

fn environment(
    of: &str,
    key: Span,
    node: &Yaml,
    options: &ImportOptions,
    notes: &mut Notes,
) -> Vec<(String, String)> {
    let given: Vec<(At<String>, Option<String>)> = match &node.value {
        Value::Map(entries) => entries.iter().map(|(k, v)| (k.clone(), text(v))).collect(),
        _ => texts(node, key, notes)
            .into_iter()
            .map(|t| match t.value.split_once('=') {
                Some((k, v)) => (At { value: k.to_owned(), at: t.at }, Some(v.to_owned())),
                None => (t, None),
            })
            .collect(),
    };
    let mut all = Vec::new();
    for (name, value) in given {
        // Without a value it is that of whoever starts it.
        match value.or_else(|| options.variables.get(&name.value).cloned()) {
            Some(value) => all.push((name.value, flow::scalar(&value))),
            None => notes.add(name.at, format!("variable `{}` of {of}: left out, it is not set", name.value)),
        }
    }
    all
}

fn networks(
    of: &str,
    key: Span,
    node: &Yaml,
    swarm: bool,
    notes: &mut Notes,
) -> Vec<(At<String>, ComposeAttachment)> {
    let Value::Map(entries) = &node.value else {
        let names = texts(node, key, notes);
        return names.into_iter().map(|name| (name, ComposeAttachment::default())).collect();
    };
    let mut all = Vec::new();
    for (name, node) in entries {
        let Some(mut keys) = Keys::new(node, format!("{of} on `{}`", name.value), notes) else { continue };
        if swarm {
            for (key, _) in keys.take_all(&["ipv4_address", "ipv6_address", "mac_address"]) {
                let what = format!("`{}` of {of} on `{}`", key.value, name.value);
                notes.add(key.at, format!("{what}: left out, tasks come and go"));
            }
        }
        let (v4, v6) = (keys.text("ipv4_address", notes), keys.text("ipv6_address", notes));
        let attachment = ComposeAttachment {
            ipv4_address: v4.and_then(|a| parsed(&a, notes)),
            ipv6_address: v6.and_then(|a| Some(At { value: parsed(&a, notes)?, at: a.at })),
            aliases: keys.texts("aliases", notes).into_iter().map(|t| t.value).collect(),
            mac_address: keys.text("mac_address", notes).map(|t| t.value),
        };
        keys.finish(notes);
        all.push((name.clone(), attachment));
    }
    all
}

fn depends_on(of: &str, key: Span, node: &Yaml, notes: &mut Notes) -> Vec<String> {
    let Value::Map(entries) = &node.value else {
        return texts(node, key, notes).into_iter().map(|t| t.value).collect();
    };
    for (other, how) in entries {
        let condition = match &how.value {
            Value::Map(keys) => keys.iter().find(|(k, _)| k.value == "condition").and_then(|(_, n)| text(n)),
            _ => None,
        };
        if let Some(condition) = condition.filter(|c| c != "service_started") {
            let what = "the order is kept, nothing waits";
            notes.add(other.at, format!("`condition: {condition}` of {of} for `{}`: {what}", other.value));
        }
    }
    entries.iter().map(|(name, _)| name.value.clone()).collect()
}

fn deployment(
    of: &str,
    node: &Yaml,
    options: &ImportOptions,
    written: &mut Vec<(&'static str, String)>,
    notes: &mut Notes,
) -> Deployment {
    let Some(mut keys) = Keys::new(node, format!("`deploy` of {of}"), notes) else {
        return Deployment::default();
    };
    let mut deploy = Deployment::default();
    let mode = keys.text("mode", notes);
    deploy.global = mode.as_ref().is_some_and(|m| m.value.starts_with("global"));
    if let Some(mode) = mode.filter(|m| !["global", "replicated"].contains(&m.value.as_str())) {
        notes.add(mode.at, format!("`mode: {}` of {of}: a lab has services that go on", mode.value));
    }
    deploy.replicas = keys.text("replicas", notes).and_then(|r| replicas(of, &r, notes));
    if !options.swarm {
        if let Some((_, node)) = keys.take("restart_policy")
            && let Value::Map(entries) = &node.value
            && !written.iter().any(|(key, _)| *key == "restart")
        {
            // As `docker compose` reads it.
            let condition = entries.iter().find(|(k, _)| k.value == "condition").and_then(|(_, n)| text(n));
            let restart = match condition.as_deref() {
                Some("none") => "\"no\"",
                Some("on-failure") => "on-failure",
                _ => "always",
            };
            written.push(("restart", restart.to_owned()));
        }
        for (key, _) in keys.take_all(&["placement", "update_config", "rollback_config", "endpoint_mode"]) {
            notes.add(key.at, format!("`{}` of {of}: left out, it is for a swarm (`--swarm`)", key.value));
        }
        keys.finish(notes);
        return deploy;
    }
    deploy.dnsrr = keys.text("endpoint_mode", notes).is_some_and(|m| m.value == "dnsrr");
    if let Some((_, node)) = keys.take("placement")
        && let Some(mut placement) = Keys::new(node, format!("`placement` of {of}"), notes)
    {
        for constraint in placement.texts("constraints", notes) {
            let compact: String = constraint.value.chars().filter(|c| !c.is_whitespace()).collect();
            if compact.starts_with("node.role") {
                deploy.constraints.push(compact);
            } else {
                let what = format!("constraint `{}` of {of}", constraint.value);
                notes.add(
                    constraint.at,
                    format!("{what}: left out, no host of the lab is known by that (`--place`)"),
                );
            }
        }
        placement.finish(notes);
    }
    for key in ["update_config", "rollback_config", "restart_policy"] {
        if let Some((_, node)) = keys.take(key) {
            deploy.written.push((key, flow::node(node)));
        }
    }
    keys.finish(notes);
    deploy
}

fn replicas(of: &str, number: &At<String>, notes: &mut Notes) -> Option<At<u32>> {
    let Ok(count) = number.value.parse::<u32>() else {
        notes.add(number.at, format!("`{}` replicas of {of}: left out, it is no number", number.value));
        return None;
    };
    if count > MOST {
        notes.add(number.at, format!("{count} replicas of {of}: {MOST} here"));
    }
    Some(At { value: count.min(MOST), at: number.at })
}

/// Notes a duration that is longer than a topology's.
fn is_short(of: &str, duration: &At<String>, notes: &mut Notes) -> bool {
    let long = seconds(&duration.value).is_some_and(|s| s > LONGEST_S);
    if long {
        notes.add(
            duration.at,
            format!("`{}` of {of}: left out, nothing in a lab takes longer than 10m", duration.value),
        );
    }
    !long
}

/// The whole seconds of a duration as `1h30m`; `None` for anything else.
fn seconds(text: &str) -> Option<u64> {
    let (mut total, mut number) = (0, String::new());
    let mut units = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let count: u64 = std::mem::take(&mut number).parse().ok()?;
        units = true;
        match (c, chars.peek()) {
            ('h', _) => total += count * 3600,
            ('m', Some('s')) | ('u' | 'n', Some('s')) => _ = chars.next(),
            ('m', _) => total += count * 60,
            ('s', _) => total += count,
            _ => return None,
        }
    }
    (units && number.is_empty()).then_some(total)
}
