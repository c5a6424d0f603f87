//! Judges services: whether their tasks run as they should, and in words why not.

use std::collections::HashMap;

use labctl_model::Lab;

use crate::seen::{NamedTask, NodeSeen, Seen, ServiceSeen, TaskSeen, UpdateSeen};

/// Most different reasons that are shown.
const TOLD: usize = 12;

/// What is known of tasks that do not run. Best effort: hosts that do not answer are skipped.
#[derive(Clone, Debug, Default)]
pub struct Reasons {
    /// Errors of the tasks that these replace, by id of the service and place.
    pub past: HashMap<(String, String), String>,
    /// Errors in managers' logs, by id of the task.
    pub logged: HashMap<String, String>,
}

impl Reasons {
    /// The tasks of a service that do not run, each with its state and why; those with the same reason together.
    pub fn of_service(&self, name: &str, seen: &Seen) -> String {
        let mut by_state: Vec<(String, Vec<String>)> = Vec::new();
        for task in seen.tasks_of(name).filter(|t| !t.task.running) {
            let who = match &task.host {
                Some(host) => format!("{} on {host}", task.name),
                None => task.name.clone(),
            };
            let state = self.of(task);
            match by_state.iter_mut().find(|(s, _)| *s == state) {
                Some((_, tasks)) => tasks.push(who),
                None => by_state.push((state, vec![who])),
            }
        }
        // A task that fails again and again is between two tasks most of the time, and then none is meant to run.
        let id = seen.services.iter().find(|s| s.name == name).map(|s| s.id.as_str()).unwrap_or_default();
        let mut gone: Vec<_> = self.past.iter().filter(|((service, _), _)| service == id).collect();
        gone.sort();
        for ((_, place), state) in gone {
            if seen.tasks_of(name).any(|t| t.task.place() == *place) {
                continue;
            }
            let node = seen.nodes.iter().find(|n| n.id == *place);
            let part = node.map_or(place.as_str(), |n| n.host.as_str());
            by_state.push((state.clone(), vec![format!("{name}.{part}")]));
        }
        let more = by_state.len().saturating_sub(TOLD);
        let words = by_state.into_iter().take(TOLD).map(|(state, tasks)| {
            let are = if tasks.len() == 1 { "is" } else { "are" };
            format!("{} {are} {state}", tasks.join(", "))
        });
        let mut words: Vec<String> = words.collect();
        if more > 0 {
            words.push(format!("and {more} more"));
        }
        words.join("; ")
    }

    fn of(&self, task: &NamedTask) -> String {
        let seen = &task.task;
        if seen.state.contains(": ") {
            return seen.state.clone();
        }
        if let Some(words) = self.logged.get(&seen.id) {
            return format!("{}: {words}", seen.state);
        }
        match self.past.get(&(seen.service.clone(), seen.place())) {
            Some(before) => format!("{}, after it was {before}", seen.state),
            None => seen.state.clone(),
        }
    }
}

/// If a service has too few running tasks: how many run, and how many should.
pub fn lacks(name: &str, seen: &Seen) -> Option<(u64, u64)> {
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
pub fn misplaced(service: &ServiceSeen, seen: &Seen) -> bool {
    let hosts = seen.tasks_of(&service.name).filter_map(|t| t.host.as_deref());
    hosts.into_iter().any(|host| admits(&service.constraints, host) == Some(false))
}

/// What a service lacks, in words.
pub fn missing(name: &str, seen: &Seen, reasons: &Reasons) -> String {
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

/// Names the tasks of a lab's services by what a manager reports.
pub fn named(lab: &Lab, services: Vec<ServiceSeen>, tasks: Vec<TaskSeen>, nodes: Vec<NodeSeen>) -> Seen {
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
        let lab = labctl_topology::parse(LAB, "t.yaml").unwrap();
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

    fn many_waiting() -> Seen {
        let task = |slot, id: &str, running, state: &str| NamedTask {
            name: format!("web.{slot}"),
            service: "web".into(),
            host: None,
            task: TaskSeen {
                id: id.into(),
                service: "s1".into(),
                slot: Some(slot),
                running,
                state: state.into(),
                ..TaskSeen::default()
            },
        };
        let service =
            ServiceSeen { id: "s1".into(), name: "web".into(), desired: 5, ..ServiceSeen::default() };
        let tasks = vec![
            task(1, "t1", true, "running"),
            task(2, "t2", false, "new"),
            task(3, "t3", false, "new"),
            task(4, "t4", false, "preparing"),
        ];
        Seen { services: vec![service], tasks, nodes: Vec::new() }
    }

    #[test]
    fn a_reason_is_told_once_with_all_that_it_keeps_back() {
        let past = |place: &str, words: &str| (("s1".to_owned(), place.to_owned()), words.to_owned());
        let reasons = Reasons {
            past: HashMap::from([
                past("1", "failed: long ago"),
                past("4", "rejected: No such image"),
                past("5", "rejected: No such image"),
            ]),
            logged: HashMap::from(["t2", "t3"].map(|id| (id.to_owned(), "no address".to_owned()))),
        };
        assert_eq!(
            reasons.of_service("web", &many_waiting()),
            "web.2, web.3 are new: no address; web.4 is preparing, after it was rejected: No such image; \
             web.5 is rejected: No such image"
        );
        assert_eq!(reasons.of_service("other", &many_waiting()), "");
    }
}
