//! Reserved addresses, which no interface can have (RFC 6890).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use labctl_model::family::{Family, OfFamily, is_link_local};
use labctl_yaml::{At, Cx, Diagnostic};

struct Range {
    net: IpNet,
    what: &'static str,
}

const fn range(first: u8, prefix_len: u8, what: &'static str) -> Range {
    Range { net: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(first, 0, 0, 0), prefix_len)), what }
}

const fn range_v6(first: u16, last: u16, prefix_len: u8, what: &'static str) -> Range {
    let address = Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last);
    Range { net: IpNet::V6(Ipv6Net::new_assert(address, prefix_len)), what }
}

const THIS: Range = range(0, 8, "is for hosts that have no address yet");
const LOOPBACK: Range = range(127, 8, "is every host's own loopback");
const GROUPS: Range = range(224, 4, "is for groups (multicast)");
const FUTURE: Range = range(240, 4, "is reserved, and its last address means everybody");

const THIS_V6: Range = range_v6(0, 0, 128, "is for hosts that have no address yet");
const LOOPBACK_V6: Range = range_v6(0, 1, 128, "is every host's own loopback");
const GROUPS_V6: Range = range_v6(0xff00, 0, 8, "is for groups (multicast)");
const LINK: Range =
    range_v6(0xfe80, 0, 10, "is of one link alone, and the kernel gives each interface its own");

/// Notes an address that no interface can have. `true`: the address is fine.
pub(super) fn interface(address: IpAddr, at: &At<impl Sized>, cx: &mut Cx) -> bool {
    let all = [THIS, LOOPBACK, GROUPS, FUTURE, THIS_V6, LOOPBACK_V6, GROUPS_V6, LINK];
    let found = all.into_iter().find(|r| r.net.contains(&address));
    told(&address.to_string(), found, at, cx)
}

/// Notes an address that nothing can be sent to or come from; a host's own loopback is fine.
pub(super) fn end(address: IpAddr, at: &At<impl Sized>, cx: &mut Cx) -> bool {
    if is_link_local(address) {
        let d =
            Diagnostic::new(at.at, format!("{address} is of one link alone, and this does not say which"));
        cx.error(
            d.hint("probe a global or unique local address (fd00::/8); link-local ones are beside them"),
        );
        return false;
    }
    address.is_loopback() || interface(address, at, cx)
}

/// Notes an address that cannot be a next hop. One of a link alone needs the link.
pub(super) fn next_hop(address: IpAddr, has_dev: bool, at: &At<impl Sized>, cx: &mut Cx) -> bool {
    if !is_link_local(address) {
        return interface(address, at, cx);
    }
    if !has_dev {
        let d =
            Diagnostic::new(at.at, format!("{address} is of one link alone, and this does not say which"));
        cx.error(d.hint("give the route its `dev`: an interface, or a segment for the NIC on it"));
    }
    has_dev
}

/// Notes an address that nobody can listen on; all of a host's addresses (0.0.0.0, `::`) are fine.
pub(super) fn listener(address: IpAddr, at: &At<impl Sized>, cx: &mut Cx) -> bool {
    address.is_unspecified() || end(address, at, cx)
}

/// Notes a subnet that overlaps reserved addresses.
pub(super) fn subnet(net: &At<IpNet>, cx: &mut Cx) -> bool {
    let overlap = |r: &Range| r.net.contains(&net.value) || net.value.contains(&r.net);
    let all = [THIS, LOOPBACK, GROUPS, FUTURE, THIS_V6, LOOPBACK_V6, GROUPS_V6, LINK];
    told(&net.value.to_string(), all.into_iter().find(overlap), net, cx)
}

/// Notes a destination that no route can have. Multicast groups can have routes.
pub(super) fn destination(net: IpNet, at: &At<impl Sized>, cx: &mut Cx) -> bool {
    if net.prefix_len() == 0 {
        return true;
    }
    let all = [THIS, LOOPBACK, FUTURE, THIS_V6, LOOPBACK_V6, LINK];
    told(&net.to_string(), all.into_iter().find(|r| r.net.contains(&net)), at, cx)
}

fn told(written: &str, found: Option<Range>, at: &At<impl Sized>, cx: &mut Cx) -> bool {
    let Some(Range { net, what }) = found else { return true };
    let d = Diagnostic::new(at.at, format!("{written} belongs to no interface: {net} {what}"));
    cx.error(d.hint(match net.family() {
        Family::V4 => "as in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16",
        Family::V6 => "as in fd00::/8, or 2001:db8::/32 of documentation",
    }));
    false
}
