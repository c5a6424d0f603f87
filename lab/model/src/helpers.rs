//! What a lab's description alone tells.

use std::net::Ipv4Addr;

use crate::{
    check::INGRESS,
    lab::{Attach, Container, Driver, Host, InterfaceKind, Lab, Network, Parent, Segment},
    step::Action,
};

/// Longest chain of shared namespaces that we follow. Validation rejects circles, but a `Lab` can be made by hand.
const DEEPEST: usize = 64;

impl Lab {
    /// The address at which an endpoint is reached, if the topology fixes it.
    ///
    /// `at` is a network or a segment (`NAME@AT` in tables; `bridge` is the default network), `from` the source. Without
    /// `at`, the address is the one on what both share: for a host, its NIC on a segment of the source, else its first
    /// NIC; for a container, its static address. `None` if Docker chooses (see [`Lab::meeting_network`]) or if there is no
    /// address.
    pub fn address_of(&self, endpoint: &str, at: Option<&str>, from: Option<&str>) -> Option<Ipv4Addr> {
        if let Some(peer) = self.peers.get(endpoint) {
            return at.is_none_or(|at| at == peer.nic.segment).then_some(peer.nic.address);
        }
        let endpoint = self.namespace_of(endpoint)?;
        if let Some(host) = self.hosts.get(endpoint) {
            let nic = match at {
                Some(segment) => host.nics.iter().find(|n| n.segment == segment),
                None => {
                    let near = from.map(|f| self.segments_of(f)).unwrap_or_default();
                    let shared = near.iter().find_map(|s| host.nics.iter().find(|n| n.segment == *s));
                    shared.or_else(|| host.nics.first())
                }
            };
            return nic.map(|n| n.address);
        }
        let network = self.meeting_network(endpoint, at, from)?;
        match &self.containers.get(endpoint)?.attach {
            Attach::Networks(networks) => networks.get(network)?.ipv4_address,
            Attach::DefaultBridge { ipv4_address } if network == "bridge" => *ipv4_address,
            _ => None,
        }
    }

    /// Key of the network on which a container is reached, or `bridge`: `at` if given, else one that the source is on too,
    /// else its first. `None` for hosts, and for containers without a network of their own.
    pub fn meeting_network<'a>(
        &'a self,
        endpoint: &'a str,
        at: Option<&'a str>,
        from: Option<&str>,
    ) -> Option<&'a str> {
        let endpoint = self.namespace_of(endpoint)?;
        let container = self.containers.get(endpoint)?;
        if at.is_some() {
            return at;
        }
        match &container.attach {
            Attach::DefaultBridge { .. } => Some("bridge"),
            Attach::Networks(networks) => {
                let source = from.and_then(|f| self.containers.get(self.namespace_of(f)?));
                let shared = source.and_then(|c| match &c.attach {
                    Attach::Networks(theirs) => networks.keys().find(|n| theirs.contains_key(*n)),
                    _ => None,
                });
                shared.or_else(|| networks.keys().next()).map(String::as_str)
            }
            _ => None,
        }
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

    /// The segments that an endpoint is on, nearest first: those of macvlan and ipvlan networks, then its host's.
    pub fn segments_of(&self, endpoint: &str) -> Vec<&str> {
        if let Some(peer) = self.peers.get(endpoint) {
            return vec![&peer.nic.segment];
        }
        let mut all = Vec::new();
        let Some(namespace) = self.namespace_of(endpoint) else { return all };
        if let Some(Attach::Networks(networks)) = self.containers.get(namespace).map(|c| &c.attach) {
            let host = self.host_of(namespace).unwrap_or_default();
            let parents = networks.keys().filter_map(|n| self.networks.get(n)?.parent_segment(self, host));
            all.extend(parents.map(|(s, _)| s));
        }
        let host = self.host_of(namespace).and_then(|h| self.hosts.get(h));
        all.extend(host.into_iter().flat_map(|h| &h.nics).map(|n| n.segment.as_str()));
        let mut seen = std::collections::HashSet::new();
        all.retain(|s| seen.insert(*s));
        all
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
    /// Where this host's default route goes: the gateway of its first segment that has one.
    pub fn gateway(&self, lab: &Lab) -> Option<Ipv4Addr> {
        self.nics.iter().find_map(|n| lab.segments.get(&n.segment)?.gateway)
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
                name = &i.parent;
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

    /// The segment and VLAN below a macvlan or ipvlan network on a host.
    pub fn parent_segment<'a>(&'a self, lab: &'a Lab, host: &str) -> Option<(&'a str, Option<u16>)> {
        match self.parent()? {
            Parent::Segment { segment, vlan } => Some((segment, *vlan)),
            Parent::Interface(name) => lab.hosts.get(host)?.link_of(name),
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

impl Segment {
    /// Whether an address belongs to the segment itself.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.subnet.contains(&address)
    }
}
