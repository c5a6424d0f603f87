//! What a name resolves to: /etc/hosts, and Docker's name server.

use std::net::IpAddr;

use labctl_dataplane::walk::Unknown;
use labctl_model::{Attach, Driver, EndpointMode, Family, HostAddress, OfFamily};

use crate::{
    build::Built,
    state::{BRIDGE, State, Status},
};

/// What a look-up gives: addresses, in no order that counts; none where the name does not resolve.
pub type Found = Result<Vec<IpAddr>, Unknown>;

/// Looks up the addresses of a family of a name, as an endpoint does.
///
/// # Errors
/// If that hangs on what the oracle does not know.
pub fn resolve(state: &State<'_>, built: &Built, from: &str, name: &str, family: Family) -> Found {
    let name = name.strip_suffix('.').unwrap_or(name);
    let same = |other: &str| other.eq_ignore_ascii_case(name);
    if same("localhost") {
        return Ok(vec![family.loopback()]);
    }
    let Some(described) = state.lab.containers.get(from) else {
        return Ok(of_hosts(state, name, family));
    };
    match &described.attach {
        Attach::Host => return Ok(of_hosts(state, name, family)),
        // It shares the files of the one that it joined.
        Attach::Container(of) => return resolve_beside(state, built, (of, from), name, family),
        Attach::None => return Ok(Vec::new()),
        _ => {}
    }
    let Some(now) = state.containers.get(from) else { return Ok(Vec::new()) };
    if let Some(why) = &now.unknown {
        return Err(Unknown(why.clone()));
    }
    let own = described.hostname.as_deref().is_some_and(same);
    if own {
        return Ok(now.networks.values().filter_map(|a| a.address(family)).take(1).collect());
    }
    let extra: Vec<_> = described.run.extra_hosts.iter().flatten().filter(|(n, _)| same(n)).collect();
    if !extra.is_empty() {
        let address = |(_, a): &(String, HostAddress)| match a {
            HostAddress::Ip(ip) => Ok(*ip),
            HostAddress::HostGateway => Err(Unknown("the address that host-gateway stands for".to_owned())),
        };
        let found: Result<Vec<_>, _> = extra.into_iter().map(address).collect();
        return found.map(|all| all.into_iter().filter(|ip| ip.family() == family).collect());
    }
    for link in &described.links {
        let target = state.containers.get(link.target.as_str()).filter(|c| c.status == Status::Running);
        let shared = target.and_then(|t| t.networks.iter().find(|(k, _)| now.networks.contains_key(*k)));
        if let Some((_, at)) = shared.filter(|_| same(&link.alias) || same(&link.target)) {
            return Ok(at.address(family).into_iter().collect());
        }
    }
    // Networks that lead out come first, then by name (moby libnetwork/endpoint.go, `Less`).
    let mut keys: Vec<&String> = now.networks.keys().filter(|k| *k != BRIDGE).collect();
    let inner = |k: &str| state.lab.networks.get(k).is_some_and(|n| n.internal);
    keys.sort_by_key(|k| (inner(k), state.lab.networks.get(*k).map(|n| n.docker_name.clone())));
    for key in keys {
        let found = on_network(state, built, (&described.host, key), name, family)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

fn resolve_beside(
    state: &State<'_>,
    built: &Built,
    (of, from): (&str, &str),
    name: &str,
    family: Family,
) -> Found {
    let together = built.spaces.get(of).is_some_and(|ns| built.spaces.get(from) == Some(ns));
    match together && of != from {
        true => resolve(state, built, of, name, family),
        false => Ok(Vec::new()),
    }
}

/// Hosts know each other by their first address.
fn of_hosts(state: &State<'_>, name: &str, family: Family) -> Vec<IpAddr> {
    let same = state.lab.hosts.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
    let first = same.and_then(|(_, h)| h.first_address());
    first.into_iter().filter(|ip| ip.family() == family).collect()
}

/// What the name server of a host knows of a network.
fn on_network(
    state: &State<'_>,
    built: &Built,
    (host, key): (&str, &str),
    name: &str,
    family: Family,
) -> Found {
    let docker_name = state.lab.networks.get(key).map_or(key, |n| n.docker_name.as_str());
    // `name.network` is known too.
    let suffix = name.len().checked_sub(docker_name.len() + 1).filter(|at| {
        name.get(*at..)
            .is_some_and(|s| s.strip_prefix('.').is_some_and(|s| s.eq_ignore_ascii_case(docker_name)))
    });
    let short = suffix.and_then(|at| name.get(..at)).unwrap_or(name);
    let same = |other: &str| other.eq_ignore_ascii_case(short);
    let overlay = state.lab.networks.get(key).is_some_and(|n| n.driver == Driver::Overlay);
    let known = |other: &str| other == host || overlay && built.gossip.knows(host, other);
    if overlay && let Some(why) = state.swarm_unknown.clone() {
        return Err(Unknown(why));
    }
    let mut found = Vec::new();
    for (container, c) in &state.containers {
        let (Some(at), Some(described)) = (c.networks.get(key), state.lab.containers.get(*container)) else {
            continue;
        };
        if c.status != Status::Running || !known(&described.host) {
            continue;
        }
        if same(container) || at.aliases.iter().any(|a| same(a)) {
            // The swarm knows no address that a node gives by itself.
            found.extend(at.address(family).filter(|_| !overlay || family == Family::V4));
        } else if described.hostname.as_deref().is_some_and(same) {
            return Err(Unknown("whether Docker's name server knows a host name".to_owned()));
        }
    }
    for (service, s) in &state.services {
        let Some(aliases) = s.spec.networks.get(key) else { continue };
        let tasks: Vec<IpAddr> =
            s.tasks.iter().filter(|t| known(&t.host)).filter_map(|t| t.addresses.get(key).copied()).collect();
        let of_tasks =
            short.get(..6).filter(|p| p.eq_ignore_ascii_case("tasks.")).and_then(|_| short.get(6..));
        if of_tasks.is_some_and(|s| s.eq_ignore_ascii_case(service)) {
            found.extend(tasks);
        } else if (same(service) || aliases.iter().any(|a| same(a))) && !tasks.is_empty() {
            match s.spec.endpoint_mode {
                EndpointMode::Dnsrr => found.extend(tasks),
                EndpointMode::Vip => found.extend(state.overlays.get(key).and_then(|o| o.vips.get(service))),
            }
        }
    }
    found.retain(|ip| ip.family() == family);
    Ok(found)
}
