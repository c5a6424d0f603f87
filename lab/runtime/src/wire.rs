//! Changes a lab's wire for actions, reports what is changed, and explains cells by what the wire dropped.

use std::collections::BTreeSet;

use labctl_model::{Direction, Lab, No, Observed, Place, Traffic};
use labctl_report::{Cause, CellReport};
use labctl_wire::{Block, Capture, CaptureSpec, DropReason, LinkState, Stats, WireError};

use crate::{
    Error,
    filters::{Changes, Way, port_name},
    nics::{self, Flush},
    view::View,
};

/// A host's ports with their segments; only those on segment `on`, if given.
fn ports(view: &View<'_>, host: &str, on: Option<&str>) -> Result<Vec<(String, String)>, Error> {
    let nics = &view.named("host", &view.lab.hosts, host)?.nics;
    let there = nics.iter().filter(|n| on.is_none_or(|segment| n.segment == segment));
    Ok(there.map(|n| (n.segment.clone(), port_name(host, &n.name))).collect())
}

/// Cuts a host's links, in addition to earlier cuts.
pub(crate) async fn cut(
    view: &View<'_>,
    host: &str,
    on: Option<&str>,
    direction: Direction,
) -> Result<(), Error> {
    let cut = |now: LinkState| LinkState {
        from_host: now.from_host && direction == Direction::Inbound,
        to_host: now.to_host && direction == Direction::Outbound,
    };
    if let Some(filters) = &view.filters {
        return filters.set_links(view, &ports(view, host, on)?, cut).await;
    }
    let wire = view.wire()?;
    let stats = wire.stats().await.map_err(failed)?;
    for (_, port) in ports(view, host, on)? {
        let state = cut(stats.ports.get(&port).map_or(LinkState::UP, |p| p.link));
        wire.set_link(&port, state).await.map_err(failed)?;
    }
    Ok(())
}

/// Heals a host's cut links.
pub(crate) async fn heal(view: &View<'_>, host: &str, on: Option<&str>) -> Result<(), Error> {
    if let Some(filters) = &view.filters {
        return filters.set_links(view, &ports(view, host, on)?, |_| LinkState::UP).await;
    }
    for (_, port) in ports(view, host, on)? {
        view.wire()?.set_link(&port, LinkState::UP).await.map_err(failed)?;
    }
    Ok(())
}

/// Begins to drop frames that match.
pub(crate) async fn block(view: &View<'_>, filter: Traffic, place: &Place) -> Result<(), Error> {
    if let Some(filters) = &view.filters {
        let blocks = places(view, place)?.into_iter();
        return filters
            .block(view, blocks.map(|(on, from, to)| (on, Block { filter, from, to })).collect())
            .await;
    }
    for (segment, from, to) in places(view, place)? {
        view.wire()?.block(&segment, Block { filter, from, to }).await.map_err(failed)?;
    }
    Ok(())
}

/// Ends the matching blocks.
///
/// # Errors
/// [`Error::NothingBlocked`] if there is none.
pub(crate) async fn unblock(view: &View<'_>, filter: Option<Traffic>, place: &Place) -> Result<(), Error> {
    let mut ended = 0;
    match &view.filters {
        Some(filters) => ended = filters.unblock(view, filter, &places(view, place)?).await?,
        None => {
            for (segment, from, to) in places(view, place)? {
                ended += view.wire()?.unblock(&segment, filter, from, to).await.map_err(failed)?;
            }
        }
    }
    match (ended, filter) {
        (0, Some(filter)) => {
            Err(Error::NothingBlocked { what: filter.to_string(), known: blocked(view).await? })
        }
        _ => Ok(()),
    }
}

/// The segments of a place, each with the ports that it names there.
fn places(view: &View<'_>, place: &Place) -> Result<Vec<Way>, Error> {
    // On a segment without this host there is nothing to block.
    let port = |host: &Option<String>, segment: &str| match host {
        None => Ok(Some(None)),
        Some(host) => Ok::<_, Error>(ports(view, host, Some(segment))?.pop().map(|(_, port)| Some(port))),
    };
    let mut places = Vec::new();
    for segment in view.lab.segments.keys().filter(|s| place.segment.as_ref().is_none_or(|on| on == *s)) {
        if let (Some(from), Some(to)) = (port(&place.from, segment)?, port(&place.to, segment)?) {
            places.push((segment.clone(), from, to));
        }
    }
    Ok(places)
}

async fn blocked(view: &View<'_>) -> Result<Vec<String>, Error> {
    let words = |(segment, block): &(String, Block)| block_words(block, &format!(" on {segment}"));
    Ok(changes(view).await?.blocks.iter().map(words).collect())
}

async fn changes(view: &View<'_>) -> Result<Changes, Error> {
    if let Some(filters) = &view.filters {
        return Ok(filters.changes());
    }
    let stats = view.wire()?.stats().await.map_err(failed)?;
    let cut = stats.ports.into_iter().filter(|(_, p)| p.link != LinkState::UP);
    let on = |(segment, s): (String, labctl_wire::SegmentStats)| {
        s.blocks.into_iter().map(move |b| (segment.clone(), b)).collect::<Vec<_>>()
    };
    Ok(Changes {
        links: cut.map(|(port, p)| (port, (p.segment, p.link))).collect(),
        blocks: stats.segments.into_iter().flat_map(on).collect(),
    })
}

/// A block in words: `udp/53 on lan from a/eth0`, with ` on lan` as `place`.
fn block_words(block: &Block, place: &str) -> String {
    let end =
        |word: &str, port: &Option<String>| port.as_ref().map(|p| format!(" {word} {p}")).unwrap_or_default();
    format!("{}{place}{}{}", block.filter, end("from", &block.from), end("to", &block.to))
}

/// Current cuts and blocks, in words.
pub(crate) async fn impairments(view: &View<'_>) -> Result<Vec<String>, Error> {
    let Changes { links, .. } = changes(view).await?;
    let cut = links.iter().filter_map(|(port, (segment, link))| {
        let way = match (link.from_host, link.to_host) {
            (true, true) => return None,
            (false, false) => "",
            (true, false) => " inbound",
            (false, true) => " outbound",
        };
        Some(format!("{port} is cut{way} on {segment}"))
    });
    Ok(cut.chain(blocked(view).await?.into_iter().map(|b| format!("blocked: {b}"))).collect())
}

/// Begins to capture a segment, on the wire or at the NICs of machines that exist.
///
/// # Errors
/// The wire does not run; the limits make no sense.
pub(crate) async fn capture(
    view: &View<'_>,
    segment: &str,
    spec: CaptureSpec,
) -> Result<(Capture, Option<Flush>), Error> {
    if view.filters.is_some() {
        let (capture, flush) = nics::capture(view, segment, &spec).await?;
        return Ok((capture, Some(flush)));
    }
    let capture = view.wire()?.capture(segment, spec).await.map_err(failed)?;
    Ok((capture, None))
}

/// A cause for which the wire dropped frames.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Drops {
    segment: String,
    cause: Cause,
    /// Where: hosts and peers.
    hosts: BTreeSet<String>,
}

/// The causes for which the wire dropped frames between two looks at its counters. Reasons for which every switch drops
/// frames are left out.
pub(crate) fn dropped(lab: &Lab, before: &Stats, after: &Stats) -> Vec<Drops> {
    let count = |stats: &Stats, port: &str, reason: DropReason| {
        stats.ports.get(port).and_then(|p| p.drops.get(&reason)).copied().unwrap_or_default()
    };
    let mut all: Vec<Drops> = Vec::new();
    for (segment, now) in &after.segments {
        let with = |reason: DropReason| -> Vec<&String> {
            let ports = after.ports.iter().filter(|(_, p)| p.segment == *segment).map(|(port, _)| port);
            ports.filter(|port| count(after, port, reason) > count(before, port, reason)).collect()
        };
        let mut add = |cause, ports: &[&String]| {
            let hosts = ports.iter().map(|port| host_of(port).to_owned()).collect();
            all.push(Drops { segment: segment.clone(), cause, hosts });
        };
        for port in with(DropReason::LinkDown) {
            let link = after.ports[port].link;
            let direction = match (link.from_host, link.to_host) {
                (false, true) => Direction::Outbound,
                (true, false) => Direction::Inbound,
                // The link was healed meanwhile: which way was cut is not known.
                (false, false) | (true, true) => Direction::Both,
            };
            let (host, segment) = (host_of(port).to_owned(), segment.clone());
            add(Cause::Cut { host, segment, direction, port: port.clone() }, &[port]);
        }
        let blocked = with(DropReason::Blocked);
        if !blocked.is_empty() {
            // A block with a `to` drops frames as they leave there; any other drops them as they come in.
            let at =
                |b: &&Block| b.to.as_ref().or(b.from.as_ref()).is_none_or(|port| blocked.contains(&port));
            let blocks = now.blocks.iter().filter(at).map(|b| block_words(b, "")).collect();
            add(Cause::Blocked { segment: segment.clone(), blocks }, &blocked);
        }
        let larger = with(DropReason::Mtu);
        if !larger.is_empty() {
            let mtu = lab.segments.get(segment).map_or(0, |s| s.mtu);
            add(Cause::Mtu { segment: segment.clone(), mtu }, &larger);
        }
        for port in with(DropReason::ForeignSource) {
            add(Cause::ForeignSource { port: port.clone() }, &[port]);
        }
        for port in with(DropReason::ForeignDestination) {
            add(Cause::ForeignDestination { port: port.clone() }, &[port]);
        }
    }
    all
}

/// What the wire has dropped since it runs, in words; nothing if it cannot be asked.
pub(crate) async fn lost(view: &View<'_>) -> Vec<String> {
    let Ok(wire) = view.wire() else { return Vec::new() };
    let Ok(stats) = wire.stats().await else { return Vec::new() };
    let words = |drops: Drops| {
        let hosts = drops.hosts.into_iter().collect::<Vec<_>>().join(", ");
        format!("meanwhile the wire dropped frames of {hosts}: {}", drops.cause)
    };
    let none = Stats { ports: Default::default(), segments: Default::default() };
    dropped(view.lab, &none, &stats).into_iter().map(words).collect()
}

/// The host or peer of a port.
fn host_of(port: &str) -> &str {
    port.split('/').next().unwrap_or_default()
}

/// Adds causes to cells without an answer: those for which the wire dropped frames at the host of either end, on a segment
/// that both are on, if there is one.
pub(crate) fn explain(lab: &Lab, dropped: &[Drops], cells: &mut [CellReport]) {
    let lost = |o: &Observed| {
        use No::{Arp, Asymmetric, Silent, Stalled, Unreachable};
        matches!(o, Observed::No(Silent | Arp | Asymmetric | Stalled | Unreachable))
    };
    let is_on = |home: &str, segment: &str| match lab.hosts.get(home) {
        Some(host) => host.nics.iter().any(|n| n.segment == segment),
        None => lab.peers.get(home).is_some_and(|p| p.nic.segment == segment),
    };
    let home = |e| lab.host_of(e).or_else(|| lab.peers.get_key_value(e).map(|(name, _)| name.as_str()));
    for cell in cells.iter_mut().filter(|c| lost(&c.observed)) {
        let to = cell.to.split('@').next().unwrap_or_default();
        let ends = [home(&cell.from), home(to)];
        // What stays in one host does not come to the wire.
        if ends[0].is_some() && ends[0] == ends[1] {
            continue;
        }
        let shared = |segment: &str| ends.iter().all(|end| end.is_some_and(|home| is_on(home, segment)));
        let is_direct = lab.segments.keys().any(|segment| shared(segment));
        let here = |drops: &&Drops| {
            ends.iter().flatten().any(|home| drops.hosts.contains(*home))
                && (!is_direct || shared(&drops.segment))
        };
        cell.causes.extend(dropped.iter().filter(here).map(|drops| drops.cause.clone()));
    }
}

fn failed(error: WireError) -> Error {
    Error::Wire(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use labctl_model::Action;
    use std::sync::Arc;

    use labctl_wire::{PortSpec, Transport, Wire};

    use super::*;
    use crate::{peers::Peers, view::Hosts};

    const LAB: &str = "
name: t
segments: { lan: { subnet: 10.0.0.0/24, block: [esp] }, wan: { subnet: 10.1.0.0/24 } }
hosts: { a: { lan: 10.0.0.1, wan: 10.1.0.1 }, b: { lan: 10.0.0.2 } }
";

    /// Does actions by their text, one after the other, and says what is then cut and blocked.
    #[tokio::main(flavor = "current_thread")]
    async fn after(actions: &[&str]) -> Result<Vec<String>, Error> {
        let lab = labctl_topology::parse(LAB, "t.yaml").unwrap();
        let ports = lab.hosts.iter().flat_map(|(host, h)| h.nics.iter().map(move |n| (host, n)));
        let spec = |(host, n): (&String, &labctl_model::Nic)| PortSpec {
            name: port_name(host, &n.name),
            segment: n.segment.clone(),
            mac: n.mac,
            transport: Transport::Connected(std::os::unix::net::UnixStream::pair().unwrap().0),
        };
        let wire = Arc::new(Wire::start(&lab.segments, ports.map(spec).collect()).unwrap());
        let view = &View {
            lab: &lab,
            hosts: Hosts::default(),
            peers: Peers::default(),
            wire: Some(wire.clone()),
            filters: None,
        };
        for text in actions {
            match labctl_topology::parse_action(text, &lab).unwrap() {
                Action::Cut { host, segment, direction } => {
                    cut(view, &host, segment.as_deref(), direction).await?;
                }
                Action::Heal { host, segment } => heal(view, &host, segment.as_deref()).await?,
                Action::Block { filter, place } => block(view, filter, &place).await?,
                Action::Unblock { filter, place } => unblock(view, filter, &place).await?,
                other => panic!("{other:?}"),
            }
        }
        impairments(view).await
    }

    #[test]
    fn what_the_wire_dropped_is_said_of_the_cells_that_it_concerns() {
        let stats = |drops: &[(&str, DropReason, u64)]| {
            let lan = labctl_wire::SegmentStats {
                stations: 2,
                not_learned: 0,
                gateway_mac: None,
                gateway_rx_frames: 0,
                gateway_tx_frames: 0,
                gateway_no_route: 0,
                blocks: vec![Block { filter: "esp".parse().unwrap(), from: None, to: None }],
            };
            let segments = [("lan".to_owned(), lan)].into_iter().collect();
            let mut stats = Stats { ports: Default::default(), segments };
            for (port, reason, count) in drops {
                let port = stats.ports.entry((*port).to_owned()).or_insert_with(|| labctl_wire::PortStats {
                    segment: "lan".into(),
                    connected: true,
                    connections: 1,
                    link: LinkState::UP,
                    rx_frames: 0,
                    rx_bytes: 0,
                    tx_frames: 0,
                    tx_bytes: 0,
                    drops: Default::default(),
                });
                port.drops.insert(*reason, *count);
            }
            stats
        };
        let (blocked, cut, full) = (DropReason::Blocked, DropReason::LinkDown, DropReason::QueueFull);
        let before = stats(&[("a/eth0", cut, 5), ("b/eth0", blocked, 1)]);
        let after = stats(&[
            ("a/eth0", cut, 5),
            ("a/eth0", blocked, 1),
            ("b/eth0", blocked, 2),
            ("b/eth0", cut, 1),
            ("a/eth1", full, 9),
        ]);
        let lab = labctl_topology::parse(LAB, "t.yaml").unwrap();
        let drops = dropped(&lab, &before, &after);
        let words: Vec<String> = drops.iter().map(|d| d.cause.to_string()).collect();
        assert_eq!(words, ["b is cut off from lan (b/eth0)", "lan blocks esp"]);
        let cell = |from: &str, to: &str, observed| CellReport {
            from: from.into(),
            to: to.into(),
            expected: labctl_model::Expected::Yes,
            observed,
            holds: false,
            detail: "last seen leaving a/eth0".into(),
            causes: Vec::new(),
            rtt_us: None,
            answered_by: Vec::new(),
            source: Vec::new(),
            unmet: None,
            predicted: None,
            marks: Vec::new(),
            passages: Vec::new(),
            line: 1,
        };
        let mut cells = [
            cell("a", "b@lan", Observed::No(No::Silent)),
            cell("a", "8.8.8.8", Observed::No(No::Silent)),
            cell("a", "a", Observed::No(No::Silent)),
            cell("a", "b", Observed::Yes),
        ];
        explain(&lab, &drops, &mut cells);
        let told = cells.map(|c| c.causes.iter().map(ToString::to_string).collect::<Vec<_>>());
        // Nothing was cut at a itself, and what stays in a host does not come to the wire.
        assert_eq!(told, [words.clone(), words[1..].to_vec(), Vec::new(), Vec::new()]);
    }

    #[test]
    fn cuts_add_up_and_heal() {
        let esp = "blocked: esp on lan";
        assert_eq!(after(&[]).unwrap(), [esp]);
        assert_eq!(after(&["cut b inbound"]).unwrap(), ["b/eth0 is cut inbound on lan", esp]);
        assert_eq!(after(&["cut b inbound", "cut b outbound"]).unwrap(), ["b/eth0 is cut on lan", esp]);
        let both = ["a/eth0 is cut on lan", "a/eth1 is cut on wan", esp];
        assert_eq!(after(&["cut a"]).unwrap(), both);
        assert_eq!(after(&["cut a", "heal a on lan"]).unwrap(), both[1..]);
        assert_eq!(after(&["cut a", "heal a"]).unwrap(), [esp]);
    }

    #[test]
    fn blocks_are_where_the_words_say_and_end_where_they_cover() {
        assert_eq!(after(&["unblock esp"]).unwrap(), Vec::<String>::new(), "also those of the topology");
        let everywhere = ["blocked: udp/53 on lan", "blocked: udp/53 on wan"];
        assert_eq!(after(&["unblock all", "block udp/53"]).unwrap(), everywhere);
        let one = "blocked: udp/53 on lan from a/eth0 to b/eth0";
        assert_eq!(after(&["unblock all", "block udp/53 from a to b"]).unwrap(), [one]);
        let all = ["unblock all", "block udp/53 from a", "block tcp/53", "unblock udp/53 on wan"];
        let left = ["blocked: udp/53 on lan from a/eth0", "blocked: tcp/53 on lan", "blocked: tcp/53 on wan"];
        assert_eq!(after(&all).unwrap(), left);
        let none = after(&["unblock udp/53"]).unwrap_err();
        assert!(none.to_string().contains("esp on lan"), "{none}");
        assert_eq!(none.exit_code(), 2);
    }
}
