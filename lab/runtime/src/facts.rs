//! Facts: what is read of a running lab rather than probed.

use std::net::Ipv4Addr;

use labctl_model::{Command, Fact, Lab, Must, Subject};
use labctl_protocol::messages::Netns;

use crate::{
    Error,
    docker::containers::docker_name,
    exec,
    hosts::{Hosts, host},
    report::FactReport,
    services, swarm,
};

/// Reads a fact and reports whether it is as it must be.
pub async fn check(lab: &Lab, hosts: &Hosts, fact: &Fact) -> FactReport {
    let read = read(lab, hosts, &fact.subject).await;
    let same = match &fact.must {
        Must::Same(other) => self::read(lab, hosts, &about(&fact.subject, other)).await,
        _ => Ok(Vec::new()),
    };
    let (observed, error) = match (read, same) {
        (Ok(list), Ok(same)) => return report(fact, holds(&list, &fact.must, &same), list, None),
        (Ok(list), Err(e)) => (list, e),
        (Err(e), _) => (Vec::new(), e),
    };
    report(fact, false, observed, Some(format!("could not be read: {error}")))
}

fn report(fact: &Fact, holds: bool, observed: Vec<String>, error: Option<String>) -> FactReport {
    FactReport {
        subject: subject_words(&fact.subject),
        expected: must_words(&fact.must),
        observed,
        printed: matches!(fact.subject, Subject::Exec { .. }),
        holds,
        error,
        check: 0,
        step: None,
        line: fact.line,
    }
}

fn holds(list: &[String], must: &Must, same: &[String]) -> bool {
    let equal = |wanted: &[String]| {
        let sorted = |l: &[String]| l.iter().cloned().collect::<std::collections::BTreeSet<_>>();
        sorted(list) == sorted(wanted)
    };
    match must {
        Must::Equal(wanted) => equal(wanted),
        Must::Same(_) => equal(same),
        Must::Print(text) => list.join("\n").contains(text),
        Must::Contain(wanted) => wanted.iter().all(|w| list.contains(w)),
        Must::Lack(unwanted) => !unwanted.iter().any(|w| list.contains(w)),
        Must::Inside(outer) => {
            !list.is_empty()
                && list.iter().all(|item| match item.parse::<ipnet::Ipv4Net>() {
                    Ok(net) => outer.contains(&net),
                    Err(_) => item.parse::<Ipv4Addr>().is_ok_and(|a| outer.contains(&a)),
                })
        }
    }
}

async fn read(lab: &Lab, hosts: &Hosts, subject: &Subject) -> Result<Vec<String>, Error> {
    let mut list = match subject {
        Subject::Interfaces(endpoint) => {
            let (host, netns) = exec::place(lab, hosts, endpoint).await?;
            host.agent.facts(netns).await.map_err(host.failed())?.interfaces
        }
        Subject::Addresses(endpoint) => {
            let (host, netns) = exec::place(lab, hosts, endpoint).await?;
            let facts = host.agent.facts(netns).await.map_err(host.failed())?;
            facts.addresses.into_iter().map(|(_, net)| net.addr().to_string()).collect()
        }
        Subject::Hosts(container) => {
            let (host, netns) = exec::place(lab, hosts, container).await?;
            match netns {
                Netns::Pid(pid) => host.agent.hosts_file(pid).await.map_err(host.failed())?,
                Netns::Host => host.agent.hosts_file(1).await.map_err(host.failed())?,
            }
        }
        Subject::Networks(name) => host(hosts, name)?.docker.network_names().await?,
        Subject::Subnets(network) => subnets(lab, hosts, network).await?,
        Subject::Exec { command, exits } => return exec::run(lab, hosts, command).await?.lines(*exits),
        Subject::Status(container) => {
            let home = lab.containers.get(container).map_or("", |c| c.host.as_str());
            vec![host(hosts, home)?.docker.state(container).await?.status]
        }
        Subject::Nodes(name) => {
            let nodes = swarm::soon(host(hosts, name)?.docker.nodes()).await?;
            nodes.into_iter().filter(|n| n.ready).map(|n| n.host).collect()
        }
        Subject::Tasks(service) => {
            let tasks = swarm::soon(services::look(lab, hosts)).await?.tasks.into_iter();
            tasks.filter(|t| t.service == *service && t.task.running).map(|t| t.name).collect()
        }
        Subject::NetworkPeers { network, host: name } => {
            host(hosts, name)?.docker.network_peers(docker_name(lab, network)).await?
        }
    };
    list.sort();
    list.dedup();
    Ok(list)
}

async fn subnets(lab: &Lab, hosts: &Hosts, key: &str) -> Result<Vec<String>, Error> {
    let name = docker_name(lab, key);
    let mut silent = None;
    for host in hosts.values() {
        match host.docker.subnets(name).await {
            Ok(Some(subnets)) => return Ok(subnets.iter().map(ToString::to_string).collect()),
            Ok(None) => {}
            Err(error) => silent = Some(error),
        }
    }
    // A host that did not answer may be the one that has it.
    silent.map_or(Ok(Vec::new()), Err)
}

/// The same subject of another endpoint.
fn about(subject: &Subject, other: &str) -> Subject {
    let other = other.to_owned();
    match subject {
        Subject::Interfaces(_) => Subject::Interfaces(other),
        Subject::Addresses(_) => Subject::Addresses(other),
        Subject::Hosts(_) => Subject::Hosts(other),
        Subject::Networks(_) => Subject::Networks(other),
        Subject::Subnets(_) => Subject::Subnets(other),
        Subject::Status(_) => Subject::Status(other),
        Subject::Exec { command, exits } => {
            let command = Command { place: other, ..command.clone() };
            Subject::Exec { command, exits: *exits }
        }
        Subject::Nodes(_) => Subject::Nodes(other),
        Subject::Tasks(_) => Subject::Tasks(other),
        Subject::NetworkPeers { .. } => {
            let (network, host) = other.split_once('@').unwrap_or((&other, ""));
            Subject::NetworkPeers { network: network.to_owned(), host: host.to_owned() }
        }
    }
}

fn subject_words(subject: &Subject) -> String {
    match subject {
        Subject::Interfaces(e) => format!("interfaces of {e}"),
        Subject::Addresses(e) => format!("addresses of {e}"),
        Subject::Hosts(e) => format!("names in /etc/hosts of {e}"),
        Subject::Networks(h) => format!("networks of {h}"),
        Subject::Subnets(n) => format!("subnets of network {n}"),
        Subject::Status(c) => format!("status of {c}"),
        Subject::Exec { command, .. } => command.to_string(),
        Subject::Tasks(s) => format!("running tasks of {s}"),
        Subject::Nodes(h) => format!("ready nodes as {h} sees them"),
        Subject::NetworkPeers { network, host } => format!("peers on {network} as {host} knows them"),
    }
}

fn must_words(must: &Must) -> String {
    match must {
        Must::Equal(l) if l.is_empty() => "none".to_owned(),
        Must::Equal(l) => format!("equals {}", l.join(", ")),
        Must::Contain(l) => format!("contains {}", l.join(", ")),
        Must::Lack(l) => format!("lacks {}", l.join(", ")),
        Must::Inside(net) => format!("inside {net}"),
        Must::Same(other) => format!("same as {other}"),
        Must::Print(text) if text.is_empty() => "ends as it should".to_owned(),
        Must::Print(text) => format!("prints {text}"),
    }
}
