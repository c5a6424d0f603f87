//! Decides whether a saved, running dockerd would have started differently on a configured host.
//!
//! dockerd decides things once, when it starts: the policy of FORWARD (by `ip_forward`), the subnet of docker0 (by the
//! existing routes), its rules (by daemon.json). A saved dockerd started on a host without configuration. It can replace
//! one that starts now only if the topology touches nothing that it looked at.

use ipnet::{IpNet, Ipv4Net};
use labctl_model::{Host, OfFamily};

/// Subnet of docker0 on a host without routes: the first of Docker's address pools (moby, libnetwork/ipamutils).
const DOCKER0: IpNet = IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(172, 17, 0, 0), 16));

/// Why this host's dockerd must start after the host is configured; `None` if a saved one will do.
pub fn reason(host: &Host) -> Option<String> {
    // Any sysctl counts: dockerd reads and sets many, which differ by version.
    if let Some(key) = host.sysctls.keys().next() {
        return Some(format!("the topology sets {key}"));
    }
    if let Some(key) = host.daemon_json.keys().next() {
        return Some(format!("daemon.json sets {key}"));
    }
    let clash = routes(host).find(|route| route.contains(&DOCKER0) || DOCKER0.contains(route))?;
    Some(format!("{clash} overlaps what docker0 takes otherwise, {DOCKER0}"))
}

/// Every route of the host except the default one, which dockerd ignores (moby, libnetwork/netutils,
/// `CheckRouteOverlaps`).
fn routes(host: &Host) -> impl Iterator<Item = IpNet> {
    // The route of a point-to-point NIC leads to its peer.
    let nics = host.nics.iter().flat_map(|n| {
        n.addresses.iter().filter_map(|net| {
            let far = n.peer.get(net.family()).unwrap_or(net.addr());
            IpNet::new(far, net.prefix_len()).ok()
        })
    });
    let interfaces = host.interfaces.iter().filter(|i| !i.deferred).flat_map(|i| i.addresses.iter().copied());
    let further = host.routes.iter().map(|r| r.to);
    nics.chain(interfaces).chain(further).map(|net| net.trunc()).filter(|net| net.prefix_len() > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The reason of a host whose topology has these lines.
    fn of(host: &str) -> Option<String> {
        let text = format!(
            "name: x\nsegments: {{ lan: {{ subnet: 192.168.56.0/24 }}, vpn: {{ subnet: 172.16.0.0/12 }} }}\n\
             hosts: {{ h: {{ lan: 192.168.56.3, {host} }} }}\n"
        );
        reason(&labctl_topology::parse(&text, "x.yaml").unwrap().hosts["h"])
    }

    #[test]
    fn what_dockerd_never_looked_at_is_no_reason() {
        for host in
            ["", "memory: 2048", "engine: bookworm", "routes: [ { to: 172.18.0.0/16, via: 192.168.56.9 } ]"]
        {
            assert_eq!(of(host), None, "{host}");
        }
    }

    #[test]
    fn each_reason_is_told() {
        let cases = [
            ("sysctls: { net.ipv4.ip_forward: 1 }", "net.ipv4.ip_forward"),
            ("daemon_json: { iptables: false }", "iptables"),
            ("vpn: 172.17.0.5", "172.16.0.0/12 overlaps"),
            ("routes: [ { to: 172.17.9.0/24, via: 192.168.56.9 } ]", "172.17.9.0/24 overlaps"),
            ("routes: [ { to: 128.0.0.0/1, via: 192.168.56.9 } ]", "128.0.0.0/1 overlaps"),
        ];
        for (host, words) in cases {
            assert!(of(host).is_some_and(|why| why.contains(words)), "{host}: {:?}", of(host));
        }
    }

    #[test]
    fn an_interface_counts_once_it_is_there_before_dockerd() {
        let host = |deferred| {
            let shim = "type: macvlan, parent: lan, addresses: [172.17.0.9/24]";
            format!("interfaces: {{ shim: {{ {shim}, deferred: {deferred} }} }}")
        };
        assert!(of(&host(false)).is_some_and(|why| why.contains("172.17.0.0/24 overlaps")));
        assert_eq!(of(&host(true)), None);
    }
}
