//! Runs hosts of a lab as machines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use futures::future::BoxFuture;
use labctl_images::NodeImage;
use labctl_model::{Host, Lab};
use labctl_state::{
    Plan, Process,
    checkpoint::{Fingerprint, SavedMachine},
};
use tokio::sync::OnceCell;

use super::{
    Template, anew,
    template::{HOST, RAM, Recipe, Stage},
};
use crate::{
    Error, Events, limits,
    machine::{HostPlan, Machine, Provider, Started},
    qemu::{
        Accel, Base, Error as QemuError, Memory, OLDEST_TO_SAVE, QemuVersion, Saving, Vm, VmNic, VmSpec,
        devices, pages::Pages, require_qemu,
    },
};

/// Memory that QEMU and a guest with a busy dockerd typically take, in MiB, however much the guest may use.
const TYPICAL_MIB: u64 = 450;

/// The `vm` runtime.
#[derive(Debug)]
pub struct VmProvider {
    cache: PathBuf,
    agent: PathBuf,
    cold: bool,
    vanilla: bool,
    accel: OnceCell<Accel>,
    qemu: OnceCell<QemuVersion>,
    templates: Mutex<BTreeMap<Kind, Template>>,
}

/// The key of a template in a lab: node image, memory in MiB, number of NICs, and stage at which it was saved.
type Kind = (String, u32, usize, Stage);

impl VmProvider {
    /// A provider for the hosts of one lab.
    pub fn new(plan: &Plan) -> Self {
        Self {
            cache: plan.cache.clone(),
            agent: plan.agent.clone(),
            cold: plan.cold,
            vanilla: plan.lab.vanilla,
            accel: OnceCell::new(),
            qemu: OnceCell::new(),
            templates: Mutex::default(),
        }
    }

    async fn accel(&self, image: &NodeImage) -> Accel {
        *self.accel.get_or_init(|| Accel::detect(&self.cache, image, &self.agent)).await
    }

    /// Whether machines have shortcuts (docs/vanilla.md).
    fn shortcuts(&self, accel: Accel) -> bool {
        accel == Accel::Tcg && !self.vanilla
    }

    fn image(&self, host: &Host) -> Result<NodeImage, Error> {
        Ok(labctl_images::require(&self.cache, &host.engine)?)
    }

    /// The kind of template that a host is restored from.
    fn kind(&self, host: &Host) -> Result<Kind, Error> {
        let stage = anew::reason(host).map_or(Stage::DockerRuns, |_| Stage::Booted);
        Ok((self.image(host)?.id().to_owned(), host.memory_mib, host.nics.len(), stage))
    }

    async fn spec(&self, plan: &HostPlan) -> Result<VmSpec, Error> {
        let image = self.image(&plan.host)?;
        let accel = self.accel(&image).await;
        let initrd = image.initrd(&self.agent)?;
        let nic = |(nic, socket): (&labctl_model::Nic, &PathBuf)| VmNic {
            mac: nic.mac,
            socket: Some(socket.clone()),
        };
        Ok(VmSpec {
            name: format!("{}-{}", plan.lab, plan.name),
            dir: plan.dir.clone(),
            accel,
            memory_mib: plan.host.memory_mib,
            memory: Memory::Anonymous,
            kernel: image.kernel(),
            initrd,
            root: image.root(),
            nics: plan.host.nics.iter().zip(&plan.nic_sockets).map(nic).collect(),
            shortcuts: self.shortcuts(accel),
            incoming: false,
        })
    }

    async fn start_host(&self, plan: &HostPlan) -> Result<Started, Error> {
        let mut spec = self.spec(plan).await?;
        let failed = |e: QemuError| Error::Machine { host: plan.name.clone(), why: e.to_string() };
        let kind = self.kind(&plan.host)?;
        let template = match &plan.saved {
            Some(_) => None,
            None => self.template(&plan.host, &Events::channel().0).await?,
        };
        let base = template.as_ref().map(Template::ram).or(plan.saved.as_ref().map(|s| s.base.clone()));
        let base = base.map(|path| self.base(&mut spec, path)).transpose()?;
        let vm = Vm::start(spec).await.map_err(failed)?;
        if let Some(saved) = &plan.saved {
            fill(&vm, saved).await.map_err(|e| failed(QemuError::io("load", &saved.pages)(e)))?;
            devices::load(vm.qmp(), &saved.state).await.map_err(failed)?;
        } else if let Some(template) = &template {
            template.restore(&vm).await.map_err(|e| {
                if matches!(e, QemuError::Refused { .. }) {
                    // The template is unusable: make a new one next time.
                    template.discard();
                }
                failed(e)
            })?;
            if let Some(reason) = anew::reason(&plan.host) {
                tracing::info!("{}: its dockerd starts after it is configured: {reason}", plan.name);
            }
        }
        Ok(Started {
            agent: vm.dial(),
            ended: vm.gone(),
            machine: Box::new(VmMachine { host: plan.name.clone(), vm, base }),
            images: template.map_or(&[], |_| kind.3.images()),
        })
    }

    /// Makes a machine's memory begin as this file.
    fn base(&self, spec: &mut VmSpec, path: PathBuf) -> Result<Arc<Base>, Error> {
        let file = fs::File::open(&path).map_err(Error::io("cannot open", &path))?;
        // A template is named by its folder, a checkpoint's base by itself.
        let name = match path.file_name() {
            Some(name) if name != RAM => PathBuf::from(name),
            _ => path.parent().and_then(Path::file_name).map(PathBuf::from).unwrap_or_default(),
        };
        spec.memory = Memory::Private(path);
        spec.incoming = true;
        Ok(Arc::new(Base { file, name: name.with_extension(RAM).to_string_lossy().into_owned() }))
    }

    /// The recipe of the template that a host is restored from.
    async fn recipe(&self, host: &Host, qemu: &QemuVersion) -> Result<Recipe, Error> {
        let image = self.image(host)?;
        let accel = self.accel(&image).await;
        Ok(Recipe {
            accel,
            shortcuts: self.shortcuts(accel),
            agent: self.agent.clone(),
            initrd: image.initrd(&self.agent)?,
            memory_mib: host.memory_mib,
            nics: host.nics.len(),
            qemu: qemu.text.clone(),
            stage: self.kind(host)?.3,
            image,
        })
    }

    /// The template that a host is restored from, made if the cache lacks it. `None`: hosts are booted.
    async fn template(&self, host: &Host, events: &Events) -> Result<Option<Template>, Error> {
        let kind = self.kind(host)?;
        if let Some(known) = self.templates.lock().unwrap_or_else(PoisonError::into_inner).get(&kind) {
            return Ok(Some(known.clone()));
        }
        let qemu = self.qemu(HOST).await?;
        if self.cold || qemu.number < OLDEST_TO_SAVE {
            return Ok(None);
        }
        let template = Template::provide(&self.cache, &self.recipe(host, &qemu).await?, events).await?;
        self.templates.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, template.clone());
        Ok(Some(template))
    }

    /// The QEMU here. `host` is named if there is none.
    async fn qemu(&self, host: &str) -> Result<QemuVersion, Error> {
        let failed = |e: QemuError| Error::Machine { host: host.to_owned(), why: e.to_string() };
        self.qemu.get_or_try_init(|| async { require_qemu().await.map_err(failed) }).await.cloned()
    }

    async fn fingerprint(&self, lab: &Lab) -> Result<Option<Fingerprint>, Error> {
        let qemu = self.qemu(lab.hosts.keys().next().map_or(HOST, String::as_str)).await?;
        if self.cold || qemu.number < OLDEST_TO_SAVE {
            return Ok(None);
        }
        let mut parts = Fingerprint::new();
        for host in lab.hosts.values() {
            parts.extend(self.recipe(host, &qemu).await?.parts());
        }
        Ok(Some(parts))
    }

    async fn check(&self, lab: &Lab, restored: bool, events: &Events) -> Result<(), Error> {
        let qemu = self.qemu(lab.hosts.keys().next().map_or(HOST, String::as_str)).await?;
        // Each image once, so that parallel starts find the initial RAM disk made.
        let mut images = BTreeMap::new();
        for host in lab.hosts.values() {
            let image = self.image(host)?;
            images.insert(image.id().to_owned(), image);
        }
        for image in images.values() {
            if image.mend_initrd(&self.agent)? {
                events.note(format!(
                    "the initial RAM disk of node image {} was damaged and is made anew",
                    image.engine()
                ));
            }
        }
        if let Some(image) = images.values().next()
            && self.accel(image).await == Accel::Tcg
        {
            events
                .note("no KVM here: machines are emulated, several times slower (`labctl doctor` says why)");
        }
        if !self.cold && qemu.number < OLDEST_TO_SAVE {
            events.note(format!("{} cannot save machines to files: hosts are booted", qemu.text));
        }
        if !restored {
            for host in lab.hosts.values() {
                self.template(host, events).await?;
            }
        }
        let wanted: u64 = lab.hosts.values().map(|h| TYPICAL_MIB.min(u64::from(h.memory_mib))).sum();
        if let Some(free) = limits::available_mib().filter(|free| *free < wanted) {
            events.note(format!(
                "{} hosts may take {wanted} MiB of memory, where {free} are free",
                lab.hosts.len()
            ));
        }
        Ok(())
    }
}

impl Provider for VmProvider {
    fn preflight<'a>(
        &'a self,
        lab: &'a Lab,
        restored: bool,
        events: &'a Events,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.check(lab, restored, events))
    }

    fn fingerprint<'a>(&'a self, lab: &'a Lab) -> BoxFuture<'a, Result<Option<Fingerprint>, Error>> {
        Box::pin(self.fingerprint(lab))
    }

    /// dockerd gives its containerd 15 s of real time to start (moby, libcontainerd/supervisor). If more start at once
    /// than there are processors, it may give up.
    fn turns(&self, host: &Host) -> u32 {
        if self.cold || anew::reason(host).is_some() { 2 } else { 1 }
    }

    fn start<'a>(&'a self, host: &'a HostPlan) -> BoxFuture<'a, Result<Started, Error>> {
        Box::pin(self.start_host(host))
    }
}

struct VmMachine {
    host: String,
    vm: Vm,
    /// What its memory began as; absent if it was booted.
    base: Option<Arc<Base>>,
}

impl Machine for VmMachine {
    fn process(&self) -> Option<Process> {
        self.vm.process().cloned()
    }

    fn saving(&self) -> Option<Saving> {
        Some(Saving {
            host: self.host.clone(),
            qmp: self.vm.qmp().clone(),
            pid: self.vm.process()?.pid,
            memory: memory(&self.vm),
            base: self.base.clone()?,
        })
    }

    fn post_mortem(&mut self) -> String {
        self.vm.post_mortem()
    }

    fn kill(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            self.vm.kill().await.map_err(|e| Error::Machine { host: self.host.clone(), why: e.to_string() })
        })
    }
}

/// Writes the saved pages into a machine that waits for its state.
async fn fill(vm: &Vm, saved: &SavedMachine) -> io::Result<()> {
    let (pid, memory, file) = (vm.process().map_or(0, |p| p.pid), memory(vm), saved.pages.clone());
    let fill = move || Pages::of(pid, memory)?.fill(&file);
    tokio::task::spawn_blocking(fill).await.map_err(io::Error::other)?
}

/// A machine's memory in bytes.
fn memory(vm: &Vm) -> u64 {
    u64::from(vm.spec().memory_mib) << 20
}
