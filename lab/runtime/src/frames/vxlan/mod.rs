//! Finds what becomes of VXLAN between two hosts by comparing frames that differ in one thing only. What Linux and a
//! correct underlay do with each is known; a difference shows the cause.

mod probes;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::future::join_all;
use labctl_model::{Family, Lab, Nic, OfFamily};
use labctl_protocol::{
    client::VtepClient,
    frames::Shape,
    messages::{Netns, Outgoing, ScratchVtep, SendFrame},
};
use labctl_report::{
    sent::{How, Receipt},
    snapshot::Snapshot,
    tunnels::{self, Kind, PairReport, ProbeReport, VxlanReport},
};
use vxlan::{Decode, Payload, checksum::Addresses, proto};

use super::{
    book::Book,
    order::{self, Known},
    watch::{self, Entered, Watch},
};
use crate::{Error, host::RunningHost, peers::Peers, view::View};
use probes::{Path, VTEP_MAC, VTEP_VNI};

/// A port that no SDN takes for its own.
pub const OTHER_PORT: u16 = 14_789;
/// How long the last frame may take to arrive.
const SILENCE: Duration = Duration::from_millis(1000);
/// The same while searching for a size, which takes many rounds.
const SHORT_SILENCE: Duration = Duration::from_millis(400);
/// Sizes tried at once.
const LADDER: usize = 16;
/// Frames a second from a host.
const RATE: u32 = 2_000;

/// Which pairs of hosts to probe, and on which port besides VXLAN's own.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// Only from this host.
    pub from: Option<String>,
    /// Only to this host.
    pub to: Option<String>,
    /// The other port; [`OTHER_PORT`] where absent.
    pub port: Option<u16>,
}

/// A pair of hosts on a segment.
struct Pair<'a> {
    from: &'a RunningHost,
    to: &'a RunningHost,
    /// The sender's NIC, with the MTU that it has now.
    by: Nic,
    nic: &'a Nic,
    ends: Addresses,
}

impl Pair<'_> {
    fn path(&self) -> Path<'_> {
        Path { by: &self.by, nic: self.nic, ends: self.ends, stranger: self.ends.src() }
    }

    fn family(&self) -> Family {
        self.ends.src().family()
    }

    /// Its receiver's VTEP for this port.
    fn vtep(&self, port: u16) -> VtepAt {
        (self.to.name.clone(), port, self.family())
    }
}

/// Probes the pairs of hosts.
///
/// # Errors
/// A host does not exist, or there is no pair of hosts. A host that does not answer is in the report.
pub async fn run(view: &View<'_>, which: &Which) -> Result<VxlanReport, Error> {
    let mut pairs = pairs(view, which)?;
    measure(&mut pairs).await;
    let ports = ports(view.lab, which);
    let snapshot = crate::probe::snapshot(view).await;
    let book = Book::new(view, &snapshot);
    let vteps = vteps(&pairs, &ports).await;
    let bench = Bench { view, decode: Decode { vxlan_ports: ports.clone(), ..Decode::default() } };

    let run = rand::random();
    let mut frames = Vec::new();
    for pair in &pairs {
        let stranger = book.free_address(&pair.nic.segment, pair.family());
        let path = Path { stranger: stranger.unwrap_or(pair.ends.src()), ..pair.path() };
        for port in &ports {
            for kind in Kind::ALL {
                let mark = number_mark(run, frames.len());
                frames.push(Frame {
                    pair,
                    port: *port,
                    kind,
                    bytes: probes::build(kind, &path, *port, mark)?,
                });
            }
        }
    }
    let seen = bench.fire(&frames, run, SILENCE).await?;
    let mut reports: Vec<PairReport> = Vec::new();
    let per_pair = ports.len() * Kind::ALL.len();
    for (pair, range) in pairs.iter().zip((0..).step_by(per_pair)) {
        let probes = (range..range + per_pair).map(|n| probe_report(&frames[n], &seen, n, &vteps));
        let probes: Vec<ProbeReport> = probes.collect();
        let (from, to) = (&pair.from.name, &pair.to.name);
        let findings = match seen.silent.get(from).or_else(|| seen.silent.get(to)) {
            // Then a frame that did not arrive says nothing about the way between.
            Some(why) => vec![why.clone()],
            None => {
                let mut findings = tunnels::findings(from, to, &probes, &vtep_refusals(pair, &ports, &vteps));
                if let Some(port) = tunnels::too_large_for(&probes) {
                    let bytes = bench.largest(pair, port, probes[0].bytes).await?;
                    findings.push(tunnels::mtu(port, bytes, pair.by.mtu, pair.family()));
                }
                findings
            }
        };
        reports.push(PairReport {
            from: pair.from.name.clone(),
            to: pair.to.name.clone(),
            segment: pair.nic.segment.clone(),
            source: pair.ends.src(),
            destination: pair.ends.dst(),
            holds: probes.iter().all(|p| p.holds),
            probes,
            findings,
        });
    }
    Ok(VxlanReport { lab: view.lab.name.clone(), holds: reports.iter().all(|p| p.holds), pairs: reports })
}

/// A frame on its way from one host to another.
struct Frame<'a> {
    pair: &'a Pair<'a>,
    port: u16,
    kind: Kind,
    bytes: Vec<u8>,
}

/// What was seen of the frames, by their number.
#[derive(Default)]
struct Seen {
    receipts: BTreeMap<u32, Vec<Receipt>>,
    wire: BTreeMap<u32, String>,
    /// Hosts that could not send or could not be watched, and why.
    silent: BTreeMap<String, String>,
}

struct Bench<'a> {
    view: &'a View<'a>,
    decode: Decode,
}

impl Bench<'_> {
    /// Sends frames all at once, each marked with its index, and watches where they pass.
    async fn fire(&self, frames: &[Frame<'_>], run: u64, silence: Duration) -> Result<Seen, Error> {
        let shape = |frame: &Frame<'_>| Known::new(run, None, Shape::of(&frame.bytes, &self.decode));
        let known: Vec<Known> = frames.iter().map(shape).collect();
        let Some(any) = known.first() else { return Ok(Seen::default()) };
        // Only the hosts themselves: containers and peers have no part in it.
        let (nobody, no_peers) = (Snapshot::default(), Peers::new());
        let ports = self.decode.vxlan_ports.clone();
        let mut watch = Watch::open(self.view, &no_peers, &nobody, any, ports).await;
        let taps = watch::taps(self.view, &known, &self.decode).await?;
        let mut by_sender: HashMap<(&str, &str), (&RunningHost, Vec<String>)> = HashMap::new();
        for frame in frames {
            let key = (frame.pair.from.name.as_str(), frame.pair.by.name.as_str());
            let (_, list) = by_sender.entry(key).or_insert_with(|| (frame.pair.from, Vec::new()));
            list.push(BASE64_STANDARD.encode(&frame.bytes));
        }
        let sent = by_sender.into_iter().map(|((_, interface), (host, frames))| async move {
            let order = SendFrame {
                netns: Netns::Host,
                interface: interface.to_owned(),
                frames: Outgoing::Built(frames),
                count: 1,
                rate: Some(RATE),
            };
            let sent = host.agent.send_frame(order).await.map_err(host.failed());
            Some((host.name.clone(), sent.err()?.to_string()))
        });
        let mut seen = Seen::default();
        seen.silent.extend(join_all(sent).await.into_iter().flatten());
        tokio::time::sleep(silence).await;
        let of_mark = |mark: Option<u32>| known.get(usize::try_from(mark?).ok()?);
        for (mark, receipt) in watch.receipts_by_mark(of_mark).await {
            seen.receipts.entry(mark.unwrap_or(u32::MAX)).or_default().push(receipt);
        }
        let absent =
            |(host, why): (&String, &String)| (host.clone(), format!("nobody watched in {host}: {why}"));
        seen.silent.extend(watch.absent.iter().map(absent));
        for (_, tap) in taps {
            let entered: Entered = tap.end().await?.found;
            seen.wire.extend(entered.into_keys().filter_map(|(mark, _, fate, _)| Some((mark?, fate))));
        }
        Ok(seen)
    }

    /// The largest IP packet with VXLAN that reaches the receiver's NIC, given that `small` bytes do.
    async fn largest(&self, pair: &Pair<'_>, port: u16, small: usize) -> Result<usize, Error> {
        let (mut good, mut bad) = (small, usize::from(pair.by.mtu));
        // Each round narrows the range to a seventeenth.
        while bad > good + 1 {
            let sizes = probes::ladder(good, bad, LADDER);
            let path = pair.path();
            let run = rand::random();
            let frame = |(n, size): (usize, &usize)| {
                let bytes = probes::of_size(&path, port, *size, number_mark(run, n))?;
                Ok::<_, Error>(Frame { pair, port, kind: Kind::Largest, bytes })
            };
            let frames = sizes.iter().enumerate().map(frame).collect::<Result<Vec<_>, _>>()?;
            let seen = self.fire(&frames, run, SHORT_SILENCE).await?;
            let passed = |n: usize| seen.at_nic(n, pair);
            let first_lost = (0..sizes.len()).find(|n| !passed(*n));
            match first_lost {
                Some(n) => {
                    bad = sizes[n];
                    good = if n > 0 { sizes[n - 1] } else { good };
                }
                None => good = sizes[sizes.len() - 1],
            }
        }
        Ok(good)
    }
}

impl Seen {
    fn of(&self, number: usize) -> &[Receipt] {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.receipts.get(&number).map(Vec::as_slice).unwrap_or_default()
    }

    fn at_nic(&self, number: usize, pair: &Pair<'_>) -> bool {
        let there = |r: &&Receipt| r.endpoint == pair.to.name && r.interface == pair.nic.name;
        self.of(number).iter().filter(there).any(|r| r.received && r.how == How::AsSent)
    }
}

/// Host, port and family of a VTEP.
type VtepAt = (String, u16, Family);
type Vteps = HashMap<VtepAt, Result<VtepClient, String>>;

fn probe_report(frame: &Frame<'_>, seen: &Seen, number: usize, vteps: &Vteps) -> ProbeReport {
    let nic = seen.at_nic(number, frame.pair);
    let name = vtep_name(frame.port, frame.pair.family());
    let to = &frame.pair.to.name;
    let let_out = seen.of(number).iter().any(|r| r.endpoint == *to && r.interface == name && r.received);
    let made = vteps.get(&frame.pair.vtep(frame.port)).is_some_and(Result::is_ok);
    let vtep = made.then_some(let_out);
    let vtep_expected = frame.kind.is_let_out(frame.pair.family());
    ProbeReport {
        probe: frame.kind,
        port: frame.port,
        bytes: frame.bytes.len() - proto::ethernet::HEADER_LEN,
        wire: seen.wire.get(&u32::try_from(number).unwrap_or(u32::MAX)).cloned(),
        nic,
        vtep,
        vtep_expected,
        holds: nic && vtep == Some(vtep_expected),
    }
}

fn pairs<'a>(view: &'a View<'_>, which: &Which) -> Result<Vec<Pair<'a>>, Error> {
    for name in [&which.from, &which.to].into_iter().flatten() {
        view.host(name)?;
    }
    let wanted = |side: &Option<String>, host: &str| side.as_ref().is_none_or(|name| name == host);
    let (lab, mut pairs) = (view.lab, Vec::new());
    for from in view.hosts.values().filter(|h| wanted(&which.from, &h.name)) {
        for to in view.hosts.values().filter(|h| wanted(&which.to, &h.name) && h.name != from.name) {
            let (Some(a), Some(b)) = (lab.hosts.get(&from.name), lab.hosts.get(&to.name)) else { continue };
            let by_segment = |by: &'a Nic| {
                let nic = b.nics.iter().find(|n| n.segment == by.segment)?;
                let pair = move |ends| Pair { from, to, by: by.clone(), nic, ends };
                let ends = Family::ALL.into_iter().filter_map(|family| probes::ends(by, nic, family));
                Some(ends.map(pair))
            };
            let mut shared: Vec<Pair> = a.nics.iter().filter_map(by_segment).flatten().collect();
            let is_path = |host: &str, address: IpAddr| data_path(lab, host) == Some(address);
            let of_overlays = shared
                .iter()
                .position(|p| is_path(&from.name, p.ends.src()) && is_path(&to.name, p.ends.dst()));
            match of_overlays {
                Some(chosen) => pairs.push(shared.swap_remove(chosen)),
                None => pairs.extend(shared),
            }
        }
    }
    if pairs.is_empty() {
        return Err(Error::Frame(
            "there are no two such hosts with addresses of one family on one segment\nhint: `labctl ps` shows who is on which"
                .to_owned(),
        ));
    }
    Ok(pairs)
}

/// Takes the MTU of each sender's NIC as it is: the lab may have given it another one. A host that does not answer has that
/// told later.
async fn measure(pairs: &mut [Pair<'_>]) {
    let hosts: BTreeMap<&str, &RunningHost> = pairs.iter().map(|p| (p.from.name.as_str(), p.from)).collect();
    let asked = hosts
        .into_iter()
        .map(|(name, host)| async move { Some((name, host.agent.facts(Netns::Host).await.ok()?.mtus)) });
    let mtus: HashMap<&str, _> = join_all(asked).await.into_iter().flatten().collect();
    for pair in pairs {
        let mtu = mtus.get(pair.from.name.as_str()).and_then(|mtus| mtus.get(&pair.by.name));
        pair.by.mtu = mtu.and_then(|mtu| u16::try_from(*mtu).ok()).unwrap_or(pair.by.mtu);
    }
}

/// The address by which a node sends and receives VXLAN.
fn data_path(lab: &Lab, host: &str) -> Option<IpAddr> {
    let node = lab.swarm.as_ref()?.nodes.get(host)?;
    Some(node.data_path.unwrap_or(node.advertise))
}

fn ports(lab: &Lab, which: &Which) -> Vec<u16> {
    let mut ports = order::vxlan_ports(lab);
    let other = which.port.unwrap_or(OTHER_PORT);
    if !ports.contains(&other) {
        ports.push(other);
    }
    ports
}

/// The mark of the frame with this index.
fn number_mark(run: u64, index: usize) -> Payload {
    order::mark(run, u32::try_from(index).unwrap_or(u32::MAX))
}

fn vtep_name(port: u16, family: Family) -> String {
    match family {
        Family::V4 => format!("labvtep{port}"),
        Family::V6 => format!("labvtep6-{port}"),
    }
}

/// Makes a VTEP at every receiver, port and family, held as long as the result.
async fn vteps(pairs: &[Pair<'_>], ports: &[u16]) -> Vteps {
    let mut wanted: BTreeMap<VtepAt, &RunningHost> = BTreeMap::new();
    for pair in pairs {
        wanted.extend(ports.iter().map(|port| (pair.vtep(*port), pair.to)));
    }
    let made = wanted.into_iter().map(|((name, port, family), host)| async move {
        let (interface, mac) = (vtep_name(port, family), VTEP_MAC.octets());
        let vtep = ScratchVtep { name: interface, vni: VTEP_VNI, port, mac, family };
        ((name, port, family), host.agent.vtep(vtep).await.map_err(|e| e.to_string()))
    });
    join_all(made).await.into_iter().collect()
}

/// Why the receiver has no VTEP.
fn vtep_refusals(pair: &Pair<'_>, ports: &[u16], vteps: &Vteps) -> Vec<String> {
    let refused = ports.iter().filter_map(|port| {
        let why = vteps.get(&pair.vtep(*port))?.as_ref().err()?;
        Some(format!(
            "{} takes no VTEP at port {port}, so what arrives there proves little: {why}",
            pair.to.name
        ))
    });
    refused.collect()
}
