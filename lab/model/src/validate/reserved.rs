//! Reserved addresses, which no interface can have (RFC 6890).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use labctl_yaml::{At, Cx, Diagnostic};

struct Range {
    net: Ipv4Net,
    what: &'static str,
}

const fn range(first: u8, prefix_len: u8, what: &'static str) -> Range {
    Range { net: Ipv4Net::new_assert(Ipv4Addr::new(first, 0, 0, 0), prefix_len), what }
}

const THIS: Range = range(0, 8, "is for hosts that have no address yet");
const LOOPBACK: Range = range(127, 8, "is every host's own loopback");
const GROUPS: Range = range(224, 4, "is for groups (multicast)");
const FUTURE: Range = range(240, 4, "is reserved, and its last address means everybody");

/// Notes an address that no interface can have. `true`: the address is fine.
pub(super) fn interface(address: Ipv4Addr, at: &At<impl Sized>, cx: &mut Cx) -> bool {
    let found = [THIS, LOOPBACK, GROUPS, FUTURE].into_iter().find(|r| r.net.contains(&address));
    told(&address.to_string(), found, at, cx)
}

/// Notes an address that nothing can be sent to or come from; a host's own loopback is fine.
pub(super) fn end(address: Ipv4Addr, at: &At<impl Sized>, cx: &mut Cx) -> bool {
    LOOPBACK.net.contains(&address) || interface(address, at, cx)
}

/// Notes an address that nobody can listen on; all of a host's addresses (0.0.0.0) are fine.
pub(super) fn listener(address: Ipv4Addr, at: &At<impl Sized>, cx: &mut Cx) -> bool {
    address.is_unspecified() || end(address, at, cx)
}

/// Notes a subnet that overlaps reserved addresses.
pub(super) fn subnet(net: &At<Ipv4Net>, cx: &mut Cx) -> bool {
    let overlap = |r: &Range| r.net.contains(&net.value) || net.value.contains(&r.net);
    told(&net.value.to_string(), [THIS, LOOPBACK, GROUPS, FUTURE].into_iter().find(overlap), net, cx)
}

/// Notes a destination that no route can have. Multicast groups can have routes.
pub(super) fn destination(net: Ipv4Net, at: &At<impl Sized>, cx: &mut Cx) -> bool {
    told(&net.to_string(), [THIS, LOOPBACK, FUTURE].into_iter().find(|r| r.net.contains(&net)), at, cx)
}

fn told(written: &str, found: Option<Range>, at: &At<impl Sized>, cx: &mut Cx) -> bool {
    let Some(Range { net, what }) = found else { return true };
    let d = Diagnostic::new(at.at, format!("{written} belongs to no interface: {net} {what}"));
    cx.error(d.hint("as in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"));
    false
}
