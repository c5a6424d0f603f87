//! Creates, changes and removes services of a lab, waits for them, and reads them from a manager.

mod reasons;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use labctl_docker::Error as DockerError;
use labctl_machines::Events;
use labctl_model::ServiceChange;
use labctl_protocol::polling::Polling;
use labctl_report::{
    count,
    seen::{Seen, TaskSeen, UpdateSeen},
    services::{lacks, misplaced, missing, named},
};

use crate::{Error, swarm, view::View};
pub use reasons::explain;

/// How long tasks may take to run: without KVM a container takes seconds, and a drained node's tasks are made anew.
const RUNNING: Duration = Duration::from_secs(180);

/// Pause between two looks at the tasks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Creates the services of a lab and waits until their tasks run.
///
/// # Errors
/// Docker's refusals; tasks that do not run in time, each with its state.
pub async fn create(view: &View<'_>, events: &Events) -> Result<(), Error> {
    let names: Vec<&str> =
        view.lab.services.iter().filter(|(_, s)| !s.deferred).map(|(n, _)| n.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    events.phase(format!("creating {}", count(names.len(), "service")));
    let (manager, _) = swarm::manager(view).await?;
    for name in &names {
        let created = manager.docker.create_service(view.lab, name, view.service(name)?).await;
        created.map_err(Error::at(view.lab.lines.services.get(*name)))?;
    }
    let whole = |name: &str, seen: &Seen| lacks(name, seen).is_none();
    wait(view, &names, None, Some(events), whole).await
}

/// Creates one service and waits until its tasks run.
///
/// # Errors
/// Those of [`create`].
pub async fn create_one(view: &View<'_>, name: &str, within: Option<Duration>) -> Result<(), Error> {
    swarm::manager(view).await?.0.docker.create_service(view.lab, name, view.service(name)?).await?;
    let whole = |name: &str, seen: &Seen| lacks(name, seen).is_none();
    wait(view, &[name], within, None, whole).await
}

/// Changes a service, and waits until Docker has replaced the tasks it must and all run.
///
/// # Errors
/// Docker's refusal, also if it gives the update up half-way; tasks that do not run in time, each with its state.
pub async fn update(
    view: &View<'_>,
    name: &str,
    change: &ServiceChange,
    within: Option<Duration>,
) -> Result<(), Error> {
    let (manager, _) = swarm::manager(view).await?;
    let id = manager.docker.service_id(name).await?;
    let replaces = manager.docker.update_service(view.lab, name, change).await?;
    let began = Instant::now();
    let whole = |name: &str, seen: &Seen| {
        let Some(service) = seen.service(name) else { return false };
        let through = match &service.update {
            Some(UpdateSeen::Completed) => true,
            Some(UpdateSeen::UnderWay | UpdateSeen::Stopped(_)) => false,
            // Docker drops the status of an earlier update, and has none until this one begins.
            None => !replaces,
        };
        through && lacks(name, seen).is_none() && !misplaced(service, seen)
    };
    wait(view, &[name], within, None, whole).await?;
    wait_ended(view, name, &id, began, within.unwrap_or(RUNNING)).await
}

/// Removes a service, and waits until its tasks have ended.
///
/// # Errors
/// Docker's refusals; tasks that do not end in time.
pub async fn remove(view: &View<'_>, name: &str) -> Result<(), Error> {
    let (manager, _) = swarm::manager(view).await?;
    let id = manager.docker.service_id(name).await?;
    manager.docker.remove_service(name).await?;
    wait_ended(view, name, &id, Instant::now(), RUNNING).await
}

/// Waits until the tasks of a service that must end have ended: Docker stops counting them at once, while their
/// containers still answer. Tasks on nodes that are down are not waited for, since nobody ends them.
async fn wait_ended(
    view: &View<'_>,
    name: &str,
    id: &str,
    began: Instant,
    within: Duration,
) -> Result<(), Error> {
    let wait = Polling::since(began, within, LOOK_AGAIN);
    loop {
        let left = match ending(view, name, id).await {
            Ok(left) if left.is_empty() => return Ok(()),
            Err(error) if !error.is_transient() => return Err(error),
            looked => looked,
        };
        if !wait.again().await {
            let missing = format!("service {name} has tasks that do not end: {}", left?.join(", "));
            return Err(Error::Tasks { after_s: within.as_secs(), missing });
        }
    }
}

/// Tasks of a service that must end but have not, on ready nodes, as `web.2 on host1`.
async fn ending(view: &View<'_>, name: &str, id: &str) -> Result<Vec<String>, Error> {
    let (manager, nodes) = swarm::manager(view).await?;
    let tasks = manager.docker.ending_tasks(id).await?;
    let on = |task: TaskSeen| {
        let node = nodes.iter().find(|n| n.id == task.node && n.ready)?;
        let part = task.slot.map_or_else(|| node.host.clone(), |slot| slot.to_string());
        Some(format!("{name}.{part} on {}", node.host))
    };
    Ok(tasks.into_iter().filter_map(on).collect())
}

/// Waits until `whole` holds for each of these services.
async fn wait(
    view: &View<'_>,
    names: &[&str],
    within: Option<Duration>,
    events: Option<&Events>,
    whole: impl Fn(&str, &Seen) -> bool,
) -> Result<(), Error> {
    let within = within.unwrap_or(RUNNING);
    let poll = Polling::new(within, LOOK_AGAIN);
    let mut told = BTreeSet::new();
    loop {
        let seen = match look(view).await {
            Err(error) if error.is_transient() && !poll.is_over() => {
                poll.pause().await;
                continue;
            }
            seen => seen?,
        };
        for t in seen.tasks.iter().filter(|t| t.task.running && names.contains(&t.service.as_str())) {
            if let (Some(events), Some(host), true) = (events, &t.host, told.insert(t.name.clone())) {
                events.host(host, format!("{} runs", t.name));
            }
        }
        let waiting: Vec<&str> = names.iter().copied().filter(|n| !whole(n, &seen)).collect();
        let Some(first) = waiting.first() else { return Ok(()) };
        let stopped = waiting.iter().find_map(|name| match &seen.service(name)?.update {
            Some(UpdateSeen::Stopped(why)) => Some((name, why.clone())),
            _ => None,
        });
        if let Some((name, why)) = stopped {
            let reasons = reasons::read(view, &seen, &[name]).await;
            let said = reasons.of_service(name, &seen);
            let message = if said.is_empty() { why } else { format!("{why} ({said})") };
            let (manager, _) = swarm::manager(view).await?;
            let what = format!("update service {name}");
            return Err(DockerError::Refused { host: manager.name.clone(), what, message }.into());
        }
        if !poll.again().await {
            let reasons = reasons::read(view, &seen, &waiting).await;
            let missing = waiting.iter().map(|n| missing(n, &seen, &reasons)).collect::<Vec<_>>().join("; ");
            let late = Error::Tasks { after_s: within.as_secs(), missing };
            return Err(Error::at(events.and(view.lab.lines.services.get(*first)))(late));
        }
    }
}

/// Reads the services from a manager.
pub async fn look(view: &View<'_>) -> Result<Seen, Error> {
    let (manager, nodes) = swarm::manager(view).await?;
    let services = manager.docker.services().await?;
    let tasks = manager.docker.tasks().await?;
    let seen = named(view.lab, services, tasks, nodes);
    view.hosts.remember(&seen);
    Ok(seen)
}

/// Reads the services from a manager or, if none answers soon, recalls what one said last. `true` if read now.
pub async fn look_or_recall(view: &View<'_>) -> (Seen, bool) {
    match swarm::soon(look(view)).await {
        Ok(seen) => (seen, true),
        Err(error) => {
            tracing::warn!("services and nodes are taken to be as they were: {error}");
            (view.hosts.last_seen().unwrap_or_default(), false)
        }
    }
}
