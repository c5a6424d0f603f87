//! Hosts: NICs, interfaces on top of them, routes, the engine.

use std::net::IpAddr;

use indexmap::IndexMap;
use ipnet::IpNet;

use labctl_model::{
    engine::{Engine, EngineChoice},
    family::{Family, LEAST_MTU_V6, OfFamily, PerFamily},
    host::{Host, Interface, InterfaceKind, Nic, Route},
    lab::{Lab, Segment},
};
use labctl_words as words;
use labctl_yaml::{At, Cx, Diagnostic, Json, Map, OneOrMany};

use super::{engines, entries, flag, names, reserved, segments};
use crate::raw;

const DEFAULT_MEMORY_MIB: u32 = 1024;
/// Most NICs of a host: a small machine has few PCI slots.
const MOST_NICS: usize = 16;
/// Most interfaces on top of NICs.
const MOST_INTERFACES: usize = 64;
const KINDS: [&str; 4] = ["macvlan", "ipvlan", "vlan", "bridge"];

pub(super) fn read(
    t: &raw::Topology,
    choice: &EngineChoice,
    lab: &Lab,
    cx: &mut Cx,
) -> IndexMap<String, Host> {
    let unnamed = engines::unnamed(t, choice, cx);
    let mut all = IndexMap::new();
    for (i, (name, h)) in t.hosts.0.iter().enumerate() {
        let Some(h) = h.as_ref() else { continue };
        let named = h.keys.engine.as_ref().map(|e| engines::named(e, choice, cx));
        let given = choice.hosts.iter().rev().find(|(host, _)| *host == name.value).map(|(_, e)| e.clone());
        let engine = given.or(named).unwrap_or_else(|| unnamed.clone());
        all.insert(name.value.clone(), host((t, lab, engine), i, name, h, cx));
    }
    circles(t, lab, &all, cx);
    all
}

/// Notes bridges of hosts that close a circle between segments: Linux bridges speak no spanning tree unless told to, so a
/// frame to everybody would go round for ever.
fn circles(t: &raw::Topology, lab: &Lab, hosts: &IndexMap<String, Host>, cx: &mut Cx) {
    // Segments that are one by what was looked at so far.
    let mut joined: IndexMap<&str, usize> = lab.segments.keys().map(String::as_str).zip(0..).collect();
    for (name, h) in t.hosts.0.iter().filter_map(|(name, h)| Some((name, h.as_ref()?))) {
        let Some(host) = hosts.get(&name.value) else { continue };
        for (key, i) in h.keys.interfaces.iter().flat_map(|all| &all.0) {
            let bridge = host.interfaces.iter().find(|b| b.name == key.value);
            let ports = host.nics.iter().filter(|nic| bridge.is_some_and(|b| b.has_port(&nic.name)));
            let mut seen: Option<usize> = None;
            for segment in ports.map(|nic| nic.segment.as_str()) {
                let Some(&this) = joined.get(segment) else { continue };
                if seen == Some(this) {
                    let at = i.as_ref().map_or(key.at, |i| i.at);
                    let message = format!("the bridge `{}` closes a circle between segments", key.value);
                    let d =
                        Diagnostic::new(at, message).label(format!("`{segment}` is reached another way too"));
                    cx.error(d.hint("a frame to everybody would go round for ever; leave out one port"));
                    return;
                }
                match seen {
                    None => seen = Some(this),
                    Some(one) => joined.values_mut().filter(|of| **of == this).for_each(|of| *of = one),
                }
            }
        }
    }
}

fn host(
    (t, lab, engine): (&raw::Topology, &Lab, Engine),
    index: usize,
    name: &At<String>,
    h: &raw::Host,
    cx: &mut Cx,
) -> Host {
    let nics = nics(t, index, name, h, lab, cx);
    let interfaces = interfaces(h, &nics, cx);
    let routes =
        h.keys.routes.iter().flatten().filter_map(|r| configured_route(r, &nics, &interfaces, cx)).collect();
    let memory_mib = h.keys.memory.as_ref().map_or(DEFAULT_MEMORY_MIB, |m| {
        if !(256..=65_536).contains(&m.value) {
            let d = Diagnostic::new(m.at, format!("{} MiB is no sensible memory for a host", m.value));
            cx.error(d.hint("256 to 65536; a dockerd needs about 512"));
        }
        m.value
    });
    Host {
        nics,
        interfaces,
        routes,
        daemon_json: daemon_json(h, cx),
        sysctls: sysctls(&h.keys.sysctls, cx),
        engine,
        memory_mib,
    }
}

fn daemon_json(h: &raw::Host, cx: &mut Cx) -> serde_json::Map<String, serde_json::Value> {
    match &h.keys.daemon_json {
        None => serde_json::Map::new(),
        Some(Json(At { value: serde_json::Value::Object(map), .. })) => map.clone(),
        Some(Json(other)) => {
            let d =
                Diagnostic::new(other.at, "`daemon_json` must be an object, as in /etc/docker/daemon.json");
            cx.error(d.hint("`daemon_json: { mtu: 1400 }`, for one"));
            serde_json::Map::new()
        }
    }
}

pub(super) fn sysctls(map: &Option<Map<At<String>>>, cx: &mut Cx) -> IndexMap<String, String> {
    entries(map)
        .map(|(key, value)| {
            let k = &key.value;
            let fine = k.contains(['.', '/'])
                && !k.contains("..")
                && !k.starts_with(['.', '/'])
                && k.chars().all(|c| c.is_ascii_alphanumeric() || "._-/*".contains(c));
            if !fine {
                let d = Diagnostic::new(key.at, format!("`{k}` is no kernel setting"));
                cx.error(d.hint("as in sysctl.conf: `net.ipv4.ip_forward`"));
            }
            names::one_line("a kernel setting", value, cx);
            (k.clone(), value.value.clone())
        })
        .collect()
}

fn nics(
    t: &raw::Topology,
    index: usize,
    host: &At<String>,
    h: &raw::Host,
    lab: &Lab,
    cx: &mut Cx,
) -> Vec<Nic> {
    if let Some((key, _)) = h.nics.get(MOST_NICS) {
        cx.error(Diagnostic::new(key.at, format!("host `{}` has more than {MOST_NICS} NICs", host.value)));
    }
    let mut nics: Vec<Nic> = Vec::new();
    for (i, (segment, nic)) in h.nics.iter().enumerate() {
        // A segment that is not sound is noted already.
        let Some(s) = lab.segments.get(&segment.value) else { continue };
        let written = entries(&t.segments).find(|(k, _)| k.value == segment.value).map(|(_, s)| &s.subnet);
        let Some((addresses, peer)) = nic_addresses(segment, nic, s, written, cx) else { continue };
        let name = match &nic.interface {
            Some(name) => {
                names::interface(name, cx);
                name.clone()
            }
            None => At { value: format!("eth{i}"), at: segment.at },
        };
        if nics.iter().any(|n| n.name == name.value) {
            let d = Diagnostic::new(
                name.at,
                format!("host `{}` has two interfaces `{}`", host.value, name.value),
            );
            cx.error(d.hint("NICs are `eth0`, `eth1`, … in order, unless `interface` names them"));
        }
        nics.push(Nic {
            name: name.value,
            segment: segment.value.clone(),
            addresses,
            peer,
            mtu: nic_mtu(nic, s, addresses, cx),
            mac: mac(lab.segments.get_index_of(&segment.value).unwrap_or(0), index),
        });
    }
    nics
}

/// Reads the addresses of a NIC, with their prefix lengths, and those of the other side. `None`: a mistake was noted, and
/// the NIC has no address.
pub(super) fn nic_addresses(
    segment: &At<String>,
    nic: &raw::Nic,
    s: &Segment,
    written: Option<&OneOrMany<At<IpNet>>>,
    cx: &mut Cx,
) -> Option<(PerFamily<IpNet>, PerFamily<IpAddr>)> {
    let mut peers = PerFamily::default();
    let mut addresses = PerFamily::default();
    let written_addresses = segments::one_of_each("the address of a NIC", &nic.address, cx)?;
    for peer in nic.peer.iter().flat_map(|p| &p.0) {
        match written_addresses.iter().find(|a| a.value.family() == peer.value.family()) {
            Some(own) if own.value == peer.value => {
                cx.error(Diagnostic::new(peer.at, format!("{} cannot be its own peer", peer.value)));
            }
            Some(_) => _ = reserved::interface(peer.value, peer, cx),
            None => {
                let family = peer.value.family();
                let d = Diagnostic::new(
                    peer.at,
                    format!("{} is {family}, and this NIC has no {family} address", peer.value),
                );
                cx.error(d.hint("a peer is the other side of an address of the same family"));
            }
        }
        peers.insert(peer.value);
    }
    for address in written_addresses {
        let family = address.value.family();
        segments::inside(address, s.subnet, &format!("segment `{}`", segment.value), written, cx);
        let prefix_len = match s.subnet.get(family) {
            Some(subnet) if !peers.has(family) => subnet.prefix_len(),
            _ => family.bits(),
        };
        addresses.extend(IpNet::new(address.value, prefix_len).ok());
    }
    if addresses.is_empty() {
        let d = Diagnostic::new(nic.at, format!("the NIC on `{}` has no address", segment.value));
        cx.error(d.hint("one, or one of each family: `[192.168.56.3, fd00:56::3]`"));
        return None;
    }
    Some((addresses, peers))
}

/// The MTU of a NIC: its own, else that of its segment.
pub(super) fn nic_mtu(nic: &raw::Nic, s: &Segment, addresses: PerFamily<IpNet>, cx: &mut Cx) -> u16 {
    let Some(m) = &nic.mtu else { return s.mtu };
    let mtu = segments::mtu(m, cx);
    if addresses.has(Family::V6) && mtu < LEAST_MTU_V6 {
        segments::room_for_v6(m, cx);
    }
    mtu
}

/// The MAC of a NIC, unique in the lab and the same in every run: 02 (locally administered), "la", then the segment,
/// then the host or peer.
pub(super) fn mac(segment: usize, host: usize) -> [u8; 6] {
    // Both counts are bounded by `names`.
    let [high, low] = u16::try_from(host).unwrap_or(u16::MAX).to_be_bytes();
    [0x02, 0x6c, 0x61, u8::try_from(segment).unwrap_or(u8::MAX), high, low]
}

/// Extra interfaces, each after its parent.
fn interfaces(h: &raw::Host, nics: &[Nic], cx: &mut Cx) -> Vec<Interface> {
    let all: Vec<_> = entries(&h.keys.interfaces).collect();
    if let Some((name, _)) = all.get(MOST_INTERFACES) {
        cx.error(Diagnostic::new(name.at, format!("more than {MOST_INTERFACES} interfaces on one host")));
        return Vec::new();
    }
    let mut read: Vec<(&At<String>, &raw::Interface, Interface)> = Vec::new();
    for (name, i) in &all {
        names::interface(name, cx);
        if nics.iter().any(|n| n.name == name.value) {
            cx.error(Diagnostic::new(name.at, format!("a NIC is called `{}` already", name.value)));
            continue;
        }
        let Some(kind) = kind(i, cx) else { continue };
        let on = match kind {
            InterfaceKind::Bridge => ports(name, i, nics, &read, cx),
            _ => parent(i, nics, &all, cx).map(|parent| vec![parent]),
        };
        let Some(on) = on else { continue };
        for a in i.addresses.iter().flatten() {
            reserved::interface(a.value.addr(), a, cx);
        }
        let addresses = i.addresses.iter().flatten().map(|a| a.value).collect();
        let interface =
            Interface { name: name.value.clone(), kind, on, addresses, deferred: flag(&i.deferred) };
        read.push((name, i, interface));
    }
    // Parents first. Each round takes those whose parent is placed; what is left forms a circle.
    let mut ordered: Vec<Interface> = Vec::new();
    while !read.is_empty() {
        let ready = |i: &Interface| {
            let waits = all.iter().any(|(k, _)| k.value == i.parent());
            !waits || ordered.iter().any(|o| o.name == i.parent())
        };
        let Some(next) = read.iter().position(|(_, _, i)| ready(i)) else { break };
        let (name, i, interface) = read.remove(next);
        let below = |other: &Interface| other.name == interface.parent();
        let at = i.parent.as_ref().map_or(i.at, |p| p.at);
        if !interface.deferred && ordered.iter().any(|o| below(o) && o.deferred) {
            let message =
                format!("`{}` sits on `{}`, which only a step makes", name.value, interface.parent());
            cx.error(Diagnostic::new(at, message).hint("make it `deferred: true` as well"));
        }
        let carries = |other: &&Interface| {
            interface.kind != InterfaceKind::Bridge && other.has_port(interface.parent())
        };
        if let Some(bridge) = ordered.iter().chain(read.iter().map(|(_, _, i)| i)).find(carries) {
            let message = format!("`{}` is a port of the bridge `{}`", interface.parent(), bridge.name);
            let d = Diagnostic::new(at, message).label("the kernel has it for one of both");
            cx.error(d.hint(format!("`parent: {}`", bridge.name)));
        }
        ordered.push(interface);
    }
    if let Some((_, i, interface)) = read.first()
        && read.iter().any(|(_, _, other)| other.name == interface.parent())
    {
        let message = format!("`{}` sits on itself, by way of `{}`", interface.name, interface.parent());
        let at = i.parent.as_ref().map_or(i.at, |p| p.at);
        cx.error(Diagnostic::new(at, message).hint("some interface must sit on a NIC"));
    }
    ordered
}

/// The interface that another one sits on, by its name in the host.
fn parent(
    i: &raw::Interface,
    nics: &[Nic],
    all: &[(&At<String>, &raw::Interface)],
    cx: &mut Cx,
) -> Option<String> {
    if let Some(port) = i.ports.iter().flatten().next() {
        let d = Diagnostic::new(port.at, "only a bridge has `ports`");
        cx.error(d.hint("`parent` is the interface it sits on; or write `type: bridge`"));
    }
    let Some(parent) = &i.parent else {
        let d = Diagnostic::new(i.at, "an interface needs its `parent`");
        cx.error(d.hint("the interface that it sits on, or a segment for the NIC on it"));
        return None;
    };
    let nic = nics.iter().find(|n| n.segment == parent.value).map(|n| n.name.as_str());
    let known = || nics.iter().map(|n| n.name.as_str()).chain(all.iter().map(|(k, _)| k.value.as_str()));
    let found = nic.or_else(|| known().find(|k| *k == parent.value));
    if found.is_none() {
        let segments = nics.iter().map(|n| n.segment.as_str());
        let hint = words::known("interface", &parent.value, segments.chain(known()));
        let message = format!("the host has no interface `{}`, nor a NIC on such a segment", parent.value);
        cx.error(Diagnostic::new(parent.at, message).hint(hint));
    }
    found.map(str::to_owned)
}

/// The NICs that a bridge connects, by their names in the host. It is there from the start: their addresses are its own.
fn ports(
    name: &At<String>,
    i: &raw::Interface,
    nics: &[Nic],
    others: &[(&At<String>, &raw::Interface, Interface)],
    cx: &mut Cx,
) -> Option<Vec<String>> {
    if let Some(parent) = &i.parent {
        let d = Diagnostic::new(parent.at, "a bridge sits on no `parent`");
        cx.error(d.hint("`ports` are the NICs that it connects: `ports: [lan, lan2]`"));
    }
    if let Some(deferred) = i.deferred.as_ref().filter(|d| d.value) {
        let d = Diagnostic::new(deferred.at, "a bridge cannot be deferred");
        cx.error(d.hint("the host's addresses are on it, so it is there from the start"));
    }
    let mut found: Vec<String> = Vec::new();
    for port in i.ports.iter().flatten() {
        let nic = nics.iter().find(|n| n.segment == port.value || n.name == port.value);
        let Some(nic) = nic else {
            let known = nics.iter().flat_map(|n| [n.segment.as_str(), n.name.as_str()]);
            let hint = words::known("NIC", &port.value, known);
            let message = format!("the host has no NIC `{}`, nor one on such a segment", port.value);
            cx.error(Diagnostic::new(port.at, message).hint(hint));
            return None;
        };
        if found.contains(&nic.name) || others.iter().any(|(_, _, other)| other.has_port(&nic.name)) {
            let message = format!("`{}` is a port of a bridge already", nic.name);
            cx.error(Diagnostic::new(port.at, message).hint("a NIC is in one bridge, once"));
        }
        if !nic.peer.is_empty() {
            let d = Diagnostic::new(port.at, format!("`{}` is point-to-point", nic.name));
            cx.error(d.hint("a bridge connects NICs of whole segments"));
        }
        found.push(nic.name.clone());
    }
    if found.is_empty() {
        let d = Diagnostic::new(i.at, format!("the bridge `{}` has no `ports`", name.value));
        cx.error(d.hint("the NICs that it connects: `ports: [lan, lan2]`"));
        return None;
    }
    Some(found)
}

fn kind(i: &raw::Interface, cx: &mut Cx) -> Option<InterfaceKind> {
    let kind = match i.r#type.value.as_str() {
        "macvlan" => InterfaceKind::Macvlan,
        "ipvlan" => InterfaceKind::Ipvlan,
        "bridge" => InterfaceKind::Bridge,
        "vlan" => match &i.id {
            Some(id) => InterfaceKind::Vlan(vlan(id, cx)?),
            None => {
                cx.error(
                    Diagnostic::new(i.at, "an interface of type `vlan` needs its `id`")
                        .hint("`id: 10`, for one"),
                );
                return None;
            }
        },
        word => {
            let hint = words::known("type", word, KINDS);
            cx.error(
                Diagnostic::new(i.r#type.at, format!("there is no type `{word}` of interface")).hint(hint),
            );
            return None;
        }
    };
    if let (Some(id), false) = (&i.id, matches!(kind, InterfaceKind::Vlan(_))) {
        cx.error(Diagnostic::new(id.at, "`id` is a VLAN's").hint("leave it out, or write `type: vlan`"));
    }
    Some(kind)
}

/// An 802.1Q VLAN id.
pub(super) fn vlan(id: &At<u32>, cx: &mut Cx) -> Option<u16> {
    let vlan = u16::try_from(id.value).ok().filter(|v| (1..=4094).contains(v));
    if vlan.is_none() {
        cx.error(Diagnostic::new(id.at, format!("{} is no VLAN id", id.value)).hint("1 to 4094"));
    }
    vlan
}

/// Reads a route that exists from the start.
pub(super) fn configured_route(
    r: &raw::Route,
    nics: &[Nic],
    interfaces: &[Interface],
    cx: &mut Cx,
) -> Option<Route> {
    let route = route(r, nics, interfaces, cx)?;
    if let Some(dev) = interfaces.iter().find(|i| Some(&i.name) == route.dev.as_ref() && i.deferred) {
        let at = r.dev.as_ref().map_or(r.at, |d| d.at);
        let message = format!("the route goes by `{}`, which only a step makes", dev.name);
        cx.error(
            Diagnostic::new(at, message)
                .hint("add the route in a step too: `do: route add HOST PREFIX dev …`"),
        );
    }
    if let (Some(via), Some(at)) = (route.via, &r.via) {
        let connected =
            |nic: &Nic| nic.peer.get(via.family()) == Some(via) || nic.addresses.covers(via) && !nic.has(via);
        let direct = interfaces.iter().flat_map(|i| &i.addresses).any(|n| n.contains(&via));
        if !labctl_model::family::is_link_local(via) && !direct && !nics.iter().any(connected) {
            let d = Diagnostic::new(
                at.at,
                format!("{via} cannot be a next hop: it is on none of the host's links"),
            );
            let links = nics.iter().map(|n| match n.peer.is_empty() {
                false => format!("{} (by {})", n.peer, n.name),
                true => format!("in {} (by {})", n.addresses, n.name),
            });
            let links: Vec<String> = links.collect();
            cx.error(d.hint(format!("the kernel takes what is connected: {}", links.join(", "))));
        }
    }
    Some(route)
}

/// Reads a route of this host, with its device by name.
pub(super) fn route(r: &raw::Route, nics: &[Nic], interfaces: &[Interface], cx: &mut Cx) -> Option<Route> {
    let to = r.to.value.prefix(r.via.as_ref().map(|via| via.value.family()));
    if to != to.trunc() {
        let d = Diagnostic::new(r.to.at, format!("`{to}` has bits set beyond its prefix length"));
        cx.error(d.hint(format!(
            "the prefix is `{}`; this address alone is `{}/{}`",
            to.trunc(),
            to.addr(),
            to.max_prefix_len()
        )));
    }
    reserved::destination(to, &r.to, cx);
    if let Some(via) = &r.via {
        reserved::next_hop(via.value, r.dev.is_some(), via, cx);
        if via.value.family() != to.family() {
            let message =
                format!("a route to {to} is {}, and its next hop {} is not", to.family(), via.value);
            let d = Diagnostic::new(via.at, message).other(r.to.at, "the destination");
            cx.error(d.hint("both are of one family: make two routes"));
            return None;
        }
    }
    if r.via.is_none() && r.dev.is_none() {
        let d = Diagnostic::new(r.to.at, format!("the route to {to} leads nowhere"));
        cx.error(d.hint("give it `via` (an address), `dev` (an interface or a segment), or both"));
        return None;
    }
    let dev = match &r.dev {
        None => None,
        Some(dev) => {
            let nic = nics.iter().find(|n| n.segment == dev.value).map(|n| &n.name);
            let known = || nics.iter().map(|n| &n.name).chain(interfaces.iter().map(|i| &i.name));
            let Some(name) = nic.or_else(|| known().find(|n| **n == dev.value)) else {
                let segments = nics.iter().map(|n| n.segment.as_str());
                let hint = words::known("interface", &dev.value, segments.chain(known().map(String::as_str)));
                let message =
                    format!("the host has no interface `{}`, nor a NIC on such a segment", dev.value);
                cx.error(Diagnostic::new(dev.at, message).hint(hint));
                return None;
            };
            if let Some(bridge) = interfaces.iter().find(|i| i.has_port(name)) {
                let d =
                    Diagnostic::new(dev.at, format!("`{name}` is a port of the bridge `{}`", bridge.name));
                cx.error(d.hint(format!("`dev: {}`: what goes by the port goes by its bridge", bridge.name)));
            }
            Some(name.clone())
        }
    };
    Some(Route { to, via: r.via.as_ref().map(|v| v.value), dev, metric: r.metric.as_ref().map(|m| m.value) })
}
