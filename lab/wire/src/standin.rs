//! The stand-in for a segment's gateway and for what lies behind it.
//!
//! It answers ARP and IPv6's neighbour discovery for the gateway, and pings of the gateway and of the outside. It refuses TCP and UDP there: a lab sees
//! an internet that answers but is closed. It routes nothing: addresses in the lab's segments are unreachable through
//! it, and no packet leaves the process. Where the segment says so, it advertises itself as a router, and queries for
//! listeners of groups; packets too large for the path behind it come back.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use labctl_model::{Family, OfFamily, PerFamily, is_link_local, lab::Segment};
use vxlan::{
    EthernetFrame, IpView, Ipv4View, MacAddr, TcpFlags, TcpView,
    proto::{icmpv6, ip_protocol, tcp},
    reply::{self, ALL_NODES, IcmpError, Neighbors},
};

use crate::{
    advert::{self, ALL_MLD_ROUTERS, ALL_ROUTERS, Adverts, Schedule},
    neighbours::{Neighbours, Next},
};

/// Name of the stand-in's port in captures.
pub const GATEWAY_PORT: &str = "gateway";
/// Most ICMP errors per second. Linux sends 1,000 per second in all, and one per second to each peer. We have no limit
/// per peer: a matrix probes all its cells at once, and chance must not decide which are refused.
const ERRORS_PER_SECOND: u32 = 1000;

/// One segment's gateway.
pub(crate) struct StandIn {
    pub(crate) mac: MacAddr,
    addresses: PerFamily<IpAddr>,
    /// Its link-local address, if it speaks IPv6.
    link_local: Option<Ipv6Addr>,
    subnets: PerFamily<IpNet>,
    outside: Vec<IpNet>,
    /// Subnets of all segments of the lab.
    inside: Arc<[IpNet]>,
    path_mtu: Option<u16>,
    adverts: Option<Adverts>,
    queries: Option<Schedule>,
    neighbours: Neighbours,
    errors: ErrorBudget,
    pub(crate) rx_frames: u64,
    pub(crate) tx_frames: u64,
    pub(crate) no_route: u64,
}

#[derive(Default)]
struct ErrorBudget {
    second: u32,
    spent: u32,
}

impl ErrorBudget {
    fn take(&mut self, now: u32) -> bool {
        if self.second != now {
            *self = Self { second: now, spent: 0 };
        }
        self.spent += 1;
        self.spent <= ERRORS_PER_SECOND
    }
}

impl StandIn {
    pub(crate) fn new(mac: MacAddr, segment: &Segment, inside: Arc<[IpNet]>) -> Self {
        let link_local = segment.gateway.has(Family::V6).then(|| advert::link_local(mac));
        let adverts = match (segment.subnet.get(Family::V6), &segment.ra) {
            (Some(IpNet::V6(prefix)), Some(ra)) if link_local.is_some() => {
                Some(Adverts::new(prefix, segment.mtu, ra.dns.clone()))
            }
            _ => None,
        };
        Self {
            mac,
            addresses: segment.gateway,
            link_local,
            subnets: segment.subnet,
            outside: segment.outside.clone(),
            inside,
            path_mtu: segment.path_mtu,
            adverts,
            queries: link_local.filter(|_| segment.mld).map(|_| Schedule::QUERIES),
            neighbours: Neighbours::default(),
            errors: ErrorBudget::default(),
            rx_frames: 0,
            tx_frames: 0,
            no_route: 0,
        }
    }

    /// Whether a frame to this MAC is for the gateway: its own, that of all, or that of a group it listens to.
    pub(crate) fn hears(&self, dst: MacAddr) -> bool {
        dst == self.mac || dst.is_broadcast() || dst.is_multicast() && self.is_in_group(dst)
    }

    fn is_in_group(&self, dst: MacAddr) -> bool {
        let Some(link_local) = self.link_local else { return false };
        let global = self.addresses.get(Family::V6).and_then(|own| match own {
            IpAddr::V4(_) => None,
            IpAddr::V6(own) => Some(icmpv6::solicited_node(own)),
        });
        let groups = [ALL_NODES, ALL_ROUTERS, icmpv6::solicited_node(link_local)];
        // Who asks for listeners hears what they report.
        let reports = self.queries.as_ref().map(|_| ALL_MLD_ROUTERS);
        groups.into_iter().chain(global).chain(reports).any(|group| icmpv6::group_mac(group) == dst)
    }

    /// When it next has something to say unasked.
    pub(crate) fn due(&self) -> Option<u32> {
        let adverts = self.adverts.as_ref().map(|adverts| adverts.schedule.due());
        adverts.into_iter().chain(self.queries.as_ref().map(Schedule::due)).min()
    }

    /// Puts what it says unasked into `out`.
    pub(crate) fn speak(&mut self, now: u32, out: &mut Vec<Vec<u8>>) {
        let Some(link_local) = self.link_local else { return };
        let own = (self.mac, link_local);
        out.extend(self.adverts.as_mut().and_then(|adverts| adverts.unasked(own, now)));
        if self.queries.as_mut().is_some_and(|queries| queries.take(now)) {
            out.push(advert::query(own, None));
        }
    }

    /// Its MAC and address as the one who asks who listens to which group, if it does.
    pub(crate) fn querier(&self) -> Option<(MacAddr, Ipv6Addr)> {
        self.link_local.filter(|_| self.queries.is_some()).map(|own| (self.mac, own))
    }

    /// The answer to somebody who solicits routers.
    fn advertisement(&mut self, frame: &EthernetFrame<'_>, now: u32) -> Option<Vec<u8>> {
        let (adverts, link_local) = (self.adverts.as_mut()?, self.link_local?);
        let asker = advert::solicitor(&IpView::new_checked(frame.payload()).ok()?)?;
        adverts.answer((self.mac, link_local), (frame.src(), asker), now)
    }

    /// Takes a frame that it [hears](Self::hears). Puts frames to send into `out`.
    pub(crate) fn receive(&mut self, frame: &EthernetFrame<'_>, now: u32, out: &mut Vec<Vec<u8>>) {
        self.rx_frames += 1;
        if let Some(asked) = Neighbors::read(frame) {
            return self.discover(frame, &asked, now, out);
        }
        if let Some(advertisement) = self.advertisement(frame, now) {
            return out.push(advertisement);
        }
        if frame.dst() == self.mac
            && let Ok(packet) = IpView::new_checked(frame.payload())
            && packet.addresses().ethertype() == frame.ethertype()
            && let Some(answer) = self.answer(frame, &packet, now)
        {
            self.send(answer, packet.src(), now, out);
        }
    }

    /// Takes a question or an answer of ARP or neighbour discovery.
    fn discover(&mut self, frame: &EthernetFrame<'_>, asked: &Neighbors, now: u32, out: &mut Vec<Vec<u8>>) {
        let to_us = self.is_own(asked.target);
        if let Some((ip, mac)) = asked.tells.filter(|(ip, _)| self.is_neighbour(*ip)) {
            self.neighbours.heard(ip, mac, to_us, now, out);
        }
        if to_us {
            out.extend(asked.answer(frame, self.mac, true));
        }
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        self.own_for(ip) == Some(ip)
    }

    /// Its address of the family and scope of `to`.
    fn own_for(&self, to: IpAddr) -> Option<IpAddr> {
        match is_link_local(to) {
            true => self.link_local.map(IpAddr::V6),
            false => self.addresses.get(to.family()),
        }
    }

    /// Whether the gateway reaches `ip` by this segment. It has no other route to the lab.
    fn is_neighbour(&self, ip: IpAddr) -> bool {
        (self.subnets.covers(ip) || is_link_local(ip)) && !self.is_own(ip)
    }

    fn send(&mut self, answer: Vec<u8>, to: IpAddr, now: u32, out: &mut Vec<Vec<u8>>) {
        let Some(own) = self.own_for(to).filter(|_| self.is_neighbour(to)) else {
            self.no_route += 1;
            return;
        };
        match self.neighbours.resolve(to, answer, now) {
            Next::Send(answer) => out.push(answer),
            Next::Ask => out.extend(reply::who_has(self.mac, own, to)),
            Next::Wait => {}
        }
    }

    /// The answer to a packet; the destination MAC is not set yet.
    fn answer(&mut self, frame: &EthernetFrame<'_>, packet: &IpView<'_>, now: u32) -> Option<Vec<u8>> {
        let dst = packet.dst();
        let own = self.own_for(dst)?;
        if dst != own {
            if packet.hops() <= 1 {
                return self.error(frame, own, IcmpError::TimeExceeded, now);
            }
            // A router passes on nothing of a link alone (RFC 4291, section 2.5.6).
            if is_link_local(packet.src()) || is_link_local(dst) {
                self.no_route += 1;
                return None;
            }
            let inside = self.inside.iter().any(|subnet| subnet.contains(&dst));
            if inside || !self.outside.iter().any(|subnet| subnet.contains(&dst)) {
                return self.error(frame, own, IcmpError::HostUnreachable, now);
            }
            // What may be fragmented is, and put together again where it arrives.
            let too_big = |mtu: &u16| packet.bytes().len() > usize::from(*mtu) && !may_be_fragmented(packet);
            if let Some(mtu) = self.path_mtu.filter(too_big) {
                return self.error(frame, own, IcmpError::TooBig(mtu), now);
            }
        }
        match packet.protocol() {
            _ if packet.is_icmp() => reply::icmp_echo_reply_to(frame, self.mac),
            ip_protocol::TCP => reset(packet).map(|segment| {
                let answer = reply::ip(packet.addresses().back(), ip_protocol::TCP, 64, &segment);
                reply::ethernet(frame.src(), self.mac, frame.vlan(), frame.ethertype(), &answer)
            }),
            ip_protocol::UDP => self.error(frame, dst, IcmpError::PortUnreachable, now),
            _ => self.error(frame, dst, IcmpError::ProtocolUnreachable, now),
        }
    }

    fn error(
        &mut self,
        frame: &EthernetFrame<'_>,
        from: IpAddr,
        error: IcmpError,
        now: u32,
    ) -> Option<Vec<u8>> {
        let message = reply::icmp_error_to(frame, self.mac, from, error)?;
        self.errors.take(now).then_some(message)
    }
}

/// Whether a router may fragment a packet: IPv4 without DF.
fn may_be_fragmented(packet: &IpView<'_>) -> bool {
    Ipv4View::header_checked(packet.bytes()).is_ok_and(|ip| !ip.dont_fragment())
}

/// The reset with which a closed port answers a segment (RFC 9293, 3.10.7.1).
fn reset(packet: &IpView<'_>) -> Option<Vec<u8>> {
    if packet.is_fragment() || !packet.checksum_ok() {
        return None;
    }
    let asked = TcpView::new_checked(packet.payload()).ok()?;
    let flags = asked.flags();
    if flags.contains(TcpFlags::RST) || !asked.checksum_ok(packet.addresses()) {
        return None;
    }
    let (seq, ack, flags) = if flags.contains(TcpFlags::ACK) {
        (asked.ack(), 0, TcpFlags::RST)
    } else {
        // SYN and FIN each take a sequence number (RFC 9293, 3.4).
        let controls = u32::from(flags.contains(TcpFlags::SYN)) + u32::from(flags.contains(TcpFlags::FIN));
        let len = asked.payload().len() as u32 + controls;
        (0, asked.seq().wrapping_add(len), TcpFlags::RST | TcpFlags::ACK)
    };
    let mut segment = vec![0; tcp::HEADER_LEN];
    segment[0..2].copy_from_slice(&asked.dst_port().to_be_bytes());
    segment[2..4].copy_from_slice(&asked.src_port().to_be_bytes());
    segment[4..8].copy_from_slice(&seq.to_be_bytes());
    segment[8..12].copy_from_slice(&ack.to_be_bytes());
    segment[12] = ((tcp::HEADER_LEN / 4) as u8) << 4;
    segment[13] = flags.0;
    // The order of the two addresses does not change the pseudo-header's sum.
    let sum = packet.addresses().checksum(ip_protocol::TCP, &segment, 16);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    Some(segment)
}
