//! Turns the topology as written into a lab. Every stage notes all mistakes and goes on with what is sound, so that one
//! run of `validate` reports everything.

mod action;
mod addresses;
mod answers;
mod attach;
mod cells;
mod checks;
mod containers;
mod docker;
mod engines;
mod exec;
mod facts;
mod hosts;
mod images;
mod inject;
mod lines;
mod names;
mod networks;
mod options;
mod order;
mod peers;
mod reserved;
mod segments;
mod services;
mod steps;
mod swarm;
mod table;
mod update;
mod wire;

use indexmap::{IndexMap, IndexSet};

use labctl_model::{check::Check, engine::EngineChoice, lab::Lab, step::Action};
use labctl_words as words;
use labctl_yaml::{At, Cx, Diagnostic, Diagnostics, Map, SourceText, Span};

use crate::raw;

/// Most hosts of a lab: each is a machine with a dockerd.
pub(crate) const MOST_HOSTS: usize = 64;
/// Most peers of a lab: each is a task and a port of the wire.
pub(crate) const MOST_PEERS: usize = 1_024;
/// Most containers of a lab.
pub(crate) const MOST_CONTAINERS: usize = 4_000;
/// Most cells of one matrix.
pub(crate) const MOST_CELLS: usize = 250_000;
/// Most cells of all matrices together; a cell counts once for each rule that names it.
pub(crate) const MOST_CELLS_IN_LAB: usize = 1_000_000;

/// Every name that something may refer to, even if the part that it names is not sound.
pub(crate) struct Names<'a> {
    pub(crate) hosts: IndexSet<&'a str>,
    pub(crate) peers: IndexSet<&'a str>,
    pub(crate) networks: IndexSet<&'a str>,
    pub(crate) containers: IndexSet<&'a str>,
    /// Services.
    pub(crate) services: IndexSet<&'a str>,
    /// Containers and services that only a step makes.
    pub(crate) deferred: IndexSet<&'a str>,
}

impl<'a> Names<'a> {
    fn new(t: &'a raw::Topology) -> Self {
        fn keys<T>(map: &Option<Map<T>>) -> IndexSet<&str> {
            map.iter().flat_map(|m| &m.0).map(|(k, _)| k.value.as_str()).collect()
        }
        let late = entries(&t.services).filter(|(_, s)| flag(&s.deferred)).map(|(k, _)| k);
        let deferred = entries(&t.containers).filter(|(_, c)| flag(&c.deferred)).map(|(k, _)| k);
        Self {
            hosts: t.hosts.0.iter().map(|(k, _)| k.value.as_str()).collect(),
            peers: keys(&t.peers),
            networks: keys(&t.networks),
            containers: keys(&t.containers),
            services: keys(&t.services),
            deferred: deferred.chain(late).map(|k| k.value.as_str()).collect(),
        }
    }

    /// The names of a validated lab.
    fn of(lab: &'a Lab) -> Self {
        fn keys<T>(map: &IndexMap<String, T>) -> IndexSet<&str> {
            map.keys().map(String::as_str).collect()
        }
        let containers = lab.containers.iter().filter(|(_, c)| c.deferred).map(|(k, _)| k.as_str());
        let services = lab.services.iter().filter(|(_, s)| s.deferred).map(|(k, _)| k.as_str());
        Self {
            hosts: keys(&lab.hosts),
            networks: keys(&lab.networks),
            containers: keys(&lab.containers),
            services: keys(&lab.services),
            peers: keys(&lab.peers),
            deferred: containers.chain(services).collect(),
        }
    }

    /// Hosts, containers and peers.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &'a str> {
        self.hosts.iter().chain(&self.containers).chain(&self.peers).copied()
    }

    pub(crate) fn is_endpoint(&self, name: &str) -> bool {
        self.hosts.contains(name) || self.containers.contains(name) || self.peers.contains(name)
    }

    /// Notes a host that does not exist.
    pub(crate) fn host(&self, name: &At<String>, cx: &mut Cx) -> bool {
        self.one_of("host", &self.hosts, name, cx)
    }

    /// Notes a network that does not exist.
    pub(crate) fn network(&self, name: &At<String>, cx: &mut Cx) -> bool {
        self.one_of("network", &self.networks, name, cx)
    }

    /// Notes a container that does not exist.
    pub(crate) fn container(&self, name: &At<String>, cx: &mut Cx) -> bool {
        self.one_of("container", &self.containers, name, cx)
    }

    /// Notes a service that does not exist.
    pub(crate) fn service(&self, name: &At<String>, cx: &mut Cx) -> bool {
        self.one_of("service", &self.services, name, cx)
    }

    /// Notes an endpoint that does not exist.
    pub(crate) fn endpoint(&self, name: &At<String>, cx: &mut Cx) -> bool {
        let all = self.endpoints().chain(self.services.iter().copied());
        self.known("host or container", self.is_endpoint(&name.value), all, name, cx)
    }

    fn one_of(&self, kind: &str, all: &IndexSet<&'a str>, name: &At<String>, cx: &mut Cx) -> bool {
        self.known(kind, all.contains(name.value.as_str()), all.iter().copied(), name, cx)
    }

    fn known(
        &self,
        kind: &str,
        known: bool,
        all: impl Iterator<Item = &'a str>,
        name: &At<String>,
        cx: &mut Cx,
    ) -> bool {
        if !known && cx.found.is_full() {
            // Looking for near names is slow if there are thousands.
            cx.error(Diagnostic::new(name.at, ""));
        } else if !known {
            // The name may be that of another kind of thing.
            let other = [
                ("host", &self.hosts),
                ("container", &self.containers),
                ("network", &self.networks),
                ("service", &self.services),
                ("peer", &self.peers),
            ]
            .into_iter()
            .find(|(k, set)| !kind.contains(k) && set.contains(name.value.as_str()));
            let hint = match other {
                Some((other, _)) => format!("`{}` is a {other}", name.value),
                None if kind.contains(" or ") => match words::nearest(&name.value, all) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", words::list(self.endpoints())),
                },
                None => words::known(kind, &name.value, all),
            };
            let d = Diagnostic::new(name.at, format!("there is no {kind} `{}`", name.value));
            cx.error(d.label(format!("no such {kind}")).hint(hint));
        }
        known
    }
}

/// Validates a topology. The lab is complete only if no mistake was noted.
pub(crate) fn validate(t: &raw::Topology, engines: &EngineChoice, cx: &mut Cx) -> Lab {
    let names = Names::new(t);
    let mut lab = Lab {
        name: t.name.value.clone(),
        description: t.description.as_ref().map(|d| d.value.trim().to_owned()).unwrap_or_default(),
        vanilla: t.vanilla.as_ref().is_some_and(|v| v.value),
        checkpoint: t.checkpoint.as_ref().is_none_or(|c| c.value),
        engines: t.engines.as_ref().map(|e| e.value.0.clone()),
        segments: IndexMap::new(),
        hosts: IndexMap::new(),
        peers: IndexMap::new(),
        swarm: None,
        images: IndexMap::new(),
        networks: IndexMap::new(),
        containers: IndexMap::new(),
        services: IndexMap::new(),
        expect: Vec::new(),
        steps: Vec::new(),
        done: Vec::new(),
        lines: lines::read(t, cx),
    };
    if !names::check(t, cx) {
        return lab;
    }
    lab.segments = segments::read(t, cx);
    lab.hosts = hosts::read(t, engines, &lab, cx);
    lab.peers = peers::read(t, &lab, cx);
    lab.swarm = swarm::read(t, &names, &lab, cx);
    lab.images = images::read(t, cx);
    // Containers come before networks: a network is on the hosts that its containers are on.
    lab.containers = containers::read(t, &names, cx);
    lab.networks = networks::read(t, &names, &lab, cx);
    lab.services = services::read(t, &names, &lab, cx);
    images::check(t, &lab, cx);
    attach::check(t, &lab, cx);
    engines::check(t, &lab, cx);
    order::check(t, &lab, cx);
    addresses::check(t, &lab, cx);
    let mut budget = cells::Budget::default();
    let mut scope = cells::Scope::new(t, &names, &lab);
    let expect = checks::read(t.expect.as_deref().unwrap_or_default(), &scope, None, &mut budget, cx);
    let steps = steps::read(t, &mut scope, &mut budget, cx);
    Lab { expect, steps, ..lab }
}

/// The form of each action.
pub const ACTION_FORMS: [&str; 38] = action::FORMS;

/// Reads the text form of one action and checks its names against a lab.
///
/// # Errors
/// If the text is no action of this lab: everything that is wrong with it.
pub fn parse_action(text: &str, lab: &Lab) -> Result<Action, Diagnostics> {
    let source = SourceText::new("action", text);
    let mut cx = Cx::new(source.clone());
    cx.foreign = raw::foreign_key;
    let text = At { value: text.to_owned(), at: Span::new(0, text.len()) };
    let action = read_action(&text, lab, &mut cx);
    cx.found.finish(source.clone())?;
    // There is an action if no mistake was noted: what cannot be read is a mistake.
    action.ok_or_else(|| Diagnostics::new(source, vec![Diagnostic::new(text.at, "this is no action")], 0))
}

/// Reads the text form of an action in a file about this lab that is no topology; notes what is wrong with it. Every
/// container of the lab may exist.
pub fn read_action(text: &At<String>, lab: &Lab, cx: &mut Cx) -> Option<Action> {
    action::read(text, &cells::Scope::of(&Names::of(lab), lab), cx)
}

/// Reads checks in such a file; notes what is wrong with them.
pub fn read_checks(written: &[raw::Check], lab: &Lab, cx: &mut Cx) -> Vec<Check> {
    let names = Names::of(lab);
    checks::read(written, &cells::Scope::of(&names, lab), None, &mut cells::Budget::default(), cx)
}

/// The sound entries of an optional mapping.
pub(crate) fn entries<T>(map: &Option<Map<T>>) -> impl Iterator<Item = (&At<String>, &T)> {
    map.iter().flat_map(|m| &m.0).filter_map(|(k, v)| Some((k, v.as_ref()?)))
}

/// The value of an optional flag; absent is false.
pub(crate) fn flag(flag: &Option<At<bool>>) -> bool {
    flag.as_ref().is_some_and(|f| f.value)
}

/// "it is on `a` and `b`", for hints; `none` if it is on nothing.
pub(crate) fn it_is_on<'n>(names: impl IntoIterator<Item = &'n str>, none: &str) -> String {
    match words::list(names).as_str() {
        "" => none.to_owned(),
        names => format!("it is on {names}"),
    }
}
