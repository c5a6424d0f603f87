//! Commands that a topology runs in its hosts and containers.

use std::time::Duration;

use labctl_docker::services::TaskHere;
use labctl_machines::Error as MachineError;
use labctl_model::Command;
use labctl_protocol::messages::{Exec, Netns};

use crate::{
    Error,
    host::RunningHost,
    probe::{self, Here},
    view::View,
};

/// Time limit for a command: without KVM much takes long.
const LIMIT: Duration = Duration::from_secs(120);

/// How much of a command's output goes into a report, in characters.
const SHOWN: usize = 2000;

/// The result of a command that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    host: String,
    place: String,
    status: i32,
    stdout: String,
    stderr: String,
}

/// Runs a command in a host or container to its end.
///
/// # Errors
/// The place does not run, the program does not exist, or it does not end in time.
pub async fn run(view: &View<'_>, command: &Command) -> Result<Ended, Error> {
    let Command { place, tools, argv } = command;
    let (host, netns) = self::place(view, place).await?;
    let exec = Exec { argv: argv.clone(), netns, tools: *tools, tty: None, env: Default::default() };
    let ended = async { host.agent.exec(exec).await?.output().await };
    let Ok(output) = tokio::time::timeout(LIMIT, ended).await else {
        let message = format!("in {place}: `{}` did not end within {} s", argv.join(" "), LIMIT.as_secs());
        return Err(refused(&host.name, message));
    };
    let output = output.map_err(host.failed())?;
    let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
    Ok(Ended {
        host: host.name.clone(),
        place: place.to_owned(),
        status: output.status,
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    })
}

/// The host of an endpoint, and its namespace there. An endpoint is also a task of a service, as `web.1`, and whatever
/// container a host has, as `HOST/NAME`. Asks only that host (for a task without its host, one after the other), and nobody
/// if the endpoint is a host.
///
/// # Errors
/// The endpoint does not run, or its dockerd does not answer.
pub async fn place<'a>(view: &'a View<'_>, endpoint: &str) -> Result<(&'a RunningHost, Netns), Error> {
    if view.lab.hosts.contains_key(endpoint) {
        return Ok((view.host(endpoint)?, Netns::Host));
    }
    let (home, endpoint, looked) = match (view.lab.host_of(endpoint), endpoint.split_once('/')) {
        (Some(home), _) => (home, endpoint.to_owned(), None),
        (None, Some((home, name))) => {
            let (task, looked) = task(view, view.host(home)?, name).await?;
            (home, task.unwrap_or_else(|| name.to_owned()), looked)
        }
        (None, None) => {
            let mut found = None;
            for (home, host) in view.hosts.iter() {
                // A dockerd that is away hides nothing of the others.
                if let Ok((Some(container), looked)) = task(view, host, endpoint).await {
                    found = Some((home.as_str(), container, looked));
                    break;
                }
            }
            let known = view.lab.endpoints().filter(|e| view.lab.host_of(e).is_some());
            found.ok_or_else(|| view.no_such("host, container or task", endpoint, known))?
        }
    };
    let host = view.host(home)?;
    let state = match host.docker.state(&endpoint).await {
        Ok(state) => state,
        // A dockerd that is away: what it said last counts.
        Err(error) => {
            let mut here = match looked {
                Some(here) => here,
                None => probe::look(view, host).await?,
            };
            let of_task = here.tasks.into_iter().find(|(task, _)| task.container == endpoint);
            match here.containers.remove(&endpoint).or(of_task.map(|(_, state)| state)) {
                Some(state) => state,
                None => return Err(error.into()),
            }
        }
    };
    match state.pid {
        Some(pid) => Ok((host, Netns::Pid(pid))),
        None => {
            let why = format!("container {endpoint} does not run");
            Err(MachineError::Agent { host: home.to_owned(), why }.into())
        }
    }
}

/// The container of a task that runs on a host, by its name in the lab. If the dockerd is away, also what the host has.
async fn task(
    view: &View<'_>,
    host: &RunningHost,
    name: &str,
) -> Result<(Option<String>, Option<Here>), Error> {
    let is_it = |task: &&TaskHere| task.name(&host.name) == name;
    let container = |task: &TaskHere| task.container.clone();
    match host.docker.tasks_here().await {
        Ok(tasks) => Ok((tasks.iter().find(is_it).map(container), None)),
        Err(_) => {
            let here = probe::look(view, host).await?;
            Ok((here.tasks.iter().map(|(task, _)| task).find(is_it).map(container), Some(here)))
        }
    }
}

fn refused(host: &str, message: String) -> Error {
    MachineError::Refused { host: host.to_owned(), message }.into()
}

impl Ended {
    /// The lines of its output, trimmed, without empty ones.
    ///
    /// # Errors
    /// Its exit status is not `exits`; with its output.
    pub fn lines(&self, exits: u8) -> Result<Vec<String>, Error> {
        let lines = |text: &str| {
            text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect::<Vec<_>>()
        };
        if self.status == i32::from(exits) {
            return Ok(lines(&self.stdout));
        }
        let said = [lines(&self.stderr), lines(&self.stdout)].concat().join("\n");
        let all = said.chars().count();
        // The reason is at the end.
        let shown: String = said.chars().skip(all.saturating_sub(SHOWN)).collect();
        let colon = if shown.is_empty() { "" } else { ": " };
        let message = format!("in {}: exit status {}{colon}{shown}", self.place, self.status);
        Err(refused(&self.host, message))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn another_status_than_wanted_comes_with_what_was_said() {
        let ended = |status| Ended {
            host: "host1".into(),
            place: "c1".into(),
            status,
            stdout: " a \n\nb\n".into(),
            stderr: "no such key\n".into(),
        };
        assert_eq!(ended(0).lines(0).unwrap(), ["a", "b"]);
        assert_eq!(ended(3).lines(3).unwrap().len(), 2);
        let said = "host `host1`: in c1: exit status 1: no such key\na\nb";
        assert_eq!(ended(1).lines(0).unwrap_err().to_string(), said);
        let silent = Ended { stdout: String::new(), stderr: String::new(), ..ended(2) };
        assert_eq!(silent.lines(0).unwrap_err().to_string(), "host `host1`: in c1: exit status 2");
    }
}
