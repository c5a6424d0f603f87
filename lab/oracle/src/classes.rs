//! Classes of endpoints that have the same fate: a lab of thousands of containers has few ways of being attached.
//!
//! Two endpoints are of one class if they are described alike but for name and address, are in the same state, and
//! every prefix that the lab knows holds both addresses or neither. Hosts often give out the same addresses: then those
//! who have the same address elsewhere must be alike as well, tasks and Docker's own namespaces included. What is named by
//! somebody else, publishes a port, is a next hop or shares a namespace is a class of its own.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;
use labctl_dataplane::net::Role;
use labctl_model::{Attach, Container, Lab};

use crate::{aim, build::Built, state::State};

/// What the fate of a cell hangs on: the classes of its ends, and whether both have one address.
pub type Pair = (usize, usize, bool);

/// The classes of a lab's endpoints.
#[derive(Debug, Default)]
pub struct Classes {
    all: HashMap<String, Member>,
}

/// What is known of an endpoint.
#[derive(Debug)]
pub struct Member {
    /// The number of its class.
    pub class: usize,
    /// All addresses of its namespace.
    pub addresses: Vec<IpAddr>,
}

impl Classes {
    /// Sorts the endpoints of a lab's state. Classes are numbered from 0 on, in the order of their first endpoints.
    pub fn new(state: &State<'_>, built: &Built) -> Self {
        let known = Known::new(state, built);
        let (mut keys, mut of_space) = (HashMap::new(), HashMap::new());
        let mut members: Vec<(&str, usize, Option<usize>, Vec<IpAddr>)> = Vec::new();
        for name in state.lab.endpoints() {
            let here = aim::addresses(state, name);
            // Nothing else is called so: no name holds a line end, and every key does.
            let key = known.key(name, &here).unwrap_or_else(|| name.to_owned());
            let next = keys.len();
            let key = *keys.entry(key).or_insert(next);
            let space = built.spaces.get(name).copied();
            space.map(|ns| of_space.entry(ns).or_insert(key));
            members.push((
                name,
                key,
                space,
                space.map(|ns| addresses(built, ns).collect()).unwrap_or_default(),
            ));
        }
        // Tasks and Docker's own namespaces hold addresses too.
        let mut holders: HashMap<IpAddr, Vec<(usize, usize)>> = HashMap::new();
        for ns in 0..built.net.spaces.len() {
            let key = *of_space.entry(ns).or_insert(keys.len() + ns);
            addresses(built, ns).for_each(|ip| holders.entry(ip).or_default().push((ns, key)));
        }
        let mut numbers: HashMap<(usize, Vec<Vec<usize>>), usize> = HashMap::new();
        let mut all = HashMap::new();
        for (name, key, space, here) in members {
            let others = here.iter().map(|ip| {
                let others = holders[ip].iter().filter(|(ns, _)| Some(*ns) != space);
                let mut others: Vec<usize> = others.map(|(_, key)| *key).collect();
                others.sort_unstable();
                others
            });
            let next = numbers.len();
            let class = *numbers.entry((key, others.collect())).or_insert(next);
            all.insert(name.to_owned(), Member { class, addresses: here });
        }
        Self { all }
    }

    /// What is known of an endpoint.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.all.get(name)
    }

    /// What two ends have in common with others; `None` unless both are endpoints.
    pub fn pair(&self, from: &str, to: &str) -> Option<Pair> {
        let (from, to) = (self.all.get(from)?, self.all.get(to)?);
        let meet = from.addresses.iter().any(|a| to.addresses.contains(a));
        Some((from.class, to.class, meet))
    }
}

/// The addresses of a namespace.
fn addresses(built: &Built, ns: usize) -> impl Iterator<Item = IpAddr> {
    let all = built.net.spaces[ns].interfaces.iter().flat_map(|i| &i.addresses);
    all.map(|a| a.ip).filter(|ip| !ip.is_loopback())
}

/// What tells endpoints apart.
struct Known<'s, 'a> {
    state: &'s State<'a>,
    /// Every prefix of a route, an interface or a pool.
    prefixes: Vec<IpNet>,
    /// Addresses of gateways, and of what Docker makes for itself.
    special: HashSet<IpAddr>,
    /// Those whom another container names.
    named: HashSet<&'a str>,
}

impl<'s, 'a> Known<'s, 'a> {
    fn new(state: &'s State<'a>, built: &Built) -> Self {
        let (mut prefixes, mut special) = (BTreeSet::new(), HashSet::new());
        for space in &built.net.spaces {
            prefixes.extend(space.routes.iter().map(|r| r.to));
            special.extend(space.routes.iter().filter_map(|r| r.via));
            for address in space.interfaces.iter().flat_map(|i| &i.addresses) {
                prefixes.extend(IpNet::new(address.ip, address.prefix_len).map(|n| n.trunc()));
                if space.role != Role::Endpoint && !address.ip.is_loopback() {
                    special.insert(address.ip);
                }
            }
            prefixes.extend(space.outside.0.iter().chain(&space.outside.1).copied());
        }
        Self { state, prefixes: prefixes.into_iter().collect(), special, named: named(state.lab) }
    }

    /// What an endpoint has in common with others that are like it; `None` if there can be none.
    fn key(&self, name: &str, addresses: &[(String, IpAddr)]) -> Option<String> {
        if addresses.iter().any(|(_, ip)| self.special.contains(ip)) {
            return None;
        }
        let places: Vec<_> = addresses.iter().map(|(at, ip)| (at, self.prefixes_of(*ip))).collect();
        if let Some(peer) = self.state.lab.peers.get(name) {
            let nic = (&peer.nic.segment, &peer.nic.name, peer.nic.mtu);
            return Some(format!("peer\n{places:?} {nic:?} {:?} {:?}", peer.gateway, peer.routes));
        }
        let described = self.state.lab.containers.get(name)?;
        let now = self.state.containers.get(name)?;
        if self.named.contains(name) || !described.ports.is_empty() || !described.links.is_empty() {
            return None;
        }
        let networks: Vec<_> = now.networks.iter().map(|(k, a)| (k, a.fixed, a.held)).collect();
        let way_out = now.gwbridge.map(|ip| self.prefixes_of(ip));
        let (status, unknown, plain) = (now.status, &now.unknown, plain(described)?);
        Some(format!("container\n{places:?} {networks:?} {way_out:?} {status:?} {unknown:?} {plain:?}"))
    }

    /// Which prefixes an address is in.
    fn prefixes_of(&self, ip: IpAddr) -> Vec<usize> {
        (0..self.prefixes.len()).filter(|i| self.prefixes[*i].contains(&ip)).collect()
    }
}

/// Containers that another one names.
fn named(lab: &Lab) -> HashSet<&str> {
    let all = lab.containers.values().flat_map(|c| {
        let shared = match &c.attach {
            Attach::Container(of) => Some(of.as_str()),
            _ => None,
        };
        c.links.iter().map(|l| l.target.as_str()).chain(shared)
    });
    all.collect()
}

/// A container without its addresses; `None` if it is like no other.
fn plain(container: &Container) -> Option<Container> {
    let mut plain = container.clone();
    match &mut plain.attach {
        Attach::Networks(networks) => {
            for attachment in networks.values_mut() {
                // Two of one MAC disturb each other.
                if attachment.mac_address.is_some() {
                    return None;
                }
                (attachment.ipv4_address, attachment.ipv6_address) = (None, None);
            }
        }
        Attach::DefaultBridge { ipv4_address } => *ipv4_address = None,
        Attach::None => {}
        Attach::Host | Attach::Container(_) => return None,
    }
    Some(plain)
}
