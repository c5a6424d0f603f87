//! A packet in stacks: routes, rules, address translation, neighbours, tunnels.

use std::net::IpAddr;

use super::{
    Fate, Flow, Hop, Neighbour, Unknown, Walker,
    link::{Branch, End, Flood},
};
use crate::{
    net::{At, IpvlanFlag, IpvlanMode, Link, Next, Role},
    netfilter::{Ruling, Situation, Table, Target},
    packet::{Body, Complaint, Frame, Kind, Packet, Proto, Tuple},
};

/// Stacks that a packet may pass: more than any time to live.
pub(super) const MOST_STACKS: u32 = 256;
/// Bytes that VXLAN adds: Ethernet, VXLAN, UDP and IPv4 headers (RFC 7348); IPv6 has 20 more.
const VXLAN_BYTES: u32 = 50;
/// Bytes that ESP adds at most, with AES-GCM and an ICV of 16 bytes (RFC 4106).
const ESP_BYTES: u32 = 36;
/// Source port of outer packets; Linux takes a hash of the inner flow.
const OUTER_SPORT: u16 = 50_000;

/// The flow of a packet in a namespace.
#[derive(Clone, Copy)]
struct Tracked {
    flow: Option<usize>,
    /// Whether it goes against the flow's first packet.
    reply: bool,
    established: bool,
}

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
    fn receive(&mut self, at: At, mut packet: Packet) -> Result<Fate, Unknown> {
        self.enter(at.ns)?;
        let (net, ns) = (self.net, at.ns);
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
            return Ok(Fate::Lost(why));
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
            _ if !space.forwards => {
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
            self.note(self.net.place(at), &packet, "the stand-in answers for the outside");
            return Fate::Taken { ns: at.ns, packet };
        }
        self.note(self.net.place(at), &packet, "the stand-in has no way there");
        Fate::Returned { ns: at.ns, what: Complaint::Host, packet }
    }

    /// A packet for an address of the namespace itself.
    fn local(&mut self, ns: usize, mut packet: Packet, tracked: Tracked) -> Result<Fate, Unknown> {
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
                    self.note(net.place(at), &packet, format!("ARP for {hop}: {}", known.why));
                    // A router says so after 3 s, or sooner if it had begun to ask before.
                    let late = input.is_some() && self.script.choose(2) == 0;
                    return Ok(match input {
                        None => Fate::Arp { hop, why: known.why },
                        Some(_) if late => {
                            Fate::Lost(format!("{}: ARP for {hop}: {}", net.place(at), known.why))
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
            Flood::send(net, &answers, at, frame)
        };
        self.land(branches)
    }

    /// Goes on where a frame ended.
    fn land(&mut self, branches: Vec<Branch>) -> Result<Fate, Unknown> {
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
        for passed in way {
            self.note_frame(passed.place, &frame, passed.by);
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
        let on_parent = net.children.get(&parent).map(Vec::as_slice).unwrap_or_default();
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
                    Fate::Returned { ns, what: Complaint::Host, .. } if ns == parent.ns => {
                        Ok(Fate::Lost(format!("{}: nobody answers ARP for {hop} on {only}", host.name)))
                    }
                    fate => Ok(fate),
                }
            }
        }
    }

    fn encapsulate(&mut self, at: At, frame: Frame) -> Result<Fate, Unknown> {
        let net = self.net;
        let (Link::Vxlan(vxlan), Body::Ip(inner)) = (&net.at(at).link, &frame.body) else {
            return Ok(Fate::Lost("no tunnel".to_owned()));
        };
        let behind = vxlan.peers.values().find(|(mac, _)| Some(*mac) == frame.dst).map(|(_, vtep)| *vtep);
        let Some(vtep) = behind else {
            return Ok(Fate::Lost(format!("{}: no node is known for that MAC", net.place(at))));
        };
        let (proto, more) = if vxlan.encrypted { (Proto::Esp, ESP_BYTES) } else { (Proto::Udp, 0) };
        let (sport, dport) = if vxlan.encrypted { (0, 0) } else { (OUTER_SPORT, vxlan.port) };
        let size = inner.size + VXLAN_BYTES + more;
        self.note_frame(net.place(at), &frame, format!("its table: {} is behind {vtep}", words(frame.dst)));
        let packet = Packet {
            tuple: Tuple { proto, src: unspecified(vtep), sport, dst: vtep, dport },
            size,
            may_fragment: true,
            kind: Kind::Tunnel { vni: vxlan.vni, port: vxlan.port, frame: Box::new(frame) },
        };
        // The inner sender learns nothing of what goes wrong outside.
        Ok(match self.send(vxlan.outer, packet)? {
            Fate::NoRoute => Fate::Lost(format!("{}: no route to {vtep}", net.spaces[vxlan.outer].name)),
            Fate::Arp { hop, why } => {
                Fate::Lost(format!("{}: ARP for {hop}: {why}", net.spaces[vxlan.outer].name))
            }
            Fate::Returned { ns, what, packet } if matches!(packet.kind, Kind::Tunnel { .. }) => {
                Fate::Lost(format!("{}: {what} for {vtep}", net.spaces[ns].name))
            }
            fate => fate,
        })
    }

    /// Linux, drivers/net/vxlan/vxlan_core.c, vxlan_rcv.
    fn decapsulate(&mut self, ns: usize, packet: Packet) -> Result<Fate, Unknown> {
        let net = self.net;
        let outer = packet.tuple;
        let Kind::Tunnel { vni, port, frame } = packet.kind else {
            return Ok(Fate::Lost("no tunnel".to_owned()));
        };
        let device = net.tunnels.iter().find_map(|at| match &net.at(*at).link {
            Link::Vxlan(v) if v.outer == ns && v.vni == vni && v.port == port => Some((*at, v)),
            _ => None,
        });
        let name = &net.spaces[ns].name;
        let Some((at, vxlan)) = device else {
            return Ok(Fate::Lost(format!("{name}: no device for VXLAN {vni}")));
        };
        if vxlan.encrypted != (outer.proto == Proto::Esp) {
            return Ok(Fate::Lost(format!("{name}: VXLAN {vni} in clear is dropped")));
        }
        let elsewhere = vxlan.peers.values().find(|(mac, vtep)| *mac == frame.src && *vtep != outer.src);
        if let Some((mac, vtep)) = elsewhere {
            let why = format!(
                "{}: {mac} is known to be behind {vtep}, and this came from {}",
                net.place(at),
                outer.src
            );
            return Ok(Fate::Lost(why));
        }
        self.note_frame(net.place(at), &frame, format!("taken out of VXLAN {vni}"));
        let branches = {
            let answers = |ns: usize, packet: &Packet| self.answers(ns, packet);
            Flood::arrive(net, &answers, at, *frame)
        };
        self.land(branches)
    }

    fn enter(&mut self, ns: usize) -> Result<(), Unknown> {
        self.budget = self.budget.saturating_sub(1);
        match &self.net.spaces[ns].unknown {
            Some(why) => Err(Unknown(why.clone())),
            None if self.budget == 0 => Err(Unknown("it goes round in circles".to_owned())),
            None => Ok(()),
        }
    }

    /// Finds the flow of a packet, or begins one, and rewrites the destination.
    fn track(&mut self, ns: usize, packet: &mut Packet, chain: &str, input: &str) -> Tracked {
        let t = packet.tuple;
        if let Kind::Complaint(what, about) = packet.kind {
            let flow = self.flows.iter().position(|f| f.ns == ns && f.now == about);
            if let Some(f) = flow {
                packet.tuple.dst = self.flows[f].orig.src;
                packet.kind = Kind::Complaint(what, self.flows[f].orig);
            }
            return Tracked { flow: None, reply: false, established: flow.is_some() };
        }
        // The newest first: a proxy's own connection may have the numbers of another one.
        for (index, f) in self.flows.iter_mut().enumerate().rev().filter(|(_, f)| f.ns == ns) {
            if f.orig == t {
                (packet.tuple.dst, packet.tuple.dport) = (f.now.dst, f.now.dport);
                return Tracked { flow: Some(index), reply: false, established: f.answered };
            }
            if f.now.inverse() == t {
                f.answered = true;
                (packet.tuple.dst, packet.tuple.dport) = (f.orig.src, f.orig.sport);
                return Tracked { flow: Some(index), reply: true, established: true };
            }
        }
        let new = Tracked { flow: Some(self.flows.len()), reply: false, established: false };
        let ruling = self.rules(ns, Table::Nat, chain, packet, (input, ""), new);
        if let Some(Ruling { target: Target::Dnat(to), by }) = ruling {
            self.note(self.net.spaces[ns].name.clone(), packet, by);
            (packet.tuple.dst, packet.tuple.dport) = (to.ip(), to.port());
        }
        self.flows.push(Flow { ns, orig: t, now: packet.tuple, confirmed: false, answered: false });
        new
    }

    fn postrouting(&mut self, at: At, hop: IpAddr, packet: &mut Packet, tracked: Tracked, input: Option<At>) {
        let Some(flow) = tracked.flow else { return };
        let known = self.flows[flow].clone();
        if tracked.reply {
            return self.source_back(packet, tracked);
        }
        if known.confirmed {
            (packet.tuple.src, packet.tuple.sport) = (known.now.src, known.now.sport);
            return;
        }
        let input = input.filter(|i| i.ns == at.ns).map(|i| self.net.at(i).name.clone()).unwrap_or_default();
        let output = self.net.at(at).name.clone();
        let ruling = self.rules(at.ns, Table::Nat, "POSTROUTING", packet, (&input, &output), tracked);
        if let Some(Ruling { target: Target::Masquerade, by }) = ruling
            && let Some(source) = self.net.spaces[at.ns].source(at.iface, hop)
        {
            self.note(self.net.place(at), packet, by);
            packet.tuple.src = source;
        }
        let f = &mut self.flows[flow];
        (f.now, f.confirmed) = (packet.tuple, true);
    }

    /// Gives an answer the source that the question was sent to.
    fn source_back(&self, packet: &mut Packet, tracked: Tracked) {
        if let (Some(flow), true) = (tracked.flow, tracked.reply) {
            let orig = self.flows[flow].orig;
            (packet.tuple.src, packet.tuple.sport) = (orig.dst, orig.dport);
        }
    }

    /// The addresses that an answer has for the one who asked, if it answers a flow of this namespace.
    fn answers(&self, ns: usize, packet: &Packet) -> Option<Tuple> {
        let mut flows = self.flows.iter().rev().filter(|f| f.ns == ns);
        match packet.kind {
            // It is about a packet, and is not rewritten here: its own addresses are the router's.
            Kind::Complaint(_, about) => flows.any(|f| f.now == about).then_some(packet.tuple),
            _ => flows.find(|f| f.now.inverse() == packet.tuple).map(|f| f.orig.inverse()),
        }
    }

    fn rules(
        &self,
        ns: usize,
        table: Table,
        chain: &str,
        packet: &Packet,
        (input, output): (&str, &str),
        tracked: Tracked,
    ) -> Option<Ruling> {
        let space = &self.net.spaces[ns];
        let is_local = |ip| space.is_local(ip);
        let established = tracked.established;
        space.firewall.ask(
            table,
            chain,
            &Situation { packet, input, output, established, is_local: &is_local },
        )
    }

    /// Looks a neighbour up, as ARP does.
    fn neighbour(&mut self, at: At, hop: IpAddr) -> Result<Neighbour, Unknown> {
        if let Some(known) = self.cache.neighbours.borrow().get(&(at, hop)) {
            return known.clone();
        }
        let found = self.look_up(at, hop);
        self.cache.neighbours.borrow_mut().insert((at, hop), found.clone());
        found
    }

    fn look_up(&self, at: At, hop: IpAddr) -> Result<Neighbour, Unknown> {
        let net = self.net;
        let no = |_: usize, _: &Packet| None;
        let own = net.at(at).mac;
        let sender = net.spaces[at.ns].source(at.iface, hop);
        let Some(sender) = sender else {
            return Ok(Neighbour { why: "no address to ask from".into(), ..Neighbour::default() });
        };
        let question = |from: At, sender: IpAddr, target: IpAddr| {
            let body = Body::Ask { sender, target };
            Flood::send(net, &no, from, Frame { src: net.at(from).mac, dst: None, vlan: None, body })
        };
        let mut found = Neighbour { why: "nobody has it".into(), ..Neighbour::default() };
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
                    if !space.is_local(hop) || is_silent(&net.at(there).link) {
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
                        Flood::send(net, &no, there, Frame { src: mac, dst: Some(own), vlan: None, body });
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
    ) -> Vec<crate::packet::Mac> {
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

    fn note(&mut self, at: String, packet: &Packet, by: impl Into<String>) {
        self.hops.push(Hop { at, packet: packet.words(), by: by.into() });
    }

    fn note_frame(&mut self, at: String, frame: &Frame, by: impl Into<String>) {
        self.hops.push(Hop { at, packet: frame.words(), by: by.into() });
    }
}

/// Interfaces that neither ask nor answer for addresses.
fn is_silent(link: &Link) -> bool {
    matches!(link, Link::Ipvlan(_, IpvlanMode::L3, _) | Link::Loopback)
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

fn words(mac: Option<crate::packet::Mac>) -> String {
    mac.map_or_else(|| "everybody".to_owned(), |m| m.to_string())
}
