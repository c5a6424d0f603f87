//! Runs the actions of steps on a lab.

use labctl_docker::swarm::NodeChange;
use labctl_machines::Events;
use labctl_model::{Action, Attach, Attachment, Driver, Network, Power, Role, ServiceChange, Step};
use labctl_report::seen::docker_name;

use crate::{Error, exec, host::RunningHost, lab::RunningLab, probe, services, swarm, view::View, wire};

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

/// Runs one action, and notes that it was done.
///
/// # Errors
/// Also refusals: see [`Error::is_refusal`].
pub async fn run(running: &RunningLab, action: &Action, events: &Events) -> Result<(), Error> {
    perform(running, action, events).await?;
    running.note(action);
    Ok(())
}

async fn perform(running: &RunningLab, action: &Action, events: &Events) -> Result<(), Error> {
    // Read for each action: hosts come and go.
    let view = &running.view();
    let lab = view.lab;
    match action {
        Action::Create(c) => {
            explained(view, view.home(c)?.docker.run(lab, c, view.container(c)?).await).await
        }
        Action::Start(c) => explained(view, view.home(c)?.docker.start(c).await).await,
        Action::Stop(c) => Ok(view.home(c)?.docker.stop(c, view.container(c)?).await?),
        Action::Restart(c) => {
            explained(view, view.home(c)?.docker.restart(c, view.container(c)?).await).await
        }
        Action::Remove(c) => Ok(view.home(c)?.docker.remove(c).await?),
        Action::Connect { container, network, address } => {
            // The topology's settings for this attachment, if any; the step's own address wins.
            let declared = match lab.containers.get(container).map(|c| &c.attach) {
                Some(Attach::Networks(networks)) => networks.get(network).cloned().unwrap_or_default(),
                _ => Attachment::default(),
            };
            let mut to = declared;
            address.iter().for_each(|address| to.set_address(*address));
            let name = docker_name(lab, network);
            let connected = view.home(container)?.docker.connect_network(name, container, &to).await;
            explained(view, connected).await
        }
        Action::Disconnect { container, network } => {
            let name = docker_name(lab, network);
            Ok(view.home(container)?.docker.disconnect_network(name, container).await?)
        }
        Action::CreateNetwork(network) => {
            let network = view.network(network)?;
            for host in network_hosts(view, network)? {
                host.docker.create_network(lab, network).await?;
            }
            Ok(())
        }
        Action::RemoveNetwork(network) => {
            let network = view.network(network)?;
            for host in network_hosts(view, network)? {
                host.docker.remove_network(&network.docker_name).await?;
            }
            Ok(())
        }
        Action::CreateService { service, within } => services::create_one(view, service, *within).await,
        Action::RemoveService(service) => services::remove(view, service).await,
        Action::Scale { service, replicas, within } => {
            let change = ServiceChange { replicas: Some(*replicas), ..ServiceChange::default() };
            services::update(view, service, &change, *within).await
        }
        Action::Update { service, change, within } => services::update(view, service, change, *within).await,
        Action::Drain(name) => swarm::change_node(view, name, NodeChange::Active(false)).await.map(drop),
        Action::Activate(name) => swarm::change_node(view, name, NodeChange::Active(true)).await.map(drop),
        Action::Promote(name) => swarm::set_role(view, name, Role::Manager).await,
        Action::Demote(name) => swarm::set_role(view, name, Role::Worker).await,
        Action::RemoveNode { host: name, force } => swarm::remove_node(view, name, *force).await,
        Action::ForceNewCluster(name) => swarm::force_new_cluster(view, name).await,
        Action::Leave(name) => Ok(view.host(name)?.docker.leave_swarm().await?),
        Action::Join { host: name, role, token, advertise } => {
            swarm::join(view, name, *role, *token, *advertise).await
        }
        Action::PruneNetworks(name) => Ok(view.host(name)?.docker.prune_networks().await.map(drop)?),
        Action::RouteAdd { host: name, route } => {
            let host = view.host(name)?;
            host.agent.route(true, route.clone()).await.map_err(host.failed())
        }
        Action::RouteDel { host: name, route } => {
            let host = view.host(name)?;
            host.agent.route(false, route.clone()).await.map_err(host.failed())
        }
        Action::CreateInterface { host: name, name: interface } => {
            set_interface(view, name, interface, true).await
        }
        Action::RemoveInterface { host: name, name: interface } => {
            set_interface(view, name, interface, false).await
        }
        Action::Exec(command) => exec::run(view, command).await?.lines(0).map(drop),
        Action::ConfigureDocker { host: name, daemon_json } => {
            let host = view.host(name)?;
            host.agent.docker(daemon_json.clone()).await.map(drop).map_err(host.failed())
        }
        Action::Power { host, power } => running.power(host, *power, events).await,
        Action::Reset => running.reset_alone(None, events).await,
        Action::Docker { host: name, power } => {
            let host = view.host(name)?;
            if *power != Power::Start {
                // For what is asked while it is away. If it is away already, the last look counts.
                let _ = probe::look(view, host).await;
                host.agent.end_docker(*power == Power::Kill).await.map_err(host.failed())?;
            }
            match power {
                Power::Start | Power::Restart => host.agent.start_docker().await.map_err(host.failed()),
                Power::Kill | Power::Stop => Ok(()),
            }
        }
        Action::Cut { host, segment, direction } => {
            wire::cut(view, host, segment.as_deref(), *direction).await
        }
        Action::Heal { host, segment } => wire::heal(view, host, segment.as_deref()).await,
        Action::Block { filter, place } => wire::block(view, *filter, place).await,
        Action::Unblock { filter, place } => wire::unblock(view, *filter, place).await,
    }
}

/// Adds to a refusal what a manager has logged, if that is the cause.
async fn explained(view: &View<'_>, done: Result<(), impl Into<Error>>) -> Result<(), Error> {
    match done {
        Ok(()) => Ok(()),
        Err(error) => Err(services::explain(view, error).await),
    }
}

async fn set_interface(view: &View<'_>, host: &str, name: &str, add: bool) -> Result<(), Error> {
    let interfaces = &view.named("host", &view.lab.hosts, host)?.interfaces;
    let interface = interfaces.iter().find(|i| i.name == name);
    let known = || view.no_such("interface", name, interfaces.iter().map(|i| i.name.as_str()));
    let host = view.host(host)?;
    host.agent.interface(add, interface.ok_or_else(known)?.clone()).await.map_err(host.failed())
}

/// Where a network is made and removed: on each of its hosts or, if it belongs to the swarm, on a manager alone.
fn network_hosts<'v>(view: &'v View<'_>, network: &Network) -> Result<Vec<&'v RunningHost>, Error> {
    if network.driver == Driver::Overlay
        && let Some(swarm) = &view.lab.swarm
        && let Some(manager) = swarm.managers().find(|m| view.hosts.contains_key(*m))
    {
        return Ok(vec![view.host(manager)?]);
    }
    network.hosts.iter().map(|n| view.host(n)).collect()
}
