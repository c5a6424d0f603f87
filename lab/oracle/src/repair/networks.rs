//! Networks in the way, networks in common, published ports.

use std::net::{IpAddr, Ipv4Addr};

use indexmap::IndexMap;
use ipnet::{IpNet, Ipv4Net};
use labctl_model::{
    Action, Attach, Driver, Family, Lab, Network, OfFamily, Publish, PublishMode, ServicePort, Target,
};
use serde_json::json;

use super::{Bench, Candidate};
use crate::{aim, state::BRIDGE};

/// Prefix length of the networks that Docker is told to cut from a pool.
const POOL_SIZE: u8 = 24;
/// Prefix length of that pool.
const POOL: u8 = 16;

impl Bench<'_> {
    /// A local network whose subnet covers one of the two addresses, and that the one with that address is not on.
    pub(super) fn subnets(&mut self) {
        let lab = self.lab;
        let mut covering: Vec<(&str, &str)> = Vec::new();
        let ends = [
            (self.asked.into_iter().collect::<Vec<_>>(), self.target()),
            (self.asking.clone(), Some(self.query.from.as_str())),
        ];
        for (addresses, owner) in ends {
            let on = |key: &str| {
                let now = owner.and_then(|o| self.state.containers.get(o));
                now.is_some_and(|c| c.networks.contains_key(key))
            };
            let covers = |p: &crate::addressing::Pool| addresses.iter().any(|ip| p.subnet.contains(ip));
            for host in &self.hosts {
                let pools = self.state.hosts.get(host).map(|h| &h.networks).into_iter().flatten();
                for (key, pools) in pools {
                    if pools.iter().any(covers) && !on(key) && !covering.contains(&(host, key)) {
                        covering.push((host, key));
                    }
                }
            }
        }
        for (host, key) in covering {
            match lab.networks.get(key) {
                Some(network) => {
                    self.removed(key);
                    self.moved(key, network);
                    self.other_pools(host, key);
                }
                None if key == BRIDGE => self.other_pools(host, key),
                None => {}
            }
        }
    }

    /// Without the network, and what is on it alone.
    fn removed(&mut self, key: &str) {
        let lab = self.lab;
        let alone = |(_, c): &(&String, &labctl_model::Container)| matches!(&c.attach, Attach::Networks(n) if n.len() == 1 && n.contains_key(key));
        let gone: Vec<String> = lab.containers.iter().filter(alone).map(|(name, _)| name.clone()).collect();
        if self.ends().any(|end| gone.iter().any(|g| g == end)) {
            return;
        }
        let with = if gone.is_empty() { String::new() } else { format!(" and {}", listed(&gone)) };
        let key = key.to_owned();
        self.may(format!("no network `{key}`{with}"), move |lab| {
            for name in &gone {
                lab.containers.shift_remove(name);
                lab.steps.iter_mut().for_each(|s| s.actions.retain(|a| !is_of(a, name)));
            }
            for c in lab.containers.values_mut() {
                if let Attach::Networks(n) = &mut c.attach {
                    n.shift_remove(&key);
                }
            }
            lab.networks.shift_remove(&key);
        });
    }

    /// In another subnet, with all of its addresses.
    fn moved(&mut self, key: &str, network: &Network) {
        let Some(first) = network.pools(Family::V4).next() else { return };
        let Some(new) = self.free_subnet(first.subnet.prefix_len()) else { return };
        let key = key.to_owned();
        self.may(format!("network `{key}` in another subnet: {new}"), move |lab| {
            move_network(lab, &key, new)
        });
    }

    /// In a subnet that Docker takes from other pools.
    fn other_pools(&mut self, host: &str, key: &str) {
        let Some(base) = self.free_subnet(POOL) else { return };
        let (host, key) = (host.to_owned(), key.to_owned());
        let chosen = self.lab.networks.get(&key).is_some_and(|n| n.pools(Family::V4).next().is_some());
        let without =
            if chosen { format!(", and network `{key}` without a subnet of its own") } else { String::new() };
        let pools = json!([{ "base": base.to_string(), "size": POOL_SIZE }]);
        let words = format!("`{host}`: daemon_json: {{ default-address-pools: {pools} }}{without}");
        self.may(words, move |lab| {
            if let Some(h) = lab.hosts.get_mut(&host) {
                h.daemon_json.insert("default-address-pools".into(), pools.clone());
            }
            if let Some(n) = lab.networks.get_mut(&key) {
                n.ipam.retain(|p| p.subnet.family() != Family::V4);
            }
            for c in lab.containers.values_mut() {
                if let Attach::Networks(n) = &mut c.attach {
                    n.get_mut(&key).into_iter().for_each(|at| at.ipv4_address = None);
                }
            }
        });
    }

    /// One end on a network of the other.
    pub(super) fn membership(&mut self) {
        let Some(to) = self.target() else { return };
        let from = self.query.from.as_str();
        for (joins, of) in [(from, to), (to, from)] {
            let Some(joining) = self.lab.containers.get(joins) else { continue };
            let now = self.state.containers.get(of).into_iter().flat_map(|c| c.networks.keys());
            let services = self.lab.services.get(of).into_iter().flat_map(|s| s.networks.keys());
            for key in now.chain(services).cloned().collect::<Vec<_>>() {
                let Some(network) = self.lab.networks.get(&key) else { continue };
                let there = match network.driver {
                    Driver::Overlay => self.state.nodes.contains_key(&joining.host),
                    _ => network.hosts.contains(&joining.host),
                };
                let (instead, mut networks) = match &joining.attach {
                    Attach::Networks(n) if n.contains_key(&key) => continue,
                    Attach::Networks(n) => (", too", n.clone()),
                    Attach::DefaultBridge { .. } => (" instead of the default bridge", IndexMap::new()),
                    Attach::None => (" instead of none", IndexMap::new()),
                    Attach::Host | Attach::Container(_) => continue,
                };
                if !there {
                    continue;
                }
                networks.insert(key.clone(), labctl_model::Attachment::default());
                let overlay = network.driver == Driver::Overlay && !network.attachable;
                let attachable = if overlay { ", with `attachable: true`" } else { "" };
                let (words, name) =
                    (format!("`{joins}` on network `{key}`{instead}{attachable}"), joins.to_owned());
                self.may(words, move |lab| {
                    if let Some(c) = lab.containers.get_mut(&name) {
                        c.attach = Attach::Networks(networks.clone());
                    }
                    lab.networks.get_mut(&key).into_iter().for_each(|n| n.attachable |= overlay);
                });
            }
        }
    }

    /// A port of the host, or of the swarm, that leads to the one who is asked.
    pub(super) fn published(&mut self) {
        let (Some(to), Some((protocol, port))) = (self.target(), aim::transport(&self.query.probe)) else {
            return;
        };
        let Some(host) = super::host_of(self.state, to).filter(|host| *host != to) else { return };
        let taken =
            |ports: &[Publish]| ports.iter().any(|p| (p.published, p.protocol) == (Some(port), protocol));
        if self.lab.containers_on(host).any(|(_, c)| taken(&c.ports)) {
            return;
        }
        let words = format!("`{to}` publishes {}, and `{}` asks `{host}`", self.query.probe, self.query.from);
        let name = to.to_owned();
        let edit = move |lab: &mut Lab| {
            if let Some(c) = lab.containers.get_mut(&name) {
                c.ports.push(Publish { host_ip: None, published: Some(port), target: port, protocol });
            }
            if let Some(s) = lab.services.get_mut(&name) {
                let mode = PublishMode::Ingress;
                s.ports.push(ServicePort { published: Some(port), target: port, protocol, mode });
            }
        };
        self.found.push(Candidate { words, edit: Box::new(edit), ask: Some(Target::from(host)) });
    }
}

/// Whether an action is about this container.
fn is_of(action: &Action, name: &str) -> bool {
    match action {
        Action::Create(c) | Action::Start(c) | Action::Stop(c) | Action::Restart(c) | Action::Remove(c) => {
            c == name
        }
        Action::Connect { container, .. } | Action::Disconnect { container, .. } => container == name,
        _ => false,
    }
}

/// `a, b and 3 more`
fn listed(names: &[String]) -> String {
    const MOST: usize = 3;
    let shown = names.iter().take(MOST).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Moves the first IPv4 pool of a network, and all addresses in it.
fn move_network(lab: &mut Lab, key: &str, new: Ipv4Net) {
    let Some(pool) =
        lab.networks.get_mut(key).and_then(|n| n.ipam.iter_mut().find(|p| p.subnet.family() == Family::V4))
    else {
        return;
    };
    let IpNet::V4(old) = pool.subnet.trunc() else { return };
    let moved_v4 = |ip: Ipv4Addr| match old.contains(&ip) {
        true => Ipv4Addr::from(u32::from(new.network()) + (u32::from(ip) - u32::from(old.network()))),
        false => ip,
    };
    let moved = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => IpAddr::V4(moved_v4(ip)),
        other => other,
    };
    pool.subnet = new.into();
    pool.gateway = pool.gateway.map(moved);
    pool.ip_range = pool.ip_range.and_then(|r| IpNet::new(moved(r.network()), r.prefix_len()).ok());
    pool.aux_addresses.values_mut().for_each(|a| *a = moved(*a));
    for c in lab.containers.values_mut() {
        if let Attach::Networks(n) = &mut c.attach {
            n.get_mut(key).into_iter().for_each(|at| at.ipv4_address = at.ipv4_address.map(moved_v4));
        }
    }
    for action in lab.steps.iter_mut().flat_map(|s| &mut s.actions) {
        if let Action::Connect { network, address, .. } = action
            && network == key
        {
            *address = address.map(moved);
        }
    }
}
