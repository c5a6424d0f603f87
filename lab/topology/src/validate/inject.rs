//! `inject`, `on_wire` and `not_on_wire`: frames, and the names in them.

use std::time::Duration;

use labctl_model::{
    check::Matrix,
    draft::{Draft, DraftError, Name},
    family::Family,
    host::Nic,
    inject::{Inject, OnWire, Source, WIRE},
    lab::{Driver, Lab},
};
use labctl_yaml::{At, Cx, Diagnostic, OneOrMany};

use super::{cells::Scope, words};
use crate::raw;

/// Most frames that one check may send.
const MOST_FRAMES: u32 = 100_000;
/// Most frames a second: more is for tools that measure.
const HIGHEST_RATE: u32 = 10_000;
/// Frames per second, unless the topology says otherwise.
const DEFAULT_RATE: u32 = 1_000;
/// Longest time that sending may take, in s.
const LONGEST: u32 = 60;

pub(super) fn read(
    c: &raw::Check,
    frame: &At<String>,
    scope: &Scope,
    within: Duration,
    cx: &mut Cx,
) -> Option<Inject> {
    let stray = [&c.probe, &c.by, &c.verdict, &c.family].into_iter().flatten().next().map(|s| s.at);
    if let Some(at) = stray.or(c.to.as_ref().and_then(|to| to.0.first()).map(|t| t.at)) {
        let d = Diagnostic::new(at, "a frame is sent as it is, not probed with");
        cx.error(d.hint("who must get it is said by `received_by` and `not_received_by`"));
        return None;
    }
    let from = source(c, scope, cx);
    let template = template(frame, Draft::frame, scope, cx);
    let (received_by, not_received_by) =
        (names(&c.received_by, scope, cx), names(&c.not_received_by, scope, cx));
    let wire = on_wire(c, scope, cx);
    let (count, rate) = (count(&c.count, "count", MOST_FRAMES, cx), count(&c.rate, "rate", HIGHEST_RATE, cx));
    let (received_by, not_received_by, wire) = (received_by?, not_received_by?, wire?);
    if received_by.is_empty() && not_received_by.is_empty() && wire.is_empty() {
        let d = Diagnostic::new(frame.at, "nothing is said of what becomes of this frame");
        cx.error(d.hint("`received_by: c2`, `not_received_by`, or `on_wire` and `not_on_wire`"));
        return None;
    }
    if let Some(both) = c.not_received_by.iter().flat_map(|l| &l.0).find(|n| received_by.contains(&n.value)) {
        let d = Diagnostic::new(both.at, format!("`{}` both must and must not receive it", both.value));
        cx.error(d.hint("one of the two"));
    }
    let (count, rate) = (count?.unwrap_or(1), rate?.unwrap_or(DEFAULT_RATE));
    if count / rate > LONGEST {
        let d = Diagnostic::new(frame.at, format!("{count} frames at {rate} a second take too long"));
        cx.error(d.hint(format!("at most {LONGEST} s: fewer, or faster")));
    }
    Some(Inject {
        from: from?,
        frame: template?,
        count,
        rate,
        received_by,
        not_received_by,
        timeout: c.timeout.as_ref().map_or(labctl_model::check::DEFAULT_TIMEOUT, |t| t.value),
        within,
        wire,
        line: cx.line(c.at),
    })
}

/// Notes keys of frames in a check that sends none.
pub(super) fn none(c: &raw::Check, cx: &mut Cx) {
    let lists = [&c.received_by, &c.not_received_by].into_iter().flatten();
    let first = lists.filter_map(|l| l.0.first()).map(|n| n.at).next();
    let numbers = [&c.count, &c.rate].into_iter().flatten().map(|n| n.at).next();
    if let Some(at) = first.or(numbers) {
        let d = Diagnostic::new(at, "this belongs to a frame, and the check sends none");
        cx.error(d.hint("`inject: 'eth/…'` says which, and `from` where it is sent"));
    }
}

/// Notes expectations on the wire in a check that sends nothing.
pub(super) fn no_wire(c: &raw::Check, cx: &mut Cx) {
    let first = [&c.on_wire, &c.not_on_wire].into_iter().flatten().filter_map(|m| m.0.first()).next();
    if let Some((segment, _)) = first {
        let d = Diagnostic::new(segment.at, "a fact is read: nothing passes the wire for it");
        cx.error(d.hint("beside probes or `inject`, the wire is watched for as long as they take"));
    }
}

/// Adds a check's expectations on the wire to its matrix.
pub(super) fn beside(matrix: Matrix, c: &raw::Check, scope: &Scope, cx: &mut Cx) -> Option<Matrix> {
    Some(Matrix { wire: on_wire(c, scope, cx)?, ..matrix })
}

fn on_wire(c: &raw::Check, scope: &Scope, cx: &mut Cx) -> Option<Vec<OnWire>> {
    let mut all = Vec::new();
    let mut sound = true;
    for (map, must) in [(&c.on_wire, true), (&c.not_on_wire, false)] {
        for (segment, filters) in map.iter().flat_map(|m| &m.0) {
            sound &= known_segment(segment, segment.value.as_str(), scope, cx);
            for filter in filters.iter().flat_map(|f: &OneOrMany<At<String>>| &f.0) {
                match template(filter, Draft::filter, scope, cx) {
                    Some(template) => all.push(OnWire {
                        segment: segment.value.clone(),
                        filter: template,
                        must,
                        line: cx.line(filter.at),
                    }),
                    None => sound = false,
                }
            }
            sound &= filters.is_some();
        }
    }
    sound.then_some(all)
}

fn known_segment(at: &At<String>, segment: &str, scope: &Scope, cx: &mut Cx) -> bool {
    let known = scope.lab.segments.contains_key(segment);
    // A segment that is not sound is noted already.
    if !known && !cx.names.contains(segment) {
        let start = at.value.len() - segment.len();
        let span = cx.part(at, start..at.value.len());
        let d = Diagnostic::new(span, format!("there is no segment `{segment}`")).label("no such segment");
        cx.error(d.hint(words::known("segment", segment, scope.lab.segments.keys().map(String::as_str))));
    }
    known
}

/// Reads `from`, which must be one place.
fn source(c: &raw::Check, scope: &Scope, cx: &mut Cx) -> Option<Source> {
    let [from] = c.from.as_ref().map(|f| f.0.as_slice()).unwrap_or_default() else {
        let d = Diagnostic::new(c.at, "a frame is sent from one place");
        cx.error(d.hint("`from: c1`, `from: host1:eth1`, or `from: wire:lan` for the wire itself"));
        return None;
    };
    let source = Source::parse(&from.value);
    match &source {
        Source::Wire(segment) => known_segment(from, segment, scope, cx).then_some(source),
        Source::Endpoint { name, .. } => {
            let name = At { value: name.clone(), at: cx.part(from, 0..name.len()) };
            if scope.lab.segments.contains_key(&name.value) && !scope.names.is_endpoint(&name.value) {
                let d = Diagnostic::new(name.at, format!("there is no host or container `{}`", name.value));
                cx.error(d.hint(format!("the wire of that segment is `{WIRE}{}`", name.value)));
                return None;
            }
            scope.endpoint(&name, cx).then_some(source)
        }
    }
}

fn names(list: &Option<OneOrMany<At<String>>>, scope: &Scope, cx: &mut Cx) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut sound = true;
    for name in list.iter().flat_map(|l| &l.0) {
        sound &= scope.endpoint(name, cx);
        all.push(name.value.clone());
    }
    sound.then_some(all)
}

/// Reads a number of frames. The outer `None`: a mistake was noted.
fn count(number: &Option<At<u32>>, what: &str, most: u32, cx: &mut Cx) -> Option<Option<u32>> {
    match number {
        Some(n) if n.value == 0 || n.value > most => {
            let d = Diagnostic::new(n.at, format!("a `{what}` of {} cannot be", n.value));
            cx.error(d.hint(format!("1 to {most}")));
            None
        }
        Some(n) => Some(Some(n.value)),
        None => Some(None),
    }
}

/// Reads a template, whose names must be names of the lab.
fn template(
    text: &At<String>,
    read: impl FnOnce(&str) -> Result<Draft, DraftError>,
    scope: &Scope,
    cx: &mut Cx,
) -> Option<Draft> {
    let template = match read(&text.value) {
        Ok(template) => template,
        Err(error) => {
            let at = cx.part(text, error.at);
            cx.error(Diagnostic::new(at, error.message).maybe_hint(error.hint));
            return None;
        }
    };
    let mut sound = true;
    for (range, name) in template.names().unwrap_or_default() {
        let layer = template.ip_layer_of(range.start);
        let at = cx.part(text, range);
        let named = |value: &String| At { value: value.clone(), at };
        sound &= match &name {
            Name::Vni(network) => {
                scope.names.network(&named(network), cx) && is_overlay(network, &named(network), scope, cx)
            }
            Name::Vtep(host) => scope.names.host(&named(host), cx) && is_node(&named(host), scope.lab, cx),
            Name::Mac { endpoint, at: place } | Name::Ip { endpoint, at: place, .. } => {
                let known = scope.endpoint(&named(endpoint), cx);
                known
                    && place.as_ref().is_none_or(|place| scope.has_address(endpoint, &named(place), cx))
                    && is_of_family(&name, layer, &named(endpoint), scope.lab, cx)
            }
        };
    }
    sound.then_some(template)
}

/// Whether a host or a peer has an address of the family that a name asks for. What Docker gives is not known yet.
fn is_of_family(name: &Name, layer: Option<Family>, at: &At<String>, lab: &Lab, cx: &mut Cx) -> bool {
    let Name::Ip { endpoint, at: place, family: Some(family) } = name else { return true };
    let nics = match (lab.hosts.get(endpoint), lab.peers.get(endpoint)) {
        (Some(host), _) => host.nics.as_slice(),
        (None, Some(peer)) => std::slice::from_ref(&peer.nic),
        (None, None) => return true,
    };
    let here = |nic: &&Nic| place.as_ref().is_none_or(|place| nic.segment == *place);
    let has = nics.iter().filter(here).any(|nic| nic.addresses.has(*family));
    if !has {
        let place = place.as_ref().map(|place| format!(" on `{place}`")).unwrap_or_default();
        let d = Diagnostic::new(at.at, format!("`{endpoint}` has no {family} address{place}"));
        // ARP has no other family, and a filter sends nothing.
        let other = match layer {
            Some(Family::V4) => "; or send by the other: `ip6`",
            Some(Family::V6) => "; or send by the other: `ip`",
            _ => "",
        };
        cx.error(
            d.hint(format!("a NIC may have one of each family: `lan: [192.168.56.3, fd00:56::3]`{other}")),
        );
    }
    has
}

fn is_overlay(network: &str, at: &At<String>, scope: &Scope, cx: &mut Cx) -> bool {
    let overlay = scope.lab.networks.get(network).is_none_or(|n| n.driver == Driver::Overlay);
    if !overlay {
        let d = Diagnostic::new(at.at, format!("network `{network}` has no VNI"));
        cx.error(d.hint("only an overlay has one: `driver: overlay`"));
    }
    overlay
}

fn is_node(host: &At<String>, lab: &Lab, cx: &mut Cx) -> bool {
    let node = lab.swarm.as_ref().is_some_and(|s| s.nodes.contains_key(&host.value));
    if !node {
        let d = Diagnostic::new(host.at, format!("host `{}` has no VTEP", host.value));
        cx.error(d.hint("only a node of a `swarm` has one; a host's address is `${ip:HOST}`"));
    }
    node
}
