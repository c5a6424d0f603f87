//! A request and its answer: what the one who asks learns, and who got it.

use std::net::IpAddr;

use labctl_model::OfFamily;

use super::{Fate, Hop, Unknown, Walker, ip::unspecified};
use crate::{
    net::{ProxyAt, Role},
    packet::{Complaint, Kind, Packet, Proto, Tuple, asks},
};

/// Port that requests are sent from.
const SPORT: u16 = 40_000;
/// Bytes of the least packet of each protocol, headers included.
const LEAST: u32 = 48;
/// Bytes of headers of a TCP segment with timestamps.
const TCP_HEADERS: u32 = 52;
/// Proxies in a row.
const DEEPEST: usize = 4;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Namespace of the one who asks.
    pub from: usize,
    /// Address that it is sent to.
    pub to: IpAddr,
    /// Protocol.
    pub proto: Proto,
    /// Port; 0 for ICMP.
    pub port: u16,
    /// ICMP and UDP: bytes of the packet, which is never cut in two. TCP: bytes sent over the connection.
    pub size: Option<u32>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// Nobody listens there.
    Refused,
    /// Somebody complained.
    Unreachable(Complaint),
    /// No route.
    NoRoute,
    /// No neighbour.
    Arp(IpAddr),
    /// Nothing came back.
    Silent,
    /// Connected, and then nothing.
    Stalled,
}

/// A request and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trip {
    /// What the one who asked learns.
    pub outcome: Outcome,
    /// Namespaces whose own stack got the request, in order, with the source that each saw.
    pub got: Vec<(usize, IpAddr)>,
    /// Why it was not answered.
    pub why: String,
    /// The way there.
    pub there: Vec<Hop>,
    /// The way back.
    pub back: Vec<Hop>,
}

impl Walker<'_> {
    pub(super) fn trip(mut self, asked: &Asked) -> Result<Trip, Unknown> {
        self.ask_once(asked, 0)
    }

    fn ask_once(&mut self, asked: &Asked, depth: usize) -> Result<Trip, Unknown> {
        let port = if asked.proto == Proto::Icmp { SPORT } else { asked.port };
        let tuple = Tuple {
            proto: asked.proto,
            src: unspecified(asked.to),
            sport: SPORT,
            dst: asked.to,
            dport: port,
        };
        let size = match asked.proto {
            Proto::Tcp => LEAST,
            _ => asked.size.unwrap_or(LEAST),
        };
        let request = Packet { tuple, kind: Kind::Data, size, may_fragment: false };
        // A proxy asks with the port of the one before it: that would be the same flow.
        let request = Packet { tuple: Tuple { sport: SPORT + depth as u16, ..tuple }, ..request };
        let before = self.hops.len();
        let fate = self.send(asked.from, request)?;
        let there = self.hops.split_off(before);
        let mut trip =
            Trip { outcome: Outcome::Silent, got: Vec::new(), why: String::new(), there, back: Vec::new() };
        match fate {
            Fate::NoRoute => {
                trip.outcome = Outcome::NoRoute;
                trip.why = format!("{} has no route to {}", self.net.spaces[asked.from].name, asked.to);
            }
            Fate::Arp { hop, why } => {
                (trip.outcome, trip.why) = (Outcome::Arp(hop), format!("{} for {hop}: {why}", asks(hop)));
            }
            Fate::Lost(why) => trip.why = why,
            Fate::Dropped { ns, packet, why } => {
                trip.got.push((ns, packet.tuple.src));
                trip.why = why;
            }
            Fate::Returned { ns, what, packet } => {
                trip.why = format!("{}: {what}", self.net.spaces[ns].name);
                let heard = ns == asked.from || self.complain(ns, what, &packet, asked.from)?;
                trip.back = self.hops.split_off(before);
                if heard {
                    trip.outcome = Outcome::Unreachable(what);
                }
            }
            Fate::Taken { ns, packet } => self.taken(asked, depth, ns, &packet, &mut trip)?,
        }
        Ok(trip)
    }

    /// The stack of a namespace has the request.
    fn taken(
        &mut self,
        asked: &Asked,
        depth: usize,
        ns: usize,
        packet: &Packet,
        trip: &mut Trip,
    ) -> Result<(), Unknown> {
        let net = self.net;
        let space = &net.spaces[ns];
        let t = packet.tuple;
        trip.got.push((ns, t.src));
        let before = self.hops.len();
        let is_port = t.proto != Proto::Icmp;
        let proxy = space.proxies.iter().find(|p| {
            (p.family, p.proto, p.port) == (t.dst.family(), t.proto, t.dport)
                && p.ip.is_none_or(|ip| ip == t.dst)
        });
        let mut answer = packet.tuple.inverse();
        if let Some(ProxyAt { to: None, .. }) = proxy {
            // The kernel makes the connection for a socket that nobody reads.
            let connects = t.proto == Proto::Tcp && self.answer(asked, ns, answer, packet.size)?.is_none();
            trip.back = self.hops.split_off(before);
            trip.outcome = if connects { Outcome::Stalled } else { Outcome::Silent };
            trip.why =
                format!("dockerd of {} keeps {}/{}, and nobody reads it", space.name, t.proto, t.dport);
            return Ok(());
        }
        if let (Some(ProxyAt { to: Some(to), answers_as_asked, .. }), true) = (proxy, depth < DEEPEST) {
            if asked.proto == Proto::Tcp && asked.size.is_some() {
                return Err(Unknown("a size through docker-proxy".to_owned()));
            }
            // A proxy gets a connection once it is made, so the client has to hear of it before the backend does.
            let is_tcp = t.proto == Proto::Tcp;
            if is_tcp && let Some(why) = self.answer(asked, ns, answer, packet.size)? {
                (trip.outcome, trip.why) = (Outcome::Silent, why);
                trip.back = self.hops.split_off(before);
                return Ok(());
            }
            let made = self.hops.split_off(before);
            let leg = Asked { from: ns, to: to.ip(), port: to.port(), ..asked.clone() };
            let behind = self.ask_once(&leg, depth + 1)?;
            let words = format!("docker-proxy: on to {to}");
            trip.there.push(Hop {
                at: space.name.clone(),
                packet: packet.words(),
                by: words,
                ends: packet.ends(),
            });
            trip.there.extend(behind.there);
            trip.back = behind.back;
            trip.got.extend(behind.got);
            if behind.outcome != Outcome::Answered {
                trip.outcome = if is_tcp { Outcome::Stalled } else { Outcome::Silent };
                trip.why = format!("docker-proxy of {} got no answer: {}", space.name, behind.why);
                return Ok(());
            }
            if is_tcp {
                trip.outcome = Outcome::Answered;
                trip.back.extend(made);
                return Ok(());
            }
            if !answers_as_asked {
                answer.src = unspecified(t.src);
            }
        } else if let Some(taken) = space.taken.iter().find(|p| is_port && p.port == Some((t.proto, t.dport)))
        {
            return Err(Unknown(taken.why.clone()));
        } else if is_port && !self.listeners.contains(&(ns, t.proto, t.dport)) {
            if let Some(taken) = space.taken.iter().find(|p| p.port.is_none()) {
                return Err(Unknown(taken.why.clone()));
            }
            trip.why = format!("nobody listens on {}/{} in {}", t.proto, t.dport, space.name);
            let heard = ns == asked.from || self.complain(ns, Complaint::Port, packet, asked.from)?;
            trip.back = self.hops.split_off(before);
            trip.outcome = if heard { Outcome::Refused } else { Outcome::Silent };
            return Ok(());
        }
        let mut size = packet.size;
        if let Some(why) = self.answer(asked, ns, answer, size)? {
            (trip.outcome, trip.why) = (Outcome::Silent, why);
            trip.back.extend(self.hops.split_off(before));
            return Ok(());
        }
        trip.back.extend(self.hops.split_off(before));
        trip.outcome = Outcome::Answered;
        if let (Proto::Tcp, Some(bytes)) = (asked.proto, asked.size) {
            size = bytes;
            if let Some(why) = self.bulk(asked, ns, packet, size)? {
                (trip.outcome, trip.why) = (Outcome::Stalled, why);
            }
            self.hops.truncate(before);
        }
        Ok(())
    }

    /// Sends an answer; why it did not arrive, if so.
    fn answer(
        &mut self,
        asked: &Asked,
        ns: usize,
        tuple: Tuple,
        size: u32,
    ) -> Result<Option<String>, Unknown> {
        let answer = Packet { tuple, kind: Kind::Data, size, may_fragment: false };
        let name = &self.net.spaces[ns].name;
        Ok(match self.send(ns, answer)? {
            Fate::Taken { ns: end, packet } if end == asked.from => {
                let t = packet.tuple;
                let expected = t.src == asked.to && (asked.proto == Proto::Icmp || t.sport == asked.port);
                (!expected).then(|| format!("the answer comes from {}, where nobody was asked", t.src))
            }
            Fate::Taken { ns: end, .. } => Some(format!("the answer goes to {}", self.net.spaces[end].name)),
            Fate::Lost(why) | Fate::Dropped { why, .. } => Some(format!("the answer gets lost: {why}")),
            Fate::NoRoute => Some(format!("{name} has no route back to {}", tuple.dst)),
            Fate::Arp { hop, why } => Some(format!("{name}'s {} for {hop}: {why}", asks(hop))),
            Fate::Returned { ns, what, .. } => {
                Some(format!("the answer gets lost at {}: {what}", self.net.spaces[ns].name))
            }
        })
    }

    /// Sends as much over a connection as was asked, there and back, in segments as large as both ends announce; why
    /// they do not pass, if so.
    fn bulk(
        &mut self,
        asked: &Asked,
        ns: usize,
        request: &Packet,
        bytes: u32,
    ) -> Result<Option<String>, Unknown> {
        if self.net.spaces[ns].role == Role::StandIn {
            return Ok(None);
        }
        let sent = Tuple {
            proto: Proto::Tcp,
            src: unspecified(asked.to),
            sport: SPORT,
            dst: asked.to,
            dport: asked.port,
        };
        let mtu = |w: &Self, ns: usize, to: IpAddr| match w.net.spaces[ns].route(to, None) {
            crate::net::Next::Out { dev, .. } => w.net.spaces[ns].interfaces[dev].mtu,
            _ => u32::MAX,
        };
        let least = mtu(self, asked.from, asked.to).min(mtu(self, ns, request.tuple.src));
        for (from, tuple) in [(asked.from, sent), (ns, request.tuple.inverse())] {
            let mut size = least.min(bytes.saturating_add(TCP_HEADERS));
            // Path MTU discovery: each round is a smaller MTU.
            for _ in 0..8 {
                let packet = Packet { tuple, kind: Kind::Data, size, may_fragment: false };
                match self.send(from, packet)? {
                    Fate::Returned { ns, what: Complaint::TooBig(mtu), packet } => {
                        if ns != from && !self.complain(ns, Complaint::TooBig(mtu), &packet, from)? {
                            return Ok(Some(format!(
                                "{}: too big, and nobody is told",
                                self.net.spaces[ns].name
                            )));
                        }
                        size = mtu;
                    }
                    Fate::Lost(why) | Fate::Dropped { why, .. } => {
                        return Ok(Some(format!("segments of {size} bytes get lost: {why}")));
                    }
                    _ => break,
                }
            }
        }
        Ok(None)
    }

    /// Sends a complaint about a packet; whether the one who asked hears it.
    fn complain(&mut self, ns: usize, what: Complaint, about: &Packet, to: usize) -> Result<bool, Unknown> {
        let space = &self.net.spaces[ns];
        let t = about.tuple;
        // A destination that refuses, and the stand-in for what is outside, answer as who was asked.
        let src = match (what, space.role) {
            (Complaint::Port, _) => t.dst,
            _ => unspecified(t.src),
        };
        // TCP says it by a reset.
        let reset = what == Complaint::Port && t.proto == Proto::Tcp;
        let proto = if reset { Proto::Tcp } else { Proto::Icmp };
        let tuple = Tuple { proto, src, sport: 0, dst: t.src, dport: 0 };
        let packet = Packet { tuple, kind: Kind::Complaint(what, t), size: LEAST, may_fragment: true };
        Ok(matches!(self.send(ns, packet)?, Fate::Taken { ns: end, .. } if end == to))
    }
}
