//! MLD snooping: which ports listen to which IPv6 group (RFC 4541 section 3).
//!
//! Listeners are learned from reports of MLDv1 (RFC 2710) and MLDv2 (RFC 3810), routers from queries. A frame to a group goes
//! to its listeners and to routers. One to ff02::1 goes to all, as nobody reports it, and so does one to another group of the
//! link that nobody listens to: neighbour discovery must find who has not reported, or whose report has aged because nobody
//! queries. A wider group without a listener goes to routers alone, unless there was no room to learn who listens.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
};

use vxlan::{IpView, proto::icmpv6, reply::ALL_NODES};

use crate::{advert::LISTENER_QUERY, frame::Frame, port::PortId};

/// Seconds for which a report counts (RFC 3810 section 9.4).
const LISTENS: u32 = 260;
/// Seconds for which a port counts once a listener there has left, so that others there can say that they listen: two intervals
/// of a second (RFC 3810 sections 9.8 to 9.10), and one as times are whole seconds.
const LEFT: u32 = 3;
/// Seconds for which a querier counts as a router (RFC 3810 section 9.5).
const QUERIES: u32 = 255;
/// Most groups of a segment. Further ones are not learned. While a report of one would count, groups without a known listener
/// go to all.
const CAPACITY: usize = 4096;

/// Types of ICMPv6.
const REPORT_V1: u8 = 131;
const DONE: u8 = 132;
const REPORT_V2: u8 = 143;
/// Bytes of a record of a version 2 report without its sources.
const RECORD: usize = 20;

/// A group in a VLAN.
pub(crate) type Group = (u16, Ipv6Addr);

/// The listeners and routers of a segment, each with the second of the wire's own clock until which it counts. A group has at
/// least one entry.
#[derive(Default)]
pub(crate) struct Mld {
    listeners: HashMap<Group, HashMap<PortId, u32>>,
    routers: HashMap<(u16, PortId), u32>,
    /// Until when there may be a listener for which there was no room.
    refused_until: u32,
}

impl Mld {
    /// Learns from a frame to a group that came in at a port. Returns the groups that a listener has left and that the port gets
    /// for a while longer: a querier must ask who else listens there. It is the stand-in (`standin_asks`), or a router; if there
    /// is neither, the port gets them no more.
    pub(crate) fn learn(
        &mut self,
        from: PortId,
        frame: &Frame<'_>,
        standin_asks: bool,
        now: u32,
    ) -> Vec<Ipv6Addr> {
        let mut left = Vec::new();
        let Some(packet) = packet(frame) else { return left };
        let Some(message) = message(&packet) else { return left };
        if message[0] == LISTENER_QUERY {
            self.routers.insert((frame.vid, from), now + QUERIES);
        }
        let is_asked = standin_asks || self.routers(frame.vid, now).next().is_some();
        for (group, listens) in reports(message) {
            if listens {
                self.join((frame.vid, group), from, now);
            } else if self.leave((frame.vid, group), from, is_asked, now) {
                left.push(group);
            }
        }
        left
    }

    /// Notes that a port listens to a group.
    pub(crate) fn join(&mut self, group: Group, port: PortId, now: u32) {
        if self.listeners.len() >= CAPACITY && !self.listeners.contains_key(&group) {
            self.listeners.retain(|_, ports| ports.values().any(|until| now < *until));
        }
        if self.listeners.len() < CAPACITY || self.listeners.contains_key(&group) {
            self.listeners.entry(group).or_default().insert(port, now + LISTENS);
        } else {
            self.refused_until = now + LISTENS;
        }
    }

    /// A listener at a port leaves a group. Returns whether the port still counts for others there: it did, and it is asked who
    /// they are.
    fn leave(&mut self, group: Group, port: PortId, is_asked: bool, now: u32) -> bool {
        let Some(ports) = self.listeners.get_mut(&group) else { return false };
        if let Some(until) = ports.get_mut(&port)
            && is_asked
            && now < *until
        {
            // If another one leaves soon after, the port gains no time.
            *until = (now + LEFT).min(*until);
            return true;
        }
        ports.remove(&port);
        if ports.is_empty() {
            self.listeners.remove(&group);
        }
        false
    }

    /// Forgets a port, as a switch does when a link goes down.
    pub(crate) fn forget(&mut self, port: PortId) {
        self.listeners.retain(|_, ports| {
            ports.remove(&port);
            !ports.is_empty()
        });
        self.routers.retain(|(_, router), _| *router != port);
    }

    /// The ports of a VLAN behind which a querier was heard.
    fn routers(&self, vid: u16, now: u32) -> impl Iterator<Item = PortId> {
        let fresh = self.routers.iter().filter(move |((of, _), until)| *of == vid && now < **until);
        fresh.map(|((_, port), _)| *port)
    }

    /// The listeners that are known.
    pub(crate) fn iter(&self, now: u32) -> impl Iterator<Item = (Group, PortId)> {
        self.listeners.iter().flat_map(move |(group, ports)| {
            let fresh = ports.iter().filter(move |(_, until)| now < **until);
            fresh.map(|(port, _)| (*group, *port))
        })
    }

    /// The ports that a frame to a group goes to; `None`: all of them.
    pub(crate) fn ports(&self, frame: &Frame<'_>, now: u32) -> Option<BTreeSet<PortId>> {
        let packet = packet(frame)?;
        let IpAddr::V6(dst) = packet.dst() else { return None };
        if dst == ALL_NODES || !dst.is_multicast() {
            return None;
        }
        let mut ports: BTreeSet<PortId> = self.routers(frame.vid, now).collect();
        let reported = message(&packet).is_some_and(|message| message[0] != LISTENER_QUERY);
        if reported {
            // Other listeners would take it for their own and stay silent (RFC 4541 section 2.1.1).
            return Some(ports);
        }
        let listeners = self.listeners.get(&(frame.vid, dst)).into_iter().flatten();
        let mut listeners = listeners.filter(|(_, until)| now < **until).peekable();
        // The scope is in the low half of the second byte (RFC 4291 section 2.7); 2 is the link.
        let of_link = dst.octets()[1] & 0xf <= 2;
        if listeners.peek().is_none() && (of_link || now < self.refused_until) {
            return None;
        }
        ports.extend(listeners.map(|(port, _)| *port));
        Some(ports)
    }
}

/// The IPv6 packet in a frame.
fn packet<'a>(frame: &Frame<'a>) -> Option<IpView<'a>> {
    let packet = IpView::header_checked(frame.eth.payload()).ok()?;
    (packet.addresses().ethertype() == frame.eth.ethertype()).then_some(packet).filter(|p| p.dst().is_ipv6())
}

/// The message of MLD in a packet, if it is a sound one. Its sender may have no address yet (RFC 3590).
fn message<'a>(packet: &IpView<'a>) -> Option<&'a [u8]> {
    let IpAddr::V6(src) = packet.src() else { return None };
    let message = packet.payload();
    let kind = *message.first()?;
    let own = src.is_unicast_link_local() || src.is_unspecified() && kind != LISTENER_QUERY;
    let sound = packet.is_icmp() && packet.hops() == 1 && own && message.len() >= icmpv6::HEADER_LEN;
    let known = [LISTENER_QUERY, REPORT_V1, DONE, REPORT_V2].contains(&kind);
    (sound && known && packet.addresses().icmp_checksum_ok(message)).then_some(message)
}

/// What a message says of groups, in its order: each group, and whether its sender listens to it from now on.
fn reports(message: &[u8]) -> Vec<(Ipv6Addr, bool)> {
    let group = |at: usize| Some(Ipv6Addr::from(*message.get(at..)?.first_chunk::<16>()?));
    match message[0] {
        LISTENER_QUERY => Vec::new(),
        REPORT_V1 => group(8).into_iter().map(|group| (group, true)).collect(),
        DONE => group(8).into_iter().map(|group| (group, false)).collect(),
        _ => {
            let mut said = Vec::new();
            let records = u16::from_be_bytes([message[6], message[7]]);
            let mut at = 8;
            for _ in 0..records {
                let (Some(group), Some(head)) = (group(at + 4), message.get(at..at + 4)) else { break };
                let sources = usize::from(u16::from_be_bytes([head[2], head[3]]));
                match (head[0], sources) {
                    // To be sent what no source sends is to leave (RFC 3810 section 5.2.12).
                    (1 | 3, 0) => said.push((group, false)),
                    (1..=5, _) => said.push((group, true)),
                    _ => {}
                }
                at += RECORD + 16 * sources + 4 * usize::from(head[1]);
            }
            said
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_without_listeners_takes_no_room() {
        let group = |n| (0, Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, n));
        let mut mld = Mld::default();
        mld.join(group(1), 1, 0);
        mld.join(group(2), 1, 0);
        mld.join(group(2), 2, 0);
        mld.join(group(3), 2, 0);
        assert!(!mld.leave(group(1), 1, false, 5));
        assert_eq!(mld.listeners.len(), 2, "the one who left was alone there");
        assert!(!mld.leave(group(3), 2, true, LISTENS));
        assert_eq!(mld.listeners.len(), 1, "so was this one, which had aged");
        mld.forget(1);
        assert_eq!(mld.listeners.len(), 1);
        mld.forget(2);
        assert!(mld.listeners.is_empty());
    }
}
