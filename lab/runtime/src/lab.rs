//! A running lab: brought up, checked and taken down.

mod parts;
mod reach;
mod saved;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures::future::{BoxFuture, join_all, try_join_all};
use labctl_images::load::{self, Images};
use labctl_machines::{
    Error as MachineError, Events, images,
    machine::{Dial, HostPlan, Machine, Provider, Started},
    runtimes,
};
use labctl_model::{Action, Driver, Lab, Power};
use labctl_protocol::client::AgentClient;
use labctl_report::{count, sent::SendReport, tunnels::VxlanReport};
use labctl_wire::{PortSpec, Wire};
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::{
    Error,
    filters::{Filters, port_name},
    frames,
    host::RunningHost,
    peers, services, swarm,
    view::{Hosts, View},
    wire,
};
use labctl_state::{LabDir, Origin, Plan, Process};
use parts::{Parts, Shared};
pub use reach::Frames;
pub use saved::{Saved, ago};

/// How many hosts start at once per processor: while one waits for its disk, another computes.
const AT_ONCE: usize = 2;

/// A lab in this process. [`Self::down`] takes it down; dropping it ends its machines less gently.
pub struct RunningLab {
    plan: Plan,
    dir: LabDir,
    provider: Box<dyn Provider>,
    /// What is filtered on machines that exist; none where there is a wire.
    filters: Option<Arc<Filters>>,
    parts: Shared,
    // Two runs at once would take each other's listeners.
    checking: tokio::sync::Mutex<()>,
    /// Name of the checkpoint that it began as, or left at the end of `up`.
    began_as: Mutex<Option<String>>,
    /// Writes that checkpoint.
    writing: tokio::sync::Mutex<Option<JoinHandle<Result<(), Error>>>>,
}

impl RunningLab {
    /// A lab with nothing made yet.
    pub fn new(plan: Plan, dir: LabDir, provider: Box<dyn Provider>) -> Self {
        let parts = Shared::new(&plan.lab, dir.name());
        let filters = (!provider.has_wire()).then(|| Arc::new(Filters::of(&plan.lab)));
        Self {
            plan,
            dir,
            provider,
            filters,
            parts,
            checking: tokio::sync::Mutex::default(),
            began_as: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// The plan it is made from.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its folder.
    pub fn dir(&self) -> &LabDir {
        &self.dir
    }

    /// Notes that an action was done. A reset begins a new list, by itself.
    pub(crate) fn note(&self, action: &Action) {
        if *action != Action::Reset {
            self.parts().done.push(action.clone());
        }
    }

    /// The actions that were done since the end of `up`, in order.
    pub(crate) fn done(&self) -> Vec<Action> {
        self.parts().done.clone()
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock()
    }

    fn began_as(&self) -> MutexGuard<'_, Option<String>> {
        self.began_as.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wire, while it runs.
    pub fn wire(&self) -> Option<Arc<Wire>> {
        self.parts().wire.clone()
    }

    /// The lab as it is now.
    pub(crate) fn view(&self) -> View<'_> {
        let (lab, hosts) = (&self.plan.lab, self.hosts());
        let parts = self.parts();
        let filters = self.filters.clone();
        View { lab, hosts, peers: parts.peers.clone(), wire: parts.wire.clone(), filters }
    }

    /// The running hosts by name, in the topology's order. A host whose machine has ended is not among them.
    pub fn hosts(&self) -> Hosts {
        let mut hosts = self.parts().hosts.clone();
        let rank = |name: &String| self.plan.lab.hosts.get_index_of(name);
        hosts.sort_by(|a, _, b, _| rank(a).cmp(&rank(b)));
        hosts
    }

    /// Makes everything in the plan. If this fails or is dropped, what was made remains until [`Self::down`].
    pub async fn bring_up(&self, events: &Events) -> Result<(), Error> {
        let error = match self.make(events).await {
            Ok(()) => return Ok(()),
            Err(e) => self.explain(e),
        };
        // A task that never starts says nothing of the frames that it waits for.
        for lost in wire::lost(&self.view()).await {
            events.note(lost);
        }
        Err(match error {
            Error::Machines(MachineError::Agent { host, why }) => {
                MachineError::Agent { host, why: self.with_damage(why).await }.into()
            }
            Error::Machines(MachineError::Machine { host, why }) => {
                MachineError::Machine { host, why: self.with_damage(why).await }.into()
            }
            other => other,
        })
    }

    /// Adds to the reason why a host did not start what is wrong with its image, if anything is.
    async fn with_damage(&self, why: String) -> String {
        let damage = images::find_damage(&self.plan.cache, &self.plan.lab).await;
        std::iter::once(why).chain(damage).collect::<Vec<_>>().join("\n")
    }

    /// Adds what else is known to an error: the topology file, and whether the host's machine has died.
    fn explain(&self, error: Error) -> Error {
        let error = error.in_file(&self.plan.topology);
        let Some(host) = error.docker_host().map(str::to_owned) else { return error };
        let dead = |m: &dyn Machine| m.process().is_some_and(|p| !p.is_alive());
        let mut parts = self.parts();
        let known = parts.hosts.ended.contains_key(&host);
        match parts.machines.get_mut(&host).filter(|m| known || dead(m.as_ref())) {
            Some(machine) => {
                MachineError::Machine { why: format!("{}\n{error}", machine.post_mortem()), host }.into()
            }
            None => error,
        }
    }

    async fn make(&self, events: &Events) -> Result<(), Error> {
        if let Some(checkpoint) = self.origin(events).await? {
            let from = ago(checkpoint.manifest.age());
            match self.restore(&checkpoint, events).await {
                Ok(()) => {
                    events.note(format!(
                        "taken from a checkpoint that is {from} (`--fresh` makes the lab anew)"
                    ));
                    return Ok(());
                }
                Err(e) if self.plan.origin == Origin::Kind => {
                    self.give_up_restoring().await;
                    events.note(format!("the checkpoint of this lab cannot be used: it is made anew ({e})"));
                }
                Err(e) => return Err(e),
            }
        }
        self.make_anew(events).await?;
        self.leave_checkpoint(events).await;
        Ok(())
    }

    async fn make_anew(&self, events: &Events) -> Result<(), Error> {
        let lab = &self.plan.lab;
        self.provider.preflight(lab, false, events).await?;
        let images = self.images().await?;
        let plans = self.host_plans()?;
        self.start_wire(&plans).await?;
        events.phase(format!("starting {}", count(plans.len(), "host")));
        let began = Instant::now();
        // Starting more at once only makes them wait for each other; the last could miss its deadline.
        let turns = Semaphore::new(AT_ONCE * std::thread::available_parallelism().map_or(1, usize::from));
        try_join_all(plans.iter().map(async |plan| {
            // Never closed.
            let _turn = turns.acquire_many(self.provider.turns(&plan.host)).await;
            self.start_host(plan, &images, events).await
        }))
        .await?;
        tracing::info!("hosts up after {:.1} s", began.elapsed().as_secs_f64());
        events.phase(format!(
            "creating {} and {}",
            count(lab.networks.values().filter(|n| !n.deferred).count(), "network"),
            count(lab.containers.values().filter(|c| !c.deferred).count(), "container"),
        ));
        let view = &self.view();
        let hosts = &view.hosts;
        if let Some(filters) = &self.filters {
            filters.apply(view).await?;
        }
        // One by one, now that no machine keeps the processor busy: certificates and logs depend on these clocks.
        for host in hosts.values() {
            host.set_clock().await?;
        }
        // The topology's own `docker_gwbridge` must be there before the swarm would make one.
        try_join_all(hosts.values().map(|h| create_networks(lab, h))).await?;
        swarm::form(view, events).await?;
        try_join_all(hosts.values().map(|h| create_containers(view, h, events))).await?;
        services::create(view, events).await?;
        // A host may have ended meanwhile without any request noticing it.
        let now = self.view();
        lab.hosts.keys().try_for_each(|name| now.host(name).map(drop))?;
        tracing::info!("lab up after {:.1} s", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// The images that its containers need.
    async fn images(&self) -> Result<Images, Error> {
        Ok(load::images(&self.plan.lab, &self.plan.cache, &self.plan.agent).await?)
    }

    fn host_plans(&self) -> Result<Vec<HostPlan>, Error> {
        let hosts = self.plan.lab.hosts.iter().map(|(name, host)| {
            let dir = self.dir.host(name);
            std::fs::create_dir_all(&dir).map_err(Error::io("cannot make the folder", &dir))?;
            let nic_sockets = host.nics.iter().map(|n| self.dir.nic_socket(name, &n.name)).collect();
            Ok(HostPlan {
                lab: self.plan.lab.name.clone(),
                name: name.clone(),
                host: host.clone(),
                dir,
                nic_sockets,
                saved: None,
            })
        });
        hosts.collect()
    }

    async fn start_wire(&self, plans: &[HostPlan]) -> Result<(), Error> {
        if !self.provider.has_wire() {
            return Ok(());
        }
        let port = |plan: &HostPlan, nic: &labctl_model::Nic, listen: &PathBuf| {
            let (name, segment) = (port_name(&plan.name, &nic.name), nic.segment.clone());
            let transport = self.provider.transport(listen.clone())?;
            Ok::<_, Error>(PortSpec { name, segment, mac: nic.mac, transport })
        };
        let ports = plans
            .iter()
            .flat_map(|plan| plan.host.nics.iter().zip(&plan.nic_sockets).map(move |(n, s)| port(plan, n, s)))
            .collect::<Result<_, _>>()?;
        let wire = Wire::start(&self.plan.lab.segments, ports).map_err(|e| Error::Wire(e.to_string()))?;
        let peers = peers::plug_in(&self.plan.lab, &wire).await?;
        let mut parts = self.parts();
        parts.wire = Some(Arc::new(wire));
        parts.peers = peers;
        Ok(())
    }

    /// Starts a host's machine and keeps it. Returns how to call its agent, its end, and the images that it has.
    async fn start_machine(
        &self,
        plan: &HostPlan,
    ) -> Result<(Dial, BoxFuture<'static, String>, &'static [&'static str]), Error> {
        let Started { machine, agent, ended, images } = self.provider.start(plan).await?;
        if let Some(process) = machine.process() {
            self.dir.record(&process)?;
        }
        self.parts().machines.insert(plan.name.clone(), machine);
        Ok((agent, ended, images))
    }

    async fn start_host(&self, plan: &HostPlan, images: &Images, events: &Events) -> Result<(), Error> {
        let name = &plan.name;
        events.host(name, "starting");
        let (agent, ended, had) = self.start_machine(plan).await?;
        let set_up = async {
            let agent = AgentClient::dial(agent).await.map_err(Error::agent(name))?;
            events.host(name, "agent answers");
            let socket = self.dir.docker_socket(name);
            RunningHost::set_up(&self.plan.lab, name, agent, socket, (images, had), events).await
        };
        match set_up.await {
            Ok(host) => {
                self.parts.admit(host, ended);
                Ok(())
            }
            Err(Error::Machines(MachineError::Agent { host, why })) => {
                Err(MachineError::Agent { host, why: self.with_post_mortem(name, why) }.into())
            }
            Err(other) => Err(other),
        }
    }

    /// Adds the machine's post-mortem: an agent that does not answer is most often a machine that died.
    fn with_post_mortem(&self, host: &str, why: String) -> String {
        match self.parts().machines.get_mut(host) {
            Some(machine) => format!("{why}\n{}", machine.post_mortem()),
            None => why,
        }
    }

    /// Waits for its turn. Check runs and the end or start of a host must not overlap.
    pub(crate) async fn alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.checking.lock().await
    }

    /// Sends a frame and sees who gets it.
    pub async fn send(&self, order: &frames::Order) -> Result<SendReport, Error> {
        frames::send(&self.view(), order).await
    }

    /// Sends VXLAN probes between hosts and reports what becomes of them.
    pub async fn vxlan(&self, which: &frames::vxlan::Which) -> Result<VxlanReport, Error> {
        // Two runs at once would take each other's VTEPs.
        let _one_at_a_time = self.checking.lock().await;
        frames::vxlan::run(&self.view(), which).await
    }

    /// Ends or starts one host; the rest of the lab goes on. The caller must hold [`Self::alone`].
    ///
    /// # Errors
    /// There is no such host, it is in the wrong state, or it cannot be made again.
    pub(crate) async fn power(&self, host: &str, power: Power, events: &Events) -> Result<(), Error> {
        let lab = &self.plan.lab;
        self.view().named("host", &lab.hosts, host)?;
        let running = self.parts().hosts.get(host).cloned();
        match (power, running) {
            (Power::Start, Some(_)) => Err(Error::WrongState {
                host: host.to_owned(),
                state: "runs already",
                hint: format!("`labctl do {} kill {host}` pulls its plug", lab.name),
            }),
            (Power::Kill | Power::Stop | Power::Restart, None) => Err(Error::WrongState {
                host: host.to_owned(),
                state: "does not run",
                hint: format!("`labctl do {} start {host}` makes it again", lab.name),
            }),
            (Power::Kill, Some(running)) => self.end_host(&running, "it was killed").await,
            (Power::Stop, Some(running)) => {
                stop_containers(lab, &running).await?;
                self.end_host(&running, "it was stopped").await
            }
            (Power::Restart, Some(running)) => {
                stop_containers(lab, &running).await?;
                self.end_host(&running, "it was stopped").await?;
                self.start_again(host, events).await
            }
            (Power::Start, None) => self.start_again(host, events).await,
        }
    }

    /// Ends a host's machine, and with it agent, dockerd and everything in them.
    async fn end_host(&self, host: &RunningHost, why: &str) -> Result<(), Error> {
        let is_node = swarm::is_node(host).await;
        self.provider.pull_plug(&host.name).await?;
        self.parts().lose(&host.name, is_node, why.to_owned());
        self.drop_host(&host.name).await
    }

    async fn drop_host(&self, host: &str) -> Result<(), Error> {
        let machine = {
            let mut parts = self.parts();
            parts.remove(host);
            parts.machines.shift_remove(host)
        };
        match machine {
            Some(mut machine) => Ok(machine.kill().await?),
            None => Ok(()),
        }
    }

    async fn start_again(&self, host: &str, events: &Events) -> Result<(), Error> {
        let lab = &self.plan.lab;
        let images = self.images().await?;
        let plans = self.host_plans()?;
        for plan in plans.iter().filter(|p| p.name == host) {
            let started = self.start_host(plan, &images, events).await;
            if started.is_err() {
                let _ = self.drop_host(host).await;
            }
            started?;
        }
        let view = &self.view();
        let running = view.host(host)?;
        if let Some(filters) = &self.filters {
            filters.apply(view).await?;
        }
        running.set_clock().await?;
        create_networks(lab, running).await?;
        // Its containers may be on overlay networks, which only nodes have.
        let was_node = self.parts().nodes_gone.remove(host);
        if was_node && swarm::is_node(running).await != Some(true) {
            swarm::join_again(view, host, events).await?;
        }
        create_containers(view, running, events).await
    }

    /// Takes down everything that was made, and goes on past failures, which it returns. The lab's folder stays: it
    /// belongs to the caller.
    pub async fn down(&self) -> Vec<String> {
        if let Err(e) = self.written().await {
            // The lab was none the worse for it; the next one is made anew.
            tracing::warn!("its checkpoint is not left: {e}");
        }
        let parts = self.parts.take();
        self.take_apart(parts).await
    }

    /// Ends the machines, the peers and the wire.
    async fn take_apart(&self, parts: Parts) -> Vec<String> {
        let Parts { wire, machines, hosts, peers, .. } = parts;
        drop((hosts, peers));
        let kills = join_all(machines.into_iter().map(|(name, mut machine)| async move {
            machine.kill().await.err().map(|e| format!("host {name}: {e}"))
        }));
        // A start that was cut short has left something that is in no `machines` entry.
        let (failed, ()) = tokio::join!(kills, runtimes::settled());
        let mut warnings: Vec<String> = failed.into_iter().flatten().collect();
        warnings.extend(runtimes::sweep(&self.dir).await);
        if let Some(wire) = wire {
            let stopped = tokio::task::spawn_blocking(move || wire.stop()).await;
            match stopped {
                Ok(Ok(())) => {}
                Ok(Err(e)) => warnings.push(format!("the wire: {e}")),
                Err(e) => warnings.push(format!("the wire: {e}")),
            }
        }
        warnings
    }

    /// Host and pid of every machine that runs and has a process.
    pub fn processes(&self) -> Vec<(String, u32)> {
        let parts = self.parts();
        let running = |m: &dyn Machine| Some(m.process().filter(Process::is_alive)?.pid);
        parts.machines.iter().filter_map(|(n, m)| Some((n.clone(), running(m.as_ref())?))).collect()
    }
}

/// Stops the running containers, all at once.
async fn stop_containers(lab: &Lab, host: &RunningHost) -> Result<(), Error> {
    let stops = lab.containers_on(&host.name).map(|(name, container)| async move {
        match host.docker.state(name).await?.status.as_str() {
            "running" => Ok(host.docker.stop(name, container).await?),
            _ => Ok(()),
        }
    });
    try_join_all(stops).await.map(drop)
}

/// Creates the host-local (not overlay) networks of a host.
async fn create_networks(lab: &Lab, host: &RunningHost) -> Result<(), Error> {
    for (key, network) in &lab.networks {
        if !network.deferred && network.driver != Driver::Overlay && network.hosts.contains(&host.name) {
            let created = host.docker.create_network(lab, network).await;
            created.map_err(Error::at(lab.lines.networks.get(key)))?;
        }
    }
    Ok(())
}

/// Creates a host's containers.
async fn create_containers(view: &View<'_>, host: &RunningHost, events: &Events) -> Result<(), Error> {
    let (lab, mut running) = (view.lab, 0);
    for name in lab.start_order(&host.name) {
        let container = view.container(name)?;
        if !container.deferred {
            if let Err(error) = host.docker.run(lab, name, container).await {
                let error = services::explain(view, error).await;
                return Err(Error::at(lab.lines.containers.get(name))(error));
            }
            running += 1;
        }
    }
    if running > 0 {
        events.host(&host.name, format!("{} running", count(running, "container")));
    }
    Ok(())
}
