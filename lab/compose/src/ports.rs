//! `ports` and `expose` of a service.

use std::{net::IpAddr, ops::RangeInclusive};

use labctl_yaml::{At, Span, Value, Yaml};

use crate::keys::{Keys, Notes, text};

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ComposePort {
    pub(crate) at: Span,
    /// All addresses of a family, or loopback; absent: all.
    pub(crate) host_ip: Option<IpAddr>,
    /// Absent: Docker chooses.
    pub(crate) published: Option<u16>,
    pub(crate) target: u16,
    pub(crate) udp: bool,
    /// In a swarm: whether only nodes with a task answer.
    pub(crate) host_mode: bool,
}

impl ComposePort {
    /// The probe of its port on the host, if that is known.
    pub(crate) fn probe(&self) -> Option<String> {
        self.published.map(|port| probe(port, self.udp))
    }
}

/// A probe of a port.
pub(crate) fn probe(port: u16, udp: bool) -> String {
    format!("{}/{port}", if udp { "udp" } else { "tcp" })
}

/// Most ports of a range that are taken; of more only the first and the last.
const MOST: usize = 16;

/// Reads `ports`.
pub(crate) fn published(of: &str, key: Span, node: &Yaml, notes: &mut Notes) -> Vec<ComposePort> {
    let Value::List(list) = &node.value else {
        notes.wrong(node, key, "a list of ports");
        return Vec::new();
    };
    let mut all = Vec::new();
    for node in list {
        let read = match &node.value {
            Value::Map(_) => long(of, node, notes),
            _ => text(node).and_then(|t| short(of, &At { value: t, at: node.at }, notes)),
        };
        all.extend(read.unwrap_or_default());
    }
    all
}

/// Reads `expose`: each port, and whether it is UDP.
pub(crate) fn exposed(of: &str, list: Vec<At<String>>, notes: &mut Notes) -> Vec<(u16, bool)> {
    let mut all = Vec::new();
    for item in list {
        let read = protocol(&item.value).and_then(|(ports, udp)| Some((range(ports)?, udp)));
        match read {
            Some((ports, udp)) => {
                all.extend(few(ports, item.at, of, notes).into_iter().map(|port| (port, udp)));
            }
            None => {
                notes.add(item.at, format!("`expose` {} of {of}: left out, no TCP or UDP port", item.value))
            }
        }
    }
    all
}

/// Reads `[[ADDRESS:]PUBLISHED:]TARGET[/PROTOCOL]`.
fn short(of: &str, item: &At<String>, notes: &mut Notes) -> Option<Vec<ComposePort>> {
    let left_out = |why: &str, notes: &mut Notes| {
        notes.add(item.at, format!("port `{}` of {of}: left out, {why}", item.value));
        None
    };
    let Some((rest, udp)) = protocol(&item.value) else { return left_out("neither TCP nor UDP", notes) };
    let (rest, target) = rest.rsplit_once(':').map_or((None, rest), |(rest, target)| (Some(rest), target));
    let (host_ip, published) = match rest {
        None => (None, None),
        Some(rest) => match rest.rsplit_once(':') {
            None => (None, Some(rest)),
            Some((ip, published)) => (Some(ip), Some(published)),
        },
    };
    let host_ip = match host_ip.map(address) {
        None => None,
        Some(Ok(ip)) => Some(ip),
        Some(Err(_)) => return left_out("its address is none", notes),
    };
    let Some(targets) = range(target) else { return left_out("no port", notes) };
    let published = match published.filter(|p| !p.is_empty()).map(range) {
        None => None,
        Some(Some(range)) => Some(range),
        Some(None) => return left_out("no port", notes),
    };
    pair(of, item.at, host_ip, published, targets, udp, false, notes)
}

fn long(of: &str, node: &Yaml, notes: &mut Notes) -> Option<Vec<ComposePort>> {
    let mut keys = Keys::new(node, format!("a port of {of}"), notes)?;
    let target = keys.text("target", notes);
    let published = keys.text("published", notes);
    let host_ip = keys.text("host_ip", notes);
    let protocol = keys.text("protocol", notes);
    let host_mode = keys.text("mode", notes).is_some_and(|m| m.value == "host");
    // Names for people.
    keys.take_all(&["name", "app_protocol"]);
    keys.finish(notes);
    let left_out = |why: &str, notes: &mut Notes| {
        notes.add(node.at, format!("a port of {of}: left out, {why}"));
        None
    };
    let Some(targets) = target.as_ref().and_then(|t| range(&t.value)) else {
        return left_out("it has no `target`", notes);
    };
    let udp = match protocol.as_ref().map(|p| p.value.as_str()) {
        None | Some("tcp") => false,
        Some("udp") => true,
        Some(_) => return left_out("neither TCP nor UDP", notes),
    };
    let host_ip = match host_ip.map(|ip| address(&ip.value)) {
        None => None,
        Some(Ok(ip)) => Some(ip),
        Some(Err(_)) => return left_out("its address is none", notes),
    };
    let published = match published.filter(|p| !p.value.is_empty()).map(|p| range(&p.value)) {
        None => None,
        Some(Some(range)) => Some(range),
        Some(None) => return left_out("`published` is no port", notes),
    };
    pair(of, node.at, host_ip, published, targets, udp, host_mode, notes)
}

/// An address; one of IPv6 may stand in brackets.
fn address(text: &str) -> Result<IpAddr, std::net::AddrParseError> {
    text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text).parse()
}

/// A port for each of a range.
#[expect(clippy::too_many_arguments, reason = "the parts of one port")]
fn pair(
    of: &str,
    at: Span,
    host_ip: Option<IpAddr>,
    published: Option<RangeInclusive<u16>>,
    targets: RangeInclusive<u16>,
    udp: bool,
    host_mode: bool,
    notes: &mut Notes,
) -> Option<Vec<ComposePort>> {
    let known = |ip: &IpAddr| ip.is_loopback() || ip.is_unspecified();
    if let Some(ip) = host_ip.filter(|ip| !known(ip)) {
        notes.add(at, format!("{ip} of a port of {of}: no host has it here; published on all addresses"));
    }
    let host_ip = host_ip.filter(known);
    let port = |published, target| ComposePort { at, host_ip, published, target, udp, host_mode };
    let Some(published) = published else {
        return Some(few(targets, at, of, notes).into_iter().map(|target| port(None, target)).collect());
    };
    if targets.len() == 1 {
        if published.len() > 1 {
            notes.add(
                at,
                format!("published ports of {of}: Docker takes a free one of the range, the lab the first"),
            );
        }
        return Some(vec![port(Some(*published.start()), *targets.start())]);
    }
    if published.len() != targets.len() {
        notes.add(at, format!("a range of ports of {of}: left out, both ranges must have one length"));
        return None;
    }
    let shift = |target: u16| published.start() + (target - targets.start());
    let first = targets.clone();
    let chosen = few(first, at, of, notes);
    Some(chosen.into_iter().map(|target| port(Some(shift(target)), target)).collect())
}

/// The ports of a range; of many the first and the last.
fn few(ports: RangeInclusive<u16>, at: Span, of: &str, notes: &mut Notes) -> Vec<u16> {
    if ports.len() <= MOST {
        return ports.collect();
    }
    let (first, last) = (*ports.start(), *ports.end());
    notes.add(at, format!("{} ports of {of}: only the first and the last are taken", ports.len()));
    vec![first, last]
}

/// Splits `PORTS[/PROTOCOL]`; `None` if that is neither TCP nor UDP.
fn protocol(text: &str) -> Option<(&str, bool)> {
    match text.rsplit_once('/') {
        None => Some((text, false)),
        Some((ports, "tcp")) => Some((ports, false)),
        Some((ports, "udp")) => Some((ports, true)),
        Some(_) => None,
    }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|p| *p > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = port(first)?..=port(last)?;
    (!range.is_empty()).then_some(range)
}
