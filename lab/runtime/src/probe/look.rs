//! Reads where everything is: each host's containers from its own dockerd, and the services from a manager. What does not
//! answer is taken to be as it was last seen.

use std::collections::BTreeMap;

use futures::future::{join_all, try_join_all};
use labctl_docker::services::TaskHere;
use labctl_machines::Error as MachineError;
use labctl_model::{Lab, Tools};
use labctl_protocol::messages::{Exec, Netns};
use labctl_report::{
    seen::{ContainerState, Seen},
    snapshot::{ServiceAt, Snapshot, TaskAt},
};

use crate::{Error, host::RunningHost, services, view::View};

/// What one host has.
#[derive(Clone, Default)]
pub struct Here {
    /// Containers of the topology, by name.
    pub containers: BTreeMap<String, ContainerState>,
    /// Tasks of services.
    pub tasks: Vec<(TaskHere, ContainerState)>,
}

/// Reads the state of every container. If a dockerd does not answer, what it said last counts, as far as it still runs; a
/// host that was never looked at is noted as such.
pub async fn snapshot(view: &View<'_>) -> Snapshot {
    let lab = view.lab;
    let (swarm, is_current) = match lab.services.is_empty() {
        true => (Seen::default(), false),
        false => services::look_or_recall(view).await,
    };
    let mut all = Snapshot {
        down: lab.hosts.keys().filter(|h| !view.hosts.contains_key(*h)).cloned().collect(),
        nodes: swarm.nodes.iter().filter(|n| n.ready).map(|n| n.host.clone()).collect(),
        ..Snapshot::default()
    };
    let mut tasks = Vec::new();
    let looks = view.hosts.values().map(|host| async move { (host.name.as_str(), look(view, host).await) });
    for (host, found) in join_all(looks).await {
        match found {
            Ok(here) => {
                all.containers.extend(here.containers);
                tasks.extend(here.tasks.into_iter().map(|(task, state)| (host, task, state)));
            }
            Err(error) => {
                all.unseen.insert(host.to_owned(), error.to_string());
            }
        }
    }
    // If two run in one place, as while one replaces the other, a manager says which counts; else the later one does.
    if is_current {
        let wanted = |id: &str| swarm.tasks.iter().any(|t| t.task.running && t.task.id == id);
        tasks.retain(|(_, task, _)| wanted(&task.id));
    }
    tasks.sort_by_key(|(_, task, _)| task.created);
    for (host, task, state) in tasks {
        let name = task.name(host);
        all.containers.insert(name.clone(), state);
        all.tasks.insert(name, TaskAt { service: task.service, host: host.to_owned() });
    }
    // For a host that cannot be looked at, only the manager's word is known.
    for task in swarm.tasks.into_iter().filter(|t| t.task.running) {
        if let Some(host) = task.host.filter(|host| all.unseen.contains_key(host)) {
            all.tasks.entry(task.name).or_insert(TaskAt { service: task.service, host });
        }
    }
    all.services = swarm
        .services
        .into_iter()
        .map(|s| (s.name, ServiceAt { addresses: s.addresses, ports: s.ports, dnsrr: s.dnsrr }))
        .collect();
    all
}

/// Reads what a host has; of its processes, if its dockerd does not answer.
///
/// # Errors
/// The dockerd does not answer and never did, or the agent does not answer either.
pub async fn look(view: &View<'_>, host: &RunningHost) -> Result<Here, Error> {
    match look_at(view.lab, host).await {
        Ok(here) => {
            view.hosts.remember_containers(&host.name, &here);
            Ok(here)
        }
        Err(error) => match view.hosts.last_containers(&host.name) {
            Some(here) => still_running(host, here).await,
            None => Err(error),
        },
    }
}

/// What is left of the containers that a host had: a process is still a container's if it is in the cgroup that runc made
/// for it, which has its id in its name. Networks are taken to be as they were.
async fn still_running(host: &RunningHost, mut here: Here) -> Result<Here, Error> {
    let mut states: Vec<&mut ContainerState> =
        here.containers.values_mut().chain(here.tasks.iter_mut().map(|(_, state)| state)).collect();
    states.retain(|state| state.pid.is_some());
    let files = states.iter().filter_map(|s| Some(format!("/proc/{}/cgroup", s.pid?)));
    // With the file's name before each line, also if there is only one.
    let argv = ["grep", "-H", ""].map(str::to_owned).into_iter().chain(files).collect();
    let env = [("LC_ALL".to_owned(), "C".to_owned())].into();
    let exec = Exec { argv, netns: Netns::Host, tools: Tools::Own, tty: None, env };
    let printed =
        host.agent.exec(exec).await.map_err(host.failed())?.output().await.map_err(host.failed())?;
    let [found, told] = [&printed.stdout, &printed.stderr].map(|octets| String::from_utf8_lossy(octets));
    for state in states {
        let Some(pid) = state.pid else { continue };
        match is_in_cgroup(pid, &state.id, &found, &told) {
            Ok(true) => {}
            Ok(false) => (state.pid, state.status) = (None, "exited".to_owned()),
            Err(why) => {
                let why = format!("whether process {pid} is still a container's is not known: {why}");
                return Err(MachineError::Agent { host: host.name.clone(), why }.into());
            }
        }
    }
    Ok(here)
}

/// Whether a process is in a container's cgroup, by what grep has printed of the cgroups and told of files that it could not
/// read. A process that is gone is not.
///
/// # Errors
/// Its cgroup could not be read: why.
fn is_in_cgroup(pid: u32, id: &str, found: &str, told: &str) -> Result<bool, String> {
    let file = format!("/proc/{pid}/cgroup");
    let names_it = |line: &&str| line.contains(&format!("{file}:"));
    let mut lines = found.lines().filter(names_it).peekable();
    if lines.peek().is_some() {
        return Ok(lines.any(|line| line.contains(id)));
    }
    match told.lines().find(names_it) {
        Some(line) if line.contains("No such file") || line.contains("No such process") => Ok(false),
        Some(line) => Err(line.to_owned()),
        None => Err(format!("grep says nothing of {file}")),
    }
}

async fn look_at(lab: &Lab, host: &RunningHost) -> Result<Here, Error> {
    let names: Vec<&str> = lab.containers_on(&host.name).map(|(name, _)| name).collect();
    if names.is_empty() && lab.services.is_empty() {
        return Ok(Here::default());
    }
    host.docker.ping().await?;
    let states = names.into_iter().map(|name| async move {
        let state = host.docker.state(name).await?;
        Ok::<_, Error>((name.to_owned(), state))
    });
    let containers = try_join_all(states).await?.into_iter().collect();
    let tasks = match lab.services.is_empty() {
        true => Vec::new(),
        false => host.docker.tasks_here().await?,
    };
    let of_lab = tasks.into_iter().filter(|task| lab.services.contains_key(&task.service));
    let states = of_lab.map(|task| async move {
        let state = host.docker.state(&task.container).await?;
        Ok::<_, Error>((task, state))
    });
    Ok(Here { containers, tasks: try_join_all(states).await? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_is_gone_or_elsewhere_is_no_containers() {
        let found = "/proc/12/cgroup:0::/system.slice/docker-abc.scope\n/proc/123/cgroup:0::/init.scope\n";
        let told = "grep: /proc/13/cgroup: No such file or directory\ngrep: /proc/14/cgroup: No such process\n\
                    grep: /proc/15/cgroup: Permission denied\n";
        for (pid, is) in [
            (12, Ok(true)),
            (123, Ok(false)),
            (13, Ok(false)),
            (14, Ok(false)),
            (15, Err("grep: /proc/15/cgroup: Permission denied")),
            (1, Err("grep says nothing of /proc/1/cgroup")),
        ] {
            assert_eq!(is_in_cgroup(pid, "abc", found, told), is.map_err(str::to_owned), "{pid}");
        }
    }
}
