//! Facts, which are read, not probed.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use labctl_model::{
    check::{Fact, Must, Subject},
    lab::Driver,
};
use labctl_yaml::{At, Cx, Diagnostic, Scalar, Span};

use super::{cells::Scope, exec, words};
use crate::raw::{self, FactKind};

/// States of a container in Docker's words, and `absent`.
const STATES: [&str; 8] =
    ["created", "running", "paused", "restarting", "removing", "exited", "dead", "absent"];

/// Notes predicates in a check that is a matrix.
pub(super) fn no_predicate(c: &raw::Check, cx: &mut Cx) {
    let lists = [&c.equals, &c.contains, &c.lacks];
    let first = lists.into_iter().flatten().find_map(|l| l.0.first().map(|w| w.at));
    if let Some(at) =
        first.or(c.inside.as_ref().map(|i| i.at)).or(c.same_as.as_ref().map(|s| s.at)).or(of_exec(c))
    {
        let d = Diagnostic::new(at, "this belongs to a fact, and the check has probes");
        cx.error(d.hint("a fact has a subject, as `addresses: c1`; cells have a `verdict`"));
    }
}

/// Place of a key that only `exec` has.
fn of_exec(c: &raw::Check) -> Option<Span> {
    c.prints.as_ref().map(|p| p.at).or(c.exits.as_ref().map(|e| e.at))
}

pub(super) fn read(c: &raw::Check, scope: &Scope, within: Duration, cx: &mut Cx) -> Option<Fact> {
    let subjects = c.subjects();
    let (&(kind, name), rest) = subjects.split_first()?;
    if let Some((_, second)) = rest.first() {
        let d = Diagnostic::new(second.at, "a fact is about one thing").other(name.at, "the first");
        cx.error(d.hint("make two checks of it"));
        return None;
    }
    let probed = [&c.probe, &c.by, &c.family].into_iter().flatten().next().map(|p| p.at);
    let probed = probed.or(c.timeout.as_ref().map(|t| t.at)).or(c.size.as_ref().map(|s| s.at));
    if let Some(at) = probed {
        let d = Diagnostic::new(at, "a fact is read, not probed");
        cx.error(d.hint(
            "leave `probe`, `size`, `by`, `family` and `timeout` out; `within` says how long it may take",
        ));
    }
    if let (true, Some(at)) = (kind != FactKind::Exec, of_exec(c)) {
        let d = Diagnostic::new(at, "this belongs to `exec`, and the fact is another");
        cx.error(d.hint("`exec: c1 -- COMMAND` runs a command"));
    }
    let known = kind == FactKind::Exec || about(kind, name, scope, cx);
    let must = must(c, kind, name, scope, cx)?;
    let subject = match kind {
        FactKind::Exec => Subject::Exec { command: exec::read(name, 0, scope, cx)?, exits: status(c, cx) },
        FactKind::Interfaces => Subject::Interfaces(name.value.clone()),
        FactKind::Addresses => Subject::Addresses(name.value.clone()),
        FactKind::HostsFile => Subject::Hosts(name.value.clone()),
        FactKind::Networks => Subject::Networks(name.value.clone()),
        FactKind::Subnets => Subject::Subnets(name.value.clone()),
        FactKind::Status => Subject::Status(name.value.clone()),
        FactKind::Nodes => Subject::Nodes(name.value.clone()),
        FactKind::Tasks => Subject::Tasks(name.value.clone()),
        FactKind::NetworkPeers => {
            let (network, host) = name.value.split_once('@').unwrap_or((&name.value, ""));
            Subject::NetworkPeers { network: network.to_owned(), host: host.to_owned() }
        }
        FactKind::Resolves => {
            let (name, from) = name.value.rsplit_once('@').unwrap_or((&name.value, ""));
            Subject::Resolves { name: name.to_owned(), from: from.to_owned() }
        }
    };
    known.then(|| Fact { subject, must, within, line: cx.line(c.at) })
}

/// The exit status that a command must have.
fn status(c: &raw::Check, cx: &mut Cx) -> u8 {
    let Some(exits) = &c.exits else { return 0 };
    u8::try_from(exits.value).unwrap_or_else(|_| {
        cx.error(Diagnostic::new(exits.at, format!("{} is no exit status", exits.value)).hint("0 to 255"));
        0
    })
}

/// Notes a name that a fact of this kind cannot be about.
fn about(kind: FactKind, name: &At<String>, scope: &Scope, cx: &mut Cx) -> bool {
    if scope.names.peers.contains(name.value.as_str()) && kind != FactKind::Subnets {
        let d = Diagnostic::new(name.at, format!("`{}` is a peer, of which nothing is read", name.value));
        cx.error(d.hint("it has no namespace: what it has is what the topology says"));
        return false;
    }
    match kind {
        FactKind::Interfaces | FactKind::Addresses => scope.endpoint(name, cx),
        FactKind::HostsFile => scope.names.container(name, cx) && scope.is_made(name, cx),
        FactKind::Networks | FactKind::Nodes => scope.names.host(name, cx),
        FactKind::Subnets => scope.names.network(name, cx),
        FactKind::Tasks => scope.names.service(name, cx),
        FactKind::Status => scope.names.container(name, cx),
        FactKind::Exec => scope.endpoint(name, cx),
        FactKind::NetworkPeers => overlay_at_host(name, scope, cx),
        FactKind::Resolves => name_at_endpoint(name, scope, cx),
    }
}

/// Reads `NAME@ENDPOINT`: a name, and who looks it up.
fn name_at_endpoint(name: &At<String>, scope: &Scope, cx: &mut Cx) -> bool {
    let Some((looked_up, from)) = name.value.rsplit_once('@').filter(|(name, _)| !name.is_empty()) else {
        let d = Diagnostic::new(name.at, format!("`{}` does not say who looks a name up", name.value));
        cx.error(d.hint("`resolves: NAME@ENDPOINT`"));
        return false;
    };
    let at = cx.part(name, looked_up.len() + 1..name.value.len());
    let from = At { value: from.to_owned(), at };
    if scope.names.peers.contains(from.value.as_str()) {
        let d = Diagnostic::new(at, format!("`{}` is a peer, which has no resolver", from.value));
        cx.error(d.hint("a host or a container looks names up"));
        return false;
    }
    scope.endpoint(&from, cx)
}

/// Reads `NETWORK@HOST`: an overlay and a host.
fn overlay_at_host(name: &At<String>, scope: &Scope, cx: &mut Cx) -> bool {
    let Some((network, host)) = name.value.split_once('@') else {
        let d = Diagnostic::new(name.at, format!("`{}` does not say which host is asked", name.value));
        cx.error(d.hint("`network_peers: NETWORK@HOST`"));
        return false;
    };
    let at = cx.part(name, 0..network.len());
    let known = scope.names.network(&At { value: network.to_owned(), at }, cx);
    if scope.lab.networks.get(network).is_some_and(|n| n.driver != Driver::Overlay) {
        let d = Diagnostic::new(at, format!("network `{network}` is no overlay"));
        cx.error(d.hint("only an overlay has peers"));
        return false;
    }
    let at = cx.part(name, network.len() + 1..name.value.len());
    scope.names.host(&At { value: host.to_owned(), at }, cx) && known
}

fn must(c: &raw::Check, kind: FactKind, name: &At<String>, scope: &Scope, cx: &mut Cx) -> Option<Must> {
    let given = [
        c.equals.is_some(),
        c.contains.is_some(),
        c.lacks.is_some(),
        c.inside.is_some(),
        c.same_as.is_some(),
        c.prints.is_some(),
    ];
    if kind == FactKind::Exec && !given.contains(&true) {
        // The exit status alone is a condition.
        return Some(Must::Print(String::new()));
    }
    if given.iter().filter(|g| **g).count() != 1 {
        let what = if given.contains(&true) { "more than one thing" } else { "nothing" };
        let d = Diagnostic::new(name.at, format!("{what} is said of this fact"));
        cx.error(d.hint(
            "exactly one of `equals`, `contains`, `lacks`, `inside`, `same_as` and, of `exec`, `prints`",
        ));
        return None;
    }
    if let Some(text) = &c.prints {
        return Some(Must::Print(text.value.clone()));
    }
    if let Some(inside) = &c.inside {
        let of_addresses =
            [FactKind::Addresses, FactKind::Subnets, FactKind::NetworkPeers, FactKind::Resolves];
        if !of_addresses.contains(&kind) {
            let d = Diagnostic::new(inside.at, "only addresses and subnets can lie inside one");
            cx.error(d.hint("`equals`, `contains` or `lacks`"));
        }
        return super::segments::prefix(inside, cx).map(Must::Inside);
    }
    if let Some(other) = &c.same_as {
        return about(kind, other, scope, cx).then(|| Must::Same(other.value.clone()));
    }
    let list = [&c.equals, &c.contains, &c.lacks].into_iter().flatten().next()?;
    for word in &list.0 {
        item(kind, word, cx);
    }
    let words: Vec<String> = list.0.iter().map(|w| w.value.clone()).collect();
    Some(if c.equals.is_some() {
        Must::Equal(words)
    } else if words.is_empty() {
        cx.error(
            Diagnostic::new(name.at, "an empty list holds of everything")
                .hint("`equals: []` means none at all"),
        );
        return None;
    } else if c.contains.is_some() {
        Must::Contain(words)
    } else {
        Must::Lack(words)
    })
}

/// Notes a word that a fact of this kind cannot have.
fn item(kind: FactKind, word: &At<String>, cx: &mut Cx) {
    let text = word.value.as_str();
    match kind {
        FactKind::Status if !STATES.contains(&text) => {
            let d = Diagnostic::new(word.at, format!("`{text}` is no state of a container"));
            cx.error(d.hint(words::known("state", text, STATES)));
        }
        FactKind::Addresses | FactKind::NetworkPeers | FactKind::Resolves
            if text.parse::<IpAddr>().is_err() =>
        {
            let d = Diagnostic::new(word.at, format!("`{text}` is no IP address"));
            cx.error(d.hint("addresses are compared without prefix length: `172.17.0.2`"));
        }
        FactKind::Subnets if IpNet::read(text).is_err() => {
            let d = Diagnostic::new(word.at, format!("`{text}` is no subnet"));
            cx.error(d.hint("with its prefix length: `172.18.0.0/16`"));
        }
        _ => {}
    }
}
