//! Segments.

use std::net::Ipv4Addr;

use indexmap::IndexMap;
use ipnet::Ipv4Net;
use labctl_yaml::{At, Cx, Diagnostic};

use super::{entries, reserved};
use crate::{lab::Segment, raw};

const DEFAULT_MTU: u16 = 1500;

pub(super) fn read(t: &raw::Topology, cx: &mut Cx) -> IndexMap<String, Segment> {
    entries(&t.segments).filter_map(|(name, s)| Some((name.value.clone(), segment(s, cx)?))).collect()
}

fn segment(s: &raw::Segment, cx: &mut Cx) -> Option<Segment> {
    let subnet = prefix(&s.subnet, cx)?;
    if subnet.prefix_len() > 30 || subnet.prefix_len() < 4 {
        let message = format!("`{subnet}` cannot be the subnet of a segment");
        cx.error(Diagnostic::new(s.subnet.at, message).hint("its prefix length must be 4 to 30"));
        return None;
    }
    if !reserved::subnet(&s.subnet, cx) {
        return None;
    }
    if let Some(gateway) = &s.gateway {
        inside(gateway, subnet, "the segment's subnet", Some(&s.subnet), cx);
    }
    let mtu = s.mtu.as_ref().map_or(DEFAULT_MTU, |m| mtu(m, cx));
    if let (Some(outside), None) = (&s.outside, &s.gateway)
        && let Some(first) = outside.first()
    {
        let d = Diagnostic::new(first.at, "`outside` lies behind the segment's gateway, and there is none");
        cx.error(d.hint(format!(
            "give the segment a `gateway`, as {}",
            subnet.hosts().next().unwrap_or(subnet.addr())
        )));
    }
    let outside = match &s.outside {
        Some(list) => list
            .iter()
            .filter_map(|n| prefix(n, cx).filter(|net| reserved::destination(*net, n, cx)))
            .collect(),
        None if s.gateway.is_some() => vec![Ipv4Net::default()],
        None => Vec::new(),
    };
    Some(Segment {
        subnet,
        gateway: s.gateway.as_ref().map(|g| g.value),
        mtu,
        port_security: super::flag(&s.port_security),
        outside,
        block: s.block.iter().flatten().map(|f| f.value).collect(),
    })
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
pub(super) fn prefix(net: &At<Ipv4Net>, cx: &mut Cx) -> Option<Ipv4Net> {
    if net.value == net.value.trunc() {
        return Some(net.value);
    }
    let message = format!("`{}` has bits set beyond its prefix length", net.value);
    cx.error(Diagnostic::new(net.at, message).hint(format!("did you mean `{}`?", net.value.trunc())));
    None
}

/// Notes an address that no interface in the subnet can have.
pub(super) fn inside(
    address: &At<Ipv4Addr>,
    subnet: Ipv4Net,
    what: &str,
    written: Option<&At<Ipv4Net>>,
    cx: &mut Cx,
) -> bool {
    let a = address.value;
    let small = subnet.prefix_len() >= 31;
    if subnet.contains(&a) && (small || (a != subnet.network() && a != subnet.broadcast())) {
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

/// The usable addresses of a subnet in words: "it must be 192.168.56.1 to 192.168.56.254".
pub(super) fn range(subnet: Ipv4Net) -> String {
    let (first, last) = if subnet.prefix_len() >= 31 {
        (subnet.network(), subnet.broadcast())
    } else {
        let next = u32::from(subnet.network()).saturating_add(1);
        (next.into(), Ipv4Addr::from(u32::from(subnet.broadcast()).saturating_sub(1)))
    };
    if first == last { format!("it must be {first}") } else { format!("it must lie in {first} to {last}") }
}
