//! Facts: what is read of a running lab rather than probed.

use labctl_model::{Fact, Lab, Subject};
use labctl_protocol::messages::Netns;
use labctl_report::{FactReport, facts, seen::docker_name};

use crate::{
    Error, exec,
    hosts::{Hosts, host},
    services, swarm,
};

/// Reads a fact and reports whether it is as it must be.
pub async fn check(lab: &Lab, hosts: &Hosts, fact: &Fact) -> FactReport {
    let read = read(lab, hosts, &fact.subject).await;
    let same = match facts::other(fact) {
        Some(other) => self::read(lab, hosts, &other).await,
        None => Ok(Vec::new()),
    };
    facts::judge(fact, read.map_err(|e| e.to_string()), same.map_err(|e| e.to_string()))
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
    silent.map_or(Ok(Vec::new()), |error| Err(error.into()))
}
