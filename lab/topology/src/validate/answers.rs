//! Conditions on answers: who answers, which source they see, how many requests.

use std::net::IpAddr;

use ipnet::IpNet;
use labctl_model::check::{Answers, Expected, INGRESS, SourceSeen};
use labctl_yaml::{At, Cx, Diagnostic, OneOrMany, Scalar, Span};

use super::{cells::Scope, reserved, segments, words};

/// Most requests of one cell.
const MOST_REQUESTS: u32 = 100;

/// The three keys as they are written.
#[derive(Clone, Copy)]
pub(super) struct Asked<'r> {
    pub(super) by: Option<&'r OneOrMany<At<String>>>,
    pub(super) source: Option<&'r At<String>>,
    pub(super) requests: Option<&'r At<u32>>,
}

impl Asked<'_> {
    /// Place of the first of them, if there is one.
    pub(super) fn at(&self) -> Option<Span> {
        let by = self.by.and_then(|l| l.0.first()).map(|n| n.at);
        by.or(self.source.map(|s| s.at)).or(self.requests.map(|r| r.at))
    }
}

/// Notes keys beside `rules` that belong into a rule.
pub(super) fn in_a_rule(asked: &Asked, cx: &mut Cx) {
    if let Some(at) = asked.at() {
        let d = Diagnostic::new(at, "this belongs into one of the `rules`");
        cx.error(d.hint(
            "each rule says for itself who answers: `{ from: …, to: …, verdict: yes, answered_by: … }`",
        ));
    }
}

/// Reads the keys of a rule with this verdict, or of a table, where they apply to `yes` cells.
pub(super) fn read(asked: &Asked, verdict: Option<Expected>, scope: &Scope, cx: &mut Cx) -> Option<Answers> {
    let at = asked.at()?;
    if verdict.is_some_and(|v| v != Expected::Yes) {
        let d = Diagnostic::new(at, "only what is `yes` has an answer to say this of");
        cx.error(d.hint("leave it out, or make it a rule of its own"));
        return None;
    }
    let requests = asked.requests.map_or(1, |r| {
        if !(1..=MOST_REQUESTS).contains(&r.value) {
            let d = Diagnostic::new(r.at, format!("{} is no sensible number of requests", r.value));
            cx.error(d.hint(format!("1 to {MOST_REQUESTS}, for each cell")));
        }
        r.value.clamp(1, MOST_REQUESTS)
    });
    let mut by = Vec::new();
    for name in asked.by.iter().flat_map(|l| &l.0) {
        if answers(name, scope, cx) {
            by.push(name.value.clone());
        }
    }
    let source = asked.source.and_then(|s| source(s, scope, cx));
    Some(Answers { every: asked.requests.is_some(), by, source, requests })
}

/// Whether this can answer: an endpoint, a service, or a task of a service.
fn answers(name: &At<String>, scope: &Scope, cx: &mut Cx) -> bool {
    let names = scope.names;
    if names.is_endpoint(&name.value) || names.services.contains(name.value.as_str()) {
        return true;
    }
    // `web.1`; for a global service `web.HOST`.
    if let Some((service, slot)) = name.value.split_once('.')
        && names.services.contains(service)
    {
        let known = slot.parse::<u32>().is_ok_and(|n| n > 0) || names.hosts.contains(slot);
        if !known {
            let at = cx.part(name, service.len() + 1..name.value.len());
            let d = Diagnostic::new(at, format!("`{}` is no task", name.value));
            cx.error(d.hint(format!(
                "tasks are `{service}.1`, `{service}.2`, …; of a global service `{service}.HOST`"
            )));
        }
        return known;
    }
    let all = names.endpoints().chain(names.services.iter().copied());
    let hint = words::nearest(&name.value, all).map_or_else(
        || "an endpoint, a service, or a task as `web.1`".into(),
        |n| format!("did you mean `{n}`?"),
    );
    cx.error(Diagnostic::new(name.at, format!("nobody here is called `{}`", name.value)).hint(hint));
    false
}

fn source(text: &At<String>, scope: &Scope, cx: &mut Cx) -> Option<SourceSeen> {
    let word = text.value.as_str();
    if let Ok(address) = word.parse::<IpAddr>() {
        return reserved::end(address, text, cx).then_some(SourceSeen::Address(address));
    }
    if let Ok(value) = IpNet::read(word) {
        return segments::prefix(&At { value, at: text.at }, cx).map(SourceSeen::Subnet);
    }
    if scope.names.is_endpoint(word) {
        return Some(SourceSeen::Endpoint(word.to_owned()));
    }
    if scope.names.networks.contains(word) || word == INGRESS && scope.lab.swarm.is_some() {
        return Some(SourceSeen::Network(word.to_owned()));
    }
    let all = scope.names.endpoints().chain(scope.names.networks.iter().copied());
    let hint = match words::nearest(word, all) {
        _ if word == INGRESS => "the routing mesh has it, and there is no `swarm`".into(),
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            "an address, a subnet, an endpoint or a network; `ingress` is that of the routing mesh".into()
        }
    };
    cx.error(Diagnostic::new(text.at, format!("no source is called `{word}`")).hint(hint));
    None
}
