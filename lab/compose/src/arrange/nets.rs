//! Drivers, options and addresses of networks.

use indexmap::IndexSet;

use super::{Lan, Node};
use crate::{
    ImportOptions, flow,
    keys::Notes,
    networks::{ComposeNetwork, ComposePool, DEFAULT},
};

/// A network of the topology.
pub(crate) struct Net {
    pub(crate) driver: &'static str,
    /// Its keys, without the driver.
    pub(crate) written: Vec<(&'static str, String)>,
    pub(crate) internal: bool,
    /// Whether it has IPv6.
    pub(crate) ipv6: bool,
    /// Whether what is on it reaches each other; `None` where that hangs on the driver's mode.
    pub(crate) connects: Option<bool>,
    /// Whether it leads out; `None` where that hangs on the LAN.
    pub(crate) leads_out: Option<bool>,
    /// Why its driver is another than in the file.
    pub(crate) remark: Option<String>,
}

/// The interface of the host that a network is on, as the file has it.
pub(super) fn parent(network: &ComposeNetwork) -> Option<&str> {
    network.options.iter().find(|(k, _)| k == "parent").map(|(_, v)| v.as_str())
}

/// Makes a network of the file one of the topology.
pub(super) fn net(
    key: &str,
    network: &ComposeNetwork,
    nodes: &[Node],
    lan: &Lan,
    options: &ImportOptions,
    notes: &mut Notes,
) -> Net {
    let on: Vec<&Node> = nodes.iter().filter(|n| n.on().any(|k| k == key)).collect();
    let spread: IndexSet<Option<usize>> = on.iter().map(|n| n.host).collect();
    let written = network.driver.as_deref().unwrap_or(if options.swarm { "overlay" } else { "bridge" });
    let mut remark = None;
    let mut change = |to: &'static str, why: String, notes: &mut Notes| {
        notes.add(network.at, format!("network `{key}`: {why}"));
        remark = Some(why);
        to
    };
    let driver = match written {
        "overlay" => "overlay",
        "bridge" if options.swarm => {
            change("overlay", "an overlay, as services of a swarm need".to_owned(), notes)
        }
        "bridge" if spread.len() > 1 => change(
            "overlay",
            "an overlay, since a bridge ends at its host and its services are on several".to_owned(),
            notes,
        ),
        "bridge" => "bridge",
        other if options.swarm => {
            change("overlay", format!("an overlay in place of {other}: services are on no other"), notes)
        }
        "macvlan" => "macvlan",
        "ipvlan" => "ipvlan",
        other => change(
            "bridge",
            format!("a bridge in place of driver `{other}`, which a lab does not have"),
            notes,
        ),
    };
    let mut keys: Vec<(&'static str, String)> = Vec::new();
    keys.extend(network.docker_name.as_ref().filter(|n| is_own(n, key)).map(|n| ("name", flow::scalar(n))));
    if key == DEFAULT && keys.is_empty() {
        // Docker takes `default` for no name; Compose puts the project's before it.
        keys.push(("name", format!("{}_{DEFAULT}", lan.lab)));
    }
    let driver_opts = driver_opts(key, network, driver, notes);
    let option = |name: &str| driver_opts.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
    let connects = match driver {
        "bridge" => Some(option("com.docker.network.bridge.enable_icc").as_deref() != Some("\"false\"")),
        "overlay" => Some(true),
        "macvlan" if option("macvlan_mode").is_none_or(|m| m == "bridge") => Some(true),
        "ipvlan" if option("ipvlan_mode").is_none_or(|m| m == "l2") && option("ipvlan_flag").is_none() => {
            Some(true)
        }
        _ => None,
    };
    if !driver_opts.is_empty() {
        keys.push(("driver_opts", flow::map(driver_opts.clone())));
    }
    let ipv6 = network.ipv6 && driver != "overlay";
    if network.ipv6 && !ipv6 {
        let why = "left out: each node of an overlay gives out the same addresses of IPv6";
        notes.add(network.at, format!("IPv6 of network `{key}`: {why}"));
    }
    let mut pools: Vec<_> =
        network.pools.iter().filter(|p| ipv6 || p.subnet.addr().is_ipv4()).map(pool).collect();
    if ipv6 && network.v6().next().is_none() {
        let subnet =
            format!("fd00:c0:0:{:x}::/64", lan.networks.iter().position(|n| n == key).unwrap_or(0) + 1);
        notes.add(
            network.at,
            format!("network `{key}`: {subnet} is its subnet of IPv6, since before Docker 27 it needs one"),
        );
        pools.push(flow::map([("subnet".to_owned(), flow::scalar(&subnet))]));
    }
    if !pools.is_empty() {
        keys.push(("ipam", flow::map([("config".to_owned(), flow::list(pools))])));
    }
    keys.extend(network.ipv4.map(|on| ("enable_ipv4", on.to_string())));
    if ipv6 {
        keys.push(("enable_ipv6", "true".to_owned()));
    }
    if network.internal {
        keys.push(("internal", "true".to_owned()));
    }
    if driver == "overlay" {
        keys.push(("attachable", "true".to_owned()));
        if options.swarm && !network.attachable {
            notes.add(
                network.at,
                format!("network `{key}`: attachable, so that a container can ask services on it"),
            );
        }
    }
    if !network.labels.is_empty() {
        let labels = network.labels.iter().map(|(k, v)| (k.clone(), flow::scalar(v)));
        keys.push(("labels", flow::map(labels)));
    }
    let leads_out = match driver {
        _ if network.internal => Some(false),
        "bridge" | "overlay" => Some(true),
        _ if lan.of.as_deref() == Some(key) => Some(true),
        _ => None,
    };
    Net { driver, written: keys, internal: network.internal, ipv6, connects, leads_out, remark }
}

/// Whether a network's name in Docker is more than what Compose makes of its key.
fn is_own(name: &str, key: &str) -> bool {
    name != key && !name.ends_with(&format!("_{key}")) && !["bridge", "host", "none"].contains(&name)
}

/// The options of a network's driver.
fn driver_opts(
    key: &str,
    network: &ComposeNetwork,
    driver: &str,
    notes: &mut Notes,
) -> Vec<(String, String)> {
    let same = network.driver.as_deref().unwrap_or("bridge") == driver;
    let mut all = Vec::new();
    for (name, value) in &network.options {
        let kept = name == "com.docker.network.driver.mtu" || name == "encrypted" && driver == "overlay";
        if name == "parent" && same {
            let (interface, vlan) =
                value.split_once('.').map_or((value.as_str(), None), |(i, v)| (i, Some(v)));
            let vlan = vlan.filter(|v| v.parse::<u16>().is_ok_and(|v| (1..4095).contains(&v)));
            let to = vlan.map_or("lan".to_owned(), |v| format!("lan.{v}"));
            if interface != "eth0" {
                notes.add(
                    network.at,
                    format!("`parent: {value}` of network `{key}`: here it is the hosts' NIC on `lan`"),
                );
            }
            all.push(("parent".to_owned(), to));
        } else if same || kept {
            all.push((name.clone(), flow::scalar(value)));
        } else {
            notes.add(
                network.at,
                format!("option `{name}` of network `{key}`: left out, it is of another driver"),
            );
        }
    }
    if matches!(driver, "macvlan" | "ipvlan") && !network.internal && parent(network).is_none() {
        notes.add(
            network.at,
            format!("network `{key}` has no `parent`: Docker makes it one that leads nowhere"),
        );
    }
    all
}

fn pool(pool: &ComposePool) -> String {
    let mut keys = vec![("subnet".to_owned(), flow::address(&pool.subnet))];
    keys.extend(pool.gateway.map(|g| ("gateway".to_owned(), flow::address(&g))));
    keys.extend(pool.ip_range.map(|r| ("ip_range".to_owned(), flow::address(&r))));
    if !pool.aux.is_empty() {
        let aux = pool.aux.iter().map(|(k, v)| (k.clone(), flow::address(&v)));
        keys.push(("aux_addresses".to_owned(), flow::map(aux)));
    }
    flow::map(keys)
}
