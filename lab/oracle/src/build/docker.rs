//! What dockerd makes of its networks on a host: bridges, sub-interfaces, rules, proxies.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use labctl_dataplane::{
    net::{Address, At, IpvlanFlag, IpvlanMode, Link, MacvlanMode, ProxyAt},
    netfilter::docker::{BridgeRules, GatewayMode, HostRules, MeshRules, PortRule},
    packet::{Mac, Proto},
};
use labctl_model::{Attach, Driver, Family, Network, OfFamily, Protocol, PublishMode, engine::Engine};
use serde_json::Value;

use super::{Built, docker_mac};
use crate::{
    addressing::Pool,
    state::{BRIDGE, GWBRIDGE, State},
};

const NAME: &str = "com.docker.network.bridge.name";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
/// The option with the gateway mode of a bridge, of IPv4 and IPv6.
const GATEWAY_MODE: [&str; 2] =
    ["com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6"];
/// The option with the MTU of a bridge, or of an overlay's path.
pub const MTU: &str = "com.docker.network.driver.mtu";
/// Options that the oracle knows.
const KNOWN: [&str; 11] = [
    NAME,
    ICC,
    MASQUERADE,
    BINDING,
    GATEWAY_MODE[0],
    GATEWAY_MODE[1],
    MTU,
    "macvlan_mode",
    "ipvlan_mode",
    "ipvlan_flag",
    "encrypted",
];

/// The interface of a bridge. Docker takes the network's id unless a name is given; here its name stands for the id.
pub(super) fn bridge_name(state: &State<'_>, key: &str) -> String {
    match state.lab.networks.get(key) {
        Some(n) => n.options.get(NAME).cloned().unwrap_or_else(|| format!("br-{}", n.docker_name)),
        None if key == BRIDGE => "docker0".to_owned(),
        None => key.to_owned(),
    }
}

/// The transport of a published port.
pub(super) fn proto(protocol: Protocol) -> Proto {
    match protocol {
        Protocol::Tcp => Proto::Tcp,
        Protocol::Udp => Proto::Udp,
    }
}

/// The first option of a network that the oracle does not know.
pub(super) fn unmodelled_options(network: &Network) -> Option<String> {
    let odd = network.options.keys().find(|k| !KNOWN.contains(&k.as_str()));
    odd.map(|k| format!("what the option `{k}` of network {} changes", network.docker_name))
}

/// The interface of a macvlan or ipvlan network in a container, and its MAC.
pub(super) fn sub_interface(
    engine: &Engine,
    network: &Network,
    (parent, parent_mac): (At, Mac),
    given: Option<Mac>,
    ip: IpAddr,
) -> (Link, Mac) {
    let option = |key: &str| network.options.get(key).map(String::as_str).unwrap_or_default();
    if matches!(network.driver, Driver::Macvlan { .. }) {
        let mode = match option("macvlan_mode") {
            "private" => MacvlanMode::Private,
            "vepa" => MacvlanMode::Vepa,
            "passthru" => MacvlanMode::Passthru,
            _ => MacvlanMode::Bridge,
        };
        let mac = if mode == MacvlanMode::Passthru { parent_mac } else { given.unwrap_or(docker_mac(ip)) };
        return (Link::Macvlan(parent, mode), mac);
    }
    let mode = match option("ipvlan_mode") {
        "l3" | "l3s" => IpvlanMode::L3,
        _ => IpvlanMode::L2,
    };
    // Docker before 23 takes no notice of flags.
    let flag = match option("ipvlan_flag") {
        _ if !engine.is_at_least(23) => IpvlanFlag::Bridge,
        "private" => IpvlanFlag::Private,
        "vepa" => IpvlanFlag::Vepa,
        _ => IpvlanFlag::Bridge,
    };
    // All of them have the parent's.
    (Link::Ipvlan(parent, mode, flag), parent_mac)
}

/// How others get at the containers of a bridge. Docker before 27 does not know the option.
fn gateway_mode(state: &State<'_>, host: &str, key: &str, family: Family) -> GatewayMode {
    let knows = state.lab.hosts.get(host).is_some_and(|h| h.engine.is_at_least(27));
    let name = GATEWAY_MODE[usize::from(family == Family::V6)];
    let option = state.lab.networks.get(key).and_then(|n| n.options.get(name)).filter(|_| knows);
    match option.map(String::as_str) {
        Some("routed") => GatewayMode::Routed,
        Some("nat-unprotected") => GatewayMode::NatUnprotected,
        Some("isolated") => GatewayMode::Isolated,
        _ => GatewayMode::Nat,
    }
}

/// Whether dockerd sets rules for IPv6: by itself from Docker 27 on, before that as an experiment.
fn has_ip6tables(state: &State<'_>, host: &str) -> bool {
    let (Some(now), Some(described)) = (state.hosts.get(host), state.lab.hosts.get(host)) else {
        return false;
    };
    let set = |key: &str| now.daemon_json.get(key).and_then(Value::as_bool);
    match described.engine.is_at_least(27) {
        true => set("ip6tables") != Some(false),
        false => set("ip6tables") == Some(true) && set("experimental") == Some(true),
    }
}

/// The addresses that containers, tasks and the mesh have on a bridge of a host.
fn endpoints(state: &State<'_>, host: &str, key: &str) -> Vec<IpAddr> {
    let gwbridge = key == state.gwbridge();
    let containers = state.lab.containers_on(host).filter(|(name, _)| state.is_running(name));
    let of_containers = containers.filter_map(|(name, _)| state.containers.get(name)).flat_map(|c| {
        let on_it = c.networks.get(key).into_iter().flat_map(|a| a.ips());
        on_it.chain(c.gwbridge.filter(|_| gwbridge))
    });
    let tasks = state.tasks().filter(|t| t.host == host).filter_map(|t| t.gwbridge.as_ref());
    let of_tasks = tasks.filter(|(on, _)| on == key).map(|(_, ip)| *ip);
    let sandbox = state.nodes.get(host).and_then(|n| n.sandbox).filter(|_| gwbridge);
    of_containers.chain(of_tasks).chain(sandbox).collect()
}

impl Built {
    /// The bridges of a host, each with its gateway's address.
    pub(super) fn bridges(&mut self, state: &State<'_>, host: &str) {
        let (Some(now), Some(ns)) = (state.hosts.get(host), self.spaces.get(host).copied()) else { return };
        for (key, pools) in &now.networks {
            let network = state.lab.networks.get(key);
            if network.is_some_and(|n| n.driver != Driver::Bridge) {
                continue;
            }
            let mut bridge = self.interface(bridge_name(state, key), Link::Bridge);
            let has_one =
                |p: &&Pool| gateway_mode(state, host, key, p.subnet.family()) != GatewayMode::Isolated;
            let addresses = pools.iter().filter(has_one);
            bridge.addresses =
                addresses.map(|p| Address { ip: p.gateway, prefix_len: p.subnet.prefix_len() }).collect();
            if pools.iter().any(|p| p.subnet.family() == Family::V6) {
                self.net.spaces[ns].forwards_v6 |=
                    now.daemon_json.get("ip-forward") != Some(&Value::Bool(false));
            }
            let icc_off = network.is_some_and(|n| n.options.get(ICC).is_some_and(|v| v == "false"))
                || key == BRIDGE && now.daemon_json.get("icc") == Some(&Value::Bool(false));
            let linked = state.lab.containers_on(host).any(|(_, c)| !c.links.is_empty());
            let links =
                (icc_off && linked).then(|| "the ports that a link opens where icc is off".to_owned());
            bridge.unknown = network.and_then(unmodelled_options).or(links);
            let given = network.and_then(|n| n.options.get(MTU)?.parse().ok());
            let daemon = now.daemon_json.get("mtu").and_then(Value::as_u64).filter(|_| key == BRIDGE);
            if let Some(mtu) = given.or(daemon.and_then(|m| u32::try_from(m).ok())) {
                bridge.mtu = mtu;
            }
            self.net.plug(ns, bridge);
        }
    }

    /// The rules and proxies of a host.
    pub(super) fn rules(&mut self, state: &State<'_>, host: &str) {
        let (Some(now), Some(described)) = (state.hosts.get(host), state.lab.hosts.get(host)) else { return };
        let Some(ns) = self.spaces.get(host).copied() else { return };
        let is = |key: &str, wanted: bool| now.daemon_json.get(key) == Some(&Value::Bool(wanted));
        let meshed = state.services.values().flat_map(|s| &s.spec.ports);
        let meshed = meshed.filter(|p| p.mode == PublishMode::Ingress);
        let meshed: BTreeSet<_> = meshed.filter_map(|p| Some((proto(p.protocol), p.published?))).collect();
        for family in Family::ALL {
            let mut rules = host_rules(state, host, family);
            if let Some(sandbox) =
                state.nodes.get(host).and_then(|n| n.sandbox).filter(|_| family == Family::V4)
            {
                let interface = bridge_name(state, state.gwbridge());
                rules.mesh = Some(MeshRules { interface, sandbox, ports: meshed.iter().copied().collect() });
            }
            let space = &mut self.net.spaces[ns];
            let ruled = match family {
                Family::V4 => !is("iptables", false),
                Family::V6 => has_ip6tables(state, host),
            };
            if now.docker && (rules.proxy || !ruled) {
                // Without docker-proxy, nothing leads away from the socket by which dockerd keeps a port.
                let to = |p: &PortRule| rules.proxy.then_some(p.to);
                let at = |p: &PortRule| {
                    Some(ProxyAt {
                        ip: p.host_ip,
                        family,
                        proto: p.proto,
                        port: p.published?,
                        to: to(p),
                        answers_as_asked: rules.is_28,
                    })
                };
                let served = rules.ports.iter().filter(|p| rules.proxy || p.to.ip().family() == family);
                space.proxies.extend(served.filter_map(at));
            }
            match family {
                Family::V4 if ruled => space.firewall = rules.firewall(),
                Family::V6 if ruled => space.firewall_v6 = rules.firewall(),
                _ => {}
            }
        }
        self.own_ports(state, host, &meshed);
        // moby#45637.
        let port = state.lab.swarm.as_ref().and_then(|s| s.data_path_port);
        if !described.engine.is_at_least(23) && port.is_some_and(|p| p != 4789) {
            for at in self.net.tunnels.clone() {
                let i = &mut self.net.spaces[at.ns].interfaces[at.iface];
                if matches!(&i.link, Link::Vxlan(v) if v.encrypted && v.outer == ns) {
                    i.link = Link::Dummy;
                }
            }
        }
    }
}

/// What dockerd's rules of a family hang on, the mesh left out.
fn host_rules(state: &State<'_>, host: &str, family: Family) -> HostRules {
    let mut rules = HostRules {
        family,
        bridges: Vec::new(),
        ports: Vec::new(),
        mesh: None,
        proxy: true,
        forward_drops: false,
        is_28: false,
        internal_meets: false,
    };
    let (Some(now), Some(described)) = (state.hosts.get(host), state.lab.hosts.get(host)) else {
        return rules;
    };
    let is = |key: &str, wanted: bool| now.daemon_json.get(key) == Some(&Value::Bool(wanted));
    rules.proxy = !is("userland-proxy", false);
    rules.is_28 = described.engine.is_at_least(28);
    rules.internal_meets = family == Family::V6 && described.engine.is_at_least(24);
    // Docker sets the policy where it turns forwarding on itself.
    let forwarded = described.sysctls.get("net.ipv4.ip_forward").is_some_and(|v| v == "1");
    rules.forward_drops = !forwarded && !is("ip-forward", false);
    for (key, pools) in &now.networks {
        let network = state.lab.networks.get(key);
        let subnets: Vec<_> = pools.iter().map(|p| p.subnet).filter(|s| s.family() == family).collect();
        if network.is_some_and(|n| n.driver != Driver::Bridge) || subnets.is_empty() {
            continue;
        }
        let option =
            |key: &str| network.and_then(|n| n.options.get(key)).is_none_or(|v| v != "false" && v != "0");
        let default = key == BRIDGE;
        let mut endpoints = endpoints(state, host, key);
        endpoints.retain(|ip| ip.family() == family);
        rules.bridges.push(BridgeRules {
            interface: bridge_name(state, key),
            subnets,
            internal: network.is_some_and(|n| n.internal),
            // Docker makes its own docker_gwbridge without.
            icc: option(ICC) && !(default && is("icc", false)) && !(network.is_none() && key == GWBRIDGE),
            masquerade: option(MASQUERADE) && !(default && is("ip-masq", false)),
            mode: gateway_mode(state, host, key, family),
            endpoints,
        });
    }
    rules.ports = ports(state, host, family);
    rules
}

/// The published ports of a family, each by the network that its container has its way out by, if that is a bridge.
fn ports(state: &State<'_>, host: &str, family: Family) -> Vec<PortRule> {
    let mut all = Vec::new();
    for (name, c) in state.lab.containers_on(host) {
        let bridged = matches!(c.attach, Attach::DefaultBridge { .. } | Attach::Networks(_));
        if !state.is_running(name) || !bridged {
            continue;
        }
        // Without an address of its own there it is reached by docker-proxy.
        let by = state.way_out(name, family).or_else(|| state.way_out(name, Family::V4));
        // An internal network publishes nothing (moby libnetwork/endpoint.go, `sbJoin`).
        let Some((key, ip)) = by.filter(|(key, _)| state.has_way_out(key)) else { continue };
        let network = state.lab.networks.get(key);
        if network.is_some_and(|n| n.driver != Driver::Bridge) {
            continue;
        }
        let routed = gateway_mode(state, host, key, family) == GatewayMode::Routed;
        let binding = network.and_then(|n| n.options.get(BINDING)?.parse::<IpAddr>().ok());
        for p in &c.ports {
            let Some(published) = p.published else { continue };
            let host_ip = p.host_ip.or(binding);
            if host_ip.is_some_and(|ip| ip.family() != family) {
                continue;
            }
            let to = SocketAddr::new(ip, p.target);
            let host_ip = host_ip.filter(|ip| !ip.is_unspecified());
            let (interface, published) = (bridge_name(state, key), (!routed).then_some(published));
            all.push(PortRule { interface, host_ip, proto: proto(p.protocol), published, to });
        }
    }
    for task in state.tasks().filter(|t| t.host == host) {
        let Some(service) = state.services.get(&task.service) else { continue };
        let Some((key, ip)) = &task.gwbridge else { continue };
        for p in service.spec.ports.iter().filter(|p| p.mode == PublishMode::Host) {
            let (interface, to) = (bridge_name(state, key), SocketAddr::new(*ip, p.target));
            let rule =
                PortRule { interface, host_ip: None, proto: proto(p.protocol), published: p.published, to };
            all.extend(p.published.map(|_| rule));
        }
    }
    all
}
