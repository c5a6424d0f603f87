//! Runs the actions of steps on a lab.

use labctl_docker::swarm::NodeChange;
use labctl_machines::Events;
use labctl_model::{Action, Attach, Attachment, Driver, Lab, Power, Role, ServiceChange, Step};
use labctl_report::seen::docker_name;

use crate::{
    Error, exec,
    host::RunningHost,
    hosts::{Hosts, host},
    lab::RunningLab,
    services, swarm, wire,
};

/// The result of a step's actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// As the topology says: all done, or the last one refused with the given words.
    pub holds: bool,
    /// What went wrong, or the text of the expected refusal.
    pub message: String,
}

/// Runs a step's actions in order, up to the first that fails. Any failure is a result of the step, whatever the cause.
pub async fn run_all(lab: &RunningLab, step: &Step, events: &Events) -> Done {
    for (index, action) in step.actions.iter().enumerate() {
        let last = index + 1 == step.actions.len();
        if let Err(error) = run(lab, action, events).await {
            return failed(step, last, &error);
        }
    }
    match &step.fails {
        None => Done { holds: true, message: String::new() },
        Some(words) => {
            Done { holds: false, message: format!("it was to be refused with “{words}”, but was done") }
        }
    }
}

fn failed(step: &Step, last: bool, error: &Error) -> Done {
    let message = error.to_string();
    // Only a refusal can be the failure that the topology expects.
    let expected = step.fails.as_ref().is_some_and(|words| {
        let said = message.to_ascii_lowercase().contains(&words.to_ascii_lowercase());
        last && said && error.is_refusal()
    });
    Done { holds: expected, message }
}

/// Runs one action.
///
/// # Errors
/// Also refusals: see [`Error::is_refusal`].
pub async fn run(running: &RunningLab, action: &Action, events: &Events) -> Result<(), Error> {
    let lab = &running.plan().lab;
    // Read for each action: hosts come and go.
    let hosts = &running.hosts();
    match action {
        Action::Create(c) => explained(lab, hosts, home(lab, hosts, c)?.docker.run(lab, c).await).await,
        Action::Start(c) => explained(lab, hosts, home(lab, hosts, c)?.docker.start(c).await).await,
        Action::Stop(c) => Ok(home(lab, hosts, c)?.docker.stop(c).await?),
        Action::Restart(c) => explained(lab, hosts, home(lab, hosts, c)?.docker.restart(c).await).await,
        Action::Remove(c) => Ok(home(lab, hosts, c)?.docker.remove(c).await?),
        Action::Connect { container, network, ipv4_address } => {
            // The topology's settings for this attachment, if any; the step's own address wins.
            let declared = match lab.containers.get(container).map(|c| &c.attach) {
                Some(Attach::Networks(networks)) => networks.get(network).cloned().unwrap_or_default(),
                _ => Attachment::default(),
            };
            let to = Attachment { ipv4_address: ipv4_address.or(declared.ipv4_address), ..declared };
            let name = docker_name(lab, network);
            let connected = home(lab, hosts, container)?.docker.connect_network(name, container, &to).await;
            explained(lab, hosts, connected).await
        }
        Action::Disconnect { container, network } => {
            let name = docker_name(lab, network);
            Ok(home(lab, hosts, container)?.docker.disconnect_network(name, container).await?)
        }
        Action::CreateNetwork(network) => {
            for host in network_hosts(lab, hosts, network)? {
                host.docker.create_network(lab, network).await?;
            }
            Ok(())
        }
        Action::RemoveNetwork(network) => {
            for host in network_hosts(lab, hosts, network)? {
                host.docker.remove_network(docker_name(lab, network)).await?;
            }
            Ok(())
        }
        Action::CreateService { service, within } => services::create_one(lab, hosts, service, *within).await,
        Action::RemoveService(service) => services::remove(lab, hosts, service).await,
        Action::Scale { service, replicas, within } => {
            let change = ServiceChange { replicas: Some(*replicas), ..ServiceChange::default() };
            services::update(lab, hosts, service, &change, *within).await
        }
        Action::Update { service, change, within } => {
            services::update(lab, hosts, service, change, *within).await
        }
        Action::Drain(name) => {
            swarm::change_node(lab, hosts, name, NodeChange::Active(false)).await.map(drop)
        }
        Action::Activate(name) => {
            swarm::change_node(lab, hosts, name, NodeChange::Active(true)).await.map(drop)
        }
        Action::Promote(name) => swarm::set_role(lab, hosts, name, Role::Manager).await,
        Action::Demote(name) => swarm::set_role(lab, hosts, name, Role::Worker).await,
        Action::RemoveNode { host: name, force } => swarm::remove_node(lab, hosts, name, *force).await,
        Action::ForceNewCluster(name) => swarm::force_new_cluster(lab, hosts, name).await,
        Action::Leave(name) => Ok(host(hosts, name)?.docker.leave_swarm().await?),
        Action::Join { host: name, role, token, advertise } => {
            swarm::join(lab, hosts, name, *role, *token, *advertise).await
        }
        Action::PruneNetworks(name) => Ok(host(hosts, name)?.docker.prune_networks().await.map(drop)?),
        Action::RouteAdd { host: name, route } => {
            let host = host(hosts, name)?;
            host.agent.route(true, route.clone()).await.map_err(host.failed())
        }
        Action::RouteDel { host: name, route } => {
            let host = host(hosts, name)?;
            host.agent.route(false, route.clone()).await.map_err(host.failed())
        }
        Action::CreateInterface { host: name, name: interface } => {
            set_interface(lab, host(hosts, name)?, interface, true).await
        }
        Action::RemoveInterface { host: name, name: interface } => {
            set_interface(lab, host(hosts, name)?, interface, false).await
        }
        Action::Exec(command) => exec::run(lab, hosts, command).await?.lines(0).map(drop),
        Action::ConfigureDocker { host: name, daemon_json } => {
            let host = host(hosts, name)?;
            host.agent.docker(daemon_json.clone()).await.map(drop).map_err(host.failed())
        }
        Action::Power { host, power } => running.power(host, *power, events).await,
        Action::Docker { host: name, power } => {
            let host = host(hosts, name)?;
            if *power != Power::Start {
                host.agent.end_docker(*power == Power::Kill).await.map_err(host.failed())?;
            }
            match power {
                Power::Start | Power::Restart => host.agent.start_docker().await.map_err(host.failed()),
                Power::Kill | Power::Stop => Ok(()),
            }
        }
        Action::Cut { host, segment, direction } => {
            wire::cut(lab, &*running.running_wire()?, host, segment.as_deref(), *direction).await
        }
        Action::Heal { host, segment } => {
            wire::heal(lab, &*running.running_wire()?, host, segment.as_deref()).await
        }
        Action::Block { filter, place } => wire::block(lab, &*running.running_wire()?, *filter, place).await,
        Action::Unblock { filter, place } => {
            wire::unblock(lab, &*running.running_wire()?, *filter, place).await
        }
    }
}

/// Adds to a refusal what a manager has logged, if that is the cause.
async fn explained(lab: &Lab, hosts: &Hosts, done: Result<(), impl Into<Error>>) -> Result<(), Error> {
    match done {
        Ok(()) => Ok(()),
        Err(error) => Err(services::explain(lab, hosts, error).await),
    }
}

async fn set_interface(lab: &Lab, host: &RunningHost, name: &str, add: bool) -> Result<(), Error> {
    let interfaces = lab.hosts.get(&host.name).map(|h| h.interfaces.as_slice()).unwrap_or_default();
    match interfaces.iter().find(|i| i.name == name) {
        Some(interface) => host.agent.interface(add, interface.clone()).await.map_err(host.failed()),
        None => Ok(()),
    }
}

fn home<'a>(lab: &Lab, hosts: &'a Hosts, container: &str) -> Result<&'a RunningHost, Error> {
    host(hosts, lab.containers.get(container).map_or(container, |c| c.host.as_str()))
}

fn network_hosts<'a>(lab: &Lab, hosts: &'a Hosts, network: &str) -> Result<Vec<&'a RunningHost>, Error> {
    let names = lab.networks.get(network).map(|n| n.hosts.as_slice()).unwrap_or_default();
    if lab.networks.get(network).is_some_and(|n| n.driver == Driver::Overlay)
        && let Some(manager) = lab.swarm.as_ref().and_then(|s| s.managers().find(|m| hosts.contains_key(*m)))
    {
        // The network belongs to the swarm: once is enough.
        return Ok(vec![host(hosts, manager)?]);
    }
    names.iter().map(|n| host(hosts, n)).collect()
}
