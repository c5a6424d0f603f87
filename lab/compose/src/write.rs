//! The text of a topology.

use std::net::Ipv4Addr;

use crate::{
    ImportOptions,
    arrange::{Arranged, Net, Node, Place},
    expect, flow,
    ports::ComposePort,
};

/// Writes a topology, with comments. `file` is the Compose file.
pub(crate) fn topology(a: &Arranged, file: &str, options: &ImportOptions) -> String {
    let services = options.swarm;
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    line(&format!(
        "# From {} by `labctl import`, which has told what it left out.",
        labctl_words::plain(file)
    ));
    if !options.images {
        line(
            "# Containers have labctl's own image: it waits, and every port that is probed listens. `--images` keeps the file's.",
        );
    }
    line(
        "# `labctl predict FILE` says what will come of it, `labctl up FILE` brings it up and probes every cell.",
    );
    line(&format!("name: {}", a.name));
    line("");
    line("# The hosts' LAN. Its gateway is the lab's own, and answers for one address outside.");
    line("segments:");
    let both = |v4: String, v6: Option<String>| match v6 {
        Some(v6) => flow::list([v4, flow::scalar(&v6)]),
        None => v4,
    };
    let six = a.lan6.as_ref();
    let lan = [
        ("subnet", both(a.lan.to_string(), six.map(|l| l.subnet.to_string()))),
        ("gateway", both(a.gateway.to_string(), six.map(|l| l.gateway.to_string()))),
        (
            "outside",
            flow::list(
                [format!("{}/32", expect::OUTSIDE)]
                    .into_iter()
                    .chain(six.map(|_| flow::scalar(&format!("{}/128", expect::OUTSIDE_V6)))),
            ),
        ),
    ];
    line(&format!("  lan: {}", flow::map(lan.map(|(k, v)| (k.to_owned(), v)))));
    let on_lan = |v4: Ipv4Addr| both(v4.to_string(), six.map(|l| l.beside(v4).to_string()));
    let rules = a.networks.values().any(|n| n.ipv6);
    if rules {
        line("# Rules for IPv6, as Docker 27 and later set them by themselves.");
    }
    line("hosts:");
    for (host, address) in &a.hosts {
        let rules = if rules { ", daemon_json: { experimental: true, ip6tables: true }" } else { "" };
        line(&format!("  {host}: {{ lan: {}{rules} }}", on_lan(*address)));
    }
    line("# A machine on the LAN that is none of the hosts.");
    line("peers:");
    line(&format!("  {}: {{ lan: {} }}", a.client.0, on_lan(a.client.1)));
    if a.swarm {
        line("");
        line(if services {
            "# The first host is the manager."
        } else {
            "# Overlays need a swarm. The first host is the manager."
        });
        line("swarm: { advertise_addr: lan }");
    }
    if !a.networks.is_empty() {
        line("");
        line("networks:");
        for (key, net) in &a.networks {
            if let Some(remark) = &net.remark {
                line(&format!("  # {remark}"));
            }
            line(&format!("  {}: {}", flow::scalar(key), network(net)));
        }
    }
    let (own, observers) = (&a.nodes, &a.observers);
    if services && !own.is_empty() {
        line("");
        line("services:");
        own.iter().for_each(|node| line(&entry(&node.name, &service(node, a))));
    }
    if !services && !own.is_empty() || !observers.is_empty() {
        line("");
        line("containers:");
    }
    if !services {
        own.iter().for_each(|node| line(&entry(&node.name, &container(node, a))));
    }
    if !observers.is_empty() {
        line("  # Not in the file: a service is asked and does not ask, so these do.");
    }
    for (name, key) in observers {
        let host = a.hosts.last().map_or("", |(h, _)| h);
        let keys = [("host".into(), host.into()), ("networks".into(), flow::list([flow::scalar(key)]))];
        line(&format!("  {}: {}", flow::scalar(name), flow::map(keys)));
    }
    let expect = expect::write(a, services);
    if !expect.is_empty() {
        line("");
        line("expect:");
        line(expect.trim_end());
    }
    out
}

/// A container or service: on one line if that is short.
fn entry(name: &str, keys: &[(String, String)]) -> String {
    let name = flow::scalar(name);
    let flow = format!("  {name}: {}", flow::map(keys.iter().cloned()));
    if flow.len() <= 110 {
        return flow;
    }
    let lines: Vec<String> = keys.iter().map(|(k, v)| format!("    {k}: {v}")).collect();
    format!("  {name}:\n{}", lines.join("\n"))
}

fn network(net: &Net) -> String {
    let driver = (net.driver != "bridge").then(|| ("driver".to_owned(), net.driver.to_owned()));
    let rest = net.written.iter().map(|(k, v)| ((*k).to_owned(), v.clone()));
    flow::map(driver.into_iter().chain(rest))
}

fn container(node: &Node, a: &Arranged) -> Vec<(String, String)> {
    let mut keys: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: String| keys.push((key.to_owned(), value));
    if let Some((host, _)) = node.host.and_then(|h| a.hosts.get(h)) {
        set("host", host.clone());
    }
    if let Some(image) = &node.image {
        set("image", flow::scalar(image));
    }
    if let Some(hostname) = node.hostname.as_ref().filter(|_| !matches!(node.place, Place::Beside(_))) {
        set("hostname", flow::scalar(hostname));
    }
    match &node.place {
        Place::Networks(_) => set("networks", networks(node, true)),
        Place::Bridge => set("network_mode", "bridge".to_owned()),
        Place::Host => set("network_mode", "host".to_owned()),
        Place::None => set("network_mode", "none".to_owned()),
        Place::Beside(other) => set("network_mode", flow::scalar(&format!("container:{other}"))),
    }
    if !node.links.is_empty() && matches!(node.place, Place::Networks(_) | Place::Bridge) {
        set("links", flow::list(node.links.iter().map(|l| flow::scalar(l))));
    }
    if !node.ports.is_empty() && matches!(node.place, Place::Networks(_) | Place::Bridge) {
        set("ports", flow::list(node.ports.iter().map(|p| flow::scalar(&port(p)))));
    }
    node.written.iter().for_each(|(k, v)| set(k, v.clone()));
    keys
}

fn service(node: &Node, a: &Arranged) -> Vec<(String, String)> {
    let mut keys: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: String| keys.push((key.to_owned(), value));
    if let Some(image) = &node.image {
        set("image", flow::scalar(image));
    }
    set("networks", networks(node, false));
    let ports = node.ports.iter().map(|p| match p.host_mode {
        false => flow::scalar(&port(p)),
        true => {
            let published = p.published.map(|n| ("published".to_owned(), n.to_string()));
            let protocol = p.udp.then(|| ("protocol".to_owned(), "udp".to_owned()));
            let target = ("target".to_owned(), p.target.to_string());
            let mode = ("mode".to_owned(), "host".to_owned());
            flow::map([target].into_iter().chain(published).chain(protocol).chain([mode]))
        }
    });
    if !node.ports.is_empty() {
        set("ports", flow::list(ports));
    }
    if let Some((host, _)) = node.host.and_then(|h| a.hosts.get(h)) {
        set("hosts", flow::list([host.clone()]));
    }
    node.written.iter().for_each(|(k, v)| set(k, v.clone()));
    let d = &node.deploy;
    let mut deploy: Vec<(String, String)> = Vec::new();
    if d.global {
        deploy.push(("mode".to_owned(), "global".to_owned()));
    } else if let Some(replicas) = d.replicas.as_ref().filter(|r| r.value != 1) {
        deploy.push(("replicas".to_owned(), replicas.value.to_string()));
    }
    if d.dnsrr {
        deploy.push(("endpoint_mode".to_owned(), "dnsrr".to_owned()));
    }
    if !d.constraints.is_empty() {
        let all = flow::list(d.constraints.iter().map(|c| flow::scalar(c)));
        deploy.push(("placement".to_owned(), flow::map([("constraints".to_owned(), all)])));
    }
    deploy.extend(d.written.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
    if !deploy.is_empty() {
        set("deploy", flow::map(deploy));
    }
    keys
}

fn networks(node: &Node, container: bool) -> String {
    let Place::Networks(networks) = &node.place else { return "[]".to_owned() };
    let plain = networks.iter().all(|(_, a)| {
        let fixed = a.ipv4_address.is_some() || a.ipv6_address.is_some() || a.mac_address.is_some();
        a.aliases.is_empty() && !(container && fixed)
    });
    if plain {
        return flow::list(networks.iter().map(|(key, _)| flow::scalar(key)));
    }
    flow::map(networks.iter().map(|(key, a)| {
        let mut keys = Vec::new();
        if container {
            keys.extend(a.ipv4_address.map(|ip| ("ipv4_address".to_owned(), ip.to_string())));
            keys.extend(
                a.ipv6_address
                    .as_ref()
                    .map(|ip| ("ipv6_address".to_owned(), flow::scalar(&ip.value.to_string()))),
            );
        }
        if !a.aliases.is_empty() {
            keys.push(("aliases".to_owned(), flow::list(a.aliases.iter().map(|n| flow::scalar(n)))));
        }
        if container {
            keys.extend(a.mac_address.as_ref().map(|m| ("mac_address".to_owned(), flow::scalar(m))));
        }
        (key.clone(), flow::map(keys))
    }))
}

/// A port in its short form.
fn port(p: &ComposePort) -> String {
    let protocol = if p.udp { "/udp" } else { "" };
    match (p.host_ip, p.published) {
        (Some(ip), published) => {
            let published = published.map(|n| n.to_string()).unwrap_or_default();
            let ip = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
            format!("{ip}:{published}:{}{protocol}", p.target)
        }
        (None, Some(published)) => format!("{published}:{}{protocol}", p.target),
        (None, None) => format!("{}{protocol}", p.target),
    }
}
