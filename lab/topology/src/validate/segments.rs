//! Segments.

use std::net::IpAddr;

use indexmap::IndexMap;
use ipnet::IpNet;
use labctl_model::{
    family::{Family, LEAST_MTU_V6, OfFamily, PerFamily, first_host},
    lab::{Advertised, Segment},
};
use labctl_yaml::{At, Cx, Diagnostic, OneOrMany};

use super::{entries, reserved};
use crate::raw;

const DEFAULT_MTU: u16 = 1500;
/// Most name servers that a router advertises: as many as /etc/resolv.conf has (resolv.h, MAXNS).
const MOST_NAME_SERVERS: usize = 3;

pub(super) fn read(t: &raw::Topology, cx: &mut Cx) -> IndexMap<String, Segment> {
    entries(&t.segments).filter_map(|(name, s)| Some((name.value.clone(), segment(s, cx)?))).collect()
}

fn segment(s: &raw::Segment, cx: &mut Cx) -> Option<Segment> {
    let subnets = one_of_each("the subnet of a segment", &s.subnet, cx)?;
    let mut subnet = PerFamily::default();
    for net in subnets {
        subnet.insert(self::subnet(net, cx)?);
    }
    if subnet.is_empty() {
        let d = Diagnostic::new(s.at, "this segment has no subnet");
        cx.error(d.hint("one, or one of each family: `[192.168.56.0/24, fd00:56::/64]`"));
        return None;
    }
    let mut gateway = PerFamily::default();
    if let Some(list) = &s.gateway {
        for address in one_of_each("the gateway of a segment", list, cx)? {
            inside(address, subnet, "the segment's subnet", Some(&s.subnet), cx);
            gateway.insert(address.value);
        }
    }
    let mtu = s.mtu.as_ref().map_or(DEFAULT_MTU, |m| mtu(m, cx));
    if let Some(m) = s.mtu.as_ref().filter(|_| subnet.has(Family::V6)) {
        room_for_v6(m, cx);
    }
    if let (Some(outside), None) = (&s.outside, &s.gateway)
        && let Some(first) = outside.first()
    {
        let d = Diagnostic::new(first.at, "`outside` lies behind the segment's gateway, and there is none");
        let example = subnet.first().and_then(first_host);
        cx.error(d.hint(match example {
            Some(address) => format!("give the segment a `gateway`, as {address}"),
            None => "give the segment a `gateway`".into(),
        }));
    }
    let ra = s.ra.as_ref().and_then(|ra| advertised(ra, gateway, cx));
    let path_mtu = s.path_mtu.as_ref().map(|m| path_mtu(m, mtu, gateway, cx));
    let outside = match &s.outside {
        Some(list) => {
            let sound =
                list.iter().filter_map(|n| prefix(n, cx).filter(|net| reserved::destination(*net, n, cx)));
            sound.collect()
        }
        None => gateway.iter().map(|g| g.family().everything()).collect(),
    };
    Some(Segment {
        subnet,
        gateway,
        mtu,
        port_security: super::flag(&s.port_security),
        outside,
        block: s.block.iter().flatten().map(|f| f.value.0).collect(),
        path_mtu,
        ra,
        mld: super::flag(&s.mld),
    })
}

/// Reads what a gateway advertises; `None`: nothing.
fn advertised(ra: &raw::RouterAdvertisements, gateway: PerFamily<IpAddr>, cx: &mut Cx) -> Option<Advertised> {
    let (at, dns) = match ra {
        raw::RouterAdvertisements::Flag(flag) if !flag.value => return None,
        raw::RouterAdvertisements::Flag(flag) => (flag.at, [].as_slice()),
        raw::RouterAdvertisements::Long(keys) => (keys.at, keys.dns.as_ref().map_or(&[][..], |dns| &dns.0)),
    };
    if !gateway.has(Family::V6) {
        let d = Diagnostic::new(at, "a router is advertised by its own IPv6 address, and there is none");
        cx.error(d.hint("give the segment an IPv6 subnet and a `gateway` in it"));
    }
    if let Some(more) = dns.get(MOST_NAME_SERVERS) {
        let d = Diagnostic::new(more.at, format!("a resolver takes {MOST_NAME_SERVERS} name servers"));
        cx.error(d.hint("leave the others out"));
    }
    let mut servers = Vec::new();
    for server in dns {
        match server.value {
            IpAddr::V6(address) if reserved::end(server.value, server, cx) => servers.push(address),
            IpAddr::V6(_) => {}
            IpAddr::V4(address) => {
                let d = Diagnostic::new(server.at, format!("{address} is IPv4: IPv6 routers advertise none"));
                cx.error(d.hint("an address as fd00:56::53"));
            }
        }
    }
    Some(Advertised { dns: servers })
}

/// Reads the MTU of what is behind a gateway.
fn path_mtu(m: &At<u32>, own: u16, gateway: PerFamily<IpAddr>, cx: &mut Cx) -> u16 {
    let value = mtu(m, cx);
    if gateway.is_empty() {
        let d = Diagnostic::new(m.at, "this is the path behind the segment's gateway, and there is none");
        cx.error(d.hint("give the segment a `gateway`"));
    } else if value > own {
        let d = Diagnostic::new(m.at, format!("a packet of {value} bytes does not get to the gateway"));
        cx.error(d.hint(format!("less than the segment's `mtu` of {own}")));
    } else if gateway.has(Family::V6) {
        room_for_v6(m, cx);
    }
    value
}

/// Reads a subnet of a segment.
fn subnet(net: &At<IpNet>, cx: &mut Cx) -> Option<IpNet> {
    let subnet = prefix(net, cx)?;
    let (shortest, longest) = match subnet.family() {
        Family::V4 => (4, 30),
        Family::V6 => (8, 126),
    };
    if !(shortest..=longest).contains(&subnet.prefix_len()) {
        let message = format!("`{subnet}` cannot be the subnet of a segment");
        let hint = format!("its prefix length must be {shortest} to {longest}");
        cx.error(Diagnostic::new(net.at, message).hint(hint));
        return None;
    }
    reserved::subnet(net, cx).then_some(subnet)
}

/// Reads a list that has at most one value of each address family.
pub(super) fn one_of_each<'v, T: OfFamily + std::fmt::Display>(
    what: &str,
    list: &'v OneOrMany<At<T>>,
    cx: &mut Cx,
) -> Option<Vec<&'v At<T>>> {
    let mut seen: Vec<&At<T>> = Vec::new();
    let mut sound = true;
    for value in &list.0 {
        match seen.iter().find(|first| first.value.family() == value.value.family()) {
            Some(first) => {
                let family = value.value.family();
                let d = Diagnostic::new(value.at, format!("{what} is of {family} twice"));
                cx.error(d.other(first.at, "the first").hint(format!(
                    "one of {}, one of {}: leave one out",
                    Family::V4,
                    Family::V6
                )));
                sound = false;
            }
            None => seen.push(value),
        }
    }
    sound.then_some(seen)
}

/// Notes an MTU that IPv6 does not fit in.
pub(super) fn room_for_v6(m: &At<u32>, cx: &mut Cx) {
    if m.value < u32::from(LEAST_MTU_V6) {
        let d = Diagnostic::new(
            m.at,
            format!("IPv6 needs an MTU of {LEAST_MTU_V6} at least, and this is {}", m.value),
        );
        cx.error(
            d.hint("Linux takes IPv6 off a link with less: give it more, or leave its IPv6 addresses out"),
        );
    }
}

/// Reads the MTU of a segment or a NIC.
pub(super) fn mtu(m: &At<u32>, cx: &mut Cx) -> u16 {
    u16::try_from(m.value).ok().filter(|v| (576..=9000).contains(v)).unwrap_or_else(|| {
        let message = format!("an MTU of {} is out of range", m.value);
        cx.error(Diagnostic::new(m.at, message).hint("576 to 9000 bytes"));
        DEFAULT_MTU
    })
}

/// Reads a prefix; notes bits beyond its length.
pub(super) fn prefix(net: &At<IpNet>, cx: &mut Cx) -> Option<IpNet> {
    if net.value == net.value.trunc() {
        return Some(net.value);
    }
    let message = format!("`{}` has bits set beyond its prefix length", net.value);
    cx.error(Diagnostic::new(net.at, message).hint(format!("did you mean `{}`?", net.value.trunc())));
    None
}

/// Notes an address that no interface on these subnets can have. `what` has them: "segment `lan`".
pub(super) fn inside(
    address: &At<IpAddr>,
    subnets: PerFamily<IpNet>,
    what: &str,
    written: Option<&OneOrMany<At<IpNet>>>,
    cx: &mut Cx,
) -> bool {
    let family = address.value.family();
    let Some(subnet) = subnets.get(family) else {
        let d = Diagnostic::new(
            address.at,
            format!("{} is {family}, and {what} is not: {subnets}", address.value),
        );
        let d = match written.and_then(|w| w.0.first()) {
            Some(first) => d.other(first.at, "the subnet"),
            None => d,
        };
        cx.error(
            d.hint("a segment can have a subnet of each family: `subnet: [192.168.56.0/24, fd00:56::/64]`"),
        );
        return false;
    };
    let of_family = written.and_then(|w| w.0.iter().find(|net| net.value.family() == family));
    within(address, subnet, what, of_family, cx)
}

/// Notes an address that no interface in the subnet can have.
pub(super) fn within(
    address: &At<IpAddr>,
    subnet: IpNet,
    what: &str,
    written: Option<&At<IpNet>>,
    cx: &mut Cx,
) -> bool {
    let a = address.value;
    let small = subnet.prefix_len() + 1 >= subnet.max_prefix_len();
    // IPv6 has no broadcast address.
    let last = subnet.broadcast() == a && a.is_ipv4();
    if subnet.contains(&a) && (small || (a != subnet.network() && !last)) {
        return true;
    }
    let mut d = if subnet.contains(&a) {
        let which = if a == subnet.network() { "network" } else { "broadcast" };
        Diagnostic::new(address.at, format!("{a} is the {which} address of {what} {subnet}"))
    } else {
        Diagnostic::new(address.at, format!("{a} lies outside {what} {subnet}"))
    };
    if let Some(written) = written {
        d = d.other(written.at, "the subnet");
    }
    cx.error(d.hint(range(subnet)));
    false
}

/// The usable addresses of a subnet in words: "it must lie in 192.168.56.1 to 192.168.56.254".
pub(super) fn range(subnet: IpNet) -> String {
    let small = subnet.prefix_len() + 1 >= subnet.max_prefix_len();
    let (first, last) = match (subnet.network(), subnet.broadcast()) {
        ends if small => ends,
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last) = (u32::from(first).saturating_add(1), u32::from(last).saturating_sub(1));
            (IpAddr::V4(first.into()), IpAddr::V4(last.into()))
        }
        (IpAddr::V6(first), last) => (IpAddr::V6(u128::from(first).saturating_add(1).into()), last),
        ends => ends,
    };
    if first == last { format!("it must be {first}") } else { format!("it must lie in {first} to {last}") }
}
