//! Lints: what is legal in a topology and will hurt. Each is reported where it is written, with the way out; a comment
//! silences it (`labctl_yaml::Places::warn`). They look at the lab as it comes up, and at all of its networks.

mod addresses;
mod ports;
mod subnets;
mod swarm;

use std::collections::BTreeMap;

use labctl_model::{Driver, Host, InterfaceKind, Lab, Network};
use labctl_yaml::{Remark, Warning};

use crate::{
    build::{self, Built},
    state::State,
};

/// The ids of all lints.
pub const LINTS: [&str; 13] = [
    subnets::ROUTE,
    subnets::SEGMENT,
    subnets::POOL,
    subnets::SWARM,
    subnets::INGRESS,
    PORT_SECURITY,
    BOTH_ON_PARENT,
    addresses::TWICE,
    swarm::MTU,
    swarm::EVEN,
    swarm::ADVERTISE,
    swarm::ENCRYPTED,
    ports::TWICE,
];

const PORT_SECURITY: &str = "macvlan-port-security";
const BOTH_ON_PARENT: &str = "macvlan-and-ipvlan";

/// A lab, and the warnings about it so far.
struct Linter<'a> {
    lab: &'a Lab,
    /// As it comes up.
    state: State<'a>,
    built: Built,
    found: Vec<Warning>,
}

/// All warnings about a lab, in no order that counts.
pub fn lint(lab: &Lab) -> Vec<Warning> {
    let state = State::new(lab);
    let built = build::build(&state, false);
    let mut linter = Linter { lab, state, built, found: Vec::new() };
    linter.subnets();
    linter.port_security();
    linter.both_on_parent();
    linter.addresses();
    linter.swarm();
    linter.ports();
    linter.found
}

impl Linter<'_> {
    fn warn(&mut self, id: &'static str, path: &[&str], message: String, label: &str, hint: String) {
        let path = owned(path);
        let remark = Remark { path, message, label: label.to_owned(), hint: Some(hint) };
        self.found.push(Warning { id, remark, other: None });
    }

    /// Adds another part of the topology to the last warning.
    fn beside(&mut self, path: &[&str], label: impl Into<String>) {
        if let Some(last) = self.found.last_mut() {
            last.other = Some((owned(path), label.into()));
        }
    }

    /// A vSwitch that drops foreign MACs, and endpoints that have MACs of their own.
    fn port_security(&mut self) {
        for (key, network) in &self.lab.networks {
            let Driver::Macvlan { .. } = network.driver else { continue };
            let secured = network.hosts.iter().find_map(|host| {
                let (segment, _) = self.link(network, host)?;
                self.lab.segments.get(segment)?.port_security.then_some((host, segment.to_owned()))
            });
            let Some((host, segment)) = secured else { continue };
            self.warn(
                PORT_SECURITY,
                &["networks", key, "driver"],
                format!(
                    "macvlan `{key}` reaches nobody beyond `{host}`: segment `{segment}` has port security"
                ),
                "each endpoint has a MAC of its own",
                "use ipvlan, whose endpoints have the NIC's MAC, or let the switch take foreign MACs"
                    .to_owned(),
            );
            self.beside(&["segments", &segment, "port_security"], "drops all MACs but the NIC's");
        }
    }

    /// A parent has one receive handler, macvlan's or ipvlan's (Linux, net/core/dev.c, netdev_rx_handler_register).
    fn both_on_parent(&mut self) {
        for (name, host) in &self.lab.hosts {
            let mut on: BTreeMap<String, [Option<Vec<String>>; 2]> = BTreeMap::new();
            for (key, network) in self.lab.networks.iter().filter(|(_, n)| n.hosts.contains(name)) {
                let kind = usize::from(matches!(network.driver, Driver::Ipvlan { .. }));
                if let Some(parent) = network.parent_interface(self.lab, name) {
                    on.entry(parent).or_default()[kind].get_or_insert(owned(&["networks", key, "driver"]));
                }
            }
            for i in &host.interfaces {
                let kind = match i.kind {
                    InterfaceKind::Macvlan => 0,
                    InterfaceKind::Ipvlan => 1,
                    InterfaceKind::Vlan(_) | InterfaceKind::Bridge => continue,
                };
                let path = owned(&["hosts", name, "interfaces", &i.name]);
                on.entry(i.parent().to_owned()).or_default()[kind].get_or_insert(path);
            }
            for (parent, both) in on {
                let [Some(macvlan), Some(ipvlan)] = both else { continue };
                let path: Vec<&str> = ipvlan.iter().map(String::as_str).collect();
                self.warn(
                    BOTH_ON_PARENT,
                    &path,
                    format!("`{parent}` of `{name}` cannot carry macvlan and ipvlan at once"),
                    "whichever comes second is refused: device or resource busy",
                    "put one of them on another NIC or VLAN, or use one driver for both".to_owned(),
                );
                let path: Vec<&str> = macvlan.iter().map(String::as_str).collect();
                self.beside(&path, "macvlan here");
            }
        }
    }

    /// The segment and VLAN that a macvlan or ipvlan network is on at a host.
    fn link(&self, network: &Network, host: &str) -> Option<(&str, Option<u16>)> {
        let parent = network.parent_interface(self.lab, host)?;
        self.lab.hosts.get(host).and_then(|h: &Host| h.link_of(&parent)).and_then(|(segment, vlan)| {
            self.lab.segments.get_key_value(segment).map(|(name, _)| (name.as_str(), vlan))
        })
    }
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|p| (*p).to_owned()).collect()
}
