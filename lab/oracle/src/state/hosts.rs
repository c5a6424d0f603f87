//! Hosts, their dockerds, and the networks that are one host's.

use indexmap::IndexMap;
use ipnet::IpNet;
use labctl_model::{Driver, Family, OfFamily, Power};
use serde_json::Value;

use super::{BRIDGE, GWBRIDGE, HostState, State, Status};
use crate::addressing::{self, Pool};

impl<'a> State<'a> {
    pub(super) fn make_host(&mut self, name: &str) {
        let Some((name, host)) = self.lab.hosts.get_key_value(name) else { return };
        let there = host.interfaces.iter().filter(|i| !i.deferred).map(|i| i.name.clone());
        let cut = self.hosts.get(name.as_str()).map(|h| h.cut.clone()).unwrap_or_default();
        let state = HostState {
            up: true,
            docker: true,
            daemon_json: host.daemon_json.clone(),
            routes: host.routes.clone(),
            interfaces: there.collect(),
            networks: IndexMap::new(),
            next_pool: 0,
            cut,
            unknown: None,
        };
        let bridge_v6 = state.bridge_v6();
        self.hosts.insert(name, state);
        let bip = host.daemon_json.get("bip").and_then(Value::as_str);
        match bip.and_then(|b| b.parse::<IpNet>().ok()) {
            Some(bip) => {
                let mut pool = Pool::new(bip.trunc(), false);
                pool.release(pool.gateway);
                pool.gateway = bip.addr();
                pool.request(bip.addr());
                self.put(name, BRIDGE, vec![pool]);
            }
            None => self.choose(name, BRIDGE),
        }
        if let (Some(h), Some(subnet)) = (self.hosts.get_mut(name.as_str()), bridge_v6) {
            h.networks.entry(BRIDGE.to_owned()).or_default().push(Pool::new(subnet, false));
        }
    }

    pub(super) fn put(&mut self, host: &str, key: &str, pools: Vec<Pool>) {
        if let Some(h) = self.hosts.get_mut(host) {
            h.networks.insert(key.to_owned(), pools);
        }
    }

    /// Lets Docker choose a subnet.
    pub(super) fn choose(&mut self, host: &str, key: &str) {
        let Some(h) = self.hosts.get_mut(host) else { return };
        let pools = match h.daemon_json.get("default-address-pools") {
            Some(value) => addressing::configured_pools(value).unwrap_or_default(),
            None => addressing::default_pools(),
        };
        let mut taken: Vec<IpNet> = h.networks.values().flatten().map(|p| p.subnet).collect();
        // What is on link: only routes with scope link count (from 20.10.15).
        if let Some(described) = self.lab.hosts.get(host) {
            let nics = described.nics.iter().flat_map(|n| {
                n.addresses.iter().map(|net| n.peer.get(net.family()).map_or(net, IpNet::from))
            });
            taken.extend(nics.map(|n| n.trunc()));
            taken.extend(h.routes.iter().filter(|r| r.via.is_none()).map(|r| r.to));
        }
        // From Docker 27 on the first that is free, before that the next one.
        let lowest = self.lab.hosts.get(host).is_some_and(|h| h.engine.is_at_least(27));
        let from = if lowest { 0 } else { h.next_pool };
        // Where nothing is left Docker refuses, and a step says so.
        if let Some((place, subnet)) = addressing::choose(&pools, from, &taken) {
            h.next_pool = place + 1;
            h.networks.insert(key.to_owned(), vec![Pool::new(subnet, false)]);
        }
    }

    pub(super) fn make_local(&mut self, host: &str, key: &str) {
        let there = self.hosts.get(host).is_none_or(|h| h.networks.contains_key(key));
        let Some(network) = self.lab.networks.get(key).filter(|_| !there) else { return };
        let described = |family| network.pools(family).map(|p| Pool::described(p, false));
        if network.enable_ipv4 != Some(false) {
            match described(Family::V4).next() {
                None => self.choose(host, key),
                Some(_) => self.put(host, key, described(Family::V4).collect()),
            }
        }
        let v6 = described(Family::V6).collect::<Vec<_>>();
        if let Some(h) = self.hosts.get_mut(host).filter(|_| !v6.is_empty()) {
            h.networks.entry(key.to_owned()).or_default().extend(v6);
        }
    }

    /// The key of docker_gwbridge: the topology's own, or Docker's.
    pub fn gwbridge(&self) -> &'a str {
        let own =
            self.lab.networks.iter().find(|(_, n)| n.docker_name == GWBRIDGE && n.driver == Driver::Bridge);
        own.map_or(GWBRIDGE, |(key, _)| key.as_str())
    }

    pub(super) fn power(&mut self, host: &str, power: Power) {
        if power != Power::Start {
            for name in self.lab.containers_on(host).map(|(n, _)| n) {
                self.stop(name, Status::Absent);
            }
            if let Some(h) = self.hosts.get_mut(host) {
                (h.up, h.docker) = (false, false);
                h.networks.clear();
            }
            self.place_all(false);
        }
        if matches!(power, Power::Start | Power::Restart) {
            // The node that is gone is removed, and its successor joins.
            let was = self.nodes.shift_remove(host).or_else(|| self.former.shift_remove(host));
            self.make_host(host);
            let described =
                self.lab.networks.iter().filter(|(_, n)| !n.deferred && n.driver != Driver::Overlay);
            for (key, _) in described.filter(|(_, n)| n.hosts.iter().any(|h| h == host)) {
                self.make_local(host, key);
            }
            if let Some(was) = was {
                self.join(host, was.role, Some(was.advertise));
            }
            for name in self.lab.start_order(host) {
                if !self.lab.containers.get(name).is_none_or(|c| c.deferred) {
                    self.create(name);
                }
            }
            self.place_all(false);
        }
    }

    pub(super) fn docker(&mut self, host: &str, power: Power) {
        let live = |h: &HostState| h.daemon_json.get("live-restore") == Some(&Value::Bool(true));
        let Some(h) = self.hosts.get_mut(host) else { return };
        let lives = live(h);
        h.docker = matches!(power, Power::Start | Power::Restart);
        // What runs goes on running while it was killed, until it is back and finds nothing that it owns.
        let ended = match power {
            Power::Kill => false,
            Power::Stop | Power::Restart | Power::Start => !lives,
        };
        h.next_pool = 0;
        if ended {
            let running = self.lab.containers_on(host).map(|(n, _)| n);
            let running: Vec<_> = running.filter(|n| self.is_running(n)).collect();
            for name in running {
                self.stop(name, Status::Exited);
            }
        }
        if matches!(power, Power::Start | Power::Restart) {
            self.swarm_unknown = None;
        }
        self.place_all(false);
    }
}
