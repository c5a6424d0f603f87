//! `steps`.

use super::{
    action,
    cells::{Budget, Scope},
    checks, engines,
};
use crate::raw;
use labctl_model::step::{Action, Power, Step};
use labctl_yaml::{Cx, Diagnostic};

pub(super) fn read<'a>(
    t: &'a raw::Topology,
    scope: &mut Scope<'a>,
    budget: &mut Budget,
    cx: &mut Cx,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for s in t.steps.iter().flatten() {
        if engines::are_meant(&s.engines, scope.lab) {
            steps.push(step(s, scope, budget, cx));
        } else {
            // Its mistakes are told, and nothing happens.
            step(s, &mut scope.clone(), budget, cx);
        }
    }
    steps
}

fn step<'a>(s: &'a raw::Step, scope: &mut Scope<'a>, budget: &mut Budget, cx: &mut Cx) -> Step {
    let does = s.r#do.as_ref().map_or(&[][..], |list| &list.0);
    // A step may only check; then it needs a name.
    let checks_only = s.r#do.is_none() && s.name.is_some() && s.expect.is_some() && s.fails.is_none();
    if does.is_empty() && !checks_only {
        let d = Diagnostic::new(s.at, "this step does nothing");
        cx.error(d.hint("`do: stop c1`, for one; a step that only checks has a `name` and `expect`"));
    }
    let texts: Vec<&str> = does.iter().map(|a| a.value.trim()).collect();
    let actions: Vec<Action> = does.iter().filter_map(|a| action::read(a, scope, cx)).collect();
    if let Some(fails) = s.fails.as_ref().filter(|f| f.value.trim().is_empty()) {
        cx.error(
            Diagnostic::new(fails.at, "`fails` needs a part of Docker's message").hint("any words of it"),
        );
    }
    for a in &actions {
        happen(a, scope);
    }
    if actions.len() < does.len() {
        // The one with the mistake may be what makes them: one mistake is reported once.
        scope.made.extend(scope.names.deferred.iter().copied());
    }
    let within = s.within.as_ref().map(|w| w.value);
    let expect = checks::read(s.expect.as_deref().unwrap_or_default(), scope, within, budget, cx);
    Step {
        name: s.name.as_ref().map_or_else(|| texts.join("; "), |n| n.value.clone()),
        actions,
        fails: s.fails.as_ref().map(|f| f.value.clone()),
        within: within.unwrap_or_default(),
        expect,
        line: cx.line(s.at),
    }
}

/// Applies an action to the scope. A refused one may have left something behind, so it counts too.
fn happen(action: &Action, scope: &mut Scope) {
    match action {
        Action::Create(name) => {
            if let Some(name) = scope.names.containers.get(name.as_str()).copied() {
                scope.made.insert(name);
                scope.present.insert(name);
            }
        }
        Action::CreateService { service: name, .. } => {
            if let Some(name) = scope.names.services.get(name.as_str()).copied() {
                scope.made.insert(name);
            }
        }
        Action::Update { service, change, .. } => {
            let networks = change.networks.iter().flat_map(|n| n.keys());
            scope.joined.extend(networks.map(|n| (service.clone(), n.clone())));
        }
        Action::Docker { host, power: Power::Kill } => _ = scope.undocked.insert(host.clone(), "kill docker"),
        Action::Docker { host, power: Power::Stop } => _ = scope.undocked.insert(host.clone(), "stop docker"),
        // A host that is started or restarted has a dockerd again; one that is stopped or killed is `down`.
        Action::Docker { host, .. } | Action::Power { host, .. } | Action::ConfigureDocker { host, .. } => {
            scope.undocked.remove(host);
        }
        Action::Remove(name) => _ = scope.present.shift_remove(name.as_str()),
        _ => {}
    }
}
