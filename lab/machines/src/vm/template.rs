//! Templates: machines that are booted once and restored from then on, most of them with a running dockerd.
//!
//! A template is a folder `CACHE/templates/KEY/`; the key is the hash of everything that a restore depends on. `ram` is
//! the machine's memory, mapped copy-on-write by every clone; `state` is all its other state. See docs/adr/0005 for why
//! these are two files.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use labctl_docker::HostDocker;
use labctl_images::{
    NodeImage, builtin,
    cache::{self, Marks, Staging},
    durable,
    hash::hex,
};
use labctl_model::BUILTIN_IMAGE;
use labctl_protocol::{client::AgentClient, messages::template_mac};
use labctl_state::DiskNeed;
use sha2::{Digest, Sha256};

use crate::{
    Error, Events,
    forward::{Forward, GUEST_DOCKER_SOCKET, listen_private},
    qemu::{Accel, Error as VmError, Memory, Vm, VmNic, VmSpec, devices},
};

/// Raise this when the preparation of a machine before it is saved changes.
const RECIPE: u32 = 7;

/// How far a machine was when it was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Its agent answers; no dockerd has ever run on it.
    Booted,
    /// Its dockerd runs, has the built-in image, and has run a container.
    DockerRuns,
}

impl Stage {
    /// The container images in a machine saved at this stage.
    pub fn images(self) -> &'static [&'static str] {
        match self {
            Self::Booted => &[],
            Self::DockerRuns => &[BUILTIN_IMAGE],
        }
    }
}

/// A machine's name in errors if it is no lab's.
pub(super) const HOST: &str = "template";

/// How long reading Docker's programs from disk may take.
const READ: Duration = Duration::from_secs(60);

/// How long everything gets to settle before the machine is saved.
const SETTLE: Duration = Duration::from_secs(1);

/// How long the agent of a restored machine may take to answer; it takes a tenth of a second.
const HEARD: Duration = Duration::from_secs(20);

/// How many attempts to make a template that can be restored.
const ATTEMPTS: u32 = 3;

/// How long another process may take to make one.
const OTHERS: Duration = Duration::from_secs(900);

/// Disk space that a template takes besides the machine's memory, in bytes: its devices' state.
const STATE_ROOM: u64 = 32 << 20;

/// Templates unused for this long are removed when another is made.
const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// What a template depends on.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The node image.
    pub image: NodeImage,
    /// The agent's binary, which is in the initial RAM disk and in the built-in container image.
    pub agent: PathBuf,
    /// The initial RAM disk.
    pub initrd: PathBuf,
    /// QEMU's version line: its devices' state changes with its version.
    pub qemu: String,
    /// The accelerator.
    pub accel: Accel,
    /// Whether it has shortcuts (docs/vanilla.md).
    pub shortcuts: bool,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// How many NICs.
    pub nics: usize,
    /// Stage at which it is saved.
    pub stage: Stage,
}

/// A saved machine.
#[derive(Clone, Debug)]
pub struct Template {
    dir: PathBuf,
}

/// Name of the manifest. It is written last, so that a folder without it is no template.
const MANIFEST: &str = "template.json";

/// The machine's memory.
pub(super) const RAM: &str = "ram";

/// The state of its devices.
const STATE: &str = "state";

impl Template {
    /// Returns the template for this recipe: the cached one if it is intact, else a new one. Others that want it wait.
    ///
    /// # Errors
    /// The machine cannot be booted or saved, or the cache cannot be written to.
    pub async fn provide(cache: &Path, recipe: &Recipe, events: &Events) -> Result<Self, Error> {
        let root = cache.join("templates");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)
            .map_err(Error::io("cannot make the folder", &root))?;
        let key = recipe.key();
        let template = Self { dir: root.join(&key) };
        if template.check().is_ok() {
            return Ok(template);
        }
        let lock = root.join(format!("{key}.lock"));
        let file = File::create(&lock).map_err(Error::io("cannot open", &lock))?;
        let waiting = || events.note("waiting for another lab that saves a booted machine");
        if !cache::lock(&file, OTHERS, waiting).await {
            let (host, why) = ("template".into(), format!("{} is locked for too long", lock.display()));
            return Err(Error::Machine { host, why });
        }
        match template.check() {
            Ok(()) => return Ok(template),
            Err(why) if template.dir.exists() => {
                events.note(format!("the saved machine is damaged ({why}) and is made anew"));
                let _ = fs::remove_dir_all(&template.dir);
            }
            Err(_) => events.note("saving a booted machine, once: from now on hosts are restored from it"),
        }
        remove_old(&root);
        // A machine whose memory is a file on a full disk dies of SIGBUS.
        let room = recipe.room();
        room.check(&root)?;
        make(recipe, &root, &template.dir).await.map_err(|e| room.explain(e, &root))?;
        drop(file);
        Ok(template)
    }

    /// Whether both files are as they were written.
    fn check(&self) -> Result<(), String> {
        let text = fs::read(self.dir.join(MANIFEST)).map_err(|_| "it was not finished".to_owned())?;
        let marks: Marks = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
        marks.check(&self.dir)
    }

    /// Makes the next [`Self::provide`] make it anew.
    pub fn discard(&self) {
        let _ = fs::remove_file(self.dir.join(MANIFEST));
    }

    /// The memory that clones map.
    pub fn ram(&self) -> PathBuf {
        self.dir.join(RAM)
    }

    /// Restores the template into a machine that was started with [`VmSpec::incoming`], and lets it run.
    ///
    /// # Errors
    /// QEMU refuses the state.
    pub async fn restore(&self, vm: &Vm) -> Result<(), VmError> {
        devices::load(vm.qmp(), &self.dir.join(STATE)).await?;
        devices::resume(vm.qmp()).await
    }
}

impl Recipe {
    fn room(&self) -> DiskNeed {
        DiskNeed {
            bytes: (u64::from(self.memory_mib) << 20) + STATE_ROOM,
            what: "a saved machine takes",
            hint: "name another folder with --cache-dir or LABCTL_CACHE_DIR, or do without (--cold)",
        }
    }

    /// Tells it from every other recipe.
    pub fn key(&self) -> String {
        let initrd = self.initrd.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let spec = self.spec(Path::new("/"), Memory::Private("/ram".into()));
        let (image, built, stage) = (self.image.id(), self.image.built(), self.stage);
        let spec = spec.fingerprint();
        let text = format!("{RECIPE} {image} {built} {initrd} {} {spec} {stage:?}", self.qemu);
        hex(&Sha256::digest(text))[..24].to_owned()
    }

    /// What a saved machine depends on, each with the name by which a user knows it, wherever the files are.
    pub fn parts(&self) -> [(String, String); 5] {
        let initrd = self.initrd.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let spec = VmSpec {
            kernel: "/kernel".into(),
            initrd: "/initrd".into(),
            root: "/root".into(),
            ..self.spec(Path::new("/"), Memory::Private("/ram".into()))
        };
        let devices = hex(&Sha256::digest(format!("{RECIPE} {}", spec.fingerprint())));
        let part = |name: &str, value: String| (name.to_owned(), value);
        [
            part(
                &format!("node image {}", self.image.engine()),
                format!("{}, {}", self.image.id(), self.image.built()),
            ),
            part("agent", initrd),
            part("QEMU", self.qemu.clone()),
            part("processor", format!("{:?}", self.accel)),
            part(&format!("machine of {} MiB and {} NICs", self.memory_mib, self.nics), devices),
        ]
    }

    /// The machine before it is saved. Its NICs connect to sockets in `dir` that nobody reads.
    fn spec(&self, dir: &Path, memory: Memory) -> VmSpec {
        let nic = |i| VmNic { mac: template_mac(i), socket: Some(dir.join(format!("nic{i}.sock"))) };
        VmSpec {
            name: "template".into(),
            dir: dir.to_owned(),
            accel: self.accel,
            shortcuts: self.shortcuts,
            memory_mib: self.memory_mib,
            memory,
            kernel: self.image.kernel(),
            initrd: self.initrd.clone(),
            root: self.image.root(),
            nics: (0..self.nics).map(nic).collect(),
            incoming: false,
        }
    }
}

/// Makes a template and checks that it can be restored once: one saved at an unlucky moment would make every host fail.
async fn make(recipe: &Recipe, root: &Path, to: &Path) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        match make_once(recipe, root, to).await {
            Err(error @ (Error::Agent { .. } | Error::Refused { .. } | Error::Docker(_)))
                if attempt < ATTEMPTS =>
            {
                tracing::warn!("a template that does not restore, attempt {attempt}: {error}");
                attempt += 1;
            }
            ended => return ended,
        }
    }
}

/// Boots a machine, prepares what every host needs, saves it, and tries the result.
async fn make_once(recipe: &Recipe, root: &Path, to: &Path) -> Result<(), Error> {
    let staging = Staging::new(root).map_err(Error::io("cannot make a folder in", root))?;
    let dir = staging.path();
    let spec = recipe.spec(dir, Memory::Shared(dir.join(RAM)));
    // Held open so that the NICs have a far end while the machine runs.
    let mut far_ends = Vec::new();
    for socket in spec.nics.iter().filter_map(|n| n.socket.as_ref()) {
        far_ends.push(listen_private(socket).map_err(Error::io("cannot listen on", socket))?);
    }
    let failed = |e: VmError| Error::Machine { host: HOST.into(), why: e.to_string() };
    let mut vm = Vm::start(spec).await.map_err(failed)?;
    let saved = async {
        warm_up(&vm, recipe, dir).await?;
        save(&vm, dir).await.map_err(failed)
    }
    .await;
    let saved = saved.map_err(|e| match e {
        Error::Agent { host, why } => Error::Agent { host, why: format!("{why}\n{}", vm.post_mortem()) },
        other => other,
    });
    // The file must not change once it is described.
    vm.kill().await.map_err(failed)?;
    saved?;
    try_out(recipe, dir).await?;
    drop(far_ends);
    publish(staging, to).map_err(Error::io("cannot write", to))
}

/// Brings a booted machine to the stage at which it is saved, with what a host needs next in memory.
async fn warm_up(vm: &Vm, recipe: &Recipe, dir: &Path) -> Result<(), Error> {
    let stream = vm.agent().await.map_err(|e| Error::Machine { host: HOST.into(), why: e.to_string() })?;
    let agent = AgentClient::connect(stream).await.map_err(Error::agent(HOST))?;
    match recipe.stage {
        Stage::Booted => read_programs(&agent).await?,
        Stage::DockerRuns => rehearse(&agent, recipe, dir).await?,
    }
    drop(agent);
    // Gives the agent time to notice the end of its session, and dockerd time to settle. `try_out` checks if it was
    // enough.
    tokio::time::sleep(SETTLE).await;
    Ok(())
}

/// Reads the programs that dockerd and a container start need, so that a restored host has them in memory.
async fn read_programs(agent: &AgentClient) -> Result<(), Error> {
    let script =
        "cat $(command -v dockerd containerd containerd-shim-runc-v2 runc crun iptables ip) > /dev/null";
    agent.run(&["sh", "-c", script], READ).await.map(drop).map_err(Error::agent(HOST))
}

/// Starts dockerd, loads the built-in image, and runs a container on every kind of network once.
async fn rehearse(agent: &AgentClient, recipe: &Recipe, dir: &Path) -> Result<(), Error> {
    let failed = Error::agent(HOST);
    let api = agent.docker(serde_json::Map::new()).await.map_err(&failed)?;
    let socket = dir.join("docker.sock");
    let _forward = Forward::start(socket.clone(), agent.clone(), GUEST_DOCKER_SOCKET)?;
    let docker = HostDocker::connect(HOST, &socket, &api, agent.hello().shortcuts)?;
    docker.load_image(builtin::image(&recipe.agent)?.into()).await?;
    docker.rehearse(BUILTIN_IMAGE).await?;
    // The kernel gave docker0 a link-local address when a container was on it. A booted host has none yet.
    let forget = "for off in 1 0; do echo $off > /proc/sys/net/ipv6/conf/docker0/disable_ipv6; done";
    agent.run(&["sh", "-c", forget], READ).await.map_err(&failed)?;
    agent.settle().await.map_err(&failed)
}

/// Restores a machine from `dir` and checks that its agent and its dockerd answer.
async fn try_out(recipe: &Recipe, dir: &Path) -> Result<(), Error> {
    let failed = |e: VmError| Error::Machine { host: HOST.into(), why: e.to_string() };
    let memory = Memory::Private(dir.join(RAM));
    let mut vm = Vm::start(VmSpec { incoming: true, ..recipe.spec(dir, memory) }).await.map_err(failed)?;
    let heard = async {
        Template { dir: dir.to_owned() }.restore(&vm).await.map_err(failed)?;
        let stream = vm.agent().await.map_err(failed)?;
        let failed = Error::agent(HOST);
        let agent = AgentClient::connect_within(stream, HEARD).await.map_err(&failed)?;
        // The first call may return dockerd's earlier answer, if it ran then; the second one asks it.
        for _ in 0..2 {
            agent.docker(serde_json::Map::new()).await.map_err(&failed)?;
        }
        Ok(())
    }
    .await;
    vm.kill().await.map_err(failed)?;
    heard
}

async fn save(vm: &Vm, dir: &Path) -> Result<(), VmError> {
    devices::stop(vm.qmp()).await?;
    devices::save(vm.qmp(), &dir.join(STATE)).await
}

/// Writes the manifest, removes other files, and renames the folder.
fn publish(staging: Staging, to: &Path) -> io::Result<()> {
    let dir = staging.path();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if ![RAM, STATE].iter().any(|keep| entry.file_name() == *keep) {
            fs::remove_file(entry.path())?;
        }
    }
    // Before the manifest: only then is the number of blocks known.
    durable::sync_files(dir)?;
    fs::write(dir.join(MANIFEST), serde_json::to_vec(&Marks::of(dir, [RAM, STATE])?)?)?;
    staging.publish(to)
}

/// Removes folders unused for [`KEPT`]: old or incomplete templates, each of hundreds of MiB.
fn remove_old(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        let described = fs::metadata(entry.path().join(MANIFEST));
        let used = described.or_else(|_| entry.metadata()).and_then(|m| m.accessed().or(m.modified()));
        if used.is_ok_and(|t| t.elapsed().is_ok_and(|age| age > KEPT)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
