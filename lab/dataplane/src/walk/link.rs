//! The way of a frame, from the interface that sends it to the stacks that take it: bridges, pairs, parents, segments.

use super::Cache;
use crate::{
    net::{At, Interface, IpvlanFlag, IpvlanMode, Link, MacvlanMode, Net, Port, Wire},
    netfilter::{Situation, Table, Target},
    packet::{Body, Complaint, Frame, Kind, Mac, Packet, Proto, Tuple},
};
use labctl_model::{Protocol, Traffic};

/// Most interfaces that one frame passes in a row.
const DEEPEST: usize = 40;

/// A place that a frame passed, and what happened there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// `host1/eth0` or `segment lan`.
    pub place: String,
    /// What decided.
    pub by: String,
}

/// Where a frame, or a copy of it, ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// In the stack of an interface.
    Stack(At, Frame),
    /// In a VXLAN device, to be sent.
    Tunnel(At, Frame),
    /// Dropped, and why.
    Lost(String),
    /// Something here cannot be known.
    Unknown(String),
}

/// An end, and the way there.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub way: Vec<Passed>,
    pub end: End,
}

/// What a host's rules say of a frame that a bridge passes on.
enum Filtered {
    /// The rules are not asked.
    Unasked,
    /// What lets it pass.
    Passed(String),
    /// What drops it.
    Dropped(String),
    /// Why that cannot be known.
    Unknown(String),
}

/// Says of a packet in a namespace whether it answers a flow that is tracked there, and if so, its addresses as the one
/// who asked knows them.
pub(super) type Answers<'a> = &'a dyn Fn(usize, &Packet) -> Option<Tuple>;

/// Follows a frame and all of its copies.
pub(super) struct Flood<'a> {
    net: &'a Net,
    cache: &'a Cache,
    answers: Answers<'a>,
    /// If it is a question for an address: who has that.
    owners: Option<&'a [usize]>,
    /// Whether links that are cut are taken for whole: how it went before.
    whole: bool,
    branches: Vec<Branch>,
}

impl<'a> Flood<'a> {
    fn new(net: &'a Net, cache: &'a Cache, answers: Answers<'a>, frame: &Frame) -> Self {
        let owners = match frame.body {
            Body::Ask { target, .. } => Some(net.owners(target)),
            _ => None,
        };
        Self { net, cache, answers, owners, whole: false, branches: Vec::new() }
    }

    /// Whether a frame to everybody does anything at an interface: most hear a question for nothing.
    fn hears(&self, at: At) -> bool {
        let Some(owners) = self.owners else { return true };
        let interface = self.net.at(at);
        interface.master.is_some() || !interface.above.is_empty() || owners.contains(&at.ns)
    }

    /// Sends a frame out of an interface of a stack.
    pub fn send(net: &'a Net, cache: &'a Cache, answers: Answers<'a>, from: At, frame: Frame) -> Vec<Branch> {
        let mut flood = Self::new(net, cache, answers, &frame);
        flood.out(from, frame, Vec::new());
        flood.branches
    }

    /// The same as long as nothing was cut.
    pub fn sent_before(
        net: &'a Net,
        cache: &'a Cache,
        answers: Answers<'a>,
        from: At,
        frame: Frame,
    ) -> Vec<Branch> {
        let mut flood = Self { whole: true, ..Self::new(net, cache, answers, &frame) };
        flood.out(from, frame, Vec::new());
        flood.branches
    }

    /// Lets a frame come into a segment, as from a station that is no host's.
    pub fn on_wire(
        net: &'a Net,
        cache: &'a Cache,
        answers: Answers<'a>,
        wire: usize,
        frame: Frame,
    ) -> Vec<Branch> {
        let mut flood = Self::new(net, cache, answers, &frame);
        let station = Port { at: At { ns: usize::MAX, iface: 0 }, host: None, from: true, to: true };
        flood.switch(&net.wires[wire], &station, frame, Vec::new());
        flood.branches
    }

    /// Lets a frame come in at an interface, as VXLAN does with what it takes out of a packet.
    pub fn arrive(net: &'a Net, cache: &'a Cache, answers: Answers<'a>, at: At, frame: Frame) -> Vec<Branch> {
        let mut flood = Self::new(net, cache, answers, &frame);
        flood.take(at, frame, Vec::new());
        flood.branches
    }

    fn end(&mut self, way: Vec<Passed>, end: End) {
        self.branches.push(Branch { way, end });
    }

    fn lost(&mut self, way: Vec<Passed>, why: impl Into<String>) {
        self.end(way, End::Lost(why.into()));
    }

    /// A frame leaves by an interface.
    fn out(&mut self, at: At, frame: Frame, mut way: Vec<Passed>) {
        let net = self.net;
        let iface = net.at(at);
        if way.len() >= DEEPEST {
            return self.lost(way, "it goes round in circles");
        }
        if let Some(why) = &iface.unknown {
            return self.end(way, End::Unknown(why.clone()));
        }
        let note = |by: &str| Passed { place: net.place(at), by: by.to_owned() };
        match &iface.link {
            Link::Loopback => self.end(way, End::Stack(at, frame)),
            Link::Dummy => self.lost(way, format!("{} leads nowhere", net.place(at))),
            Link::Wire(wire) => self.wire(&net.wires[*wire], at, frame, way),
            Link::Veth(peer) => self.take(*peer, frame, way),
            Link::Bridge => {
                way.push(note("bridge"));
                self.all_out(self.ports(at, None, &frame), &frame, &way);
            }
            Link::Vlan(parent, id) => {
                way.push(note(&format!("tagged as VLAN {id}")));
                self.out(*parent, Frame { vlan: Some(*id), ..frame }, way);
            }
            Link::Vxlan(_) => self.end(way, End::Tunnel(at, frame)),
            Link::Macvlan(parent, mode) => {
                if *mode == MacvlanMode::Bridge {
                    for (sibling, other) in self.above(*parent) {
                        let Link::Macvlan(_, MacvlanMode::Bridge) = &other.link else { continue };
                        if sibling == at {
                            continue;
                        }
                        if frame.dst == Some(other.mac) {
                            way.push(note("macvlan: to another one on the same parent"));
                            return self.take(sibling, frame, way);
                        }
                        if frame.dst.is_none() && self.hears(sibling) {
                            self.take(sibling, frame.clone(), way.clone());
                        }
                    }
                }
                way.push(note(&format!("macvlan: out of {}", net.at(*parent).name)));
                self.out(*parent, frame, way);
            }
            Link::Ipvlan(parent, IpvlanMode::L2, flag) => self.ipvlan_out(at, *parent, *flag, frame, way),
            // Routed; no frame is ever made there.
            Link::Ipvlan(..) => self.lost(way, "ipvlan l3 sends no frames"),
        }
    }

    /// Linux, drivers/net/ipvlan/ipvlan_core.c, ipvlan_xmit_mode_l2.
    fn ipvlan_out(&mut self, at: At, parent: At, flag: IpvlanFlag, frame: Frame, mut way: Vec<Passed>) {
        let net = self.net;
        let name = &net.at(parent).name;
        let note = |by: String| Passed { place: net.place(at), by };
        if frame.dst == Some(frame.src) && flag != IpvlanFlag::Vepa {
            let slave = self.ipvlan_owner(parent, &frame);
            return match slave {
                Some(_) if flag == IpvlanFlag::Private => self.lost(
                    way,
                    format!("{}: ipvlan with the flag private keeps its interfaces apart", net.place(at)),
                ),
                Some(slave) => {
                    way.push(note("ipvlan: to another one on the same parent, by its address".into()));
                    self.stack(slave, frame, way);
                }
                None => {
                    way.push(note(format!("ipvlan: nobody above {name} has that address, so to its host")));
                    self.stack(parent, frame, way);
                }
            };
        }
        if frame.dst.is_none() {
            for (sibling, _) in self.above(parent).filter(|(s, _)| *s != at) {
                if !self.hears(sibling) {
                    continue;
                }
                self.stack(sibling, frame.clone(), way.clone());
            }
        }
        way.push(note(format!("ipvlan: out of {name}")));
        self.out(parent, frame, way);
    }

    /// A frame comes in at an interface.
    fn take(&mut self, at: At, frame: Frame, mut way: Vec<Passed>) {
        let net = self.net;
        let iface = net.at(at);
        if way.len() >= DEEPEST {
            return self.lost(way, "it goes round in circles");
        }
        if let Some(why) = &iface.unknown {
            return self.end(way, End::Unknown(why.clone()));
        }
        if let Some(master) = iface.master {
            return self.bridge(At { ns: at.ns, iface: master }, at, frame, way);
        }
        if let Some(id) = frame.vlan {
            let vlan = self.above(at).find(|(_, i)| matches!(i.link, Link::Vlan(_, v) if v == id));
            return match vlan {
                Some((vlan, _)) => self.take(vlan, Frame { vlan: None, ..frame }, way),
                None => self.lost(way, format!("{} has no VLAN {id}", net.place(at))),
            };
        }
        let ipvlan = self.above(at).find_map(|(_, i)| match i.link {
            Link::Ipvlan(_, mode, _) => Some(mode),
            _ => None,
        });
        if let Some(mode) = ipvlan {
            if frame.dst.is_none() && mode == IpvlanMode::L2 {
                let slaves = self.above(at).filter(|(_, i)| matches!(i.link, Link::Ipvlan(..)));
                for (slave, _) in slaves {
                    if self.hears(slave) {
                        self.stack(slave, frame.clone(), way.clone());
                    }
                }
            } else if frame.dst == Some(iface.mac)
                && let Some(slave) = self.ipvlan_owner(at, &frame)
            {
                way.push(Passed { place: net.place(at), by: "ipvlan: to the one with that address".into() });
                return self.stack(slave, frame, way);
            }
        }
        for (macvlan, other) in self.above(at) {
            let Link::Macvlan(_, mode) = &other.link else { continue };
            if *mode == MacvlanMode::Passthru || frame.dst == Some(other.mac) {
                way.push(Passed { place: net.place(at), by: "macvlan: to the one with that MAC".into() });
                return self.take(macvlan, frame, way);
            }
            if frame.dst.is_none() && self.hears(macvlan) {
                self.take(macvlan, frame.clone(), way.clone());
            }
        }
        self.stack(at, frame, way);
    }

    /// A stack takes what is for its interface's MAC, or for all.
    fn stack(&mut self, at: At, frame: Frame, way: Vec<Passed>) {
        if frame.dst.is_none_or(|mac| mac == self.net.at(at).mac) {
            self.end(way, End::Stack(at, frame));
        }
    }

    /// The interfaces on top of another.
    fn above(&self, parent: At) -> impl Iterator<Item = (At, &'a Interface)> + use<'a> {
        let net = self.net;
        self.cache.looked(net.at(parent).above.len());
        net.at(parent).above.iter().map(|at| (*at, net.at(*at)))
    }

    /// The ipvlan on a parent that has the address that a frame is for.
    fn ipvlan_owner(&self, parent: At, frame: &Frame) -> Option<At> {
        let target = frame.target();
        let has = |i: &Interface| i.addresses.iter().any(|a| a.ip == target);
        let ipvlan = |i: &Interface| matches!(i.link, Link::Ipvlan(..));
        self.above(parent).find(|(_, i)| ipvlan(i) && has(i)).map(|(at, _)| at)
    }

    fn bridge(&mut self, bridge: At, port: At, frame: Frame, mut way: Vec<Passed>) {
        let iface = self.net.at(bridge);
        if let Some(why) = &iface.unknown {
            return self.end(way, End::Unknown(why.clone()));
        }
        if frame.dst.is_none_or(|mac| mac == iface.mac) {
            self.end(way.clone(), End::Stack(bridge, frame.clone()));
        }
        if frame.dst == Some(iface.mac) {
            return;
        }
        let to = self.ports(bridge, Some(port), &frame);
        // The kernel asks the rules for each port that a frame leaves by.
        if to.is_empty() {
            return;
        }
        let mut frame = frame;
        match self.filter_bridged(bridge, &mut frame) {
            Filtered::Unasked => {}
            Filtered::Passed(by) => way.push(Passed { place: self.net.place(bridge), by }),
            Filtered::Dropped(by) => return self.lost(way, format!("{}: {by}", self.net.place(bridge))),
            Filtered::Unknown(why) => return self.end(way, End::Unknown(why)),
        }
        self.all_out(to, &frame, &way);
    }

    /// Asks the host's FORWARD chain for what a bridge passes on (`br_netfilter`), and rewrites answers.
    fn filter_bridged(&self, bridge: At, frame: &mut Frame) -> Filtered {
        let space = &self.net.spaces[bridge.ns];
        let discovery;
        let (packet, established) = match &mut frame.body {
            Body::Ip(packet) if !space.filters_bridged(packet.tuple.dst) => return Filtered::Unasked,
            Body::Ip(packet) => {
                if let Some(why) = &space.unknown {
                    return Filtered::Unknown(why.clone());
                }
                let known = (self.answers)(bridge.ns, packet);
                if let Some(tuple) = known {
                    if tuple.dst != packet.tuple.dst {
                        let why = "an answer that is rewritten while it is bridged";
                        return Filtered::Unknown(why.to_owned());
                    }
                    packet.tuple = tuple;
                }
                (&*packet, known.is_some())
            }
            body => match Packet::of_discovery(body) {
                // Where the rules are unknown, so is what becomes of the packet that it is asked for.
                Some(packet) if space.unknown.is_none() && space.filters_bridged(packet.tuple.dst) => {
                    discovery = packet;
                    (&discovery, false)
                }
                _ => return Filtered::Unasked,
            },
        };
        let name = &space.interfaces[bridge.iface].name;
        let is_local = |ip| space.is_local(ip);
        let at = Situation { packet, input: name, output: name, established, is_local: &is_local };
        match space.firewall(packet.tuple.dst).ask(Table::Filter, "FORWARD", &at) {
            Some(ruling) if ruling.target == Target::Drop => Filtered::Dropped(ruling.by),
            Some(ruling) => Filtered::Passed(ruling.by),
            None => Filtered::Passed("bridge".to_owned()),
        }
    }

    /// The port behind which the MAC is, else every port; never the one that it came in by.
    fn ports(&self, bridge: At, but: Option<At>, frame: &Frame) -> Vec<At> {
        self.cache.looked(self.net.spaces[bridge.ns].interfaces.len());
        let interfaces = self.net.spaces[bridge.ns].interfaces.iter().enumerate();
        let ports = interfaces.filter(|(_, i)| i.master == Some(bridge.iface));
        let ports: Vec<_> = ports.map(|(iface, i)| (At { ns: bridge.ns, iface }, i)).collect();
        let behind = |i: &Interface| match i.link {
            Link::Veth(peer) => Some(self.net.at(peer).mac) == frame.dst,
            _ => false,
        };
        if let Some((port, _)) = ports.iter().find(|(_, i)| behind(i)) {
            return Some(*port).filter(|port| Some(*port) != but).into_iter().collect();
        }
        let hears = |i: &Interface| !matches!(i.link, Link::Veth(peer) if !self.hears(peer));
        let hearing = ports.iter().filter(|(port, i)| Some(*port) != but && hears(i));
        hearing.map(|(port, _)| *port).collect()
    }

    fn all_out(&mut self, ports: Vec<At>, frame: &Frame, way: &[Passed]) {
        for port in ports {
            self.out(port, frame.clone(), way.to_vec());
        }
    }

    fn wire(&mut self, wire: &Wire, at: At, frame: Frame, way: Vec<Passed>) {
        let Some(port) = wire.ports.iter().find(|p| p.at == at) else {
            return self.lost(way, format!("{} is not plugged in", self.net.place(at)));
        };
        let mac = self.net.at(at).mac;
        let segment = format!("segment {}", wire.name);
        if !port.from && !self.whole {
            return self.lost(way, format!("{segment}: {} is cut off", self.net.place(at)));
        }
        if wire.port_security && port.host.is_some() && frame.src != mac {
            let why =
                format!("{segment}: port security: {} is not the MAC of {}", frame.src, self.net.place(at));
            return self.lost(way, why);
        }
        self.switch(wire, port, frame, way);
    }

    /// What a segment does with a frame that has come in at a port.
    fn switch(&mut self, wire: &Wire, port: &Port, frame: Frame, mut way: Vec<Passed>) {
        let (at, segment) = (port.at, format!("segment {}", wire.name));
        if let Body::Ip(packet) = &frame.body
            && packet.size > wire.mtu
        {
            let why = format!("{segment}: {} bytes are more than its MTU of {}", packet.size, wire.mtu);
            return self.lost(way, why);
        }
        way.push(Passed { place: segment.clone(), by: "switched".into() });
        for other in wire.ports.iter().filter(|p| p.at != at) {
            let named = |name: &Option<String>, port: &Port| name.is_none() || *name == port.host;
            let block = wire
                .blocks
                .iter()
                .find(|b| named(&b.from, port) && named(&b.to, other) && is_kind(b.filter, &frame));
            let own = self.net.at(other.at).mac;
            // What is behind a bridge on the NIC the bridge knows; the switch has learned it, or floods.
            let to_bridge = |mac| self.net.at(other.at).master.is_some() && !self.is_on(wire, mac);
            let to_it =
                frame.dst.is_none_or(|mac| mac == own || self.net.is_above(other.at, mac) || to_bridge(mac));
            if !to_it {
                continue;
            }
            if let Some(block) = block {
                self.lost(way.clone(), format!("{segment} blocks {}", block.filter));
            } else if !other.to && !self.whole {
                self.lost(way.clone(), format!("{segment}: {} is cut off", self.net.place(other.at)));
            } else if wire.port_security && other.host.is_some() && frame.dst.is_some_and(|mac| mac != own) {
                self.lost(way.clone(), format!("{segment}: port security at {}", self.net.place(other.at)));
            } else {
                self.take(other.at, frame.clone(), way.clone());
            }
        }
    }

    /// Whether a MAC is that of a NIC of a segment, or of something on top of one.
    fn is_on(&self, wire: &Wire, mac: Mac) -> bool {
        wire.ports.iter().any(|p| self.net.at(p.at).mac == mac || self.net.is_above(p.at, mac))
    }
}

/// Whether a frame carries packets of this kind.
fn is_kind(filter: Traffic, frame: &Frame) -> bool {
    let packet = match &frame.body {
        Body::Ip(packet) => packet,
        // Neighbour discovery is ICMPv6.
        Body::Ask { target: ip, .. } | Body::Tell { sender: ip, .. } => {
            return ip.is_ipv6() && filter == Traffic::Ip(58);
        }
    };
    let proto = packet.tuple.proto;
    match filter {
        Traffic::Ip(number) => {
            number
                == match proto {
                    Proto::Icmp if packet.tuple.dst.is_ipv6() => 58,
                    Proto::Icmp => 1,
                    Proto::Tcp => 6,
                    Proto::Udp => 17,
                    Proto::Esp => 50,
                }
        }
        Traffic::Port(Protocol::Tcp, port) => proto == Proto::Tcp && packet.tuple.dport == port,
        Traffic::Port(Protocol::Udp, port) => proto == Proto::Udp && packet.tuple.dport == port,
        Traffic::Vxlan(port) => {
            proto == Proto::Udp && packet.tuple.dport == port && matches!(packet.kind, Kind::Tunnel { .. })
        }
        Traffic::TooBig => matches!(packet.kind, Kind::Complaint(Complaint::TooBig(_), _)),
    }
}
