//! `expect`: matrices and facts.

use std::time::Duration;

use indexmap::IndexMap;
use labctl_model::{
    check::{Answers, By, Cell, Check, DEFAULT_TIMEOUT, Matrix, NoProbe, Probe, Target},
    family::{Family, OfFamily, Probed},
};
use labctl_words as words;
use labctl_yaml::{At, Cx, Diagnostic, OneOrMany};

use super::{
    answers::{self, Asked},
    cells::{self, Budget, Scope},
    docker, engines, facts, inject, table,
};
use crate::raw::{self, Form};

/// Size of a one-packet probe in bytes: at least headers and nonce (IPv6 has 20 bytes more), at most what a segment can
/// carry.
const PACKETS: std::ops::RangeInclusive<u32> = 48..=9000;
/// Bytes that a TCP probe may send.
const TRANSFERS: std::ops::RangeInclusive<u32> = 1..=16 << 20;

/// Reads checks; `within` is the default of those without their own.
pub(super) fn read(
    checks: &[raw::Check],
    scope: &Scope,
    within: Option<Duration>,
    budget: &mut Budget,
    cx: &mut Cx,
) -> Vec<Check> {
    let mut read = Vec::new();
    for c in checks {
        let check = check(c, scope, within.unwrap_or_default(), budget, cx);
        if let Some(host) = check.as_ref().and_then(|check| docker::missing(check, scope)) {
            let action = scope.undocked.get(host).copied().unwrap_or_default();
            let message = format!("this check needs the dockerd of `{host}`, which is down here");
            let d = Diagnostic::new(c.at, message).label(format!("after `{action} {host}`"));
            cx.error(d.hint(format!(
                "it can never hold: `start docker {host}` before it, or check what other dockerds have, hosts and peers"
            )));
        }
        match check.filter(|_| engines::are_meant(&c.engines, scope.lab)) {
            // Each family is a matrix of its own.
            Some(Check::Matrix(matrix)) if is_both(c) => {
                read.extend(
                    Family::ALL.map(|family| {
                        Check::Matrix(Matrix { family: Probed::Only(family), ..matrix.clone() })
                    }),
                );
            }
            check => read.extend(check),
        }
    }
    read
}

/// Whether a matrix is probed over both address families.
fn is_both(c: &raw::Check) -> bool {
    c.family.as_ref().is_some_and(|f| f.value == "both")
}

/// Reads `family`; `both` is [`is_both`]'s.
fn family(c: &raw::Check, cx: &mut Cx) -> Probed {
    let Some(word) = &c.family else { return Probed::Shared };
    match word.value.as_str() {
        "4" => Probed::Only(Family::V4),
        "6" => Probed::Only(Family::V6),
        "both" => Probed::Shared,
        other => {
            let hint = match other.to_ascii_lowercase().as_str() {
                "ipv4" | "v4" | "inet" => "write `4`",
                "ipv6" | "v6" | "inet6" => "write `6`",
                _ => "`4`, `6` or `both`",
            };
            cx.error(Diagnostic::new(word.at, format!("there is no address family `{other}`")).hint(hint));
            Probed::Shared
        }
    }
}

/// Notes addresses of another family than the one that is probed.
fn of_family(family: Probed, both: bool, cells: &[Cell], c: &raw::Check, cx: &mut Cx) {
    let Some(word) = &c.family else { return };
    let addresses =
        || cells.iter().filter_map(|cell| if let Target::Address(a) = &cell.to { Some(*a) } else { None });
    let stranger = match family {
        _ if both => addresses().next(),
        Probed::Only(family) => addresses().find(|a| a.family() != family),
        Probed::Shared => None,
    };
    if let Some(address) = stranger {
        let d = Diagnostic::new(
            word.at,
            format!("{address} is {}, and nothing else can be probed there", address.family()),
        );
        cx.error(d.hint("a check of its own for addresses of each family"));
    }
}

fn check(c: &raw::Check, scope: &Scope, within: Duration, budget: &mut Budget, cx: &mut Cx) -> Option<Check> {
    let within = c.within.as_ref().map_or(within, |w| w.value);
    let form = match c.forms().as_slice() {
        [form] => *form,
        [] => {
            let d = Diagnostic::new(c.at, "this check says nothing that must hold");
            cx.error(d.hint(
                "give it a `table`, `from`/`to`/`verdict`, `rules`, a fact as `status: c1`, or `inject`",
            ));
            return None;
        }
        _ => {
            let d = Diagnostic::new(c.at, "this check is several at once");
            cx.error(
                d.hint(
                    "a `table`, one rule (`from`, `to`, `verdict`), `rules`, a fact and `inject` are a check each",
                ),
            );
            return None;
        }
    };
    let asked =
        Asked { by: c.answered_by.as_ref(), source: c.source.as_ref(), requests: c.requests.as_ref() };
    if let Form::Frame(frame) = form {
        if let Some(at) = asked.at() {
            let d = Diagnostic::new(at, "a frame is sent, not answered");
            cx.error(d.hint("this belongs to a rule or a table of probes"));
        }
        facts::no_predicate(c, cx);
        no_silence(c, cx);
        return inject::read(c, frame, scope, within, cx).map(Check::Inject);
    }
    inject::none(c, cx);
    if matches!(form, Form::Fact) {
        inject::no_wire(c, cx);
        if let Some(at) = asked.at() {
            let d = Diagnostic::new(at, "a fact is read, not answered");
            cx.error(d.hint("this belongs to a rule or a table of probes"));
        }
        return facts::read(c, scope, within, cx).map(Check::Fact);
    }
    facts::no_predicate(c, cx);
    let matrix = matrix((c, form), asked, scope, within, budget, cx)?;
    inject::beside(matrix, c, scope, cx).map(Check::Matrix)
}

fn matrix(
    (c, form): (&raw::Check, Form),
    asked: Asked,
    scope: &Scope,
    within: Duration,
    budget: &mut Budget,
    cx: &mut Cx,
) -> Option<Matrix> {
    let probe = c.probe.as_ref().map_or(Some(Probe::Icmp), |p| probe(p, cx));
    let by = match c.by.as_ref().map(|b| (b, b.value.as_str())) {
        None | Some((_, "address")) => By::Address,
        Some((_, "name")) => By::Name,
        Some((b, word)) => {
            let hint = words::nearest(word, ["address", "name"]).map(|n| format!("did you mean `{n}`?"));
            let d = Diagnostic::new(b.at, format!("nothing is reached by `{word}`"));
            cx.error(d.hint(hint.unwrap_or_else(|| "`address` or `name`".into())));
            By::Address
        }
    };
    let timeout = c.timeout.as_ref().map_or(DEFAULT_TIMEOUT, |t| t.value);
    no_silence(c, cx);
    let by_name = by == By::Name;
    let how = How { by_name, looks_up: by_name || matches!(probe, Some(Probe::Dns(_))) };
    let mut answers = Vec::new();
    let cells = if let Form::Table(t) = form {
        let all = answers::read(&asked, None, scope, cx);
        let factor = all.as_ref().map_or(1, |a| a.requests);
        answers.extend(all);
        table::read(t, (how, answers.len().checked_sub(1), factor), scope, budget, cx)
    } else if let Form::Rules(list) = form {
        answers::in_a_rule(&asked, cx);
        let rules = list.iter().map(|r| {
            let asked = Asked {
                by: r.answered_by.as_ref(),
                source: r.source.as_ref(),
                requests: r.requests.as_ref(),
            };
            Rule { from: &r.from, to: &r.to, verdict: &r.verdict, asked }
        });
        expand(rules, how, &mut answers, scope, budget, cx)
    } else {
        let (Some(from), Some(to), Some(verdict)) = (&c.from, &c.to, &c.verdict) else {
            let missing =
                [("from", c.from.is_none()), ("to", c.to.is_none()), ("verdict", c.verdict.is_none())];
            let missing = words::list(missing.iter().filter(|(_, m)| *m).map(|(w, _)| *w));
            cx.error(
                Diagnostic::new(c.at, format!("this rule has no {missing}")).hint("a rule has all three"),
            );
            return None;
        };
        expand([Rule { from, to, verdict, asked }].into_iter(), how, &mut answers, scope, budget, cx)
    };
    let size = match (&c.size, &probe) {
        (Some(s), Some(p)) => {
            if matches!(p, Probe::Tcp(_)) {
                no_peers(s, &cells, scope, cx);
            }
            size(s, p, cx)
        }
        _ => None,
    };
    let family = family(c, cx);
    of_family(family, is_both(c), &cells, c, cx);
    let probe = probe?;
    if let (Probe::Dns(_), Some(at)) = (&probe, asked.at()) {
        let d = Diagnostic::new(at, "a look-up is answered by a resolver");
        cx.error(d.hint("whom the name must lead to is the destination: `to: web`"));
    }
    let wire = Vec::new();
    Some(Matrix { probe, size, family, by, timeout, within, cells, answers, wire, line: cx.line(c.at) })
}

/// Notes a timeout of zero.
fn no_silence(c: &raw::Check, cx: &mut Cx) {
    if let Some(t) = c.timeout.as_ref().filter(|t| t.value.is_zero()) {
        cx.error(
            Diagnostic::new(t.at, "no answer comes in no time").hint("a `timeout` is longer than zero: `2s`"),
        );
    }
}

/// Notes peers in a sized TCP probe: a peer only sends its greeting and echoes nothing.
fn no_peers(s: &At<u32>, cells: &[Cell], scope: &Scope, cx: &mut Cx) {
    let ends = cells.iter().flat_map(|c| {
        let to = if let Target::Endpoint { name, .. } = &c.to { Some(name) } else { None };
        [Some(&c.from), to]
    });
    if let Some(peer) = ends.flatten().find(|n| scope.names.peers.contains(n.as_str())) {
        let d = Diagnostic::new(s.at, format!("`{peer}` is a peer, which carries nothing over a connection"));
        cx.error(d.hint("of peers, `icmp` and `udp` have a `size`"));
    }
}

/// Reads the size of a probe.
fn size(s: &At<u32>, probe: &Probe, cx: &mut Cx) -> Option<u32> {
    let (range, hint) = match probe {
        Probe::Icmp | Probe::Udp(_) => {
            (PACKETS, format!("an IP packet of {} to {} bytes", PACKETS.start(), PACKETS.end()))
        }
        Probe::Tcp(_) => {
            (TRANSFERS, format!("{} to {} bytes there and back", TRANSFERS.start(), TRANSFERS.end()))
        }
        Probe::Dns(_) => {
            let d = Diagnostic::new(s.at, "a look-up has no size of its own");
            cx.error(d.hint("`size` is for `icmp`, `tcp` and `udp`"));
            return None;
        }
    };
    if !range.contains(&s.value) {
        cx.error(
            Diagnostic::new(s.at, format!("a size of {} is out of range for `{probe}`", s.value)).hint(hint),
        );
        return None;
    }
    Some(s.value)
}

/// How the destinations of a matrix are found.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub(super) by_name: bool,
    /// Sources need a resolver.
    pub(super) looks_up: bool,
}

struct Rule<'r> {
    from: &'r OneOrMany<At<String>>,
    to: &'r OneOrMany<At<String>>,
    verdict: &'r At<String>,
    asked: Asked<'r>,
}

/// Expands rules to cells. The last rule that names a cell counts. Cells from an endpoint to itself are left out.
fn expand<'r>(
    rules: impl Iterator<Item = Rule<'r>>,
    how: How,
    answers: &mut Vec<Answers>,
    scope: &Scope,
    budget: &mut Budget,
    cx: &mut Cx,
) -> Vec<Cell> {
    let mut cells: IndexMap<(String, Target), Cell> = IndexMap::new();
    for rule in rules {
        let Some(expected) = cells::verdict(rule.verdict, cx) else { continue };
        // Counted before they are made: a few `all` can stand for more cells than fit in memory.
        let count = |names: &[At<String>]| {
            names.iter().fold(0usize, |n, name| n.saturating_add(scope.count(&name.value)))
        };
        let (sources, targets) = (count(&rule.from.0), count(&rule.to.0));
        if sources == 0 || targets == 0 {
            no_cells(&rule, cx);
            continue;
        }
        let asked = answers::read(&rule.asked, Some(expected), scope, cx);
        let requests = asked.as_ref().map_or(1, |a| a.requests as usize);
        if !budget.take(sources.saturating_mul(targets).saturating_mul(requests), rule.verdict.at, cx) {
            continue;
        }
        let mut from: Vec<&str> = Vec::new();
        let mut to: Vec<Target> = Vec::new();
        let mut sound = true;
        for name in &rule.from.0 {
            match scope.group(&name.value) {
                // Of a group, only those with a resolver if one is needed.
                Some(group) => {
                    from.extend(
                        group.into_iter().filter(|n| !how.looks_up || !scope.names.peers.contains(n)),
                    );
                }
                None if scope.source(name, how.looks_up, cx) => from.push(&name.value),
                None => sound = false,
            }
        }
        for name in &rule.to.0 {
            match scope.group(&name.value) {
                Some(group) => {
                    to.extend(group.into_iter().map(|n| Target::Endpoint { name: n.to_owned(), at: None }));
                }
                None => match scope.target(name, how.by_name, cx) {
                    Some(target) => to.push(target),
                    None => sound = false,
                },
            }
        }
        if !sound {
            continue;
        }
        let line = cx.line(rule.verdict.at);
        let asked = asked.map(|a| {
            answers.push(a);
            answers.len() - 1
        });
        let mut any = false;
        for source in &from {
            for target in &to {
                if matches!(target, Target::Endpoint { name, .. } if name == source) {
                    continue;
                }
                any = true;
                let (from, to) = ((*source).to_owned(), target.clone());
                let cell = Cell { from, to, expected, answers: asked, line };
                cells.insert(((*source).to_owned(), target.clone()), cell);
            }
        }
        if !any {
            no_cells(&rule, cx);
        }
    }
    cells.into_values().collect()
}

fn no_cells(rule: &Rule, cx: &mut Cx) {
    let d = Diagnostic::new(rule.verdict.at, "this rule has no cells");
    cx.error(d.hint("`from` and `to` must name something; an endpoint is not probed from itself"));
}

/// `icmp`, `tcp/80`, `udp/53`, `dns/NAME`.
fn probe(p: &At<String>, cx: &mut Cx) -> Option<Probe> {
    let why = match p.value.parse() {
        Ok(probe) => return Some(probe),
        Err(why) => why,
    };
    let (kind, rest) = p.value.split_once('/').unwrap_or((&p.value, ""));
    let (at, hint) = match (&why, kind, words::nearest(kind, ["icmp", "tcp", "udp", "dns"])) {
        (NoProbe::Port(_), ..) => {
            (cx.part(p, p.value.len() - rest.len()..p.value.len()), "1 to 65535".into())
        }
        (NoProbe::Name(_), ..) => (p.at, "`dns/web`, for one".into()),
        (_, "tcp" | "udp", _) => (p.at, format!("with its port: `{kind}/80`")),
        (_, "dns", _) => (p.at, "with the name: `dns/NAME`".into()),
        (_, "ping", _) | (.., Some("icmp")) => (p.at, "did you mean `icmp`?".into()),
        (.., Some("dns")) => (p.at, "did you mean `dns/NAME`?".into()),
        (.., Some(near)) => (p.at, format!("did you mean `{near}/PORT`?")),
        _ => (p.at, "`icmp`, `tcp/PORT`, `udp/PORT` or `dns/NAME`".into()),
    };
    cx.error(Diagnostic::new(at, why.to_string()).hint(hint));
    None
}
