//! Reads where everything is: each host's containers from its own dockerd, and the services from a manager. What does not
//! answer is taken to be as it was last seen.

use std::collections::{BTreeMap, HashMap};

use futures::future::{join_all, try_join_all};
use labctl_docker::services::TaskHere;
use labctl_model::Lab;
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

impl Here {
    /// Processes of its containers, each with the container's id.
    fn processes(&self) -> Vec<(u32, String)> {
        let states = self.containers.values().chain(self.tasks.iter().map(|(_, state)| state));
        states.filter_map(|s| Some((s.pid?, s.id.clone()))).collect()
    }
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
    let last = view.hosts.last_containers(&host.name);
    match look_at(view.lab, host, last.as_ref()).await {
        Ok(here) => {
            view.hosts.remember_containers(&host.name, &here);
            Ok(here)
        }
        Err(error) => match last {
            Some(here) => still_running(host, here).await,
            None => Err(error),
        },
    }
}

/// What is left of the containers that a host had. Networks are taken to be as they were.
async fn still_running(host: &RunningHost, mut here: Here) -> Result<Here, Error> {
    let processes = here.processes();
    let still = host.agent.in_containers(processes.clone()).await.map_err(host.failed())?;
    let gone = |state: &ContainerState| {
        processes
            .iter()
            .zip(&still)
            .any(|((pid, id), still)| !still && (Some(*pid), id) == (state.pid, &state.id))
    };
    for state in here.containers.values_mut().chain(here.tasks.iter_mut().map(|(_, state)| state)) {
        if gone(state) {
            (state.pid, state.status) = (None, "exited".to_owned());
        }
    }
    Ok(here)
}

async fn look_at(lab: &Lab, host: &RunningHost, last: Option<&Here>) -> Result<Here, Error> {
    let names: Vec<&str> = lab.containers_on(&host.name).map(|(name, _)| name).collect();
    if names.is_empty() && lab.services.is_empty() {
        return Ok(Here::default());
    }
    host.docker.ping().await?;
    let listed = match last {
        // If something goes wrong, each is asked for.
        Some(last) => listed(host, last).await.unwrap_or_default(),
        None => HashMap::new(),
    };
    let state = async |name: &str| match listed.get(name) {
        Some(state) => Ok(state.clone()),
        None => host.docker.state(name).await,
    };
    let states = names.into_iter().map(async |name| Ok::<_, Error>((name.to_owned(), state(name).await?)));
    let containers = try_join_all(states).await?.into_iter().collect();
    let tasks = match lab.services.is_empty() {
        true => Vec::new(),
        false => host.docker.tasks_here().await?,
    };
    let of_lab = tasks.into_iter().filter(|task| lab.services.contains_key(&task.service));
    let states = of_lab.map(async |task| {
        let state = state(&task.container).await?;
        Ok::<_, Error>((task, state))
    });
    Ok(Here { containers, tasks: try_join_all(states).await? })
}

/// Running containers that need not be asked for one by one, by name and by id. One list has all of their state but the
/// process, which is the one of the last look if that is still in the container.
async fn listed(host: &RunningHost, last: &Here) -> Result<HashMap<String, ContainerState>, Error> {
    let processes = last.processes();
    if processes.is_empty() {
        return Ok(HashMap::new());
    }
    let running = host.docker.running().await?;
    let still = host.agent.in_containers(processes.clone()).await.map_err(host.failed())?;
    let known: HashMap<String, u32> = processes
        .into_iter()
        .zip(still)
        .filter_map(|((pid, id), still)| still.then_some((id, pid)))
        .collect();
    let with_process = running.into_iter().filter_map(|(names, state)| {
        let state = ContainerState { pid: Some(*known.get(&state.id)?), ..state };
        Some(names.into_iter().chain([state.id.clone()]).map(move |name| (name, state.clone())))
    });
    Ok(with_process.flatten().collect())
}
