//! Takes machines that exist as the hosts of a lab.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::{BoxFuture, join_all};
use labctl_docker::HostDocker;
use labctl_model::{EngineChoice, Lab};
use labctl_protocol::{client::AgentClient, polling::Polling};
use labctl_state::{LabDir, Machines, Plan, PowerCommands, Process, SshMachine};
use labctl_topology::Topology;
use tokio::{process::Command, time::timeout};

use super::{
    clear::owner,
    connection::{Connection, foreign},
    fit,
    preflight::{self, Dockerd, Subject},
    way::said,
};
use crate::{
    Error, Events,
    machine::{HostPlan, Machine, Provider, Started},
};

/// How long a command of `power` may take.
const POWER: Duration = Duration::from_secs(120);
/// How long a machine that was started may take to be reached.
const BOOTED: Duration = Duration::from_secs(300);
/// How long dockerd may take after that.
const DOCKER: Duration = Duration::from_secs(120);
/// Pause between two attempts.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The `ssh` runtime.
#[derive(Debug)]
pub struct SshProvider {
    lab: String,
    topology: PathBuf,
    machines: Machines,
    agent: PathBuf,
    dir: LabDir,
    open: Mutex<BTreeMap<String, Arc<Connection>>>,
}

impl SshProvider {
    /// A provider for the hosts of the lab in this folder.
    pub fn new(plan: &Plan, dir: &LabDir) -> Self {
        Self {
            lab: plan.lab.name.clone(),
            topology: plan.topology.clone(),
            machines: plan.machines.clone().unwrap_or_default(),
            agent: plan.agent.clone(),
            dir: dir.clone(),
            open: Mutex::default(),
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn machine(&self, host: &str) -> Result<&SshMachine, Error> {
        let none =
            || Error::Machine { host: host.to_owned(), why: "it has no machine in machines.yaml".into() };
        self.machines.hosts.get(host).ok_or_else(none)
    }

    async fn connect(&self, host: &str) -> Result<Arc<Connection>, Error> {
        let dir = self.dir.host(host);
        let opened =
            Connection::open(host, self.machine(host)?, foreign(&self.lab), &self.agent, &dir).await?;
        let connection = Arc::new(opened);
        self.open().insert(host.to_owned(), connection.clone());
        Ok(connection)
    }

    async fn examine(&self, lab: &Lab, events: &Events) -> Result<(), Error> {
        let owner = owner(&self.dir);
        events.phase(format!("looking at {}", count(lab.hosts.len())));
        let looks = lab.hosts.iter().map(async |(name, host)| {
            let connection = self.connect(name).await?;
            let dir = self.dir.host(name);
            let subject = Subject { lab, name, host, machine: self.machine(name)?, owner: &owner, dir: &dir };
            preflight::examine(&subject, &connection, events).await
        });
        let mut remarks = Vec::new();
        let mut failures = Vec::new();
        for look in join_all(looks).await {
            match look {
                Ok(found) => remarks.extend(found),
                Err(e) => failures.push(e),
            }
        }
        if failures.is_empty() && remarks.is_empty() {
            return Ok(());
        }
        let open = std::mem::take(&mut *self.open());
        join_all(open.values().map(|connection| connection.close())).await;
        let mut failures = failures.into_iter();
        match (failures.next(), failures.len()) {
            (Some(first), 0) => Err(first),
            (Some(first), _) => {
                let all: Vec<String> =
                    std::iter::once(first).chain(failures).map(|e| e.to_string()).collect();
                Err(Error::Unfit(all.join("\n")))
            }
            // The text is not in the plan: it is read again for its lines.
            (None, _) => {
                let read = Topology::load(&self.topology, &EngineChoice::default());
                let places = read.map(|topology| topology.places).unwrap_or_default();
                Err(fit::refused(&places, &remarks))
            }
        }
    }

    async fn start_host(&self, plan: &HostPlan) -> Result<Started, Error> {
        let known = self.open().get(&plan.name).cloned();
        let connection = match known {
            Some(connection) => connection,
            None => self.start_again(&plan.name).await?,
        };
        let ended = connection.gone();
        let agent = connection.dial();
        Ok(Started { agent, ended, machine: Box::new(Remote { connection }), images: &[] })
    }

    /// Starts a machine that was killed, and removes what the lab had there: it is made again.
    async fn start_again(&self, host: &str) -> Result<Arc<Connection>, Error> {
        let power = self.power(host)?;
        run(host, &power.start).await?;
        let wait = Polling::new(BOOTED, TRY_AGAIN);
        let connection = loop {
            match self.connect(host).await {
                Ok(connection) => break connection,
                Err(e) if !wait.again().await => return Err(e),
                Err(_) => {}
            }
        };
        let agent = AgentClient::dial(connection.dial()).await.map_err(Error::agent(host))?;
        let wait = Polling::new(DOCKER, TRY_AGAIN);
        let dockerd = loop {
            match Dockerd::of(host, &agent, &self.dir.host(host)).await {
                Ok(dockerd) => break dockerd,
                Err(e) if !wait.again().await => return Err(e),
                Err(_) => {}
            }
        };
        self.forget(&dockerd.docker).await?;
        Ok(connection)
    }

    async fn forget(&self, docker: &HostDocker) -> Result<(), Error> {
        let mut left = docker.clear_containers(&self.lab).await?;
        left.extend(docker.clear_networks(&self.lab).await?);
        match left.is_empty() {
            true => Ok(()),
            false => Err(Error::Machine { host: docker.host.clone(), why: left.join("\n") }),
        }
    }

    fn power(&self, host: &str) -> Result<&PowerCommands, Error> {
        let none = || Error::Machine {
            host: host.to_owned(),
            why: format!(
                "nothing says how it is ended and started\nhint: `power: {{ kill: COMMAND, start: COMMAND }}` for it in {}",
                self.machines.file.display()
            ),
        };
        self.machine(host)?.power.as_ref().ok_or_else(none)
    }

    async fn end(&self, host: &str) -> Result<(), Error> {
        let power = self.power(host)?;
        let connection = self.open().remove(host);
        if let Some(connection) = connection {
            connection.close().await;
        }
        run(host, &power.kill).await
    }
}

impl Provider for SshProvider {
    fn preflight<'a>(
        &'a self,
        lab: &'a Lab,
        _restored: bool,
        events: &'a Events,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.examine(lab, events))
    }

    fn has_wire(&self) -> bool {
        false
    }

    fn pull_plug<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.end(host))
    }

    fn start<'a>(&'a self, host: &'a HostPlan) -> BoxFuture<'a, Result<Started, Error>> {
        Box::pin(self.start_host(host))
    }
}

/// A machine that exists. Only the connection is labctl's.
struct Remote {
    connection: Arc<Connection>,
}

impl Machine for Remote {
    fn process(&self) -> Option<Process> {
        self.connection.process()
    }

    fn post_mortem(&mut self) -> String {
        let log = self.connection.log();
        if log.is_empty() { "ssh has said nothing".to_owned() } else { format!("ssh said:\n  {log}") }
    }

    fn kill(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            self.connection.close().await;
            Ok(())
        })
    }
}

fn count(machines: usize) -> String {
    match machines {
        1 => "1 machine".to_owned(),
        n => format!("{n} machines"),
    }
}

/// Runs a command of `power`.
async fn run(host: &str, command: &str) -> Result<(), Error> {
    let failed = |why: String| Error::Machine { host: host.to_owned(), why: format!("`{command}`: {why}") };
    let mut sh = Command::new("sh");
    sh.args(["-c", command]).stdin(Stdio::null()).kill_on_drop(true);
    let output = match timeout(POWER, sh.output()).await {
        Err(_) => return Err(failed(format!("it did not end within {} s", POWER.as_secs()))),
        Ok(output) => output.map_err(|e| failed(e.to_string()))?,
    };
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(said(&String::from_utf8_lossy(&output.stderr), &output.status.to_string()))),
    }
}
