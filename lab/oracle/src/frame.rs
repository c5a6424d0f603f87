//! Written frames: who receives one.

use std::{collections::BTreeSet, net::IpAddr};

use labctl_dataplane::{
    net::{At, Next, Role},
    packet::{Body, Frame, Kind, Mac, Packet, Proto, Tuple},
    walk::{self, Entry, Unknown},
};
use labctl_model::{Family, Inject, Name, OfFamily, Source, is_link_local};
use vxlan::{Ipv4, Ipv6, Layer, Stack, Udp, proto};

use crate::{
    aim,
    build::Built,
    cell::{Agreement, Scene},
};

/// Source MAC of a frame from the wire itself, and of one in a tunnel, unless it has one.
const STRANGER: Mac = Mac([0x06, 0x67, 0x77, 0x01, 0x00, 0x01]);

/// Holds what is expected of a written frame against where it goes.
pub fn agreement(scene: &Scene<'_>, inject: &Inject) -> Agreement {
    let sent = Sent { scene, built: scene.built() };
    if scene.is_unsure() {
        return Agreement::Unknown("nodes that hear each other only one way".to_owned());
    }
    let ways = match sent.ways(inject) {
        Err(Unknown(why)) => return Agreement::Unknown(why),
        Ok(ways) => ways,
    };
    let unmet = |got: &BTreeSet<usize>| {
        let gets = |name: &&String| sent.built.spaces.get(*name).is_some_and(|ns| got.contains(ns));
        let missing = inject.received_by.iter().find(|name| !gets(name));
        let missing = missing.map(|name| format!("{name} does not get it"));
        missing.or_else(|| inject.not_received_by.iter().find(gets).map(|name| format!("{name} gets it")))
    };
    let all: Vec<Option<String>> = ways.iter().map(unmet).collect();
    match all.first() {
        Some(Some(why)) if all.iter().all(Option::is_some) => Agreement::Differs(why.clone()),
        Some(_) if all.iter().all(Option::is_none) => Agreement::Agrees,
        _ => Agreement::Unknown("which of several ways a frame goes".to_owned()),
    }
}

/// Whether a frame may teach a switch that a MAC is where it is not.
pub fn misleads(inject: &Inject) -> bool {
    let first = inject.frame.as_str().split('/').next().unwrap_or_default();
    first.contains("src=")
}

struct Sent<'s, 'a> {
    scene: &'s Scene<'a>,
    built: &'s Built,
}

impl Sent<'_, '_> {
    /// The namespaces that get it, for each way that it may go.
    fn ways(&self, inject: &Inject) -> Result<Vec<BTreeSet<usize>>, Unknown> {
        let unknown = |why: &str| Unknown(why.to_owned());
        let text = inject.frame.fill(|name| self.value(name))?;
        let stack: Stack = text.parse().map_err(|_| unknown("a frame that cannot be read"))?;
        let net = &self.built.net;
        let (entry, mac, own) = match &inject.from {
            Source::Wire(segment) => {
                let wire = self.scene.state().lab.segments.get_index_of(segment);
                let wire = wire.ok_or_else(|| unknown("a segment that is not there"))?;
                (Entry::Segment(wire), STRANGER, Vec::new())
            }
            Source::Endpoint { name, interface } => {
                let at = self.interface(name, interface.as_deref());
                let at = at.ok_or_else(|| Unknown(format!("{name}, which does not run")))?;
                // A port of a bridge has the addresses of the bridge.
                let speaks = net.at(At { iface: net.at(at).master.unwrap_or(at.iface), ..at });
                let own = speaks.addresses.iter().map(|a| a.ip).collect();
                (Entry::Interface(at), speaks.mac, own)
            }
        };
        let next = |to| self.next_mac(&inject.from, entry, to);
        let frame = self.frame(&stack.layers, (mac, &own), &next)?;
        walk::follow(net, self.scene.cache(), entry, &frame)
    }

    /// What a name in a frame stands for.
    fn value(&self, name: &Name) -> Result<String, Unknown> {
        let state = self.scene.state();
        let absent = |what: &str| Unknown(format!("{what}, which is not there"));
        Ok(match name {
            Name::Vni(key) => state.overlays.get(key).ok_or_else(|| absent(key))?.vni.to_string(),
            Name::Vtep(host) => state.nodes.get(host).ok_or_else(|| absent(host))?.data_path.to_string(),
            Name::Ip { endpoint, at, family } => self.address(endpoint, at.as_deref(), *family)?.to_string(),
            Name::Mac { endpoint, at } => {
                let ip = self.address(endpoint, at.as_deref(), None)?;
                let ns = self.built.spaces.get(endpoint).ok_or_else(|| absent(endpoint))?;
                let interfaces = &self.built.net.spaces[*ns].interfaces;
                let own = interfaces.iter().find(|i| i.addresses.iter().any(|a| a.ip == ip));
                own.ok_or_else(|| absent(endpoint))?.mac.to_string()
            }
        })
    }

    fn address(&self, endpoint: &str, at: Option<&str>, family: Option<Family>) -> Result<IpAddr, Unknown> {
        let all = aim::addresses(self.scene.state(), endpoint);
        let on = |place: &str| {
            at.is_none_or(|at| place == at || place == aim::docker_name(self.scene.state().lab, at))
        };
        let of = |family| all.iter().find(|(place, ip)| on(place) && ip.family() == family);
        let found = match family {
            Some(family) => of(family),
            None => Family::ALL.into_iter().find_map(of),
        };
        found.map(|(_, ip)| *ip).ok_or_else(|| Unknown(format!("{endpoint}, which has no such address")))
    }

    /// The interface of this name, or the first with an address.
    fn interface(&self, name: &str, interface: Option<&str>) -> Option<At> {
        let ns = *self.built.spaces.get(name)?;
        let space = &self.built.net.spaces[ns];
        let first = || space.interfaces.iter().position(|i| i.name != "lo" && !i.addresses.is_empty());
        let iface = match interface {
            Some(name) => space.interface(name),
            None => first(),
        };
        iface.map(|iface| At { ns, iface })
    }

    /// The MAC that a frame for an address is sent to.
    fn next_mac(&self, from: &Source, entry: Entry, to: IpAddr) -> Option<Mac> {
        let state = self.scene.state();
        let on_segment = |segment: &str| {
            let lan = state.lab.segments.get(segment)?;
            let near = lan.subnet.covers(to) && lan.gateway.get(to.family()) != Some(to);
            let hop = if near { Some(to) } else { lan.gateway.get(to.family()) };
            self.owner_mac(hop?)
        };
        match (from, entry) {
            (Source::Wire(segment), _) => on_segment(segment),
            (Source::Endpoint { name, .. }, Entry::Interface(at)) => {
                let nic = &self.built.net.at(at).name;
                let of_host = state.lab.hosts.get(name).and_then(|h| h.nics.iter().find(|n| n.name == *nic));
                match of_host {
                    Some(nic) => on_segment(&nic.segment),
                    None => match self.built.net.spaces[at.ns].route(to, None) {
                        Next::Out { hop, .. } => self.owner_mac(hop),
                        _ => None,
                    },
                }
            }
            (Source::Endpoint { .. }, Entry::Segment(_)) => None,
        }
    }

    /// The MAC of the only one that has an address.
    fn owner_mac(&self, ip: IpAddr) -> Option<Mac> {
        let net = &self.built.net;
        let owners = net.owners(ip).iter().map(|ns| &net.spaces[*ns]).filter(|s| s.role != Role::Inner);
        let mut macs = owners.flat_map(|s| &s.interfaces).filter(|i| i.addresses.iter().any(|a| a.ip == ip));
        macs.next().filter(|_| macs.next().is_none()).map(|i| i.mac)
    }

    /// A frame of Ethernet, IP, and what is modelled above; `next` says which MAC has an address. `own` are the sender's
    /// addresses.
    fn frame(
        &self,
        layers: &[Layer],
        (mac, own): (Mac, &[IpAddr]),
        next: &dyn Fn(IpAddr) -> Option<Mac>,
    ) -> Result<Frame, Unknown> {
        let odd = || Unknown("where a frame of such layers goes".to_owned());
        let [Layer::Ether(ether), ip, above @ ..] = layers else { return Err(odd()) };
        let Ip { src, dst, may_fragment } = Ip::plain(ip).ok_or_else(odd)?;
        if dst.is_multicast() || is_link_local(dst) || ether.ethertype.is_some() {
            return Err(odd());
        }
        if ether.dst.is_some_and(|mac| mac.0[0] & 1 == 1) {
            return Err(Unknown("where a frame to everybody goes".to_owned()));
        }
        let to = ether.dst.map(|mac| Mac(mac.0)).or_else(|| next(dst));
        let to = to.ok_or_else(|| Unknown(format!("whose MAC has {dst}")))?;
        let src = src.or_else(|| own.iter().copied().find(|own| own.family() == dst.family()));
        let src = src.unwrap_or_else(|| dst.family().unspecified());
        let (proto, ports, kind) = match above {
            [Layer::Tcp(tcp), rest @ ..] if is_plain(rest) => {
                (Proto::Tcp, (tcp.src_port, tcp.dst_port), Kind::Data)
            }
            [Layer::Icmp(icmp), rest @ ..]
                if is_plain(rest) && icmp.icmp_type == proto::icmp::ECHO_REQUEST && dst.is_ipv4() =>
            {
                (Proto::Icmp, (0, 0), Kind::Data)
            }
            [Layer::Icmpv6(icmp), rest @ ..]
                if is_plain(rest) && icmp.icmp_type == proto::icmpv6::ECHO_REQUEST && dst.is_ipv6() =>
            {
                (Proto::Icmp, (0, 0), Kind::Data)
            }
            [Layer::Udp(udp), Layer::Vxlan(header), inner @ ..]
                if *header == (vxlan::Vxlan { vni: header.vni, ..Default::default() })
                    && is_taken(udp, dst.family()) =>
            {
                let port = udp.dst_port.unwrap_or(proto::vxlan::PORT);
                let frame = self.frame(inner, (STRANGER, &[]), &|to| self.owner_mac(to))?;
                let kind = Kind::Tunnel { vni: header.vni, port, frame: Box::new(frame) };
                (Proto::Udp, (udp.src_port.unwrap_or_default(), port), kind)
            }
            [Layer::Udp(udp), rest @ ..] if is_plain(rest) => {
                let or = |port: Option<u16>, default| port.unwrap_or(default);
                let ports = (
                    or(udp.src_port, proto::udp::DEFAULT_SRC_PORT),
                    or(udp.dst_port, proto::udp::DEFAULT_DST_PORT),
                );
                (Proto::Udp, ports, Kind::Data)
            }
            _ => return Err(odd()),
        };
        let tuple = Tuple { proto, src, sport: ports.0, dst, dport: ports.1 };
        let packet = Packet { tuple, kind, size: SIZE, may_fragment };
        let src = ether.src.map_or(mac, |mac| Mac(mac.0));
        Ok(Frame { src, dst: Some(to), vlan: None, body: Body::Ip(packet) })
    }
}

/// What a frame's way depends on in its IP header.
struct Ip {
    src: Option<IpAddr>,
    dst: IpAddr,
    may_fragment: bool,
}

impl Ip {
    /// Reads a header. `None` if lengths, checksums, a protocol or a lifetime of its own decide who drops it.
    fn plain(layer: &Layer) -> Option<Self> {
        match layer {
            Layer::Ipv4(ip) => {
                let kept = Ipv4 { src: ip.src, dst: ip.dst, dscp: ip.dscp, ecn: ip.ecn, ..Ipv4::default() };
                let plain = *ip == Ipv4 { id: ip.id, df: ip.df, ..kept };
                let (src, dst) = (ip.src.map(IpAddr::V4), IpAddr::V4(ip.dst?));
                plain.then_some(Self { src, dst, may_fragment: !ip.df })
            }
            Layer::Ipv6(ip) => {
                let (traffic_class, flow_label) = (ip.traffic_class, ip.flow_label);
                let kept = Ipv6 { src: ip.src, dst: ip.dst, traffic_class, flow_label, ..Ipv6::default() };
                let (src, dst) = (ip.src.map(IpAddr::V6), IpAddr::V6(ip.dst?));
                (*ip == kept).then_some(Self { src, dst, may_fragment: false })
            }
            _ => None,
        }
    }
}

/// Whether a VTEP takes a datagram with this checksum: a right one, or none over IPv4 (over IPv6 that is for those who
/// ask for it: RFC 6935, Linux's `udp6zerocsumrx`).
fn is_taken(udp: &Udp, outer: Family) -> bool {
    udp.checksum.is_none_or(|sum| sum == 0 && outer == Family::V4)
}

/// Bytes of such a packet with its mark, about.
const SIZE: u32 = 100;

/// Whether nothing follows that could make it long.
fn is_plain(rest: &[Layer]) -> bool {
    rest.is_empty()
}
