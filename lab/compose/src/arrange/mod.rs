//! What goes where: hosts, addresses of the LAN, drivers of networks, names of containers.

mod nets;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use indexmap::{IndexMap, IndexSet};
use ipnet::{Ipv4Net, Ipv6Net};
use labctl_words as words;
use labctl_yaml::Diagnostic;

pub(crate) use nets::Net;
use nets::{net, parent};

use crate::{
    ImportOptions, Project,
    keys::Notes,
    networks::{ComposeNetwork, DEFAULT},
    ports::ComposePort,
    services::{ComposeAttachment, ComposeService, Deployment},
};

/// A topology before it is written.
pub(crate) struct Arranged {
    pub(crate) name: String,
    pub(crate) lan: Ipv4Net,
    pub(crate) gateway: Ipv4Addr,
    /// Its IPv6, if something in the file has IPv6.
    pub(crate) lan6: Option<Lan6>,
    pub(crate) hosts: Vec<(String, Ipv4Addr)>,
    /// The machine on the LAN that is no host.
    pub(crate) client: (String, Ipv4Addr),
    /// Whether the hosts form a swarm.
    pub(crate) swarm: bool,
    pub(crate) networks: IndexMap<String, Net>,
    pub(crate) nodes: Vec<Node>,
    /// In a swarm with services: a container for each network that probes them, with the network's key.
    pub(crate) observers: Vec<(String, String)>,
}

/// The LAN's IPv6.
pub(crate) struct Lan6 {
    pub(crate) subnet: Ipv6Net,
    pub(crate) gateway: Ipv6Addr,
    /// What an address has beside the last byte of the one of IPv4.
    offset: u128,
}

impl Lan6 {
    /// The address of who has this one of IPv4.
    pub(crate) fn beside(&self, v4: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.subnet.network()) + self.offset + u128::from(v4.octets()[3]))
    }
}

/// A container or a service of the topology.
pub(crate) struct Node {
    pub(crate) name: String,
    /// The service of the file that it comes from.
    pub(crate) service: String,
    /// The host of a container; that of a service only where it was placed.
    pub(crate) host: Option<usize>,
    pub(crate) image: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) place: Place,
    pub(crate) links: Vec<String>,
    pub(crate) ports: Vec<ComposePort>,
    pub(crate) expose: Vec<(u16, bool)>,
    pub(crate) written: Vec<(&'static str, String)>,
    /// Of a service.
    pub(crate) deploy: Deployment,
}

/// What network a container has.
pub(crate) enum Place {
    Networks(Vec<(String, ComposeAttachment)>),
    Bridge,
    Host,
    None,
    /// That of another container.
    Beside(String),
}

impl Node {
    /// The keys of its networks.
    pub(crate) fn on(&self) -> impl Iterator<Item = &str> {
        let networks = match &self.place {
            Place::Networks(networks) => networks.as_slice(),
            _ => &[],
        };
        networks.iter().map(|(key, _)| key.as_str())
    }
}

/// LANs to choose from; the first that no network of the file overlaps is taken.
const LANS: [&str; 3] = ["192.168.56.0/24", "10.99.0.0/24", "172.31.99.0/24"];

/// A service for which the options do not fit the file: how, and what would.
pub(crate) struct Misfit {
    pub(crate) service: String,
    pub(crate) message: String,
    pub(crate) hint: String,
}

pub(crate) fn arrange(
    mut project: Project,
    folder: &str,
    options: &ImportOptions,
    notes: &mut Notes,
) -> Result<Arranged, Misfit> {
    let name = options.name.clone().unwrap_or_else(|| lab_name(project.name.as_deref().unwrap_or(folder)));
    let prefix = host_prefix(&project.services);
    let hosts: Vec<String> = (1..=options.hosts).map(|i| format!("{prefix}{i}")).collect();
    let placed = placed(&project.services, &hosts, options)?;
    join_networks(&mut project, options, notes);
    let homes = if options.swarm { placed } else { homes(&project.services, &placed, hosts.len(), options)? };
    let project_name = project.name.clone().unwrap_or_else(|| folder.to_owned());
    let mut nodes = nodes(&project, &homes, hosts.len(), &project_name, options, notes);
    for service in project.services.iter().filter(|s| s.ports.is_empty() && s.expose.is_empty()) {
        let what = "it has no `ports` or `expose`, so none of its ports is probed (`expose: [PORT]`)";
        notes.add(service.name.at, format!("service `{}`: {what}", service.name.value));
    }
    let used: IndexSet<String> = nodes.iter().flat_map(|n| n.on().map(str::to_owned)).collect();
    for (key, network) in &project.networks {
        if !used.contains(key) && !is_host(key, network) {
            notes.add(network.at, format!("network `{key}`: left out, no service is on it"));
        }
    }
    project.networks.retain(|key, _| used.contains(key));
    let lan = lan(&name, &project, &nodes, options);
    let networks: IndexMap<String, Net> = project
        .networks
        .iter()
        .map(|(key, network)| (key.clone(), net(key, network, &nodes, &lan, options, notes)))
        .collect();
    let six = networks.values().any(|n| n.ipv6)
        || nodes.iter().flat_map(|n| &n.ports).any(|p| p.host_ip.is_some_and(|ip| ip.is_ipv6()));
    let lan6 = six.then(|| lan6(&project, lan.of.as_deref()));
    for node in &mut nodes {
        if !six {
            // All of IPv4 is all there is.
            node.ports.iter_mut().for_each(|p| p.host_ip = p.host_ip.filter(|ip| !ip.is_unspecified()));
        }
        let Place::Networks(on) = &mut node.place else { continue };
        for (key, attachment) in on.iter_mut().filter(|(key, _)| networks.get(key).is_some_and(|n| !n.ipv6)) {
            if let Some(ip) = attachment.ipv6_address.take() {
                let what = format!("`ipv6_address` of `{}` on `{key}`", node.service);
                notes.add(ip.at, format!("{what}: left out, the network has no IPv6"));
            }
        }
    }
    let mut addresses = lan.free.iter().copied();
    let mut next = || addresses.next().unwrap_or(Ipv4Addr::UNSPECIFIED);
    let client =
        if project.services.iter().any(|s| s.name.value == "client") { "lan-client" } else { "client" };
    let client = (client.to_owned(), next());
    let mut hosts: Vec<(String, Ipv4Addr)> = hosts.into_iter().map(|h| (h, next())).collect();
    // They were taken from the end of the LAN.
    let mut sorted: Vec<Ipv4Addr> = hosts.iter().map(|(_, a)| *a).collect();
    sorted.sort();
    hosts.iter_mut().zip(sorted).for_each(|((_, a), s)| *a = s);
    let taken: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
    let observer = |key: &String| {
        let name = format!("at-{key}");
        (if taken.contains(&name.as_str()) { format!("in-{key}") } else { name }, key.clone())
    };
    let observers = if options.swarm { networks.keys().map(observer).collect() } else { Vec::new() };
    Ok(Arranged {
        name,
        lan: lan.subnet,
        gateway: lan.gateway,
        lan6,
        hosts,
        client,
        swarm: options.swarm || networks.values().any(|n| n.driver == "overlay"),
        networks,
        nodes,
        observers,
    })
}

/// A name that a lab can have.
fn lab_name(from: &str) -> String {
    let mut name = String::new();
    for c in from.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    let name = name.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let name: String = name.chars().take(32).collect();
    match name.trim_end_matches('-') {
        "" => "compose".to_owned(),
        name => name.to_owned(),
    }
}

/// What hosts are called: nothing that a service is called too.
fn host_prefix(services: &[ComposeService]) -> &'static str {
    let clashes = |prefix: &str| {
        services.iter().any(|s| {
            let rest = s.name.value.strip_prefix(prefix);
            rest.is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    ["host", "node", "machine"].into_iter().find(|p| !clashes(p)).unwrap_or("labhost")
}

/// The hosts that the options give to services.
fn placed(
    services: &[ComposeService],
    hosts: &[String],
    options: &ImportOptions,
) -> Result<Vec<Option<usize>>, Misfit> {
    let mut placed = vec![None; services.len()];
    for (service, host) in &options.place {
        let Some(i) = services.iter().position(|s| s.name.value == *service) else {
            let known = services.iter().map(|s| s.name.value.as_str());
            let hint = words::known("service", service, known);
            let message = format!("there is no service `{service}`");
            return Err(Misfit { service: service.clone(), message, hint });
        };
        let Some(at) = hosts.iter().position(|h| h == host) else {
            let known = words::known("host", host, hosts.iter().map(String::as_str));
            let (message, hint) =
                (format!("there is no host `{host}`"), format!("`--hosts` says how many there are; {known}"));
            return Err(Misfit { service: service.clone(), message, hint });
        };
        placed[i] = Some(at);
    }
    Ok(placed)
}

/// Puts services without networks on Compose's default network, and takes networks that are the host's own for
/// `network_mode: host`. Notes networks that do not exist.
fn join_networks(project: &mut Project, options: &ImportOptions, notes: &mut Notes) {
    let known: Vec<String> = project.networks.keys().cloned().chain([DEFAULT.to_owned()]).collect();
    let mut default = false;
    for service in &mut project.services {
        if options.swarm
            && let Some(mode) = service.mode.take()
        {
            let what = format!("`network_mode: {}` of `{}`", mode.value, service.name.value);
            notes.add(mode.at, format!("{what}: left out, tasks of services are on networks"));
        }
        if let Some(networks) = &mut service.networks {
            for (name, _) in networks.iter() {
                if !known.contains(&name.value) {
                    let d = Diagnostic::new(name.at, format!("there is no network `{}`", name.value));
                    let hint = words::known("network", &name.value, known.iter().map(String::as_str));
                    notes.cx.error(d.hint(hint));
                }
            }
            let host = networks.iter().position(|(name, _)| {
                project.networks.get(&name.value).is_some_and(|n| is_host(&name.value, n))
            });
            if let Some(host) = host {
                let (name, _) = networks.remove(host);
                if !options.swarm {
                    service.mode = Some(labctl_yaml::At { value: "host".to_owned(), at: name.at });
                    networks.clear();
                } else {
                    notes.add(
                        name.at,
                        format!("`{}` on the hosts' own network: left out", service.name.value),
                    );
                }
            }
            default |= networks.iter().any(|(name, _)| name.value == DEFAULT);
        }
        let none = service.networks.as_ref().is_none_or(Vec::is_empty);
        if service.mode.is_none() && none {
            let at = service.name.at;
            let name = labctl_yaml::At { value: DEFAULT.to_owned(), at };
            service.networks = Some(vec![(name, ComposeAttachment::default())]);
            default = true;
        }
    }
    if default && !project.networks.contains_key(DEFAULT) {
        let at = project.services.first().map(|s| s.name.at).unwrap_or_default();
        let network = ComposeNetwork { at, ..ComposeNetwork::default() };
        project.networks.insert(DEFAULT.to_owned(), network);
    }
}

/// Whether it is the host's own network, under a name of the file's.
fn is_host(key: &str, network: &ComposeNetwork) -> bool {
    network.driver.as_deref() == Some("host")
        || network.external && network.docker_name.as_deref().unwrap_or(key) == "host"
}

/// The service that this one shares a network namespace with or links to: both are on one host.
fn companions<'s>(services: &'s [ComposeService], service: &'s ComposeService) -> Vec<usize> {
    let find = |name: &str| {
        services.iter().position(|s| s.name.value == name || s.container_name.as_deref() == Some(name))
    };
    let mode = service
        .mode
        .as_ref()
        .and_then(|m| m.value.strip_prefix("service:").or_else(|| m.value.strip_prefix("container:")));
    let links = service.links.iter().map(|l| l.value.split(':').next().unwrap_or_default());
    mode.into_iter().chain(links).filter_map(find).collect()
}

/// The host of each service: where it was placed, else in turn. What belongs together stays together.
fn homes(
    services: &[ComposeService],
    placed: &[Option<usize>],
    hosts: usize,
    options: &ImportOptions,
) -> Result<Vec<Option<usize>>, Misfit> {
    let mut group: Vec<usize> = (0..services.len()).collect();
    for (i, service) in services.iter().enumerate() {
        for other in companions(services, service) {
            let (from, to) = (group[i].max(group[other]), group[i].min(group[other]));
            group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
        }
    }
    let mut homes: IndexMap<usize, usize> = IndexMap::new();
    for (i, host) in placed.iter().enumerate().filter_map(|(i, h)| Some((i, (*h)?))) {
        if homes.insert(group[i], host).is_some_and(|other| other != host) {
            let named: Vec<&str> = options.place.iter().map(|(s, _)| s.as_str()).collect();
            let list = words::list(named.into_iter().filter(|n| {
                services.iter().position(|s| s.name.value == **n).is_some_and(|s| group[s] == group[i])
            }));
            let hint = "one links to the other or shares its network".to_owned();
            let message = format!("{list} cannot be on different hosts");
            return Err(Misfit { service: services[i].name.value.clone(), message, hint });
        }
    }
    let mut turn = 0;
    for g in &group {
        homes.entry(*g).or_insert_with(|| {
            turn += 1;
            (turn - 1) % hosts
        });
    }
    Ok(group.iter().map(|g| homes.get(g).copied()).collect())
}

fn nodes(
    project: &Project,
    homes: &[Option<usize>],
    hosts: usize,
    project_name: &str,
    options: &ImportOptions,
    notes: &mut Notes,
) -> Vec<Node> {
    let names = node_names(&project.services, options);
    let mut nodes = Vec::new();
    for i in order(&project.services) {
        let service = &project.services[i];
        let count = match &service.deploy.replicas {
            Some(n) if !options.swarm => n.value,
            _ => 1,
        };
        if count == 0 {
            notes.add(
                service.name.at,
                format!("service `{}`: left out, it has no replicas", service.name.value),
            );
        }
        let alone = companions(&project.services, service).is_empty()
            && !options.place.iter().any(|(s, _)| *s == service.name.value)
            && !project.services.iter().any(|s| companions(&project.services, s).contains(&i));
        for replica in 0..count {
            let name = match count {
                1 => names[i].clone(),
                _ => format!("{}-{}", names[i], replica + 1),
            };
            let spread = if alone { replica as usize } else { 0 };
            let mut ports = service.ports.clone();
            if replica > 0 && ports.iter().any(|p| p.published.is_some()) {
                // Docker Compose fails here.
                notes.add(
                    service.name.at,
                    format!("ports of `{}`: only its first container publishes them", service.name.value),
                );
                ports.clear();
            }
            nodes.push(Node {
                service: service.name.value.clone(),
                host: homes[i].map(|h| (h + spread) % hosts),
                image: service.image.as_ref().map(|image| match image.as_str() {
                    "" => format!("{}-{}", project_name.to_lowercase(), service.name.value),
                    image => image.to_owned(),
                }),
                hostname: service.hostname.clone(),
                place: place(&name, service, project, &names, notes),
                links: service
                    .links
                    .iter()
                    .filter_map(|link| {
                        let (to, alias) = link.value.split_once(':').unwrap_or((&link.value, &link.value));
                        let at = project.services.iter().position(|s| s.name.value == to)?;
                        Some(format!("{}:{alias}", first(&project.services[at], &names[at])))
                    })
                    .collect(),
                ports,
                expose: service.expose.clone(),
                written: service.written.clone(),
                deploy: Deployment {
                    replicas: service.deploy.replicas.clone(),
                    constraints: service.deploy.constraints.clone(),
                    written: service.deploy.written.clone(),
                    ..service.deploy
                },
                name,
            });
        }
    }
    nodes
}

/// Names that a topology's containers or services can have, one for each service.
fn node_names(services: &[ComposeService], options: &ImportOptions) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for service in services {
        let mut name = service.name.value.clone();
        if options.swarm {
            name = name.replace(['_', '.'], "-");
        }
        if name.len() < 2 || ["all", "hosts", "containers", "peers"].contains(&name.as_str()) {
            name.push_str("-1");
        }
        while names.contains(&name) {
            name.push_str("-1");
        }
        names.push(name);
    }
    names
}

/// The name of a service's first container.
fn first(service: &ComposeService, name: &str) -> String {
    match &service.deploy.replicas {
        Some(n) if n.value > 1 => format!("{name}-1"),
        _ => name.to_owned(),
    }
}

/// The services, each after those that it depends on.
fn order(services: &[ComposeService]) -> Vec<usize> {
    let mut done: IndexSet<usize> = IndexSet::new();
    while done.len() < services.len() {
        let ready = |i: &usize| {
            let service = &services[*i];
            let named =
                service.depends_on.iter().filter_map(|d| services.iter().position(|s| s.name.value == *d));
            !done.contains(i)
                && named.chain(companions(services, service)).all(|d| done.contains(&d) || d == *i)
        };
        // Compose refuses a circle; here its first service goes first.
        let next =
            (0..services.len()).find(ready).or_else(|| (0..services.len()).find(|i| !done.contains(i)));
        done.extend(next);
    }
    done.into_iter().collect()
}

fn place(
    name: &str,
    service: &ComposeService,
    project: &Project,
    names: &[String],
    notes: &mut Notes,
) -> Place {
    let others: Vec<String> =
        [Some(&service.name.value), service.container_name.as_ref()].into_iter().flatten().cloned().collect();
    match service.mode.as_ref().map(|m| (m, m.value.as_str())) {
        None => {}
        Some((_, "host")) => return Place::Host,
        Some((_, "none")) => return Place::None,
        Some((_, "bridge" | "default")) => return Place::Bridge,
        Some((mode, text)) => {
            let of = text.strip_prefix("service:").or_else(|| text.strip_prefix("container:"));
            let at = of.and_then(|of| {
                project
                    .services
                    .iter()
                    .position(|s| s.name.value == of || s.container_name.as_deref() == Some(of))
            });
            return match at {
                Some(at) => Place::Beside(first(&project.services[at], &names[at])),
                None => {
                    notes.add(
                        mode.at,
                        format!(
                            "`network_mode: {text}` of `{}`: left out, there is none; it has no network",
                            service.name.value
                        ),
                    );
                    Place::None
                }
            };
        }
    }
    let mut networks = Vec::new();
    for (key, attachment) in service.networks.iter().flatten() {
        let mut attachment = attachment.clone();
        for other in &others {
            if other != name && !attachment.aliases.contains(other) {
                attachment.aliases.push(other.clone());
            }
        }
        networks.push((key.value.clone(), attachment));
    }
    Place::Networks(networks)
}

/// The LAN of the hosts.
struct Lan {
    subnet: Ipv4Net,
    gateway: Ipv4Addr,
    /// The network of the file that is on the LAN itself.
    of: Option<String>,
    /// Addresses for hosts, from the end of the LAN.
    free: Vec<Ipv4Addr>,
    /// The keys of all networks.
    networks: Vec<String>,
    /// The lab's name.
    lab: String,
}

/// The LAN's IPv6. `of` is the network that is on the LAN itself.
fn lan6(project: &Project, of: Option<&str>) -> Lan6 {
    // Hosts have two bytes of their own in it.
    let pool = of.and_then(|of| project.networks.get(of)?.v6().find(|(net, _)| net.prefix_len() <= 104));
    let of_its_own = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x56, 0, 0, 0, 0, 0, 0), 64);
    let subnet = pool.map_or(of_its_own, |(net, _)| net.trunc());
    let given = pool.and_then(|(_, pool)| match pool.gateway {
        Some(IpAddr::V6(gateway)) => Some(gateway),
        _ => None,
    });
    let gateway = given.unwrap_or_else(|| Ipv6Addr::from(u128::from(subnet.network()) + 1));
    // Docker gives addresses from the beginning.
    Lan6 { subnet, gateway, offset: if pool.is_some() { 0xff00 } else { 0 } }
}

fn lan(lab: &str, project: &Project, nodes: &[Node], options: &ImportOptions) -> Lan {
    let hosts = options.hosts;
    let on_lan = project.networks.iter().find(|(_, n)| {
        let untagged = parent(n).is_none_or(|p| !p.contains('.'));
        let l2 = n.options.iter().all(|(k, v)| k != "ipvlan_mode" || v == "l2");
        let large = n.v4().next().is_some_and(|(net, _)| net.prefix_len() <= 27);
        let of_lan = !options.swarm && matches!(n.driver.as_deref(), Some("macvlan" | "ipvlan"));
        of_lan && untagged && l2 && large && !n.internal
    });
    let overlaps = |lan: &Ipv4Net| {
        let mut subnets = project.networks.values().flat_map(ComposeNetwork::v4);
        subnets.any(|(s, _)| s.contains(lan) || lan.contains(&s))
    };
    let of_v4 = |ip: Option<IpAddr>| match ip {
        Some(IpAddr::V4(ip)) => Some(ip),
        _ => None,
    };
    let (subnet, gateway, of) = match on_lan.and_then(|(key, n)| Some((key, n.v4().next()?))) {
        Some((key, (subnet, pool))) => (subnet.trunc(), of_v4(pool.gateway), Some(key.clone())),
        None => {
            let all: Vec<Ipv4Net> = LANS.iter().filter_map(|l| l.parse().ok()).collect();
            (all.iter().find(|l| !overlaps(l)).or(all.first()).copied().unwrap_or_default(), None, None)
        }
    };
    let gateway = gateway.or_else(|| subnet.hosts().next()).unwrap_or(Ipv4Addr::UNSPECIFIED);
    let fixed = nodes.iter().flat_map(|n| match &n.place {
        Place::Networks(networks) => networks.iter().filter_map(|(_, a)| a.ipv4_address).collect(),
        _ => Vec::new(),
    });
    let pools = project.networks.values().flat_map(|n| &n.pools);
    let aux = pools.flat_map(|p| p.aux.iter().filter_map(|(_, a)| of_v4(Some(*a))));
    let taken: Vec<Ipv4Addr> = fixed.chain(aux).chain([gateway]).collect();
    let free = match of {
        // Docker gives addresses from the beginning.
        Some(_) => {
            let last = u32::from(subnet.broadcast());
            let all = (1..last - u32::from(subnet.network())).map(|back| Ipv4Addr::from(last - back));
            all.filter(|a| !taken.contains(a)).take(hosts + 1).collect()
        }
        None => {
            let first = u32::from(subnet.network());
            let host = (0..hosts).map(|i| Ipv4Addr::from(first + 11 + u32::try_from(i).unwrap_or(0)));
            [Ipv4Addr::from(first + 200)].into_iter().chain(host).collect()
        }
    };
    let networks = project.networks.keys().cloned().collect();
    Lan { subnet, gateway, of, free, networks, lab: lab.to_owned() }
}
