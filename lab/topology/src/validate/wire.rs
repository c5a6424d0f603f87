//! The text forms of actions on the wire.

use super::{
    action::{Words, scalar},
    cells::Scope,
    it_is_on,
};
use crate::scalars::Written;
use labctl_model::{
    step::{Action, Direction, Place},
    traffic::Traffic,
};
use labctl_words as words;
use labctl_yaml::{At, Cx, Diagnostic};

/// `cut HOST [on SEGMENT] [inbound|outbound]`
pub(super) fn cut(words: &mut Words, scope: &Scope, cx: &mut Cx) -> Option<Action> {
    let host = words.host(scope, cx)?;
    let (mut segment, mut direction) = (None, None);
    while let Some(word) = words.next() {
        match word.value.as_str() {
            "on" if segment.is_none() => segment = Some(segment_of(&host, words, scope, cx)?),
            "inbound" if direction.is_none() => direction = Some(Direction::Inbound),
            "outbound" if direction.is_none() => direction = Some(Direction::Outbound),
            _ => return stray(&word, words.form, cx),
        }
    }
    plugged(&host, scope, words, cx)?;
    Some(Action::Cut { host, segment, direction: direction.unwrap_or(Direction::Both) })
}

/// `heal HOST [on SEGMENT]`
pub(super) fn heal(words: &mut Words, scope: &Scope, cx: &mut Cx) -> Option<Action> {
    let host = words.host(scope, cx)?;
    let mut segment = None;
    while let Some(word) = words.next() {
        match word.value.as_str() {
            "on" if segment.is_none() => segment = Some(segment_of(&host, words, scope, cx)?),
            _ => return stray(&word, words.form, cx),
        }
    }
    plugged(&host, scope, words, cx)?;
    Some(Action::Heal { host, segment })
}

/// `block FILTER [on SEGMENT] [from HOST] [to HOST]`
pub(super) fn block(words: &mut Words, scope: &Scope, cx: &mut Cx) -> Option<Action> {
    let Written(filter): Written<Traffic> = scalar(&words.need("what is blocked, as `udp/4789`,", cx)?, cx)?;
    Some(Action::Block { filter, place: place(words, scope, cx)? })
}

/// `unblock FILTER|all [on SEGMENT] [from HOST] [to HOST]`
pub(super) fn unblock(words: &mut Words, scope: &Scope, cx: &mut Cx) -> Option<Action> {
    let word = words.need("what is unblocked, as `udp/4789` or `all`,", cx)?;
    let filter = match word.value.as_str() {
        "all" => None,
        _ => Some(scalar::<Written<Traffic>>(&word, cx)?.0),
    };
    Some(Action::Unblock { filter, place: place(words, scope, cx)? })
}

/// `[on SEGMENT] [from HOST] [to HOST]`, in any order.
fn place(words: &mut Words, scope: &Scope, cx: &mut Cx) -> Option<Place> {
    let mut place = Place::default();
    let mut segment = None;
    while let Some(word) = words.next() {
        match word.value.as_str() {
            "on" if segment.is_none() => segment = Some(known_segment(words, scope, cx)?),
            "from" if place.from.is_none() => place.from = Some(words.host(scope, cx)?),
            "to" if place.to.is_none() => place.to = Some(words.host(scope, cx)?),
            _ => return stray(&word, words.form, cx),
        }
    }
    if let (Some(from), Some(to)) = (&place.from, &place.to)
        && from == to
    {
        let d = Diagnostic::new(words.whole(), format!("what `{from}` sends itself is never on the wire"));
        cx.error(d.hint("`from` and `to` are two hosts"));
        return None;
    }
    for host in [&place.from, &place.to].into_iter().flatten() {
        match &segment {
            Some(segment) => is_on(host, segment, scope, cx)?,
            None => plugged(host, scope, words, cx)?,
        }
    }
    if let (None, Some(from), Some(to)) = (&segment, &place.from, &place.to) {
        let nics = |host: &String| scope.lab.hosts.get(host).map(|h| h.nics.as_slice()).unwrap_or_default();
        if !nics(from).iter().any(|a| nics(to).iter().any(|b| a.segment == b.segment)) {
            let d = Diagnostic::new(words.whole(), format!("`{from}` and `{to}` share no segment"));
            cx.error(d.hint("a frame goes from one to the other on a segment that both are on"));
            return None;
        }
    }
    place.segment = segment.map(|s| s.value);
    Some(place)
}

fn known_segment(words: &mut Words, scope: &Scope, cx: &mut Cx) -> Option<At<String>> {
    let name = words.need("a segment", cx)?;
    if !scope.lab.segments.contains_key(&name.value) {
        if cx.names.contains(&name.value) {
            // It is not sound, which is noted already.
            return None;
        }
        let known = scope.lab.segments.keys().map(String::as_str);
        let d = Diagnostic::new(name.at, format!("there is no segment `{}`", name.value));
        cx.error(d.label("no such segment").hint(words::known("segment", &name.value, known)));
        return None;
    }
    Some(name)
}

/// Reads a segment that this host is on.
fn segment_of(host: &str, words: &mut Words, scope: &Scope, cx: &mut Cx) -> Option<String> {
    let name = known_segment(words, scope, cx)?;
    is_on(host, &name, scope, cx)?;
    Some(name.value)
}

fn is_on(host: &str, segment: &At<String>, scope: &Scope, cx: &mut Cx) -> Option<()> {
    let nics = &scope.lab.hosts.get(host)?.nics;
    if nics.iter().any(|n| n.segment == segment.value) {
        return Some(());
    }
    let d = Diagnostic::new(segment.at, format!("host `{host}` is not on `{}`", segment.value));
    cx.error(d.hint(it_is_on(nics.iter().map(|n| n.segment.as_str()), "it has no NIC")));
    None
}

/// Notes a host without a NIC: there is nothing to cut or to block.
fn plugged(host: &str, scope: &Scope, words: &Words, cx: &mut Cx) -> Option<()> {
    if scope.lab.hosts.get(host).is_some_and(|h| h.nics.is_empty()) {
        let d = Diagnostic::new(words.whole(), format!("host `{host}` has no NIC"));
        cx.error(d.hint("`hosts: { host1: { lan: 192.168.56.3 } }` gives it one on `lan`"));
        return None;
    }
    Some(())
}

fn stray<T>(word: &At<String>, form: &str, cx: &mut Cx) -> Option<T> {
    let d = Diagnostic::new(word.at, format!("`{}` does not belong here", word.value));
    cx.error(d.hint(format!("`{form}`")));
    None
}
