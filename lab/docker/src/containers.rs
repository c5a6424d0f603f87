//! Containers of a lab on one host.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use bollard::{
    models::{
        ContainerCreateBody, ContainerInspectResponse, ContainerSummaryStateEnum, EndpointIpamConfig,
        EndpointSettings, HostConfig, Ipam, IpamConfig, NetworkCreateRequest, NetworkingConfig, PortBinding,
    },
    query_parameters::{
        CreateContainerOptions, ImportImageOptions, RemoveContainerOptionsBuilder,
        RestartContainerOptionsBuilder, StopContainerOptionsBuilder,
    },
};
use bytes::Bytes;
use futures::StreamExt;
use indexmap::IndexMap;
use labctl_model::{Attach, Attachment, BUILTIN_IMAGE, Container, Driver, Lab, Protocol, Publish};
use labctl_protocol::messages::BUILTIN_RUNTIME;
use labctl_report::seen::{ContainerState, docker_name};

use crate::{Call, Error, HostDocker, is_not_found, networks::endpoint, options, retry_transient};

/// Seconds that a container gets to stop if it does not say. The built-in image stops at once.
const STOP_TIMEOUT_S: i32 = 3;

/// Time limit for loading an image.
const LOADED: Duration = Duration::from_secs(300);

impl HostDocker {
    /// Loads images from a tar, as `docker load` does.
    pub async fn load_image(&self, tar: Bytes) -> Result<(), Error> {
        let said = |message| Error::Refused { host: self.host.clone(), what: "load image".into(), message };
        let loaded = async {
            let mut progress =
                self.api.import_image(ImportImageOptions::default(), bollard::body_full(tar), None);
            while let Some(line) = progress.next().await {
                let line = line.map_err(self.failed("load image"))?;
                if let Some(error) = line.error_detail {
                    return Err(said(error.message.unwrap_or_default()));
                }
            }
            Ok(())
        };
        // The client's own limit ends with the head of the answer.
        let timeout = tokio::time::timeout(LOADED, loaded).await;
        timeout.unwrap_or_else(|_| Err(said(format!("it is not loaded after {} s", LOADED.as_secs()))))
    }

    /// Whether the host has an image.
    pub async fn has_image(&self, name: &str) -> Result<bool, Error> {
        match self.api.inspect_image(name).whole().await {
            Ok(_) => Ok(true),
            Err(e) if is_not_found(&e) => Ok(false),
            Err(e) => Err(self.failed(format!("inspect image {name}"))(e)),
        }
    }

    /// Creates a container, connects it to all its networks, and starts it. If it cannot be started it is removed again,
    /// so that a refused start can be retried.
    pub async fn run(&self, lab: &Lab, name: &str, container: &Container) -> Result<(), Error> {
        retry_transient(|| self.run_once(lab, name, container)).await
    }

    async fn run_once(&self, lab: &Lab, name: &str, container: &Container) -> Result<(), Error> {
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let body = create_body(lab, container, self.shortcuts);
        let body = ContainerCreateBody { labels: Some(self.labels.clone()), ..body };
        self.api
            .create_container(Some(options), body)
            .whole()
            .await
            .map_err(self.failed(format!("create container {name}")))?;
        let started = self.attach_and_start(lab, name, container).await;
        if started.is_err() {
            // The first error is the one that matters.
            let _ = self.remove(name).await;
        }
        started
    }

    async fn attach_and_start(&self, lab: &Lab, name: &str, container: &Container) -> Result<(), Error> {
        let Attach::Networks(networks) = &container.attach else { return self.start_once(name).await };
        let first = made_on(lab, networks);
        // If all are overlays, the first has to be there before the others.
        let starts_first = first.is_some_and(|key| is_overlay(lab, key));
        if starts_first {
            self.start_once(name).await?;
        }
        for (key, attachment) in networks.iter().filter(|(key, _)| Some(*key) != first) {
            self.connect_network_once(docker_name(lab, key), name, attachment).await?;
        }
        if starts_first { Ok(()) } else { self.start_once(name).await }
    }

    /// Runs one container of this image on each kind of network and removes it: from then on memory holds what that
    /// needs of disk and kernel.
    pub async fn rehearse(&self, image: &str) -> Result<(), Error> {
        const NAME: &str = "labctl-rehearsal";
        let what = || format!("run {NAME}");
        let network = NetworkCreateRequest {
            name: NAME.into(),
            driver: Some("ipvlan".into()),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig { subnet: Some("192.0.2.0/24".into()), ..Default::default() }]),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.api.create_network(network).whole().await.map_err(self.failed(what()))?;
        for mode in ["bridge", NAME] {
            let options = CreateContainerOptions { name: Some(NAME.to_owned()), ..Default::default() };
            let body = ContainerCreateBody {
                image: Some(image.to_owned()),
                host_config: Some(HostConfig {
                    network_mode: Some(mode.to_owned()),
                    runtime: runtime(image, self.shortcuts),
                    ..Default::default()
                }),
                ..Default::default()
            };
            self.api.create_container(Some(options), body).whole().await.map_err(self.failed(what()))?;
            self.start(NAME).await?;
            self.state(NAME).await?;
            self.remove(NAME).await?;
        }
        self.remove_network(NAME).await
    }

    /// Starts a container.
    pub async fn start(&self, name: &str) -> Result<(), Error> {
        retry_transient(|| self.start_once(name)).await
    }

    async fn start_once(&self, name: &str) -> Result<(), Error> {
        self.api
            .start_container(name, None)
            .whole()
            .await
            .map_err(self.failed(format!("start container {name}")))
    }

    /// Stops a container; kills it after its grace period.
    pub async fn stop(&self, name: &str, container: &Container) -> Result<(), Error> {
        let options = StopContainerOptionsBuilder::new().t(grace(container)).build();
        self.api
            .stop_container(name, Some(options))
            .whole()
            .await
            .map_err(self.failed(format!("stop container {name}")))
    }

    /// Restarts a container.
    pub async fn restart(&self, name: &str, container: &Container) -> Result<(), Error> {
        let what = format!("restart container {name}");
        retry_transient(|| async {
            let options = RestartContainerOptionsBuilder::new().t(grace(container)).build();
            self.api.restart_container(name, Some(options)).whole().await.map_err(self.failed(what.as_str()))
        })
        .await
    }

    /// Removes a container by force.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::new().force(true).build();
        self.api
            .remove_container(name, Some(options))
            .whole()
            .await
            .map_err(self.failed(format!("remove container {name}")))
    }

    /// The current state of a container.
    pub async fn state(&self, name: &str) -> Result<ContainerState, Error> {
        match self.api.inspect_container(name, None).whole().await {
            Ok(inspected) => Ok(summary(inspected)),
            Err(e) if is_not_found(&e) => {
                Ok(ContainerState { status: "absent".into(), ..Default::default() })
            }
            Err(e) => Err(self.failed(format!("inspect container {name}"))(e)),
        }
    }

    /// Names and state of all containers that run. Their processes are not in Docker's list.
    pub async fn running(&self) -> Result<Vec<(Vec<String>, ContainerState)>, Error> {
        let listed =
            self.api.list_containers(None).whole().await.map_err(self.failed("list containers"))?.into_iter();
        let running = listed.filter(|c| c.state == Some(ContainerSummaryStateEnum::RUNNING)).map(|c| {
            let names = c.names.unwrap_or_default();
            let networks = c.network_settings.and_then(|s| s.networks).unwrap_or_default();
            let state = ContainerState { status: "running".to_owned(), ..attached(c.id, networks) };
            (names.iter().map(|name| name.trim_start_matches('/').to_owned()).collect(), state)
        });
        Ok(running.collect())
    }
}

/// Seconds that a container gets to stop.
fn grace(container: &Container) -> i32 {
    container.run.stop_grace_period.map_or(STOP_TIMEOUT_S, options::seconds)
}

fn summary(inspected: ContainerInspectResponse) -> ContainerState {
    let state = inspected.state.unwrap_or_default();
    let networks = inspected.network_settings.and_then(|s| s.networks).unwrap_or_default();
    ContainerState {
        status: state.status.map(|s| s.to_string()).unwrap_or_default(),
        pid: state.pid.and_then(|p| u32::try_from(p).ok()).filter(|p| *p > 0),
        ..attached(inspected.id, networks)
    }
}

/// A container with these networks, of which no more is known.
fn attached(id: Option<String>, networks: HashMap<String, EndpointSettings>) -> ContainerState {
    let ids = networks.iter().filter_map(|(name, e)| Some((name.clone(), e.network_id.clone()?)));
    let network_ids = ids.filter(|(_, id)| !id.is_empty()).collect();
    let both = networks.into_iter().flat_map(|(name, e)| {
        let all = [e.ip_address, e.global_ipv6_address].into_iter().flatten();
        all.filter_map(move |a| Some((name.clone(), a.parse().ok()?)))
    });
    let mut addresses: Vec<(String, IpAddr)> = both.collect();
    addresses.sort();
    ContainerState { id: id.unwrap_or_default(), addresses, network_ids, ..Default::default() }
}

fn create_body(lab: &Lab, container: &Container, has_shortcuts: bool) -> ContainerCreateBody {
    let (mode, endpoints) = attach(lab, container);
    let run = &container.run;
    ContainerCreateBody {
        image: Some(container.image.clone()),
        cmd: (!container.command.is_empty()).then(|| container.command.clone()),
        hostname: container.hostname.clone(),
        env: Some(container.environment.iter().map(|(k, v)| format!("{k}={v}")).collect()),
        exposed_ports: Some(container.ports.iter().map(port_key).collect()),
        healthcheck: run.healthcheck.as_ref().map(options::healthcheck),
        stop_timeout: run.stop_grace_period.map(|d| options::seconds(d).into()),
        host_config: Some(HostConfig {
            network_mode: Some(mode),
            port_bindings: Some(port_bindings(&container.ports)),
            links: (!container.links.is_empty())
                .then(|| container.links.iter().map(|l| format!("{}:{}", l.target, l.alias)).collect()),
            cap_add: (!container.cap_add.is_empty()).then(|| container.cap_add.clone()),
            sysctls: Some(container.sysctls.iter().map(|(k, v)| (k.clone(), v.clone())).collect()),
            restart_policy: container.restart.map(options::restart),
            privileged: container.privileged.then_some(true),
            devices: (!container.devices.is_empty())
                .then(|| container.devices.iter().map(options::device).collect()),
            dns: run.dns.as_ref().map(|list| list.iter().map(ToString::to_string).collect()),
            dns_search: run.dns_search.clone(),
            dns_options: run.dns_opt.clone(),
            extra_hosts: run.extra_hosts.as_ref().map(|hosts| {
                hosts.iter().map(|(name, a)| format!("{name}:{}", options::host_address(*a))).collect()
            }),
            mounts: run.volumes.as_ref().map(|list| list.iter().map(options::mount).collect()),
            ulimits: run.ulimits.as_ref().map(options::ulimits),
            runtime: runtime(&container.image, has_shortcuts),
            ..Default::default()
        }),
        networking_config: endpoints,
        ..Default::default()
    }
}

/// `NetworkMode` and the settings of the first endpoint: before API 1.44 Docker takes only one at creation.
fn attach(lab: &Lab, container: &Container) -> (String, Option<NetworkingConfig>) {
    let config = |name: &str, settings| {
        Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(name.to_owned(), settings)])) })
    };
    match &container.attach {
        Attach::Host => ("host".into(), None),
        Attach::None => ("none".into(), None),
        Attach::Container(other) => (format!("container:{other}"), None),
        Attach::DefaultBridge { ipv4_address: None } => ("bridge".into(), None),
        Attach::DefaultBridge { ipv4_address: Some(address) } => {
            let ipam = EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..Default::default() };
            let settings = EndpointSettings { ipam_config: Some(ipam), ..Default::default() };
            ("bridge".into(), config("bridge", settings))
        }
        Attach::Networks(networks) => match made_on(lab, networks) {
            None => ("none".into(), None),
            Some(key) => {
                let name = docker_name(lab, key);
                (name.to_owned(), config(name, endpoint(&networks[key])))
            }
        },
    }
}

/// The network that a container is made on: the first that is no overlay, which Docker knows at each start
/// (`UNATTACHED`), else the first.
fn made_on<'a>(lab: &Lab, networks: &'a IndexMap<String, Attachment>) -> Option<&'a String> {
    networks.keys().find(|key| !is_overlay(lab, key)).or_else(|| networks.keys().next())
}

fn is_overlay(lab: &Lab, key: &str) -> bool {
    lab.networks.get(key).is_some_and(|n| n.driver == Driver::Overlay)
}

/// The runtime of a container of this image in a host with shortcuts: the built-in image only waits, so a small one will
/// do. Every other image gets what Docker gives it.
fn runtime(image: &str, has_shortcuts: bool) -> Option<String> {
    (has_shortcuts && image == BUILTIN_IMAGE).then(|| BUILTIN_RUNTIME.to_owned())
}

fn port_key(port: &Publish) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{}/{protocol}", port.target)
}

fn port_bindings(ports: &[Publish]) -> HashMap<String, Option<Vec<PortBinding>>> {
    let mut map: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in ports {
        map.entry(port_key(port)).or_default().get_or_insert_default().push(PortBinding {
            host_ip: port.host_ip.map(|a| a.to_string()),
            host_port: port.published.map(|p| p.to_string()),
        });
    }
    map
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_labctls_own_image_has_another_runtime_and_only_where_a_host_has_them() {
        let text = "name: t\nsegments: { lan: { subnet: 10.0.0.0/24 } }\nhosts: { a: { lan: 10.0.0.1 } }\n\
                    containers: { own: {}, other: { image: redis } }\n";
        let lab = labctl_topology::parse(text, "t.yaml").unwrap();
        let of = |name: &str, has| create_body(&lab, &lab.containers[name], has).host_config.unwrap();
        assert_eq!(of("own", true).runtime.as_deref(), Some(BUILTIN_RUNTIME));
        assert_eq!((of("other", true).runtime, of("own", false).runtime), (None, None));
    }
}
