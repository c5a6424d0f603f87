//! The link below the stack: Ethernet, ARP (RFC 826), IPv6's neighbour discovery (RFC 4861) and the routing table of one interface.
//!
//! Like Linux: it asks for a next hop three times, one second apart, while packets wait. Then the next hop has failed.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use ipnet::IpNet;
use labctl_model::{OfFamily, PerFamily};
use tokio::time::Instant;
use vxlan::{
    EthernetFrame, MacAddr,
    proto::{ethertype, icmpv6},
    reply::{self, ALL_NODES, Neighbors},
};

use crate::Config;

/// Time between two requests for one address, and how many we send (Linux: retrans_time_ms, mcast_solicit).
const AGAIN: Duration = Duration::from_secs(1);
const QUESTIONS: u32 = 3;
/// Most bytes that wait for one next hop (Linux: unres_qlen_bytes).
const WAITING: usize = 212_992;
/// Most next hops; limits the cost of an ARP broadcast storm.
const NEIGHBOURS: usize = 65_536;

#[derive(Debug)]
enum Neighbour {
    Known(MacAddr),
    Asked { questions: u32, next: Instant, waiting: Vec<Vec<u8>>, bytes: usize },
}

/// Where a packet goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// To this station itself.
    Own,
    /// To this neighbour.
    Neighbour(IpAddr),
    /// Nowhere.
    NoRoute,
}

/// One interface's link.
#[derive(Debug)]
pub struct Link {
    mac: MacAddr,
    addresses: PerFamily<IpAddr>,
    /// Longest prefixes first. Without a next hop, the destination is on the link.
    routes: Vec<(IpNet, Option<IpAddr>)>,
    neighbours: HashMap<IpAddr, Neighbour>,
}

impl Link {
    /// The link of a peer.
    pub fn new(config: &Config) -> Self {
        let mut routes: Vec<_> = config.addresses.iter().map(|net| (net.trunc(), None)).collect();
        routes.extend(config.routes.iter().copied());
        // A gateway of a family that it has no address of is of no use.
        let gateways = config.gateway.iter().filter(|g| config.addresses.has(g.family()));
        routes.extend(gateways.map(|gateway| (gateway.family().everything(), Some(gateway))));
        // Stable sort: for equal prefixes, the connected one comes first, then the topology's own.
        routes.sort_by_key(|(to, _)| std::cmp::Reverse(to.prefix_len()));
        let addresses = config.addresses.iter().map(|net| net.addr()).collect();
        Self { mac: MacAddr(config.mac), addresses, routes, neighbours: HashMap::new() }
    }

    /// Where a packet to `to` goes first.
    pub fn hop(&self, to: IpAddr) -> Hop {
        if self.is_own(to) || to.is_loopback() {
            return Hop::Own;
        }
        match self.routes.iter().find(|(prefix, _)| prefix.contains(&to)) {
            Some((_, via)) => Hop::Neighbour(via.unwrap_or(to)),
            None => Hop::NoRoute,
        }
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.addresses.get(address.family()) == Some(address)
    }

    /// The question for a neighbour's MAC.
    fn question(&self, hop: IpAddr) -> Option<Vec<u8>> {
        reply::who_has(self.mac, self.addresses.get(hop.family())?, hop)
    }

    /// Forgets the known neighbours: later packets ask on the wire again.
    pub fn forget(&mut self) {
        self.neighbours.retain(|_, n| matches!(n, Neighbour::Asked { .. }));
    }

    /// Whether we asked for this neighbour and it has not answered yet.
    pub fn is_unresolved(&self, hop: IpAddr) -> bool {
        matches!(self.neighbours.get(&hop), Some(Neighbour::Asked { .. }))
    }

    /// Sends a packet to a neighbour. Puts frames that can leave now into `out`.
    pub fn send(&mut self, hop: IpAddr, packet: Vec<u8>, now: Instant, out: &mut Vec<Vec<u8>>) {
        let full = self.neighbours.len() >= NEIGHBOURS;
        match self.neighbours.get_mut(&hop) {
            Some(Neighbour::Known(mac)) => {
                let mac = *mac;
                out.push(self.frame(mac, &packet));
            }
            Some(Neighbour::Asked { waiting, bytes, .. }) => {
                if *bytes + packet.len() <= WAITING {
                    *bytes += packet.len();
                    waiting.push(packet);
                }
            }
            None if full => {}
            None => {
                out.extend(self.question(hop));
                let (bytes, waiting) = (packet.len(), vec![packet]);
                let asked = Neighbour::Asked { questions: 1, next: now + AGAIN, waiting, bytes };
                self.neighbours.insert(hop, asked);
            }
        }
    }

    fn frame(&self, to: MacAddr, packet: &[u8]) -> Vec<u8> {
        let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
        let kind = if is_v6 { ethertype::IPV6 } else { ethertype::IPV4 };
        reply::ethernet(to, self.mac, None, kind, packet)
    }

    /// Takes a frame. Returns its IP packet, if the frame is for this station. Puts answers to questions for its MAC into
    /// `out`.
    pub fn receive<'f>(&mut self, frame: &EthernetFrame<'f>, out: &mut Vec<Vec<u8>>) -> Option<&'f [u8]> {
        let for_us = frame.dst() == self.mac || frame.dst().is_broadcast() || self.is_in_group(frame.dst());
        // An interface without VLANs accepts a priority tag and no other.
        if !for_us || frame.vlan().is_some_and(|tag| tag.vid != 0) {
            return None;
        }
        if let Some(told) = Neighbors::read(frame) {
            self.discover(frame, &told, out);
            return None;
        }
        matches!(frame.ethertype(), ethertype::IPV4 | ethertype::IPV6).then(|| frame.payload())
    }

    /// Whether it listens to this group: that of all nodes, and those of the solicitations for its address.
    fn is_in_group(&self, dst: MacAddr) -> bool {
        self.addresses.iter().any(|own| match own {
            IpAddr::V4(_) => false,
            IpAddr::V6(own) => [ALL_NODES, icmpv6::solicited_node(own)]
                .into_iter()
                .any(|group| icmpv6::group_mac(group) == dst),
        })
    }

    /// Takes a question or an answer of ARP or neighbour discovery.
    fn discover(&mut self, frame: &EthernetFrame<'_>, told: &Neighbors, out: &mut Vec<Vec<u8>>) {
        let to_us = self.is_own(told.target);
        // What is not for us only updates known entries (RFC 826, RFC 4861 section 7.2.5).
        let wanted =
            |ip: &IpAddr| self.neighbours.contains_key(ip) || to_us && self.neighbours.len() < NEIGHBOURS;
        if let Some((ip, mac)) = told.tells.filter(|(ip, _)| wanted(ip) && !self.is_own(*ip)) {
            let known = self.neighbours.insert(ip, Neighbour::Known(mac));
            if let Some(Neighbour::Asked { waiting, .. }) = known {
                out.extend(waiting.iter().map(|packet| self.frame(mac, packet)));
            }
        }
        if to_us {
            out.extend(told.answer(frame, self.mac, false));
        }
    }

    /// Repeats due questions. Returns the neighbours that have failed.
    pub fn ask_again(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) -> Vec<IpAddr> {
        let mut failed = Vec::new();
        let (mac, own) = (self.mac, self.addresses);
        self.neighbours.retain(|hop, neighbour| match neighbour {
            Neighbour::Asked { questions, next, .. } if *next <= now => {
                if *questions >= QUESTIONS {
                    failed.push(*hop);
                    return false;
                }
                *questions += 1;
                *next = now + AGAIN;
                out.extend(own.get(hop.family()).and_then(|own| reply::who_has(mac, own, *hop)));
                true
            }
            _ => true,
        });
        failed
    }

    /// When [`Link::ask_again`] next has something to do.
    pub fn next_question(&self) -> Option<Instant> {
        let next = |n: &Neighbour| match n {
            Neighbour::Asked { next, .. } => Some(*next),
            Neighbour::Known(_) => None,
        };
        self.neighbours.values().filter_map(next).min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn v4(text: &str) -> std::net::Ipv4Addr {
        text.parse().unwrap()
    }

    fn link() -> Link {
        Link::new(&Config {
            name: "client".into(),
            interface: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: ["10.0.0.1/24", "fd00::1/64"]
                .map(|net| net.parse::<IpNet>().unwrap())
                .into_iter()
                .collect(),
            gateway: [ip("10.0.0.254"), ip("fd00::fe")].into_iter().collect(),
            routes: vec![("172.16.0.0/12".parse().unwrap(), Some(ip("10.0.0.9")))],
            mtu: 1500,
        })
    }

    #[test]
    fn the_longest_prefix_says_the_next_hop() {
        let mut link = link();
        assert_eq!(link.hop(ip("10.0.0.7")), Hop::Neighbour(ip("10.0.0.7")));
        assert_eq!(link.hop(ip("172.17.0.2")), Hop::Neighbour(ip("10.0.0.9")));
        assert_eq!(link.hop(ip("8.8.8.8")), Hop::Neighbour(ip("10.0.0.254")));
        assert_eq!(link.hop(ip("10.0.0.1")), Hop::Own);
        assert_eq!(link.hop(ip("fd00::7")), Hop::Neighbour(ip("fd00::7")));
        assert_eq!(link.hop(ip("2001:db8::1")), Hop::Neighbour(ip("fd00::fe")));
        assert_eq!(link.hop(ip("fd00::1")), Hop::Own);
        link.routes.retain(|(to, _)| to.prefix_len() > 0);
        assert_eq!(link.hop(ip("8.8.8.8")), Hop::NoRoute);
    }

    #[test]
    fn packets_wait_for_the_answer_and_are_given_up_after_three_questions() {
        let (mut link, mut out, start) = (link(), Vec::new(), Instant::now());
        let hop = ip("10.0.0.9");
        link.send(hop, vec![1], start, &mut out);
        link.send(hop, vec![2], start, &mut out);
        assert_eq!(out.len(), 1, "one question");
        assert!(link.is_unresolved(hop));
        assert!(link.ask_again(start, &mut out).is_empty() && out.len() == 1, "not before a second");
        for second in 1..3 {
            assert!(link.ask_again(start + AGAIN * second, &mut out).is_empty());
        }
        assert_eq!(out.len(), 3);
        assert_eq!(link.ask_again(start + AGAIN * 3, &mut out), [hop]);
        assert_eq!(link.next_question(), None);

        out.clear();
        link.send(hop, vec![3; 20], start, &mut out);
        let answer = reply::arp_reply(OTHER, v4("10.0.0.9"), MacAddr([2, 0, 0, 0, 0, 1]), v4("10.0.0.1"));
        assert!(link.receive(&EthernetFrame::new_checked(&answer).unwrap(), &mut out).is_none());
        let sent = EthernetFrame::new_checked(out.last().unwrap()).unwrap();
        assert_eq!((sent.dst(), &sent.payload()[..20]), (OTHER, &[3; 20][..]));
    }

    #[test]
    fn questions_for_others_are_neither_answered_nor_learned() {
        let (mut link, mut out) = (link(), Vec::new());
        for (asker, other, own) in [("10.0.0.9", "10.0.0.3", "10.0.0.1"), ("fd00::9", "fd00::3", "fd00::1")] {
            let question = reply::who_has(OTHER, ip(asker), ip(other)).unwrap();
            link.receive(&EthernetFrame::new_checked(&question).unwrap(), &mut out);
            assert!(out.is_empty() && link.neighbours.is_empty());
            let question = reply::who_has(OTHER, ip(asker), ip(own)).unwrap();
            link.receive(&EthernetFrame::new_checked(&question).unwrap(), &mut out);
            let answer = EthernetFrame::new_checked(&out[0]).unwrap();
            let told = Neighbors::read(&answer).unwrap();
            assert_eq!((told.tells, answer.dst()), (Some((ip(own), MacAddr([2, 0, 0, 0, 0, 1]))), OTHER));
            out.clear();
            link.neighbours.clear();
        }
    }
}
