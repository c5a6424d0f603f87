//! Services of the swarm and their tasks.

use std::collections::HashMap;

use bollard::{
    models::{
        ContainerSummary, EndpointPortConfig, EndpointPortConfigProtocolEnum,
        EndpointPortConfigPublishModeEnum, EndpointSpec, EndpointSpecModeEnum, NetworkAttachmentConfig,
        ServiceSpec, ServiceSpecMode, ServiceSpecModeReplicated, ServiceUpdateStatus,
        ServiceUpdateStatusStateEnum, Task, TaskSpec, TaskSpecContainerSpec, TaskSpecPlacement, TaskState,
    },
    query_parameters::{
        ListContainersOptionsBuilder, ListNetworksOptions, ListServicesOptions, ListTasksOptions,
        ListTasksOptionsBuilder, UpdateServiceOptionsBuilder,
    },
};
use indexmap::IndexMap;
use labctl_model::{
    EndpointMode, HostAddress, Lab, Placement, Protocol, PublishMode, Rolling, RunOptions, Service,
    ServiceChange, ServiceMode, ServicePort,
};
use labctl_report::seen::{ServiceSeen, TaskSeen, UpdateSeen, docker_name};

use crate::{Call, Error, HostDocker, options, retry_transient};

/// A task on the host that it runs on, by the labels that its container has there (moby
/// daemon/cluster/executor/container/container.go, `labels`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskHere {
    /// Its id.
    pub id: String,
    /// Name of its service.
    pub service: String,
    /// Its number; `None` in a global service.
    pub slot: Option<u64>,
    /// Id of its container.
    pub container: String,
    /// When the container was created, in seconds since the epoch.
    pub created: i64,
}

impl TaskHere {
    fn read(container: ContainerSummary) -> Option<Self> {
        let mut labels = container.labels?;
        let service = labels.remove("com.docker.swarm.service.name")?;
        // `web.1.ID`, for a global service `web.NODE.ID`.
        let name = labels.remove("com.docker.swarm.task.name")?;
        let place = name.strip_prefix(&service)?.strip_prefix('.')?.split('.').next()?;
        Some(Self {
            id: labels.remove("com.docker.swarm.task.id")?,
            slot: place.parse().ok(),
            service,
            container: container.id?,
            created: container.created.unwrap_or_default(),
        })
    }

    /// Its name in the lab: `web.1`; for a global service `web.HOST`.
    pub fn name(&self, host: &str) -> String {
        match self.slot {
            Some(slot) => format!("{}.{slot}", self.service),
            None => format!("{}.{host}", self.service),
        }
    }
}

impl HostDocker {
    /// Creates a service; this host must be a manager.
    pub async fn create_service(&self, lab: &Lab, name: &str, service: &Service) -> Result<(), Error> {
        let spec = ServiceSpec { labels: Some(self.labels.clone()), ..spec(lab, name, service) };
        self.api
            .create_service(spec, None)
            .whole()
            .await
            .map(drop)
            .map_err(self.failed(format!("create service {name}")))
    }

    /// Removes a service.
    pub async fn remove_service(&self, name: &str) -> Result<(), Error> {
        self.api.delete_service(name).whole().await.map_err(self.failed(format!("remove service {name}")))
    }

    /// Docker's id of a service; this host must be a manager.
    pub async fn service_id(&self, name: &str) -> Result<String, Error> {
        let service = self.api.inspect_service(name, None).whole().await;
        Ok(service.map_err(self.failed(format!("inspect service {name}")))?.id.unwrap_or_default())
    }

    /// Changes a service as `docker service update` does. Returns whether Docker has tasks to replace for it.
    pub async fn update_service(&self, lab: &Lab, name: &str, change: &ServiceChange) -> Result<bool, Error> {
        let only_count = ServiceChange { replicas: change.replicas, ..ServiceChange::default() } == *change;
        let what = format!("{} service {name}", if only_count { "scale" } else { "update" });
        let mut networks = HashMap::new();
        let on: Vec<&String> = change.networks.iter().flat_map(IndexMap::keys).collect();
        for key in on {
            // By id, as Docker stores it: so Docker sees if nothing changes.
            let known = self.api.inspect_network(docker_name(lab, key), None).whole().await;
            let id = known.map_err(self.failed(what.as_str()))?.id.unwrap_or_default();
            networks.insert(key.as_str(), id);
        }
        retry_transient(|| async {
            let service =
                self.api.inspect_service(name, None).whole().await.map_err(self.failed(what.as_str()))?;
            let version = service.version.and_then(|v| v.index).unwrap_or_default();
            let old = service.spec.unwrap_or_default();
            let new = changed(lab, old.clone(), change, &networks);
            let replaces = replaces(&old, &new);
            let version = i32::try_from(version).unwrap_or(i32::MAX);
            let options = UpdateServiceOptionsBuilder::new().version(version).build();
            let updated = self.api.update_service(name, new, options, None).whole().await;
            updated.map(|_| replaces).map_err(self.failed(what.as_str()))
        })
        .await
    }

    /// The services that exist.
    pub async fn services(&self) -> Result<Vec<ServiceSeen>, Error> {
        let networks = self
            .api
            .list_networks(None::<ListNetworksOptions>)
            .whole()
            .await
            .map_err(self.failed("list networks"))?;
        let names: HashMap<String, String> =
            networks.into_iter().filter_map(|n| Some((n.id?, n.name?))).collect();
        let options = ListServicesOptions { status: Some(true), ..Default::default() };
        let services =
            self.api.list_services(Some(options)).whole().await.map_err(self.failed("list services"))?;
        let seen = services.into_iter().map(|s| {
            let endpoint = s.endpoint.unwrap_or_default();
            let address = |v: bollard::models::ServiceEndpointVirtualIps| {
                let name = names.get(&v.network_id?)?.clone();
                Some((name, v.addr?.split('/').next()?.parse().ok()?))
            };
            let spec = s.spec.unwrap_or_default();
            let asked = spec.endpoint_spec.unwrap_or_default();
            let placement = spec.task_template.and_then(|t| t.placement).unwrap_or_default();
            ServiceSeen {
                id: s.id.unwrap_or_default(),
                name: spec.name.unwrap_or_default(),
                addresses: endpoint.virtual_ips.unwrap_or_default().into_iter().filter_map(address).collect(),
                desired: s.service_status.and_then(|s| s.desired_tasks).unwrap_or_default(),
                global: spec.mode.is_some_and(|m| m.global.is_some()),
                constraints: placement.constraints.unwrap_or_default(),
                ports: endpoint.ports.or(asked.ports).iter().flatten().filter_map(published).collect(),
                dnsrr: asked.mode == Some(EndpointSpecModeEnum::DNSRR),
                update: s.update_status.and_then(update),
            }
        });
        Ok(seen.collect())
    }

    /// Tasks of a service, by its id, that must end but have not: their containers may still run.
    pub async fn ending_tasks(&self, service: &str) -> Result<Vec<TaskSeen>, Error> {
        let mut tasks = self.list_tasks().await?;
        tasks.retain(|t| t.service_id.as_deref() == Some(service) && is_ending(t));
        Ok(tasks.into_iter().map(seen).collect())
    }

    async fn list_tasks(&self) -> Result<Vec<Task>, Error> {
        self.api.list_tasks(None::<ListTasksOptions>).whole().await.map_err(self.failed("list tasks"))
    }

    /// The tasks that should run.
    pub async fn tasks(&self) -> Result<Vec<TaskSeen>, Error> {
        let filters = HashMap::from([("desired-state", vec!["running"])]);
        let options = ListTasksOptionsBuilder::new().filters(&filters).build();
        let tasks = self.api.list_tasks(Some(options)).whole().await.map_err(self.failed("list tasks"))?;
        Ok(tasks.into_iter().map(seen).collect())
    }

    /// The tasks that run on this host, whether a manager can be asked or not.
    pub async fn tasks_here(&self) -> Result<Vec<TaskHere>, Error> {
        let filters =
            HashMap::from([("label", vec!["com.docker.swarm.task.id"]), ("status", vec!["running"])]);
        let options = ListContainersOptionsBuilder::new().filters(&filters).build();
        let found =
            self.api.list_containers(Some(options)).whole().await.map_err(self.failed("list containers"))?;
        Ok(found.into_iter().filter_map(TaskHere::read).collect())
    }

    /// Errors of tasks that should no longer run, by service and slot or, if global, node. Docker makes a new task for
    /// one that fails, and the new one does not have the error.
    pub async fn past_errors(&self) -> Result<HashMap<(String, String), String>, Error> {
        let mut past = self.list_tasks().await?;
        past.retain(|t| t.desired_state != Some(TaskState::RUNNING));
        past.sort_by_key(|t| t.created_at.as_ref().map(ToString::to_string));
        Ok(past
            .into_iter()
            .map(seen)
            .filter(|t| t.state.contains(": "))
            .map(|t| ((t.service.clone(), t.place()), t.state))
            .collect())
    }
}

/// Whether a task must end, and its node has begun with it but not ended it.
fn is_ending(task: &Task) -> bool {
    use TaskState::{ACCEPTED, ASSIGNED, PREPARING, READY, REMOVE, RUNNING, SHUTDOWN, STARTING};
    let begun = [ASSIGNED, ACCEPTED, PREPARING, READY, STARTING, RUNNING];
    matches!(task.desired_state, Some(SHUTDOWN | REMOVE))
        && task.status.as_ref().and_then(|s| s.state).is_some_and(|state| begun.contains(&state))
}

fn seen(task: Task) -> TaskSeen {
    let status = task.status.unwrap_or_default();
    let state = status.state.unwrap_or(TaskState::NEW);
    let why = status.err.filter(|e| !e.is_empty()).map(|e| format!(": {e}")).unwrap_or_default();
    TaskSeen {
        id: task.id.unwrap_or_default(),
        service: task.service_id.unwrap_or_default(),
        slot: task.slot.filter(|s| *s > 0),
        node: task.node_id.unwrap_or_default(),
        container: status.container_status.and_then(|c| c.container_id).filter(|c| !c.is_empty()),
        running: state == TaskState::RUNNING,
        state: format!("{state}{why}"),
    }
}

fn spec(lab: &Lab, name: &str, service: &Service) -> ServiceSpec {
    let networks =
        service.networks.iter().map(|(key, aliases)| attachment(docker_name(lab, key).to_owned(), aliases));
    let container = TaskSpecContainerSpec {
        image: Some(service.image.clone()),
        args: some(service.command.clone()),
        env: some(environment(&service.environment)),
        ..Default::default()
    };
    let mut spec = ServiceSpec {
        name: Some(name.to_owned()),
        task_template: Some(TaskSpec {
            container_spec: Some(container),
            placement: Some(TaskSpecPlacement {
                constraints: some(constraints(lab, &service.placement)),
                ..Default::default()
            }),
            networks: Some(networks.collect()),
            ..Default::default()
        }),
        mode: Some(match service.mode {
            ServiceMode::Replicated(replicas) => replicated(replicas),
            ServiceMode::Global => ServiceSpecMode { global: Some(HashMap::new()), ..Default::default() },
        }),
        endpoint_spec: Some(EndpointSpec {
            mode: Some(endpoint_mode(service.endpoint_mode)),
            ports: some(service.ports.iter().map(port).collect()),
        }),
        ..Default::default()
    };
    set(&mut spec, &service.run, &service.rolling);
    spec
}

/// Sets what is given of these in a service's spec; the rest stays.
fn set(spec: &mut ServiceSpec, run: &RunOptions, rolling: &Rolling) {
    let task = spec.task_template.get_or_insert_default();
    let container = task.container_spec.get_or_insert_default();
    if run.dns.is_some() || run.dns_search.is_some() || run.dns_opt.is_some() {
        let dns = container.dns_config.get_or_insert_default();
        if let Some(servers) = &run.dns {
            dns.nameservers = some(servers.iter().map(ToString::to_string).collect());
        }
        if let Some(search) = &run.dns_search {
            dns.search = some(search.clone());
        }
        if let Some(options) = &run.dns_opt {
            dns.options = some(options.clone());
        }
    }
    if let Some(hosts) = &run.extra_hosts {
        // As in /etc/hosts.
        let line = |(name, a): &(String, HostAddress)| format!("{} {name}", options::host_address(*a));
        container.hosts = some(hosts.iter().map(line).collect());
    }
    if let Some(volumes) = &run.volumes {
        container.mounts = some(volumes.iter().map(options::mount).collect());
    }
    if let Some(check) = &run.healthcheck {
        container.health_check = Some(options::healthcheck(check));
    }
    if let Some(limits) = &run.ulimits {
        container.ulimits = some(options::ulimits(limits));
    }
    if let Some(grace) = run.stop_grace_period {
        container.stop_grace_period = Some(options::nanoseconds(grace));
    }
    if let Some(restart) = &rolling.restart {
        task.restart_policy = Some(options::task_restart(restart));
    }
    if let Some(pace) = &rolling.update {
        spec.update_config = Some(options::update(pace));
    }
    if let Some(pace) = &rolling.rollback {
        spec.rollback_config = Some(options::rollback(pace));
    }
}

/// A service's spec with these changes made. `networks` are Docker's ids of its new networks, by key.
fn changed(
    lab: &Lab,
    mut spec: ServiceSpec,
    change: &ServiceChange,
    networks: &HashMap<&str, String>,
) -> ServiceSpec {
    let task = spec.task_template.get_or_insert_default();
    let container = task.container_spec.get_or_insert_default();
    if let Some(image) = &change.image {
        container.image = Some(image.clone());
    }
    if let Some(command) = &change.command {
        container.args = some(command.clone());
    }
    if let Some(environment) = &change.environment {
        container.env = some(self::environment(environment));
    }
    if let Some(on) = &change.networks {
        let id = |key: &str| networks.get(key).cloned().unwrap_or_default();
        task.networks = some(on.iter().map(|(key, aliases)| attachment(id(key), aliases)).collect());
        // The older place for networks; Docker refuses two lists.
        spec.networks = None;
    }
    if let Some(placement) = &change.placement {
        task.placement.get_or_insert_default().constraints = some(constraints(lab, placement));
    }
    let endpoint = spec.endpoint_spec.get_or_insert_default();
    if let Some(mode) = change.endpoint_mode {
        endpoint.mode = Some(endpoint_mode(mode));
    }
    if let Some(ports) = &change.ports {
        endpoint.ports = some(ports.iter().map(port).collect());
    }
    if let Some(replicas) = change.replicas {
        spec.mode = Some(replicated(replicas));
    }
    set(&mut spec, &change.run, &change.rolling);
    spec
}

/// Whether the change replaces tasks (swarmkit, `orchestrator.IsTaskDirty`). New placement alone does not, if the node
/// still fits.
fn replaces(old: &ServiceSpec, new: &ServiceSpec) -> bool {
    let tasks = |s: &ServiceSpec| {
        let any = s.mode.as_ref().and_then(|m| m.replicated.as_ref()?.replicas) != Some(0);
        any.then(|| TaskSpec { placement: None, ..s.task_template.clone().unwrap_or_default() })
    };
    match (tasks(old), tasks(new)) {
        (Some(was), Some(is)) => was != is || old.endpoint_spec != new.endpoint_spec,
        _ => false,
    }
}

/// An empty list is `None`, as Docker returns it.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn environment(variables: &IndexMap<String, String>) -> Vec<String> {
    variables.iter().map(|(k, v)| format!("{k}={v}")).collect()
}

fn attachment(network: String, aliases: &[String]) -> NetworkAttachmentConfig {
    NetworkAttachmentConfig { target: Some(network), aliases: some(aliases.to_vec()), ..Default::default() }
}

fn endpoint_mode(mode: EndpointMode) -> EndpointSpecModeEnum {
    match mode {
        EndpointMode::Vip => EndpointSpecModeEnum::VIP,
        EndpointMode::Dnsrr => EndpointSpecModeEnum::DNSRR,
    }
}

fn update(status: ServiceUpdateStatus) -> Option<UpdateSeen> {
    use ServiceUpdateStatusStateEnum as State;
    match status.state? {
        State::EMPTY => None,
        State::COMPLETED => Some(UpdateSeen::Completed),
        State::UPDATING | State::ROLLBACK_STARTED => Some(UpdateSeen::UnderWay),
        State::PAUSED | State::ROLLBACK_PAUSED | State::ROLLBACK_COMPLETED => {
            Some(UpdateSeen::Stopped(status.message.unwrap_or_default()))
        }
    }
}

fn replicated(replicas: u32) -> ServiceSpecMode {
    let replicas = Some(i64::from(replicas));
    ServiceSpecMode { replicated: Some(ServiceSpecModeReplicated { replicas }), ..Default::default() }
}

fn port(port: &labctl_model::ServicePort) -> EndpointPortConfig {
    EndpointPortConfig {
        protocol: Some(match port.protocol {
            Protocol::Tcp => EndpointPortConfigProtocolEnum::TCP,
            Protocol::Udp => EndpointPortConfigProtocolEnum::UDP,
        }),
        target_port: Some(i64::from(port.target)),
        published_port: port.published.map(i64::from),
        publish_mode: Some(match port.mode {
            PublishMode::Ingress => EndpointPortConfigPublishModeEnum::INGRESS,
            PublishMode::Host => EndpointPortConfigPublishModeEnum::HOST,
        }),
        ..Default::default()
    }
}

fn published(port: &EndpointPortConfig) -> Option<ServicePort> {
    let number = |n: Option<i64>| n.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
    Some(ServicePort {
        published: number(port.published_port),
        target: number(port.target_port)?,
        protocol: match port.protocol? {
            EndpointPortConfigProtocolEnum::TCP => Protocol::Tcp,
            EndpointPortConfigProtocolEnum::UDP => Protocol::Udp,
            _ => return None,
        },
        mode: match port.publish_mode {
            Some(EndpointPortConfigPublishModeEnum::HOST) => PublishMode::Host,
            _ => PublishMode::Ingress,
        },
    })
}

/// All constraints must hold at once, so several hosts are given by excluding all others.
fn constraints(lab: &Lab, placement: &Placement) -> Vec<String> {
    let mut all = placement.constraints.clone();
    match placement.hosts.as_slice() {
        [] => {}
        [only] => all.push(format!("node.hostname=={only}")),
        some => {
            let nodes = lab.swarm.iter().flat_map(|s| s.nodes.keys());
            all.extend(nodes.filter(|n| !some.contains(n)).map(|n| format!("node.hostname!={n}")));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LAB: &str = "
name: t
segments: { lan: { subnet: 10.0.0.0/24 } }
hosts: { a: { lan: 10.0.0.1 }, b: { lan: 10.0.0.2 }, c: { lan: 10.0.0.3 } }
swarm: {}
networks: { net: { driver: overlay, name: real } }
services:
  one: { hosts: [b] }
  two: { hosts: [a, c], networks: { net: { aliases: [www] } }, ports: ['8080:80'], deploy: { mode: global } }
";

    #[test]
    fn a_task_is_known_by_its_containers_labels() {
        let container = |name: &str| ContainerSummary {
            id: Some("c0".into()),
            labels: Some(HashMap::from(
                [("service.name", "web.api"), ("task.name", name), ("task.id", "t0")]
                    .map(|(key, value)| (format!("com.docker.swarm.{key}"), value.to_owned())),
            )),
            ..ContainerSummary::default()
        };
        let name = |name: &str| TaskHere::read(container(name)).map(|task| task.name("host1"));
        assert_eq!(name("web.api.2.t0").as_deref(), Some("web.api.2"));
        assert_eq!(name("web.api.n4q.t0").as_deref(), Some("web.api.host1"));
        assert_eq!(name("other.2.t0"), None);
        assert_eq!(TaskHere::read(ContainerSummary::default()), None);
    }

    #[test]
    fn hosts_become_constraints_that_can_all_hold() {
        let lab = labctl_topology::parse(LAB, "t.yaml").unwrap();
        assert_eq!(constraints(&lab, &lab.services["one"].placement), ["node.hostname==b"]);
        assert_eq!(constraints(&lab, &lab.services["two"].placement), ["node.hostname!=b"]);
    }

    #[test]
    fn a_service_is_handed_to_docker_as_it_is_written() {
        let lab = labctl_topology::parse(LAB, "t.yaml").unwrap();
        let json = serde_json::to_value(spec(&lab, "two", &lab.services["two"])).unwrap();
        assert_eq!(json["Mode"]["Global"], serde_json::json!({}));
        assert_eq!(json["TaskTemplate"]["Networks"][0]["Target"], "real");
        assert_eq!(json["TaskTemplate"]["Networks"][0]["Aliases"][0], "www");
        let port = &json["EndpointSpec"]["Ports"][0];
        assert_eq!((&port["PublishedPort"], &port["TargetPort"]), (&8080.into(), &80.into()));
        assert_eq!((&port["Protocol"], &port["PublishMode"]), (&"tcp".into(), &"ingress".into()));
    }

    #[test]
    fn an_update_changes_what_it_names_and_says_whether_tasks_are_replaced() {
        let lab = labctl_topology::parse(LAB, "t.yaml").unwrap();
        let old = spec(&lab, "one", &lab.services["one"]);
        let change = |text: &str| match labctl_topology::parse_action(&format!("update one {text}"), &lab) {
            Ok(labctl_model::Action::Update { change, .. }) => *change,
            other => panic!("{other:?}"),
        };
        let ids = HashMap::from([("net", "id1".to_owned())]);
        let new = |text: &str| changed(&lab, old.clone(), &change(text), &ids);
        let after = new("{ networks: { net: { aliases: [www] } }, ports: ['81:80'], environment: { A: b } }");
        let json = serde_json::to_value(&after).unwrap();
        assert_eq!(
            json["TaskTemplate"]["Networks"],
            serde_json::json!([{ "Target": "id1", "Aliases": ["www"] }])
        );
        assert_eq!(json["TaskTemplate"]["ContainerSpec"]["Env"], serde_json::json!(["A=b"]));
        assert_eq!(json["EndpointSpec"]["Ports"][0]["PublishedPort"], 81);
        // What it does not name stays.
        assert_eq!(json["TaskTemplate"]["Placement"]["Constraints"][0], "node.hostname==b");
        for (text, tasks_go) in [
            ("{ image: other }", true),
            ("{ ports: ['81:80'] }", true),
            ("{ ports: [] }", false),
            ("{ hosts: [a] }", false),
            ("{ deploy: { replicas: 3 } }", false),
            ("{ deploy: { replicas: 0 }, image: other }", false),
        ] {
            assert_eq!(replaces(&old, &new(text)), tasks_go, "{text}");
        }
    }
}
