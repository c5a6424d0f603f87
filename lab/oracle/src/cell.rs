//! Predicts a cell: what the walks of its request mean, in the words of the probes.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use labctl_dataplane::{
    net::Role,
    packet::{Complaint, Proto},
    walk::{self, Asked, Cache, Listeners, Outcome, Trip, Unknown},
};
use labctl_model::{
    Answers, By, Cell, Expected, Family, INGRESS, Matrix, No, Observed, Probe, SourceSeen, Target,
};
use serde::Serialize;

use crate::{
    aim::{self, Aim, Directory, NoAddress},
    build::{self, Built},
    names, placement,
    state::{HostState, State},
};

/// What is foretold of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foretold {
    /// One of these words: mostly there is one.
    Words(BTreeSet<&'static str>),
    /// Nobody can say, and why.
    Unknown(String),
}

impl Foretold {
    /// The word for what nobody can say.
    pub const UNKNOWN: &str = "unknown";

    /// The words as one text: `yes`, `arp|silent`, `unknown`.
    pub fn text(&self) -> String {
        match self {
            Foretold::Words(words) => words.iter().copied().collect::<Vec<_>>().join("|"),
            Foretold::Unknown(_) => Self::UNKNOWN.to_owned(),
        }
    }
}

/// Whether a prediction and an expectation agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "is", content = "why", rename_all = "lowercase")]
pub enum Agreement {
    /// They do.
    Agrees,
    /// They do not.
    Differs(String),
    /// Nobody can say, and why.
    Unknown(String),
}

/// A way that the request of a cell may go, and its end.
#[derive(Clone, Debug, Serialize)]
pub struct Way {
    /// The word that comes of it.
    pub verdict: &'static str,
    /// Why.
    pub why: String,
    /// The request's way.
    pub there: Vec<walk::Hop>,
    /// The answer's way.
    pub back: Vec<walk::Hop>,
    /// Who answers a `yes`.
    pub answered_by: Option<String>,
    /// The source that they see.
    pub source: Option<IpAddr>,
}

/// A prediction.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The word or words.
    pub foretold: Foretold,
    /// The ways; those that end with another word come first, and are one for each word.
    pub ways: Vec<Way>,
}

/// A lab at a point of its life, ready for questions.
pub struct Scene<'a> {
    state: State<'a>,
    directory: Directory<'a>,
    /// One network, or two where nobody can say which it is.
    builts: Vec<(Built, Cache)>,
    /// Interfaces and containers.
    size: usize,
}

impl<'a> Scene<'a> {
    /// Builds the network of a state.
    pub fn new(state: &State<'a>) -> Self {
        let cautious = build::build(state, false);
        let unsure = cautious.gossip.unsure;
        let mut builts = vec![(cautious, Cache::default())];
        if unsure {
            builts.push((build::build(state, true), Cache::default()));
        }
        let interfaces = |built: &Built| built.net.spaces.iter().map(|s| s.interfaces.len()).sum::<usize>();
        let size = state.containers.len() + builts.iter().map(|(built, _)| interfaces(built)).sum::<usize>();
        Self { state: state.clone(), directory: Directory::new(state), builts, size }
    }

    /// The state.
    pub fn state(&self) -> &State<'a> {
        &self.state
    }

    /// The network; the first of two if it is unsure.
    pub fn built(&self) -> &Built {
        &self.builts[0].0
    }

    /// What was found out of that network.
    pub fn cache(&self) -> &Cache {
        &self.builts[0].1
    }

    /// Whether nodes hear each other only one way.
    pub fn is_unsure(&self) -> bool {
        self.builts.len() > 1
    }

    /// What it has cost so far, in walks: an interface or a container takes as long to build as a request to walk.
    pub fn work(&self) -> usize {
        self.size + self.builts.iter().map(|(_, cache)| cache.work()).sum::<usize>()
    }

    /// Where the run listens while a matrix is probed.
    pub fn listeners(&self, matrix: &Matrix) -> Vec<Listeners> {
        let of = |(built, _): &(Built, Cache)| aim::listeners(&self.state, &self.directory, built, matrix);
        self.builts.iter().map(of).collect()
    }

    /// Predicts one cell.
    pub fn predict(&self, matrix: &Matrix, cell: &Cell, listeners: &[Listeners]) -> Prediction {
        let mut ways = Vec::new();
        for ((built, cache), listeners) in self.builts.iter().zip(listeners) {
            let Self { state, directory, .. } = self;
            let at = Question { state, directory, built, cache, listeners, matrix, cell };
            match at.ways() {
                Ok(found) => ways.extend(found),
                Err(Unknown(why)) => {
                    return Prediction { foretold: Foretold::Unknown(why), ways: Vec::new() };
                }
            }
        }
        let words = ways.iter().map(|w| w.verdict).collect();
        Prediction { foretold: Foretold::Words(words), ways }
    }
}

/// A cell of which nothing is expected.
pub fn asked(from: &str, to: Target) -> Cell {
    Cell { from: from.to_owned(), to, expected: Expected::Yes, answers: None, line: 0 }
}

/// A cell and all that its fate hangs on.
struct Question<'q, 'a> {
    state: &'q State<'a>,
    directory: &'q Directory<'a>,
    built: &'q Built,
    cache: &'q Cache,
    listeners: &'q Listeners,
    matrix: &'q Matrix,
    cell: &'q Cell,
}

impl Question<'_, '_> {
    fn ways(&self) -> Result<Vec<Way>, Unknown> {
        let (state, cell, probe) = (self.state, self.cell, &self.matrix.probe);
        let only = |no: No, why: String| Ok(vec![way(Observed::No(no), why)]);
        if !aim::runs(state, &cell.from) {
            return only(No::Down, format!("{} does not run", cell.from));
        }
        let family = aim::family(state, &cell.from, &cell.to, self.matrix.family);
        if family == Family::V6 {
            self.check_modelled()?;
        }
        let aim = aim::aim(state, self.directory, probe, (self.matrix.by, self.matrix.family), cell);
        if let Probe::Dns(name) = probe {
            return self.resolved(name, family);
        }
        if let Err(NoAddress::Down(why)) = &aim.address {
            return only(No::Down, why.clone());
        }
        self.check_certain(&aim)?;
        let addresses = match (self.matrix.by, &cell.to) {
            (By::Name, Target::Endpoint { name, .. }) => {
                let found = names::resolve(state, self.built, &cell.from, name, family)?;
                if found.is_empty() {
                    return only(No::NoName, format!("{} finds no {name}", cell.from));
                }
                found
            }
            _ => match &aim.address {
                Ok(address) => vec![*address],
                Err(NoAddress::Down(why) | NoAddress::None(why)) => return only(No::NoRoute, why.clone()),
            },
        };
        let Some(from) = self.built.spaces.get(&cell.from).copied() else {
            return only(No::Down, format!("{} does not run", cell.from));
        };
        let (proto, port) = match probe {
            Probe::Tcp(port) => (Proto::Tcp, *port),
            Probe::Udp(port) => (Proto::Udp, *port),
            Probe::Icmp | Probe::Dns(_) => (Proto::Icmp, 0),
        };
        let mut ways = Vec::new();
        for to in addresses {
            let asked = Asked { from, to, proto, port, size: self.matrix.size };
            let trips = walk::ask(&self.built.net, self.cache, self.listeners, &asked)?;
            ways.extend(trips.into_iter().map(|trip| self.judged(&aim, trip)));
        }
        Ok(ways)
    }

    /// Of IPv6, all but what Docker draws is modelled. A swarm gives no service an address of it.
    fn check_modelled(&self) -> Result<(), Unknown> {
        let unknown = |why: String| Err(Unknown(why));
        let lab = self.state.lab;
        // Each node counts by itself, in an order that is not known where it has several endpoints.
        let state = self.state;
        let alone = |key: &str| {
            let on = |host: &str| {
                let here = lab.containers_on(host).filter_map(|(name, _)| state.containers.get(name));
                here.filter(|c| c.networks.contains_key(key)).count()
            };
            let served = state.services.values().any(|s| s.spec.networks.contains_key(key));
            !served && state.nodes.keys().all(|host| on(host) <= 1)
        };
        let overlay = |n: &labctl_model::Network| n.driver == labctl_model::Driver::Overlay;
        let mut both = lab.networks.iter().filter(|(_, n)| n.enable_ipv6 == Some(true) && overlay(n));
        if let Some((key, _)) = both.find(|(key, _)| !alone(key)) {
            return unknown(format!("which IPv6 addresses each node gives on overlay {key}"));
        }
        match self.state.hosts.values().find_map(HostState::unknown_bridge) {
            Some(why) => unknown(why),
            None => Ok(()),
        }
    }

    /// What Docker decides at its own choice cannot be foretold.
    fn check_certain(&self, aim: &Aim) -> Result<(), Unknown> {
        let state = self.state;
        let unknown = |why: String| Err(Unknown(why));
        if let Target::Address(address) = &self.cell.to {
            let address = *address;
            for (key, overlay) in state.overlays.iter().filter(|(_, o)| o.pool.subnet.contains(&address)) {
                let holders = state.containers.values().filter_map(|c| c.networks.get(key));
                let (mut fixed, mut chosen) = (address == overlay.pool.gateway, false);
                for at in holders {
                    fixed |= at.fixed && at.ip == address;
                    chosen |= !at.fixed;
                }
                chosen |= state.services.values().any(|s| s.spec.networks.contains_key(key));
                if chosen && !fixed {
                    return unknown(format!("which endpoint of {key} gets {address}"));
                }
            }
        }
        // Tasks on an overlay are equally reachable; on default bridges each is from its own node only.
        if let (By::Address, Target::Endpoint { name, .. }) = (self.matrix.by, &self.cell.to)
            && let Some(s) = state.services.get(name)
            && s.spec.networks.is_empty()
            && matches!(s.spec.mode, labctl_model::ServiceMode::Replicated(_))
            && placement::hosts(&s.tasks).len() > 1
        {
            return unknown(format!("which node has which task of {name}"));
        }
        let port = aim::transport(&self.matrix.probe);
        let of_host = match &self.cell.to {
            Target::Endpoint { name, .. } => {
                state.lab.namespace_of(name).is_some_and(|ns| state.lab.hosts.contains_key(ns))
            }
            Target::Address(_) => false,
        };
        if let (true, Some((protocol, port))) = (of_host || aim.door.is_some(), port) {
            for (name, s) in state.services.iter().filter(|(_, s)| !s.certain) {
                let there = |p: &labctl_model::ServicePort| {
                    p.mode == labctl_model::PublishMode::Host
                        && p.published == Some(port)
                        && p.protocol == protocol
                };
                if s.spec.ports.iter().any(there) {
                    return unknown(format!("which nodes have a task of {name}"));
                }
            }
        }
        Ok(())
    }

    fn resolved(&self, name: &str, family: Family) -> Result<Vec<Way>, Unknown> {
        let (state, cell) = (self.state, self.cell);
        let found = names::resolve(state, self.built, &cell.from, name, family)?;
        if found.is_empty() {
            return Ok(vec![way(Observed::No(No::NoName), format!("{} finds no {name}", cell.from))]);
        }
        let list = found.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
        let right = match &cell.to {
            Target::Address(a) => found.contains(a),
            Target::Endpoint { name: of, at } => {
                let place =
                    at.as_deref().map(|at| state.lab.networks.get(at).map_or(at, |n| n.docker_name.as_str()));
                let service = state.services.get(of);
                let tasks = service.filter(|s| {
                    s.spec.endpoint_mode == labctl_model::EndpointMode::Dnsrr
                        || name.strip_prefix("tasks.") == Some(of)
                });
                match tasks {
                    Some(service) => {
                        let found: BTreeSet<IpAddr> = found.into_iter().collect();
                        service.spec.networks.keys().filter(|k| at.as_ref().is_none_or(|at| at == *k)).any(
                            |key| {
                                let all = service.tasks.iter().filter_map(|t| t.addresses.get(key).copied());
                                all.collect::<BTreeSet<_>>() == found
                            },
                        )
                    }
                    None => {
                        let all = aim::addresses(state, of);
                        let mut there = all.iter().filter(|(p, _)| place.is_none_or(|place| place == p));
                        there.any(|(_, a)| found.contains(a))
                    }
                }
            }
        };
        let observed = if right { Observed::Yes } else { Observed::No(No::Misdelivered) };
        Ok(vec![way(observed, format!("{name} resolves to {list}"))])
    }

    /// What a trip means for a cell.
    fn judged(&self, aim: &Aim, trip: Trip) -> Way {
        let net = &self.built.net;
        let is_meant = |ns: usize| aim.meant.iter().find(|m| self.built.spaces.get(*m) == Some(&ns));
        let door = aim.door.as_ref().and_then(|d| self.built.spaces.get(d)).copied();
        let taker = trip.got.iter().rev().find_map(|(ns, source)| Some((is_meant(*ns)?.clone(), *source)));
        let other = trip.got.iter().map(|(ns, _)| *ns).find(|ns| {
            is_meant(*ns).is_none() && Some(*ns) != door && net.spaces[*ns].role == Role::Endpoint
        });
        let name = |ns: usize| net.spaces[ns].name.clone();
        let no = |no: No, why: String| (Observed::No(no), why, None);
        let (observed, why, by) = match trip.outcome {
            Outcome::Answered => match (taker, aim.meant.is_empty()) {
                (Some(taker), _) => (Observed::Yes, String::new(), Some(taker)),
                (None, true) => (Observed::Yes, String::new(), None),
                (None, false) => {
                    let last = trip.got.last().map(|(ns, _)| *ns);
                    match last {
                        Some(ns) if Some(ns) == door => no(No::Stalled, format!("{} took it", name(ns))),
                        Some(ns) => no(No::Misdelivered, format!("{} answers", name(ns))),
                        None => no(No::Misdelivered, "somebody else answers".to_owned()),
                    }
                }
            },
            Outcome::Silent => match (taker, other) {
                (Some((taker, _)), _) => no(No::Asymmetric, format!("{taker} gets it, but {}", trip.why)),
                (None, Some(ns)) if !aim.meant.is_empty() => {
                    no(No::Misdelivered, format!("{} gets it: {}", name(ns), trip.why))
                }
                _ => no(No::Silent, trip.why.clone()),
            },
            Outcome::Refused => no(No::Refused, trip.why.clone()),
            Outcome::Unreachable(Complaint::Port) => no(No::Refused, trip.why.clone()),
            Outcome::Unreachable(_) => no(No::Unreachable, trip.why.clone()),
            Outcome::NoRoute => no(No::NoRoute, trip.why.clone()),
            Outcome::Arp(hop) if hop.is_ipv6() => no(No::Neighbour, trip.why.clone()),
            Outcome::Arp(_) => no(No::Arp, trip.why.clone()),
            Outcome::Stalled => no(No::Stalled, trip.why.clone()),
        };
        let (answered_by, source) = by.map_or((None, None), |(by, source)| (Some(by), Some(source)));
        let verdict = observed.word();
        Way { verdict, why, there: trip.there, back: trip.back, answered_by, source }
    }
}

fn way(observed: Observed, why: String) -> Way {
    let (there, back) = (Vec::new(), Vec::new());
    Way { verdict: observed.word(), why, there, back, answered_by: None, source: None }
}

/// Whether a prediction is what a cell expects, conditions on its answers included.
pub fn agreement(scene: &Scene<'_>, matrix: &Matrix, cell: &Cell, prediction: &Prediction) -> Agreement {
    let words = match &prediction.foretold {
        Foretold::Unknown(why) => return Agreement::Unknown(why.clone()),
        Foretold::Words(words) => words,
    };
    let meets = |word: &&str| observed(word).is_some_and(|o| o.meets(cell.expected));
    let (good, bad): (Vec<&str>, Vec<&str>) = words.iter().copied().partition(|w| meets(w));
    match (good.is_empty(), bad.is_empty()) {
        (true, _) => {
            let why = prediction.ways.iter().find(|w| bad.contains(&w.verdict)).map(|w| w.why.clone());
            return Agreement::Differs(why.unwrap_or_default());
        }
        (false, false) => return Agreement::Unknown(format!("it may be {}", prediction.foretold.text())),
        (false, true) => {}
    }
    let asked = cell.answers.and_then(|i| matrix.answers.get(i)).filter(|_| cell.expected == Expected::Yes);
    match asked.and_then(|a| unmet(scene.state(), a, &prediction.ways)) {
        Some(why) => Agreement::Differs(why),
        None => Agreement::Agrees,
    }
}

fn observed(word: &str) -> Option<Observed> {
    if word == Observed::Yes.word() {
        return Some(Observed::Yes);
    }
    No::ALL.iter().find(|(_, w)| *w == word).map(|(no, _)| Observed::No(*no))
}

/// What is not as the conditions on answers want it.
fn unmet(state: &State<'_>, asked: &Answers, ways: &[Way]) -> Option<String> {
    for way in ways {
        let (Some(by), Some(source)) = (&way.answered_by, way.source) else { continue };
        let service = state.task(by).map(|t| &t.service);
        if !asked.by.is_empty() && !asked.by.iter().any(|b| b == by || Some(b) == service) {
            return Some(format!("{by} answers"));
        }
        let seen = match &asked.source {
            None => continue,
            Some(SourceSeen::Address(a)) => source == *a,
            Some(SourceSeen::Subnet(net)) => net.contains(&source),
            Some(SourceSeen::Endpoint(name)) => aim::addresses(state, name).iter().any(|(_, a)| *a == source),
            Some(SourceSeen::Network(key)) => subnets(state, key).iter().any(|n| n.contains(&source)),
        };
        if !seen {
            return Some(format!("{by} sees {source} as the source"));
        }
    }
    None
}

/// The subnets of a network.
pub fn subnets(state: &State<'_>, key: &str) -> Vec<IpNet> {
    let mesh = state.lab.mesh().map_or(INGRESS, |(key, _)| key);
    let key = if key == INGRESS { mesh } else { key };
    match state.overlays.get(key) {
        Some(overlay) => vec![overlay.pool.subnet],
        None => {
            let host = state.hosts.values().find_map(|h| h.networks.get(key));
            host.map(|pools| pools.iter().map(|p| p.subnet).collect()).unwrap_or_default()
        }
    }
}
