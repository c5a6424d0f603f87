//! One probe session: its pending shots, its listeners, its sightings.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use labctl_model::{OfFamily, PerFamily, Protocol};
use labctl_protocol::{
    messages::{Outcome, Shot, ShotKind, ShotResult, ShotTarget, Sighting},
    probe::{
        greeting::{GREETING_LENGTH, answered, greeted, patience},
        heard::{self, Heard, Key},
        nonce::{Kind, Nonce},
        trace::{MAX_SIGHTINGS, Tracer},
    },
};
use smoltcp::iface::SocketHandle;
use tokio::{sync::mpsc::UnboundedSender, time::Instant};
use vxlan::{checksum::Addresses, proto::ip_protocol, reply};

use crate::{
    Config,
    datagram::udp_packet,
    link::{Hop, Link},
    stack::{Progress, Stack},
};

/// Source ports of shots (Linux: ip_local_port_range).
const PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;
/// Bytes of a ping or a datagram before its payload.
const HEADER: usize = 8;

/// A shot that has no outcome yet.
struct Pending {
    key: Key,
    to: IpAddr,
    sent: Instant,
    deadline: Instant,
    relayed: bool,
    results: UnboundedSender<ShotResult>,
    connection: Option<Connection>,
}

struct Connection {
    handle: SocketHandle,
    /// Set once it is established.
    rtt: Option<Duration>,
    said: Vec<u8>,
}

/// An open session.
pub struct Run {
    pub number: u64,
    name: String,
    interface: String,
    addresses: PerFamily<IpAddr>,
    mtu: u16,
    listeners: HashSet<(Protocol, u16)>,
    tracer: Tracer,
    known: HashSet<Sighting>,
    seen: Vec<Sighting>,
    shots: HashMap<u32, Pending>,
    awaited: HashMap<Key, u32>,
    /// When shots time out; some may have ended earlier.
    deadlines: BTreeSet<(Instant, u32)>,
    port: u16,
}

impl Run {
    pub fn new(number: u64, config: &Config, listeners: Vec<(Protocol, u16)>) -> Self {
        // Where ports begin; taken from `number`, so that consecutive sessions do not collide.
        let [high, low, ..] = number.to_be_bytes();
        Self {
            number,
            name: config.name.clone(),
            interface: config.interface.clone(),
            addresses: config.addresses.iter().map(|net| net.addr()).collect(),
            mtu: config.mtu,
            listeners: listeners.into_iter().collect(),
            tracer: Tracer::new(number),
            known: HashSet::new(),
            seen: Vec::new(),
            shots: HashMap::new(),
            awaited: HashMap::new(),
            deadlines: BTreeSet::new(),
            port: PORTS.start() + u16::from_be_bytes([high, low]) % 16_384,
        }
    }

    /// The ports that it listens on.
    pub fn ports(&self, protocol: Protocol) -> impl Iterator<Item = u16> {
        self.listeners.iter().filter(move |(p, _)| *p == protocol).map(|(_, port)| *port)
    }

    pub fn listens(&self, protocol: Protocol, port: u16) -> bool {
        self.listeners.contains(&(protocol, port))
    }

    pub fn sightings(&self) -> Vec<Sighting> {
        self.seen.clone()
    }

    /// Connections that have no outcome yet.
    pub fn connections(&self) -> impl Iterator<Item = SocketHandle> {
        self.shots.values().filter_map(|s| s.connection.as_ref()).map(|c| c.handle)
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Notes a packet that passes the interface.
    pub fn see(&mut self, packet: &[u8], inbound: bool, local: bool) {
        let Some(trace) = self.tracer.read(packet) else { return };
        let sighting = trace.seen_at(self.name.clone(), self.interface.clone(), inbound, local);
        if self.seen.len() < MAX_SIGHTINGS && self.known.insert(sighting.clone()) {
            self.seen.push(sighting);
        }
    }

    /// Fires a shot. Returns the packet to send, unless the stack sends it.
    pub fn fire(
        &mut self,
        shot: Shot,
        (now, deadline): (Instant, Instant),
        link: &Link,
        stack: &mut Stack,
        results: &UnboundedSender<ShotResult>,
    ) -> Option<Vec<u8>> {
        let mut address = None;
        let ended = |address, outcome| {
            // The receiver may be gone.
            let _ = results.send(result(shot.cell, address, None, outcome));
            None
        };
        let failed = |why: &str| Outcome::Failed { why: why.to_owned() };
        let to = match &shot.to {
            ShotTarget::Address(to) => *address.insert(*to),
            ShotTarget::Name(..) => return ended(None, failed("a peer has no resolver")),
        };
        let own_address = self.addresses.get(to.family());
        let ends =
            own_address.filter(|_| link.hop(to) != Hop::NoRoute).and_then(|own| Addresses::of(own, to));
        let Some(ends) = ends else { return ended(address, Outcome::NoRoute) };
        let one_packet = matches!(shot.kind, ShotKind::Icmp | ShotKind::Udp(_));
        if one_packet && shot.size > u32::from(self.mtu) {
            // As a kernel reports it; probes are never fragmented.
            let (icmp_type, icmp_code) = heard::too_big(to.family());
            return ended(address, Outcome::Unreachable { from: None, icmp_type, icmp_code });
        }
        let mark = Nonce { kind: Kind::Request, run: self.number, cell: shot.cell };
        let mut nonce = mark.bytes().to_vec();
        let wanted =
            usize::try_from(shot.size).unwrap_or(0).saturating_sub(to.family().header_len() + HEADER);
        nonce.resize(nonce.len().max(wanted), 0);
        let (key, packet, connection) = match shot.kind {
            ShotKind::Icmp => {
                let (id, seq) = mark.echo();
                let packet = reply::ip(ends, ends.icmp(), 64, &ends.echo_request(id, seq, &nonce));
                (Key::Echo(id, seq), Some(packet), None)
            }
            ShotKind::Udp(port) => {
                let Some(own) = self.free_port(ip_protocol::UDP, SocketAddr::new(to, port)) else {
                    return ended(address, failed("all source ports are taken"));
                };
                let key = Key::Port(ip_protocol::UDP, own, SocketAddr::new(to, port));
                (key, Some(udp_packet(ends, (own, port), &nonce)), None)
            }
            ShotKind::Tcp(port) => {
                let there = SocketAddr::new(to, port);
                let Some(own) = self.free_port(ip_protocol::TCP, there) else {
                    return ended(address, failed("all source ports are taken"));
                };
                match stack.connect(own, there) {
                    Ok(handle) => {
                        let connection = Connection { handle, rtt: None, said: Vec::new() };
                        (Key::Port(ip_protocol::TCP, own, there), None, Some(connection))
                    }
                    Err(why) => return ended(address, Outcome::Failed { why }),
                }
            }
            ShotKind::Dns => return ended(address, failed("a peer has no resolver")),
        };
        self.awaited.insert(key, shot.cell);
        self.deadlines.insert((deadline, shot.cell));
        let (sent, relayed, results) = (now, shot.relayed, results.clone());
        let pending = Pending { key, to, sent, deadline, relayed, results, connection };
        self.shots.insert(shot.cell, pending);
        packet
    }

    /// The next source port that no other shot to the same destination has.
    fn free_port(&mut self, protocol: u8, to: SocketAddr) -> Option<u16> {
        for _ in PORTS {
            self.port = if self.port >= *PORTS.end() { *PORTS.start() } else { self.port + 1 };
            if !self.awaited.contains_key(&Key::Port(protocol, self.port, to)) {
                return Some(self.port);
            }
        }
        None
    }

    /// Whether a shot waits for this key.
    pub fn awaits(&self, key: &Key) -> bool {
        self.awaited.contains_key(key)
    }

    /// Takes an ICMP message for a shot.
    pub fn hear(&mut self, key: Key, heard: Heard, stack: &mut Stack) {
        let Some(&cell) = self.awaited.get(&key) else { return };
        let Some(shot) = self.shots.get(&cell) else { return };
        let outcome = match heard {
            Heard::Reply(at) => {
                Outcome::Answered { rtt_us: micros(at.saturating_duration_since(shot.sent)), by: None }
            }
            Heard::Error { from, icmp_type, icmp_code } => heard::outcome(from, icmp_type, icmp_code),
        };
        self.settle(cell, outcome, stack);
    }

    /// Takes a datagram for a shot. If it is not a listener's answer, a real service answered the nonce.
    pub fn answered(&mut self, key: Key, payload: &[u8], now: Instant) {
        let Some(&cell) = self.awaited.get(&key) else { return };
        let Some(shot) = self.shots.get(&cell) else { return };
        if let Some(taker) = answered(payload, self.number, cell) {
            let rtt_us = micros(now.saturating_duration_since(shot.sent));
            self.end(cell, Outcome::Answered { rtt_us, by: Some(taker) });
        }
    }

    /// Ends the shots that go by a neighbour that did not answer.
    pub fn no_neighbour(&mut self, hop: IpAddr, link: &Link, stack: &mut Stack) {
        let by_it = |s: &Pending| link.hop(s.to) == Hop::Neighbour(hop);
        let cells: Vec<u32> = self.shots.iter().filter(|(_, s)| by_it(s)).map(|(c, _)| *c).collect();
        for cell in cells {
            self.settle(cell, Outcome::NeighborFailed { next_hop: Some(hop) }, stack);
        }
    }

    /// Checks the connections, and ends the shots whose deadline has passed.
    pub fn turn(&mut self, now: Instant, link: &Link, stack: &mut Stack) {
        let mut ended = Vec::new();
        for (cell, shot) in &mut self.shots {
            let Some(connection) = &mut shot.connection else { continue };
            match stack.progress(connection.handle) {
                Progress::Waiting => {}
                Progress::Reset => {
                    let outcome = match connection.rtt {
                        None => Outcome::Refused { from: Some(shot.to) },
                        Some(rtt) => connection.outcome(rtt, self.number),
                    };
                    ended.push((*cell, outcome));
                }
                Progress::Open(came, more) => {
                    connection.said.extend(came);
                    let rtt = *connection.rtt.get_or_insert_with(|| {
                        let rtt = now.saturating_duration_since(shot.sent);
                        let until = shot.deadline.min(now + patience(rtt, shot.relayed));
                        self.deadlines.insert((until, *cell));
                        rtt
                    });
                    let said = &connection.said;
                    if !more || said.contains(&b'\n') || said.len() >= GREETING_LENGTH {
                        ended.push((*cell, connection.outcome(rtt, self.number)));
                    }
                }
            }
        }
        for (cell, outcome) in ended {
            self.settle(cell, outcome, stack);
        }
        while let Some(&(at, cell)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            let Some(shot) = self.shots.get(&cell) else { continue };
            let open = shot.connection.as_ref().and_then(|c| Some((c, c.rtt?)));
            let outcome = match (open, link.hop(shot.to)) {
                (Some((connection, rtt)), _) => connection.outcome(rtt, self.number),
                (None, Hop::Neighbour(hop)) if link.is_unresolved(hop) => {
                    Outcome::NeighborFailed { next_hop: Some(hop) }
                }
                (None, _) => Outcome::Silent,
            };
            self.settle(cell, outcome, stack);
        }
    }

    /// Ends a shot and its connection.
    fn settle(&mut self, cell: u32, outcome: Outcome, stack: &mut Stack) {
        let answered = matches!(outcome, Outcome::Answered { .. });
        if let Some(connection) = self.end(cell, outcome) {
            match answered {
                true => stack.close(connection.handle),
                false => stack.forget(connection.handle),
            }
        }
    }

    fn end(&mut self, cell: u32, outcome: Outcome) -> Option<Connection> {
        let shot = self.shots.remove(&cell)?;
        self.awaited.remove(&shot.key);
        let port = match shot.key {
            Key::Echo(..) => None,
            Key::Port(_, own, _) => Some(own),
        };
        // The receiver may be gone.
        let _ = shot.results.send(result(cell, Some(shot.to), port, outcome));
        shot.connection
    }
}

impl Connection {
    fn outcome(&self, rtt: Duration, run: u64) -> Outcome {
        Outcome::Answered { rtt_us: micros(rtt), by: greeted(&self.said, run) }
    }
}

fn result(cell: u32, address: Option<IpAddr>, source_port: Option<u16>, outcome: Outcome) -> ShotResult {
    ShotResult { cell, address, resolved: Vec::new(), source_port, outcome }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
