//! Repairs: the single changes to a topology by which a cell becomes `yes`. Changes that may help are tried: the oracle
//! predicts the cell in the changed lab. What comes out as `yes` is kept, and ordered by how few other cells change.

mod networks;
mod routes;
mod settings;

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use labctl_model::{Cell, Check, Lab, Target};
use serde::Serialize;

use crate::{
    addressing, aim,
    cell::{self, Foretold, Scene},
    query::Query,
    state::State,
};

/// Endpoints times trials: what a machine of today predicts in a second or so.
const MOST_WORK: usize = 40_000;
/// Least and most changes that are tried.
const TRIALS: std::ops::RangeInclusive<usize> = 32..=400;
/// Most other cells that are compared, for all repairs together.
const MOST_COMPARED: usize = 40_000;
/// Most repairs that are reported.
const MOST_REPAIRS: usize = 12;
/// Most subnets of each private range that are looked at for a free one.
const MOST_SUBNETS: usize = 4_096;
/// Most changed cells that are named.
const MOST_NAMED: usize = 5;

/// A change that makes a cell `yes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// The change.
    pub change: String,
    /// How many other cells it changes.
    pub changes: usize,
    /// Of how many that were compared: every endpoint to every other, and to the addresses that the topology probes; in a
    /// large lab the first of them.
    pub compared: usize,
    /// The first of those that it changes.
    pub cells: Vec<ChangedCell>,
}

/// Another cell that a repair changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedCell {
    /// Source.
    pub from: String,
    /// Destination.
    pub to: String,
    /// The word without the repair.
    pub was: String,
    /// The word with it.
    pub becomes: String,
}

/// A change that may help.
struct Candidate {
    words: String,
    edit: Box<dyn Fn(&mut Lab)>,
    /// Whom to ask then, if it is not the one who was asked: the host that publishes a port.
    ask: Option<Target>,
}

/// A cell that is to be repaired, and what may help.
struct Bench<'a> {
    lab: &'a Lab,
    query: &'a Query,
    state: &'a State<'a>,
    /// The hosts of both ends.
    hosts: Vec<&'a str>,
    /// The addresses of both ends: the one that is asked, and those of the one who asks.
    asked: Option<IpAddr>,
    asking: Vec<IpAddr>,
    found: Vec<Candidate>,
}

/// Finds the repairs of a cell that is not `yes`.
pub fn repairs(lab: &Lab, query: &Query) -> Vec<Repair> {
    // Nothing is expected here.
    let mut lab = lab.clone();
    let addresses = probed_addresses(&lab, query);
    lab.steps.truncate(query.step);
    lab.expect.clear();
    lab.steps.iter_mut().for_each(|s| s.expect.clear());
    let now = state(&lab);
    let candidates = Bench::new(&lab, query, &now).candidates();
    let endpoints = lab.hosts.len() + lab.containers.len() + lab.peers.len();
    let trials = (MOST_WORK / endpoints.max(1)).clamp(*TRIALS.start(), *TRIALS.end());
    let mut kept = Vec::new();
    for candidate in candidates.into_iter().take(trials) {
        let mut changed = lab.clone();
        (candidate.edit)(&mut changed);
        let to = candidate.ask.as_ref().unwrap_or(&query.to);
        if is_yes(&Scene::new(&state(&changed)), query, to) {
            kept.push((candidate.words, changed));
        }
        if kept.len() == MOST_REPAIRS {
            break;
        }
    }
    if kept.is_empty() {
        return Vec::new();
    }
    let mut cells = other_cells(&lab, query, &addresses);
    cells.truncate(MOST_COMPARED / (kept.len() + 1));
    let before = words(&Scene::new(&now), query, &cells);
    let mut repairs: Vec<Repair> = kept
        .into_iter()
        .map(|(change, lab)| {
            let after = words(&Scene::new(&state(&lab)), query, &cells);
            let changed = cells.iter().zip(before.iter().zip(after)).filter(|(_, (was, is))| *was != is);
            let changed: Vec<ChangedCell> = changed
                .map(|(cell, (was, becomes))| ChangedCell {
                    from: cell.from.clone(),
                    to: cell.to.to_string(),
                    was: was.clone(),
                    becomes,
                })
                .collect();
            let (changes, compared) = (changed.len(), cells.len());
            Repair { change, changes, compared, cells: changed.into_iter().take(MOST_NAMED).collect() }
        })
        .collect();
    // Those that change as many stay in the order in which they were tried.
    repairs.sort_by_key(|r| r.changes);
    repairs
}

/// A lab after all of its steps.
fn state(lab: &Lab) -> State<'_> {
    let mut state = State::new(lab);
    lab.steps.iter().for_each(|step| state.apply(step));
    state
}

fn is_yes(scene: &Scene<'_>, query: &Query, to: &Target) -> bool {
    let cell = cell::asked(&query.from, to.clone());
    let matrix = query.matrix(vec![cell.clone()]);
    let foretold = scene.predict(&matrix, &cell, &scene.listeners(&matrix)).foretold;
    matches!(foretold, Foretold::Words(words) if words.iter().eq([&"yes"]))
}

fn words(scene: &Scene<'_>, query: &Query, cells: &[Cell]) -> Vec<String> {
    let matrix = query.matrix(cells.to_vec());
    let listeners = scene.listeners(&matrix);
    cells.iter().map(|c| scene.predict(&matrix, c, &listeners).foretold.text()).collect()
}

/// The addresses that the topology probes, and the one of the query.
fn probed_addresses(lab: &Lab, query: &Query) -> Vec<Target> {
    let checks = lab.expect.iter().chain(lab.steps.iter().flat_map(|s| &s.expect));
    let cells = checks.filter_map(|check| match check {
        Check::Matrix(m) => Some(&m.cells),
        _ => None,
    });
    let mut all: Vec<Target> = Vec::new();
    for to in cells.flatten().map(|c| &c.to).chain([&query.to]) {
        if matches!(to, Target::Address(_)) && !all.contains(to) {
            all.push(to.clone());
        }
    }
    all
}

/// All cells but that of the query; those of its ends first.
fn other_cells(lab: &Lab, query: &Query, addresses: &[Target]) -> Vec<Cell> {
    let to: Vec<Target> = lab.endpoints().map(Target::from).chain(addresses.iter().cloned()).collect();
    let is_end = |from: &str, to: &Target| from == query.from || *to == query.to;
    let row = to.iter().map(|to| (query.from.as_str(), to));
    let column = lab.endpoints().filter(|from| *from != query.from).map(|from| (from, &query.to));
    let all = lab.endpoints().flat_map(|from| to.iter().map(move |to| (from, to)));
    row.chain(column)
        .chain(all.filter(|(from, to)| !is_end(from, to)))
        .filter(|(from, to)| **to != Target::from(*from) && (*from != query.from || **to != query.to))
        .map(|(from, to)| cell::asked(from, to.clone()))
        .take(MOST_COMPARED)
        .collect()
}

impl<'a> Bench<'a> {
    fn new(lab: &'a Lab, query: &'a Query, state: &'a State<'a>) -> Self {
        let aim = aim::aim(
            state,
            &aim::Directory::new(state),
            &query.probe,
            (query.by, query.family),
            &cell::asked(&query.from, query.to.clone()),
        );
        let to = match &query.to {
            Target::Endpoint { name, .. } => Some(name.as_str()),
            Target::Address(_) => aim.meant.first().and_then(|m| lab.endpoints().find(|e| e == m)),
        };
        let mut hosts: Vec<&str> = Vec::new();
        let ends = [lab.host_of(&query.from), to.and_then(|to| host_of(state, to))];
        for host in ends.into_iter().flatten() {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let asked = aim.address.ok();
        let same = |ip: &IpAddr| asked.is_none_or(|asked| asked.is_ipv4() == ip.is_ipv4());
        let asking = aim::addresses(state, &query.from).into_iter().map(|(_, ip)| ip).filter(same).collect();
        Self { lab, query, state, hosts, asked, asking, found: Vec::new() }
    }

    /// What may help, what is most probable first.
    fn candidates(mut self) -> Vec<Candidate> {
        self.shims();
        self.membership();
        self.subnets();
        self.published();
        self.routes();
        self.settings();
        self.found
    }

    fn may(&mut self, words: String, edit: impl Fn(&mut Lab) + 'static) {
        if self.found.iter().all(|c| c.words != words) {
            self.found.push(Candidate { words, edit: Box::new(edit), ask: None });
        }
    }

    /// The name of the one who is asked, if it is an endpoint or a service.
    fn target(&self) -> Option<&'a str> {
        match &self.query.to {
            Target::Endpoint { name, .. } => Some(name),
            Target::Address(_) => None,
        }
    }

    /// Both ends, as far as they have names.
    fn ends(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        [Some(self.query.from.as_str()), self.target()].into_iter().flatten()
    }

    /// Keys of the networks of both ends.
    fn networks(&self) -> Vec<&'a str> {
        let lab = self.lab;
        let mut all: Vec<&str> = Vec::new();
        for end in self.ends() {
            let now = self.state.containers.get(end).into_iter().flat_map(|c| c.networks.keys());
            let services = lab.services.get(end).into_iter().flat_map(|s| s.networks.keys());
            for key in now.chain(services) {
                if let Some((key, _)) = lab.networks.get_key_value(key)
                    && !all.contains(&key.as_str())
                {
                    all.push(key);
                }
            }
        }
        all
    }

    /// A subnet of this size that nothing of the lab overlaps.
    fn free_subnet(&self, prefix_len: u8) -> Option<Ipv4Net> {
        let (lab, state) = (self.lab, self.state);
        let segments = lab.segments.values();
        let outside = segments.clone().flat_map(|s| &s.outside).filter(|n| n.prefix_len() > 0);
        let routes = lab.hosts.values().flat_map(|h| &h.routes).map(|r| r.to);
        let described = lab.networks.values().flat_map(|n| &n.ipam).map(|p| p.subnet);
        let mut taken: Vec<IpNet> = segments
            .flat_map(|s| s.subnet.iter())
            .chain(outside.copied())
            .chain(routes.filter(|n| n.prefix_len() > 0))
            .chain(described)
            .collect();
        taken.extend(state.hosts.values().flat_map(|h| h.networks.values()).flatten().map(|p| p.subnet));
        taken.extend(state.overlays.values().map(|o| o.pool.subnet));
        let own = self.asked.into_iter().chain(self.asking.iter().copied());
        taken.extend(own.map(IpNet::from));
        let bases = [([10, 0, 0, 0], 8), ([172, 16, 0, 0], 12), ([192, 168, 0, 0], 16)];
        // The first is what a swarm gives to overlays.
        let bases = bases.into_iter().skip(usize::from(lab.swarm.is_some()));
        let all =
            bases.filter_map(|(base, len)| Ipv4Net::new_assert(base.into(), len).subnets(prefix_len).ok());
        // Of a base either few are taken, or one route takes all of it.
        let free = |net: &Ipv4Net| !taken.iter().any(|t| addressing::overlap(IpNet::V4(*net), *t));
        all.flat_map(|nets| nets.take(MOST_SUBNETS)).find(free)
    }
}

/// The host of an endpoint; of a service that of its first task.
fn host_of<'a>(state: &State<'a>, name: &'a str) -> Option<&'a str> {
    let task = || state.services.get(name).and_then(|s| s.tasks.first()).map(|t| t.host.as_str());
    let host = state.lab.host_of(name).or_else(task)?;
    state.lab.hosts.get_key_value(host).map(|(name, _)| name.as_str())
}
