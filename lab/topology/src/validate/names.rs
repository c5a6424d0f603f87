//! Which names are valid, and how many parts of each kind a lab may have.

use std::collections::HashMap;

use labctl_model::{Lab, check::is_dns_name};
use labctl_words::is_hostile;
use labctl_yaml::{At, Cx, Diagnostic, Span};

use super::{MOST_CONTAINERS, MOST_HOSTS, MOST_PEERS};
use crate::raw;

/// Longest name of a container or network, and of a host: the length of a DNS label.
const LONGEST: usize = 63;
/// Words that stand for many endpoints.
pub(super) const GROUPS: [&str; 4] = ["all", "hosts", "containers", "peers"];
/// Networks that every dockerd has.
pub(super) const BUILT_IN_NETWORKS: [&str; 3] = ["bridge", "host", "none"];
/// What dockerd takes for one of these, and for no name of another.
pub(super) const NO_NETWORKS_NAME: &str = "default";

/// Checks all names. False if there are too many to go on.
pub(super) fn check(t: &raw::Topology, cx: &mut Cx) -> bool {
    lab_name(&t.name, cx);
    let segments: Vec<_> = t.segments.iter().flat_map(|m| &m.0).map(|(k, _)| k).collect();
    let hosts: Vec<_> = t.hosts.0.iter().map(|(k, _)| k).collect();
    let networks: Vec<_> = t.networks.iter().flat_map(|m| &m.0).map(|(k, _)| k).collect();
    let containers: Vec<_> = t.containers.iter().flat_map(|m| &m.0).map(|(k, _)| k).collect();

    let services: Vec<_> = t.services.iter().flat_map(|m| &m.0).map(|(k, _)| k).collect();
    let peers: Vec<_> = t.peers.iter().flat_map(|m| &m.0).map(|(k, _)| k).collect();

    let mut few = true;
    few &= at_most(MOST_HOSTS, "hosts", &hosts, cx);
    few &= at_most(MOST_PEERS, "peers", &peers, cx);
    few &= at_most(MOST_HOSTS, "segments", &segments, cx);
    few &= at_most(MOST_CONTAINERS, "containers", &containers, cx);
    few &= at_most(MOST_CONTAINERS, "services", &services, cx);
    few &= at_most(MOST_CONTAINERS, "networks", &networks, cx);
    if !few {
        return false;
    }
    if hosts.is_empty() {
        cx.error(
            Diagnostic::new(t.name.at, "a lab needs at least one host")
                .hint("`hosts: { host1: {} }` is enough"),
        );
    }

    for name in segments {
        dns_label("segment", name, cx);
        let of = match name.value.as_str() {
            key if raw::HOST_KEYS.contains(&key) => "hosts",
            key if raw::PEER_KEYS.contains(&key) => "peers",
            _ => continue,
        };
        let message = format!("a segment cannot be called `{}`", name.value);
        cx.error(
            Diagnostic::new(name.at, message).hint(format!("that is a key of {of}: choose another name")),
        );
    }
    for name in &hosts {
        dns_label("host", name, cx);
        no_group("host", name, cx);
    }
    for name in networks {
        docker_name("network", name, cx);
        if BUILT_IN_NETWORKS.contains(&name.value.as_str()) {
            let hint = "every dockerd has it already: leave it out, and use `network_mode` in containers";
            cx.error(
                Diagnostic::new(name.at, format!("a network cannot be called `{}`", name.value)).hint(hint),
            );
        }
    }
    for name in &containers {
        docker_name("container", name, cx);
        no_group("container", name, cx);
        if name.value.len() == 1 {
            let hint = "Docker takes container names of at least two characters";
            cx.error(Diagnostic::new(name.at, format!("`{}` is too short a name", name.value)).hint(hint));
        }
    }
    let others = [(&hosts, "host"), (&containers, "container"), (&services, "service")];
    for name in &peers {
        dns_label("peer", name, cx);
        no_group("peer", name, cx);
        for (names, kind) in others {
            if let Some(other) = names.iter().find(|n| n.value == name.value) {
                let message = format!("a peer cannot share the name of {kind} `{}`", name.value);
                let d = Diagnostic::new(name.at, message).other(other.at, format!("the {kind}"));
                cx.error(d.hint("tables name all endpoints alike"));
            }
        }
    }
    let mut taken: HashMap<&str, Span> = hosts.iter().map(|k| (k.value.as_str(), k.at)).collect();
    for name in &services {
        dns_label("service", name, cx);
        no_group("service", name, cx);
        if let Some(host) = taken.get(name.value.as_str()) {
            let d =
                Diagnostic::new(name.at, format!("a service cannot share the name of host `{}`", name.value));
            cx.error(d.other(*host, "the host").hint("tables name hosts and services alike"));
        }
    }
    for name in &services {
        if let Some(container) = containers.iter().find(|c| c.value == name.value) {
            let d = Diagnostic::new(
                container.at,
                format!("a container cannot share the name of service `{}`", name.value),
            );
            cx.error(
                d.other(name.at, "the service").hint("Docker would give both the same name on a network"),
            );
        }
        taken.remove(name.value.as_str());
    }
    for name in containers {
        if let Some(host) = taken.get(name.value.as_str()) {
            let d = Diagnostic::new(
                name.at,
                format!("a container cannot share the name of host `{}`", name.value),
            );
            cx.error(d.other(*host, "the host").hint("tables name hosts and containers alike"));
        }
    }
    true
}

fn at_most(most: usize, what: &str, names: &[&At<String>], cx: &mut Cx) -> bool {
    let Some(first_too_many) = names.get(most) else { return true };
    let message = format!("{} {what} are more than a lab can have ({most})", names.len());
    cx.error(Diagnostic::new(first_too_many.at, message).label("the first too many"));
    false
}

fn lab_name(name: &At<String>, cx: &mut Cx) {
    let n = &name.value;
    if !Lab::is_name(n) {
        cx.error(Diagnostic::new(name.at, format!("`{n}` cannot be the name of a lab")).hint(Lab::NAME));
    }
}

fn dns_label(kind: &str, name: &At<String>, cx: &mut Cx) {
    let n = &name.value;
    let ok = n.len() <= LONGEST
        && n.starts_with(|c: char| c.is_ascii_alphanumeric())
        && n.ends_with(|c: char| c.is_ascii_alphanumeric())
        && n.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || (c == '_' && kind == "segment"));
    if !ok {
        let hint = format!("letters, digits and `-`, at most {LONGEST}, as in a host name");
        cx.error(Diagnostic::new(name.at, format!("`{n}` cannot be the name of a {kind}")).hint(hint));
    }
}

/// Notes a name that Docker does not accept, or that a table could mistake for an address.
pub(super) fn docker_name(kind: &str, name: &At<String>, cx: &mut Cx) {
    let n = &name.value;
    let ok = n.len() <= LONGEST
        && n.starts_with(|c: char| c.is_ascii_alphanumeric())
        && n.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        && n.parse::<std::net::IpAddr>().is_err();
    if !ok {
        let hint = format!("letters, digits, `_`, `.` and `-`, at most {LONGEST}, and no address");
        cx.error(Diagnostic::new(name.at, format!("`{n}` cannot be the name of a {kind}")).hint(hint));
    }
}

/// Notes a name that no resolver accepts.
pub(super) fn dns_name(what: &str, name: &At<String>, cx: &mut Cx) {
    if !is_dns_name(&name.value) {
        let d = Diagnostic::new(name.at, format!("`{}` cannot be {what}", name.value));
        cx.error(d.hint(format!(
            "letters, digits, `-`, `_`, and dots between them; at most {LONGEST} between two dots"
        )));
    }
}

/// Notes line ends and tabs in a value that must fit in one line.
pub(super) fn one_line(what: &str, text: &At<String>, cx: &mut Cx) {
    if text.value.contains(['\n', '\t']) {
        cx.error(Diagnostic::new(text.at, format!("{what} is one line")).hint("without line ends and tabs"));
    }
}

fn no_group(kind: &str, name: &At<String>, cx: &mut Cx) {
    if GROUPS.contains(&name.value.as_str()) {
        let message = format!("a {kind} cannot be called `{}`", name.value);
        cx.error(Diagnostic::new(name.at, message).hint("in rules that word stands for many"));
    }
}

/// Whether the kernel accepts this name of an interface (IFNAMSIZ, dev_valid_name).
pub(super) fn interface(name: &At<String>, cx: &mut Cx) -> bool {
    let n = &name.value;
    let why = if n.len() > 15 {
        Some(format!("it has {} bytes; the kernel takes 15", n.len()))
    } else if n.is_empty()
        || n == "."
        || n == ".."
        || n.contains(|c: char| "/:%".contains(c) || c.is_whitespace() || is_hostile(c))
    {
        // The kernel replaces `%d` by a number.
        Some("no `/`, no `:`, no `%`, no blanks, nothing that cannot be seen".into())
    } else if n == "lo" || n == "docker0" {
        Some("every host has one already".into())
    } else {
        None
    };
    let ok = why.is_none();
    if let Some(why) = why {
        cx.error(Diagnostic::new(name.at, format!("`{n}` cannot be the name of an interface")).hint(why));
    }
    ok
}
