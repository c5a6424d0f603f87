//! `networks` of the file.

use std::net::IpAddr;

use indexmap::IndexMap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use labctl_yaml::{At, Span, Value, Yaml};

use crate::keys::{Keys, Notes, pairs, text};

/// A network as Compose has it.
#[derive(Default)]
pub(crate) struct ComposeNetwork {
    pub(crate) at: Span,
    /// Its driver; absent where Compose takes its default.
    pub(crate) driver: Option<String>,
    pub(crate) options: Vec<(String, String)>,
    pub(crate) pools: Vec<ComposePool>,
    /// Whether it has IPv4, where the file says so.
    pub(crate) ipv4: Option<bool>,
    pub(crate) ipv6: bool,
    pub(crate) internal: bool,
    pub(crate) attachable: bool,
    pub(crate) labels: Vec<(String, String)>,
    /// Its name in Docker, where the file gives one.
    pub(crate) docker_name: Option<String>,
    /// Whether it is there before, and not Compose's to make.
    pub(crate) external: bool,
}

/// A pool of a network's addresses.
pub(crate) struct ComposePool {
    pub(crate) subnet: IpNet,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) ip_range: Option<IpNet>,
    pub(crate) aux: Vec<(String, IpAddr)>,
}

impl ComposeNetwork {
    /// The subnets of IPv4, each with its pool.
    pub(crate) fn v4(&self) -> impl Iterator<Item = (Ipv4Net, &ComposePool)> {
        self.pools.iter().filter_map(|p| if let IpNet::V4(net) = p.subnet { Some((net, p)) } else { None })
    }

    /// The subnets of IPv6, each with its pool.
    pub(crate) fn v6(&self) -> impl Iterator<Item = (Ipv6Net, &ComposePool)> {
        self.pools.iter().filter_map(|p| if let IpNet::V6(net) = p.subnet { Some((net, p)) } else { None })
    }
}

/// Compose's own network, for services that name none.
pub(crate) const DEFAULT: &str = "default";

pub(crate) fn read(
    taken: Option<(&At<String>, &Yaml)>,
    notes: &mut Notes,
) -> IndexMap<String, ComposeNetwork> {
    let mut all = IndexMap::new();
    let Some((key, node)) = taken else { return all };
    let Value::Map(entries) = &node.value else {
        notes.wrong(node, key.at, "a mapping of networks");
        return all;
    };
    for (name, node) in entries.iter().filter(|(k, _)| !k.value.starts_with("x-")) {
        if let Some(network) = network(name, node, notes) {
            all.insert(name.value.clone(), network);
        }
    }
    all
}

fn network(name: &At<String>, node: &Yaml, notes: &mut Notes) -> Option<ComposeNetwork> {
    let mut keys = Keys::new(node, format!("network `{}`", name.value), notes)?;
    let driver = keys.text("driver", notes).map(|d| d.value);
    let options = keys.take("driver_opts").map(|(k, n)| pairs(n, k.at, notes)).unwrap_or_default();
    let labels = keys.take("labels").map(|(k, n)| pairs(n, k.at, notes)).unwrap_or_default();
    let mut docker_name = keys.text("name", notes).map(|n| n.value);
    let external = match keys.take("external") {
        None => false,
        // The older form gives the name here.
        Some((_, Yaml { value: Value::Map(entries), .. })) => {
            let named = entries.iter().find(|(k, _)| k.value == "name").and_then(|(_, n)| text(n));
            docker_name = docker_name.or(named);
            true
        }
        Some((_, node)) => text(node).is_some_and(|t| t == "true"),
    };
    if external && docker_name.as_deref().unwrap_or(&name.value) != "host" {
        let what = "`external`: the lab makes it, as a network of its driver's defaults";
        notes.add(name.at, format!("network `{}` is {what}", name.value));
    }
    let ipv4 = keys.has("enable_ipv4").then(|| keys.flag("enable_ipv4", notes));
    let ipv6 = keys.flag("enable_ipv6", notes);
    let mut pools = keys.take("ipam").map(|(_, node)| ipam(name, node, notes)).unwrap_or_default();
    if !ipv6 {
        for pool in pools.extract_if(.., |p| matches!(p.subnet, IpNet::V6(_))) {
            notes.add(
                name.at,
                format!(
                    "subnet {}: left out, network `{}` has no `enable_ipv6: true`",
                    pool.subnet, name.value
                ),
            );
        }
    }
    let network = ComposeNetwork {
        at: name.at,
        driver,
        options: options.into_iter().map(|(k, v)| (k.value, v)).collect(),
        pools,
        ipv4,
        ipv6,
        internal: keys.flag("internal", notes),
        attachable: keys.flag("attachable", notes),
        labels: labels.into_iter().map(|(k, v)| (k.value, v)).collect(),
        docker_name,
        external,
    };
    keys.finish(notes);
    Some(network)
}

fn ipam(name: &At<String>, node: &Yaml, notes: &mut Notes) -> Vec<ComposePool> {
    let Some(mut keys) = Keys::new(node, format!("`ipam` of network `{}`", name.value), notes) else {
        return Vec::new();
    };
    if let Some(driver) = keys.text("driver", notes).filter(|d| d.value != "default") {
        notes.add(driver.at, format!("IPAM driver `{}`: left out, a lab has Docker's own", driver.value));
    }
    let mut pools = Vec::new();
    if let Some((key, config)) = keys.take("config") {
        match &config.value {
            Value::List(list) => pools.extend(list.iter().filter_map(|node| pool(name, node, notes))),
            _ => notes.wrong(config, key.at, "a list of pools"),
        }
    }
    keys.finish(notes);
    pools
}

fn pool(name: &At<String>, node: &Yaml, notes: &mut Notes) -> Option<ComposePool> {
    let mut keys = Keys::new(node, format!("a pool of network `{}`", name.value), notes)?;
    let subnet = keys.text("subnet", notes);
    let gateway = keys.text("gateway", notes);
    let range = keys.text("ip_range", notes);
    let aux = keys.take("aux_addresses").map(|(k, n)| pairs(n, k.at, notes)).unwrap_or_default();
    keys.finish(notes);
    let subnet = subnet?;
    Some(ComposePool {
        subnet: parsed(&subnet, notes)?,
        gateway: gateway.and_then(|g| parsed(&g, notes)),
        ip_range: range.and_then(|r| parsed(&r, notes)),
        aux: aux
            .into_iter()
            .filter_map(|(k, v)| Some((k.value.clone(), parsed(&At { value: v, at: k.at }, notes)?)))
            .collect(),
    })
}

/// Reads an address or a subnet; notes what is none.
pub(crate) fn parsed<T: std::str::FromStr>(text: &At<String>, notes: &mut Notes) -> Option<T> {
    let read = text.value.parse().ok();
    if read.is_none() {
        notes.add(text.at, format!("`{}`: left out, it is no address or subnet of this kind", text.value));
    }
    read
}
