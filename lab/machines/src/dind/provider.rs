//! Runs hosts of a lab as containers.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bollard::query_parameters::{CreateContainerOptionsBuilder, StartContainerOptions};
use futures::future::BoxFuture;
use labctl_images::require;
use labctl_model::{Engine, Lab, Nic};
use labctl_protocol::node::FOLDER;
use labctl_state::Plan;
use labctl_wire::Transport;
use tokio::sync::OnceCell;

use super::{
    NodeContainer,
    daemon::Daemon,
    import::import,
    machine::Node,
    note::{LABEL_DIR, LABEL_HOST, LABEL_LAB, Note, remove},
};
use crate::{
    Error, Events,
    machine::{HostPlan, Provider, Started},
};

/// Identifies this boot of the kernel (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The `dind` runtime.
#[derive(Debug)]
pub struct DindProvider {
    cache: PathBuf,
    agent: PathBuf,
    daemon: OnceCell<Daemon>,
    /// Docker's name for the node image of each engine.
    images: Mutex<BTreeMap<Engine, String>>,
}

impl DindProvider {
    /// A provider for the hosts of one lab.
    pub fn new(plan: &Plan) -> Self {
        Self {
            cache: plan.cache.clone(),
            agent: plan.agent.clone(),
            daemon: OnceCell::new(),
            images: Mutex::default(),
        }
    }

    async fn daemon(&self) -> Result<&Daemon, Error> {
        let find = || async {
            Daemon::find().await.map_err(|why| super::Unfit::Daemon(why).error(&Default::default()))
        };
        self.daemon.get_or_try_init(find).await
    }

    async fn provide_images(&self, lab: &Lab, events: &Events) -> Result<(), Error> {
        let daemon = self.daemon().await?;
        for engine in lab.hosts.values().map(|h| &h.engine) {
            if self.image(engine).is_some() {
                continue;
            }
            let image = require(&self.cache, engine)?;
            let told = AtomicU64::new(0);
            let tell = |done: u64, of: u64| {
                let quarter = done * 4 / of.max(1);
                if done == 0 || told.swap(quarter + 1, Ordering::Relaxed) <= quarter {
                    events.phase(format!("importing node image {engine} into Docker, {} %", quarter * 25));
                }
            };
            let name = import(&image, &daemon.api, &tell).await?;
            self.images.lock().unwrap_or_else(PoisonError::into_inner).insert(engine.clone(), name);
        }
        Ok(())
    }

    fn image(&self, engine: &Engine) -> Option<String> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).get(engine).cloned()
    }

    /// The container for a host.
    fn container(&self, plan: &HostPlan) -> Result<NodeContainer, Error> {
        let engine = &plan.host.engine;
        let image = self.image(engine).ok_or_else(|| Error::NotImported(engine.clone()))?;
        let mut node = NodeContainer::new(image, &self.agent);
        let boot_id = fs::read_to_string(BOOT_ID).map_err(Error::io("cannot read", BOOT_ID))?;
        node.command.extend(["--boot-id".into(), boot_id.trim().to_owned()]);
        let nic = |nic: &Nic| {
            let mac = nic.mac.map(|octet| format!("{octet:02x}")).join(":");
            ["--nic".to_owned(), format!("{}={mac}", nic.name)]
        };
        node.command.extend(plan.host.nics.iter().flat_map(nic));
        node.binds.push((plan.dir.clone(), FOLDER.into()));
        Ok(node)
    }

    async fn start_host(&self, plan: &HostPlan) -> Result<Started, Error> {
        let daemon = self.daemon().await?;
        let failed = |why: String| Error::Machine { host: plan.name.clone(), why };
        let container = self.container(plan)?;
        // An earlier start may have been interrupted, and dockerd may still be making its container.
        let earlier = Note::read(&plan.dir).is_some_and(|note| note.making);
        let mut note = Note::of(plan, daemon);
        note.write(plan)?;
        let name = note.container.clone();
        remove(&daemon.api, &name, earlier).await.map_err(failed)?;
        let labels = HashMap::from([
            (LABEL_LAB.to_owned(), plan.lab.clone()),
            (LABEL_HOST.to_owned(), plan.name.clone()),
            (LABEL_DIR.to_owned(), plan.dir.to_string_lossy().into_owned()),
        ]);
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let body = container.create_body(&plan.name, labels);
        daemon
            .api
            .create_container(Some(options), body)
            .await
            .map_err(|e| failed(labctl_docker::message(e)))?;
        note.making = false;
        note.write(plan)?;
        let started = daemon.api.start_container(&name, None::<StartContainerOptions>).await;
        started.map_err(|e| failed(labctl_docker::message(e)))?;
        let node = Node::new(&plan.name, daemon.api.clone(), name, plan.dir.join("console.log"));
        Ok(Started { agent: node.dial(), ended: node.gone(), machine: Box::new(node), images: &[] })
    }
}

impl Provider for DindProvider {
    fn preflight<'a>(
        &'a self,
        lab: &'a Lab,
        _restored: bool,
        events: &'a Events,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.provide_images(lab, events))
    }

    fn transport(&self, listen: PathBuf) -> Result<Transport, Error> {
        Ok(Transport::Tap { listen })
    }

    fn start<'a>(&'a self, host: &'a HostPlan) -> BoxFuture<'a, Result<Started, Error>> {
        Box::pin(self.start_host(host))
    }
}
