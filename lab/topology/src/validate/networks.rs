//! Docker networks.

use std::collections::HashMap;

use indexmap::{IndexMap, IndexSet};
use labctl_model::{
    family::{Family, OfFamily},
    host::{Interface, InterfaceKind},
    lab::{Attach, Driver, IpamPool, Lab, Network, Parent},
    swarm::Swarm,
};
use labctl_words as words;
use labctl_yaml::{At, Cx, Diagnostic};

use super::{Names, entries, flag, hosts, names, reserved, segments};
use crate::raw;

const DRIVERS: [&str; 4] = ["bridge", "macvlan", "ipvlan", "overlay"];
/// Options whose values are words, with their words.
const MODES: [(&str, &[&str]); 3] = [
    ("ipvlan_mode", &["l2", "l3", "l3s"]),
    ("ipvlan_flag", &["bridge", "private", "vepa"]),
    ("macvlan_mode", &["bridge", "vepa", "passthru", "private"]),
];

pub(super) fn read(t: &raw::Topology, names: &Names, lab: &Lab, cx: &mut Cx) -> IndexMap<String, Network> {
    let mut used: HashMap<&str, IndexSet<&str>> = HashMap::new();
    for c in lab.containers.values() {
        if let Attach::Networks(networks) = &c.attach {
            for name in networks.keys() {
                used.entry(name).or_default().insert(&c.host);
            }
        }
    }
    for (container, network) in connected(t) {
        if let Some(c) = lab.containers.get(container) {
            used.entry(network).or_default().insert(&c.host);
        }
    }
    let mut all = IndexMap::new();
    for (name, n) in entries(&t.networks) {
        if let Some(read) = network(t, name, n, names, lab, used.get(name.value.as_str()), cx) {
            all.insert(name.value.clone(), read);
        }
    }
    docker_names(t, &all, cx);
    mesh(t, &all, cx);
    all
}

/// Containers and the networks that steps connect them to.
pub(super) fn connected(t: &raw::Topology) -> impl Iterator<Item = (&str, &str)> {
    let actions = t.steps.iter().flatten().filter_map(|s| s.r#do.as_ref()).flat_map(|list| &list.0);
    actions.filter_map(|a| {
        let mut words = a.value.split_whitespace();
        (words.next()? == "connect").then_some(())?;
        Some((words.next()?, words.next()?))
    })
}

fn network(
    t: &raw::Topology,
    name: &At<String>,
    n: &raw::Network,
    names: &Names,
    lab: &Lab,
    used: Option<&IndexSet<&str>>,
    cx: &mut Cx,
) -> Option<Network> {
    let overlay = n.driver.as_ref().is_some_and(|d| d.value == "overlay");
    let hosts = match &lab.swarm {
        Some(swarm) if overlay => across(n, swarm, names, cx),
        _ => placed(t, name, n, names, used, cx),
    };
    let driver = driver(n, lab, &hosts, cx);
    let mut options = IndexMap::new();
    for (key, value) in entries(&n.driver_opts).filter(|(k, _)| k.value != "parent") {
        if let Some((_, known)) = MODES.iter().find(|(k, _)| *k == key.value)
            && !known.contains(&value.value.as_str())
        {
            let hint = words::known("value", &value.value, known.iter().copied());
            let message = format!("`{}` is no value of `{}`", value.value, key.value);
            cx.error(Diagnostic::new(value.at, message).hint(hint));
        }
        names::one_line("an option of a driver", value, cx);
        options.insert(key.value.clone(), value.value.clone());
    }
    if let Some(driver) = n.ipam.as_ref().and_then(|i| i.driver.as_ref()).filter(|d| d.value != "default") {
        cx.error(
            Diagnostic::new(driver.at, format!("there is no ipam driver `{}`", driver.value))
                .hint("`default`"),
        );
    }
    let pools = n.ipam.iter().flat_map(|i| i.config.iter().flatten());
    families(n, lab, &hosts, cx);
    let docker_name = n.name.as_ref().unwrap_or(name);
    if let Some(name) = &n.name {
        names::docker_name("network", name, cx);
    }
    if n.name.is_some() && names::BUILT_IN_NETWORKS.contains(&docker_name.value.as_str()) {
        let message = format!("Docker has a network `{}` of its own", docker_name.value);
        cx.error(Diagnostic::new(docker_name.at, message).hint("choose another name"));
    }
    if docker_name.value == names::NO_NETWORKS_NAME {
        let d = Diagnostic::new(docker_name.at, "Docker makes no network with the name `default`");
        cx.error(d.hint("give it another one there, as `name: lab_default`"));
    }
    Some(Network {
        docker_name: docker_name.value.clone(),
        driver: driver?,
        options,
        ipam: pools.filter_map(|p| pool(p, cx)).collect(),
        enable_ipv4: n.enable_ipv4.as_ref().map(|e| e.value),
        enable_ipv6: n.enable_ipv6.as_ref().map(|e| e.value),
        internal: flag(&n.internal),
        attachable: flag(&n.attachable),
        ingress: flag(&n.ingress),
        labels: entries(&n.labels).map(|(k, v)| (k.value.clone(), v.value.clone())).collect(),
        hosts,
        deferred: flag(&n.deferred),
    })
}

/// The nodes that an overlay spans.
fn across(n: &raw::Network, swarm: &Swarm, names: &Names, cx: &mut Cx) -> Vec<String> {
    if let Some(host) = n.hosts.as_ref().and_then(|h| h.first()) {
        let d = Diagnostic::new(host.at, "an overlay network spans the whole swarm");
        cx.error(d.hint("leave `hosts` out: a node has the network as soon as a container there is on it"));
    }
    names.hosts.iter().filter(|h| swarm.nodes.contains_key(**h)).map(|h| (*h).to_owned()).collect()
}

/// The hosts that the network is made on.
fn placed(
    t: &raw::Topology,
    name: &At<String>,
    n: &raw::Network,
    names: &Names,
    used: Option<&IndexSet<&str>>,
    cx: &mut Cx,
) -> Vec<String> {
    let mut hosts = IndexSet::new();
    match &n.hosts {
        Some(list) => {
            for host in list.iter().filter(|h| names.host(h, cx)).collect::<Vec<_>>() {
                if !hosts.insert(host.value.clone()) {
                    cx.error(Diagnostic::new(host.at, format!("host `{}` is named twice", host.value)));
                }
            }
            if list.is_empty() {
                cx.error(Diagnostic::new(name.at, format!("network `{}` is on no host", name.value)));
            }
        }
        None => hosts.extend(used.into_iter().flatten().map(|h| (*h).to_owned())),
    }
    if hosts.is_empty() && n.hosts.is_none() {
        match t.hosts.0.as_slice() {
            [(only, _)] => _ = hosts.insert(only.value.clone()),
            // A container that is not sound may be on it.
            _ if cx.found.is_empty() => {
                let d = Diagnostic::new(name.at, format!("network `{}` is on no host", name.value));
                cx.error(d.label("no container is on it").hint("name the hosts: `hosts: [host1]`"));
            }
            _ => {}
        }
    }
    // In the topology's order.
    names.hosts.iter().filter(|h| hosts.contains(**h)).map(|h| (*h).to_owned()).collect()
}

fn driver(n: &raw::Network, lab: &Lab, hosts: &[String], cx: &mut Cx) -> Option<Driver> {
    let parent = entries(&n.driver_opts).find(|(k, _)| k.value == "parent");
    let word = n.driver.as_ref().map_or("bridge", |d| d.value.as_str());
    let driver = match word {
        "bridge" => Driver::Bridge,
        "macvlan" => Driver::Macvlan { parent: self::parent(n, parent, lab, hosts, cx)? },
        "ipvlan" => Driver::Ipvlan { parent: self::parent(n, parent, lab, hosts, cx)? },
        "overlay" => {
            if lab.swarm.is_none() && !flag(&n.deferred) {
                let at = n.driver.as_ref().map_or(n.at, |d| d.at);
                let d = Diagnostic::new(at, "an overlay network needs a swarm");
                cx.error(d.hint(
                    "`swarm: {}` makes one of all hosts; or `deferred: true`, to let a step show how Docker refuses it",
                ));
            }
            Driver::Overlay
        }
        _ => {
            let at = n.driver.as_ref().map_or(n.at, |d| d.at);
            let hint = match word {
                "host" | "none" | "null" => {
                    "every dockerd has that network: use `network_mode` in containers".into()
                }
                _ => words::known("driver", word, DRIVERS),
            };
            cx.error(Diagnostic::new(at, format!("there is no network driver `{word}`")).hint(hint));
            return None;
        }
    };
    if let (Some((key, _)), Driver::Bridge | Driver::Overlay) = (parent, &driver) {
        let message = format!("`parent` means nothing to the {word} driver");
        cx.error(Diagnostic::new(key.at, message).hint("it is an option of `macvlan` and `ipvlan`"));
    }
    Some(driver)
}

/// Reads a parent: `lan`, `lan.10`, `eth0`, `eth0.10`. The outer `None`: a mistake was noted.
#[allow(clippy::option_option)]
fn parent(
    n: &raw::Network,
    parent: Option<(&At<String>, &At<String>)>,
    lab: &Lab,
    hosts: &[String],
    cx: &mut Cx,
) -> Option<Option<Parent>> {
    let Some((_, text)) = parent else { return Some(None) };
    let (base, vlan) = match text.value.split_once('.') {
        None => (text.value.as_str(), None),
        Some((base, vlan)) => (base, Some(vlan)),
    };
    if lab.segments.contains_key(base) {
        let vlan = match vlan {
            None => None,
            Some(v) => {
                let at = cx.part(text, base.len() + 1..text.value.len());
                Some(hosts::vlan(&At { value: v.parse().unwrap_or(0), at }, cx)?)
            }
        };
        for host in hosts {
            let Some(h) = lab.hosts.get(host) else { continue };
            let nic = h.nics.iter().find(|nic| nic.segment == base);
            // Docker makes `eth0.30`, and the kernel has one interface for each VLAN of a NIC.
            let same = |i: &&Interface| match (nic, i.kind) {
                (Some(nic), InterfaceKind::Vlan(id)) => {
                    Some(id) == vlan && i.parent() == nic.name && i.name != format!("{}.{id}", nic.name)
                }
                _ => false,
            };
            if let (Some(id), Some(nic), Some(i)) = (vlan, nic, h.interfaces.iter().find(same)) {
                let message = format!("VLAN {id} of `{}` is on `{host}` already: `{}`", nic.name, i.name);
                let d = Diagnostic::new(text.at, message).label("Docker would make it once more");
                cx.error(d.hint(format!(
                    "call the interface `{0}.{id}`, which Docker then takes, or leave it out",
                    nic.name
                )));
            }
            if let Some(bridge) = nic.and_then(|nic| h.interfaces.iter().find(|i| i.has_port(&nic.name))) {
                let message = format!("the NIC of `{host}` there is a port of the bridge `{}`", bridge.name);
                let d = Diagnostic::new(text.at, message).label("the kernel has it for one of both");
                cx.error(d.hint(format!("`parent: {}`", bridge.name)));
            }
            if nic.is_none() {
                let d = Diagnostic::new(text.at, format!("host `{host}` has no NIC on segment `{base}`"));
                let nics = words::list(h.nics.iter().map(|n| n.segment.as_str()));
                cx.error(d.hint(if nics.is_empty() {
                    format!("give it one: `{host}: {{ {base}: ADDRESS }}`")
                } else {
                    format!("it is on {nics}; or name the network's `hosts`")
                }));
            }
        }
        return Some(Some(Parent::Segment { segment: base.to_owned(), vlan }));
    }
    // A segment that is not sound is noted already.
    if cx.names.contains(base) {
        return None;
    }
    for host in hosts.iter().filter(|_| !flag(&n.deferred)) {
        let Some(h) = lab.hosts.get(host) else { continue };
        let known: Vec<&str> = h
            .nics
            .iter()
            .map(|n| n.name.as_str())
            .chain(h.interfaces.iter().map(|i| i.name.as_str()))
            .collect();
        // For a name `X.ID`, Docker itself makes a VLAN sub-interface.
        let sub_interface = vlan.is_some() && known.contains(&base);
        if !known.contains(&text.value.as_str()) && !sub_interface {
            let all = lab.segments.keys().map(String::as_str).chain(known.iter().copied());
            let hint = match words::nearest(base, all) {
                Some(near) => format!("did you mean `{near}`?"),
                None if lab.segments.is_empty() && known.is_empty() => {
                    format!("the lab has no segments, and `{host}` has no interfaces")
                }
                None => {
                    let choice = |what: &str, names: String| match names.as_str() {
                        "" => None,
                        _ => Some(format!("{what} ({names})")),
                    };
                    let segment = choice("a segment", words::list(lab.segments.keys().map(String::as_str)));
                    let interface = choice("an interface of the host", words::list(known));
                    [segment, interface].into_iter().flatten().collect::<Vec<_>>().join(" or ")
                }
            };
            let d = Diagnostic::new(
                text.at,
                format!("there is no segment `{base}`, nor such an interface on `{host}`"),
            );
            cx.error(d.hint(hint));
            return None;
        }
    }
    Some(Some(Parent::Interface(text.value.clone())))
}

fn pool(p: &raw::Pool, cx: &mut Cx) -> Option<IpamPool> {
    let subnet = segments::prefix(&p.subnet, cx).filter(|_| reserved::subnet(&p.subnet, cx))?;
    if let Some(gateway) = &p.gateway
        && !subnet.contains(&gateway.value)
    {
        segments::within(gateway, subnet, "the network's subnet", Some(&p.subnet), cx);
    }
    if let Some(range) = p.ip_range.as_ref().filter(|r| !subnet.contains(&r.value)) {
        let d =
            Diagnostic::new(range.at, format!("the range {} lies outside the subnet {subnet}", range.value));
        cx.error(d.other(p.subnet.at, "the subnet").hint("`ip_range` is the part of it that containers get"));
    }
    let mut aux_addresses = IndexMap::new();
    for (name, address) in entries(&p.aux_addresses) {
        if !subnet.contains(&address.value) {
            segments::within(address, subnet, "the network's subnet", Some(&p.subnet), cx);
        } else if p.gateway.as_ref().is_some_and(|g| g.value == address.value) {
            let d =
                Diagnostic::new(address.at, format!("{} is the network's gateway already", address.value));
            cx.error(d.hint("Docker sets its gateway aside by itself: leave it out"));
        }
        aux_addresses.insert(name.value.clone(), address.value);
    }
    let gateway = p.gateway.as_ref().map(|g| g.value);
    Some(IpamPool { subnet, gateway, ip_range: p.ip_range.as_ref().map(|r| r.value), aux_addresses })
}

/// Notes subnets of a family that the network does not have, and a network without IPv4 on an engine that makes none.
fn families(n: &raw::Network, lab: &Lab, hosts: &[String], cx: &mut Cx) {
    let subnets = || n.ipam.iter().flat_map(|i| i.config.iter().flatten()).map(|p| &p.subnet);
    let of = |family| subnets().find(|s| s.value.family() == family);
    if let (Some(subnet), false) = (of(Family::V6), flag(&n.enable_ipv6)) {
        let d = Diagnostic::new(subnet.at, format!("{} is IPv6, and the network has none", subnet.value));
        let d = match &n.enable_ipv6 {
            Some(off) => d.other(off.at, "turned off here"),
            None => d,
        };
        cx.error(d.hint("`enable_ipv6: true` in the network"));
    }
    let Some(off) = n.enable_ipv4.as_ref().filter(|e| !e.value) else { return };
    if let Some(subnet) = of(Family::V4) {
        let d = Diagnostic::new(subnet.at, format!("{} is IPv4, and the network has none", subnet.value));
        cx.error(d.other(off.at, "turned off here").hint("leave one of them out"));
    }
    if !flag(&n.enable_ipv6) {
        let d = Diagnostic::new(off.at, "a network without IPv4 needs IPv6");
        cx.error(d.hint("`enable_ipv6: true`, and an IPv6 subnet in `ipam.config`"));
    }
    // Older ones take no notice of it.
    let is_old = |host: &&String| lab.hosts.get(*host).is_some_and(|h| !h.engine.is_at_least(28));
    if let Some(host) = hosts.iter().find(is_old) {
        let d = Diagnostic::new(off.at, format!("the dockerd of `{host}` makes no network without IPv4"));
        cx.error(d.hint("Docker 28 and later do: leave `enable_ipv4` out, or choose another `engine`"));
    }
}

/// Checks the routing mesh's network: at most one, an overlay to which nothing attaches.
fn mesh(t: &raw::Topology, all: &IndexMap<String, Network>, cx: &mut Cx) {
    let mut first: Option<&At<bool>> = None;
    for (key, n) in entries(&t.networks) {
        let Some(at) = n.ingress.as_ref().filter(|i| i.value) else { continue };
        let Some(read) = all.get(&key.value) else { continue };
        let of_others = [(&n.attachable, "attachable"), (&n.internal, "internal"), (&n.deferred, "deferred")];
        if read.driver != Driver::Overlay {
            let d = Diagnostic::new(at.at, format!("network `{}` is no overlay", key.value));
            cx.error(d.hint("the routing mesh spans the swarm: `driver: overlay`"));
        } else if let Some((flag, word)) =
            of_others.iter().find_map(|(flag, word)| Some((flag.as_ref().filter(|f| f.value)?, word)))
        {
            let d = Diagnostic::new(flag.at, format!("the routing mesh's network cannot be `{word}`"));
            cx.error(d.other(at.at, "it is the mesh's").hint("leave one out"));
        } else if let Some(first) = first {
            let d = Diagnostic::new(at.at, "the routing mesh has one network");
            cx.error(d.other(first.at, "the first").hint("leave one out"));
        }
        first = first.or(Some(at));
    }
}

/// Notes two networks of one host with the same Docker name.
fn docker_names(t: &raw::Topology, all: &IndexMap<String, Network>, cx: &mut Cx) {
    let mut taken: HashMap<(&str, &str), &At<String>> = HashMap::new();
    for (key, n) in entries(&t.networks) {
        let Some(read) = all.get(&key.value) else { continue };
        let name = n.name.as_ref().unwrap_or(key);
        for host in &read.hosts {
            if let Some(first) = taken.insert((host, read.docker_name.as_str()), name) {
                let message = format!("two networks of host `{host}` are called `{}`", read.docker_name);
                cx.error(
                    Diagnostic::new(name.at, message)
                        .other(first.at, "the first")
                        .hint("choose another `name`"),
                );
                break;
            }
        }
    }
}
