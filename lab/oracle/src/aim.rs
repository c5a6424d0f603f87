//! Who is meant by a cell, by which address, and who listens for it: what labctl does before it probes.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use labctl_dataplane::{packet::Proto, walk::Listeners};
use labctl_model::{
    Attach, By, Cell, Family, Lab, Matrix, OfFamily, Probe, Probed, Protocol, Publish, PublishMode, Service,
    Target,
};

use crate::{
    build::Built,
    state::{BRIDGE, State, Status},
};

/// The `lo` in `name@lo`.
const LOOPBACK: &str = "lo";

/// Where a cell leads to.
#[derive(Clone, Debug)]
pub struct Aim {
    /// Those of whom one must get the request; nobody for an address that nobody has.
    pub meant: Vec<String>,
    /// The host whose published port it is.
    pub door: Option<String>,
    /// Who listens, and on which port.
    pub listeners: Vec<(String, u16)>,
    /// The address.
    pub address: Result<IpAddr, NoAddress>,
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAddress {
    /// It does not run.
    Down(String),
    /// It has none.
    None(String),
}

/// What every cell would have to look for in the whole lab.
#[derive(Debug)]
pub struct Directory<'a> {
    /// The endpoint that has an address.
    owners: HashMap<IpAddr, String>,
    /// Containers that publish a port of their host, each with where it leads to.
    published: HashMap<Door<'a>, Vec<(&'a str, &'a Publish)>>,
}

/// A host, and a port of it.
type Door<'a> = (&'a str, Protocol, u16);

impl<'a> Directory<'a> {
    /// Looks through a state.
    pub fn new(state: &State<'a>) -> Self {
        let (mut owners, mut published) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        let tasks = state.tasks().map(|t| t.name.as_str());
        let all = state.lab.endpoints().chain(tasks).chain(state.services.keys().map(String::as_str));
        for name in all {
            for (_, address) in addresses(state, name) {
                owners.entry(address).or_insert_with(|| name.to_owned());
            }
        }
        for (name, c) in &state.lab.containers {
            for p in &c.ports {
                if let Some(port) = p.published {
                    let door = (c.host.as_str(), p.protocol, port);
                    published.entry(door).or_default().push((name.as_str(), p));
                }
            }
        }
        Self { owners, published }
    }

    /// Whether a target may be a published port of a host.
    fn is_door(&self, state: &State<'_>, probe: &Probe, target: &Target) -> bool {
        let Some((protocol, port)) = transport(probe) else { return false };
        let owner = match target {
            Target::Endpoint { name, .. } => Some(name.as_str()),
            Target::Address(address) => self.owners.get(address).map(String::as_str),
        };
        let host = owner.and_then(|name| state.lab.namespace_of(name));
        host.is_some_and(|host| {
            state.lab.hosts.contains_key(host)
                && (!state.lab.services.is_empty() || self.published.contains_key(&(host, protocol, port)))
        })
    }
}

/// Transport and port of a probe.
pub fn transport(probe: &Probe) -> Option<(Protocol, u16)> {
    match probe {
        Probe::Tcp(port) => Some((Protocol::Tcp, *port)),
        Probe::Udp(port) => Some((Protocol::Udp, *port)),
        Probe::Icmp | Probe::Dns(_) => None,
    }
}

/// Where the run listens for all cells of a matrix.
pub fn listeners(state: &State<'_>, directory: &Directory<'_>, built: &Built, matrix: &Matrix) -> Listeners {
    let Some((protocol, _)) = transport(&matrix.probe) else { return Listeners::new() };
    let proto = match protocol {
        Protocol::Tcp => Proto::Tcp,
        Protocol::Udp => Proto::Udp,
    };
    // What a port of a host leads to hangs on the one who asks; everything else listens for all alike.
    let mut seen = HashSet::new();
    let cells = matrix
        .cells
        .iter()
        .filter(|cell| directory.is_door(state, &matrix.probe, &cell.to) || seen.insert(&cell.to));
    let all =
        cells.flat_map(|c| aim(state, directory, &matrix.probe, (matrix.by, matrix.family), c).listeners);
    all.filter_map(|(name, port)| Some((*built.spaces.get(&name)?, proto, port))).collect()
}

/// The aim of a cell.
pub fn aim(
    state: &State<'_>,
    directory: &Directory<'_>,
    probe: &Probe,
    (by, probed): (By, Probed),
    cell: &Cell,
) -> Aim {
    let owner = match &cell.to {
        Target::Endpoint { name, .. } => Some(name.clone()),
        Target::Address(address) => directory.owners.get(address).cloned(),
    };
    let meant: Vec<String> = match &owner {
        Some(name) if state.lab.services.contains_key(name) => state
            .services
            .get(name)
            .map(|s| s.tasks.iter().map(|t| t.name.clone()).collect())
            .unwrap_or_default(),
        Some(name) => vec![name.clone()],
        None => Vec::new(),
    };
    let address = address(state, &cell.from, &cell.to, probed);
    // Who shares a host's namespace has its addresses, and a published port there is the host's.
    let host = owner.as_deref().and_then(|name| state.lab.hosts.get_key_value(state.lab.namespace_of(name)?));
    let behind = transport(probe).zip(host).and_then(|(port, (name, host))| {
        let by = match by {
            By::Address => address.clone().ok(),
            By::Name => host.first_address(),
        };
        published(state, directory, name, by, port)
    });
    let door = host.map(|(name, _)| name.clone());
    match (behind, transport(probe)) {
        (Some(behind), _) if behind.is_empty() => Aim { meant, address, door: None, listeners: behind },
        (Some(listeners), _) => {
            let meant = listeners.iter().map(|(name, _)| name.clone()).collect();
            Aim { meant, door, listeners, address }
        }
        (None, Some((_, port))) => {
            let listeners = meant.iter().map(|name| (name.clone(), port)).collect();
            Aim { meant, listeners, address, door: None }
        }
        (None, None) => Aim { meant, address, door: None, listeners: Vec::new() },
    }
}

/// The running containers and tasks that a port of a host leads to by one of its addresses; `None` if nobody publishes it.
fn published(
    state: &State<'_>,
    directory: &Directory<'_>,
    host: &str,
    address: Option<IpAddr>,
    (protocol, port): (Protocol, u16),
) -> Option<Vec<(String, u16)>> {
    let of_service =
        |s: &Service| s.ports.iter().any(|p| p.published == Some(port) && p.protocol == protocol);
    let mut is_published = state.lab.services.values().any(of_service);
    let mut behind = Vec::new();
    for (name, p) in directory.published.get(&(host, protocol, port)).into_iter().flatten() {
        is_published = true;
        if !state.is_running(name) {
            continue;
        }
        let covers = |ip: IpAddr| match address {
            Some(address) if ip.is_unspecified() => ip.family() == address.family(),
            address => ip.is_unspecified() || Some(ip) == address,
        };
        if p.host_ip.is_none_or(covers) {
            behind.push(((*name).to_owned(), p.target));
        }
    }
    for s in state.services.values() {
        for p in s.spec.ports.iter().filter(|p| p.published == Some(port) && p.protocol == protocol) {
            is_published = true;
            let leads = s.tasks.iter().filter(|t| match p.mode {
                PublishMode::Ingress => state.nodes.contains_key(host),
                PublishMode::Host => t.host == host,
            });
            behind.extend(leads.map(|t| (t.name.clone(), p.target)));
        }
    }
    is_published.then_some(behind)
}

/// Whether a name runs; of a service, whether a task does.
pub fn runs(state: &State<'_>, name: &str) -> bool {
    let up = |host: &str| state.hosts.get(host).is_some_and(|h| h.up);
    if state.lab.hosts.contains_key(name) {
        return up(name);
    }
    if let Some(c) = state.lab.containers.get(name) {
        return up(&c.host) && state.containers.get(name).is_some_and(|c| c.status == Status::Running);
    }
    if state.lab.services.contains_key(name) {
        return state.services.get(name).is_some_and(|s| s.tasks.iter().any(|t| up(&t.host)));
    }
    state.lab.peers.contains_key(name)
}

/// Docker's name of a network; of anything else its name.
pub fn docker_name<'s>(lab: &'s Lab, key: &'s str) -> &'s str {
    lab.networks.get(key).map_or(key, |n| n.docker_name.as_str())
}

/// Addresses with the segment or network that each is on, in the topology's order.
pub fn addresses(state: &State<'_>, name: &str) -> Vec<(String, IpAddr)> {
    let lab = state.lab;
    let on_networks = |all: Vec<(&String, IpAddr)>| -> Vec<(String, IpAddr)> {
        all.into_iter().map(|(key, ip)| (docker_name(lab, key).to_owned(), ip)).collect()
    };
    if let Some(host) = lab.hosts.get(name) {
        return host.nics.iter().flat_map(|n| n.ips().map(|ip| (n.segment.clone(), ip))).collect();
    }
    if let Some(peer) = lab.peers.get(name) {
        return peer.nic.ips().map(|ip| (peer.nic.segment.clone(), ip)).collect();
    }
    if let Some(c) = lab.containers.get(name) {
        return match &c.attach {
            Attach::Host => addresses(state, &c.host),
            Attach::Container(of) if of != name => addresses(state, of),
            attach => {
                let now = state.containers.get(name).filter(|c| c.status == Status::Running);
                let mut all: Vec<(&String, IpAddr)> = now
                    .map(|c| c.networks.iter().flat_map(|(k, a)| a.ips().map(move |ip| (k, ip))).collect())
                    .unwrap_or_default();
                if let Attach::Networks(networks) = attach {
                    all.sort_by_key(|(key, _)| networks.get_index_of(*key).unwrap_or(usize::MAX));
                }
                on_networks(all)
            }
        };
    }
    let mesh = lab.mesh().map_or(labctl_model::INGRESS, |(key, _)| key);
    if let Some(task) = state.task(name) {
        let mut all: Vec<_> =
            task.addresses.iter().filter(|(k, _)| *k != mesh).map(|(k, ip)| (k, *ip)).collect();
        all.extend(task.gwbridge.iter().filter(|(k, _)| k == BRIDGE).map(|(k, ip)| (k, *ip)));
        return on_networks(all);
    }
    let Some(service) = state.services.get(name) else { return Vec::new() };
    let keys = service.spec.networks.keys();
    match service.spec.endpoint_mode {
        labctl_model::EndpointMode::Vip => {
            let vip = |key| Some((key, *state.overlays.get(key)?.vips.get(name)?));
            on_networks(keys.filter_map(vip).collect())
        }
        labctl_model::EndpointMode::Dnsrr => {
            let places: Vec<&str> = keys.map(|key| docker_name(lab, key)).collect();
            let mut all: Vec<_> = service.tasks.iter().flat_map(|t| addresses(state, &t.name)).collect();
            all.sort_by_key(|(place, _)| places.iter().position(|p| p == place).unwrap_or(usize::MAX));
            all
        }
    }
}

/// The family by which one end reaches the other: IPv4 if both have it there, else IPv6 if the other has that.
pub fn family(state: &State<'_>, from: &str, target: &Target, probed: Probed) -> Family {
    let (name, at) = match (probed, target) {
        (Probed::Only(family), _) => return family,
        (Probed::Shared, Target::Address(address)) => return address.family(),
        (Probed::Shared, Target::Endpoint { name, at }) => (name, at),
    };
    let (own, all) = (addresses(state, from), addresses(state, name));
    let there = |place: &String| {
        at.as_ref().is_none_or(|at| place == at || at == LOOPBACK || place == docker_name(state.lab, at))
    };
    let sends = |family| own.is_empty() || own.iter().any(|(_, a)| a.family() == family);
    let takes = |family| all.iter().any(|(place, a)| there(place) && a.family() == family);
    let shared = Family::ALL.into_iter().find(|family| sends(*family) && takes(*family));
    shared.or_else(|| Family::ALL.into_iter().find(|family| takes(*family))).unwrap_or(Family::V4)
}

/// The address by which one end reaches the other.
fn address(state: &State<'_>, from: &str, target: &Target, probed: Probed) -> Result<IpAddr, NoAddress> {
    let (name, at) = match target {
        Target::Address(address) => return Ok(*address),
        Target::Endpoint { name, at } => (name, at),
    };
    if !runs(state, name) {
        return Err(NoAddress::Down(format!("{name} does not run")));
    }
    if at.as_deref() == Some(LOOPBACK) {
        return Ok(family(state, from, target, probed).loopback());
    }
    let family = family(state, from, target, probed);
    let mut all = addresses(state, name);
    all.retain(|(_, address)| address.family() == family);
    let found = match at {
        Some(at) => all.iter().find(|(place, _)| place == at || place == docker_name(state.lab, at)),
        None => shared(state, from, &all).or(all.first()),
    };
    let kind = probed.family().map_or("address".to_owned(), |family| format!("{family} address"));
    found.map(|(_, a)| *a).ok_or_else(|| match at {
        Some(at) => NoAddress::None(format!("{name} has no {kind} on {at}")),
        None => NoAddress::None(format!("{name} has no {kind}")),
    })
}

/// The first address on a segment or network of the one who asks, else of its host.
fn shared<'a>(state: &State<'_>, from: &str, all: &'a [(String, IpAddr)]) -> Option<&'a (String, IpAddr)> {
    let mine = addresses(state, from);
    let host = state.lab.host_of(from).map(|h| addresses(state, h)).unwrap_or_default();
    let on = |place: &String| mine.iter().any(|(m, _)| m == place && m != BRIDGE);
    let beside = |place: &String| host.iter().any(|(h, _)| h == place);
    all.iter().find(|(place, _)| on(place)).or_else(|| all.iter().find(|(place, _)| beside(place)))
}
