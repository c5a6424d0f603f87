//! Makes a lab's hosts by Vagrant.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use labctl_images::{
    boxes::{BoxOptions, BoxProvider},
    durable,
};
use labctl_model::{Engine, Host, Lab};
use labctl_protocol::made::OWN;
use labctl_state::{LabDir, Plan, Process, SshMachine};
use labctl_wire::Transport;

use super::{
    clear,
    cli::{self, Vagrant},
    file::{self, Tunnel},
};
use crate::{
    Error, Events,
    event::WeakEvents,
    machine::{HostPlan, Machine, Provider, Started},
    runtimes,
    ssh::Connection,
    tail::tail,
};

/// The variable by which Vagrant itself chooses.
const CHOICE: &str = "VAGRANT_DEFAULT_PROVIDER";

/// The `vagrant` runtime.
#[derive(Debug)]
pub struct VagrantProvider {
    lab: Lab,
    cache: PathBuf,
    agent: PathBuf,
    dir: LabDir,
    vagrant: Vagrant,
    /// By the path that a NIC's socket would have.
    tunnels: Mutex<BTreeMap<PathBuf, Tunnel>>,
    /// Hold the machines' ports until these start.
    reserved: Mutex<Vec<UdpSocket>>,
    /// The hosts that Vagrant has brought up and nobody has started yet. `None`: it was not called.
    up: Arc<tokio::sync::Mutex<Option<BTreeSet<String>>>>,
    /// Receives progress from `preflight` on.
    events: Mutex<Option<WeakEvents>>,
}

impl VagrantProvider {
    /// A provider for the hosts of the lab in this folder.
    pub fn new(plan: &Plan, dir: &LabDir) -> Self {
        Self {
            lab: plan.lab.clone(),
            cache: plan.cache.clone(),
            agent: plan.agent.clone(),
            vagrant: Vagrant::in_lab(dir),
            dir: dir.clone(),
            tunnels: Mutex::default(),
            reserved: Mutex::default(),
            up: Arc::default(),
            events: Mutex::default(),
        }
    }

    async fn examine(&self, lab: &Lab, events: &Events) -> Result<(), Error> {
        *self.events.lock().unwrap_or_else(PoisonError::into_inner) = Some(events.downgrade());
        boxes(&self.cache, lab).await.map(drop)
    }

    /// Gives a NIC its two ports. The wire's is taken from now on, the other one until Vagrant makes the machine, which
    /// then takes it.
    fn tunnel(&self, listen: PathBuf) -> io::Result<Transport> {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let (wire, machine) = (bind()?, bind()?);
        let ports = Tunnel { wire: wire.local_addr()?.port(), machine: machine.local_addr()?.port() };
        wire.connect(machine.local_addr()?)?;
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner).insert(listen, ports);
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner).push(machine);
        Ok(Transport::Datagrams(wire))
    }

    fn tunnels_of(&self, name: &str, host: &Host) -> Vec<Tunnel> {
        let tunnels = self.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        let paths = host.nics.iter().map(|nic| self.dir.nic_socket(name, &nic.name));
        paths.filter_map(|path| tunnels.get(&path).copied()).collect()
    }

    /// Writes the Vagrantfile, by which the machines are found again whatever happens.
    async fn note(&self) -> Result<(), Error> {
        let provider = provider()?;
        let driver = if runtimes::has_kvm(&self.cache, &self.agent).await { "kvm" } else { "qemu" };
        let mut files = Vec::new();
        for (name, host) in &self.lab.hosts {
            let options = options(&self.cache, host, provider)?;
            files.push((name, host, options.name(), options.file()));
        }
        let machines = files.iter().map(|(name, host, made_of, file)| file::Machine {
            name,
            host,
            made_of: (made_of.clone(), file),
            tunnels: self.tunnels_of(name, host),
        });
        let text = file::render(
            &self.lab.name,
            &clear::prefix(&self.dir),
            provider,
            driver,
            &machines.collect::<Vec<_>>(),
        );
        let dir = &self.vagrant.dir;
        fs::create_dir_all(dir).map_err(Error::io("cannot make the folder", dir))?;
        let path = dir.join(clear::VAGRANTFILE);
        durable::write(&path, 0o600, text.as_bytes()).map_err(Error::io("cannot write", path))
    }

    /// Has Vagrant bring up all machines, or this one if it was started before.
    async fn bring_up(&self, host: &str) -> Result<(), Error> {
        let failed = |why| Error::Machine { host: host.to_owned(), why };
        let events =
            self.events.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(WeakEvents::upgrade);
        let mut up = self.up.lock().await;
        let provider = format!("--provider={}", provider()?);
        match up.as_mut() {
            None => {
                self.note().await?;
                self.reserved.lock().unwrap_or_else(PoisonError::into_inner).clear();
                self.vagrant.run(&["up", &provider], events.as_ref()).await.map_err(failed)?;
                *up = Some(self.lab.hosts.keys().filter(|name| *name != host).cloned().collect());
            }
            // One that all others were brought up with runs already, unless it has been started before.
            Some(others) => {
                if !others.remove(host) {
                    // One that ended by itself is still there, with all that the lab had in it.
                    self.vagrant.run(&["destroy", "--force", host], None).await.map_err(failed)?;
                    self.vagrant.run(&["up", host, &provider], None).await.map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    async fn start_host(&self, plan: &HostPlan) -> Result<Started, Error> {
        let host = plan.name.as_str();
        self.bring_up(host).await?;
        let failed = |why| Error::Machine { host: host.to_owned(), why };
        let config = {
            let _alone = self.up.lock().await;
            self.vagrant.run(&["ssh-config", host], None).await.map_err(failed)?
        };
        let path = plan.dir.join("ssh_config");
        fs::write(&path, config).map_err(Error::io("cannot write", &path))?;
        let machine = SshMachine { ssh: host.to_owned(), config: Some(path), ..SshMachine::default() };
        let connection = Connection::open(host, &machine, OWN.to_owned(), &self.agent, &plan.dir).await?;
        let (agent, ended) = (connection.dial(), connection.gone());
        let made =
            Made { host: host.to_owned(), vagrant: self.vagrant.clone(), alone: self.up.clone(), connection };
        Ok(Started { agent, ended, machine: Box::new(made), images: &[] })
    }
}

/// Whose machines Vagrant makes.
fn provider() -> Result<BoxProvider, Error> {
    match std::env::var(CHOICE).unwrap_or_default().as_str() {
        "" | "libvirt" => Ok(BoxProvider::Libvirt),
        "virtualbox" => Ok(BoxProvider::Virtualbox),
        other => Err(Error::Unfit(format!(
            "{CHOICE} is {other}, and labctl has boxes for libvirt and virtualbox\nhint: set it to one of them"
        ))),
    }
}

fn options(cache: &Path, host: &Host, provider: BoxProvider) -> Result<BoxOptions, Error> {
    let Engine::Debian(suite) = host.engine else {
        return Err(Error::Unfit(format!(
            "no box has engine {}: they have Debian's Docker\nhint: `--runtime vm` takes engines from tarballs",
            host.engine
        )));
    };
    Ok(BoxOptions { cache: cache.to_owned(), suite, provider, seat: None, rebuild: false })
}

/// The boxes that a lab's hosts need.
///
/// # Errors
/// There is no Vagrant, or a host needs what no box has.
pub async fn boxes(cache: &Path, lab: &Lab) -> Result<Vec<BoxOptions>, Error> {
    let provider = provider()?;
    let mut all: Vec<BoxOptions> = Vec::new();
    for host in lab.hosts.values() {
        let options = options(cache, host, provider)?;
        if all.iter().all(|known| known.suite != options.suite) {
            all.push(options);
        }
    }
    cli::is_there().await.map_err(Error::Unfit)?;
    Ok(all)
}

impl Provider for VagrantProvider {
    fn preflight<'a>(
        &'a self,
        lab: &'a Lab,
        _restored: bool,
        events: &'a Events,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.examine(lab, events))
    }

    fn transport(&self, listen: PathBuf) -> Result<Transport, Error> {
        self.tunnel(listen).map_err(Error::io("cannot take a port on", "127.0.0.1"))
    }

    fn start<'a>(&'a self, host: &'a HostPlan) -> BoxFuture<'a, Result<Started, Error>> {
        Box::pin(self.start_host(host))
    }
}

/// A machine that Vagrant has made.
struct Made {
    host: String,
    vagrant: Vagrant,
    /// Vagrant does one thing at a time.
    alone: Arc<tokio::sync::Mutex<Option<BTreeSet<String>>>>,
    connection: Connection,
}

impl Machine for Made {
    fn process(&self) -> Option<Process> {
        self.connection.process()
    }

    fn post_mortem(&mut self) -> String {
        format!("ssh said:\n  {}\nvagrant said:\n  {}", self.connection.log(), tail(&self.vagrant.log()))
    }

    fn kill(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            self.connection.close().await;
            let _alone = self.alone.lock().await;
            let destroyed = self.vagrant.run(&["destroy", "--force", &self.host], None).await;
            destroyed.map(drop).map_err(|why| Error::Machine { host: self.host.clone(), why })
        })
    }
}
