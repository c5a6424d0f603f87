//! Watches for frames in the agents of all hosts, the peers and the wire.

use std::collections::BTreeMap;

use futures::future::join_all;
use labctl_model::inject::WIRE;
use labctl_protocol::{
    client::WatchClient,
    frames::Shape,
    messages::{Endpoint, FrameWatch},
};
use labctl_report::{
    receipts,
    sent::{Passage, Receipt},
    snapshot::Snapshot,
};
use labctl_wire::Fate;
use vxlan::Decode;

use super::{
    order::Known,
    tap::{SegmentTap, Tapped},
};
use crate::{Error, host::RunningHost, peers::Peers, view::View};

/// An open watch on every host and peer.
pub struct Watch<'a> {
    clients: Vec<Watcher<'a>>,
    /// With the number of frames missed, as of the last look.
    peers: Vec<(&'a str, labctl_peer::Watch, u64)>,
    decode: Decode,
    /// Endpoints where nobody watches, and why.
    pub absent: BTreeMap<String, String>,
}

/// One host's agent, and the endpoints that it watches.
struct Watcher<'a> {
    host: &'a RunningHost,
    names: Vec<String>,
    client: WatchClient,
}

impl<'a> Watch<'a> {
    /// Opens it in everything that runs, and in these peers; when this returns, no frame is missed. A host that does not
    /// answer is not watched.
    pub async fn open(
        view: &'a View<'_>,
        peers: &'a Peers,
        snapshot: &Snapshot,
        known: &Known,
        vxlan_ports: Vec<u16>,
    ) -> Self {
        let lab = view.lab;
        let mut absent: BTreeMap<String, String> = BTreeMap::new();
        let mut by_host: BTreeMap<&str, Vec<Endpoint>> = BTreeMap::new();
        for name in snapshot.endpoints(lab) {
            if let (Some(host), Some(netns)) = (snapshot.home_of(lab, name), snapshot.netns(lab, name)) {
                let endpoint = Endpoint { name: name.to_owned(), netns, pid: snapshot.pid(name) };
                by_host.entry(host).or_default().push(endpoint);
            }
        }
        let opened = view.hosts.values().map(|host| {
            let endpoints = by_host.remove(host.name.as_str()).unwrap_or_default();
            let names: Vec<String> = endpoints.iter().map(|e| e.name.clone()).collect();
            let (run, needle) = (known.run, super::needle(known));
            let watch = FrameWatch { endpoints, run, needle, vxlan_ports: vxlan_ports.clone() };
            async move { (host.as_ref(), names, host.agent.watch_frames(watch).await) }
        });
        let mut clients = Vec::new();
        for (host, names, opened) in join_all(opened).await {
            match opened {
                Ok(client) => {
                    absent.extend(client.absent().clone());
                    clients.push(Watcher { host, names, client });
                }
                Err(error) => absent.extend(names.into_iter().map(|name| (name, error.to_string()))),
            }
        }
        let mut watching = Vec::new();
        for (name, peer) in peers {
            match peer.watch(known.run, known.marks(), vxlan_ports.clone()).await {
                Ok(watch) => watching.push((name.as_str(), watch, 0)),
                Err(gone) => drop(absent.insert(name.clone(), gone.to_string())),
            }
        }
        Self { clients, peers: watching, decode: Decode { vxlan_ports, ..Decode::default() }, absent }
    }

    /// Where the frame has passed so far.
    pub async fn receipts(&mut self, known: &Known) -> Vec<Receipt> {
        self.receipts_by_mark(|_| Some(known)).await.into_iter().map(|(_, receipt)| receipt).collect()
    }

    /// Endpoints where frames came too fast to be looked at, and how many, as of the last look.
    pub fn missed(&self) -> impl Iterator<Item = (String, u64)> {
        let peers = self.peers.iter().filter(|(_, _, missed)| *missed > 0);
        let peers = peers.map(|(name, _, missed)| ((*name).to_owned(), *missed));
        self.clients.iter().flat_map(|w| w.client.missed().clone()).chain(peers)
    }

    /// Where frames have passed so far, each with its mark; `known` maps a mark to its frame.
    pub async fn receipts_by_mark<'k>(
        &mut self,
        known: impl Fn(Option<u32>) -> Option<&'k Known>,
    ) -> Vec<(Option<u32>, Receipt)> {
        let looked = self.clients.iter_mut().map(|w| async move {
            let seen = w.client.seen().await;
            (&*w, seen)
        });
        let mut all_seen = Vec::new();
        for (watcher, seen) in join_all(looked).await {
            match seen {
                Ok(seen) => all_seen.push((watcher.host.name.as_str(), seen)),
                Err(error) => {
                    let absent = watcher.names.iter().map(|name| (name.clone(), error.to_string()));
                    self.absent.extend(absent);
                }
            }
        }
        for (name, watch, missed) in &mut self.peers {
            match watch.seen().await {
                Ok((seen, lost)) => {
                    *missed = lost;
                    all_seen.push((*name, seen));
                }
                Err(gone) => drop(self.absent.insert((*name).to_owned(), gone.to_string())),
            }
        }
        let mut all = Vec::new();
        for (host, seen) in all_seen {
            for sighting in seen {
                let Some(known) = known(sighting.mark) else { continue };
                let mark = sighting.mark;
                let receipts = receipts::of_host(host, &[sighting], &known.shape, &self.decode);
                all.extend(receipts.into_iter().map(|receipt| (mark, receipt)));
            }
        }
        all.sort();
        all
    }
}

/// Counts of frames that entered a segment, by mark, port, fate, and whether they were dropped.
pub type Entered = BTreeMap<(Option<u32>, String, String, bool), u64>;

/// Watches every segment for frames of a run. A frame's mark is its index in `known`; without a mark it is the first.
pub async fn taps(
    view: &View<'_>,
    known: &[Known],
    decode: &Decode,
) -> Result<Vec<(String, SegmentTap<Entered>)>, Error> {
    let mut taps = Vec::new();
    for segment in view.lab.segments.keys() {
        let (known, decode) = (known.to_vec(), decode.clone());
        let tap = SegmentTap::begin(view, segment, Entered::new(), move |entered, frame| {
            let Some(mark) = known.first().and_then(|first| first.find(&frame.data)) else { return };
            let index = usize::try_from(mark.unwrap_or(0)).unwrap_or(usize::MAX);
            // An answer or an error about it is another frame.
            let same =
                |one: &Known| receipts::seen_as(&one.shape, &Shape::of(&frame.data, &decode)).is_some();
            if !known.get(index).is_some_and(same) {
                return;
            }
            let dropped = matches!(frame.fate, Fate::Dropped { .. });
            *entered.entry((mark, frame.port.to_string(), frame.fate.to_string(), dropped)).or_default() += 1;
        });
        taps.push((segment.clone(), tap.await?));
    }
    Ok(taps)
}

/// What the segments carried of it, and where how many frames came too fast to be looked at.
pub async fn passages(
    taps: Vec<(String, SegmentTap<Entered>)>,
) -> Result<(Vec<Passage>, BTreeMap<String, u64>), Error> {
    let (mut all, mut missed) = (Vec::new(), BTreeMap::new());
    for (segment, tap) in taps {
        let Tapped { found, lost } = tap.end().await?;
        if lost > 0 {
            missed.insert(format!("{WIRE}{segment}"), lost);
        }
        all.extend(found.into_iter().map(|((_, port, fate, dropped), count)| Passage {
            segment: segment.clone(),
            port,
            fate,
            dropped,
            count,
        }));
    }
    Ok((all, missed))
}
