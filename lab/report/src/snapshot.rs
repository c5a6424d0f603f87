//! Where every endpoint is at this moment: its namespace and its addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use labctl_model::{Attach, Family, Lab, OfFamily, Peer, Probed, ServicePort, Target};
use labctl_protocol::messages::Netns;

use crate::seen::{ContainerState, docker_name};

/// Docker's name of the default bridge network.
const DEFAULT_BRIDGE: &str = "bridge";

/// The `lo` in `name@lo`: 127.0.0.1 or ::1, as the source sees it.
const LOOPBACK: &str = "lo";

/// The containers of a lab as Docker has them at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Containers by name, tasks of services included; a missing container is `absent`.
    pub containers: BTreeMap<String, ContainerState>,
    /// Which of these are tasks.
    pub tasks: BTreeMap<String, TaskAt>,
    /// Services that exist.
    pub services: BTreeMap<String, ServiceAt>,
    /// Hosts that are nodes of the swarm and ready.
    pub nodes: BTreeSet<String>,
    /// Hosts that do not run.
    pub down: BTreeSet<String>,
    /// Hosts whose containers could not be looked at, and why.
    pub unseen: BTreeMap<String, String>,
}

/// How a service is reached, from Docker and not the topology: updates change it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAt {
    /// Its virtual addresses, with Docker's name of the network.
    pub addresses: Vec<(String, IpAddr)>,
    /// Its published ports.
    pub ports: Vec<ServicePort>,
    /// Whether its name resolves to the addresses of its tasks.
    pub dnsrr: bool,
}

/// Which service a task is of, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskAt {
    /// Its service.
    pub service: String,
    /// Its host.
    pub host: String,
}

/// Why an endpoint has no address to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAddress {
    /// It does not run.
    Down(String),
    /// It cannot be looked at.
    Unseen(String),
    /// It runs but has none; says why.
    None(String),
}

impl Snapshot {
    /// Namespace of an endpoint; `None` for one that does not run, and for a peer.
    pub fn netns(&self, lab: &Lab, name: &str) -> Option<Netns> {
        if lab.hosts.contains_key(name) {
            return (!self.down.contains(name)).then_some(Netns::Host);
        }
        self.pid(name).map(Netns::Pid)
    }

    /// State of an endpoint that does not run, in a word.
    pub fn status(&self, lab: &Lab, name: &str) -> &str {
        match self.home_of(lab, name).is_some_and(|home| self.down.contains(home)) {
            true => "down",
            false => self.containers.get(name).map_or("absent", |c| c.status.as_str()),
        }
    }

    /// Why the state of a container or task is unknown, if it is.
    pub fn why_unseen(&self, lab: &Lab, name: &str) -> Option<&str> {
        let is_host = lab.hosts.contains_key(name);
        self.unseen.get(self.home_of(lab, name).filter(|_| !is_host)?).map(String::as_str)
    }

    /// The tasks on hosts that cannot be looked at, and why.
    pub fn unseen_tasks(&self) -> impl Iterator<Item = (String, String)> {
        self.tasks.iter().filter_map(|(name, t)| Some((name.clone(), self.unseen.get(&t.host)?.clone())))
    }

    /// The prober of an endpoint or task: its host, or the peer itself.
    pub fn home_of<'a>(&'a self, lab: &'a Lab, name: &'a str) -> Option<&'a str> {
        let task = self.tasks.get(name).map(|t| t.host.as_str());
        task.or_else(|| lab.host_of(name)).or_else(|| lab.peers.contains_key(name).then_some(name))
    }

    /// Hosts, containers, peers and running tasks.
    pub fn endpoints<'a>(&'a self, lab: &'a Lab) -> impl Iterator<Item = &'a str> {
        lab.endpoints().chain(self.tasks.keys().map(String::as_str))
    }

    /// Who may answer for a name: the tasks of a service that run or may run, else the endpoint itself.
    pub fn takers(&self, lab: &Lab, name: &str) -> Vec<String> {
        match lab.services.contains_key(name) {
            true => {
                let unseen = self.tasks.iter().filter(|(_, t)| self.unseen.contains_key(&t.host));
                let unseen = unseen.filter(|(_, t)| t.service == name);
                self.tasks_of(name).chain(unseen).map(|(task, _)| task.clone()).collect()
            }
            false => vec![name.to_owned()],
        }
    }

    /// The running tasks of a service.
    pub fn tasks_of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = (&'a String, &'a TaskAt)> {
        self.tasks.iter().filter(move |(name, t)| t.service == service && self.pid(name).is_some())
    }

    /// Addresses of a service's running tasks, with Docker's name of the network.
    pub fn task_addresses(&self, lab: &Lab, service: &str) -> Vec<(String, IpAddr)> {
        self.tasks_of(service).flat_map(|(task, _)| self.addresses(lab, task)).collect()
    }

    /// Process of a container, while it runs.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.containers.get(name)?.pid
    }

    /// Whether an endpoint runs.
    pub fn runs(&self, lab: &Lab, name: &str) -> bool {
        self.netns(lab, name).is_some() || lab.peers.contains_key(name)
    }

    /// The family by which `from` should reach an endpoint, at this place if one is named: IPv4 if both have it there, else
    /// IPv6 if the destination has that.
    pub fn family(&self, lab: &Lab, from: &str, target: &Target, probed: Probed) -> Family {
        let (name, at) = match (probed, target) {
            (Probed::Only(family), _) => return family,
            (Probed::Shared, Target::Address(address)) => return address.family(),
            (Probed::Shared, Target::Endpoint { name, at }) => (name, at),
        };
        let (own, all) = (self.addresses(lab, from), self.addresses(lab, name));
        let there = |place: &String| {
            at.as_ref().is_none_or(|at| place == at || at == LOOPBACK || place == docker_name(lab, at))
        };
        // Who has no address at all may still be asked to send.
        let sends = |family| own.is_empty() || own.iter().any(|(_, a)| a.family() == family);
        let takes = |family| all.iter().any(|(place, a)| there(place) && a.family() == family);
        let shared = Family::ALL.into_iter().find(|family| sends(*family) && takes(*family));
        shared.or_else(|| Family::ALL.into_iter().find(|family| takes(*family))).unwrap_or(Family::V4)
    }

    /// The address by which `from` should reach `target`.
    pub fn address(
        &self,
        lab: &Lab,
        from: &str,
        target: &Target,
        probed: Probed,
    ) -> Result<IpAddr, NoAddress> {
        match target {
            Target::Address(address) => Ok(*address),
            Target::Endpoint { name, at } => {
                if lab.services.contains_key(name) {
                    if self.tasks_of(name).next().is_none() {
                        let unseen = self.tasks.iter().find(|(_, t)| t.service == *name);
                        let why = unseen.and_then(|(task, _)| self.why_unseen(lab, task));
                        return Err(match why {
                            Some(why) => NoAddress::Unseen(why.to_owned()),
                            None => NoAddress::Down(format!("no task of {name} runs")),
                        });
                    }
                } else if let Some(why) = self.why_unseen(lab, name) {
                    return Err(NoAddress::Unseen(why.to_owned()));
                } else if !self.runs(lab, name) {
                    return Err(NoAddress::Down(format!("{name} is {}", self.status(lab, name))));
                }
                if at.as_deref() == Some(LOOPBACK) {
                    return Ok(self.family(lab, from, target, probed).loopback());
                }
                let family = self.family(lab, from, target, probed);
                let mut addresses = self.addresses(lab, name);
                addresses.retain(|(_, address)| address.family() == family);
                let found = match at {
                    Some(at) => {
                        addresses.iter().find(|(place, _)| place == at || place == docker_name(lab, at))
                    }
                    None => self.shared(lab, from, &addresses).or(addresses.first()),
                };
                let kind = probed.family().map_or("address".to_owned(), |family| format!("{family} address"));
                found.map(|(_, a)| *a).ok_or_else(|| match at {
                    Some(at) => NoAddress::None(format!("{name} has no {kind} on {at}")),
                    None => NoAddress::None(format!("{name} has no {kind}")),
                })
            }
        }
    }

    /// Addresses of an endpoint with the segment or (Docker's name of the) network each is on, in the topology's
    /// order.
    pub fn addresses(&self, lab: &Lab, name: &str) -> Vec<(String, IpAddr)> {
        if let Some(host) = lab.hosts.get(name) {
            return host.nics.iter().flat_map(|n| n.ips().map(|ip| (n.segment.clone(), ip))).collect();
        }
        if let Some(Peer { nic, .. }) = lab.peers.get(name) {
            return nic.ips().map(|ip| (nic.segment.clone(), ip)).collect();
        }
        // Nobody is reached by an address on the routing mesh's network.
        if let Some(task) = self.containers.get(name).filter(|_| self.tasks.contains_key(name)) {
            return task.addresses.iter().filter(|(place, _)| place != lab.mesh_name()).cloned().collect();
        }
        if let Some(service) = lab.services.get(name) {
            let mut addresses = match self.services.get(name) {
                Some(at) if at.dnsrr => self.task_addresses(lab, name),
                Some(at) => at.addresses.clone(),
                None => Vec::new(),
            };
            addresses.retain(|(place, _)| place != lab.mesh_name());
            let rank = |place: &str| service.networks.keys().position(|k| docker_name(lab, k) == place);
            addresses.sort_by_key(|(place, _)| rank(place).unwrap_or(usize::MAX));
            return addresses;
        }
        let Some(container) = lab.containers.get(name) else { return Vec::new() };
        match &container.attach {
            Attach::Host => self.addresses(lab, &container.host),
            Attach::Container(other) => self.addresses(lab, other),
            attach => {
                let mut addresses =
                    self.containers.get(name).map(|s| s.addresses.clone()).unwrap_or_default();
                if let Attach::Networks(networks) = attach {
                    let rank = |place: &str| networks.keys().position(|k| docker_name(lab, k) == place);
                    addresses.sort_by_key(|(place, _)| rank(place).unwrap_or(usize::MAX));
                }
                addresses
            }
        }
    }

    /// The first of these addresses that is on a segment or network of `from` too. Bridges of different hosts share only
    /// their name, but then no address is better than another.
    fn shared<'a>(
        &self,
        lab: &Lab,
        from: &str,
        addresses: &'a [(String, IpAddr)],
    ) -> Option<&'a (String, IpAddr)> {
        let mine = self.addresses(lab, from);
        let host = lab.host_of(from).map(|h| self.addresses(lab, h)).unwrap_or_default();
        let on = |place: &String| mine.iter().any(|(m, _)| m == place && m != DEFAULT_BRIDGE);
        addresses
            .iter()
            .find(|(place, _)| on(place))
            .or_else(|| addresses.iter().find(|(place, _)| host.iter().any(|(h, _)| h == place)))
    }

    /// The endpoint that owns an address, hosts before containers, then tasks and services.
    pub fn owner<'a>(&'a self, lab: &'a Lab, address: IpAddr) -> Option<&'a str> {
        let services = lab.services.keys().map(String::as_str);
        self.endpoints(lab)
            .chain(services)
            .find(|e| self.addresses(lab, e).iter().any(|(_, a)| *a == address))
    }
}
