//! Networks made and removed by steps, containers and their addresses.

use std::{cmp::Reverse, collections::BTreeSet, net::IpAddr};

use labctl_model::{Attach, Driver, Family, OfFamily, PerFamily};

use super::{Attached, BRIDGE, ContainerState, GWBRIDGE, State, Status};
use crate::addressing::Pool;

impl State<'_> {
    pub(super) fn create_network(&mut self, key: &str) {
        let Some(network) = self.lab.networks.get(key) else { return };
        match network.driver {
            Driver::Overlay => self.make_overlay(key),
            _ => {
                for host in &network.hosts {
                    self.make_local(host, key);
                }
            }
        }
    }

    pub(super) fn prune(&mut self, host: &str) {
        let used: BTreeSet<String> = self
            .lab
            .containers_on(host)
            .filter_map(|(name, _)| self.containers.get(name))
            .filter(|c| c.status != Status::Absent)
            .flat_map(|c| c.networks.keys().cloned())
            .collect();
        if let Some(h) = self.hosts.get_mut(host) {
            h.networks.retain(|key, _| key == BRIDGE || key == GWBRIDGE || used.contains(key));
        }
    }

    /// Whether a container runs.
    pub fn is_running(&self, container: &str) -> bool {
        self.containers.get(container).is_some_and(|c| c.status == Status::Running)
    }

    pub(super) fn create(&mut self, name: &str) {
        let Some(described) = self.lab.containers.get(name) else { return };
        let Some(state) = self.containers.get_mut(name) else { return };
        let generation = state.generation;
        *state = ContainerState { generation, ..ContainerState::absent() };
        state.status = Status::Exited;
        state.unknown = unmodelled_sysctls(described);
        match &described.attach {
            Attach::DefaultBridge { .. } => self.connect(name, BRIDGE, PerFamily::default()),
            Attach::Networks(networks) => {
                for (key, at) in networks {
                    self.connect(name, key, at.addresses());
                }
            }
            _ => {}
        }
        self.start(name);
    }

    pub(super) fn connect(&mut self, container: &str, key: &str, wanted: PerFamily<IpAddr>) {
        let Some(described) = self.lab.containers.get(container) else { return };
        let declared = match &described.attach {
            Attach::Networks(networks) => networks.get(key).cloned().unwrap_or_default(),
            _ => labctl_model::Attachment::default(),
        };
        let of = |family| wanted.get(family).or(declared.addresses().get(family));
        let v4 = self.give(&described.host, key, Family::V4, of(Family::V4));
        let wanted = of(Family::V6).or_else(|| self.by_mac(&described.host, key, v4?));
        let v6 = self.give(&described.host, key, Family::V6, wanted);
        let Some(ip) = v4.or(v6) else { return };
        let attached = Attached {
            ip,
            v6: v6.filter(|_| v4.is_some()),
            fixed: of(ip.family()).is_some(),
            held: true,
            aliases: declared.aliases,
            mac: declared.mac_address,
        };
        if let Some(c) = self.containers.get_mut(container) {
            c.networks.insert(key.to_owned(), attached);
        }
        self.settle_gateway(container);
    }

    pub(super) fn disconnect(&mut self, container: &str, key: &str) {
        let host = self.lab.containers.get(container).map(|c| c.host.clone()).unwrap_or_default();
        let gone = self.containers.get_mut(container).and_then(|c| c.networks.shift_remove(key));
        if let Some(at) = gone {
            at.ips().for_each(|ip| self.take_back(&host, key, ip));
        }
        self.settle_gateway(container);
    }

    /// The IPv6 address that a container gets on the default bridge up to Docker 27: its MAC, which is made from its IPv4
    /// address, behind the prefix (moby libnetwork/drivers/bridge/bridge_linux.go, `CreateEndpoint`).
    fn by_mac(&self, host: &str, key: &str, v4: IpAddr) -> Option<IpAddr> {
        let is_old = self.lab.hosts.get(host).is_some_and(|h| !h.engine.is_at_least(28));
        let pools = self.hosts.get(host)?.networks.get(key).filter(|_| key == BRIDGE && is_old)?;
        let subnet =
            pools.iter().map(|p| p.subnet).find(|s| s.family() == Family::V6 && s.prefix_len() <= 80)?;
        let (IpAddr::V6(network), IpAddr::V4(v4)) = (subnet.network(), v4) else { return None };
        Some(IpAddr::V6((u128::from(network) | 0x0242 << 32 | u128::from(u32::from(v4))).into()))
    }

    pub(super) fn give(
        &mut self,
        host: &str,
        key: &str,
        family: Family,
        wanted: Option<IpAddr>,
    ) -> Option<IpAddr> {
        let pools: Vec<&mut Pool> = match self.overlays.get_mut(key) {
            Some(overlay) => overlay.v6.get_mut(host).into_iter().chain([&mut overlay.pool]).collect(),
            None => self.hosts.get_mut(host)?.networks.get_mut(key)?.iter_mut().collect(),
        };
        for pool in pools.into_iter().filter(|p| p.subnet.family() == family) {
            match wanted {
                Some(wanted) if pool.subnet.contains(&wanted) => {
                    pool.request(wanted);
                    return Some(wanted);
                }
                Some(_) => {}
                None => return pool.allocate(),
            }
        }
        None
    }

    pub(super) fn take_back(&mut self, host: &str, key: &str, ip: IpAddr) {
        if let Some(overlay) = self.overlays.get_mut(key) {
            match overlay.v6.get_mut(host).filter(|_| ip.is_ipv6()) {
                Some(own) => own.release(ip),
                None => overlay.pool.release(ip),
            }
        } else if let Some(pools) = self.hosts.get_mut(host).and_then(|h| h.networks.get_mut(key)) {
            pools.iter_mut().filter(|p| p.subnet.contains(&ip)).for_each(|p| p.release(ip));
        }
    }

    /// Whether a network leads out: it is not internal, and no overlay.
    pub fn has_way_out(&self, key: &str) -> bool {
        match self.lab.networks.get(key) {
            None => true,
            Some(n) => {
                let parentless =
                    matches!(n.driver, Driver::Macvlan { parent: None } | Driver::Ipvlan { parent: None });
                n.driver != Driver::Overlay && !n.internal && !parentless
            }
        }
    }

    /// Whether a network has a default route that leads nowhere: up to Docker 24 an internal bridge does (moby#46603).
    fn has_dead_end(&self, host: &str, key: &str) -> bool {
        let is_old = self.lab.hosts.get(host).is_some_and(|h| !h.engine.is_at_least(25));
        is_old && self.lab.networks.get(key).is_some_and(|n| n.driver == Driver::Bridge && n.internal)
    }

    /// The network that a container has its default route of a family by, and its published ports unless that is a dead end: of
    /// those that lead out the one with the highest priority, then the first by name; else a dead end; else docker_gwbridge
    /// (moby libnetwork/endpoint.go, `Less`).
    pub fn way_out(&self, container: &str, family: Family) -> Option<(&str, IpAddr)> {
        let c = self.containers.get(container)?;
        let described = self.lab.containers.get(container);
        let attach = described.map(|c| &c.attach);
        let order = |key: &str| {
            let priority = match attach {
                Some(Attach::Networks(all)) => all.get(key).and_then(|a| a.gw_priority).unwrap_or_default(),
                _ => 0,
            };
            (
                !self.has_way_out(key),
                Reverse(priority),
                self.lab.networks.get(key).map_or(key, |n| n.docker_name.as_str()).to_owned(),
            )
        };
        let dead_end = |key: &str| described.is_some_and(|c| self.has_dead_end(&c.host, key));
        let out = c.networks.iter().filter(|(key, _)| self.has_way_out(key) || dead_end(key));
        let out = out.filter_map(|(key, a)| Some((key.as_str(), a.address(family)?)));
        let gwbridge = c.gwbridge.filter(|ip| ip.family() == family);
        out.min_by_key(|(key, _)| order(key)).or(gwbridge.map(|ip| (self.gwbridge(), ip)))
    }

    /// An endpoint on docker_gwbridge is there where no other network leads out, and one is not internal.
    pub(super) fn settle_gateway(&mut self, container: &str) {
        let Some(c) = self.containers.get(container) else { return };
        let open =
            |k: &String| self.lab.networks.get(k).is_some_and(|n| n.driver == Driver::Overlay && !n.internal);
        let runs = c.status == Status::Running;
        let needs = runs && c.networks.keys().any(open) && !c.networks.keys().any(|k| self.has_way_out(k));
        let (key, had) = (self.gwbridge(), c.gwbridge);
        let host = self.lab.containers.get(container).map(|c| c.host.clone()).unwrap_or_default();
        let now = match (needs, had) {
            (true, None) => self.give(&host, key, Family::V4, None),
            (false, Some(ip)) => {
                self.take_back(&host, key, ip);
                None
            }
            (_, had) => had,
        };
        if let Some(c) = self.containers.get_mut(container) {
            c.gwbridge = now;
        }
    }

    pub(super) fn start(&mut self, name: &str) {
        let Some(described) = self.lab.containers.get(name) else { return };
        let joined = match &described.attach {
            Attach::Container(of) => self.containers.get(of.as_str()).map(|c| c.generation),
            _ => None,
        };
        let Some(c) = self.containers.get_mut(name).filter(|c| c.status == Status::Exited) else { return };
        c.status = Status::Running;
        c.generation += 1;
        c.joined = joined;
        let given_up = c.networks.iter().filter(|(_, a)| !a.held);
        let given_up: Vec<_> = given_up.map(|(k, a)| (k.clone(), a.clone())).collect();
        let declared = match &described.attach {
            Attach::Networks(networks) => Some(networks),
            _ => None,
        };
        for (key, was) in given_up {
            // What Docker chose it chooses anew.
            let (family, wanted) = (was.ip.family(), was.fixed.then_some(was.ip));
            let Some(ip) = self.give(&described.host, &key, family, wanted) else { continue };
            let fixed = declared.and_then(|d| d.get(&key)?.ipv6_address).map(IpAddr::V6);
            let wanted = fixed.or_else(|| self.by_mac(&described.host, &key, ip));
            let v6 = was.v6.and_then(|_| self.give(&described.host, &key, Family::V6, wanted));
            if let Some(at) = self.containers.get_mut(name).and_then(|c| c.networks.get_mut(&key)) {
                (at.ip, at.v6, at.held) = (ip, v6, true);
            }
        }
        self.settle_gateway(name);
    }

    pub(super) fn stop(&mut self, name: &str, status: Status) {
        let Some(described) = self.lab.containers.get(name) else { return };
        let Some(c) = self.containers.get_mut(name) else { return };
        c.status = if c.status == Status::Absent { Status::Absent } else { status };
        let held = c.networks.iter().filter(|(_, a)| a.held);
        let given: Vec<(String, IpAddr)> =
            held.flat_map(|(k, a)| a.ips().map(|ip| (k.clone(), ip))).collect();
        match status {
            Status::Absent => c.networks.clear(),
            _ => c.networks.values_mut().for_each(|a| a.held = false),
        }
        for (key, ip) in given {
            self.take_back(&described.host, &key, ip);
        }
        self.settle_gateway(name);
    }
}

/// Settings of a container that may change what it does with packets.
fn unmodelled_sysctls(c: &labctl_model::Container) -> Option<String> {
    let harmless = |k: &str| k.ends_with("ip_default_ttl") || !k.starts_with("net.ipv4.");
    let odd = c.sysctls.keys().find(|k| !harmless(k));
    odd.map(|k| format!("what `{k}` changes in a container"))
}
