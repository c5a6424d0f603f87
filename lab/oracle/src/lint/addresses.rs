//! One address of a segment, given to two.

use std::{collections::HashMap, net::IpAddr};

use labctl_model::{Attach, Driver, OfFamily};

use super::Linter;
use crate::state::Status;

pub(super) const TWICE: &str = "address-on-two-hosts";

impl Linter<'_> {
    /// Each host's Docker gives out addresses of macvlan and ipvlan by itself, and does not know what others have given.
    pub(super) fn addresses(&mut self) {
        /// Segment, VLAN, address.
        type Key = (String, Option<u16>, IpAddr);
        /// The host, if it is a host's; in words; where it is written.
        type Owner = (Option<String>, String, Vec<String>);
        let lab = self.lab;
        let mut owners: HashMap<Key, Owner> = HashMap::new();
        for (name, segment) in &lab.segments {
            for gateway in segment.gateway.iter() {
                let path = super::owned(&["segments", name, "gateway"]);
                owners.insert((name.clone(), None, gateway), (None, "the gateway".into(), path));
            }
        }
        for (name, nic) in lab.hosts.iter().flat_map(|(name, h)| h.nics.iter().map(move |n| (name, n))) {
            let path = super::owned(&["hosts", name, &nic.segment]);
            for ip in nic.ips() {
                let owner = (Some(name.clone()), format!("host `{name}`"), path.clone());
                owners.insert((nic.segment.clone(), None, ip), owner);
            }
        }
        for (name, peer) in &lab.peers {
            let path = super::owned(&["peers", name]);
            for ip in peer.nic.ips() {
                owners.insert(
                    (peer.nic.segment.clone(), None, ip),
                    (None, format!("peer `{name}`"), path.clone()),
                );
            }
        }
        let mut twice = Vec::new();
        for (name, now) in self.state.containers.iter().filter(|(_, c)| c.status == Status::Running) {
            let Some(described) = lab.containers.get(*name) else { continue };
            for (key, at) in &now.networks {
                let Some(network) = lab.networks.get(key) else { continue };
                if !matches!(network.driver, Driver::Macvlan { .. } | Driver::Ipvlan { .. }) {
                    continue;
                }
                let Some((segment, vlan)) = self.link(network, &described.host) else { continue };
                for ip in at.ips() {
                    let domain = (segment.to_owned(), vlan, ip);
                    let path = super::owned(&["containers", name, "networks"]);
                    let owner = (Some(described.host.clone()), format!("`{name}`"), path);
                    match owners.get(&domain) {
                        Some(first)
                            if first.0.as_ref() != Some(&described.host) || first.1.starts_with("host") =>
                        {
                            twice.push(((*name).to_owned(), key.clone(), ip, first.clone()));
                        }
                        _ => drop(owners.insert(domain, owner)),
                    }
                }
            }
        }
        for (name, key, ip, (_, first, path)) in twice {
            let Some(container) = lab.containers.get(&name) else { continue };
            let written = matches!(&container.attach, Attach::Networks(all)
                if all.get(&key).is_some_and(|at| at.addresses().has(ip.family())));
            let (label, verb) = match written {
                true => ("an address of the segment, of which Docker knows nothing".to_owned(), "another"),
                false => (format!("given by the Docker of `{}`, which does not know", container.host), "an"),
            };
            let keyword = if ip.is_ipv4() { "ipv4_address" } else { "ipv6_address" };
            self.warn(
                TWICE,
                &["containers", &name, "networks"],
                format!("`{name}` gets {ip}, which {first} has too"),
                &label,
                format!(
                    "give `{name}` {verb} {keyword}, or each host a network like `{key}` with an ip_range of its own"
                ),
            );
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            self.beside(&path, format!("{ip} here"));
        }
    }
}
