//! The stand-in's table of neighbours: by ARP (RFC 826), and by IPv6's neighbour discovery (RFC 4861).
//!
//! A router does not answer to the MAC that a packet came from; it asks who has the address. So does the stand-in. This
//! shows that an ipvlan l3 container in the segment's subnet gets no answer, because it answers no ARP. Neighbour discovery is the same.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

use vxlan::MacAddr;

/// Seconds that an answer stays valid (Linux: base_reachable_time).
const FRESH: u32 = 30;
/// Seconds between two ARP requests for one address.
const AGAIN: u32 = 1;
/// Most seconds that a packet waits for an answer.
const WAIT: u32 = 3;
/// Most bytes that wait for one neighbour (as Linux has `unres_qlen_bytes`), unless the newest frame alone is larger: a matrix
/// sends to all destinations at once, and all its answers are for the one who asks.
const WAITING: usize = 64 << 10;
/// Most bytes that wait for all neighbours together: full queues for 64. Without it, who pings from 4,096 addresses that nobody
/// answers for makes 256 MiB wait.
const WAITING_IN_ALL: usize = 64 * WAITING;
/// Most neighbours.
const CAPACITY: usize = 4096;

enum Neighbour {
    Known {
        mac: MacAddr,
        heard: u32,
    },
    /// Frames, each with the time when it began to wait.
    Asked {
        at: u32,
        waiting: VecDeque<(u32, Vec<u8>)>,
    },
}

impl Neighbour {
    fn stale(&self, now: u32) -> bool {
        match self {
            Self::Known { heard, .. } => now.saturating_sub(*heard) >= FRESH,
            Self::Asked { at, .. } => now.saturating_sub(*at) >= WAIT,
        }
    }

    /// Bytes that wait for it.
    fn waiting(&self) -> usize {
        match self {
            Self::Known { .. } => 0,
            Self::Asked { waiting, .. } => bytes(waiting),
        }
    }
}

/// What to do for a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send it: the destination MAC is set.
    Send(Vec<u8>),
    /// It waits; ask who has the address.
    Ask,
    /// It waits, or there is no room for it.
    Wait,
}

/// Times are seconds of the wire's own clock.
#[derive(Default)]
pub(crate) struct Neighbours {
    known: HashMap<IpAddr, Neighbour>,
    /// Bytes that wait.
    waiting: usize,
    /// When those that had waited too long were last dropped.
    dropped: u32,
}

impl Neighbours {
    /// Notes that `mac` announced `ip`. Unless `to_us`, this only updates known entries. Puts frames to send now into
    /// `out`.
    pub(crate) fn heard(&mut self, ip: IpAddr, mac: MacAddr, to_us: bool, now: u32, out: &mut Vec<Vec<u8>>) {
        if !to_us && !self.known.contains_key(&ip) || !self.room_for(ip, now) {
            return;
        }
        if let Some(Neighbour::Asked { waiting, .. }) =
            self.known.insert(ip, Neighbour::Known { mac, heard: now })
        {
            self.waiting -= bytes(&waiting);
            let in_time = waiting.into_iter().filter(|(since, _)| now.saturating_sub(*since) <= WAIT);
            out.extend(in_time.map(|(_, frame)| addressed(frame, mac)));
        }
    }

    /// Finds the MAC of `ip`, where `frame` goes.
    pub(crate) fn resolve(&mut self, ip: IpAddr, frame: Vec<u8>, now: u32) -> Next {
        if let Some(Neighbour::Known { mac, heard }) = self.known.get(&ip)
            && now.saturating_sub(*heard) < FRESH
        {
            return Next::Send(addressed(frame, *mac));
        }
        if !self.room_for(ip, now) {
            return Next::Wait;
        }
        let queued = self.room_to_wait(frame.len(), now);
        match self.known.get_mut(&ip) {
            Some(Neighbour::Asked { at, waiting }) => {
                if queued {
                    self.waiting += frame.len();
                    waiting.push_back((now, frame));
                }
                let mut own = bytes(waiting);
                while own > WAITING
                    && waiting.len() > 1
                    && let Some((_, oldest)) = waiting.pop_front()
                {
                    own -= oldest.len();
                    self.waiting -= oldest.len();
                }
                if now.saturating_sub(*at) < AGAIN {
                    return Next::Wait;
                }
                *at = now;
                Next::Ask
            }
            _ => {
                let waiting: VecDeque<_> = queued.then_some((now, frame)).into_iter().collect();
                self.waiting += bytes(&waiting);
                self.known.insert(ip, Neighbour::Asked { at: now, waiting });
                Next::Ask
            }
        }
    }

    fn room_for(&mut self, ip: IpAddr, now: u32) -> bool {
        if self.known.len() >= CAPACITY && !self.known.contains_key(&ip) {
            self.known.retain(|_, neighbour| !neighbour.stale(now));
            self.waiting = self.known.values().map(Neighbour::waiting).sum();
        }
        self.known.len() < CAPACITY || self.known.contains_key(&ip)
    }

    /// Whether a frame of this length may wait.
    fn room_to_wait(&mut self, len: usize, now: u32) -> bool {
        // Looking at all of them once a second is enough: that is how exact the times are.
        if self.waiting + len > WAITING_IN_ALL && self.dropped != now {
            self.dropped = now;
            for neighbour in self.known.values_mut() {
                if let Neighbour::Asked { waiting, .. } = neighbour {
                    waiting.retain(|(since, _)| now.saturating_sub(*since) <= WAIT);
                }
            }
            self.waiting = self.known.values().map(Neighbour::waiting).sum();
        }
        self.waiting + len <= WAITING_IN_ALL
    }
}

fn bytes(waiting: &VecDeque<(u32, Vec<u8>)>) -> usize {
    waiting.iter().map(|(_, frame)| frame.len()).sum()
}

fn addressed(mut frame: Vec<u8>, mac: MacAddr) -> Vec<u8> {
    if let Some(dst) = frame.first_chunk_mut::<6>() {
        *dst = mac.octets();
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    #[test]
    fn packets_wait_for_the_answer_and_answers_grow_old() {
        let (mut neighbours, mut out) = (Neighbours::default(), Vec::new());
        assert_eq!(neighbours.resolve(IP, vec![0; 60], 5), Next::Ask);
        for n in 1..200 {
            assert_eq!(neighbours.resolve(IP, vec![n; 60], 5), Next::Wait);
        }
        neighbours.heard(IP, MAC, true, 5, &mut out);
        let marks: Vec<u8> = out.iter().map(|frame| frame[19]).collect();
        assert_eq!(marks, (0..200).collect::<Vec<u8>>(), "the answers of a large matrix");
        assert!(out.iter().all(|frame| frame[..6] == MAC.octets()));
        assert!(matches!(neighbours.resolve(IP, vec![0; 20], 34), Next::Send(_)));
        assert_eq!(neighbours.resolve(IP, vec![0; 20], 35), Next::Ask);
    }

    #[test]
    fn the_newest_packets_wait() {
        let (mut neighbours, mut out) = (Neighbours::default(), Vec::new());
        for n in 0..5 {
            neighbours.resolve(IP, vec![n; WAITING / 3], 5);
        }
        neighbours.heard(IP, MAC, true, 5, &mut out);
        let marks: Vec<u8> = out.iter().map(|frame| frame[19]).collect();
        assert_eq!(marks, [2, 3, 4]);

        // Also one that is too large for any other to wait beside it.
        let (mut neighbours, mut out) = (Neighbours::default(), Vec::new());
        for n in 0..2 {
            neighbours.resolve(IP, vec![n; WAITING + 1], 5);
        }
        neighbours.heard(IP, MAC, true, 5, &mut out);
        let marks: Vec<u8> = out.iter().map(|frame| frame[19]).collect();
        assert_eq!((marks, neighbours.waiting), (vec![1], 0));
    }

    #[test]
    fn what_waits_for_all_neighbours_is_bounded_and_what_is_too_late_makes_room() {
        let ip = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(n));
        let (mut neighbours, mut out) = (Neighbours::default(), Vec::new());
        for n in 0..200 {
            neighbours.resolve(ip(n), vec![0; WAITING], 5);
        }
        assert_eq!(neighbours.waiting, WAITING_IN_ALL);
        neighbours.heard(ip(0), MAC, true, 6, &mut out);
        neighbours.heard(ip(199), MAC, true, 6, &mut out);
        assert_eq!((out.len(), neighbours.waiting), (1, WAITING_IN_ALL - WAITING), "the last found no room");
        neighbours.resolve(ip(300), vec![0; WAITING], 6);
        assert_eq!(neighbours.waiting, WAITING_IN_ALL);
        assert!(matches!(neighbours.resolve(ip(0), vec![0; WAITING], 7), Next::Send(_)));
        assert_eq!(neighbours.dropped, 5, "what is sent at once needs no room");
        // The one of the sixth second is in time yet.
        neighbours.resolve(ip(301), vec![0; WAITING], 5 + WAIT + 1);
        assert_eq!(neighbours.waiting, 2 * WAITING);
        let counted: usize = neighbours.known.values().map(Neighbour::waiting).sum();
        assert_eq!(neighbours.waiting, counted);
    }

    #[test]
    fn late_answers_release_nothing_and_strangers_are_not_stored() {
        let (mut neighbours, mut out) = (Neighbours::default(), Vec::new());
        neighbours.heard(IP, MAC, false, 0, &mut out);
        assert_eq!(neighbours.resolve(IP, vec![0; 20], 0), Next::Ask);
        assert_eq!(neighbours.resolve(IP, vec![0; 20], 1), Next::Ask, "asked again after a second");
        neighbours.heard(IP, MAC, false, 9, &mut out);
        assert!(out.is_empty());
        assert!(matches!(neighbours.resolve(IP, vec![0; 20], 9), Next::Send(_)));
    }

    #[test]
    fn a_scan_is_bounded() {
        let mut neighbours = Neighbours::default();
        for n in 0..10_000 {
            neighbours.resolve(std::net::Ipv4Addr::from_bits(n).into(), vec![0; 20], 0);
        }
        assert_eq!(neighbours.known.len(), CAPACITY);
        assert_eq!(neighbours.resolve(IP, vec![0; 20], WAIT), Next::Ask, "room again once those gave up");
    }
}
