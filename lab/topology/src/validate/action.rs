//! The text forms of actions.

use std::{net::IpAddr, time::Duration};

use labctl_model::{
    host::{Interface, InterfaceKind, Route},
    step::{Action, Power, Token},
    swarm::Role,
};
use labctl_words as words;
use labctl_yaml::{At, Cx, Diagnostic, Scalar, Span, split_words};

use super::{cells::Scope, exec, hosts, it_is_on, reserved, services, update, wire};
use crate::{raw, scalars::Destination};

/// Every form, for hints.
pub(super) const FORMS: [&str; 38] = [
    "create CONTAINER",
    "start CONTAINER|HOST",
    "stop CONTAINER|HOST",
    "restart CONTAINER|HOST",
    "remove CONTAINER",
    "connect CONTAINER NETWORK [ADDRESS]",
    "disconnect CONTAINER NETWORK",
    "create network NETWORK",
    "remove network NETWORK",
    "prune networks HOST",
    "route add HOST PREFIX [via ADDRESS] [dev INTERFACE] [metric N]",
    "route del HOST PREFIX [via ADDRESS] [dev INTERFACE] [metric N]",
    "create interface HOST NAME",
    "remove interface HOST NAME",
    "configure docker HOST JSON",
    exec::FORM,
    "create service SERVICE [within DURATION]",
    "remove service SERVICE",
    "scale SERVICE REPLICAS [within DURATION]",
    update::FORM,
    "drain HOST",
    "activate HOST",
    "promote HOST",
    "demote HOST",
    "leave HOST",
    "join HOST as worker|manager [advertising SEGMENT|ADDRESS] [with a wrong token|with an old token]",
    "remove node HOST [by force]",
    "force-new-cluster HOST",
    "kill HOST",
    "kill docker HOST",
    "stop docker HOST",
    "start docker HOST",
    "restart docker HOST",
    "cut HOST [on SEGMENT] [inbound|outbound]",
    "heal HOST [on SEGMENT]",
    "block FILTER [on SEGMENT] [from HOST] [to HOST]",
    "unblock FILTER|all [on SEGMENT] [from HOST] [to HOST]",
    "reset",
];

/// The words of an action, each with its place in the text.
pub(super) struct Words {
    all: Vec<At<String>>,
    next: usize,
    whole: Span,
    pub(super) form: &'static str,
}

impl Words {
    pub(super) fn next(&mut self) -> Option<At<String>> {
        let word = self.all.get(self.next).cloned();
        self.next += 1;
        word
    }

    /// The next word; notes a mistake if there is none.
    pub(super) fn need(&mut self, what: &str, cx: &mut Cx) -> Option<At<String>> {
        let word = self.next();
        if word.is_none() {
            let at = self.all.last().map_or(self.whole, |w| w.at);
            let d = Diagnostic::new(at, format!("{what} is missing from this action"));
            cx.error(d.label("expected after this").hint(format!("`{}`", self.form)));
        }
        word
    }

    /// Place of the whole action.
    pub(super) fn whole(&self) -> Span {
        self.whole
    }

    /// How many words have been read.
    pub(super) fn used(&self) -> usize {
        self.next
    }

    /// Continues with the word of this number.
    pub(super) fn skip_to(&mut self, number: usize) {
        self.next = number;
    }

    /// Reads `within DURATION` if it comes next. The outer `None`: a mistake was noted.
    #[allow(clippy::option_option)]
    pub(super) fn within(&mut self, cx: &mut Cx) -> Option<Option<Duration>> {
        if self.all.get(self.next).is_none_or(|w| w.value != "within") {
            return Some(None);
        }
        self.next += 1;
        let duration = self.need("a duration", cx)?;
        scalar(&duration, cx).map(Some)
    }

    /// Reads `by force` if it comes next. `None`: a mistake was noted.
    fn by_force(&mut self, cx: &mut Cx) -> Option<bool> {
        if self.all.get(self.next).is_none_or(|w| w.value != "by") {
            return Some(false);
        }
        self.next += 1;
        let word = self.need("the word `force`", cx)?;
        if word.value != "force" {
            let d = Diagnostic::new(word.at, format!("`{}` does not belong here", word.value));
            cx.error(d.hint(format!("`{}`", self.form)));
            return None;
        }
        Some(true)
    }

    /// Notes words that are left over.
    pub(super) fn end(&self, cx: &mut Cx) -> Option<()> {
        let Some(extra) = self.all.get(self.next) else { return Some(()) };
        let d = Diagnostic::new(extra.at, format!("`{}` is too much for this action", extra.value));
        cx.error(d.hint(format!("`{}`", self.form)));
        None
    }

    fn container(&mut self, scope: &Scope, cx: &mut Cx) -> Option<String> {
        let name = self.need("a container", cx)?;
        scope.names.container(&name, cx).then_some(name.value)
    }

    fn network(&mut self, scope: &Scope, cx: &mut Cx) -> Option<String> {
        let name = self.need("a network", cx)?;
        scope.names.network(&name, cx).then_some(name.value)
    }

    pub(super) fn service(&mut self, scope: &Scope, cx: &mut Cx) -> Option<String> {
        let name = self.need("a service", cx)?;
        scope.names.service(&name, cx).then_some(name.value)
    }

    /// Reads a host; the lab must have a swarm.
    fn node(&mut self, scope: &Scope, cx: &mut Cx) -> Option<String> {
        if scope.lab.swarm.is_none() {
            let d = Diagnostic::new(self.whole, "this lab has no swarm");
            cx.error(d.hint("`swarm: {}` makes one of all hosts"));
            return None;
        }
        self.host(scope, cx)
    }

    /// Reads a container or a host: they share one set of names.
    fn running(
        &mut self,
        scope: &Scope,
        cx: &mut Cx,
        container: impl FnOnce(String) -> Action,
        power: Power,
    ) -> Option<Action> {
        let name = self.need("a container or a host", cx)?;
        if scope.names.hosts.contains(name.value.as_str()) {
            return Some(Action::Power { host: name.value, power });
        }
        let known = scope.names.endpoint(&name, cx);
        known.then(|| container(name.value))
    }

    pub(super) fn host(&mut self, scope: &Scope, cx: &mut Cx) -> Option<String> {
        let name = self.need("a host", cx)?;
        scope.names.host(&name, cx).then_some(name.value)
    }
}

pub(super) fn read(text: &At<String>, scope: &Scope, cx: &mut Cx) -> Option<Action> {
    let start = cx.offset_of(text);
    let place = |r: std::ops::Range<usize>| start.map_or(text.at, |s| Span::new(s + r.start, s + r.end));
    let all: Vec<At<String>> = split_words(&text.value)
        .map(|(range, word)| At { value: word.to_owned(), at: place(range) })
        .collect();
    let word = |i: usize| all.get(i).map_or("", |w| w.value.as_str());
    let form = FORMS.iter().copied().find(|form| {
        let mut fixed =
            form.split(' ').take_while(|w| w.starts_with(|c: char| c.is_ascii_lowercase())).enumerate();
        // `create` alone takes a container; its two-word forms come first, below.
        fixed.all(|(i, w)| word(i) == w)
    });
    let two = FORMS.iter().copied().find(|form| {
        let words: Vec<&str> = form.split(' ').collect();
        matches!(words.as_slice(), [a, b, ..] if b.starts_with(|c: char| c.is_ascii_lowercase())
            && *a == word(0) && *b == word(1)
            // A container may be called `network` or `interface`: then no word follows.
            && all.len() > 2)
    });
    let Some(form) = two.or(form) else {
        unknown(text, &all, cx);
        return None;
    };
    // `create netwrok net1`, `start dokcer host1`: no form has more words after a name there.
    let mistyped = match word(0) {
        "create" | "remove" => true,
        "start" | "stop" | "restart" | "kill" => !scope.names.is_endpoint(word(1)),
        _ => false,
    };
    if form.split(' ').count() == 2 && all.len() > 2 && mistyped && two.is_none() {
        unknown(text, &all, cx);
        return None;
    }
    let fixed = form.split(' ').take_while(|w| w.starts_with(|c: char| c.is_ascii_lowercase())).count();
    let mut words = Words { next: fixed, whole: text.at, form, all };
    let action = match form.split(' ').take(fixed).collect::<Vec<_>>().as_slice() {
        ["create"] => Action::Create(words.container(scope, cx)?),
        ["start"] => words.running(scope, cx, Action::Start, Power::Start)?,
        ["stop"] => words.running(scope, cx, Action::Stop, Power::Stop)?,
        ["restart"] => words.running(scope, cx, Action::Restart, Power::Restart)?,
        ["kill"] => Action::Power { host: words.host(scope, cx)?, power: Power::Kill },
        ["kill", "docker"] => Action::Docker { host: words.host(scope, cx)?, power: Power::Kill },
        ["stop", "docker"] => Action::Docker { host: words.host(scope, cx)?, power: Power::Stop },
        ["start", "docker"] => Action::Docker { host: words.host(scope, cx)?, power: Power::Start },
        ["restart", "docker"] => Action::Docker { host: words.host(scope, cx)?, power: Power::Restart },
        ["cut"] => wire::cut(&mut words, scope, cx)?,
        ["heal"] => wire::heal(&mut words, scope, cx)?,
        ["block"] => wire::block(&mut words, scope, cx)?,
        ["unblock"] => wire::unblock(&mut words, scope, cx)?,
        ["remove"] => Action::Remove(words.container(scope, cx)?),
        ["connect"] => {
            let (container, network) = (words.container(scope, cx), words.network(scope, cx));
            let address = match words.next() {
                None => None,
                Some(word) => Some(address(&word, cx)?),
            };
            Action::Connect { container: container?, network: network?, address }
        }
        ["disconnect"] => {
            let (container, network) = (words.container(scope, cx), words.network(scope, cx));
            Action::Disconnect { container: container?, network: network? }
        }
        ["create", "network"] => Action::CreateNetwork(words.network(scope, cx)?),
        ["remove", "network"] => Action::RemoveNetwork(words.network(scope, cx)?),
        ["create", "service"] => {
            let service = words.service(scope, cx)?;
            Action::CreateService { service, within: words.within(cx)? }
        }
        ["remove", "service"] => Action::RemoveService(words.service(scope, cx)?),
        ["scale"] => scale(&mut words, scope, cx)?,
        ["update"] => return update::read(&mut words, text, scope, cx),
        ["drain"] => Action::Drain(words.node(scope, cx)?),
        ["activate"] => Action::Activate(words.node(scope, cx)?),
        ["promote"] => Action::Promote(words.node(scope, cx)?),
        ["demote"] => Action::Demote(words.node(scope, cx)?),
        ["leave"] => Action::Leave(words.node(scope, cx)?),
        ["join"] => join(&mut words, scope, cx)?,
        ["remove", "node"] => {
            let host = words.node(scope, cx)?;
            Action::RemoveNode { host, force: words.by_force(cx)? }
        }
        ["force-new-cluster"] => Action::ForceNewCluster(words.node(scope, cx)?),
        ["exec"] => return exec::read(text, 1, scope, cx).map(Action::Exec),
        ["reset"] => Action::Reset,
        ["prune", "networks"] => Action::PruneNetworks(words.host(scope, cx)?),
        ["route", verb] => {
            let add = *verb == "add";
            let (host, route) = route(&mut words, add, scope, cx)?;
            if add { Action::RouteAdd { host, route } } else { Action::RouteDel { host, route } }
        }
        [verb, "interface"] => {
            let (host, name) = interface(&mut words, scope, cx)?;
            if *verb == "create" {
                Action::CreateInterface { host, name }
            } else {
                Action::RemoveInterface { host, name }
            }
        }
        _ => return configure(words, text, scope, cx),
    };
    words.end(cx).map(|()| action)
}

fn unknown(text: &At<String>, all: &[At<String>], cx: &mut Cx) {
    let Some(first) = all.first() else {
        cx.error(Diagnostic::new(text.at, "this action is empty").hint("`do: stop c1`, for one"));
        return;
    };
    let verbs = || FORMS.iter().map(|f| f.split(' ').next().unwrap_or_default());
    // If some form begins with this verb, the second word is the wrong one.
    if verbs().any(|v| v == first.value) {
        let forms = || FORMS.iter().filter(|f| f.split(' ').next() == Some(first.value.as_str())).copied();
        let second = |f: &'static str| f.split(' ').nth(1).unwrap_or_default();
        let near = all.get(1).and_then(|w| words::nearest(&w.value, forms().map(second)));
        let hint = match near.and_then(|near| forms().find(|f| second(f) == near)) {
            Some(form) => format!("did you mean `{form}`?"),
            None => words::list(forms()),
        };
        let at = all.get(1).map_or(first.at, |w| w.at);
        let d = Diagnostic::new(at, format!("there is no such form of `{}`", first.value));
        cx.error(d.hint(hint));
        return;
    }
    let d = Diagnostic::new(first.at, format!("there is no action `{}`", first.value));
    let hint = match first.value.as_str() {
        "rm" | "delete" => "did you mean `remove`?".to_owned(),
        "run" => "did you mean `create`, or `exec` for a command?".to_owned(),
        "uncut" | "restore" | "mend" => "did you mean `heal HOST`?".to_owned(),
        word => match words::nearest(word, verbs()) {
            Some(near) => {
                let forms = FORMS.iter().filter(|f| f.split(' ').next() == Some(near));
                format!("did you mean {}?", words::list(forms.copied()))
            }
            None => {
                let verbs = words::list(indexmap::IndexSet::<&str>::from_iter(verbs()));
                format!("actions begin with {verbs}; `labctl do --list` has the form of each")
            }
        },
    };
    cx.error(d.hint(hint));
}

fn address(word: &At<String>, cx: &mut Cx) -> Option<IpAddr> {
    scalar(word, cx).filter(|address| reserved::interface(*address, word, cx))
}

pub(super) fn scalar<T: Scalar>(word: &At<String>, cx: &mut Cx) -> Option<T> {
    match T::read(&word.value) {
        Ok(value) => Some(value),
        Err(bad) => {
            let message =
                bad.message.unwrap_or_else(|| format!("expected {}, found `{}`", T::WHAT, word.value));
            cx.error(Diagnostic::new(word.at, message).maybe_hint(bad.hint));
            None
        }
    }
}

fn route(words: &mut Words, add: bool, scope: &Scope, cx: &mut Cx) -> Option<(String, Route)> {
    let host = words.host(scope, cx)?;
    let to = words.need("a prefix", cx)?;
    let destination: Destination = scalar(&to, cx)?;
    let (mut via, mut dev, mut metric) = (None, None, None);
    while let Some(word) = words.next() {
        match word.value.as_str() {
            "via" if via.is_none() => {
                let hop = words.need("an address", cx)?;
                via = Some(At { value: scalar::<IpAddr>(&hop, cx)?, at: hop.at });
            }
            "dev" if dev.is_none() => dev = Some(words.need("an interface", cx)?),
            "metric" if metric.is_none() => {
                let number = words.need("a number", cx)?;
                metric = Some(At { value: scalar(&number, cx)?, at: number.at });
            }
            other => {
                let d = Diagnostic::new(word.at, format!("`{other}` does not belong here"));
                cx.error(d.hint(format!("`{}`", words.form)));
                return None;
            }
        }
    }
    // `None`: the host is not sound, which is noted already.
    let h = scope.lab.hosts.get(&host)?;
    if !add && via.is_none() && dev.is_none() {
        return Some((
            host,
            Route { to: destination.prefix(None), via: None, dev: None, metric: metric.map(|m| m.value) },
        ));
    }
    let to = At { value: destination, at: to.at };
    let route = raw::Route { at: words.whole, to, via, dev, metric };
    Some((host, hosts::route(&route, &h.nics, &h.interfaces, cx)?))
}

fn interface(words: &mut Words, scope: &Scope, cx: &mut Cx) -> Option<(String, String)> {
    let host = words.host(scope, cx)?;
    let name = words.need("an interface", cx)?;
    let h = scope.lab.hosts.get(&host)?;
    if !h.interfaces.iter().any(|i| i.name == name.value) {
        let known = h.interfaces.iter().map(|i| i.name.as_str());
        let hint = match h.interfaces.len() {
            0 => format!("host `{host}` has no `interfaces`; one for a step is `deferred: true` there"),
            _ => words::known("interface", &name.value, known),
        };
        let d = Diagnostic::new(name.at, format!("host `{host}` has no extra interface `{}`", name.value));
        cx.error(d.hint(hint));
        return None;
    }
    let is_bridge = |i: &Interface| i.name == name.value && i.kind == InterfaceKind::Bridge;
    if h.interfaces.iter().any(is_bridge) {
        let d = Diagnostic::new(name.at, format!("`{}` is a bridge, which stays", name.value));
        cx.error(d.hint("the host's addresses are on it"));
        return None;
    }
    Some((host, name.value))
}

/// `scale SERVICE REPLICAS [within DURATION]`, for a replicated service.
fn scale(words: &mut Words, scope: &Scope, cx: &mut Cx) -> Option<Action> {
    let service = words.service(scope, cx)?;
    let count = words.need("a number of tasks", cx)?;
    let replicas = services::replicas(&At { value: scalar::<u32>(&count, cx)?, at: count.at }, cx);
    services::scalable(&service, count.at, scope.lab, cx).then_some(())?;
    Some(Action::Scale { service, replicas, within: words.within(cx)? })
}

/// `join HOST as worker|manager [advertising SEGMENT|ADDRESS] [with a wrong token|with an old token]`
fn join(words: &mut Words, scope: &Scope, cx: &mut Cx) -> Option<Action> {
    let host = words.node(scope, cx)?;
    let mut rest: Vec<At<String>> = std::iter::from_fn(|| words.next()).collect();
    let mut advertise = None;
    if rest.get(2).is_some_and(|w| w.value == "advertising") && rest.len() > 3 {
        let place: Vec<At<String>> = rest.drain(2..4).skip(1).collect();
        advertise = Some(own_address(&host, place.first()?, scope, cx)?);
    }
    let text: Vec<&str> = rest.iter().map(|w| w.value.as_str()).collect();
    let (role, token) = match text.as_slice() {
        ["as", role @ ("worker" | "manager")] => (*role, Token::Right),
        ["as", role @ ("worker" | "manager"), "with", "a", "wrong", "token"] => (*role, Token::Wrong),
        ["as", role @ ("worker" | "manager"), "with", "an", "old", "token"] => (*role, Token::Old),
        _ => {
            let at = rest.first().map_or(words.whole, |w| w.at);
            let d = Diagnostic::new(at, "this does not say how the host joins");
            cx.error(d.hint(format!("`{}`", words.form)));
            return None;
        }
    };
    let role = if role == "manager" { Role::Manager } else { Role::Worker };
    Some(Action::Join { host, role, token, advertise })
}

/// An address of the host: as written, or that of its NIC on a segment.
fn own_address(host: &str, word: &At<String>, scope: &Scope, cx: &mut Cx) -> Option<IpAddr> {
    let nics = scope.lab.hosts.get(host).map(|h| h.nics.as_slice()).unwrap_or_default();
    let written = word.value.parse::<IpAddr>().ok();
    let of = nics.iter().find_map(|n| match written {
        Some(address) => n.has(address).then_some(address),
        None => (n.segment == word.value).then(|| n.ips().next())?,
    });
    if of.is_none() {
        let d = Diagnostic::new(
            word.at,
            format!("host `{host}` has no address on `{}`, nor that address", word.value),
        );
        cx.error(d.hint(it_is_on(nics.iter().map(|n| n.segment.as_str()), "it has no NIC")));
    }
    of
}

/// `configure docker HOST JSON`: the rest of the text is one JSON object.
fn configure(mut words: Words, text: &At<String>, scope: &Scope, cx: &mut Cx) -> Option<Action> {
    let host = words.host(scope, cx)?;
    let first = words.need("a JSON object", cx)?;
    let offset = split_words(&text.value).nth(words.next - 1).map_or(0, |(r, _)| r.start);
    let json = text.value.get(offset..).unwrap_or_default();
    match serde_json::from_str::<serde_json::Value>(json) {
        Ok(serde_json::Value::Object(daemon_json)) => Some(Action::ConfigureDocker { host, daemon_json }),
        Ok(_) => {
            let at = cx.part(text, offset..text.value.len());
            cx.error(
                Diagnostic::new(at, "daemon.json is an object")
                    .hint("`configure docker HOST {\"mtu\": 1400}`"),
            );
            None
        }
        Err(e) => {
            let at = if json.lines().count() == 1 {
                let from = offset + e.column().saturating_sub(1).min(json.len());
                cx.part(text, from..text.value.len())
            } else {
                first.at
            };
            let why = e.to_string();
            let why = why.split(" at line ").next().unwrap_or("not JSON");
            let d = Diagnostic::new(at, format!("this is no JSON: {why}"));
            cx.error(d.hint("the whole action in single quotes: `'configure docker host1 {\"mtu\": 1400}'`"));
            None
        }
    }
}
