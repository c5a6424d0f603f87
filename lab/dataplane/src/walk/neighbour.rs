//! Neighbours: who answers ARP or neighbour discovery for an address, and if nobody does, why.

use std::net::IpAddr;

use super::{
    Neighbour, Unknown, Walker,
    link::{Branch, End, Flood},
};
use crate::{
    net::{At, Link, Next, Role},
    packet::{Body, Frame, Mac, Packet},
};

impl Walker<'_> {
    /// Looks a neighbour up, as ARP does.
    pub(super) fn neighbour(&mut self, at: At, hop: IpAddr) -> Result<Neighbour, Unknown> {
        if let Some(known) = self.cache.neighbours.borrow().get(&(at, hop)) {
            return known.clone();
        }
        let mut found = self.look_up(at, hop, false);
        // Who was known before a link was cut is known for some time yet, and then it is what is sent there that is lost.
        if let Ok(now) = &mut found
            && now.answers.is_empty()
            && self.net.is_cut()
        {
            now.heard.extend(self.look_up(at, hop, true)?.answers);
        }
        self.cache.neighbours.borrow_mut().insert((at, hop), found.clone());
        found
    }

    /// Asks; with `whole` as if nothing was cut.
    fn look_up(&self, at: At, hop: IpAddr, whole: bool) -> Result<Neighbour, Unknown> {
        let (net, cache) = (self.net, self.cache);
        let no = |_: usize, _: &Packet| None;
        let send = if whole { Flood::sent_before } else { Flood::send };
        let own = net.at(at).mac;
        let sender = net.spaces[at.ns].source(at.iface, hop);
        let Some(sender) = sender else {
            return Ok(Neighbour { why: "no address to ask from".into(), ..Neighbour::default() });
        };
        let question = |from: At, sender: IpAddr, target: IpAddr| {
            let body = Body::Ask { sender, target };
            send(net, cache, &no, from, Frame { src: net.at(from).mac, dst: None, vlan: None, body })
        };
        let mut found = Neighbour::default();
        for branch in question(at, sender, hop) {
            match branch.end {
                End::Unknown(why) => return Err(Unknown(why)),
                End::Lost(why) => found.why = why,
                End::Tunnel(device, _) => {
                    if let Link::Vxlan(v) = &net.at(device).link {
                        match v.peers.get(&hop) {
                            Some((mac, _)) => found.answers.push(*mac),
                            None => {
                                found.why = format!(
                                    "{} knows no such peer, and ARP goes no further",
                                    net.place(device)
                                )
                            }
                        }
                    }
                }
                End::Stack(there, _) => {
                    let space = &net.spaces[there.ns];
                    // An interface answers by IPv6 for its own addresses alone (Linux, net/ipv6/ndisc.c, ndisc_recv_ns).
                    let owns = net.at(there).addresses.iter().any(|a| a.ip == hop);
                    if !space.is_local(hop) || hop.is_ipv6() && !owns || is_silent(&net.at(there).link) {
                        continue;
                    }
                    if let Some(why) = &space.unknown {
                        return Err(Unknown(why.clone()));
                    }
                    if space.is_local(sender) {
                        found.why =
                            format!("{} has the address {sender} itself, and does not answer it", space.name);
                        continue;
                    }
                    let mac = net.at(there).mac;
                    let body = Body::Tell { sender: hop, target: sender };
                    let back =
                        send(net, cache, &no, there, Frame { src: mac, dst: Some(own), vlan: None, body });
                    let mut why = format!("the answer of {} gets lost", space.name);
                    let mut arrived = false;
                    for branch in back {
                        match branch.end {
                            End::Stack(end, _) if end == at => arrived = true,
                            End::Lost(lost) => {
                                why = format!("the answer of {} gets lost: {lost}", space.name)
                            }
                            _ => {}
                        }
                    }
                    let back_here =
                        matches!(space.route(sender, None), Next::Out { dev, .. } if dev == there.iface);
                    match arrived {
                        true if back_here || space.role == Role::StandIn => found.answers.push(mac),
                        // Seen to stay without an answer where the way back is another interface's.
                        true => {
                            found.heard.push(mac);
                            found.why = format!("{} leads back by another interface", space.name);
                        }
                        false => found.why = why,
                    }
                }
            }
        }
        found.answers.sort_unstable();
        found.answers.dedup();
        if found.answers.is_empty() {
            found.heard.extend(self.heard(at, sender, hop, &question));
            if found.why.is_empty() {
                found.why = self.unheard(at, hop);
            }
        }
        Ok(found)
    }

    /// MACs of those who have an address and can be heard asking for ours.
    fn heard(
        &self,
        at: At,
        sender: IpAddr,
        hop: IpAddr,
        question: &dyn Fn(At, IpAddr, IpAddr) -> Vec<Branch>,
    ) -> Vec<Mac> {
        let net = self.net;
        let mut heard = Vec::new();
        let owners = net.owners(hop).iter().map(|ns| (*ns, &net.spaces[*ns]));
        for (ns, space) in owners.filter(|(_, s)| s.role == Role::Endpoint) {
            for (iface, i) in space.interfaces.iter().enumerate() {
                let there = At { ns, iface };
                let asks = i.addresses.iter().any(|a| a.ip == hop) && there != at && !is_silent(&i.link);
                if asks
                    && question(there, hop, sender)
                        .iter()
                        .any(|b| matches!(b.end, End::Stack(end, _) if end == at))
                {
                    heard.push(i.mac);
                }
            }
        }
        heard
    }

    /// Why a question is heard by nobody who has the address.
    fn unheard(&self, at: At, hop: IpAddr) -> String {
        let net = self.net;
        let owners = net.owners(hop).iter().filter(|ns| net.spaces[**ns].role == Role::Endpoint);
        let interfaces = owners.flat_map(|ns| {
            let all = net.spaces[*ns].interfaces.iter().enumerate();
            all.filter(|(_, i)| i.addresses.iter().any(|a| a.ip == hop))
                .map(|(iface, _)| At { ns: *ns, iface })
        });
        let (mine, mut elsewhere) = (parent(&net.at(at).link), None);
        for there in interfaces {
            let (owner, link) = (net.place(there), &net.at(there).link);
            let driver =
                |link: &Link| if matches!(link, Link::Macvlan(..)) { "a macvlan" } else { "an ipvlan" };
            match parent(link) {
                Some(_) if is_silent(link) => return format!("{owner} has it, and ipvlan l3 answers no ARP"),
                Some(its) if its == at => {
                    let (place, driver) = (net.place(at), driver(link));
                    return format!(
                        "{owner} has it, {driver} on {place}, which hands it no frames of its own host"
                    );
                }
                None if mine == Some(there) => {
                    let driver = driver(&net.at(at).link);
                    return format!("{owner} has it, which hands its host no frames of {driver} on it");
                }
                Some(its) if mine == Some(its) => {
                    return format!("{owner} has it, on the same parent, and the mode keeps them apart");
                }
                _ => drop(elsewhere.get_or_insert(owner)),
            }
        }
        match elsewhere {
            Some(owner) => format!("{owner} has it, and is not on this link"),
            None => "nobody has it".to_owned(),
        }
    }
}

/// The interface that a macvlan or ipvlan sits on.
fn parent(link: &Link) -> Option<At> {
    match link {
        Link::Macvlan(parent, _) | Link::Ipvlan(parent, ..) => Some(*parent),
        _ => None,
    }
}

/// Interfaces that neither ask nor answer for addresses.
fn is_silent(link: &Link) -> bool {
    matches!(link, Link::Ipvlan(_, crate::net::IpvlanMode::L3, _) | Link::Loopback)
}
