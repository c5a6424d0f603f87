//! Why tasks do not run. Docker says it in three places: in the task itself, in the task that it replaces, and, if
//! addresses have run out, only in a manager's log, while the task stays `new` for ever.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use labctl_docker::{Error as DockerError, is_late_attachment};
use labctl_machines::Error as MachineError;
use labctl_protocol::messages::DOCKERD_LOG;
use labctl_report::{seen::Seen, services::Reasons};

use crate::{Error, host::RunningHost, swarm, view::View};

/// Most tasks that logs are searched for: most have the same problem.
const SEARCHED: usize = 50;

/// Time limit for searching a log.
const SEARCH: Duration = Duration::from_secs(20);

/// Finds out what keeps these services from running.
pub async fn read(view: &View<'_>, seen: &Seen, services: &[&str]) -> Reasons {
    let past = match swarm::manager(view).await {
        Ok((manager, _)) => manager.docker.past_errors().await.unwrap_or_default(),
        Err(_) => HashMap::new(),
    };
    let waiting = seen.tasks.iter().filter(|t| services.contains(&t.service.as_str()) && !t.task.running);
    let ids: Vec<&str> = waiting.map(|t| t.task.id.as_str()).take(SEARCHED).collect();
    // Only the leader has it, and the leader may have changed since.
    let managers = seen.nodes.iter().filter(|n| n.manager).filter_map(|n| view.hosts.get(&n.host));
    let managers: Vec<_> = managers.cloned().collect();
    let mut found = HashMap::new();
    for host in managers {
        found.extend(logged(&host, &ids).await);
    }
    Reasons { past, logged: found }
}

/// Adds to the error of a late attachment what a manager has logged meanwhile: that no address is left, for one, is only
/// said there. Other errors stay as they are.
pub async fn explain(view: &View<'_>, error: impl Into<Error>) -> Error {
    match error.into() {
        Error::Machines(MachineError::Docker(DockerError::Refused { host, what, message }))
            if is_late_attachment(&message) =>
        {
            let message = match why_late(view).await {
                Some((manager, words)) => format!("{message} ({manager} has logged: {words})"),
                None => message,
            };
            DockerError::Refused { host, what, message }.into()
        }
        other => other,
    }
}

/// The last address that a manager failed to give since a node began to wait for it, as logged, and which manager.
/// Docker has removed the task by then, so its owner is unknown.
async fn why_late(view: &View<'_>) -> Option<(String, String)> {
    let (_, nodes) = swarm::manager(view).await.ok()?;
    for manager in nodes.iter().filter(|n| n.manager).filter_map(|n| view.hosts.get(&n.host)) {
        // By the clock that the log uses.
        let since = printed(manager, &["date", "--utc", "--date", WAITED, "+%Y-%m-%dT%H:%M:%S"]).await;
        let log = printed(manager, &["grep", "-hF", NO_ADDRESS, DOCKERD_LOG]).await;
        if let Some(words) = without_address(&log, &since) {
            return Some((manager.name.clone(), words));
        }
    }
    None
}

/// When a node that waited in vain began at the latest: it waits 20 s, and is tried a second time.
const WAITED: &str = "50 seconds ago";

/// What swarmkit says if a network has no address for a task (manager/allocator/network.go).
const NO_ADDRESS: &str = "failed to allocate network IP for task ";

/// The last such error in a log since a time (in the log's format), without the task's name.
fn without_address(log: &str, since: &str) -> Option<String> {
    // No time means that the host did not answer.
    let since = Some(since).filter(|s| !s.is_empty())?;
    let last = log.lines().rfind(|line| {
        let at = line.strip_prefix("time=\"").and_then(|rest| rest.get(..since.len()));
        line.contains(NO_ADDRESS) && at.is_some_and(|at| at >= since)
    })?;
    let error = error(last)?;
    let (_, rest) = error.split_once(NO_ADDRESS)?;
    Some(format!("failed to allocate network IP {}", rest.split_once(' ')?.1))
}

/// The last error that a manager's dockerd logged for each of these tasks, by id.
async fn logged(host: &RunningHost, ids: &[&str]) -> HashMap<String, String> {
    if ids.is_empty() {
        return HashMap::new();
    }
    let mut argv = vec!["grep", "-hF"];
    argv.extend(ids.iter().flat_map(|id| ["-e", id]));
    argv.push(DOCKERD_LOG);
    errors(&printed(host, &argv).await, ids)
}

/// What a command prints on a host; empty if it cannot be run.
async fn printed(host: &RunningHost, argv: &[&str]) -> String {
    let output = host.agent.run(argv, SEARCH).await;
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

/// The last error of each task in a log.
fn errors(log: &str, ids: &[&str]) -> HashMap<String, String> {
    let ids: BTreeSet<&str> = ids.iter().copied().collect();
    let mut found = HashMap::new();
    for line in log.lines() {
        let Some(error) = error(line) else { continue };
        for id in ids.iter().filter(|id| error.contains(**id)) {
            // The task is named already.
            found.insert((*id).to_owned(), error.replace(&format!(" for task {id}"), ""));
        }
    }
    found
}

/// The value of `error="…"` in a line of dockerd's log.
fn error(line: &str) -> Option<String> {
    let (_, rest) = line.split_once(" error=\"")?;
    let mut text = String::new();
    let mut letters = rest.chars();
    loop {
        match letters.next()? {
            '"' => return Some(text),
            '\\' => text.push(letters.next()?),
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"
time="2026-11-21T06:29:51Z" level=error msg="task allocation failure" error="failed to allocate network IP for task t1 network n1: could not find an available IP" module=node node.id=x
time="2026-11-21T06:29:51Z" level=info msg="task t2 is \"fine\""
time="2026-11-21T06:30:21Z" level=error msg="fatal task error" error="node says \"no\" to t2" module=node/agent task.id=t2
"#;

    #[test]
    fn a_managers_log_says_what_docker_does_not() {
        let found = errors(LOG, &["t1", "t2", "t3"]);
        assert_eq!(found["t1"], "failed to allocate network IP network n1: could not find an available IP");
        assert_eq!(found["t2"], "node says \"no\" to t2");
        assert!(!found.contains_key("t3"));
        let late = |since| without_address(LOG.trim(), since);
        assert_eq!(late("2026-11-21T06:29:40").as_deref(), Some(found["t1"].as_str()));
        assert_eq!(late("2026-11-21T06:29:52"), None, "that was of another one");
    }
}
