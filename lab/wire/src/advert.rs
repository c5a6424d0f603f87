//! What a gateway's stand-in sends to all unasked: router advertisements (RFC 4861 section 6.2) and queries of MLD (RFC
//! 3810 section 7.1). Times are seconds of the wire's own clock.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::Ipv6Net;
use vxlan::{
    IpView, MacAddr,
    checksum::Addresses,
    proto::{ethertype, icmpv6, ip_protocol, ipv6},
    reply::{self, ALL_NODES},
};

/// Every router of a link.
pub(crate) const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// To whom listeners report by MLDv2 (RFC 3810 section 5.2.14).
pub(crate) const ALL_MLD_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// Types of ICMPv6 (RFC 4861 section 4, RFC 2710 section 3).
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
pub(crate) const LISTENER_QUERY: u8 = 130;

/// Seconds for which a host may use the router: AdvDefaultLifetime of RFC 4861 section 6.2.1, as the two below.
const ROUTER_LIFETIME: u16 = 1800;
const VALID_LIFETIME: u32 = 2_592_000;
const PREFERRED_LIFETIME: u32 = 604_800;
/// Seconds for which a name server may be asked: three times the interval (RFC 8106 section 5.1).
const DNS_LIFETIME: u32 = 600;
/// What a station takes for the MTU of a link if nobody tells it (RFC 2464 section 2).
const ETHERNET_MTU: u16 = 1500;
/// Prefix length with which stations make an address of their own (RFC 4862 section 5.5.3, RFC 4291 section 2.5.1).
const AUTONOMOUS: u8 = 64;
/// Fewest seconds between two advertisements to all (MIN_DELAY_BETWEEN_RAS).
const LEAST_DELAY: u32 = 3;

/// When something goes to all: at once, a few times soon after, then steadily. One router has nobody to keep out of step
/// with, so there is no jitter.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// How often it is sent soon, and after how many seconds each time.
    soon: (u8, u32),
    /// Seconds after that.
    then: u32,
    sent: u8,
    due: u32,
}

impl Schedule {
    /// Three advertisements in 16 s each, then one every 200 s: the defaults of RFC 4861 section 6.2.1 and 10, the interval at
    /// its lower bound.
    pub(crate) const ADVERTISEMENTS: Self = Self { soon: (3, 16), then: 200, sent: 0, due: 0 };
    /// Queries: two, 31 s apart, then one every 125 s (RFC 3810 sections 9.2, 9.6 and 9.7).
    pub(crate) const QUERIES: Self = Self { soon: (2, 31), then: 125, sent: 0, due: 0 };

    pub(crate) fn due(&self) -> u32 {
        self.due
    }

    /// It is due at this time, if it is not before.
    fn hasten(&mut self, at: u32) {
        self.due = self.due.min(at);
    }

    /// Whether it is time; then it is sent.
    pub(crate) fn take(&mut self, now: u32) -> bool {
        if now < self.due {
            return false;
        }
        self.sent = self.sent.saturating_add(1);
        self.due = now + if self.sent < self.soon.0 { self.soon.1 } else { self.then };
        true
    }
}

/// The advertisements of one router.
pub(crate) struct Adverts {
    prefix: Ipv6Net,
    /// Of the link, if it is less than the 1500 that stations take it for.
    mtu: Option<u16>,
    dns: Vec<Ipv6Addr>,
    pub(crate) schedule: Schedule,
    /// When the last one went to all.
    to_all: Option<u32>,
}

impl Adverts {
    pub(crate) fn new(prefix: Ipv6Net, mtu: u16, dns: Vec<Ipv6Addr>) -> Self {
        let mtu = Some(mtu).filter(|mtu| *mtu < ETHERNET_MTU);
        Self { prefix, mtu, dns, schedule: Schedule::ADVERTISEMENTS, to_all: None }
    }

    /// What is due now.
    pub(crate) fn unasked(&mut self, router: (MacAddr, Ipv6Addr), now: u32) -> Option<Vec<u8>> {
        self.schedule.take(now).then(|| {
            self.to_all = Some(now);
            self.advertisement(router, (icmpv6::group_mac(ALL_NODES), ALL_NODES))
        })
    }

    /// The answer to a solicitation: to the one who asks, at once. If it has no address yet, to all, in place of the next one:
    /// at once too, or when the last one is long enough ago (RFC 4861 section 6.2.6).
    pub(crate) fn answer(
        &mut self,
        router: (MacAddr, Ipv6Addr),
        asker: (MacAddr, Ipv6Addr),
        now: u32,
    ) -> Option<Vec<u8>> {
        if !asker.1.is_unspecified() {
            return Some(self.advertisement(router, asker));
        }
        self.schedule.hasten(self.to_all.map_or(now, |last| last + LEAST_DELAY));
        self.unasked(router, now)
    }

    /// RFC 4861 section 4.2, with the router's MAC, the prefix (on link, and stations may make addresses in it), the link's MTU
    /// and name servers.
    fn advertisement(&self, (mac, own): (MacAddr, Ipv6Addr), (to_mac, dst): (MacAddr, Ipv6Addr)) -> Vec<u8> {
        let [high, low] = ROUTER_LIFETIME.to_be_bytes();
        let (hop_limit, managed_or_other) = (64, 0);
        let on_link = 1 << 7;
        let autonomous = u8::from(self.prefix.prefix_len() == AUTONOMOUS) << 6;
        // Reachable time and retransmission timer are left to the hosts.
        let mut body = vec![0; 8];
        body.extend([icmpv6::option::SOURCE_MAC, 1]);
        body.extend(mac.octets());
        body.extend([3, 4, self.prefix.prefix_len(), on_link | autonomous]);
        body.extend(VALID_LIFETIME.to_be_bytes());
        body.extend(PREFERRED_LIFETIME.to_be_bytes());
        body.extend([0; 4]);
        body.extend(self.prefix.network().octets());
        if let Some(mtu) = self.mtu {
            body.extend([5, 1, 0, 0]);
            body.extend(u32::from(mtu).to_be_bytes());
        }
        if !self.dns.is_empty() {
            // Lengths of options are in units of 8 bytes.
            body.extend([25, 1 + 2 * self.dns.len() as u8, 0, 0]);
            body.extend(DNS_LIFETIME.to_be_bytes());
            body.extend(self.dns.iter().flat_map(Ipv6Addr::octets));
        }
        let ends = Addresses::V6 { src: own, dst };
        let message =
            ends.icmp_message(ROUTER_ADVERTISEMENT, 0, [hop_limit, managed_or_other, high, low], &body);
        let packet = reply::ip(ends, ip_protocol::ICMPV6, icmpv6::ON_LINK_HOPS, &message);
        reply::ethernet(to_mac, mac, None, ethertype::IPV6, &packet)
    }
}

/// Who solicits routers by this packet: its address, `::` if it has none yet (RFC 4861 section 6.1.1).
pub(crate) fn solicitor(packet: &IpView<'_>) -> Option<Ipv6Addr> {
    let IpAddr::V6(src) = packet.src() else { return None };
    let message = packet.payload();
    let sound = packet.is_icmp() && packet.hops() == icmpv6::ON_LINK_HOPS && !packet.is_fragment();
    let asks = message.len() >= icmpv6::HEADER_LEN && message[..2] == [ROUTER_SOLICITATION, 0];
    (sound && asks && packet.addresses().icmp_checksum_ok(message)).then_some(src)
}

/// A query of MLD: who listens to this group, or to which groups? (RFC 3810 section 5.1)
pub(crate) fn query((mac, own): (MacAddr, Ipv6Addr), group: Option<Ipv6Addr>) -> Vec<u8> {
    // Milliseconds to answer (sections 9.3 and 9.8); robustness 2; 125 s to the next; no sources.
    let answer_within: u16 = if group.is_some() { 1000 } else { 10_000 };
    let dst = group.unwrap_or(ALL_NODES);
    let mut body = group.unwrap_or(Ipv6Addr::UNSPECIFIED).octets().to_vec();
    body.extend([2, 125, 0, 0]);
    let ends = Addresses::V6 { src: own, dst };
    let [high, low] = answer_within.to_be_bytes();
    let message = ends.icmp_message(LISTENER_QUERY, 0, [high, low, 0, 0], &body);
    // Hop by hop: a router alert for MLD (RFC 2711), and padding.
    let mut payload = vec![ip_protocol::ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    payload.extend(message);
    let packet = reply::ip(ends, ipv6::HOP_BY_HOP, 1, &payload);
    reply::ethernet(icmpv6::group_mac(dst), mac, None, ethertype::IPV6, &packet)
}

/// The link-local address that a station makes of its MAC (RFC 4291, appendix A).
pub(crate) fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.octets();
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MAC: MacAddr = MacAddr([6, 0x67, 0x77, 0, 0, 1]);

    fn times(mut schedule: Schedule) -> Vec<u32> {
        (0..700).filter(|now| schedule.take(*now)).collect()
    }

    #[test]
    fn all_are_told_soon_and_then_now_and_then() {
        assert_eq!(times(Schedule::ADVERTISEMENTS), [0, 16, 32, 232, 432, 632]);
        assert_eq!(times(Schedule::QUERIES), [0, 31, 156, 281, 406, 531, 656]);
    }

    #[test]
    fn those_without_an_address_are_answered_with_all_others_and_not_too_often() {
        let router = (MAC, link_local(MAC));
        assert_eq!(router.1.to_string(), "fe80::467:77ff:fe00:1");
        let mut adverts = Adverts::new("fd00::/64".parse().unwrap(), 1500, vec![]);
        let asker = MacAddr([2, 0, 0, 0, 0, 9]);
        let dst = |frame: Option<Vec<u8>>| frame.map(|frame| frame[..6].to_vec());
        let answer = |adverts: &mut Adverts, ip: Ipv6Addr, now| dst(adverts.answer(router, (asker, ip), now));
        let all = Some(vec![0x33, 0x33, 0, 0, 0, 1]);
        let nobody = Ipv6Addr::UNSPECIFIED;
        assert_eq!(answer(&mut adverts, nobody, 5), all);
        assert_eq!(answer(&mut adverts, nobody, 6), None);
        assert_eq!(answer(&mut adverts, nobody, 7), None);
        assert_eq!(answer(&mut adverts, "fe80::9".parse().unwrap(), 7), Some(asker.octets().to_vec()));
        assert_eq!(dst(adverts.unasked(router, 7)), None);
        assert_eq!(adverts.schedule.due(), 8);
        assert_eq!(dst(adverts.unasked(router, 8)), all, "both are answered once 3 s are over");
        assert_eq!(adverts.schedule.due(), 24, "as if it had not been asked for");
        assert_eq!(answer(&mut adverts, nobody, 11), all);
    }

    #[test]
    fn the_mtu_and_name_servers_are_options() {
        let router = (MAC, link_local(MAC));
        let options = |mtu, dns: &[&str]| {
            let dns = dns.iter().map(|ip| ip.parse().unwrap()).collect();
            let mut adverts = Adverts::new("fd00::/64".parse().unwrap(), mtu, dns);
            let frame = adverts.unasked(router, 0).unwrap();
            let packet = IpView::new_checked(&frame[14..]).unwrap();
            assert!(packet.addresses().icmp_checksum_ok(packet.payload()));
            packet.payload()[56..].to_vec()
        };
        for plain in [1500, 9000] {
            assert!(options(plain, &[]).is_empty());
        }
        assert_eq!(options(1400, &[]), [5, 1, 0, 0, 0, 0, 0x05, 0x78]);
        let servers = ["fd00::53", "2001:db8::53"];
        let octets = servers.map(|ip| ip.parse::<Ipv6Addr>().unwrap().octets()).concat();
        let head = [25, 5, 0, 0, 0, 0, 0x02, 0x58];
        assert_eq!(options(1500, &servers), [&head[..], &octets].concat());
        assert_eq!(options(1280, &servers)[8..], [&head[..], &octets].concat());
    }
}
