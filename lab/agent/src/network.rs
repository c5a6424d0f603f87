//! Interfaces, addresses and routes of a host.

use std::{io, net::IpAddr};

use ipnet::IpNet;
use labctl_model::{Interface, InterfaceKind, Route, is_link_local};
use netlink_packet_route::{
    address::AddressAttribute,
    link::{InfoKind, IpVlanMode, MacVlanMode},
    route::{RouteMessage, RouteProtocol, RouteScope},
};
use nix::errno::Errno;
use rtnetlink::{LinkBridge, LinkIpVlan, LinkMacVlan, LinkUnspec, LinkVlan};

use crate::{
    netlink::{Link, Netlink, NetlinkError, route_to},
    netns::Namespace,
};

/// Adds (`ip route replace`) or removes (`ip route del`) a route of a namespace. One that is already gone is no error.
pub async fn route(namespace: &Namespace, add: bool, route: &Route) -> Result<(), NetlinkError> {
    let netlink = Netlink::open(namespace).await?;
    match add {
        true => add_route(&netlink, route).await,
        false => remove_route(&netlink, route).await,
    }
}

/// Makes or removes an interface of a namespace. An equal one that exists stays; one that is already gone is no error.
pub async fn interface(namespace: &Namespace, add: bool, interface: &Interface) -> Result<(), NetlinkError> {
    let netlink = Netlink::open(namespace).await?;
    match add {
        true => make_interface(&netlink, interface).await,
        false => remove_interface(&netlink, &interface.name).await,
    }
}

fn described(route: &Route) -> String {
    let via = route.via.map(|via| format!(" via {via}")).unwrap_or_default();
    let dev = route.dev.as_ref().map(|dev| format!(" dev {dev}")).unwrap_or_default();
    let metric = route.metric.map(|metric| format!(" metric {metric}")).unwrap_or_default();
    format!("{}{via}{dev}{metric}", route.to)
}

async fn message(netlink: &Netlink, route: &Route) -> Result<RouteMessage, NetlinkError> {
    let mut builder = route_to(route.to);
    if let Some(dev) = &route.dev {
        builder = builder.output_interface(netlink.index(dev).await?);
    }
    if let Some(metric) = route.metric {
        builder = builder.priority(metric);
    }
    builder = match route.via {
        Some(via) => {
            let mixed = |e| io::Error::other(format!("the route {}: {e}", described(route)));
            builder.gateway(via).map_err(mixed)?
        }
        // IPv6 knows no such scope.
        None if route.to.addr().is_ipv6() => builder,
        None => builder.scope(RouteScope::Link),
    };
    Ok(builder.build())
}

/// Adds a route, as `ip route replace`.
pub async fn add_route(netlink: &Netlink, route: &Route) -> Result<(), NetlinkError> {
    let request = netlink.0.route().add(message(netlink, route).await?).replace();
    request.execute().await.map_err(NetlinkError::of(format!("add the route {}", described(route))))
}

/// Adds a route, as `ip route add`: one that is there is an error.
pub async fn add_new_route(netlink: &Netlink, route: &Route) -> Result<(), NetlinkError> {
    let request = netlink.0.route().add(message(netlink, route).await?);
    request.execute().await.map_err(NetlinkError::of(format!("add the route {}", described(route))))
}

/// Removes a route, as `ip route del`; a route or interface that is gone is no error.
pub async fn remove_route(netlink: &Netlink, route: &Route) -> Result<(), NetlinkError> {
    let mut message = match message(netlink, route).await {
        Err(NetlinkError::NoInterface(_)) => return Ok(()),
        other => other?,
    };
    // As ip(8) does: matches any scope and any protocol.
    message.header.scope = RouteScope::NoWhere;
    message.header.protocol = RouteProtocol::Unspec;
    let removed = netlink.0.route().del(message).execute().await;
    match removed.map_err(NetlinkError::of(format!("remove the route {}", described(route)))) {
        Err(error) if error.errno() == Some(Errno::ESRCH) => Ok(()),
        other => other,
    }
}

/// Makes an interface, gives it its addresses and sets it up.
pub async fn make_interface(netlink: &Netlink, wanted: &Interface) -> Result<(), NetlinkError> {
    let parent = netlink.index(wanted.parent()).await?;
    let is_bridge = wanted.kind == InterfaceKind::Bridge;
    let link = match netlink.link(&wanted.name).await? {
        Some(link) if (is_bridge || link.parent == Some(parent)) && link.kind == Some(kind(wanted.kind)) => {
            link
        }
        other => {
            if other.is_some() {
                remove_interface(netlink, &wanted.name).await?;
            }
            let name = wanted.name.as_str();
            let message = match wanted.kind {
                InterfaceKind::Macvlan => LinkMacVlan::new(name, parent, MacVlanMode::Bridge).build(),
                InterfaceKind::Ipvlan => LinkIpVlan::new(name, parent, IpVlanMode::L2).build(),
                InterfaceKind::Vlan(id) => LinkVlan::new(name, parent, id).build(),
                InterfaceKind::Bridge => LinkBridge::new(name).build(),
            };
            let what = format!("make the interface {name} on {}", wanted.on.join(", "));
            netlink.0.link().add(message).execute().await.map_err(NetlinkError::of(what))?;
            let made = netlink.link(name).await?;
            made.ok_or_else(|| NetlinkError::NoInterface(name.to_owned()))?
        }
    };
    for port in wanted.on.iter().filter(|_| is_bridge) {
        let message = LinkUnspec::new_with_index(netlink.index(port).await?).controller(link.index).build();
        let what = format!("make {port} a port of {}", wanted.name);
        netlink.0.link().set(message).execute().await.map_err(NetlinkError::of(what))?;
    }
    let addresses: Vec<_> = wanted.addresses.iter().map(|&a| (a, None)).collect();
    set_addresses(netlink, &link, &addresses).await?;
    set_up(netlink, &link).await
}

fn kind(kind: InterfaceKind) -> InfoKind {
    match kind {
        InterfaceKind::Macvlan => InfoKind::MacVlan,
        InterfaceKind::Ipvlan => InfoKind::IpVlan,
        InterfaceKind::Vlan(_) => InfoKind::Vlan,
        InterfaceKind::Bridge => InfoKind::Bridge,
    }
}

/// Removes an interface; one that is gone is no error.
pub async fn remove_interface(netlink: &Netlink, name: &str) -> Result<(), NetlinkError> {
    let Some(link) = netlink.link(name).await? else { return Ok(()) };
    let removed = netlink.0.link().del(link.index).execute().await;
    match removed.map_err(NetlinkError::of(format!("remove the interface {name}"))) {
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(()),
        other => other,
    }
}

/// Sets an interface up.
pub async fn set_up(netlink: &Netlink, link: &Link) -> Result<(), NetlinkError> {
    let message = LinkUnspec::new_with_index(link.index).up().build();
    let what = format!("set {} up", link.name);
    netlink.0.link().set(message).execute().await.map_err(NetlinkError::of(what))
}

/// Sets an interface down.
pub async fn set_down(netlink: &Netlink, link: &Link) -> Result<(), NetlinkError> {
    let message = LinkUnspec::new_with_index(link.index).down().build();
    let what = format!("set {} down", link.name);
    netlink.0.link().set(message).execute().await.map_err(NetlinkError::of(what))
}

/// Makes these the only addresses of an interface, beside the link-local ones that the kernel gives it; each has a prefix
/// and, on a point-to-point link, a peer.
pub async fn set_addresses(
    netlink: &Netlink,
    link: &Link,
    wanted: &[(IpNet, Option<IpAddr>)],
) -> Result<(), NetlinkError> {
    let present = netlink
        .addresses()
        .await?
        .into_iter()
        .filter(|a| a.index == link.index && !is_link_local(a.address.addr()));
    let (keep, drop): (Vec<_>, Vec<_>) = present.partition(|a| wanted.contains(&(a.address, a.peer)));
    for old in drop {
        let what = format!("remove {} from {}", old.address, link.name);
        let removed = netlink.0.address().del(old.message).execute().await.map_err(NetlinkError::of(what));
        match removed {
            // Removing the first address of a subnet removes its others too.
            Err(error) if error.errno() == Some(Errno::EADDRNOTAVAIL) => {}
            other => other?,
        }
    }
    for &(address, peer) in
        wanted.iter().filter(|(a, p)| !keep.iter().any(|k| (k.address, k.peer) == (*a, *p)))
    {
        let mut request = netlink.0.address().add(link.index, address.addr(), address.prefix_len()).replace();
        if let Some(peer) = peer {
            // A point-to-point link has no broadcast address, and IFA_ADDRESS is the far end's.
            let attributes = &mut request.message_mut().attributes;
            attributes.retain(|a| matches!(a, AddressAttribute::Local(_)));
            attributes.push(AddressAttribute::Address(peer));
        }
        let what = format!("give {} the address {address}", link.name);
        request.execute().await.map_err(NetlinkError::of(what))?;
    }
    Ok(())
}

/// Renames an interface and leaves it down, as renaming requires.
pub async fn rename(netlink: &Netlink, link: &Link, name: &str) -> Result<(), NetlinkError> {
    let what = format!("rename {} to {name}", link.name);
    set_down(netlink, link).await?;
    let named = LinkUnspec::new_with_index(link.index).name(name).build();
    netlink.0.link().set(named).execute().await.map_err(NetlinkError::of(what))
}

/// Gives an interface another MAC, and leaves it down: with the link, IPv6's link-local address of the old MAC goes.
pub async fn set_mac(netlink: &Netlink, link: &Link, mac: [u8; 6]) -> Result<(), NetlinkError> {
    let what = format!("give {} its MAC", link.name);
    let down = LinkUnspec::new_with_index(link.index).down().build();
    netlink.0.link().set(down).execute().await.map_err(NetlinkError::of(what.clone()))?;
    let message = LinkUnspec::new_with_index(link.index).address(mac.to_vec()).build();
    netlink.0.link().set(message).execute().await.map_err(NetlinkError::of(what))
}

/// Sets the MTU of an interface in bytes.
pub async fn set_mtu(netlink: &Netlink, link: &Link, mtu: u16) -> Result<(), NetlinkError> {
    if link.mtu == u32::from(mtu) {
        return Ok(());
    }
    let message = LinkUnspec::new_with_index(link.index).mtu(mtu.into()).build();
    let what = format!("give {} an MTU of {mtu}", link.name);
    netlink.0.link().set(message).execute().await.map_err(NetlinkError::of(what))
}

/// Sets kernel parameters of a namespace, as sysctl(8) does: `net.ipv4.ip_forward`, or with slashes if a name contains
/// dots.
pub async fn set_sysctls(
    namespace: &Namespace,
    sysctls: impl IntoIterator<Item = (String, String)>,
) -> io::Result<()> {
    let settings: Vec<_> = sysctls.into_iter().collect();
    namespace
        .run(move || {
            for (key, value) in settings {
                let path = sysctl_path(&key)
                    .ok_or_else(|| io::Error::other(format!("{key}: no name of a sysctl")))?;
                std::fs::write(&path, value).map_err(|e| io::Error::new(e.kind(), format!("{key}: {e}")))?;
            }
            Ok(())
        })
        .await
}

/// A kernel parameter of a namespace.
pub async fn sysctl(namespace: &Namespace, key: &str) -> io::Result<String> {
    let path = sysctl_path(key).ok_or_else(|| io::Error::other("no name of a sysctl"))?;
    namespace.run(move || Ok(std::fs::read_to_string(path)?.trim_end().to_owned())).await
}

fn sysctl_path(key: &str) -> Option<String> {
    let slashes = match key.find(['.', '/']) {
        // sysctl(8): where the first separator is a slash, dots are literal.
        Some(at) if key[at..].starts_with('/') => key.to_owned(),
        _ => key.replace('.', "/"),
    };
    let safe = slashes.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    safe.then(|| format!("/proc/sys/{slashes}"))
}

#[cfg(test)]
mod tests {
    use super::sysctl_path;

    #[test]
    fn names_of_sysctls_become_paths() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward").as_deref(), Some("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(
            sysctl_path("net/ipv4/conf/eth0.10/forwarding").as_deref(),
            Some("/proc/sys/net/ipv4/conf/eth0.10/forwarding")
        );
        for bad in ["", "..", "a/../b", "/etc/passwd", "a..b"] {
            assert_eq!(sysctl_path(bad), None, "{bad}");
        }
    }
}
