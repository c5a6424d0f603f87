//! Engines: which a host gets, what only some of them have, and which checks and steps are for them.

use labctl_model::{
    engine::{Engine, EngineChoice, Version, Versions, is_number},
    lab::Lab,
};
use labctl_words as words;
use labctl_yaml::{At, Cx, Diagnostic};

use super::entries;
use crate::{raw, scalars::Written};

/// The first version of Docker that gives each network of a container a MAC of its own (API 1.44). Older ones take no notice.
const MACS: Version = Version::major(25);
/// The first version of Docker that chooses among gateways by priority and lets interfaces be named.
const ENDPOINTS: Version = Version::major(28);

/// The engine of hosts that name none: the one that was asked for, else the default, or, where the topology is not for
/// that, the oldest newer one that it is for, or else any.
pub(super) fn unnamed(t: &raw::Topology, engines: &EngineChoice, cx: &mut Cx) -> Engine {
    if let Some(given) = &engines.unnamed {
        return given.clone();
    }
    let default = Engine::default();
    let Some(wanted) = &t.engines else { return default };
    let fits = |e: &Engine| wanted.value.0.contain(e.docker());
    if fits(&default) {
        return default;
    }
    let mut all: Vec<Engine> = engines.all().filter(fits).collect();
    all.sort_by_key(Engine::docker);
    let newer = all.iter().find(|e| e.docker() > default.docker()).or(all.last()).cloned();
    newer.unwrap_or_else(|| {
        let d = Diagnostic::new(wanted.at, format!("there is no engine {}", wanted.value.0));
        cx.error(d.hint(format!(
            "there are {}; `labctl image build --docker FILE.tgz --name NAME` adds another",
            engines.listed()
        )));
        default
    })
}

/// The engine that a topology names.
pub(super) fn named(word: &At<String>, engines: &EngineChoice, cx: &mut Cx) -> Engine {
    engines.find(&word.value).unwrap_or_else(|| {
        let all: Vec<_> = engines.all().collect();
        let near = words::nearest(&word.value, all.iter().map(Engine::name));
        let hint = match near.filter(|_| !is_number(&word.value)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the engines are {}", engines.listed()),
        };
        cx.error(Diagnostic::new(word.at, format!("there is no engine `{}`", word.value)).hint(hint));
        Engine::default()
    })
}

/// Whether a check or step is for the engines of this lab: of all its hosts, or of none.
pub(super) fn are_meant(wanted: &Option<At<Written<Versions>>>, lab: &Lab) -> bool {
    wanted.as_ref().is_none_or(|w| lab.hosts.values().all(|h| w.value.0.contain(h.engine.docker())))
}

/// Notes what the engine of a container's host does not know.
pub(super) fn check(t: &raw::Topology, lab: &Lab, cx: &mut Cx) {
    // Of a topology that is not for these engines nothing more need be said.
    if lab.unfit().is_some() {
        return;
    }
    for (name, c) in entries(&t.containers) {
        let host = lab.containers.get(&name.value).and_then(|c| Some((&c.host, lab.hosts.get(&c.host)?)));
        let Some((host, engine)) = host.map(|(name, h)| (name, &h.engine)) else { continue };
        let networks = c.networks.iter().flat_map(|n| &n.0).filter_map(|(_, a)| a.as_ref());
        for a in networks {
            let keys = [
                (a.mac_address.as_ref().map(|m| m.at), "mac_address", MACS),
                (a.gw_priority.as_ref().map(|p| p.at), "gw_priority", ENDPOINTS),
                (a.interface_name.as_ref().map(|n| n.at), "interface_name", ENDPOINTS),
            ];
            let unknown = keys.into_iter().filter(|(.., since)| engine.docker() < *since);
            for (at, key, since) in unknown.filter_map(|(at, key, since)| Some((at?, key, since))) {
                let message = format!(
                    "`{key}` is known to Docker from {since} on, and `{host}` has {}",
                    engine.docker()
                );
                cx.error(Diagnostic::new(at, message).hint(format!(
                    "give `{host}` a newer engine, as `engine: forky`, or the topology `engines: \">={}\"`",
                    since.major
                )));
            }
        }
    }
}
