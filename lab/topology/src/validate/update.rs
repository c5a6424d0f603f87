//! `update SERVICE {CHANGES} [within DURATION]`: the changes are keys of a service, as under `services`.

use super::{
    action::Words,
    cells::Scope,
    services::{self, service},
};
use crate::raw;
use labctl_model::{
    service::{ServiceChange, ServiceMode},
    step::Action,
};
use labctl_yaml::{At, Cx, Diagnostic, FromNode, SourceText, Value, reject_controls, split_words};

/// The form, for hints.
pub(super) const FORM: &str = "update SERVICE {CHANGES} [within DURATION]";

/// Hint on how to write changes.
const AS: &str = "as under `services`, in braces: `'update web { ports: [\"8081:80\"] }'`, in single quotes for YAML's sake";

pub(super) fn read(words: &mut Words, text: &At<String>, scope: &Scope, cx: &mut Cx) -> Option<Action> {
    let service = words.service(scope, cx)?;
    let first = words.need("what is to change", cx)?;
    let all: Vec<_> = split_words(&text.value).map(|(range, _)| range).collect();
    let from = all.get(words.used() - 1).map_or(0, |r| r.start);
    let Some(last) = text.value.rfind('}').filter(|_| first.value.starts_with('{')) else {
        cx.error(Diagnostic::new(first.at, "changes are a mapping").hint(AS));
        return None;
    };
    words.skip_to(all.iter().filter(|r| r.start <= last).count());
    let within = words.within(cx)?;
    words.end(cx)?;
    let change = changes(&service, text, from..last + 1, scope, cx)?;
    Some(Action::Update { service, change: Box::new(change), within })
}

fn changes(
    service: &str,
    text: &At<String>,
    range: std::ops::Range<usize>,
    scope: &Scope,
    cx: &mut Cx,
) -> Option<ServiceChange> {
    let written = text.value.get(range.clone())?;
    let at = cx.part(text, range.clone());
    let mut node = match labctl_yaml::parse(&SourceText::new("changes", written)) {
        Ok(node) => node,
        Err(mut d) => {
            d.at = cx.part(text, range.start + d.at.start..range.start + d.at.end);
            cx.error(d.maybe_hint(Some(AS.to_owned())));
            return None;
        }
    };
    node.place(&|s| cx.part(text, range.start + s.start..range.start + s.end));
    if matches!(&node.value, Value::Map(entries) if entries.is_empty()) {
        cx.error(Diagnostic::new(at, "this update changes nothing").hint(AS));
        return None;
    }
    reject_controls(&node, cx);
    let outer = std::mem::replace(&mut cx.owner, at);
    let read = raw::Service::from_node(&node, cx);
    cx.owner = outer;
    let mut raw = read?;
    if let Some(deferred) = &raw.deferred {
        let d = Diagnostic::new(deferred.at, "a service that is there is not deferred any more");
        cx.error(d.hint(format!("`remove service {service}` takes it away")));
    }
    let deploy = raw.deploy.as_ref();
    if let Some(mode) = deploy.and_then(|d| d.mode.as_ref()) {
        let d = Diagnostic::new(mode.at, "Docker changes no service from `replicated` to `global` or back");
        cx.error(d.hint("a second service, `deferred`, that a step creates in its stead"));
        return None;
    }
    let replicas = deploy.and_then(|d| d.replicas.as_ref());
    if let Some(replicas) = replicas {
        services::scalable(service, replicas.at, scope.lab, cx);
    }
    let (has_replicas, has_mode) = (replicas.is_some(), deploy.is_some_and(|d| d.endpoint_mode.is_some()));
    let placed = raw.hosts.is_some() || deploy.is_some_and(|d| d.placement.is_some());
    // A step may have made the deferred networks; and what does not fit the rest of the service is left to Docker.
    raw.deferred = Some(At { value: true, at });
    let whole = self::service(&raw, scope.names, scope.lab, cx);
    let replicas = match whole.mode {
        ServiceMode::Replicated(n) if has_replicas => Some(n),
        _ => None,
    };
    Some(ServiceChange {
        image: raw.image.is_some().then_some(whole.image),
        command: raw.command.is_some().then_some(whole.command),
        environment: raw.environment.is_some().then_some(whole.environment),
        networks: raw.networks.is_some().then_some(whole.networks),
        ports: raw.ports.is_some().then_some(whole.ports),
        replicas,
        endpoint_mode: has_mode.then_some(whole.endpoint_mode),
        placement: placed.then_some(whole.placement),
        run: whole.run,
        rolling: whole.rolling,
    })
}
