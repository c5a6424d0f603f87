//! A running host of a lab: its agent, its dockerd, and the Docker socket that labctl offers for it.

use std::{
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use labctl_docker::HostDocker;
use labctl_images::{hash::hex, load::Images};
use labctl_machines::{
    Events,
    forward::{Forward, GUEST_DOCKER_SOCKET},
};
use labctl_model::{Action, Family, Lab, PerFamily};
use labctl_protocol::{
    client::{AgentClient, ClientError},
    made::Made,
    messages::{HostConfig, NicConfig},
};
use rand::RngExt;

use crate::Error;

/// The bridge that Docker makes on every node of a swarm, and leaves there.
const GWBRIDGE: &str = "docker_gwbridge";

/// A clock error below this is small enough.
const CLOCK_ERROR: Duration = Duration::from_millis(15);

/// Attempts to get below that; after them, a round trip close to the best one so far is enough.
const CLOCK_ATTEMPTS: u32 = 8;

/// Limit for all attempts, and the pause between two: a burst of other work passes.
const CLOCK_LIMIT: Duration = Duration::from_secs(5);
const CLOCK_PAUSE: Duration = Duration::from_millis(10);

/// A host whose agent answers and whose dockerd runs.
pub struct RunningHost {
    /// Name.
    pub name: String,
    /// Its agent.
    pub agent: AgentClient,
    /// Its dockerd.
    pub docker: HostDocker,
    /// Its version, if it is not the topology's engine.
    pub engine: Option<String>,
    /// Offers dockerd's socket on this machine while the host runs.
    forward: Forward,
}

impl RunningHost {
    /// Configures a machine whose agent answers as the topology's host: starts dockerd and loads the images that its
    /// containers need, except `had`, which its dockerd has already.
    pub async fn set_up(
        lab: &Lab,
        name: &str,
        agent: AgentClient,
        docker_socket: PathBuf,
        (images, had): (&Images, &[&str]),
        events: &Events,
    ) -> Result<Self, Error> {
        let failed = Error::agent(name);
        agent.configure(config(lab, name)).await.map_err(&failed)?;
        let daemon_json = lab.hosts.get(name).map(|h| h.daemon_json.clone()).unwrap_or_default();
        let api = agent.docker(daemon_json).await.map_err(&failed)?;
        events.host(name, "dockerd runs");
        let forward = Forward::start(docker_socket.clone(), agent.clone(), GUEST_DOCKER_SOCKET)?;
        let mut docker = HostDocker::connect(name, &docker_socket, &api, agent.hello().shortcuts)?;
        let mut engine = None;
        if agent.hello().foreign {
            docker = docker.labelled(&lab.name);
            engine = Some(format!("Docker {}", docker.server_version().await?));
        }
        let host = Self { name: name.to_owned(), agent, docker, engine, forward };
        host.provide_images(lab, images, had).await?;
        Ok(host)
    }

    /// A host that was restored as it was: what its agent, its dockerd (of this API version) and this machine lack is made
    /// again.
    pub async fn wake(
        name: &str,
        agent: AgentClient,
        docker_socket: PathBuf,
        api: &str,
    ) -> Result<Self, Error> {
        let entropy = hex(&rand::rng().random::<[u8; 32]>());
        agent.wake(now_ns(), entropy).await.map_err(Error::agent(name))?;
        let forward = Forward::start(docker_socket.clone(), agent.clone(), GUEST_DOCKER_SOCKET)?;
        let docker = HostDocker::connect(name, &docker_socket, api, agent.hello().shortcuts)?;
        Ok(Self { name: name.to_owned(), agent, docker, engine: None, forward })
    }

    async fn provide_images(&self, lab: &Lab, images: &Images, had: &[&str]) -> Result<(), Error> {
        let wanted = lab.containers.values().filter(|c| c.host == self.name).map(|c| c.image.as_str());
        // Any node may get a task.
        let joins = |a: &Action| matches!(a, Action::Join { host, .. } if *host == self.name);
        let node = lab.swarm.as_ref().is_some_and(|s| s.nodes.contains_key(&self.name))
            || lab.steps.iter().flat_map(|s| &s.actions).any(joins);
        let tasks =
            lab.services.values().map(|s| s.image.as_str()).chain(lab.images_of_updates()).filter(|_| node);
        for name in wanted.chain(tasks).collect::<std::collections::BTreeSet<_>>() {
            if let Some(tar) = images.get(name)
                && !had.contains(&name)
                && !self.docker.has_image(name).await?
            {
                self.note(Made::Image(name.to_owned())).await?;
                self.docker.load_image(tar.clone()).await?;
            }
        }
        Ok(())
    }

    /// Notes what is about to be made on a machine that is not labctl's own.
    pub async fn note(&self, made: Made) -> Result<(), Error> {
        match self.agent.hello().foreign {
            true => self.agent.note(made).await.map_err(self.failed()),
            false => Ok(()),
        }
    }

    /// Notes what comes with a swarm there, before the host gets into one.
    pub async fn note_swarm(&self, lab: &Lab) -> Result<(), Error> {
        if !self.agent.hello().foreign {
            return Ok(());
        }
        let nics = lab.hosts.values().flat_map(|h| &h.nics).flat_map(|nic| nic.ips());
        let advertised = lab.swarm.iter().flat_map(|s| s.nodes.values()).map(|node| node.advertise);
        if !self.docker.network_names().await?.iter().any(|n| n == GWBRIDGE) {
            self.note(Made::Network(GWBRIDGE.to_owned())).await?;
        }
        self.note(Made::Swarm(nics.chain(advertised).collect())).await
    }

    /// Sets the host's clock, unless the machine is not labctl's own. It repeats until a round trip was short, which bounds
    /// how far the clock can be off.
    pub async fn set_clock(&self) -> Result<(), Error> {
        if self.agent.hello().foreign {
            return Ok(());
        }
        let (mut best, end) = (Duration::MAX, Instant::now() + CLOCK_LIMIT);
        for attempt in 1.. {
            let sent = Instant::now();
            // Half the best round trip is the likeliest age of the message on arrival.
            let age = if best == Duration::MAX { Duration::ZERO } else { best / 2 };
            self.agent.clock(now_ns().saturating_add(nanos(age))).await.map_err(self.failed())?;
            let took = sent.elapsed();
            best = best.min(took);
            // The last message sets the clock, so it must not be a slow one.
            let good = took < CLOCK_ERROR || attempt >= CLOCK_ATTEMPTS && took <= best + best / 4;
            if good || Instant::now() > end {
                break;
            }
            tokio::time::sleep(CLOCK_PAUSE).await;
        }
        Ok(())
    }

    /// Ends what this machine offers of the host, which is gone or about to be. Somebody may still hold it.
    pub fn withdraw(&self) {
        self.forward.end();
    }

    /// Converts errors of the agent's calls; for `map_err`.
    pub fn failed(&self) -> impl Fn(ClientError) -> Error + '_ {
        Error::agent(&self.name)
    }
}

/// The configuration that the agent applies to its machine.
fn config(lab: &Lab, name: &str) -> HostConfig {
    let mut rng = rand::rng();
    let hosts = lab.hosts.iter().filter_map(|(n, h)| Some((n.clone(), h.first_address()?))).collect();
    let mut config = HostConfig {
        hostname: name.to_owned(),
        clock_ns: now_ns(),
        entropy: hex(&rng.random::<[u8; 32]>()),
        machine_id: hex(&rng.random::<[u8; 16]>()),
        engine_id: uuid(rng.random()),
        nics: Vec::new(),
        interfaces: Vec::new(),
        gateway: PerFamily::default(),
        routes: Vec::new(),
        sysctls: Default::default(),
        hosts,
    };
    if let Some(host) = lab.hosts.get(name) {
        config.nics = host.nics.iter().map(nic).collect();
        config.interfaces = host.interfaces.iter().filter(|i| !i.deferred).cloned().collect();
        // The kernel hands what a port receives to its bridge: an address of the port's own would not be reached.
        for bridge in &mut config.interfaces {
            let ports = config.nics.iter_mut().filter(|nic| bridge.has_port(&nic.name));
            let addresses: Vec<_> = ports.flat_map(|nic| std::mem::take(&mut nic.addresses).iter()).collect();
            bridge.addresses.extend(addresses);
        }
        config.gateway = gateways(lab, host);
        config.routes = host.routes.clone();
        config.sysctls = host.sysctls.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    }
    config
}

fn nic(nic: &labctl_model::Nic) -> NicConfig {
    NicConfig { mac: nic.mac, name: nic.name.clone(), addresses: nic.addresses, peer: nic.peer, mtu: nic.mtu }
}

/// Next hops of the default routes: see [`labctl_model::Host::gateway`].
fn gateways(lab: &Lab, host: &labctl_model::Host) -> PerFamily<IpAddr> {
    Family::ALL.into_iter().filter_map(|family| host.gateway(lab, family)).collect()
}

/// This machine's clock, ns since the epoch.
fn now_ns() -> u64 {
    nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A random UUID in text form (RFC 9562, version 4).
fn uuid(random: [u8; 16]) -> String {
    let mut bytes = random;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex(&bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}
