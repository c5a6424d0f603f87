//! A packet in stacks: routes, rules, neighbours.

use std::net::IpAddr;

use super::{
    Fate, Hop, Unknown, Walker,
    link::{Branch, End, Flood},
    track::Tracked,
};
use crate::{
    net::{At, IpvlanFlag, IpvlanMode, Link, Next, Role},
    netfilter::{Table, Target},
    packet::{Body, Complaint, Frame, Kind, Packet, Proto, Tuple, asks},
};

/// Stacks that a packet may pass: more than any time to live.
pub(super) const MOST_STACKS: u32 = 256;

impl Walker<'_> {
    /// Sends a packet from a namespace. An unspecified source is chosen as Linux does.
    pub(super) fn send(&mut self, ns: usize, mut packet: Packet) -> Result<Fate, Unknown> {
        self.enter(ns)?;
        let space = &self.net.spaces[ns];
        if !is_unicast(packet.tuple.dst) {
            return Err(Unknown("the oracle walks no broadcast and no multicast".to_owned()));
        }
        let mut next = space.route(packet.tuple.dst, None);
        if packet.tuple.src.is_unspecified() {
            match &next {
                Next::Local => packet.tuple.src = packet.tuple.dst,
                Next::Out { dev, hop, .. } => {
                    let Some(source) = space.source(*dev, *hop) else { return Ok(Fate::NoRoute) };
                    packet.tuple.src = source;
                }
                Next::Nowhere => return Ok(Fate::NoRoute),
            }
        }
        let before = packet.tuple.dst;
        let tracked = self.track(ns, &mut packet, "OUTPUT", "");
        if packet.tuple.dst != before {
            next = space.route(packet.tuple.dst, None);
        }
        match next {
            Next::Local => {
                self.note(format!("{}/lo", space.name), &packet, "to itself");
                self.local(ns, packet, tracked)
            }
            Next::Nowhere => Ok(Fate::NoRoute),
            Next::Out { dev, hop, by } => {
                self.note(space.name.clone(), &packet, format!("route {by}"));
                self.emit(At { ns, iface: dev }, hop, packet, tracked, None)
            }
        }
    }

    /// A packet comes in at an interface.
    pub(super) fn receive(&mut self, at: At, mut packet: Packet) -> Result<Fate, Unknown> {
        self.enter(at.ns)?;
        let (net, ns) = (self.net, at.ns);
        self.got.push(ns);
        let space = &net.spaces[ns];
        let input = net.at(at).name.clone();
        let place = net.place(at);
        if space.role == Role::StandIn {
            return Ok(self.stand_in(at, packet));
        }
        if space.is_local(packet.tuple.src) {
            let why = format!(
                "{place}: its source {} is an address of {} itself (martian)",
                packet.tuple.src, space.name
            );
            return Ok(match space.is_local(packet.tuple.dst) {
                true => Fate::Dropped { ns, packet, why },
                false => Fate::Lost(why),
            });
        }
        let untracked = Tracked { flow: None, reply: false, established: false };
        let raw = self.rules(ns, Table::Raw, "PREROUTING", &packet, (&input, ""), untracked);
        if let Some(r) = raw.filter(|r| r.target == Target::Drop) {
            self.note(place, &packet, r.by.clone());
            return Ok(Fate::Lost(format!("{}: {}", space.name, r.by)));
        }
        let before = packet.tuple;
        let tracked = self.track(ns, &mut packet, "PREROUTING", &input);
        if packet.tuple.dst.is_loopback() && packet.tuple != before {
            return Err(Unknown("a rule that leads to 127.0.0.0/8".to_owned()));
        }
        match space.route(packet.tuple.dst, None) {
            Next::Local => {
                self.note(place, &packet, "for an address of its own");
                self.local(ns, packet, tracked)
            }
            _ if !space.forwards(packet.tuple.dst) => {
                let dst = packet.tuple.dst;
                Ok(Fate::Lost(format!(
                    "{place}: {dst} is no address of {}, which forwards nothing",
                    space.name
                )))
            }
            Next::Nowhere => {
                self.note(place, &packet, "no route");
                Ok(Fate::Returned { ns, what: Complaint::Net, packet })
            }
            Next::Out { dev, hop, by } => {
                let mtu = net.at(At { ns, iface: dev }).mtu;
                // Before any rule is asked (Linux, net/ipv4/ip_forward.c).
                if packet.size > mtu && !packet.may_fragment {
                    self.note(
                        place,
                        &packet,
                        format!("{} bytes are more than the MTU of {mtu}", packet.size),
                    );
                    return Ok(Fate::Returned { ns, what: Complaint::TooBig(mtu), packet });
                }
                let output = net.at(At { ns, iface: dev }).name.clone();
                match self.rules(ns, Table::Filter, "FORWARD", &packet, (&input, &output), tracked) {
                    Some(r) if r.target == Target::Drop => {
                        self.note(place.clone(), &packet, r.by.clone());
                        return Ok(Fate::Lost(format!("{}: {}", space.name, r.by)));
                    }
                    Some(r) => self.note(place, &packet, format!("{}; route {by}", r.by)),
                    None => self.note(place, &packet, format!("forwarded: route {by}")),
                }
                self.emit(At { ns, iface: dev }, hop, packet, tracked, Some(at))
            }
        }
    }

    /// The wire's own router (it routes nothing): it answers for its address and for what lies outside.
    fn stand_in(&mut self, at: At, packet: Packet) -> Fate {
        let space = &self.net.spaces[at.ns];
        let (outside, inside) = &space.outside;
        let dst = packet.tuple.dst;
        let covers = |nets: &[ipnet::IpNet]| nets.iter().any(|n| n.contains(&dst));
        if space.is_local(dst) || (covers(outside) && !covers(inside)) {
            let mtu = space.path_mtu;
            if packet.size > mtu && !packet.may_fragment && !space.is_local(dst) {
                let why = format!("{} bytes are more than the path behind it takes: {mtu}", packet.size);
                self.note(self.net.place(at), &packet, why);
                return Fate::Returned { ns: at.ns, what: Complaint::TooBig(mtu), packet };
            }
            self.note(self.net.place(at), &packet, "the stand-in answers for the outside");
            return Fate::Taken { ns: at.ns, packet };
        }
        self.note(self.net.place(at), &packet, "the stand-in has no way there");
        Fate::Returned { ns: at.ns, what: Complaint::Host, packet }
    }

    /// A packet for an address of the namespace itself.
    pub(super) fn local(&mut self, ns: usize, mut packet: Packet, tracked: Tracked) -> Result<Fate, Unknown> {
        let net = self.net;
        let space = &net.spaces[ns];
        let t = packet.tuple;
        let balanced = space.balancers.iter().find(|b| {
            let port = b.ports.is_empty() || b.ports.contains(&(t.proto, t.dport));
            matches!(t.proto, Proto::Tcp | Proto::Udp) && port && b.vip.is_none_or(|vip| vip == t.dst)
        });
        if let (Some(b), false, Kind::Data) = (balanced, tracked.reply, &packet.kind) {
            let known = tracked.flow.map(|f| self.flows[f].clone()).filter(|f| f.confirmed);
            let now = match known {
                Some(flow) => flow.now,
                None if b.backends.is_empty() => {
                    return Err(Unknown(format!("no task of {} is known", b.service)));
                }
                None => {
                    let backend = b.backends[self.script.choose(b.backends.len())];
                    Tuple { src: b.snat, dst: backend, ..packet.tuple }
                }
            };
            packet.tuple = now;
            if let Some(f) = tracked.flow {
                (self.flows[f].now, self.flows[f].confirmed) = (now, true);
            }
            self.note(space.name.clone(), &packet, format!("IPVS: one of the tasks of {}", b.service));
            return match space.route(now.dst, None) {
                Next::Out { dev, hop, .. } => self.emit(At { ns, iface: dev }, hop, packet, tracked, None),
                _ => Ok(Fate::Lost(format!("{}: no route to a task of {}", space.name, b.service))),
            };
        }
        self.source_back(&mut packet, tracked);
        match &packet.kind {
            Kind::Tunnel { .. } => self.decapsulate(ns, packet),
            _ => Ok(Fate::Taken { ns, packet }),
        }
    }

    /// A packet leaves by an interface, to a neighbour. `input` is absent for what begins here.
    fn emit(
        &mut self,
        at: At,
        hop: IpAddr,
        mut packet: Packet,
        tracked: Tracked,
        input: Option<At>,
    ) -> Result<Fate, Unknown> {
        let net = self.net;
        let iface = net.at(at);
        if let Some(why) = &iface.unknown {
            return Err(Unknown(why.clone()));
        }
        if packet.size > iface.mtu {
            if !packet.may_fragment {
                let what = Complaint::TooBig(iface.mtu);
                self.note(
                    net.place(at),
                    &packet,
                    format!("{} bytes are more than its MTU of {}", packet.size, iface.mtu),
                );
                return Ok(Fate::Returned { ns: at.ns, what, packet });
            }
            packet.size = iface.mtu;
        }
        self.postrouting(at, hop, &mut packet, tracked, input);
        if let Link::Ipvlan(parent, IpvlanMode::L3, flag) = iface.link {
            return self.ipvlan_l3(at, parent, flag, packet);
        }
        let known = self.neighbour(at, hop)?;
        let mac = match known.answers.len() {
            0 => {
                let heard = known.heard.first().filter(|_| self.script.choose(2) == 1);
                let Some(mac) = heard else {
                    self.note(net.place(at), &packet, format!("{} for {hop}: {}", asks(hop), known.why));
                    // A router says so after 3 s, or sooner if it had begun to ask before.
                    let late = input.is_some() && self.script.choose(2) == 0;
                    return Ok(match input {
                        None => Fate::Arp { hop, why: known.why },
                        Some(_) if late => {
                            Fate::Lost(format!("{}: {} for {hop}: {}", net.place(at), asks(hop), known.why))
                        }
                        Some(_) => Fate::Returned { ns: at.ns, what: Complaint::Host, packet },
                    });
                };
                *mac
            }
            n => known.answers[if n == 1 { 0 } else { self.script.choose(n) }],
        };
        let frame = Frame { src: iface.mac, dst: Some(mac), vlan: None, body: Body::Ip(packet) };
        self.note_frame(net.place(at), &frame, format!("to {hop} at {mac}"));
        let branches = {
            let answers = |ns: usize, packet: &Packet| self.answers(ns, packet);
            Flood::send(net, self.cache, &answers, at, frame)
        };
        self.land(branches)
    }

    /// Goes on where a frame ended.
    pub(super) fn land(&mut self, branches: Vec<Branch>) -> Result<Fate, Unknown> {
        let mut lost: Option<(usize, String)> = None;
        let mut ends = Vec::new();
        for branch in branches {
            match branch.end {
                End::Unknown(why) => return Err(Unknown(why)),
                End::Lost(why) => {
                    if lost.as_ref().is_none_or(|(depth, _)| *depth < branch.way.len()) {
                        lost = Some((branch.way.len(), why));
                    }
                }
                End::Stack(at, frame) => ends.push((branch.way, at, frame, false)),
                End::Tunnel(at, frame) => ends.push((branch.way, at, frame, true)),
            }
        }
        if ends.iter().any(|e| !e.3) {
            ends.retain(|e| !e.3);
        }
        let one = match ends.len() {
            0 => {
                let why = lost.map_or_else(|| "nobody has that MAC".to_owned(), |(_, why)| why);
                return Ok(Fate::Lost(why));
            }
            1 => 0,
            n => self.script.choose(n),
        };
        let (way, at, frame, tunnel) = ends.swap_remove(one);
        let passed_there: Vec<String> = way.iter().map(|passed| passed.place.clone()).collect();
        for passed in way {
            self.note_frame(passed.place, &frame, passed.by);
        }
        // On its way to an ipvlan it is the parent's first: it has the parent's MAC.
        if let Link::Ipvlan(parent, ..) = self.net.at(at).link
            && passed_there.contains(&self.net.place(parent))
        {
            self.got.push(parent.ns);
        }
        match (tunnel, frame.body) {
            (true, body) => self.encapsulate(at, Frame { body, ..frame }),
            (false, Body::Ip(packet)) => self.receive(at, packet),
            (false, _) => Ok(Fate::Lost("it is no IP packet".to_owned())),
        }
    }

    /// Linux, drivers/net/ipvlan/ipvlan_core.c, ipvlan_xmit_mode_l3 and ipvlan_process_v4_outbound.
    fn ipvlan_l3(
        &mut self,
        at: At,
        parent: At,
        flag: IpvlanFlag,
        mut packet: Packet,
    ) -> Result<Fate, Unknown> {
        let net = self.net;
        let dst = packet.tuple.dst;
        let on_parent = &net.at(parent).above;
        let has = |at: &&At| {
            let i = net.at(**at);
            matches!(i.link, Link::Ipvlan(..)) && i.addresses.iter().any(|a| a.ip == dst)
        };
        match on_parent.iter().find(has) {
            Some(_) if flag == IpvlanFlag::Private => {
                return Ok(Fate::Lost(format!("{}: ipvlan with the flag private", net.place(at))));
            }
            Some(sibling) if flag == IpvlanFlag::Bridge => {
                self.note(net.place(at), &packet, "ipvlan l3: to another one on the same parent");
                return self.receive(*sibling, packet);
            }
            _ => {}
        }
        self.enter(parent.ns)?;
        let tracked = self.track(parent.ns, &mut packet, "OUTPUT", "");
        let host = &net.spaces[parent.ns];
        let only = net.at(parent).name.clone();
        match host.route(dst, Some(parent.iface)) {
            Next::Local => {
                self.note(host.name.clone(), &packet, "ipvlan l3: to the host that it is on");
                self.local(parent.ns, packet, tracked)
            }
            next => {
                let (hop, by) = match next {
                    Next::Out { hop, by, .. } => (hop, by),
                    // With the interface given, Linux takes what has no route for a neighbour (net/ipv4/route.c).
                    _ => (dst, format!("none, so a neighbour on {only}")),
                };
                self.note(host.name.clone(), &packet, format!("ipvlan l3: routed by the host: {by}"));
                match self.emit(parent, hop, packet, tracked, Some(at))? {
                    Fate::Returned { ns, what: Complaint::Host, .. } if ns == parent.ns => Ok(Fate::Lost(
                        format!("{}: nobody answers {} for {hop} on {only}", host.name, asks(hop)),
                    )),
                    fate => Ok(fate),
                }
            }
        }
    }

    pub(super) fn enter(&mut self, ns: usize) -> Result<(), Unknown> {
        self.budget = self.budget.saturating_sub(1);
        match &self.net.spaces[ns].unknown {
            Some(why) => Err(Unknown(why.clone())),
            None if self.budget == 0 => Err(Unknown("it goes round in circles".to_owned())),
            None => Ok(()),
        }
    }

    pub(super) fn note(&mut self, at: String, packet: &Packet, by: impl Into<String>) {
        self.hops.push(Hop { at, packet: packet.words(), by: by.into(), ends: packet.ends() });
    }

    pub(super) fn note_frame(&mut self, at: String, frame: &Frame, by: impl Into<String>) {
        self.hops.push(Hop { at, packet: frame.words(), by: by.into(), ends: frame.ends() });
    }
}

fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_broadcast() && !ip.is_multicast(),
        IpAddr::V6(ip) => !ip.is_multicast(),
    }
}

/// The unspecified address of the same family.
pub(super) fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}
