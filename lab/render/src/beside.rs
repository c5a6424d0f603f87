//! What was seen of a probe in a running lab, beside the walk that the oracle predicts, hop by hop.

use std::net::IpAddr;

use labctl_model::{Lab, Observed, Probe};
use labctl_oracle::{Explanation, Hop, Way};
use labctl_report::{CellReport, Passage};
use serde::Serialize;

use crate::page::Frame;

/// A cell as it was probed, beside its walks.
#[derive(Clone, Debug, Serialize)]
pub struct Beside {
    /// What came of it.
    pub verdict: &'static str,
    /// Its reason.
    pub detail: String,
    /// Whether that is a word that was predicted; `None` where nobody could say.
    pub agrees: Option<bool>,
    /// What was seen of each walk, in their order.
    pub walks: Vec<Followed>,
    /// Where its packets passed that no walk names.
    pub elsewhere: Vec<String>,
}

/// What was seen of one walk.
#[derive(Clone, Debug, Serialize)]
pub struct Followed {
    /// At each place on the way there.
    pub there: Vec<Sight>,
    /// At each place on the way back.
    pub back: Vec<Sight>,
    /// The first place where its packet was looked for in vain; `None` if it was followed to its end.
    pub parts_at: Option<String>,
}

/// What was seen at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sight {
    /// Whether it was seen; `None` where nobody looks, as inside a stack or an overlay's sandbox.
    pub seen: Option<bool>,
    /// How: `leaving`, `entering`, `dropped at host1/eth0: …`.
    pub how: String,
}

impl Sight {
    fn unwatched() -> Self {
        Self { seen: None, how: String::new() }
    }
}

/// All that was seen of a cell.
struct Seen<'a> {
    lab: &'a Lab,
    cell: &'a CellReport,
    frames: Vec<&'a Frame>,
}

impl Beside {
    /// Lays what was seen of a cell beside its walks. `frames` are what the segments carried meanwhile.
    pub fn new(lab: &Lab, e: &Explanation, cell: &CellReport, probe: &Probe, frames: &[Frame]) -> Self {
        // A connection's segments carry no mark: they are known by their addresses.
        let by_ends = matches!(probe, Probe::Tcp(_));
        let frames = frames.iter().filter(|f| by_ends || f.mark.is_some()).collect();
        let seen = Seen { lab, cell, frames };
        let verdict = cell.observed.word();
        let agrees = e.unknown.is_none().then(|| e.predicted.split('|').any(|word| word == verdict));
        let elsewhere = cell.passages.iter().filter(|p| !seen.is_foreseen(p, &e.walks)).map(words);
        let mut places: Vec<String> = Vec::new();
        for place in elsewhere {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Self {
            verdict,
            detail: cell.detail.clone(),
            agrees,
            walks: e.walks.iter().map(|way| seen.along(way)).collect(),
            elsewhere: places,
        }
    }
}

impl Seen<'_> {
    fn along(&self, way: &Way) -> Followed {
        let mut there: Vec<Sight> = way.there.iter().map(|hop| self.at(hop, false)).collect();
        let mut back: Vec<Sight> = way.back.iter().map(|hop| self.at(hop, true)).collect();
        // What ends a packet may keep it from passing the interface where that is decided.
        if way.verdict != Observed::Yes.word() {
            let ends = if back.is_empty() { there.last_mut() } else { back.last_mut() };
            if let Some(end) = ends.filter(|end| end.seen == Some(false)) {
                *end = Sight::unwatched();
            }
        }
        let hops = way.there.iter().chain(&way.back).zip(there.iter().chain(&back));
        let parts_at = hops.into_iter().find(|(_, s)| s.seen == Some(false)).map(|(hop, _)| hop.at.clone());
        Followed { there, back, parts_at }
    }

    fn at(&self, hop: &Hop, answer: bool) -> Sight {
        let Some(ends) = hop.ends else { return Sight::unwatched() };
        if let Some(segment) = hop.at.strip_prefix("segment ") {
            return self.on_wire(segment, ends);
        }
        let Some((place, _)) = hop.at.split_once('/') else { return Sight::unwatched() };
        if !self.is_watched(place) || hop.at.contains("/veth-") {
            return Sight::unwatched();
        }
        let mut ways: Vec<String> = Vec::new();
        for p in self.cell.passages.iter().filter(|p| p.answer == answer && is_at(p, &hop.at)) {
            let way = if p.inbound { "entering" } else { "leaving" };
            // Rewriting comes after it has entered, and before it leaves.
            let changed = [p.source, p.destination] != ends;
            let as_what =
                if changed { format!(" as {} > {}", p.source, p.destination) } else { String::new() };
            let words = format!("{way}{as_what}");
            if !ways.contains(&words) {
                ways.push(words);
            }
        }
        Sight { seen: Some(!ways.is_empty()), how: ways.join(", ") }
    }

    fn on_wire(&self, segment: &str, ends: [IpAddr; 2]) -> Sight {
        let carried = self.frames.iter().find(|f| f.segment == segment && f.ends == ends);
        let how = carried.map(|f| match f.dropped.is_empty() {
            true => format!("from {}", f.port),
            false => format!("from {}, {}", f.port, f.dropped),
        });
        Sight { seen: Some(how.is_some()), how: how.unwrap_or_default() }
    }

    /// Whether a watcher is in this namespace: that of an endpoint that took part.
    fn is_watched(&self, place: &str) -> bool {
        self.lab.is_endpoint(place) || self.cell.passages.iter().any(|p| p.endpoint == place)
    }

    /// Whether a walk names the place; ports of bridges and interfaces below others show the same packet again.
    fn is_foreseen(&self, p: &Passage, ways: &[Way]) -> bool {
        ways.iter().any(|way| {
            let hops = if p.answer { &way.back } else { &way.there };
            let in_space = |hop: &Hop| hop.at.split('/').next() == Some(p.endpoint.as_str());
            hops.iter().any(|hop| is_at(p, &hop.at) || p.interface.starts_with("veth") && in_space(hop))
        })
    }
}

/// Whether a packet passed a place of a walk. Bridges that Docker names by their number are there by their network.
fn is_at(p: &Passage, place: &str) -> bool {
    let Some(interface) = place.strip_prefix(&p.endpoint).and_then(|rest| rest.strip_prefix('/')) else {
        return false;
    };
    interface == p.interface || p.network.as_ref().is_some_and(|n| interface.strip_prefix("br-") == Some(n))
}

fn words(p: &Passage) -> String {
    let (what, way) =
        (if p.answer { "the answer" } else { "the request" }, if p.inbound { "entering" } else { "leaving" });
    let network = p.network.as_ref().map(|n| format!(" (network {n})")).unwrap_or_default();
    let Passage { endpoint, interface, source, destination, .. } = p;
    format!("{what} {way} {endpoint}/{interface}{network}: {source} > {destination}")
}
