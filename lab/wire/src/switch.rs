//! Segments as learning switches: decides what becomes of a frame. Does no I/O.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use indexmap::IndexMap;
use labctl_model::{Traffic, lab};
use vxlan::{EthernetFrame, MacAddr};

use crate::{
    WireError, advert,
    block::{Block, Blocks, Rule},
    capture::{Fate, Recorder},
    fdb::Fdb,
    frame::Frame,
    mld::Mld,
    offload::{self, Offload},
    outbox::Outbox,
    policy::{DropReason, LinkState, Pipeline, Stage, Verdict},
    port::PortId,
    standin::{GATEWAY_PORT, StandIn},
    stats::{Counters, PortStats, SegmentStats, Stats},
};

/// The time of one round of the loop.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    /// Seconds since the wire started.
    pub(crate) secs: u32,
}

/// The inner half of a port.
struct Port {
    name: Arc<str>,
    segment: usize,
    pipeline: Pipeline,
    outbox: Outbox,
    counters: Counters,
    connected: bool,
    /// It takes frames with an offload header, uncut.
    offloads: bool,
    connections: u64,
    /// Its number is free for another port.
    removed: bool,
    /// Not a NIC's port: injected frames come in here, and it takes frames to their source.
    station: bool,
}

struct Segment {
    name: String,
    mtu: u16,
    port_security: bool,
    ports: Vec<PortId>,
    fdb: Fdb,
    standin: Option<StandIn>,
    mld: Option<Mld>,
    blocks: Blocks,
    taps: Vec<Recorder>,
}

/// A [`Fate`] with port numbers instead of names.
#[derive(Clone, Copy)]
enum Outcome {
    To(PortId),
    ToGateway,
    Flooded(usize),
    Dropped(PortId, DropReason),
    /// The stand-in sent it in vain.
    Unanswered(DropReason),
}

/// All segments and their ports.
pub(crate) struct Switch {
    segments: Vec<Segment>,
    ports: Vec<Port>,
    /// Ports whose outbox was empty and now has frames.
    unsent: Vec<PortId>,
    /// Frames that the stand-in is about to send; kept to reuse the allocation.
    answers: Vec<Vec<u8>>,
    gateway: Arc<str>,
}

impl Switch {
    /// Makes the segments, without ports. A stand-in must not have a MAC in `taken`.
    pub(crate) fn new(segments: &IndexMap<String, lab::Segment>, taken: &[MacAddr]) -> Self {
        let inside: Arc<[_]> =
            segments.values().flat_map(|segment| segment.subnet.iter()).map(|net| net.trunc()).collect();
        let mut free = (0..=u16::MAX).map(gateway_mac).filter(|mac| !taken.contains(mac));
        let segments = segments.iter().map(|(name, segment)| Segment {
            name: name.clone(),
            mtu: segment.mtu,
            port_security: segment.port_security,
            ports: Vec::new(),
            fdb: Fdb::default(),
            standin: (!segment.gateway.is_empty())
                .then(|| free.next())
                .flatten()
                .map(|mac| StandIn::new(mac, segment, Arc::clone(&inside))),
            mld: segment.mld.then(Mld::default),
            blocks: Blocks::everywhere(&segment.block),
            taps: Vec::new(),
        });
        Self {
            segments: segments.collect(),
            ports: Vec::new(),
            unsent: Vec::new(),
            answers: Vec::new(),
            gateway: GATEWAY_PORT.into(),
        }
    }

    fn segment_id(&self, name: &str) -> Result<usize, WireError> {
        let found = self.segments.iter().position(|segment| segment.name == name);
        found.ok_or_else(|| WireError::UnknownSegment(name.into()))
    }

    pub(crate) fn port_id(&self, name: &str) -> Result<PortId, WireError> {
        let found = self.ports.iter().position(|port| !port.removed && !port.station && *port.name == *name);
        found.ok_or_else(|| WireError::UnknownPort(name.into()))
    }

    /// Adds a port with nothing connected.
    pub(crate) fn add_port(&mut self, name: &str, segment: &str, mac: MacAddr) -> Result<PortId, WireError> {
        let segment_id = self.segment_id(segment)?;
        if self.port_id(name).is_ok() || name == GATEWAY_PORT {
            return Err(WireError::DuplicatePort(name.into()));
        }
        let segment = &mut self.segments[segment_id];
        let port = Port {
            name: name.into(),
            segment: segment_id,
            pipeline: Pipeline::new(segment.port_security.then_some(mac), segment.mtu),
            outbox: Outbox::default(),
            counters: Counters::default(),
            connected: false,
            offloads: false,
            connections: 0,
            removed: false,
            station: false,
        };
        Ok(self.place(segment_id, port))
    }

    /// Gives a port its number.
    fn place(&mut self, segment: usize, port: Port) -> PortId {
        let id = match self.ports.iter().position(|port| port.removed) {
            Some(id) => {
                self.ports[id] = port;
                id
            }
            None => {
                self.ports.push(port);
                self.ports.len() - 1
            }
        };
        self.segments[segment].ports.push(id);
        id
    }

    pub(crate) fn remove_port(&mut self, id: PortId) {
        self.disconnected(id);
        let port = &mut self.ports[id];
        port.removed = true;
        let segment = &mut self.segments[port.segment];
        segment.ports.retain(|other| *other != id);
        segment.blocks.forget(id);
    }

    /// Notes a new connection, which replaces the one before. `offloads`: it takes frames with an offload header.
    pub(crate) fn connected(&mut self, id: PortId, offloads: bool) {
        self.disconnected(id);
        let port = &mut self.ports[id];
        (port.connected, port.offloads) = (true, offloads);
        port.connections += 1;
    }

    /// Notes that the connection ended, and drops the frames that waited for it.
    pub(crate) fn disconnected(&mut self, id: PortId) {
        let port = &mut self.ports[id];
        port.connected = false;
        port.outbox.clear();
        self.segments[port.segment].forget(id);
    }

    pub(crate) fn set_link(&mut self, id: PortId, state: LinkState) {
        let port = &mut self.ports[id];
        port.pipeline.set_link(state);
        if state == LinkState::DOWN {
            self.segments[port.segment].forget(id);
        }
    }

    /// Begins to drop something on a segment.
    pub(crate) fn block(&mut self, segment: &str, block: &Block) -> Result<(), WireError> {
        let id = self.segment_id(segment)?;
        let (from, to) = (self.port_on(id, &block.from)?, self.port_on(id, &block.to)?);
        self.segments[id].blocks.add(block.filter, from, to);
        Ok(())
    }

    /// Ends the blocks of a segment that match what is given; returns how many ended.
    pub(crate) fn unblock(
        &mut self,
        segment: &str,
        filter: Option<Traffic>,
        from: &Option<String>,
        to: &Option<String>,
    ) -> Result<usize, WireError> {
        let id = self.segment_id(segment)?;
        let (from, to) = (self.port_on(id, from)?, self.port_on(id, to)?);
        Ok(self.segments[id].blocks.remove(filter, from, to))
    }

    /// Finds a port of this segment, if one is named.
    fn port_on(&self, segment: usize, name: &Option<String>) -> Result<Option<PortId>, WireError> {
        let Some(name) = name else { return Ok(None) };
        let id = self.port_id(name)?;
        let here = self.ports[id].segment == segment;
        here.then_some(Some(id)).ok_or_else(|| WireError::UnknownPort(name.clone()))
    }

    /// The time until which senders to this port should wait, if they should.
    pub(crate) fn congested_until(&self, id: PortId, now: Now) -> Option<Instant> {
        self.ports[id].outbox.congested_until(now.instant)
    }

    /// Takes the list of ports with frames that we have not begun to send.
    pub(crate) fn take_unsent(&mut self) -> Vec<PortId> {
        std::mem::take(&mut self.unsent)
    }

    /// Gives the list back, to reuse its allocation.
    pub(crate) fn reuse_unsent(&mut self, mut list: Vec<PortId>) {
        if self.unsent.is_empty() {
            list.clear();
            self.unsent = list;
        }
    }

    pub(crate) fn outbox(&mut self, id: PortId) -> &mut Outbox {
        &mut self.ports[id].outbox
    }

    pub(crate) fn port_name(&self, id: PortId) -> &str {
        &self.ports[id].name
    }

    pub(crate) fn add_tap(&mut self, segment: &str, tap: Recorder) -> Result<(), WireError> {
        let id = self.segment_id(segment)?;
        self.segments[id].taps.push(tap);
        Ok(())
    }

    /// When there is next something to do without a frame: a capture ends by itself, or a stand-in has something to say.
    pub(crate) fn next_wake(&self, now: Now) -> Option<Instant> {
        let ends = self.segments.iter().flat_map(|segment| &segment.taps).filter_map(Recorder::until);
        let due = self.segments.iter().filter_map(|segment| segment.standin.as_ref()?.due());
        let in_seconds = |at: u32| now.instant + Duration::from_secs(at.saturating_sub(now.secs).into());
        ends.chain(due.map(in_seconds)).min()
    }

    /// Sends what the stand-ins have to say unasked.
    pub(crate) fn advertise(&mut self, now: Now) {
        for segment in 0..self.segments.len() {
            if let Some(standin) = &mut self.segments[segment].standin {
                standin.speak(now.secs, &mut self.answers);
                self.send_answers(segment, now);
            }
        }
    }

    /// Ends the captures whose time has come.
    pub(crate) fn end_taps(&mut self, now: Instant) {
        for segment in &mut self.segments {
            segment.taps.retain(|tap| tap.until().is_none_or(|until| until > now));
        }
    }

    /// Takes a frame from a station that is no host.
    pub(crate) fn inject(&mut self, segment: &str, bytes: &[u8], now: Now) -> Result<(), WireError> {
        let segment = self.segment_id(segment)?;
        let known = self.segments[segment].ports.iter().copied().find(|id| self.ports[*id].station);
        let station = known.unwrap_or_else(|| {
            let Segment { name, mtu, .. } = &self.segments[segment];
            let port = Port {
                name: station_port(name).into(),
                segment,
                // Port security applies only to ports with a known NIC.
                pipeline: Pipeline::new(None, *mtu),
                outbox: Outbox::default(),
                counters: Counters::default(),
                connected: true,
                offloads: false,
                connections: 1,
                removed: false,
                station: true,
            };
            self.place(segment, port)
        });
        self.ingress(station, None, bytes, now);
        Ok(())
    }

    /// Takes a frame that came in at `from`, with its offload header if the port has them. Returns the port it left by, if
    /// it was one port.
    pub(crate) fn ingress(
        &mut self,
        from: PortId,
        header: Option<&[u8; offload::HEADER_LEN]>,
        bytes: &[u8],
        now: Now,
    ) -> Option<PortId> {
        let Some(offload) = header.map_or(Some(Offload::default()), |header| Offload::read(header, bytes))
        else {
            return self.one(from, bytes, None, now);
        };
        if offload.is_none() || !self.looks(self.ports[from].segment, bytes, offload) {
            return self.one(from, bytes, Some(offload), now);
        }
        let mut to = None;
        offload.unfold(bytes, |frame| to = self.one(from, frame, Some(Offload::default()), now).or(to));
        to
    }

    /// Whether something must see the single frames that a cable would carry: a capture, a block, or the MTU, which only
    /// the last of the frames may meet.
    fn looks(&self, segment: usize, bytes: &[u8], offload: Offload) -> bool {
        let Segment { taps, blocks, mtu, .. } = &self.segments[segment];
        !taps.is_empty()
            || !blocks.is_empty()
            || offload.is_uncut()
                && Frame::read(bytes, offload).is_some_and(|frame| frame.l3_len > usize::from(*mtu))
    }

    /// Takes one frame, maybe uncut. `offload` is `None` if its header was malformed.
    fn one(&mut self, from: PortId, bytes: &[u8], offload: Option<Offload>, now: Now) -> Option<PortId> {
        let port = &mut self.ports[from];
        let segment = port.segment;
        let left = offload.unwrap_or_default();
        port.counters.rx_frames += left.count(bytes.len()) as u64;
        port.counters.rx_bytes += left.total(bytes.len()) as u64;
        let refused = match offload.and_then(|offload| Frame::read(bytes, offload)) {
            None => DropReason::Malformed,
            Some(frame) => match port.pipeline.judge(Stage::Ingress, &frame) {
                Verdict::Drop(reason) => reason,
                Verdict::Pass if self.segments[segment].blocks.at_ingress(Some(from), &frame) => {
                    DropReason::Blocked
                }
                Verdict::Pass => return self.carry_and_answer(from, segment, &frame, now),
            },
        };
        port.counters.dropped(refused, left.count(bytes.len()));
        self.record(Some(from), segment, bytes, Outcome::Dropped(from, refused));
        None
    }

    fn carry_and_answer(
        &mut self,
        from: PortId,
        segment: usize,
        frame: &Frame<'_>,
        now: Now,
    ) -> Option<PortId> {
        self.segments[segment].fdb.learn(frame.vid, frame.src, from, now.secs);
        let Segment { mld, standin, .. } = &mut self.segments[segment];
        if let Some(mld) = mld.as_mut().filter(|_| frame.dst.is_multicast()) {
            // The stand-in lives in the untagged LAN.
            let querier = standin.as_ref().filter(|_| frame.vid == 0).and_then(StandIn::querier);
            let left = mld.learn(from, frame, querier.is_some(), now.secs);
            self.answers
                .extend(left.into_iter().filter_map(|group| Some(advert::query(querier?, Some(group)))));
        }
        let outcome = self.carry(Some(from), segment, frame, now);
        self.record(Some(from), segment, frame.bytes(), outcome);
        self.send_answers(segment, now);
        match outcome {
            Outcome::To(port) => Some(port),
            _ => None,
        }
    }

    /// Sends what the stand-in of a segment is about to send.
    fn send_answers(&mut self, segment: usize, now: Now) {
        if self.answers.is_empty() {
            return;
        }
        let mut answers = std::mem::take(&mut self.answers);
        for answer in answers.drain(..) {
            if let Some(frame) = Frame::read(&answer, Offload::default()) {
                let outcome = match self.segments[segment].blocks.at_ingress(None, &frame) {
                    true => Outcome::Unanswered(DropReason::Blocked),
                    false => self.carry(None, segment, &frame, now),
                };
                self.record(None, segment, &answer, outcome);
            }
        }
        self.answers = answers;
    }

    /// Forwards a frame to its destination. Without `from`, the stand-in sent it.
    fn carry(&mut self, from: Option<PortId>, segment: usize, frame: &Frame<'_>, now: Now) -> Outcome {
        let Self { segments, ports, unsent, answers, .. } = self;
        let segment = &mut segments[segment];
        let mut reached = 0;
        // The stand-in lives in the untagged LAN.
        if let Some(standin) = segment.standin.as_mut().filter(|_| frame.vid == 0) {
            if from.is_none() {
                standin.tx_frames += 1;
            } else if standin.hears(frame.dst) {
                frame.unfold(|bytes| {
                    if let Ok(eth) = EthernetFrame::new_checked(bytes) {
                        standin.receive(&eth, now.secs, answers);
                    }
                });
                if frame.dst == standin.mac {
                    return Outcome::ToGateway;
                }
                reached += 1;
            }
        }
        let known =
            if frame.dst.is_multicast() { None } else { segment.fdb.port(frame.vid, frame.dst, now.secs) };
        if let Some(to) = known {
            if let Some(from) = from.filter(|from| *from == to) {
                let count = frame.offload.count(frame.bytes().len());
                ports[from].counters.dropped(DropReason::SamePort, count);
                return Outcome::Dropped(from, DropReason::SamePort);
            }
            let blocked = segment.blocks.at_egress(from, to, frame);
            return match ports[to].egress(frame, now, to, blocked, unsent) {
                Ok(()) => Outcome::To(to),
                Err(reason) => Outcome::Dropped(to, reason),
            };
        }
        let listeners = segment.mld.as_ref().filter(|_| frame.dst.is_multicast());
        let listeners = listeners.and_then(|mld| mld.ports(frame, now.secs));
        let listens = |to: &PortId| listeners.as_ref().is_none_or(|ports| ports.contains(to));
        let mut refused = None;
        if let Some(from) =
            from.filter(|from| reached == 0 && !segment.ports.iter().any(|to| to != from && listens(to)))
            && listeners.is_some()
        {
            ports[from].counters.dropped(DropReason::NoListener, 1);
            return Outcome::Dropped(from, DropReason::NoListener);
        }
        for to in segment.ports.iter().copied().filter(|to| Some(*to) != from && listens(to)) {
            // It takes only frames to its stations; nobody would read flooded ones.
            if ports[to].station {
                continue;
            }
            let blocked = segment.blocks.at_egress(from, to, frame);
            match ports[to].egress(frame, now, to, blocked, unsent) {
                Ok(()) => reached += 1,
                Err(reason) => refused = Some((to, reason)),
            }
        }
        match refused {
            Some((to, reason)) if reached == 0 => Outcome::Dropped(to, reason),
            _ => Outcome::Flooded(reached),
        }
    }

    fn record(&mut self, from: Option<PortId>, segment: usize, bytes: &[u8], outcome: Outcome) {
        let Self { segments, ports, gateway, .. } = self;
        let taps = &mut segments[segment].taps;
        if taps.is_empty() {
            return;
        }
        let name = |id: PortId| Arc::clone(&ports[id].name);
        let fate = match outcome {
            Outcome::To(to) => Fate::Forwarded { to: name(to) },
            Outcome::ToGateway => Fate::Forwarded { to: Arc::clone(gateway) },
            Outcome::Flooded(ports) => Fate::Flooded { ports },
            Outcome::Dropped(at, reason) => Fate::Dropped { at: name(at), reason },
            Outcome::Unanswered(reason) => Fate::Dropped { at: Arc::clone(gateway), reason },
        };
        let (timestamp, port) = (SystemTime::now(), from.map_or(&*gateway, |from| &ports[from].name));
        taps.retain_mut(|tap| tap.offer(timestamp, port, &fate, bytes));
    }

    fn named(&self, rule: &Rule) -> Block {
        let name = |port: Option<PortId>| port.map(|id| self.ports[id].name.to_string());
        Block { filter: rule.filter, from: name(rule.from), to: name(rule.to) }
    }

    pub(crate) fn stats(&self, now: Now) -> Stats {
        let ports = self.ports.iter().filter(|port| !port.removed && !port.station);
        let ports = ports.map(|port| (port.name.to_string(), port.stats(&self.segments[port.segment].name)));
        let segments = self.segments.iter().map(|segment| {
            let standin = segment.standin.as_ref();
            let stats = SegmentStats {
                gateway_mac: standin.map(|standin| standin.mac.octets()),
                stations: segment.fdb.len(now.secs),
                not_learned: segment.fdb.full,
                gateway_rx_frames: standin.map_or(0, |standin| standin.rx_frames),
                gateway_tx_frames: standin.map_or(0, |standin| standin.tx_frames),
                gateway_no_route: standin.map_or(0, |standin| standin.no_route),
                blocks: segment.blocks.iter().map(|rule| self.named(rule)).collect(),
            };
            (segment.name.clone(), stats)
        });
        Stats { ports: ports.collect(), segments: segments.collect() }
    }
}

impl Segment {
    /// Forgets what was learned at a port.
    fn forget(&mut self, port: PortId) {
        self.fdb.forget(port);
        if let Some(mld) = &mut self.mld {
            mld.forget(port);
        }
    }
}

impl Port {
    /// Queues a frame to the host, if policies, connection and queue allow it.
    fn egress(
        &mut self,
        frame: &Frame<'_>,
        now: Now,
        id: PortId,
        blocked: bool,
        unsent: &mut Vec<PortId>,
    ) -> Result<(), DropReason> {
        if self.station {
            // Nobody reads it; the capture shows that it came.
            return Ok(());
        }
        let fresh = self.outbox.is_empty();
        let refused = match self.pipeline.judge(Stage::Egress, frame) {
            Verdict::Drop(reason) => Some(reason),
            Verdict::Pass if blocked => Some(DropReason::Blocked),
            Verdict::Pass if !self.connected => Some(DropReason::NotConnected),
            Verdict::Pass => None,
        };
        let len = frame.bytes().len();
        if let Some(reason) = refused {
            self.counters.dropped(reason, frame.offload.count(len));
            return Err(reason);
        }
        let mut queued = false;
        if self.offloads {
            queued = self.queue(&frame.offload.header(), frame.bytes(), frame.offload, now);
        } else {
            frame.unfold(|bytes| queued |= self.queue(&[], bytes, Offload::default(), now));
        }
        if fresh && queued {
            unsent.push(id);
        }
        queued.then_some(()).ok_or(DropReason::QueueFull)
    }

    /// Queues a frame as it is; returns whether there was room.
    fn queue(&mut self, header: &[u8], bytes: &[u8], offload: Offload, now: Now) -> bool {
        let (count, len) = (offload.count(bytes.len()), bytes.len());
        if !self.outbox.push(header, bytes, now.instant) {
            self.counters.dropped(DropReason::QueueFull, count);
            return false;
        }
        self.counters.tx_frames += count as u64;
        self.counters.tx_bytes += offload.total(len) as u64;
        true
    }

    fn stats(&self, segment: &str) -> PortStats {
        PortStats {
            segment: segment.into(),
            connected: self.connected,
            connections: self.connections,
            link: self.pipeline.link(),
            rx_frames: self.counters.rx_frames,
            rx_bytes: self.counters.rx_bytes,
            tx_frames: self.counters.tx_frames,
            tx_bytes: self.counters.tx_bytes,
            drops: self.counters.drops(),
        }
    }
}

/// Name in captures of the port by which frames are injected into a segment.
#[must_use]
pub fn station_port(segment: &str) -> String {
    format!("{segment}/station")
}

/// The `n`-th MAC for a gateway: locally administered, with a prefix that neither Docker (02:42) nor the model uses.
fn gateway_mac(n: u16) -> MacAddr {
    let [high, low] = n.to_be_bytes();
    MacAddr([0x06, 0x67, 0x77, 0x00, high, low])
}

mod keep;
#[cfg(test)]
mod tests;
