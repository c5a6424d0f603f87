//! Containers, one by one; `attach`, `order` and `addresses` check them together.

use std::net::IpAddr;

use indexmap::IndexMap;
use labctl_model::{
    lab::{Attach, Attachment, BUILTIN_IMAGE, Container, Link, Publish},
    traffic::Protocol,
};
use labctl_yaml::{At, Cx, Diagnostic};

use super::{Names, entries, flag, hosts, images, names, options, reserved, words};
use crate::raw;

/// Longest host name in bytes (Linux, `__NEW_UTS_LEN`).
const LONGEST_HOSTNAME: usize = 64;
const MODES: [&str; 4] = ["bridge", "host", "none", "container:NAME"];

pub(super) fn read(t: &raw::Topology, names: &Names, cx: &mut Cx) -> IndexMap<String, Container> {
    entries(&t.containers)
        .filter_map(|(name, c)| Some((name.value.clone(), container(t, name, c, names, cx)?)))
        .collect()
}

fn container(
    t: &raw::Topology,
    name: &At<String>,
    c: &raw::Container,
    names: &Names,
    cx: &mut Cx,
) -> Option<Container> {
    let host = host(t, name, c, names, cx);
    let attach = attach(name, c, names, cx);
    let links = c.links.iter().flatten().filter_map(|l| link(l, names, cx)).collect();
    let ports: Vec<Publish> = c.ports.iter().flatten().filter_map(|p| port(p, cx)).collect();
    let sysctls = hosts::sysctls(&c.sysctls, cx);
    let run = options::run(c.run_keys(), cx);
    let command = c.command.as_ref().map(|c| command(c, cx)).unwrap_or_default();
    c.image.iter().for_each(|i| images::reference(i, cx));
    c.cap_add.iter().flatten().for_each(|c| capability(c, cx));
    c.ipv4_address.iter().for_each(|a| _ = reserved::interface(a.value.into(), a, cx));
    if let Some(name) = c.hostname.as_ref().filter(|n| n.value.len() > LONGEST_HOSTNAME) {
        let d = Diagnostic::new(name.at, format!("a host name of {} bytes is too long", name.value.len()));
        cx.error(d.hint(format!("the kernel takes {LONGEST_HOSTNAME}")));
    } else if let Some(name) = &c.hostname {
        names::dns_name("a host name", name, cx);
    }
    Some(Container {
        host: host?,
        image: c.image.as_ref().map_or(BUILTIN_IMAGE.into(), |i| i.value.clone()),
        command,
        hostname: c.hostname.as_ref().map(|h| h.value.clone()),
        environment: c.environment.iter().flat_map(|e| e.0.iter().cloned()).collect(),
        attach: attach?,
        links,
        ports,
        cap_add: c.cap_add.iter().flatten().map(|c| c.value.clone()).collect(),
        sysctls,
        restart: c.restart.as_ref().and_then(|r| options::restart(r, cx)),
        privileged: flag(&c.privileged),
        devices: c.devices.iter().flatten().filter_map(|d| options::device(d, cx)).collect(),
        run,
        deferred: flag(&c.deferred),
    })
}

fn host(
    t: &raw::Topology,
    name: &At<String>,
    c: &raw::Container,
    names: &Names,
    cx: &mut Cx,
) -> Option<String> {
    match &c.host {
        Some(host) => names.host(host, cx).then(|| host.value.clone()),
        None if t.hosts.0.len() == 1 => Some(t.hosts.0.first()?.0.value.clone()),
        None => {
            let d = Diagnostic::new(name.at, format!("container `{}` needs `host`", name.value));
            let hosts = words::list(names.hosts.iter().copied());
            cx.error(d.label("on which host?").hint(format!("the hosts are {hosts}")));
            None
        }
    }
}

fn attach(name: &At<String>, c: &raw::Container, names: &Names, cx: &mut Cx) -> Option<Attach> {
    let networks = c.networks.as_ref().filter(|n| !n.0.is_empty());
    if let (Some(mode), Some(networks)) = (&c.network_mode, networks) {
        let why = match mode.value.as_str() {
            "host" => "with `network_mode: host` it has the host's own network and can join no other",
            "none" => "with `network_mode: none` it has no network and can join none",
            "bridge" => "a container is made on the default bridge or on networks of its own",
            _ => "it has the network namespace of another container and can join no network itself",
        };
        let d =
            Diagnostic::new(mode.at, format!("`{}` declares both `network_mode` and `networks`", name.value));
        let d = networks.0.first().map_or(d.clone(), |(n, _)| d.other(n.at, "on a network here"));
        let hint = if mode.value == "bridge" { "; to have both, connect it in a step" } else { "" };
        cx.error(d.hint(format!("{why}: leave one of them out{hint}")));
        return None;
    }
    if let Some(networks) = networks {
        if let Some(a) = &c.ipv4_address {
            let d = Diagnostic::new(
                a.at,
                "`ipv4_address` is asked of the default bridge, and this one is not on it",
            );
            let net = networks.0.first().map_or("NAME", |(n, _)| n.value.as_str());
            cx.error(d.hint(format!("write `networks: {{ {net}: {{ ipv4_address: {} }} }}`", a.value)));
        }
        return attachments(networks, names, cx);
    }
    let mode = c.network_mode.as_ref();
    let attach = match mode.map(|m| m.value.as_str()) {
        None | Some("bridge" | "default") => {
            return Some(Attach::DefaultBridge { ipv4_address: c.ipv4_address.as_ref().map(|a| a.value) });
        }
        Some("host") => Attach::Host,
        Some("none") => Attach::None,
        Some(other) => shared(name, mode?, other, names, cx)?,
    };
    let mode = mode?;
    if let Some(a) = &c.ipv4_address {
        let message = format!("`ipv4_address` means nothing with `network_mode: {}`", mode.value);
        cx.error(Diagnostic::new(a.at, message).hint("leave it out"));
    }
    let ports = c.ports.as_ref().and_then(|p| p.first());
    if let (Some(port), false) = (ports, attach == Attach::Host) {
        let d =
            Diagnostic::new(port.at, format!("no port can be published with `network_mode: {}`", mode.value));
        cx.error(d.other(mode.at, "the mode").hint(match &attach {
            Attach::Container(of) => format!("publish it in `{of}`, whose network namespace this is"),
            _ => "the container has no network to reach it by: leave `ports` out".into(),
        }));
    }
    if let Some(link) = c.links.as_ref().and_then(|l| l.first()) {
        let d =
            Diagnostic::new(link.at, format!("nothing can be linked with `network_mode: {}`", mode.value));
        cx.error(d.other(mode.at, "the mode").hint("links are for the default bridge and for networks"));
    }
    if let (Some(hostname), Attach::Container(of)) = (&c.hostname, &attach) {
        let d = Diagnostic::new(
            hostname.at,
            format!("no `hostname` can be set with `network_mode: {}`", mode.value),
        );
        cx.error(d.other(mode.at, "the mode").hint(format!("it is that of `{of}`")));
    }
    Some(attach)
}

/// Reads `container:NAME`; notes an unknown mode.
fn shared(name: &At<String>, mode: &At<String>, text: &str, names: &Names, cx: &mut Cx) -> Option<Attach> {
    let Some(of) = text.strip_prefix("container:") else {
        let d = Diagnostic::new(mode.at, format!("there is no network mode `{text}`"));
        cx.error(d.hint(if names.networks.contains(text) {
            format!("`{text}` is a network: write `networks: [{text}]`")
        } else if names.containers.contains(text) || text.starts_with("service:") {
            format!("to share a container's network: `container:{}`", text.trim_start_matches("service:"))
        } else {
            words::known("mode", text, MODES)
        }));
        return None;
    };
    let at = At { value: of.to_owned(), at: cx.part(mode, text.len() - of.len()..text.len()) };
    if of == name.value {
        let message = format!("`{of}` cannot join its own network namespace");
        cx.error(Diagnostic::new(at.at, message).hint("name another container of the same host"));
        return None;
    }
    names.container(&at, cx).then(|| Attach::Container(of.to_owned()))
}

fn attachments(networks: &raw::Attachments, names: &Names, cx: &mut Cx) -> Option<Attach> {
    let mut all = IndexMap::new();
    let mut ok = true;
    for (name, a) in &networks.0 {
        if !names.network(name, cx) {
            ok = false;
            continue;
        }
        let attachment = a.as_ref().map_or_else(Attachment::default, |a| attachment(a, cx));
        if all.insert(name.value.clone(), attachment).is_some() {
            cx.error(
                Diagnostic::new(name.at, format!("it is on `{}` already", name.value)).hint("leave one out"),
            );
        }
    }
    ok.then_some(Attach::Networks(all))
}

fn attachment(a: &raw::Attachment, cx: &mut Cx) -> Attachment {
    if let Some(mac) = a.mac_address.as_ref().filter(|m| !is_mac(&m.value)) {
        let d = Diagnostic::new(mac.at, format!("`{}` is no MAC address of a NIC", mac.value));
        cx.error(d.hint("six octets, as 02:42:ac:11:00:02; the first is even: odd ones are groups"));
    }
    a.ipv4_address.iter().for_each(|a| _ = reserved::interface(a.value.into(), a, cx));
    a.ipv6_address.iter().for_each(|a| _ = reserved::interface(a.value.into(), a, cx));
    a.interface_name.iter().for_each(|name| _ = names::interface(name, cx));
    Attachment {
        ipv4_address: a.ipv4_address.as_ref().map(|a| a.value),
        ipv6_address: a.ipv6_address.as_ref().map(|a| a.value),
        aliases: aliases(a, cx),
        mac_address: a.mac_address.as_ref().map(|m| m.value.to_lowercase()),
        gw_priority: a.gw_priority.as_ref().map(|p| p.value),
        interface_name: a.interface_name.as_ref().map(|n| n.value.clone()),
    }
}

/// Reads the aliases on a network.
pub(super) fn aliases(a: &raw::Attachment, cx: &mut Cx) -> Vec<String> {
    let all = a.aliases.iter().flatten();
    all.inspect(|name| names::dns_name("an alias", name, cx)).map(|name| name.value.clone()).collect()
}

/// Notes what cannot be a Linux capability by its form: Docker knows which ones exist.
fn capability(name: &At<String>, cx: &mut Cx) {
    let text = &name.value;
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        let d = Diagnostic::new(name.at, format!("`{text}` is no capability"));
        cx.error(d.hint("as `NET_ADMIN`; capabilities(7) has them all"));
    }
}

fn is_mac(text: &str) -> bool {
    let octets: Vec<_> = text.split(':').collect();
    let octet = |o: &&str| o.len() == 2 && o.chars().all(|c| c.is_ascii_hexdigit());
    octets.len() == 6
        && octets.iter().all(octet)
        && octets.first().and_then(|o| u8::from_str_radix(o, 16).ok()).is_some_and(|o| o & 1 == 0)
        && octets.iter().any(|o| *o != "00")
}

fn link(l: &At<String>, names: &Names, cx: &mut Cx) -> Option<Link> {
    let (target, alias) = l.value.split_once(':').unwrap_or((&l.value, &l.value));
    let at = At { value: target.to_owned(), at: cx.part(l, 0..target.len()) };
    if !names.container(&at, cx) {
        return None;
    }
    if !labctl_model::check::is_dns_name(alias) {
        cx.error(Diagnostic::new(l.at, format!("`{}` is no link", l.value)).hint("`NAME` or `NAME:ALIAS`"));
        return None;
    }
    Some(Link { target: target.to_owned(), alias: alias.to_owned() })
}

/// Reads `[[ADDRESS:]HOST_PORT:]PORT[/PROTOCOL]`, as compose does.
pub(super) fn port(p: &At<String>, cx: &mut Cx) -> Option<Publish> {
    let (rest, protocol) = match p.value.split_once('/') {
        None => (p.value.as_str(), Protocol::Tcp),
        Some((rest, "tcp")) => (rest, Protocol::Tcp),
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some((rest, word)) => {
            let at = cx.part(p, rest.len() + 1..p.value.len());
            cx.error(
                Diagnostic::new(at, format!("`{word}` is no protocol with ports")).hint("`tcp` or `udp`"),
            );
            return None;
        }
    };
    // Colons within brackets are an IPv6 address's.
    let bracket = rest.find(']').filter(|_| rest.starts_with('['));
    let (bracketed, tail) = match bracket {
        Some(end) => (Some(&rest[..=end]), rest[end + 1..].strip_prefix(':').unwrap_or(&rest[end + 1..])),
        None => (None, rest),
    };
    let parts: Vec<&str> = bracketed.into_iter().chain(tail.split(':')).collect();
    let (host_ip, published, target) = match parts.as_slice() {
        [target] => (None, None, *target),
        [published, target] if bracketed.is_none() => (None, Some(*published), *target),
        [ip, published, target] => (Some(*ip), (!published.is_empty()).then_some(*published), *target),
        _ => {
            let d = Diagnostic::new(p.at, format!("`{}` is no published port", p.value));
            cx.error(d.hint(
                "`PORT`, `HOST_PORT:PORT` or `ADDRESS:HOST_PORT:PORT` (IPv6 as `[ADDRESS]`), with `/udp` where it is not TCP",
            ));
            return None;
        }
    };
    let mut number = |text: &str, from: usize| {
        let value = labctl_model::check::parse_port(text);
        if value.is_none() {
            let d = Diagnostic::new(cx.part(p, from..from + text.len()), format!("`{text}` is no port"));
            cx.error(d.hint(if text.contains('-') {
                "one entry for each port of a range"
            } else {
                "1 to 65535"
            }));
        }
        value
    };
    let published_at = host_ip.map_or(0, |ip| ip.len() + 1);
    let published = match published {
        Some(text) => Some(number(text, published_at)?),
        None => None,
    };
    let target = number(target, rest.len() - target.len())?;
    let plain = |ip: &str| match bracketed {
        Some(_) => ip[1..ip.len() - 1].parse::<std::net::Ipv6Addr>().map(IpAddr::V6),
        None => ip.parse(),
    };
    let host_ip: Option<IpAddr> = match host_ip.map(|ip| (ip, plain(ip))) {
        None => None,
        Some((text, Ok(ip))) => {
            let at = At { value: (), at: cx.part(p, 0..text.len()) };
            reserved::listener(ip, &at, cx).then_some(())?;
            Some(ip)
        }
        Some((ip, Err(_))) => {
            let at = cx.part(p, 0..ip.len());
            cx.error(
                Diagnostic::new(at, format!("`{ip}` is no IP address"))
                    .hint("an address of the host; IPv6 in brackets"),
            );
            return None;
        }
    };
    Some(Publish { host_ip, published, target, protocol })
}

/// The words of a command.
pub(super) fn command(c: &raw::CommandLine, cx: &mut Cx) -> Vec<String> {
    match c {
        raw::CommandLine::Text(text) => split(text, cx),
        raw::CommandLine::Words(words) => words.iter().map(|w| w.value.clone()).collect(),
    }
}

/// Splits a command into words as a shell does, with blanks, quotes and backslashes only.
pub(super) fn split(command: &At<String>, cx: &mut Cx) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = command.value.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (q, Some(open)) if q == open => quote = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(q) = quote {
        let d = Diagnostic::new(command.at, format!("a `{q}` in this command is never closed"));
        cx.error(d.hint("a list of words needs no quoting: `[sh, -c, \"…\"]`"));
    }
    words.extend(word);
    words
}
