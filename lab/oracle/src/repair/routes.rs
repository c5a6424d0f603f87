//! Routes, and interfaces beside a macvlan's or ipvlan's own host.

use std::net::IpAddr;

use ipnet::IpNet;
use labctl_model::{Driver, Family, Interface, InterfaceKind, Lab, Nic, OfFamily, Route};

use super::Bench;

/// Most routes that are tried each way.
const MOST_ROUTES: usize = 6;
/// Most routes of a way there that are tried with those of a way back.
const MOST_PAIRED: usize = 3;

/// A route that a host or a peer may get.
type Added = (String, Route);

impl Bench<'_> {
    /// To what is asked at the one who asks, and back; each alone, then both.
    pub(super) fn routes(&mut self) {
        let from = self.lab.host_of(&self.query.from).unwrap_or(&self.query.from).to_owned();
        let there: Vec<Added> =
            self.asked.iter().flat_map(|ip| self.routes_to(*ip, &from)).map(|r| (from.clone(), r)).collect();
        let last = self.target().and_then(|to| super::host_of(self.state, to).or(Some(to)));
        let back: Vec<Added> = last
            .into_iter()
            .flat_map(|at| self.asking.iter().map(move |ip| (at, *ip)))
            .flat_map(|(at, ip)| self.routes_to(ip, at).into_iter().map(move |r| (at.to_owned(), r)))
            .collect();
        for one in there.iter().take(MOST_ROUTES).chain(back.iter().take(MOST_ROUTES)) {
            self.may_route(vec![one.clone()]);
        }
        for one in there.iter().take(MOST_PAIRED) {
            for other in back.iter().take(MOST_PAIRED) {
                self.may_route(vec![one.clone(), other.clone()]);
            }
        }
    }

    fn may_route(&mut self, routes: Vec<Added>) {
        let words = routes.iter().map(|(at, r)| {
            let via = r.via.map(|v| format!(" via {v}")).unwrap_or_default();
            let dev = r.dev.as_ref().map(|d| format!(" dev {d}")).unwrap_or_default();
            format!("`{at}`: a route to {}{via}{dev}", r.to)
        });
        let words = words.collect::<Vec<_>>().join("; and ");
        self.may(words, move |lab| {
            for (at, route) in &routes {
                let host = lab.hosts.get_mut(at).map(|h| &mut h.routes);
                if let Some(list) = host.or(lab.peers.get_mut(at).map(|p| &mut p.routes)) {
                    list.push(route.clone());
                }
            }
        });
    }

    /// Routes by which a host or peer may get to an address: by the gateway of a segment behind which it is, by a host
    /// that has it, or has a network with it.
    fn routes_to(&self, to: IpAddr, at: &str) -> Vec<Route> {
        let lab = self.lab;
        let nics: Vec<&Nic> = match (lab.hosts.get(at), lab.peers.get(at)) {
            (Some(host), _) => host.nics.iter().collect(),
            (None, Some(peer)) => vec![&peer.nic],
            _ => return Vec::new(),
        };
        // Whoever is nearest to it answers for it.
        let outside = |nic: &Nic| {
            let prefixes = lab.segments.get(&nic.segment).into_iter().flat_map(|s| &s.outside);
            prefixes.filter(|n| n.contains(&to)).max_by_key(|n| n.prefix_len()).copied()
        };
        let nearest = nics.iter().filter_map(|nic| outside(nic)).max_by_key(|n| n.prefix_len());
        let mut routes = Vec::new();
        for nic in nics {
            let Some(segment) = lab.segments.get(&nic.segment) else { continue };
            if segment.subnet.covers(to) && !nic.peer.has(to.family()) {
                continue;
            }
            let route = |to: IpNet, via: IpAddr| Route {
                to: to.trunc(),
                via: Some(via),
                dev: Some(nic.name.clone()),
                metric: None,
            };
            if let (Some(gateway), Some(prefix)) =
                (segment.gateway.get(to.family()), outside(nic).filter(|p| Some(*p) == nearest))
            {
                let prefix = if prefix.prefix_len() == 0 { IpNet::from(to) } else { prefix };
                routes.push(route(prefix, gateway));
            }
            for (name, host) in lab.hosts.iter().filter(|(name, _)| *name != at) {
                let Some(via) = host.nics.iter().find(|n| n.segment == nic.segment) else { continue };
                let pools = self.state.hosts.get(name.as_str()).map(|h| &h.networks).into_iter().flatten();
                let mut subnets = pools.flat_map(|(_, pools)| pools).map(|p| p.subnet);
                let network = subnets.find(|n| n.contains(&to));
                let own = host.nics.iter().any(|n| n.has(to)).then(|| IpNet::from(to));
                let via = via.address(to.family());
                routes.extend(own.or(network).zip(via).map(|(prefix, via)| route(prefix, via)));
            }
        }
        routes
    }

    /// An interface of the host like the container's own, and a route by it: these two meet.
    pub(super) fn shims(&mut self) {
        let lab = self.lab;
        let Some(other) = self.target() else { return };
        let from = self.query.from.as_str();
        let family = self.asked.map_or(Family::V4, |ip| ip.family());
        for (host, container) in [(from, other), (other, from)] {
            let (Some(h), Some(now)) = (lab.hosts.get(host), self.state.containers.get(container)) else {
                continue;
            };
            if lab.host_of(container) != Some(host) {
                continue;
            }
            for (key, at) in &now.networks {
                let Some(network) = lab.networks.get(key) else { continue };
                let kind = match network.driver {
                    Driver::Macvlan { .. } => InterfaceKind::Macvlan,
                    Driver::Ipvlan { .. } => InterfaceKind::Ipvlan,
                    _ => continue,
                };
                let Some(parent) = network.parent_interface(lab, host) else { continue };
                let Some(ip) = at.address(family) else { continue };
                let nic = h.link_of(&parent).and_then(|(s, _)| h.nics.iter().find(|n| n.segment == s));
                let Some(own) = nic.and_then(|n| n.address(family)).map(IpNet::from) else { continue };
                let driver = if kind == InterfaceKind::Macvlan { "macvlan" } else { "ipvlan" };
                let name =
                    (0..).map(|n| format!("shim{n}")).find(|n| h.interfaces.iter().all(|i| i.name != *n));
                let Some(name) = name else { continue };
                let words = format!(
                    "`{host}`: an interface `{name}` of type {driver} on {parent} with {own}, and a route to {} by it",
                    IpNet::from(ip)
                );
                let host = host.to_owned();
                self.may(words, move |lab: &mut Lab| {
                    if let Some(h) = lab.hosts.get_mut(&host) {
                        let (name, parent) = (name.clone(), parent.clone());
                        let to = IpNet::from(ip);
                        h.routes.push(Route { to, via: None, dev: Some(name.clone()), metric: None });
                        h.interfaces.push(Interface {
                            name,
                            kind,
                            on: vec![parent],
                            addresses: vec![own],
                            deferred: false,
                        });
                    }
                });
            }
        }
    }
}
