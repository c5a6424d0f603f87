//! Sources, targets and verdicts of tables, rules and facts, and the limit on cells.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use indexmap::IndexSet;
use labctl_model::{
    check::{Expected, Target},
    lab::{Attach, Lab},
};
use labctl_words as words;
use labctl_yaml::{At, Cx, Diagnostic, Span};

use super::{MOST_CELLS, MOST_CELLS_IN_LAB, Names, it_is_on, networks, reserved};
use crate::raw;

/// What exists at some point of the lab's life, as far as the topology tells.
#[derive(Clone)]
pub(super) struct Scope<'a> {
    pub(super) names: &'a Names<'a>,
    pub(super) lab: &'a Lab,
    /// Containers that exist now: what `all` and `containers` stand for.
    pub(super) present: IndexSet<&'a str>,
    /// Containers that were made at some time.
    pub(super) made: HashSet<&'a str>,
    /// Networks that steps connect containers to.
    connected: HashSet<(&'a str, &'a str)>,
    /// Networks that updates have put services on.
    pub(super) joined: HashSet<(String, String)>,
    /// Hosts whose dockerd steps have ended, each with the action that did.
    pub(super) undocked: HashMap<String, &'static str>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(t: &'a raw::Topology, names: &'a Names<'a>, lab: &'a Lab) -> Self {
        let there: IndexSet<&str> =
            names.containers.iter().copied().filter(|c| !names.deferred.contains(c)).collect();
        let made = there.iter().copied().collect();
        let connected = networks::connected(t).collect();
        Self { names, lab, present: there, made, connected, joined: HashSet::new(), undocked: HashMap::new() }
    }

    /// The scope of a running lab, where every container may exist.
    pub(super) fn of(names: &'a Names<'a>, lab: &'a Lab) -> Self {
        let all: IndexSet<&str> = names.containers.clone();
        Self {
            names,
            lab,
            made: all.iter().copied().collect(),
            present: all,
            connected: HashSet::new(),
            joined: HashSet::new(),
            undocked: HashMap::new(),
        }
    }

    /// What a word stands for: an endpoint or a group of them.
    pub(super) fn group(&self, word: &str) -> Option<Vec<&'a str>> {
        let hosts = || self.names.hosts.iter().copied();
        let containers = || self.present.iter().copied();
        let peers = || self.names.peers.iter().copied();
        match word {
            "all" => Some(hosts().chain(containers()).chain(peers()).collect()),
            "hosts" => Some(hosts().collect()),
            "peers" => Some(peers().collect()),
            "containers" => Some(containers().collect()),
            _ => None,
        }
    }

    /// How many endpoints a word stands for.
    pub(super) fn count(&self, word: &str) -> usize {
        match word {
            "all" => self.names.hosts.len() + self.present.len() + self.names.peers.len(),
            "hosts" => self.names.hosts.len(),
            "peers" => self.names.peers.len(),
            "containers" => self.present.len(),
            _ => 1,
        }
    }

    /// Notes an endpoint that the lab does not have or no step has made yet.
    pub(super) fn endpoint(&self, name: &At<String>, cx: &mut Cx) -> bool {
        self.names.endpoint(name, cx) && self.is_made(name, cx)
    }

    /// Notes a name that is no source; a source of look-ups must have a resolver.
    pub(super) fn source(&self, name: &At<String>, looks_up: bool, cx: &mut Cx) -> bool {
        if looks_up && self.names.peers.contains(name.value.as_str()) {
            let d = Diagnostic::new(name.at, format!("peer `{}` has no resolver", name.value));
            cx.error(d.hint("it probes by address; let a host or container look the name up"));
            return false;
        }
        self.endpoint(name, cx)
    }

    /// Notes a container that no step has made yet.
    pub(super) fn is_made(&self, name: &At<String>, cx: &mut Cx) -> bool {
        let made =
            !self.names.deferred.contains(name.value.as_str()) || self.made.contains(name.value.as_str());
        if !made {
            let d =
                Diagnostic::new(name.at, format!("container `{}` is not made yet at this point", name.value));
            cx.error(d.hint(format!("it is deferred: a step before must say `do: create {}`", name.value)));
        }
        made
    }

    /// The far end of a cell: an endpoint, one of its addresses, or any address.
    pub(super) fn target(&self, text: &At<String>, by_name: bool, cx: &mut Cx) -> Option<Target> {
        if let Ok(address) = text.value.parse::<IpAddr>() {
            if by_name {
                let d = Diagnostic::new(text.at, format!("{address} has no name to be reached by"));
                cx.error(d.hint("`by: address` (the default), or a host or container instead"));
                return None;
            }
            return reserved::end(address, text, cx).then_some(Target::Address(address));
        }
        let (name, at) = match text.value.split_once('@') {
            None => (text.value.as_str(), None),
            Some((name, at)) => (name, Some(at)),
        };
        let at_name = cx.part(text, 0..name.len());
        if self.names.services.contains(name) {
            return self.service(&At { value: name.to_owned(), at: at_name }, at, text, cx);
        }
        if !self.endpoint(&At { value: name.to_owned(), at: at_name }, cx) {
            return None;
        }
        if let Some(at) = at {
            let span = cx.part(text, name.len() + 1..text.value.len());
            if !self.has_address(name, &At { value: at.to_owned(), at: span }, cx) {
                return None;
            }
        }
        Some(Target::Endpoint { name: name.to_owned(), at: at.map(str::to_owned) })
    }

    /// A service, on one of its networks if one is given.
    fn service(&self, name: &At<String>, at: Option<&str>, text: &At<String>, cx: &mut Cx) -> Option<Target> {
        if self.names.deferred.contains(name.value.as_str()) && !self.made.contains(name.value.as_str()) {
            let d =
                Diagnostic::new(name.at, format!("service `{}` is not made yet at this point", name.value));
            let hint = format!("it is deferred: a step before must say `do: create service {}`", name.value);
            cx.error(d.hint(hint));
            return None;
        }
        let networks = self.lab.services.get(&name.value).map(|s| &s.networks);
        if let (Some(at), Some(networks)) = (at, networks)
            && !networks.contains_key(at)
            && !self.joined.contains(&(name.value.clone(), at.to_owned()))
        {
            let span = cx.part(text, name.value.len() + 1..text.value.len());
            let d = Diagnostic::new(span, format!("service `{}` has no address on `{at}`", name.value));
            cx.error(d.hint(it_is_on(networks.keys().map(String::as_str), "it is on no network")));
            return None;
        }
        Some(Target::Endpoint { name: name.value.clone(), at: at.map(str::to_owned) })
    }

    /// Whether the endpoint in `NAME@HERE` has an address there; notes it if not.
    pub(super) fn has_address(&self, name: &str, at: &At<String>, cx: &mut Cx) -> bool {
        let here = at.value.as_str();
        if let Some(peer) = self.lab.peers.get(name) {
            let known = peer.nic.segment == here;
            if !known {
                let d = Diagnostic::new(at.at, format!("peer `{name}` has no address on `{here}`"));
                cx.error(d.hint(format!("it is on {}", peer.nic.segment)));
            }
            return known;
        }
        let host = match self.lab.containers.get(name).map(|c| &c.attach) {
            None if self.names.containers.contains(name) => return true,
            None => name,
            Some(Attach::Host) => self.lab.host_of(name).unwrap_or_default(),
            Some(Attach::Container(of)) if self.names.containers.contains(of.as_str()) => return true,
            Some(attach) => return self.is_on(name, attach, at, cx),
        };
        let Some(h) = self.lab.hosts.get(host) else { return true };
        let known = h.nics.iter().any(|n| n.segment == here);
        if !known {
            let d = Diagnostic::new(at.at, format!("host `{host}` has no address on `{here}`"));
            cx.error(d.hint(it_is_on(h.nics.iter().map(|n| n.segment.as_str()), "it has no NIC")));
        }
        known
    }

    /// Whether a container is on a network, or a step connects it.
    fn is_on(&self, name: &str, attach: &Attach, at: &At<String>, cx: &mut Cx) -> bool {
        let here = at.value.as_str();
        let on: Vec<&str> = match attach {
            Attach::DefaultBridge { .. } => vec!["bridge"],
            Attach::Networks(n) if n.contains_key(here) => return true,
            Attach::Networks(n) => n.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        if on.contains(&here) || self.connected.contains(&(name, here)) {
            return true;
        }
        let d = Diagnostic::new(at.at, format!("container `{name}` has no address on `{here}`"));
        cx.error(d.hint(match words::nearest(here, on.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => it_is_on(on, "it is on no network"),
        }));
        false
    }
}

/// Counts the cells of the whole lab.
#[derive(Default)]
pub(super) struct Budget {
    spent: usize,
    told: bool,
}

impl Budget {
    /// Whether a matrix, or a rule of one, may have this many cells. Too many in the lab is noted once.
    pub(super) fn take(&mut self, cells: usize, at: Span, cx: &mut Cx) -> bool {
        if cells > MOST_CELLS {
            let d =
                Diagnostic::new(at, format!("{cells} cells are more than a matrix can have ({MOST_CELLS})"));
            cx.error(d.hint("probe fewer sources, or fewer destinations"));
            return false;
        }
        self.spent = self.spent.saturating_add(cells);
        if self.spent > MOST_CELLS_IN_LAB && !self.told {
            self.told = true;
            let message =
                format!("here the lab's matrices pass {MOST_CELLS_IN_LAB} cells, the most that it can have");
            cx.error(Diagnostic::new(at, message).hint("probe fewer sources, or fewer destinations"));
        }
        self.spent <= MOST_CELLS_IN_LAB
    }
}

/// Reads a verdict as tables write it.
pub(super) fn verdict(word: &At<String>, cx: &mut Cx) -> Option<Expected> {
    let known = Expected::from_word(&word.value);
    if known.is_none() {
        let hint = match (word.value.as_str(), words::nearest(&word.value, Expected::words())) {
            ("true", _) => "write `yes`".into(),
            ("false", _) => "write `no`".into(),
            (_, Some(near)) => format!("did you mean `{near}`?"),
            _ => format!("the words are {}", words::list(Expected::words())),
        };
        cx.error(Diagnostic::new(word.at, format!("`{}` is no verdict", word.value)).hint(hint));
    }
    known
}
