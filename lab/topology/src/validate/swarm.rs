//! `swarm`: which hosts are in it, and their roles.

use std::net::IpAddr;

use indexmap::IndexMap;
use labctl_model::{
    family::{Family, OfFamily},
    host::Host,
    lab::Lab,
    swarm::{Role, Swarm, SwarmNode},
};
use labctl_words as words;
use labctl_yaml::{At, Cx, Diagnostic, Span};

use super::{Names, reserved};
use crate::raw::{self, Addresses, as_address};

/// Ports that dockerd accepts for VXLAN (docker swarm init --data-path-port).
const DATA_PATH_PORTS: std::ops::RangeInclusive<u32> = 1024..=49_151;
/// Longest prefix of a network from the pools (swarmkit).
const LONGEST_PREFIX: u32 = 29;

pub(super) fn read(t: &raw::Topology, names: &Names, lab: &Lab, cx: &mut Cx) -> Option<Swarm> {
    let s = t.swarm.as_ref()?;
    let roles = roles(s, names, cx);
    let mut nodes = IndexMap::new();
    for (host, (role, at)) in roles {
        let Some(h) = lab.hosts.get(host) else { continue };
        let Some(first) = h.first_address() else {
            // A NIC that is not sound is noted already.
            if cx.found.is_empty() {
                let d = Diagnostic::new(at, format!("host `{host}` cannot be in a swarm without a NIC"));
                cx.error(d.hint("put it on a segment that the other nodes are on, or leave it out"));
            }
            continue;
        };
        let address = |a: &Option<Addresses>, cx: &mut Cx| address(a.as_ref()?, host, h, cx);
        nodes.insert(
            host.to_owned(),
            SwarmNode {
                role,
                advertise: address(&s.advertise_addr, cx).unwrap_or(first),
                data_path: address(&s.data_path_addr, cx),
                listen: address(&s.listen_addr, cx),
            },
        );
    }
    for addresses in [&s.advertise_addr, &s.data_path_addr, &s.listen_addr].into_iter().flatten() {
        sound(addresses, &nodes, names, lab, cx);
    }
    for addresses in [&s.advertise_addr, &s.data_path_addr].into_iter().flatten() {
        written(addresses).for_each(|(address, text)| _ = reserved::interface(address, text, cx));
    }
    for (address, text) in s.listen_addr.iter().flat_map(written) {
        reserved::listener(address, text, cx);
    }
    for pool in s.default_addr_pool.iter().flat_map(|p| &p.0) {
        if pool.value.family() == Family::V6 {
            let d = Diagnostic::new(
                pool.at,
                format!("{} is IPv6, and the swarm's pools are IPv4 alone", pool.value),
            );
            cx.error(d.hint("give each overlay its IPv6 subnet in `ipam.config`, with `enable_ipv6: true`"));
        }
        reserved::subnet(pool, cx);
    }
    Some(Swarm {
        nodes,
        data_path_port: s.data_path_port.as_ref().and_then(|p| data_path_port(p, cx)),
        default_addr_pool: s.default_addr_pool.iter().flat_map(|p| &p.0).map(|p| p.value).collect(),
        subnet_size: subnet_size(s, cx),
    })
}

/// The role of every node, managers first, and where it is written.
fn roles<'a>(s: &'a raw::Swarm, names: &Names<'a>, cx: &mut Cx) -> IndexMap<&'a str, (Role, Span)> {
    let mut roles: IndexMap<&str, (Role, Span)> = IndexMap::new();
    let written = s.managers.iter().flat_map(|m| &m.0).map(|h| (h, Role::Manager));
    for (host, role) in written.chain(s.workers.iter().flatten().map(|h| (h, Role::Worker))) {
        if !names.host(host, cx) {
            continue;
        }
        if let Some((_, first)) = roles.get(host.value.as_str()) {
            let d = Diagnostic::new(host.at, format!("`{}` is in the swarm already", host.value));
            cx.error(d.other(*first, "the first").hint("a manager runs tasks as well: leave one out"));
            continue;
        }
        roles.insert(&host.value, (role, host.at));
    }
    let others = |roles: &IndexMap<&str, _>| {
        names.hosts.iter().copied().filter(|h| !roles.contains_key(h)).collect::<Vec<_>>()
    };
    match &s.managers {
        None => match others(&roles).first() {
            Some(first) => _ = roles.shift_insert(0, first, (Role::Manager, s.at)),
            None => {
                let d = Diagnostic::new(s.at, "every host of this swarm is a worker");
                cx.error(d.hint("it needs a manager: `managers: [HOST]`"));
            }
        },
        Some(list) if list.0.is_empty() => {
            let d = Diagnostic::new(s.at, "a swarm needs a manager");
            cx.error(d.hint("without `managers` the first host is one"));
        }
        Some(_) => {}
    }
    if s.workers.is_none() {
        let others = others(&roles);
        roles.extend(others.into_iter().map(|h| (h, (Role::Worker, s.at))));
    }
    roles
}

/// A host's address. `None` also for a mistake, which `sound` notes.
fn address(a: &Addresses, host: &str, h: &Host, cx: &mut Cx) -> Option<IpAddr> {
    let text = match a {
        Addresses::All(text) => text,
        Addresses::Each(map) => map.0.iter().find(|(k, _)| k.value == host).and_then(|(_, v)| v.as_ref())?,
    };
    if let Some(address) = as_address(text) {
        return Some(address);
    }
    let nic = h.nics.iter().find(|n| n.segment == text.value);
    if nic.is_none() {
        let on = words::list(h.nics.iter().map(|n| n.segment.as_str()));
        let d = Diagnostic::new(text.at, format!("`{host}` has no address on `{}`", text.value));
        cx.error(d.hint(format!("it is on {on}; or give a segment or an address for each host")));
    }
    nic.and_then(|n| n.ips().next())
}

/// The addresses that are written out.
fn written(a: &Addresses) -> impl Iterator<Item = (IpAddr, &At<String>)> {
    let all: Vec<&At<String>> = match a {
        Addresses::All(text) => vec![text],
        Addresses::Each(map) => map.0.iter().filter_map(|(_, text)| text.as_ref()).collect(),
    };
    all.into_iter().filter_map(|text| Some((as_address(text)?, text)))
}

/// Notes one address for several nodes, and addresses for hosts that are no nodes.
fn sound(a: &Addresses, nodes: &IndexMap<String, SwarmNode>, names: &Names, lab: &Lab, cx: &mut Cx) {
    match a {
        Addresses::All(text) => {
            if as_address(text).is_some() && nodes.len() > 1 {
                let message = format!("{} cannot be the address of {} nodes", text.value, nodes.len());
                let d = Diagnostic::new(text.at, message);
                let segment = match words::list(lab.segments.keys().map(String::as_str)).as_str() {
                    "" => String::new(),
                    segments => format!("a segment ({segments}), or "),
                };
                cx.error(d.hint(format!("{segment}`{{ HOST: ADDRESS, … }}`")));
            }
        }
        Addresses::Each(map) => {
            for (host, _) in &map.0 {
                if names.host(host, cx) && !nodes.contains_key(&host.value) {
                    let d = Diagnostic::new(host.at, format!("`{}` is not in the swarm", host.value));
                    let nodes = words::list(nodes.keys().map(String::as_str));
                    cx.error(d.hint(format!("its nodes are {nodes}")));
                }
            }
        }
    }
}

fn data_path_port(port: &At<u32>, cx: &mut Cx) -> Option<u16> {
    if !DATA_PATH_PORTS.contains(&port.value) {
        let d = Diagnostic::new(port.at, format!("VXLAN cannot have port {}", port.value));
        cx.error(d.hint("Docker takes 1024 to 49151; without `data_path_port` it is 4789"));
    }
    u16::try_from(port.value).ok()
}

fn subnet_size(s: &raw::Swarm, cx: &mut Cx) -> Option<u8> {
    let size = s.subnet_size.as_ref()?;
    let pools = s.default_addr_pool.iter().flat_map(|p| &p.0);
    let shortest = pools.map(|p| u32::from(p.value.prefix_len())).max().unwrap_or(8);
    if !(shortest..=LONGEST_PREFIX).contains(&size.value) {
        let d = Diagnostic::new(size.at, format!("no network of /{} fits the pools", size.value));
        cx.error(d.hint(format!("{shortest} to {LONGEST_PREFIX}: the prefix length of each network")));
    }
    u8::try_from(size.value).ok()
}
