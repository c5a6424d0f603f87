//! Predicts facts: what is read of a lab rather than probed.

use std::collections::BTreeSet;

use ipnet::IpNet;
use labctl_dataplane::{
    net::{Interface, Link, Net},
    walk::Unknown,
};
use labctl_model::{Attach, Driver, Fact, Family, Must, Role, Subject, is_told};

use crate::{
    cell::{Agreement, Scene, subnets},
    names,
    state::{BRIDGE, HostState, Status},
};

/// What a subject is predicted to give.
struct Given {
    words: BTreeSet<String>,
    /// Whether there may be more, whose names Docker draws.
    more: bool,
}

impl Given {
    fn all(words: impl IntoIterator<Item = String>) -> Self {
        Self { words: words.into_iter().collect(), more: false }
    }
}

/// Whether a fact is as the lab expects it.
pub fn agreement(scene: &Scene<'_>, fact: &Fact) -> Agreement {
    let given = match read(scene, &fact.subject) {
        Ok(given) => given,
        Err(Unknown(why)) => return Agreement::Unknown(why),
    };
    let set = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>();
    let unsure = |holds: bool, why: &str| match holds {
        true => Agreement::Agrees,
        false => Agreement::Differs(why.to_owned()),
    };
    let list = given.words.iter().cloned().collect::<Vec<_>>().join(", ");
    match &fact.must {
        Must::Equal(_) | Must::Same(_) if given.more => {
            let other = match &fact.must {
                Must::Same(name) => same(scene, &fact.subject, name),
                _ => None,
            };
            // The names that Docker draws are those of one namespace.
            match other {
                Some(Ok(other)) if other.words == given.words && shares(scene, &fact.subject, &fact.must) => {
                    Agreement::Agrees
                }
                _ => Agreement::Unknown("names that Docker draws".to_owned()),
            }
        }
        Must::Equal(wanted) => unsure(set(wanted) == given.words, &format!("it is {list}")),
        Must::Contain(wanted) => unsure(set(wanted).is_subset(&given.words), &format!("it is {list}")),
        Must::Lack(wanted) => unsure(set(wanted).is_disjoint(&given.words), &format!("it is {list}")),
        Must::Inside(net) => {
            let inside = |w: &String| {
                w.parse::<IpNet>().is_ok_and(|n| net.contains(&n))
                    || w.parse().is_ok_and(|a: std::net::IpAddr| net.contains(&a))
            };
            unsure(!given.words.is_empty() && given.words.iter().all(inside), &format!("it is {list}"))
        }
        Must::Same(name) => match same(scene, &fact.subject, name) {
            Some(Ok(other)) => unsure(other.words == given.words, &format!("it is {list}")),
            Some(Err(Unknown(why))) => Agreement::Unknown(why),
            None => Agreement::Unknown("what it is compared with".to_owned()),
        },
        Must::Print(_) => Agreement::Unknown("what a command prints".to_owned()),
    }
}

fn same(scene: &Scene<'_>, subject: &Subject, other: &str) -> Option<Result<Given, Unknown>> {
    let other = match subject {
        Subject::Interfaces(_) => Subject::Interfaces(other.to_owned()),
        Subject::Addresses(_) => Subject::Addresses(other.to_owned()),
        Subject::Hosts(_) => Subject::Hosts(other.to_owned()),
        Subject::Networks(_) => Subject::Networks(other.to_owned()),
        Subject::Nodes(_) => Subject::Nodes(other.to_owned()),
        Subject::NetworkPeers { network, .. } => {
            let (named, host) = other.split_once('@').unwrap_or((network, other));
            Subject::NetworkPeers { network: named.to_owned(), host: host.to_owned() }
        }
        Subject::Resolves { name, .. } => {
            let (name, from) = other.rsplit_once('@').unwrap_or((name, other));
            Subject::Resolves { name: name.to_owned(), from: from.to_owned() }
        }
        _ => return None,
    };
    Some(read(scene, &other))
}

fn shares(scene: &Scene<'_>, subject: &Subject, must: &Must) -> bool {
    let (Subject::Interfaces(a) | Subject::Addresses(a), Must::Same(b)) = (subject, must) else {
        return false;
    };
    let spaces = &scene.built().spaces;
    spaces.get(a).is_some() && spaces.get(a) == spaces.get(b)
}

/// Whether an interface may have addresses of its own making.
fn is_advertised(net: &Net, interface: &Interface) -> bool {
    match &interface.link {
        Link::Wire(wire) => net.wires[*wire].advertised,
        Link::Macvlan(parent, _) | Link::Ipvlan(parent, ..) => is_advertised(net, net.at(*parent)),
        _ => false,
    }
}

fn read(scene: &Scene<'_>, subject: &Subject) -> Result<Given, Unknown> {
    let (state, built) = (scene.state(), scene.built());
    let unknown = |why: &str| Err(Unknown(why.to_owned()));
    let space = |name: &String| {
        let space = built.spaces.get(name).map(|ns| &built.net.spaces[*ns]);
        match space {
            None => Err(Unknown(format!("{name}, which does not run"))),
            Some(space) => match &space.unknown {
                Some(why) => Err(Unknown(why.clone())),
                None => Ok(space),
            },
        }
    };
    match subject {
        Subject::Interfaces(name) => {
            let space = space(name)?;
            // Docker draws the names of veths and of bridges that have none.
            let drawn = |n: &str| n.starts_with("veth") || n.starts_with("br-") || n.starts_with("dm-");
            let given = |n: &&str| !drawn(n) || named(scene, n);
            let names: Vec<&str> = space.interfaces.iter().map(|i| i.name.as_str()).collect();
            let words = names.iter().copied().filter(given).map(str::to_owned).collect();
            Ok(Given { words, more: names.iter().any(|n| !given(n)) })
        }
        Subject::Addresses(name) => {
            let space = space(name)?;
            let host = state.lab.host_of(name).and_then(|host| state.hosts.get(host));
            if let Some(why) = host.and_then(HostState::unknown_bridge) {
                return Err(Unknown(why));
            }
            if space.interfaces.iter().any(|i| is_advertised(&built.net, i)) {
                return unknown("addresses in the prefix that a router advertises");
            }
            let words = space.interfaces.iter().flat_map(|i| &i.addresses).map(|a| a.ip);
            let words = words.filter(|ip| is_told(*ip)).map(|ip| ip.to_string());
            let given = Given::all(words);
            let chosen = state
                .containers
                .get(name.as_str())
                .is_some_and(|c| c.networks.iter().any(|(k, a)| state.overlays.contains_key(k) && !a.fixed));
            // Which address the swarm gives differs; what a container has beside it does not.
            Ok(Given { more: chosen, ..given })
        }
        Subject::Hosts(name) => {
            let Some(described) = state.lab.containers.get(name) else {
                return unknown("a host's /etc/hosts");
            };
            if matches!(described.attach, Attach::Host | Attach::Container(_)) {
                return unknown("a shared /etc/hosts");
            }
            let links = described.links.iter().flat_map(|l| [l.alias.clone(), l.target.clone()]);
            let own = described.hostname.clone();
            let extra = described.run.extra_hosts.iter().flatten().map(|(name, _)| name.clone());
            let words = links.chain(own).chain(extra).chain(["localhost".to_owned()]).collect();
            Ok(Given { words, more: true })
        }
        Subject::Networks(host) => {
            let Some(now) = state.hosts.get(host.as_str()) else { return unknown("a host that is no more") };
            let local = now.networks.keys().filter(|k| *k != BRIDGE).cloned();
            let on = |key: &String| {
                let here = |c: &str| state.lab.containers.get(c).is_some_and(|c| c.host == *host);
                let mut containers =
                    state.containers.iter().filter(|(n, c)| here(n) && c.status == Status::Running);
                let manager = state.nodes.get(host).is_some_and(|n| n.role == Role::Manager);
                manager
                    || containers.any(|(_, c)| c.networks.contains_key(key))
                    || state.tasks().any(|t| t.host == *host && t.addresses.contains_key(key))
            };
            let mesh = state.lab.mesh().map_or(labctl_model::INGRESS, |(key, _)| key);
            let node = state.nodes.contains_key(host);
            let overlays = state.overlays.keys().filter(|k| node && (*k == mesh || on(k))).cloned();
            let name =
                |key: String| state.lab.networks.get(&key).map_or(key.clone(), |n| n.docker_name.clone());
            Ok(Given::all(local.chain(overlays).map(name)))
        }
        Subject::Subnets(key) => Ok(Given::all(subnets(state, key).iter().map(IpNet::to_string))),
        Subject::Status(name) => {
            let Some(c) = state.containers.get(name.as_str()) else {
                return unknown("a container that is none");
            };
            let described = state.lab.containers.get(name.as_str());
            let command = described.and_then(|c| c.command.first()).filter(|_| c.status == Status::Running);
            if let Some(command) = command {
                return unknown(&format!("how long `{command}` runs"));
            }
            let word = match c.status {
                Status::Absent => "absent",
                Status::Running => "running",
                Status::Exited => "exited",
            };
            Ok(Given::all([word.to_owned()]))
        }
        Subject::Exec { command, .. } => {
            unknown(&format!("what `{}` prints", command.argv.first().map_or("", String::as_str)))
        }
        Subject::Nodes(_) | Subject::NetworkPeers { .. } if scene.is_unsure() => {
            unknown("nodes that hear each other only one way")
        }
        Subject::Nodes(_) => {
            if let Some(why) = &state.swarm_unknown {
                return unknown(why);
            }
            Ok(Given::all(built.gossip.reports.iter().cloned()))
        }
        Subject::Tasks(service) => {
            let Some(s) = state.services.get(service) else { return Ok(Given::all([])) };
            Ok(Given::all(s.tasks.iter().map(|t| t.name.clone())))
        }
        Subject::NetworkPeers { network, host } => {
            let is_on = |node: &str| {
                let here = |c: &str| state.lab.containers.get(c).is_some_and(|c| c.host == node);
                let mut containers =
                    state.containers.iter().filter(|(n, c)| here(n) && c.status == Status::Running);
                containers.any(|(_, c)| c.networks.contains_key(network))
                    || state.tasks().any(|t| t.host == node && t.addresses.contains_key(network))
            };
            let known = state.nodes.iter().filter(|(n, _)| built.gossip.knows(host, n) && is_on(n));
            Ok(Given::all(known.map(|(_, n)| n.advertise.to_string())))
        }
        Subject::Resolves { name, from } => {
            let mut found = Vec::new();
            for family in Family::ALL {
                found.extend(names::resolve(state, built, from, name, family)?);
            }
            Ok(Given::all(found.iter().map(ToString::to_string)))
        }
    }
}

/// Whether the topology names this bridge.
fn named(scene: &Scene<'_>, interface: &str) -> bool {
    let networks = scene.state().lab.networks.values();
    let mut bridges = networks.filter(|n| n.driver == Driver::Bridge);
    bridges.any(|n| n.options.get("com.docker.network.bridge.name").is_some_and(|name| name == interface))
}
