//! Facts: what is read of a running lab rather than probed.

use labctl_machines::Error as MachineError;
use labctl_model::{Fact, Family, Subject, is_told};
use labctl_protocol::messages::{
    Endpoint, Netns, Outcome, ProbeSession, Shot, ShotKind, ShotResult, ShotTarget,
};
use labctl_report::{FactReport, facts, seen::docker_name};

use crate::{Error, exec, services, swarm, view::View};

/// Reads a fact and reports whether it is as it must be.
pub async fn check(view: &View<'_>, fact: &Fact) -> FactReport {
    let read = read(view, &fact.subject).await;
    let same = match facts::other(fact) {
        Some(other) => self::read(view, &other).await,
        None => Ok(Vec::new()),
    };
    facts::judge(fact, read.map_err(|e| e.to_string()), same.map_err(|e| e.to_string()))
}

async fn read(view: &View<'_>, subject: &Subject) -> Result<Vec<String>, Error> {
    let mut list = match subject {
        Subject::Interfaces(endpoint) => {
            let (host, netns) = exec::place(view, endpoint).await?;
            host.agent.facts(netns).await.map_err(host.failed())?.interfaces
        }
        Subject::Addresses(endpoint) => {
            let (host, netns) = exec::place(view, endpoint).await?;
            let facts = host.agent.facts(netns).await.map_err(host.failed())?;
            let addresses = facts.addresses.into_iter().map(|(_, net)| net.addr());
            addresses.filter(|address| is_told(*address)).map(|address| address.to_string()).collect()
        }
        Subject::Hosts(container) => {
            let (host, netns) = exec::place(view, container).await?;
            match netns {
                Netns::Pid(pid) => host.agent.hosts_file(pid).await.map_err(host.failed())?,
                Netns::Host => host.agent.hosts_file(1).await.map_err(host.failed())?,
            }
        }
        Subject::Networks(name) => view.host(name)?.docker.network_names().await?,
        Subject::Subnets(network) => subnets(view, network).await?,
        Subject::Exec { command, exits } => return exec::run(view, command).await?.lines(*exits),
        Subject::Status(container) => {
            vec![view.home(container)?.docker.state(container).await?.status]
        }
        Subject::Nodes(name) => {
            let nodes = swarm::soon(view.host(name)?.docker.nodes()).await?;
            nodes.into_iter().filter(|n| n.ready).map(|n| n.host).collect()
        }
        Subject::Tasks(service) => {
            let tasks = swarm::soon(services::look(view)).await?.tasks.into_iter();
            tasks.filter(|t| t.service == *service && t.task.running).map(|t| t.name).collect()
        }
        Subject::NetworkPeers { network, host: name } => {
            view.host(name)?.docker.network_peers(docker_name(view.lab, network)).await?
        }
        Subject::Resolves { name, from } => resolve(view, name, from).await?,
    };
    list.sort();
    list.dedup();
    Ok(list)
}

async fn subnets(view: &View<'_>, key: &str) -> Result<Vec<String>, Error> {
    let name = docker_name(view.lab, key);
    let mut silent = None;
    for host in view.hosts.values() {
        match host.docker.subnets(name).await {
            Ok(Some(subnets)) => return Ok(subnets.iter().map(ToString::to_string).collect()),
            Ok(None) => {}
            Err(error) => silent = Some(error),
        }
    }
    // A host that did not answer may be the one that has it.
    silent.map_or(Ok(Vec::new()), |error| Err(error.into()))
}

/// How long each name server of an endpoint is waited for, in ms.
const LOOK_UP_MS: u32 = 5000;

/// The addresses that a name resolves to for an endpoint: a probe session of one endpoint, which only looks up.
async fn resolve(view: &View<'_>, name: &str, from: &str) -> Result<Vec<String>, Error> {
    let (host, netns) = exec::place(view, from).await?;
    let pid = match netns {
        Netns::Pid(pid) => Some(pid),
        Netns::Host => None,
    };
    let endpoints = vec![Endpoint { name: from.to_owned(), netns, pid }];
    let session = ProbeSession { run: rand::random(), endpoints, listeners: Vec::new() };
    let mut client = host.agent.probe(session).await.map_err(host.failed())?;
    let shot = |(cell, family)| Shot {
        cell,
        from: from.to_owned(),
        kind: ShotKind::Dns,
        size: 0,
        to: ShotTarget::Name(name.to_owned(), family),
        relayed: false,
    };
    let shots = (0..).zip(Family::ALL).map(shot).collect();
    let results = client.fire(shots, LOOK_UP_MS).await.map_err(host.failed())?;
    let mut found = Vec::new();
    for ShotResult { outcome, resolved, .. } in results {
        if let Outcome::Failed { why } = outcome {
            return Err(MachineError::Agent { host: host.name.clone(), why }.into());
        }
        found.extend(resolved.iter().map(ToString::to_string));
    }
    Ok(found)
}
