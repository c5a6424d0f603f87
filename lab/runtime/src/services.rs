//! Creates, changes and removes services of a lab, waits for them, and reads them from a manager.

mod reasons;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use labctl_model::{Lab, ServiceChange};

use crate::{
    Error, Events,
    docker::{
        is_transient,
        seen::{NamedTask, Seen},
        services::{ServiceSeen, TaskSeen, UpdateSeen},
        swarm::NodeSeen,
    },
    hosts::Hosts,
    report::count,
    swarm,
};
use reasons::Reasons;
pub use reasons::explain;

/// How long tasks may take to run: without KVM a container takes seconds, and a drained node's tasks are made anew.
const RUNNING: Duration = Duration::from_secs(180);

/// Pause between two looks at the tasks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Creates the services of a lab and waits until their tasks run.
///
/// # Errors
/// Docker's refusals; tasks that do not run in time, each with its state.
pub async fn create(lab: &Lab, hosts: &Hosts, events: &Events) -> Result<(), Error> {
    let names: Vec<&str> =
        lab.services.iter().filter(|(_, s)| !s.deferred).map(|(n, _)| n.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    events.phase(format!("creating {}", count(names.len(), "service")));
    let (manager, _) = swarm::manager(lab, hosts).await?;
    for name in &names {
        let created = manager.docker.create_service(lab, name).await;
        created.map_err(Error::at(lab.lines.services.get(*name)))?;
    }
    let whole = |name: &str, seen: &Seen| lacks(name, seen).is_none();
    wait(lab, hosts, &names, None, Some(events), whole).await
}

/// Creates one service and waits until its tasks run.
///
/// # Errors
/// Those of [`create`].
pub async fn create_one(lab: &Lab, hosts: &Hosts, name: &str, within: Option<Duration>) -> Result<(), Error> {
    swarm::manager(lab, hosts).await?.0.docker.create_service(lab, name).await?;
    let whole = |name: &str, seen: &Seen| lacks(name, seen).is_none();
    wait(lab, hosts, &[name], within, None, whole).await
}

/// Changes a service, and waits until Docker has replaced the tasks it must and all run.
///
/// # Errors
/// Docker's refusal, also if it gives the update up half-way; tasks that do not run in time, each with its state.
pub async fn update(
    lab: &Lab,
    hosts: &Hosts,
    name: &str,
    change: &ServiceChange,
    within: Option<Duration>,
) -> Result<(), Error> {
    let (manager, _) = swarm::manager(lab, hosts).await?;
    let id = manager.docker.service_id(name).await?;
    let replaces = manager.docker.update_service(lab, name, change).await?;
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
    wait(lab, hosts, &[name], within, None, whole).await?;
    wait_ended(lab, hosts, name, &id, began, within.unwrap_or(RUNNING)).await
}

/// Removes a service, and waits until its tasks have ended.
///
/// # Errors
/// Docker's refusals; tasks that do not end in time.
pub async fn remove(lab: &Lab, hosts: &Hosts, name: &str) -> Result<(), Error> {
    let (manager, _) = swarm::manager(lab, hosts).await?;
    let id = manager.docker.service_id(name).await?;
    manager.docker.remove_service(name).await?;
    wait_ended(lab, hosts, name, &id, Instant::now(), RUNNING).await
}

/// Waits until the tasks of a service that must end have ended: Docker stops counting them at once, while their
/// containers still answer. Tasks on nodes that are down are not waited for, since nobody ends them.
async fn wait_ended(
    lab: &Lab,
    hosts: &Hosts,
    name: &str,
    id: &str,
    began: Instant,
    within: Duration,
) -> Result<(), Error> {
    let deadline = began + within;
    loop {
        match ending(lab, hosts, name, id).await {
            Ok(left) if left.is_empty() => return Ok(()),
            Ok(left) if Instant::now() >= deadline => {
                let missing = format!("service {name} has tasks that do not end: {}", left.join(", "));
                return Err(Error::Tasks { after_s: within.as_secs(), missing });
            }
            Err(error) if !is_transient(&error) || Instant::now() >= deadline => return Err(error),
            _ => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Tasks of a service that must end but have not, on ready nodes, as `web.2 on host1`.
async fn ending(lab: &Lab, hosts: &Hosts, name: &str, id: &str) -> Result<Vec<String>, Error> {
    let (manager, nodes) = swarm::manager(lab, hosts).await?;
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
    lab: &Lab,
    hosts: &Hosts,
    names: &[&str],
    within: Option<Duration>,
    events: Option<&Events>,
    whole: impl Fn(&str, &Seen) -> bool,
) -> Result<(), Error> {
    let within = within.unwrap_or(RUNNING);
    let deadline = Instant::now() + within;
    let mut told = BTreeSet::new();
    loop {
        let seen = match look(lab, hosts).await {
            Err(error) if is_transient(&error) && Instant::now() < deadline => {
                tokio::time::sleep(LOOK_AGAIN).await;
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
            let reasons = Reasons::read(lab, hosts, &seen, &[name]).await;
            let said = reasons.of_service(name, &seen);
            let message = if said.is_empty() { why } else { format!("{why} ({said})") };
            let (manager, _) = swarm::manager(lab, hosts).await?;
            let what = format!("update service {name}");
            return Err(Error::Docker { host: manager.name.clone(), what, message });
        }
        if Instant::now() >= deadline {
            let reasons = Reasons::read(lab, hosts, &seen, &waiting).await;
            let missing = waiting.iter().map(|n| missing(n, &seen, &reasons)).collect::<Vec<_>>().join("; ");
            let late = Error::Tasks { after_s: within.as_secs(), missing };
            return Err(Error::at(events.and(lab.lines.services.get(*first)))(late));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// If a service has too few running tasks: how many run, and how many should.
fn lacks(name: &str, seen: &Seen) -> Option<(u64, u64)> {
    let running = seen.tasks_of(name).filter(|t| t.task.running).count() as u64;
    let wanted = match seen.service(name) {
        None => 1,
        Some(service) if !service.global => service.desired,
        Some(service) => {
            let nodes = seen.nodes.iter().filter(|n| n.ready && n.active);
            let admitted: Option<Vec<bool>> = nodes.map(|n| admits(&service.constraints, &n.host)).collect();
            // Docker counts only tasks it has begun with. Before that the nodes are counted, if the constraints allow
            // it.
            admitted.map_or(service.desired.max(1), |all| all.into_iter().filter(|a| *a).count() as u64)
        }
    };
    (running < wanted).then_some((running, wanted))
}

/// Whether these constraints allow tasks on a host; `None` if they test more than its name.
fn admits(constraints: &[String], host: &str) -> Option<bool> {
    constraints.iter().try_fold(true, |all, constraint| {
        let (key, value, equal) = match (constraint.split_once("=="), constraint.split_once("!=")) {
            (Some((key, value)), _) => (key, value, true),
            (None, Some((key, value))) => (key, value, false),
            (None, None) => return None,
        };
        (key.trim() == "node.hostname").then(|| all && (value.trim() == host) == equal)
    })
}

/// Whether a task runs where the service's constraints forbid it.
fn misplaced(service: &ServiceSeen, seen: &Seen) -> bool {
    let hosts = seen.tasks_of(&service.name).filter_map(|t| t.host.as_deref());
    hosts.into_iter().any(|host| admits(&service.constraints, host) == Some(false))
}

/// What a service lacks, in words.
fn missing(name: &str, seen: &Seen, reasons: &Reasons) -> String {
    let said = reasons.of_service(name, seen);
    let why = if said.is_empty() { String::new() } else { format!(" ({said})") };
    match (lacks(name, seen), seen.service(name).map(|s| &s.update)) {
        (Some((running, wanted)), _) => {
            format!("service {name} has {running} of {wanted} tasks running{why}")
        }
        (None, Some(Some(UpdateSeen::UnderWay))) => {
            format!("Docker is not through with updating {name}{why}")
        }
        (None, _) => format!("Docker has not begun to update {name}{why}"),
    }
}

/// Reads the services from a manager.
pub async fn look(lab: &Lab, hosts: &Hosts) -> Result<Seen, Error> {
    let (manager, nodes) = swarm::manager(lab, hosts).await?;
    let services = manager.docker.services().await?;
    let tasks = manager.docker.tasks().await?;
    let seen = named(lab, services, tasks, nodes);
    hosts.remember(&seen);
    Ok(seen)
}

/// Reads the services from a manager or, if none answers soon, recalls what one said last. `true` if read now.
pub async fn look_or_recall(lab: &Lab, hosts: &Hosts) -> (Seen, bool) {
    match swarm::soon(look(lab, hosts)).await {
        Ok(seen) => (seen, true),
        Err(error) => {
            tracing::warn!("services and nodes are taken to be as they were: {error}");
            (hosts.last_seen().unwrap_or_default(), false)
        }
    }
}

fn named(lab: &Lab, services: Vec<ServiceSeen>, tasks: Vec<TaskSeen>, nodes: Vec<NodeSeen>) -> Seen {
    let services: Vec<ServiceSeen> =
        services.into_iter().filter(|s| lab.services.contains_key(&s.name)).collect();
    let tasks = tasks.into_iter().filter_map(|task| {
        let service = services.iter().find(|s| s.id == task.service)?.name.clone();
        let host = nodes.iter().find(|n| n.id == task.node).map(|n| n.host.clone());
        let part = match (task.slot, &host) {
            (Some(slot), _) => slot.to_string(),
            (None, Some(host)) => host.clone(),
            (None, None) => "?".to_owned(),
        };
        Some(NamedTask { name: format!("{service}.{part}"), service, host, task })
    });
    let tasks = tasks.collect();
    Seen { services, tasks, nodes }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LAB: &str = "
name: t
segments: { lan: { subnet: 10.0.0.0/24 } }
hosts: { a: { lan: 10.0.0.1 }, b: { lan: 10.0.0.2 } }
swarm: {}
services: { web: { deploy: { replicas: 2 } }, each: { deploy: { mode: global } } }
";

    fn seen() -> (Lab, Seen) {
        let lab = Lab::parse(LAB, "t.yaml").unwrap();
        let node = |id: &str, host: &str| NodeSeen {
            id: id.into(),
            host: host.into(),
            ready: true,
            active: true,
            manager: false,
            state: "ready".into(),
        };
        let service = |id: &str, name: &str, desired| ServiceSeen {
            id: id.into(),
            name: name.into(),
            desired,
            global: name == "each",
            ..ServiceSeen::default()
        };
        let task = |service: &str, slot: Option<i64>, node: &str, running, state: &str| TaskSeen {
            id: format!("{service}-{slot:?}"),
            service: service.into(),
            slot,
            node: node.into(),
            container: None,
            running,
            state: state.into(),
        };
        let tasks = vec![
            task("s1", Some(1), "n1", true, "running"),
            task("s1", Some(2), "n2", false, "rejected: No such image"),
            task("s2", None, "n2", true, "running"),
            task("other", Some(1), "n1", true, "running"),
        ];
        let services =
            vec![service("s1", "web", 2), service("s2", "each", 1), service("other", "somebody's", 1)];
        let seen = named(&lab, services, tasks, vec![node("n1", "a"), node("n2", "b")]);
        (lab, seen)
    }

    #[test]
    fn tasks_are_named_by_slot_or_host_and_strangers_left_out() {
        let (_, seen) = seen();
        let names: Vec<&str> = seen.tasks.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["web.1", "web.2", "each.b"]);
        assert_eq!(seen.tasks[1].host.as_deref(), Some("b"));
    }

    #[test]
    fn what_is_missing_is_said_with_its_reason() {
        let (_, mut seen) = seen();
        let reasons = Reasons::default();
        assert_eq!(
            missing("web", &seen, &reasons),
            "service web has 1 of 2 tasks running (web.2 on b is rejected: No such image)"
        );
        // A global service wants every node, also before Docker has begun with them.
        assert_eq!(missing("each", &seen, &reasons), "service each has 1 of 2 tasks running");
        // But those only that it may run on.
        seen.services[1].constraints = vec!["node.hostname!=a".into()];
        assert_eq!(lacks("each", &seen), None);
        assert!(!misplaced(&seen.services[1], &seen));
        seen.services[1].constraints = vec!["node.hostname==a".into()];
        assert!(misplaced(&seen.services[1], &seen));
        assert_eq!(admits(&["node.role==worker".into()], "a"), None);
    }
}
