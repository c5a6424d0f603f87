//! Who hears whom in a swarm: gossip (7946) and reports to managers (2377), as walks between the hosts.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use labctl_dataplane::{
    net::Net,
    packet::Proto,
    walk::{self, Asked, Cache, Listeners, Outcome},
};
use labctl_model::Role;

use crate::state::State;

const GOSSIP: u16 = 7946;
const CONTROL: u16 = 2377;

/// Who hears whom, once everything has settled.
#[derive(Clone, Debug, Default)]
pub struct Gossip {
    /// The part of the swarm that a node is in.
    parts: BTreeMap<String, usize>,
    /// Whether two nodes hear each other only one way.
    pub unsure: bool,
    /// Nodes whose reports reach a manager.
    pub reports: Vec<String>,
}

impl Gossip {
    /// Asks every two nodes. Other nodes pass on what two do not hear of each other directly (memberlist's indirect
    /// probes), so parts are what hangs together.
    pub fn of(state: &State<'_>, net: &Net, spaces: &IndexMap<String, usize>, generous: bool) -> Self {
        let runs = |host: &str| state.hosts.get(host).is_some_and(|h| h.up && h.docker);
        let nodes: Vec<(&String, usize)> =
            state.nodes.keys().filter(|n| runs(n)).filter_map(|n| Some((n, *spaces.get(n)?))).collect();
        let cache = Cache::default();
        let mut listeners = Listeners::new();
        for (_, ns) in &nodes {
            listeners.extend([
                (*ns, Proto::Tcp, GOSSIP),
                (*ns, Proto::Udp, GOSSIP),
                (*ns, Proto::Tcp, CONTROL),
            ]);
        }
        let reaches = |from: usize, to: (&String, usize), proto: Proto, port: u16| {
            let Some(node) = state.nodes.get(to.0) else { return false };
            let asked = Asked { from, to: node.advertise, proto, port, size: None };
            match walk::ask(net, &cache, &listeners, &asked) {
                // What passes such a host is unknown anyway.
                Err(_) => true,
                Ok(trips) => {
                    trips.iter().all(|t| t.outcome == Outcome::Answered && t.got.iter().any(|g| g.0 == to.1))
                }
            }
        };
        let hears = |from: usize, to: (&String, usize)| {
            reaches(from, to, Proto::Udp, GOSSIP) || reaches(from, to, Proto::Tcp, GOSSIP)
        };
        let mut gossip = Self::default();
        for (i, (name, _)) in nodes.iter().enumerate() {
            gossip.parts.insert((*name).clone(), i);
        }
        for (i, a) in nodes.iter().enumerate() {
            for b in nodes.iter().skip(i + 1) {
                let both = (hears(a.1, *b), hears(b.1, *a));
                gossip.unsure |= both.0 != both.1;
                if both == (true, true) || generous && (both.0 || both.1) {
                    gossip.join(a.0, b.0);
                }
            }
        }
        let managers: Vec<_> = nodes.iter().filter(|(n, _)| state.nodes[*n].role == Role::Manager).collect();
        for node in &nodes {
            let is = |m: &&&(&String, usize)| {
                m.0 == node.0 || reaches(node.1, **m.to_owned(), Proto::Tcp, CONTROL)
            };
            if managers.iter().any(|m| is(&m)) {
                gossip.reports.push(node.0.clone());
            }
        }
        gossip
    }

    fn join(&mut self, a: &str, b: &str) {
        if let (Some(one), Some(other)) = (self.parts.get(a).copied(), self.parts.get(b).copied()) {
            self.parts.values_mut().filter(|p| **p == other).for_each(|p| *p = one);
        }
    }

    /// Whether a node knows of the endpoints of another.
    pub fn knows(&self, node: &str, other: &str) -> bool {
        self.parts.contains_key(node) && self.parts.get(node) == self.parts.get(other)
    }
}
