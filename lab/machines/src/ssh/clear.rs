//! Removes what a lab has made on machines that are not labctl's own: what is labelled and what is noted, and no more.

use std::{net::IpAddr, path::Path, time::Duration};

use futures::future::join_all;
use labctl_docker::HostDocker;
use labctl_protocol::{
    client::AgentClient,
    made::{Made, Notes},
    polling::Polling,
};
use labctl_state::{LabDir, Machines, Runtime, SshMachine};

use super::{
    connection::{Connection, foreign, was_touched},
    preflight::Dockerd,
};
use crate::Error;

/// How long dockerd may take to let go of a swarm's networks after it has left.
const LET_GO: Duration = Duration::from_secs(15);
/// Pause between two attempts.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Removes what the lab of this folder has left on its machines. Returns what could not be removed.
pub async fn sweep(dir: &LabDir) -> Vec<String> {
    let Ok(plan) = dir.plan() else { return Vec::new() };
    let (Runtime::Ssh, Some(machines)) = (plan.runtime, &plan.machines) else { return Vec::new() };
    let owner = owner(dir);
    let used = machines
        .hosts
        .iter()
        .filter(|(host, _)| plan.lab.hosts.contains_key(*host) && was_touched(&dir.host(host)));
    let cleared = used.map(async |(host, machine)| {
        let cleared = clear(host, machine, &plan.lab.name, &plan.agent, &dir.host(host), Some(&owner)).await;
        told(host, machine, &plan.lab.name, &machines.file, cleared)
    });
    join_all(cleared).await.into_iter().flatten().collect()
}

/// Removes what a lab of this name has left on these machines, whoever made it. Returns what could not be removed.
///
/// # Errors
/// There is no room for the sockets of ssh.
pub async fn sweep_machines(machines: &Machines, lab: &str, agent: &Path) -> Result<Vec<String>, Error> {
    let tmp = tempfile::tempdir().map_err(Error::io("cannot make a folder in", std::env::temp_dir()))?;
    let cleared = machines.hosts.iter().enumerate().map(async |(index, (host, machine))| {
        let dir = tmp.path().join(index.to_string());
        told(host, machine, lab, &machines.file, clear(host, machine, lab, agent, &dir, None).await)
    });
    Ok(join_all(cleared).await.into_iter().flatten().collect())
}

fn told(
    host: &str,
    machine: &SshMachine,
    lab: &str,
    file: &Path,
    cleared: Result<Vec<String>, Error>,
) -> Vec<String> {
    let left = match cleared {
        Ok(left) => left,
        Err(Error::Machine { why, .. } | Error::Agent { why, .. }) => vec![why],
        Err(e) => vec![e.to_string()],
    };
    let again = format!("hint: `labctl down {lab} --machines {}` tries again", file.display());
    left.into_iter().map(|why| format!("{host} ({}): {why}\n{again}", machine.ssh)).collect()
}

/// Whose lab it is, for people who find it on a machine.
pub(super) fn owner(dir: &LabDir) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let user = user.map_or_else(|| nix::unistd::getuid().to_string(), |user| user.name);
    let name = nix::sys::utsname::uname().map(|u| u.nodename().to_string_lossy().into_owned());
    format!("{user}@{}:{}", name.unwrap_or_default(), dir.path().display())
}

/// Removes what a lab has left there: that of this owner, or of whoever made it.
async fn clear(
    host: &str,
    machine: &SshMachine,
    lab: &str,
    agent: &Path,
    dir: &Path,
    owner: Option<&str>,
) -> Result<Vec<String>, Error> {
    let connection = Connection::open(host, machine, foreign(lab), agent, dir).await?;
    let cleared = clear_over(&connection, host, lab, dir, owner).await;
    let removed = match &cleared {
        Ok(left) if left.is_empty() => connection.remove_agent().await,
        // With its notes, for the next attempt.
        _ => Ok(()),
    };
    connection.close().await;
    let mut left = cleared?;
    left.extend(removed.err().map(|why| format!("the agent: {why}")));
    Ok(left)
}

async fn clear_over(
    connection: &Connection,
    host: &str,
    lab: &str,
    dir: &Path,
    owner: Option<&str>,
) -> Result<Vec<String>, Error> {
    let failed = Error::agent(host);
    let agent = AgentClient::dial(connection.dial()).await.map_err(&failed)?;
    let notes = agent.notes().await.map_err(&failed)?;
    // Notes begin before anything is made. Another one's lab of this name stays.
    if owner.is_some_and(|owner| notes.as_ref().is_none_or(|notes| notes.owner != owner)) {
        return Ok(Vec::new());
    }
    let made = notes.clone().unwrap_or_default();
    let mut left = match Dockerd::of(host, &agent, dir).await {
        Ok(dockerd) => clear_docker(&dockerd.docker, lab, &made).await?,
        Err(e) => vec![format!("containers and networks may be left: {e}")],
    };
    if notes.is_some() {
        left.extend(agent.undo().await.map_err(&failed)?);
        if left.is_empty() {
            agent.end_notes().await.map_err(&failed)?;
        }
    }
    Ok(left)
}

/// Removes what dockerd there has of the lab. Returns what could not be removed.
async fn clear_docker(docker: &HostDocker, lab: &str, notes: &Notes) -> Result<Vec<String>, Error> {
    let mut left = docker.clear_containers(lab).await?;
    let swarm = notes.made.iter().find_map(|made| match made {
        Made::Swarm(addresses) => Some(addresses),
        _ => None,
    });
    if let Some(addresses) = swarm {
        left.extend(leave(docker, addresses).await?);
    }
    left.extend(docker.clear_networks(lab).await?);
    for made in notes.made.iter().rev() {
        let removed = match made {
            Made::Network(name) => {
                let wait = Polling::new(LET_GO, TRY_AGAIN);
                loop {
                    let removed = docker.remove_network_if_there(name).await;
                    if removed.is_ok() || !wait.again().await {
                        break removed;
                    }
                }
            }
            Made::Image(name) => docker.remove_image(name).await,
            _ => Ok(()),
        };
        left.extend(removed.err().map(|e| e.to_string()));
    }
    Ok(left)
}

/// Leaves the lab's swarm. One that somebody else has joined this machine to since has other managers.
async fn leave(docker: &HostDocker, nodes: &[IpAddr]) -> Result<Option<String>, Error> {
    let info = docker.api.info().await.map_err(docker.failed("info"))?;
    if docker.swarm_state().await?.starts_with("inactive") {
        return Ok(None);
    }
    let managers = info.swarm.and_then(|s| s.remote_managers).unwrap_or_default();
    let address = |addr: &str| addr.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip());
    let strange = managers
        .into_iter()
        .filter_map(|m| m.addr)
        .find(|addr| !address(addr).is_some_and(|ip| nodes.contains(&ip)));
    match strange {
        Some(addr) => {
            Ok(Some(format!("it is in a swarm whose manager is at {addr}, not the lab's, and stays there")))
        }
        None => {
            docker.leave_swarm().await?;
            Ok(None)
        }
    }
}
