//! Turns the topology as written into a lab. Every stage notes all mistakes and goes on with what is sound, so that one
//! run of `validate` reports everything.

mod action;
mod addresses;
mod answers;
mod attach;
mod cells;
mod checks;
mod containers;
mod exec;
mod facts;
mod hosts;
mod images;
mod inject;
mod lines;
mod names;
mod networks;
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

use crate::{
    diagnostic::{Diagnostic, Diagnostics, Source, Span},
    input::{cx::Cx, decode::At, words},
    lab::Lab,
    raw,
    step::Action,
};

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
        fn keys<T>(map: &[(At<String>, Option<T>)]) -> IndexSet<&str> {
            map.iter().map(|(k, _)| k.value.as_str()).collect()
        }
        let networks = t.networks.as_ref().map_or(&[][..], |m| &m.0);
        let containers = t.containers.as_ref().map_or(&[][..], |m| &m.0);
        let services = t.services.as_ref().map_or(&[][..], |m| &m.0);
        let late = services.iter().filter(|(_, s)| s.as_ref().is_some_and(|s| flag(&s.deferred)));
        let deferred = containers.iter().filter(|(_, c)| c.as_ref().is_some_and(|c| flag(&c.deferred)));
        Self {
            hosts: keys(&t.hosts.0),
            peers: keys(t.peers.as_ref().map_or(&[][..], |m| &m.0)),
            networks: keys(networks),
            containers: keys(containers),
            services: keys(services),
            deferred: deferred
                .map(|(k, _)| k.value.as_str())
                .chain(late.map(|(k, _)| k.value.as_str()))
                .collect(),
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
        self.one_of("host", self.hosts.iter().copied(), self.hosts.contains(name.value.as_str()), name, cx)
    }

    /// Notes a network that does not exist.
    pub(crate) fn network(&self, name: &At<String>, cx: &mut Cx) -> bool {
        self.one_of(
            "network",
            self.networks.iter().copied(),
            self.networks.contains(name.value.as_str()),
            name,
            cx,
        )
    }

    /// Notes a container that does not exist.
    pub(crate) fn container(&self, name: &At<String>, cx: &mut Cx) -> bool {
        let known = self.containers.contains(name.value.as_str());
        self.one_of("container", self.containers.iter().copied(), known, name, cx)
    }

    /// Notes a service that does not exist.
    pub(crate) fn service(&self, name: &At<String>, cx: &mut Cx) -> bool {
        let known = self.services.contains(name.value.as_str());
        self.one_of("service", self.services.iter().copied(), known, name, cx)
    }

    /// Notes an endpoint that does not exist.
    pub(crate) fn endpoint(&self, name: &At<String>, cx: &mut Cx) -> bool {
        let known = self.is_endpoint(&name.value);
        self.one_of(
            "host or container",
            self.endpoints().chain(self.services.iter().copied()),
            known,
            name,
            cx,
        )
    }

    fn one_of(
        &self,
        kind: &str,
        all: impl Iterator<Item = &'a str>,
        known: bool,
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
pub(crate) fn validate(t: &raw::Topology, cx: &mut Cx) -> Lab {
    let names = Names::new(t);
    let mut lab = Lab {
        name: t.name.value.clone(),
        description: t.description.as_ref().map(|d| d.value.trim().to_owned()).unwrap_or_default(),
        vanilla: t.vanilla.as_ref().is_some_and(|v| v.value),
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
        lines: lines::read(t, cx),
    };
    if !names::check(t, cx) {
        return lab;
    }
    lab.segments = segments::read(t, cx);
    lab.hosts = hosts::read(t, &lab, cx);
    lab.peers = peers::read(t, &lab, cx);
    lab.swarm = swarm::read(t, &names, &lab, cx);
    lab.images = images::read(t, cx);
    // Containers come before networks: a network is on the hosts that its containers are on.
    lab.containers = containers::read(t, &names, cx);
    lab.networks = networks::read(t, &names, &lab, cx);
    lab.services = services::read(t, &names, &lab, cx);
    images::check(t, &lab, cx);
    attach::check(t, &lab, cx);
    order::check(t, &lab, cx);
    addresses::check(t, &lab, cx);
    let mut budget = cells::Budget::default();
    let mut scene = cells::Scene::new(t, &names, &lab);
    let expect = checks::read(t.expect.as_deref().unwrap_or_default(), &scene, None, &mut budget, cx);
    let steps = steps::read(t, &mut scene, &mut budget, cx);
    Lab { expect, steps, ..lab }
}

/// Reads one action that is not part of a topology.
pub(crate) fn action(text: &str, lab: &Lab) -> Result<Action, Diagnostics> {
    let source = Source::new("action", text);
    let mut cx = Cx::new(source.clone());
    let text = At { value: text.to_owned(), at: Span::new(0, text.len()) };
    let names = Names::of(lab);
    let action = action::read(&text, &cells::Scene::of(&names, lab), &mut cx);
    cx.found.finish(source.clone())?;
    // There is an action if no mistake was noted: what cannot be read is a mistake.
    action.ok_or_else(|| Diagnostics::new(source, vec![Diagnostic::new(text.at, "this is no action")], 0))
}

/// The sound entries of an optional mapping.
pub(crate) fn entries<T>(
    map: &Option<crate::input::decode::Map<T>>,
) -> impl Iterator<Item = (&At<String>, &T)> {
    map.iter().flat_map(|m| &m.0).filter_map(|(k, v)| Some((k, v.as_ref()?)))
}

/// The value of an optional flag; absent is false.
pub(crate) fn flag(flag: &Option<At<bool>>) -> bool {
    flag.as_ref().is_some_and(|f| f.value)
}
