//! Subnets of Docker over what a host reaches otherwise.

use std::collections::HashSet;

use ipnet::IpNet;
use labctl_model::Driver;

use super::Linter;
use crate::{
    addressing::{self, overlap},
    state::GWBRIDGE,
};

pub(super) const ROUTE: &str = "subnet-over-route";
pub(super) const SEGMENT: &str = "subnet-over-segment";
pub(super) const POOL: &str = "subnet-over-pool";
pub(super) const SWARM: &str = "subnet-over-swarm";
pub(super) const INGRESS: &str = "subnet-over-ingress";

/// A subnet that a bridge has on a host, or an overlay on a node.
#[derive(Clone)]
struct Held {
    /// Key of its network.
    key: String,
    subnet: IpNet,
    /// Where it is written: the network, or the host whose Docker chose.
    path: Vec<String>,
    overlay: bool,
}

impl Linter<'_> {
    pub(super) fn subnets(&mut self) {
        for host in self.lab.hosts.keys() {
            let held = self.held(host);
            for one in &held {
                let _ = self.over_route(host, one)
                    || self.over_segment(host, one)
                    || !one.overlay && (self.over_swarm(host, one) || self.over_pool(host, one));
            }
        }
        // One network is on many hosts.
        let mut seen = HashSet::new();
        self.found.retain(|w| seen.insert((w.id, w.remark.path.clone())));
    }

    /// The subnets that Docker has on a host. Those of macvlan and ipvlan are the segment's own.
    fn held(&self, host: &str) -> Vec<Held> {
        let lab = self.lab;
        let path = |key: &str| match lab.networks.get(key) {
            Some(_) => super::owned(&["networks", key, "ipam"]),
            None if key == self.mesh() => super::owned(&["swarm", "default_addr_pool"]),
            None => super::owned(&["hosts", host, "daemon_json", "default-address-pools"]),
        };
        let bridge = |key: &str| lab.networks.get(key).is_none_or(|n| n.driver == Driver::Bridge);
        let local = self.state.hosts.get(host).map(|h| &h.networks).into_iter().flatten();
        let local = local.filter(|(key, _)| bridge(key)).flat_map(|(key, pools)| {
            let held = |subnet| Held { key: key.clone(), subnet, path: path(key), overlay: false };
            pools.iter().map(move |p| held(p.subnet)).collect::<Vec<_>>()
        });
        let node = self.state.nodes.contains_key(host);
        let overlays = self.state.overlays.iter().filter(|_| node).map(|(key, o)| Held {
            key: key.clone(),
            subnet: o.pool.subnet,
            path: path(key),
            overlay: true,
        });
        // What a step makes has no subnet yet but the one that the topology gives.
        let deferred = lab
            .networks
            .iter()
            .filter(|(_, n)| n.deferred && n.driver == Driver::Bridge && n.hosts.iter().any(|h| h == host));
        let deferred = deferred.flat_map(|(key, n)| {
            let subnets = n.ipam.iter().map(|p| p.subnet.trunc());
            let held = |subnet| Held { key: key.clone(), subnet, path: path(key), overlay: false };
            subnets.map(held).collect::<Vec<_>>()
        });
        local.chain(overlays).chain(deferred).collect()
    }

    fn mesh(&self) -> &str {
        self.lab.mesh().map_or(labctl_model::INGRESS, |(key, _)| key)
    }

    fn subnet_warning(&mut self, id: &'static str, one: &Held, message: String, way_out: &str) {
        let path: Vec<&str> = one.path.iter().map(String::as_str).collect();
        let label = format!("{} of `{}`", one.subnet, one.key);
        let hint = match (self.lab.networks.get(&one.key), one.overlay) {
            (Some(_), _) => format!("give `{}` another subnet{way_out}", one.key),
            (None, true) => "give the swarm another `default_addr_pool`".to_owned(),
            (None, false) => "give the host other `default-address-pools` in daemon_json".to_owned(),
        };
        self.warn(id, &path, message, &label, hint);
    }

    fn over_route(&mut self, host: &str, one: &Held) -> bool {
        let routes = self.state.hosts.get(host).map(|h| h.routes.clone()).unwrap_or_default();
        let mut routes = routes.into_iter().enumerate().filter(|(_, r)| r.to.prefix_len() > 0);
        let Some((index, route)) = routes.find(|(_, r)| overlap(one.subnet, r.to)) else {
            return false;
        };
        let to = route.to.trunc();
        // An overlay is a namespace of its own: the host's routes stay, and its endpoints lose them.
        let loser = match (one.overlay, one.subnet.prefix_len() > to.prefix_len()) {
            (true, _) => format!("endpoints of `{}` do not get to {to}", one.key),
            (false, true) => format!("`{host}` no longer gets to {} by its route to {to}", one.subnet),
            (false, false) => {
                format!("`{host}` looks for endpoints of `{}` behind its route to {to}", one.key)
            }
        };
        let message = format!("{} of `{}` lies over a route: {loser}", one.subnet, one.key);
        let way_out = format!(", or `{host}` a narrower route");
        self.subnet_warning(ROUTE, one, message, if one.overlay { "" } else { &way_out });
        self.beside(&["hosts", host, "routes", &index.to_string(), "to"], format!("the route to {to}"));
        true
    }

    fn over_segment(&mut self, host: &str, one: &Held) -> bool {
        let segments = &self.lab.segments;
        let Some((name, subnet)) = segments.iter().find_map(|(name, s)| {
            let subnet = s.subnet.iter().map(|net| net.trunc()).find(|net| overlap(one.subnet, *net));
            subnet.map(|subnet| (name.clone(), subnet))
        }) else {
            return false;
        };
        let nics = self.lab.hosts.get(host).map(|h| h.nics.as_slice()).unwrap_or_default();
        let narrower =
            nics.iter().any(|n| n.segment == name) && subnet.prefix_len() > one.subnet.prefix_len();
        let loser = match (one.overlay, narrower) {
            (true, _) => format!("its endpoints do not get to `{name}`"),
            (false, true) => format!("`{host}` looks on `{name}` for endpoints that have an address of both"),
            (false, false) => format!("`{host}` looks on `{}` for what has an address of both", one.key),
        };
        let message = format!("{} of `{}` lies over segment `{name}`: {loser}", one.subnet, one.key);
        self.subnet_warning(SEGMENT, one, message, "");
        self.beside(&["segments", &name, "subnet"], format!("{subnet} here"));
        true
    }

    /// A local network where the swarm gives subnets to overlays: it does not look at those of its nodes.
    fn over_swarm(&mut self, host: &str, one: &Held) -> bool {
        if !self.state.nodes.contains_key(host) {
            return false;
        }
        let mesh = self.mesh().to_owned();
        let ingress = self.state.overlays.get(&mesh).map(|o| o.pool.subnet);
        if let Some(subnet) = ingress.filter(|s| overlap(*s, one.subnet)) {
            let message =
                format!("{} of `{}` lies over the routing mesh's network, {subnet}", one.subnet, one.key);
            self.subnet_warning(INGRESS, one, message, "");
            return true;
        }
        let pools = self.state.swarm_pools().into_iter().map(|p| p.trunc());
        let Some(pool) = pools.into_iter().find(|p| overlap(*p, one.subnet)) else { return false };
        let message = format!(
            "{} of `{}` lies in {pool}, from which the swarm gives subnets to overlays without looking at `{host}`",
            one.subnet, one.key
        );
        self.subnet_warning(SWARM, one, message, ", or the swarm another `default_addr_pool`");
        true
    }

    /// A subnet that Docker would give to a network without one, if that one came first.
    fn over_pool(&mut self, host: &str, one: &Held) -> bool {
        let (lab, Some(now)) = (self.lab, self.state.hosts.get(host)) else { return false };
        if lab.networks.get(&one.key).is_none_or(|n| n.ipam.is_empty()) {
            return false;
        }
        let without = |n: &labctl_model::Network| {
            n.ipam.is_empty() && n.driver == Driver::Bridge && n.hosts.iter().any(|h| h == host)
        };
        let Some((other, _)) = lab.networks.iter().find(|(_, n)| without(n)) else { return false };
        let pools = match now.daemon_json.get("default-address-pools") {
            Some(value) => addressing::configured_pools(value).unwrap_or_default(),
            None => addressing::default_pools(),
        };
        // docker0 and docker_gwbridge take theirs first.
        let first = 1 + usize::from(now.networks.contains_key(GWBRIDGE));
        let count = first + lab.networks.values().filter(|n| without(n)).count();
        let Some(pool) = pools.into_iter().take(count).find(|p| overlap(*p, one.subnet)) else {
            return false;
        };
        let other = other.clone();
        let message = format!(
            "Docker gives {pool} to `{other}` if that is made before `{}`, and then refuses {}",
            one.key, one.subnet
        );
        self.subnet_warning(POOL, one, message, " outside of Docker's pools");
        self.beside(&["networks", &other], "has no subnet");
        true
    }
}
