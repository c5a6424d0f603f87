//! Turns what the sender knows and the watchers saw into a verdict and its reason. Pure: no I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use labctl_model::{Cell, Expected, Family, Lab, No, Observed, OfFamily, Probe, Protocol, Target};
use labctl_protocol::{
    messages::{Outcome, ShotResult, Sighting, Taker},
    probe::heard::is_port_unreachable,
};

use crate::{seen::docker_name, shots::Aim, snapshot::Snapshot};

/// The result of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The word.
    pub observed: Observed,
    /// The reason; may be empty.
    pub detail: String,
    /// Round trip in µs.
    pub rtt_us: Option<u64>,
    /// Who answered a `yes`, if known.
    pub by: Option<String>,
    /// The source that the answerer saw.
    pub source: Option<IpAddr>,
}

impl Verdict {
    /// Only a word and its reason.
    pub fn bare(observed: Observed, detail: impl Into<String>) -> Self {
        Self { observed, detail: detail.into(), rtt_us: None, by: None, source: None }
    }

    fn no(no: No, detail: impl Into<String>) -> Self {
        Self::bare(Observed::No(no), detail)
    }

    /// Turns a `no` into `failed` if a receiver that we had to watch was absent: then nothing was tested. A look-up
    /// needs no receiver.
    pub fn unless_absent(self, probe: &Probe, aim: &Aim, absent: &BTreeMap<String, String>) -> Self {
        if !matches!(self.observed, Observed::No(_)) || matches!(probe, Probe::Dns(_)) {
            return self;
        }
        match aim.arrives_at.iter().find_map(|name| absent.get_key_value(name)) {
            Some((name, why)) => {
                Self::bare(Observed::Failed, format!("nobody could listen or watch in {name}: {why}"))
            }
            None => self,
        }
    }
}

/// Judges one cell. `seen` are the sightings of this cell's packets, by every agent.
pub fn judge(
    lab: &Lab,
    probe: &Probe,
    cell: &Cell,
    aim: &Aim,
    snapshot: &Snapshot,
    result: &ShotResult,
    seen: &[&Sighting],
) -> Verdict {
    match &result.outcome {
        Outcome::Answered { rtt_us, by } => {
            let got = receivers(lab, snapshot, seen);
            let verdict = answered(lab, probe, cell, aim, *rtt_us, by.as_ref(), &got, seen);
            // A `yes` where none was expected wants a reason, too.
            let way = || way(lab, cell, snapshot, result.address);
            match (cell.expected, verdict.observed, verdict.detail.is_empty()) {
                (Expected::Yes, ..) | (_, Observed::No(_) | Observed::Failed, _) | (.., false) => verdict,
                (_, Observed::Yes, true) => Verdict { detail: way().unwrap_or_default(), ..verdict },
            }
        }
        Outcome::Resolved { rtt_us } => resolved(lab, probe, cell, snapshot, *rtt_us, result),
        Outcome::Refused { from } => {
            let mut why = refused(lab, cell, snapshot, *from, result.address);
            why.extend(published_on(lab, probe, cell).map(|p| format!("; {p}")));
            Verdict::no(No::Refused, why)
        }
        Outcome::Unreachable { from, icmp_type, icmp_code } => {
            let family = from.or(result.address).map_or(Family::V4, |a| a.family());
            if is_port_unreachable(family, *icmp_type, *icmp_code) {
                return Verdict::no(No::Refused, refused(lab, cell, snapshot, *from, result.address));
            }
            let by = from.map_or(format!("{}'s own kernel", cell.from), |a| who(lab, snapshot, cell, a));
            Verdict::no(No::Unreachable, format!("{by} says {}", icmp_words(family, *icmp_type, *icmp_code)))
        }
        Outcome::NoRoute => Verdict::no(
            No::NoRoute,
            match result.address {
                Some(a) => format!("{} has no route to {a}", cell.from),
                None => format!("{} has no route", cell.from),
            },
        ),
        Outcome::NeighborFailed { next_hop } => {
            let hop = next_hop.or(result.address);
            let (no, asks) = match hop.map_or(Family::V4, |a| a.family()) {
                Family::V4 => (No::Arp, "ARP"),
                Family::V6 => (No::Neighbour, "neighbour discovery"),
            };
            let hop = hop.map_or("the next hop".to_owned(), |a| a.to_string());
            Verdict::no(no, format!("nobody answers {}'s {asks} for {hop}", cell.from))
        }
        Outcome::Silent => silent(lab, aim, cell, snapshot, &receivers(lab, snapshot, seen), seen),
        Outcome::Stalled { rtt_us, back, of } => {
            // Behind a published port or a service, it may be any of several.
            let got = receivers(lab, snapshot, seen);
            let taker = got.iter().find(|g| aim.arrives_at.iter().any(|m| m == *g));
            let with = taker.filter(|t| cell.to.to_string() != **t).map(|t| format!(" with {t}"));
            let with = with.unwrap_or_default();
            let words = format!("connected{with}, but {back} of {of} bytes came back");
            Verdict { rtt_us: Some(*rtt_us), ..Verdict::no(No::Stalled, words) }
        }
        Outcome::NoName { why } => Verdict::no(No::NoName, why),
        Outcome::Failed { why } => Verdict::bare(Observed::Failed, why),
    }
}

#[allow(clippy::too_many_arguments, reason = "all of them are what is known of one cell")]
fn answered(
    lab: &Lab,
    probe: &Probe,
    cell: &Cell,
    aim: &Aim,
    rtt_us: u64,
    by: Option<&Taker>,
    got: &[&str],
    seen: &[&Sighting],
) -> Verdict {
    let yes = |by: Option<&str>, source: Option<IpAddr>, detail: String| Verdict {
        rtt_us: Some(rtt_us),
        by: by.map(str::to_owned),
        source,
        ..Verdict::bare(Observed::Yes, detail)
    };
    let says = by.map(|taker| taker.name.as_str());
    // A proxy opens its own connection to a backend: only the backend knows its source.
    let source_for = |name: &str| match by {
        Some(taker) if taker.name == name => Some(taker.source),
        _ => source_seen(name, seen),
    };
    let Some(meant) = aim.arrives_at.first() else {
        // Nobody in the lab has this address: whoever answers is right, and worth naming.
        let by = says.or(got.first().copied());
        let detail = format!("answered by {}", by.unwrap_or("the stand-in"));
        return yes(by, by.and_then(source_for), detail);
    };
    let is_meant = |name: &&str| aim.arrives_at.iter().any(|m| m == name);
    if let Some(taker) = says.filter(is_meant).or_else(|| got.iter().copied().find(is_meant)) {
        let source = source_for(taker);
        let saw = source.map(|s| format!(", which saw {s} as the source")).unwrap_or_default();
        let obvious = cell.to.to_string() == taker;
        return yes(
            Some(taker),
            source,
            if obvious { String::new() } else { format!("answered by {taker}{saw}") },
        );
    }
    let other = says.or_else(|| somebody_else(lab, aim, got));
    if let (None, Some(door)) = (other, &aim.door) {
        // Its proxy, or a socket that only keeps the port.
        let words = format!("{door} took the connection, and {meant} was not heard of");
        return Verdict { rtt_us: Some(rtt_us), ..Verdict::no(No::Stalled, words) };
    }
    let service = matches!(&cell.to, Target::Endpoint { name, .. } if lab.services.contains_key(name));
    if service && other.is_none() && *probe == Probe::Icmp {
        let why = "answered by the load balancer of its own node, which proves no task: probe tcp or udp";
        return Verdict { rtt_us: Some(rtt_us), ..Verdict::no(No::Misdelivered, why) };
    }
    Verdict {
        rtt_us: Some(rtt_us),
        ..Verdict::no(
            No::Misdelivered,
            match other {
                Some(name) => format!("{name} got it and answered"),
                None => format!(
                    "answered, but never seen at {meant}: by the stand-in, or somebody else on the segment"
                ),
            },
        )
    }
}

/// By which network or segment a destination was reached: `by network back, 172.18.0.3`.
fn way(lab: &Lab, cell: &Cell, snapshot: &Snapshot, address: Option<IpAddr>) -> Option<String> {
    let (Target::Endpoint { name, .. }, Some(address)) = (&cell.to, address) else { return None };
    let addresses = snapshot.addresses(lab, name);
    let (place, _) = addresses.iter().find(|(_, a)| *a == address)?;
    let kind = if lab.segments.contains_key(place) { "segment" } else { "network" };
    Some(format!("by {kind} {place}, {address}"))
}

/// The source that the answerer saw: the routing mesh hides the real one.
fn source_seen(taker: &str, seen: &[&Sighting]) -> Option<IpAddr> {
    seen.iter().find(|s| s.endpoint == taker && s.inbound && s.local && !s.answer).map(|s| s.source)
}

fn resolved(
    lab: &Lab,
    probe: &Probe,
    cell: &Cell,
    snapshot: &Snapshot,
    rtt_us: u64,
    result: &ShotResult,
) -> Verdict {
    let list = result.resolved.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    let right = match &cell.to {
        Target::Address(a) => result.resolved.contains(a),
        Target::Endpoint { name, at } if asks_for_tasks(snapshot, probe, name) => {
            // All tasks and nothing else, on one network, in the family that was asked for.
            let mut tasks = snapshot.task_addresses(lab, name);
            let asked = result.resolved.first().map(|a| a.family());
            tasks.retain(|(_, a)| Some(a.family()) == asked);
            let place = at.as_deref().map(|at| docker_name(lab, at)).or_else(|| {
                tasks.iter().find(|(_, a)| result.resolved.contains(a)).map(|(place, _)| place.as_str())
            });
            let on: BTreeSet<IpAddr> =
                tasks.iter().filter(|(p, _)| Some(p.as_str()) == place).map(|(_, a)| *a).collect();
            !on.is_empty() && on == result.resolved.iter().copied().collect()
        }
        Target::Endpoint { name, at } => snapshot.addresses(lab, name).iter().any(|(place, a)| {
            let there = |at: &String| at == place || docker_name(lab, at) == place;
            at.as_ref().is_none_or(there) && result.resolved.contains(a)
        }),
    };
    if right {
        return Verdict { rtt_us: Some(rtt_us), ..Verdict::bare(Observed::Yes, list) };
    }
    let Probe::Dns(name) = probe else { return Verdict::no(No::NoName, list) };
    Verdict::no(No::Misdelivered, format!("{name} resolves to {list}, which is not {}", cell.to))
}

/// Whether a look-up asks for a service's tasks rather than its virtual address.
fn asks_for_tasks(snapshot: &Snapshot, probe: &Probe, service: &str) -> bool {
    let Some(s) = snapshot.services.get(service) else { return false };
    let Probe::Dns(name) = probe else { return false };
    s.dnsrr || name.strip_prefix("tasks.").is_some_and(|rest| rest == service)
}

/// Finds who wrongly got a request. The host whose published port was probed, and those that share its namespace, are on
/// the way and do not count.
fn somebody_else<'a>(lab: &Lab, aim: &Aim, got: &[&'a str]) -> Option<&'a str> {
    let passes_on = |name: &str| aim.door.is_some() && lab.namespace_of(name) == aim.door.as_deref();
    got.iter().copied().find(|name| !passes_on(name))
}

fn silent(
    lab: &Lab,
    aim: &Aim,
    cell: &Cell,
    snapshot: &Snapshot,
    got: &[&str],
    seen: &[&Sighting],
) -> Verdict {
    let place = |s: &Sighting| place(snapshot, s);
    if !aim.arrives_at.is_empty() {
        if aim.arrives_at.iter().any(|m| got.contains(&m.as_str())) {
            let answer = seen.iter().rev().find(|s| s.answer);
            let detail = match answer {
                Some(s) => format!("the request arrived; the answer was last seen {}", place(s)),
                None => "the request arrived; no answer was seen".to_owned(),
            };
            return Verdict::no(No::Asymmetric, detail);
        }
        if let Some(other) = somebody_else(lab, aim, got) {
            return Verdict::no(No::Misdelivered, format!("{other} got it and did not answer"));
        }
    }
    match farthest(cell, seen) {
        Some(s) => Verdict::no(No::Silent, format!("last seen {}", place(s))),
        None => Verdict::no(No::Silent, format!("never seen to leave {}", cell.from)),
    }
}

/// Endpoints that got the request: it came in for an address of theirs, or its answer left from one. An ipvlan in l3s
/// mode delivers a packet past the point where packet sockets see it, so there the answer is the only trace (Linux,
/// drivers/net/ipvlan/ipvlan_l3s.c).
fn receivers<'a>(lab: &Lab, snapshot: &Snapshot, seen: &[&'a Sighting]) -> Vec<&'a str> {
    let owns = |s: &Sighting| snapshot.addresses(lab, &s.endpoint).iter().any(|(_, a)| *a == s.source);
    let got = |s: &&&Sighting| if s.answer { !s.inbound && owns(s) } else { s.inbound && s.local };
    let mut names: Vec<&str> = seen.iter().filter(got).map(|s| s.endpoint.as_str()).collect();
    names.dedup();
    names
}

/// The sighting of the request farthest on its way: one outside the source if any, else the last within it.
fn farthest<'a>(cell: &Cell, seen: &[&'a Sighting]) -> Option<&'a Sighting> {
    let requests = || seen.iter().filter(|s| !s.answer);
    let left = |s: &&&Sighting| s.endpoint != cell.from;
    requests().rfind(left).or_else(|| requests().next_back()).copied()
}

/// Where a packet was seen; Docker's own names of bridges say nothing, so their networks do.
fn place(snapshot: &Snapshot, s: &Sighting) -> String {
    let verb = if s.inbound { "entering" } else { "leaving" };
    let of = snapshot.network_of_bridge(&s.interface).map(|n| format!(" (network {n})")).unwrap_or_default();
    format!("{verb} {}/{}{of}", s.endpoint, s.interface)
}

fn refused(
    lab: &Lab,
    cell: &Cell,
    snapshot: &Snapshot,
    from: Option<IpAddr>,
    address: Option<IpAddr>,
) -> String {
    match from.or(address) {
        Some(a) => format!("refused by {}", who(lab, snapshot, cell, a)),
        None => "refused".to_owned(),
    }
}

/// For a refused port of a host: who publishes it there on another address, if anybody does.
fn published_on(lab: &Lab, probe: &Probe, cell: &Cell) -> Option<String> {
    let (port, protocol) = match probe {
        Probe::Tcp(port) => (*port, Protocol::Tcp),
        Probe::Udp(port) => (*port, Protocol::Udp),
        Probe::Icmp | Probe::Dns(_) => return None,
    };
    let Target::Endpoint { name: host, .. } = &cell.to else { return None };
    let here = lab.containers.iter().filter(|(_, c)| c.host == *host);
    here.flat_map(|(name, c)| c.ports.iter().map(move |p| (name, p)))
        .filter(|(_, p)| p.published == Some(port) && p.protocol == protocol)
        .find_map(|(name, p)| Some(format!("{name} publishes it there on {} alone", p.host_ip?)))
}

/// An address with its owner's name, if it has one.
fn who(lab: &Lab, snapshot: &Snapshot, cell: &Cell, address: IpAddr) -> String {
    if let Target::Endpoint { name, .. } = &cell.to
        && snapshot.addresses(lab, name).iter().any(|(_, a)| *a == address)
    {
        return format!("{name} ({address})");
    }
    match snapshot.owner(lab, address) {
        Some(name) => format!("{name} ({address})"),
        None => address.to_string(),
    }
}

/// Destination unreachable, too big and time exceeded, in words (RFC 792, RFC 1122 section 3.2.2.1, RFC 1812; RFC 4443).
fn icmp_words(family: Family, icmp_type: u8, code: u8) -> String {
    let words = match (family, icmp_type, code) {
        (Family::V4, 3, 0) => "network unreachable",
        (Family::V4, 3, 1) => "host unreachable",
        (Family::V4, 3, 2) | (Family::V6, 4, 1) => "protocol unreachable",
        (Family::V4, 3, 3) | (Family::V6, 1, 4) => "port unreachable",
        (Family::V4, 3, 4) => "fragmentation needed",
        (Family::V4, 3, 9 | 10 | 13) | (Family::V6, 1, 1 | 5) => "administratively prohibited",
        (Family::V6, 1, 0) => "no route",
        (Family::V6, 1, 3) => "address unreachable",
        (Family::V6, 1, 6) => "route rejected",
        (Family::V4, 3, _) | (Family::V6, 1, _) => "destination unreachable",
        (Family::V6, 2, _) => "packet too big",
        (Family::V4, 11, _) | (Family::V6, 3, _) => "time exceeded",
        (Family::V4, ..) => return format!("ICMP type {icmp_type} code {code}"),
        (Family::V6, ..) => return format!("ICMPv6 type {icmp_type} code {code}"),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
        [a, b, c, d].into()
    }

    const LAB: &str = "
name: t
segments: { lan: { subnet: 10.0.0.0/24, gateway: 10.0.0.254 } }
hosts: { a: { lan: 10.0.0.1 }, b: { lan: 10.0.0.2 }, c: { lan: 10.0.0.3 } }
";

    fn lab() -> Lab {
        labctl_topology::parse(LAB, "t.yaml").unwrap()
    }

    fn cell(to: Target) -> Cell {
        Cell { from: "a".into(), to, expected: Expected::Yes, answers: None, line: 1 }
    }

    fn host(name: &str) -> Target {
        Target::Endpoint { name: name.into(), at: None }
    }

    fn shot(outcome: Outcome) -> ShotResult {
        let address = Some(ip(10, 0, 0, 2));
        ShotResult { cell: 0, address, resolved: Vec::new(), source_port: None, outcome }
    }

    fn sighting(endpoint: &str, inbound: bool, local: bool, answer: bool) -> Sighting {
        Sighting {
            endpoint: endpoint.into(),
            interface: "eth0".into(),
            inbound,
            local,
            answer,
            cell: Some(0),
            tcp: None,
            source: ip(10, 0, 0, 1),
            destination: ip(10, 0, 0, 2),
        }
    }

    /// Judges a cell from a to b with these sightings.
    fn verdict(outcome: Outcome, seen: &[Sighting]) -> (Observed, String) {
        let v = judged(&Probe::Icmp, &aim_at("b"), outcome, seen);
        (v.observed, v.detail)
    }

    fn judged(probe: &Probe, aim: &Aim, outcome: Outcome, seen: &[Sighting]) -> Verdict {
        let seen: Vec<&Sighting> = seen.iter().collect();
        judge(&lab(), probe, &cell(host("b")), aim, &Snapshot::default(), &shot(outcome), &seen)
    }

    fn aim_at(name: &str) -> Aim {
        Aim { arrives_at: vec![name.into()], shots: vec![0], ..Aim::default() }
    }

    const ANSWERED: Outcome = Outcome::Answered { rtt_us: 5, by: None };

    #[test]
    fn an_answer_counts_only_if_the_right_one_got_the_request() {
        assert_eq!(verdict(ANSWERED, &[sighting("b", true, true, false)]).0, Observed::Yes);
        let (observed, detail) = verdict(ANSWERED, &[sighting("c", true, true, false)]);
        assert_eq!(observed, Observed::No(No::Misdelivered));
        assert!(detail.starts_with("c got it"), "{detail}");
        // Passing through a host is not getting it.
        let (observed, _) = verdict(ANSWERED, &[sighting("c", true, false, false)]);
        assert_eq!(observed, Observed::No(No::Misdelivered));
    }

    #[test]
    fn a_listener_that_names_itself_is_believed() {
        assert_eq!(verdict(answered_by("b"), &[]).0, Observed::Yes);
        assert_eq!(verdict(answered_by("c"), &[]).0, Observed::No(No::Misdelivered));
    }

    fn answered_by(name: &str) -> Outcome {
        let source = ip(172, 30, 1, 1);
        Outcome::Answered { rtt_us: 5, by: Some(Taker { name: name.into(), source }) }
    }

    #[test]
    fn the_source_is_whom_the_listener_says_it_saw() {
        let seen = [sighting("b", true, true, false)];
        let source = |outcome| judged(&Probe::Tcp(80), &aim_at("b"), outcome, &seen).source.unwrap();
        assert_eq!(source(answered_by("b")), ip(172, 30, 1, 1), "a proxy's");
        assert_eq!(source(ANSWERED), ip(10, 0, 0, 1), "a real service says nothing");
    }

    #[test]
    fn the_host_of_a_published_port_is_nobody_else() {
        let aim = Aim { door: Some("b".into()), ..aim_at("web") };
        let at = |name: &str| sighting(name, true, true, false);
        let of = |outcome, seen: &[Sighting]| {
            let v = judged(&Probe::Tcp(80), &aim, outcome, seen);
            (v.observed, v.detail)
        };
        let dropped = (Observed::No(No::Silent), "last seen entering b/eth0".to_owned());
        assert_eq!(of(Outcome::Silent, &[at("b")]), dropped);
        assert_eq!(of(Outcome::Silent, &[at("c"), at("b")]).0, Observed::No(No::Misdelivered));
        assert_eq!(of(Outcome::Silent, &[at("b"), at("web")]).0, Observed::No(No::Asymmetric));
        assert_eq!(of(answered_by("web"), &[at("b")]).0, Observed::Yes);
        assert_eq!(of(answered_by("c"), &[at("b")]).0, Observed::No(No::Misdelivered));
        // Docker's proxy takes a connection before it has one of its own.
        assert_eq!(of(ANSWERED, &[at("b")]).0, Observed::No(No::Stalled));
    }

    #[test]
    fn silence_is_told_apart_by_where_the_request_was_seen() {
        let left = sighting("a", false, false, false);
        assert_eq!(
            verdict(Outcome::Silent, std::slice::from_ref(&left)),
            (Observed::No(No::Silent), "last seen leaving a/eth0".into())
        );
        let arrived = sighting("b", true, true, false);
        let answered = sighting("b", false, false, true);
        let (observed, detail) = verdict(Outcome::Silent, &[left.clone(), arrived, answered]);
        assert_eq!(observed, Observed::No(No::Asymmetric));
        assert!(detail.contains("leaving b/eth0"), "{detail}");
        let (observed, _) = verdict(Outcome::Silent, &[left, sighting("c", true, true, false)]);
        assert_eq!(observed, Observed::No(No::Misdelivered));
        assert_eq!(verdict(Outcome::Silent, &[]).1, "never seen to leave a");
    }

    #[test]
    fn a_port_unreachable_is_a_refusal_and_others_say_who() {
        let from = Some(ip(10, 0, 0, 2));
        let icmp = |icmp_code| Outcome::Unreachable { from, icmp_type: 3, icmp_code };
        assert_eq!(verdict(icmp(3), &[]).0, Observed::No(No::Refused));
        assert_eq!(
            verdict(icmp(1), &[]),
            (Observed::No(No::Unreachable), "b (10.0.0.2) says host unreachable".into())
        );
    }

    #[test]
    fn a_name_that_resolves_to_another_is_misdelivered() {
        let result = ShotResult { resolved: vec![ip(10, 0, 0, 3)], ..shot(Outcome::Resolved { rtt_us: 1 }) };
        let aim = aim_at("b");
        let probe = Probe::Dns("b".into());
        let to =
            |name: &str| judge(&lab(), &probe, &cell(host(name)), &aim, &Snapshot::default(), &result, &[]);
        assert_eq!(to("b").observed, Observed::No(No::Misdelivered));
        assert_eq!(to("c").observed, Observed::Yes);
    }

    #[test]
    fn a_yes_that_nobody_expected_says_by_which_way() {
        let result = ShotResult { address: Some(ip(10, 0, 0, 2)), ..shot(ANSWERED) };
        let seen = [sighting("b", true, true, false)];
        let seen: Vec<&Sighting> = seen.iter().collect();
        let to = |expected| {
            let cell = Cell { expected, ..cell(host("b")) };
            judge(&lab(), &Probe::Icmp, &cell, &aim_at("b"), &Snapshot::default(), &result, &seen).detail
        };
        assert_eq!(to(Expected::No), "by segment lan, 10.0.0.2");
        assert_eq!(to(Expected::Yes), "");
    }

    #[test]
    fn a_bridge_with_a_name_of_dockers_is_told_by_its_network() {
        let state = crate::seen::ContainerState {
            network_ids: vec![("back".into(), "dbd5c0ffee001234567890".into())],
            ..Default::default()
        };
        let snapshot = Snapshot { containers: BTreeMap::from([("c1".into(), state)]), ..Snapshot::default() };
        let at = |interface: &str| {
            place(&snapshot, &Sighting { interface: interface.into(), ..sighting("a", true, false, false) })
        };
        assert_eq!(at("br-dbd5c0ffee00"), "entering a/br-dbd5c0ffee00 (network back)");
        assert_eq!(
            (at("br-000000000000"), at("eth0")),
            ("entering a/br-000000000000".into(), "entering a/eth0".into())
        );
    }

    #[test]
    fn a_refused_port_says_where_it_is_published_instead() {
        let text = LAB.to_owned() + "containers: { web: { host: b, ports: [ \"127.0.0.1:80:8080\" ] } }\n";
        let lab = labctl_topology::parse(&text, "t.yaml").unwrap();
        let of = |probe: Probe| published_on(&lab, &probe, &cell(host("b")));
        assert_eq!(of(Probe::Tcp(80)).unwrap(), "web publishes it there on 127.0.0.1 alone");
        assert_eq!((of(Probe::Tcp(81)), of(Probe::Udp(80))), (None, None));
    }

    #[test]
    fn a_probe_that_could_not_be_made_is_no_verdict_on_the_network() {
        let (observed, _) = verdict(Outcome::Failed { why: "no such namespace".into() }, &[]);
        assert_eq!(observed, Observed::Failed);
        assert!(!observed.meets(Expected::No) && !observed.meets(Expected::Yes));
    }

    #[test]
    fn an_answer_and_a_look_up_need_nobody_to_watch() {
        let aim = aim_at("b");
        let absent = BTreeMap::from([("b".to_owned(), "it ended".to_owned())]);
        let observed = |observed: Observed, probe: &Probe| {
            Verdict::bare(observed, "").unless_absent(probe, &aim, &absent).observed
        };
        let no_name = Observed::No(No::NoName);
        assert_eq!(observed(Observed::Yes, &Probe::Icmp), Observed::Yes);
        assert_eq!(observed(no_name, &Probe::Dns("b".into())), no_name);
        assert_eq!(observed(no_name, &Probe::Icmp), Observed::Failed, "nothing was sent");
    }
}
