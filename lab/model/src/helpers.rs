//! What a lab's description alone tells.

use std::net::IpAddr;

use crate::{
    check::INGRESS,
    family::Family,
    host::{Host, InterfaceKind},
    lab::{Attach, Container, Driver, Lab, Network, Parent},
    step::Action,
};

/// Longest chain of shared namespaces that we follow. Validation rejects circles, but a `Lab` can be made by hand.
const DEEPEST: usize = 64;

impl Lab {
    /// What can be the name of a lab, in words.
    pub const NAME: &str = "1 to 32 of `a-z`, `0-9` and `-`, beginning with a letter";

    /// Whether this can be the name of a lab.
    pub fn is_name(name: &str) -> bool {
        (1..=32).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    }

    /// The endpoint whose network namespace this one lives in: itself, or what `network_mode` says. `None` for a name that
    /// is neither a host nor a container: peers have no namespace.
    pub fn namespace_of<'a>(&'a self, endpoint: &'a str) -> Option<&'a str> {
        let mut name = endpoint;
        for _ in 0..DEEPEST {
            if self.hosts.contains_key(name) {
                return Some(name);
            }
            name = match &self.containers.get(name)?.attach {
                Attach::Host => &self.containers.get(name)?.host,
                Attach::Container(of) => of,
                _ => return Some(name),
            };
        }
        None
    }

    /// The routing mesh's network, if the topology has one of its own.
    pub fn mesh(&self) -> Option<(&str, &Network)> {
        self.networks.iter().find(|(_, n)| n.ingress).map(|(key, n)| (key.as_str(), n))
    }

    /// Docker's name of the routing mesh's network.
    pub fn mesh_name(&self) -> &str {
        self.mesh().map_or(INGRESS, |(_, n)| n.docker_name.as_str())
    }

    /// All containers and services, deferred ones too, each with its image.
    pub fn images_of_all(&self) -> impl Iterator<Item = (&str, &str)> {
        let containers = self.containers.iter().map(|(name, c)| (name.as_str(), c.image.as_str()));
        containers.chain(self.services.iter().map(|(name, s)| (name.as_str(), s.image.as_str())))
    }

    /// The images that steps update services to.
    pub fn images_of_updates(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().flat_map(|s| &s.actions).filter_map(|a| match a {
            Action::Update { change, .. } => change.image.as_deref(),
            _ => None,
        })
    }

    /// The containers of a host, in the topology's order, deferred ones too.
    pub fn containers_on<'a>(&'a self, host: &'a str) -> impl Iterator<Item = (&'a str, &'a Container)> {
        self.containers.iter().filter(move |(_, c)| c.host == host).map(|(n, c)| (n.as_str(), c))
    }

    /// The containers of a host, deferred ones too, in an order in which they can be made: what others link to or join
    /// comes first, else the topology's order.
    pub fn start_order<'a>(&'a self, host: &'a str) -> Vec<&'a str> {
        let mut order = indexmap::IndexSet::new();
        for (name, _) in self.containers_on(host) {
            // Without recursion: a chain may be as long as a lab has containers.
            let mut path = vec![name];
            while let Some(&top) = path.last() {
                let missing = self.needs(top).into_iter().find(|n| !order.contains(n) && !path.contains(n));
                match missing {
                    Some(need) => path.push(need),
                    None => {
                        order.insert(top);
                        path.pop();
                    }
                }
            }
        }
        order.into_iter().filter(|n| self.containers.get(*n).is_some_and(|c| c.host == host)).collect()
    }

    /// The containers that must exist before this one can be made: what it links to and what it joins.
    pub fn needs<'a>(&'a self, container: &str) -> Vec<&'a str> {
        let Some(c) = self.containers.get(container) else { return Vec::new() };
        let joined = match &c.attach {
            Attach::Container(of) => Some(of.as_str()),
            _ => None,
        };
        joined.into_iter().chain(c.links.iter().map(|l| l.target.as_str())).collect()
    }
}

impl Host {
    /// Next hop of its default route: the gateway of the first NIC whose segment has one of this family. Point-to-point
    /// NICs do not count: a VPN sets its own routes.
    pub fn gateway(&self, lab: &Lab, family: Family) -> Option<IpAddr> {
        let links = self.nics.iter().filter(|n| n.addresses.has(family) && !n.peer.has(family));
        links.filter_map(|n| lab.segments.get(&n.segment)).find_map(|s| s.gateway.get(family))
    }

    /// The segment and VLAN that an interface of this host sends to. Follows `interfaces` down to their NIC, and takes
    /// `eth0.10` for VLAN 10 on `eth0` as Docker does.
    pub fn link_of(&self, interface: &str) -> Option<(&str, Option<u16>)> {
        let mut name = interface;
        let mut vlan = None;
        // Each interface is passed at most once.
        for _ in 0..=self.interfaces.len() + 1 {
            if let Some(nic) = self.nics.iter().find(|n| n.name == name) {
                return Some((&nic.segment, vlan));
            }
            if let Some(i) = self.interfaces.iter().find(|i| i.name == name) {
                if let InterfaceKind::Vlan(id) = i.kind {
                    vlan = vlan.or(Some(id));
                }
                name = i.parent();
            } else {
                let (base, id) = name.rsplit_once('.')?;
                vlan = vlan.or(Some(id.parse().ok()?));
                name = base;
            }
        }
        None
    }
}

impl Network {
    /// The parent interface of a macvlan or ipvlan network on a host, as given to Docker: `eth0`, `eth0.10`. `None` for
    /// other drivers, without a parent, and if the host has no NIC on the segment.
    pub fn parent_interface(&self, lab: &Lab, host: &str) -> Option<String> {
        match self.parent()? {
            Parent::Interface(name) => Some(name.clone()),
            Parent::Segment { segment, vlan } => {
                let nic = lab.hosts.get(host)?.nics.iter().find(|n| n.segment == *segment)?;
                Some(match vlan {
                    Some(id) => format!("{}.{id}", nic.name),
                    None => nic.name.clone(),
                })
            }
        }
    }

    /// What a macvlan or ipvlan network sits on.
    pub fn parent(&self) -> Option<&Parent> {
        match &self.driver {
            Driver::Macvlan { parent } | Driver::Ipvlan { parent } => parent.as_ref(),
            _ => None,
        }
    }
}
