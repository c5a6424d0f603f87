//! Settings that stop packets: of networks, of dockerd, of segments, of the swarm.

use std::{collections::BTreeSet, net::IpAddr};

use labctl_model::{Attach, Driver, Engine, Lab, Network, OfFamily, Parent};
use serde_json::Value;

use super::Bench;
use crate::build::{MTU_OPTION, VXLAN_PORT};

/// Options of networks that keep packets from where they might go, and the values that do.
const KEEPING: [(&str, &[&str]); 5] = [
    ("com.docker.network.bridge.enable_icc", &["false"]),
    ("com.docker.network.bridge.enable_ip_masquerade", &["false", "0"]),
    ("macvlan_mode", &["private", "vepa", "passthru"]),
    ("ipvlan_mode", &["l3", "l3s"]),
    ("ipvlan_flag", &["private", "vepa"]),
];
/// Keys of daemon.json that do so if they are false.
const DAEMON: [&str; 5] = ["icc", "ip-forward", "ip-masq", "iptables", "userland-proxy"];
/// A port for VXLAN that is not taken for VXLAN on the way.
const OTHER_PORT: u16 = 7789;
const FORWARD: &str = "net.ipv4.ip_forward";

impl Bench<'_> {
    pub(super) fn settings(&mut self) {
        for key in self.networks() {
            if let Some(network) = self.lab.networks.get(key) {
                self.options(key, network);
                self.driver(key, network);
                self.mtu(key, network);
                self.addresses(key);
            }
        }
        self.hosts();
        self.segments();
        self.swarm();
    }

    /// A change to one network.
    fn may_network(&mut self, key: &str, words: &str, edit: impl Fn(&mut Network) + 'static) {
        let name = key.to_owned();
        self.may(format!("network `{key}` {words}"), move |lab| {
            lab.networks.get_mut(&name).into_iter().for_each(&edit);
        });
    }

    fn options(&mut self, key: &str, network: &Network) {
        for (option, keeping) in KEEPING {
            if let Some(value) = network.options.get(option).filter(|v| keeping.contains(&v.as_str())) {
                let words = format!("without {option}: {value}");
                self.may_network(key, &words, |n| drop(n.options.shift_remove(option)));
            }
        }
        if network.internal {
            self.may_network(key, "without internal: true", |n| n.internal = false);
        }
        if network.options.contains_key("encrypted") {
            self.may_network(key, "not encrypted", |n| drop(n.options.shift_remove("encrypted")));
        }
    }

    /// macvlan in place of ipvlan, and the other way round.
    fn driver(&mut self, key: &str, network: &Network) {
        let (word, other): (_, fn(Option<Parent>) -> Driver) = match network.driver {
            Driver::Macvlan { .. } => ("ipvlan", |parent| Driver::Ipvlan { parent }),
            Driver::Ipvlan { .. } => ("macvlan", |parent| Driver::Macvlan { parent }),
            _ => return,
        };
        let name = key.to_owned();
        self.may(format!("network `{key}` with driver {word}"), move |lab| {
            if let Some(n) = lab.networks.get_mut(&name) {
                n.driver = other(n.parent().cloned());
                n.options.retain(|k, _| !k.starts_with("macvlan") && !k.starts_with("ipvlan"));
            }
            for c in lab.containers.values_mut() {
                if let Attach::Networks(on) = &mut c.attach {
                    on.get_mut(&name).into_iter().for_each(|at| at.mac_address = None);
                }
            }
        });
    }

    /// As wide as the narrowest segment.
    fn mtu(&mut self, key: &str, network: &Network) {
        let Some(least) = self.lab.segments.values().map(|s| s.mtu).min() else { return };
        let widest = self.lab.segments.values().map(|s| s.mtu).max().unwrap_or(least);
        let mut wanted = vec![least, widest];
        wanted.dedup();
        for mtu in wanted {
            let mtu = mtu.to_string();
            if network.options.get(MTU_OPTION) != Some(&mtu) {
                let words = format!("with {MTU_OPTION}: {mtu}");
                self.may_network(key, &words, move |n| {
                    drop(n.options.insert(MTU_OPTION.into(), mtu.clone()))
                });
            }
        }
    }

    /// An address that nobody has.
    fn addresses(&mut self, key: &str) {
        let lab = self.lab;
        let containers = self.state.containers.values().flat_map(|c| c.networks.values().map(|a| a.ip));
        let nics = lab.hosts.values().flat_map(|h| &h.nics).chain(lab.peers.values().map(|p| &p.nic));
        let gateways = lab.segments.values().flat_map(|s| s.gateway.iter());
        let mut taken: BTreeSet<IpAddr> = containers.collect();
        taken.extend(nics.flat_map(|n| n.ips()).chain(gateways));
        for end in self.ends() {
            let Some(now) = self.state.containers.get(end).and_then(|c| c.networks.get(key)) else {
                continue;
            };
            // Only an address that somebody else has needs another one.
            let same = |c: &&crate::state::ContainerState| c.networks.values().any(|a| a.ip == now.ip);
            let alone = self.state.containers.values().filter(same).count() == 1
                && !lab.hosts.values().flat_map(|h| &h.nics).any(|n| n.has(now.ip))
                && !lab.peers.values().any(|p| p.nic.has(now.ip));
            let pool = lab.networks.get(key).and_then(|n| n.pools(now.ip.family()).next()).filter(|_| !alone);
            let Some(pool) = pool else { continue };
            let range = pool.ip_range.unwrap_or(pool.subnet).hosts();
            let Some(free) = range.skip(1).find(|ip| !taken.contains(ip) && pool.gateway != Some(*ip)) else {
                continue;
            };
            let (key, end) = (key.to_owned(), end.to_owned());
            self.may(format!("`{end}` with another address on `{key}`: {free}"), move |lab| {
                if let Some(Attach::Networks(on)) = lab.containers.get_mut(&end).map(|c| &mut c.attach) {
                    on.get_mut(&key).into_iter().for_each(|at| at.set_address(free));
                }
            });
        }
    }

    fn hosts(&mut self) {
        for name in self.hosts.clone() {
            let Some(host) = self.lab.hosts.get(name) else { continue };
            for key in DAEMON.into_iter().filter(|k| host.daemon_json.get(*k) == Some(&Value::Bool(false))) {
                let at = name.to_owned();
                self.may(format!("`{name}`: daemon_json without {key}: false"), move |lab| {
                    lab.hosts.get_mut(&at).into_iter().for_each(|h| drop(h.daemon_json.remove(key)));
                });
            }
            if host.sysctls.get(FORWARD).is_none_or(|v| v != "1") {
                let at = name.to_owned();
                self.may(
                    format!("`{name}`: sysctls: {{ {FORWARD}: 1 }}, so that FORWARD drops nothing"),
                    move |lab| {
                        let host = lab.hosts.get_mut(&at).into_iter();
                        host.for_each(|h| drop(h.sysctls.insert(FORWARD.into(), "1".into())));
                    },
                );
            }
        }
    }

    fn segments(&mut self) {
        for (name, segment) in &self.lab.segments {
            let change = |edit: fn(&mut labctl_model::Segment, u16), mtu: u16| {
                let name = name.clone();
                move |lab: &mut Lab| lab.segments.get_mut(&name).into_iter().for_each(|s| edit(s, mtu))
            };
            if segment.port_security {
                let edit = change(|s, _| s.port_security = false, 0);
                self.may(format!("segment `{name}` without port_security"), edit);
            }
            for (index, filter) in segment.block.iter().enumerate() {
                let name = name.clone();
                self.may(format!("segment `{name}` that does not block {filter}"), move |lab| {
                    if let Some(segment) = lab.segments.get_mut(&name) {
                        segment.block.remove(index);
                    }
                });
            }
            let nics = self.lab.hosts.values().flat_map(|h| &h.nics).filter(|n| n.segment == *name);
            let Some(widest) = nics.map(|n| n.mtu).max().filter(|m| *m > segment.mtu) else { continue };
            self.may(format!("segment `{name}` with mtu: {widest}"), change(|s, mtu| s.mtu = mtu, widest));
            let (at, mtu) = (name.clone(), segment.mtu);
            self.may(format!("NICs on segment `{name}` with its mtu: {mtu}"), move |lab| {
                let nics = lab.hosts.values_mut().flat_map(|h| &mut h.nics).filter(|n| n.segment == at);
                nics.for_each(|n| n.mtu = mtu);
            });
        }
    }

    fn swarm(&mut self) {
        let Some(swarm) = &self.lab.swarm else { return };
        let now = swarm.data_path_port.unwrap_or(VXLAN_PORT);
        for port in [VXLAN_PORT, OTHER_PORT].into_iter().filter(|p| *p != now) {
            self.may(format!("swarm: data_path_port: {port}"), move |lab| {
                lab.swarm.iter_mut().for_each(|s| s.data_path_port = Some(port));
            });
        }
        if self.lab.hosts.values().any(|h| !h.engine.is_at_least(23)) {
            self.may("all hosts with Docker 26.1 (engine: trixie)".to_owned(), |lab| {
                lab.hosts.values_mut().for_each(|h| h.engine = Engine::default());
            });
        }
        for host in self.hosts.clone() {
            let (Some(node), Some(described)) = (swarm.nodes.get(host), self.lab.hosts.get(host)) else {
                continue;
            };
            for nic in described.nics.iter().filter(|n| !n.has(node.advertise)) {
                let Some(address) = nic.ips().next() else { continue };
                let at = host.to_owned();
                let words = format!("swarm: advertise_addr: {{ {host}: {} }}", nic.segment);
                self.may(words, move |lab| {
                    let node = lab.swarm.as_mut().and_then(|s| s.nodes.get_mut(&at));
                    node.into_iter().for_each(|n| n.advertise = address);
                });
            }
        }
    }
}
