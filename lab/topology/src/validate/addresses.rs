//! Checks that no address is used twice on one link.
//!
//! A link is a segment with a VLAN (hosts' NICs, macvlan and l2 ipvlan containers), or a network on one host (bridges,
//! l3 ipvlan), or an overlay. What only a step makes is not checked: a lab may want to show how Docker refuses it.

use std::{collections::HashMap, net::IpAddr};

use labctl_model::{
    family::first_host,
    lab::{Driver, Lab, Network, Parent},
};
use labctl_yaml::{At, Cx, Diagnostic, Span};

use super::entries;
use crate::raw;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Link {
    Segment { segment: String, vlan: Option<u16> },
    Network { network: String, host: String },
    Overlay { network: String },
}

/// Who has an address.
struct Owner {
    what: String,
    at: Span,
}

#[derive(Default)]
struct Taken(HashMap<(Link, IpAddr), Owner>);

impl Taken {
    fn take(&mut self, link: &Link, address: IpAddr, what: String, at: Span, cx: &mut Cx) {
        match self.0.get(&(link.clone(), address)) {
            // A shim may have its own host's address, and a host may be recorded twice.
            Some(first) if first.what == what => {}
            Some(first) => {
                let place = match link {
                    Link::Segment { segment, vlan: None } => format!("segment `{segment}`"),
                    Link::Segment { segment, vlan: Some(v) } => format!("VLAN {v} of segment `{segment}`"),
                    Link::Network { network, host } => format!("network `{network}` on `{host}`"),
                    Link::Overlay { network } => format!("network `{network}`"),
                };
                let d = Diagnostic::new(at, format!("{address} is taken already on {place}"));
                let d = d.label(what).other(first.at, first.what.clone());
                cx.error(d.hint("every address of a link must differ"));
            }
            None => _ = self.0.insert((link.clone(), address), Owner { what, at }),
        }
    }
}

pub(super) fn check(t: &raw::Topology, lab: &Lab, cx: &mut Cx) {
    let mut taken = Taken::default();
    for (name, s) in entries(&t.segments) {
        for g in s.gateway.iter().flat_map(|g| &g.0) {
            let link = Link::Segment { segment: name.value.clone(), vlan: None };
            taken.take(&link, g.value, format!("the gateway of `{}`", name.value), g.at, cx);
        }
    }
    hosts(t, lab, &mut taken, cx);
    peers(t, &mut taken, cx);
    containers(t, lab, &mut taken, cx);
    ports(t, lab, cx);
}

fn hosts(t: &raw::Topology, lab: &Lab, taken: &mut Taken, cx: &mut Cx) {
    for (name, h) in t.hosts.0.iter().filter_map(|(k, h)| Some((k, h.as_ref()?))) {
        let mut own: HashMap<IpAddr, &str> = HashMap::new();
        for (segment, nic) in &h.nics {
            let link = Link::Segment { segment: segment.value.clone(), vlan: None };
            let what = format!("host `{}`", name.value);
            for address in &nic.address.0 {
                if let Some(other) = own.insert(address.value, &segment.value) {
                    let message = format!("{} is this host's address on `{other}` already", address.value);
                    cx.error(
                        Diagnostic::new(address.at, message).hint("each NIC needs an address of its own"),
                    );
                }
                taken.take(&link, address.value, what.clone(), address.at, cx);
            }
        }
        let Some(host) = lab.hosts.get(&name.value) else { continue };
        for (key, i) in entries(&h.keys.interfaces) {
            let Some(interface) = host.interfaces.iter().find(|i| i.name == key.value && !i.deferred) else {
                continue;
            };
            let Some((segment, vlan)) = host.link_of(&interface.name) else { continue };
            let link = Link::Segment { segment: segment.to_owned(), vlan };
            for a in i.addresses.iter().flatten() {
                taken.take(&link, a.value.addr(), format!("host `{}`", name.value), a.at, cx);
            }
        }
    }
}

fn peers(t: &raw::Topology, taken: &mut Taken, cx: &mut Cx) {
    for (name, p) in entries(&t.peers) {
        if let Some((segment, nic)) = p.nics.first() {
            let link = Link::Segment { segment: segment.value.clone(), vlan: None };
            for address in &nic.address.0 {
                taken.take(&link, address.value, format!("peer `{}`", name.value), address.at, cx);
            }
        }
    }
}

fn containers(t: &raw::Topology, lab: &Lab, taken: &mut Taken, cx: &mut Cx) {
    for (name, c) in entries(&t.containers) {
        let Some(container) = lab.containers.get(&name.value).filter(|c| !c.deferred) else { continue };
        for (key, a) in c.networks.iter().flat_map(|n| &n.0) {
            let Some(network) = lab.networks.get(&key.value).filter(|n| !n.deferred) else { continue };
            for address in a.iter().flat_map(of_attachment) {
                if reserved(&key.value, network, address.value, address.at, cx) {
                    continue;
                }
                let what = format!("container `{}`", name.value);
                taken.take(
                    &link(&key.value, network, lab, &container.host),
                    address.value,
                    what,
                    address.at,
                    cx,
                );
            }
        }
    }
}

/// The static addresses of an attachment.
pub(super) fn of_attachment(a: &raw::Attachment) -> impl Iterator<Item = At<IpAddr>> + use<> {
    let v4 = a.ipv4_address.as_ref().map(|a| At { value: IpAddr::V4(a.value), at: a.at });
    let v6 = a.ipv6_address.as_ref().map(|a| At { value: IpAddr::V6(a.value), at: a.at });
    v4.into_iter().chain(v6)
}

/// The link that a network's containers are on.
fn link(name: &str, network: &Network, lab: &Lab, host: &str) -> Link {
    let own = || Link::Network { network: name.to_owned(), host: host.to_owned() };
    let parent = match &network.driver {
        Driver::Macvlan { parent } => parent,
        Driver::Ipvlan { parent } if network.options.get("ipvlan_mode").is_none_or(|m| m == "l2") => parent,
        Driver::Overlay => return Link::Overlay { network: name.to_owned() },
        _ => return own(),
    };
    match parent {
        None => own(),
        Some(Parent::Segment { segment, vlan }) => Link::Segment { segment: segment.clone(), vlan: *vlan },
        Some(Parent::Interface(interface)) => match lab.hosts.get(host).and_then(|h| h.link_of(interface)) {
            Some((segment, vlan)) => Link::Segment { segment: segment.to_owned(), vlan },
            None => own(),
        },
    }
}

/// Notes an address that Docker itself holds on a network: the gateway, or an auxiliary address.
fn reserved(name: &str, network: &Network, address: IpAddr, at: Span, cx: &mut Cx) -> bool {
    for pool in network.ipam.iter().filter(|p| p.subnet.contains(&address)) {
        let gateway = pool.gateway.or_else(|| match network.driver {
            // If the topology has none, Docker takes the first address.
            Driver::Bridge | Driver::Overlay if pool.ip_range.is_none() => first_host(pool.subnet),
            _ => None,
        });
        let why = if gateway == Some(address) {
            format!("the gateway of network `{name}`")
        } else if let Some((aux, _)) = pool.aux_addresses.iter().find(|(_, a)| **a == address) {
            format!("set aside for `{aux}` by network `{name}`")
        } else {
            continue;
        };
        cx.error(Diagnostic::new(at, format!("{address} is {why}")).hint("choose another address"));
        return true;
    }
    false
}

/// Notes a port of a host that is published twice.
fn ports(t: &raw::Topology, lab: &Lab, cx: &mut Cx) {
    /// The address that it is bound to, if given, and by whom.
    type Bound<'a> = (Option<IpAddr>, Span, &'a str);
    let mut taken: HashMap<(&str, u16, bool), Vec<Bound>> = HashMap::new();
    for (name, c) in entries(&t.containers) {
        let Some(container) = lab.containers.get(&name.value).filter(|c| !c.deferred) else { continue };
        // If a port could not be read, the two lists do not match.
        if c.ports.as_ref().is_some_and(|p| p.len() != container.ports.len()) {
            continue;
        }
        for (port, at) in container.ports.iter().zip(c.ports.iter().flatten().map(|p| p.at)) {
            let Some(published) = port.published else { continue };
            let udp = port.protocol == labctl_model::traffic::Protocol::Udp;
            let others = taken.entry((&container.host, published, udp)).or_default();
            // Without an address, it is bound in both families.
            let meets = |one: Option<IpAddr>, other: Option<IpAddr>| match (one, other) {
                (None, _) | (_, None) => true,
                (Some(a), Some(b)) => {
                    let everywhere = a.is_unspecified() || b.is_unspecified();
                    a == b || everywhere && a.is_ipv4() == b.is_ipv4()
                }
            };
            let clash = others.iter().find(|(ip, _, _)| meets(*ip, port.host_ip));
            if let Some((_, first, by)) = clash {
                let message = format!("port {published} of host `{}` is published twice", container.host);
                let d = Diagnostic::new(at, message).other(*first, format!("by `{by}` first"));
                cx.error(d.hint("choose another port of the host"));
            }
            others.push((port.host_ip, at, &name.value));
        }
    }
}
