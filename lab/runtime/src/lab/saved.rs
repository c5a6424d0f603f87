//! Saves a running lab, and makes one from what was saved.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{join_all, try_join_all};
use labctl_images::{cache::Staging, load};
use labctl_machines::{
    Events, limits,
    qemu::{Copied, Saving},
};
use labctl_protocol::client::AgentClient;
use labctl_report::count;
use labctl_state::{
    DiskNeed, Origin, Runtime,
    checkpoint::{self, Checkpoint, CheckpointManifest, Fingerprint, LIMIT, SavedHost, Store, Unusable},
};
use labctl_wire::{Wire, WireState};
use tokio::{sync::Semaphore, task::JoinHandle};

use super::{AT_ONCE, RunningLab, parts::Parts};
use crate::{Error, host::RunningHost};

/// Disk space that a saved lab takes besides its memory, in bytes.
const ROOM: u64 = 16 << 20;

/// A lab that was saved.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Saved {
    /// Name of its checkpoint.
    pub name: String,
    /// How long it stood still, in microseconds.
    pub pause_us: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// A lab that goes on, while what was taken of it is not on disk yet.
struct Taken {
    staging: Staging,
    manifest: CheckpointManifest,
    machines: Vec<(String, Saving, Copied)>,
}

impl RunningLab {
    /// Saves the lab as it is under this name. It stands still for a moment. Waits for a run of checks to end.
    ///
    /// # Errors
    /// Its runtime cannot save, there is no room, or a machine has ended.
    pub async fn save(&self, name: &str) -> Result<Saved, Error> {
        checkpoint::check_name(name)?;
        let store = self.store();
        if let Ok(other) = store.open(name).await?
            && other.manifest.plan.lab.name != self.plan.lab.name
        {
            let why = format!("it is of another lab, {}, and stays", other.manifest.plan.lab.name);
            return Err(labctl_state::Error::Checkpoint { name: name.to_owned(), why }.into());
        }
        let taken = {
            let _alone = self.alone().await;
            self.take().await?
        };
        finish(store, taken, name.to_owned()).await
    }

    /// Whether [`Self::keep_failed`] is possible. Says why not.
    pub(crate) async fn can_be_kept(&self, events: &Events) -> bool {
        let why = match self.kind().await {
            Ok(Some(_)) => return true,
            Ok(None) => self.cannot_be_saved(),
            Err(e) => e,
        };
        events.note(format!("it is not kept if it does not hold: {why}"));
        false
    }

    /// [`Self::save`] for a run that holds [`Self::alone`], under a name that says of what. Replaces an earlier one.
    pub(crate) async fn keep_failed(&self) -> Result<String, Error> {
        let name = format!("{}-failed", self.plan.lab.name);
        checkpoint::check_name(&name)?;
        let saved = finish(self.store(), self.take().await?, name).await?;
        Ok(saved.name)
    }

    pub(super) fn store(&self) -> Store {
        Store::of(&self.plan.cache)
    }

    /// What a checkpoint of this lab depends on, and its kind. `None`: it cannot be saved here.
    async fn kind(&self) -> Result<Option<(Fingerprint, String)>, Error> {
        let Some(needs) = self.provider.fingerprint(&self.plan.lab).await? else { return Ok(None) };
        let images = load::identities(&self.plan.lab, &self.plan.cache).await?;
        Ok(Some((needs.clone(), checkpoint::kind(&self.plan.lab, &images, &needs))))
    }

    /// Takes the lab's state, which only then goes to disk.
    async fn take(&self) -> Result<Taken, Error> {
        let Some((needs, kind)) = self.kind().await? else { return Err(self.cannot_be_saved()) };
        let wire = self.wire().ok_or_else(|| Error::NotUp(self.plan.lab.name.clone()))?;
        let hosts = self.hosts();
        let mut manifest = CheckpointManifest::new(self.plan.clone(), kind, needs);
        let mut machines = Vec::new();
        {
            let parts = self.parts();
            manifest.ended = hosts.ended.clone();
            manifest.nodes_gone = parts.nodes_gone.clone();
            manifest.done = parts.done.clone();
            for (name, host) in hosts.iter() {
                let saving = parts.machines.get(name).and_then(|m| m.saving());
                machines.push((name.clone(), saving.ok_or_else(|| self.cannot_be_saved())?));
                let api = host.docker.newest().to_string();
                manifest.hosts.insert(name.clone(), SavedHost { base: String::new(), api });
            }
        }
        let store = self.store();
        let sizes = try_join_all(machines.iter().map(|(_, saving)| saving.size())).await?;
        let bytes = sizes.iter().map(|s| *s as u64).sum::<u64>() + ROOM;
        let (mib, free) = (bytes >> 20, limits::available_mib().unwrap_or(u64::MAX));
        // Half of it is left to the machines, which grow.
        if mib > free / 2 {
            return Err(Error::NoMemory { lab: self.plan.lab.name.clone(), mib, free });
        }
        let staging = store.stage()?;
        let hint = "name another folder with --cache-dir or LABCTL_CACHE_DIR, or `labctl checkpoint prune`";
        DiskNeed { bytes, what: "a saved lab takes", hint }.check(store.root())?;
        let prepared = machines.iter().zip(sizes).map(|((_, saving), size)| saving.prepare(size));
        let buffers = try_join_all(prepared).await?;
        let dir = staging.path().to_owned();
        // In a task of its own: nobody who gives up must leave the machines stopped.
        let still = tokio::spawn(stand_still(machines, buffers, dir, wire));
        let (machines, wire, pause) = still.await.map_err(|e| Error::Control(e.to_string()))??;
        manifest.wire = wire;
        manifest.pause_us = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        tracing::info!("saved {}; the lab stood still for {pause:?}", count(machines.len(), "host"));
        for host in hosts.values() {
            // Its clock has missed the pause.
            host.set_clock().await?;
        }
        Ok(Taken { staging, manifest, machines })
    }

    fn cannot_be_saved(&self) -> Error {
        let why = match self.plan.runtime {
            Runtime::Dind => {
                "its hosts are containers on this machine's kernel, whose memory cannot be saved: `--runtime vm` has machines"
            }
            Runtime::Ssh => {
                "its hosts are machines that exist: `--runtime vm` has machines that can be saved"
            }
            Runtime::Vagrant => {
                "its hosts are Vagrant's machines: `--runtime vm` has machines that can be saved"
            }
            Runtime::Vm => {
                "its hosts were booted: only hosts that began as a saved machine (without --cold) can be saved"
            }
        };
        Error::NotSaved { lab: self.plan.lab.name.clone(), why }
    }

    /// The checkpoint that this lab is to be taken from, if there is a fitting one. Says why not where that is news.
    pub(super) async fn origin(&self, events: &Events) -> Result<Option<Checkpoint>, Error> {
        let store = self.store();
        let checkpoint = match &self.plan.origin {
            Origin::Named(name) => {
                let checkpoint = store.require(name).await?;
                let here = self.provider.fingerprint(&self.plan.lab).await?;
                checkpoint.check_fits(&here.ok_or_else(|| self.cannot_be_saved())?)?;
                checkpoint
            }
            Origin::Kind if self.plan.lab.checkpoint => {
                let Some((_, kind)) = self.kind().await? else { return Ok(None) };
                match store.open(&checkpoint::name_of_kind(&kind)).await? {
                    Ok(old) if old.manifest.age() > checkpoint::KEPT => {
                        events.note(format!(
                            "the checkpoint of this lab is {}: it is made anew",
                            ago(old.manifest.age())
                        ));
                        return Ok(None);
                    }
                    Ok(checkpoint) => checkpoint,
                    Err(Unusable::Absent) => return Ok(None),
                    Err(Unusable::Damaged(why)) => {
                        events.note(format!(
                            "the checkpoint of this lab cannot be used ({why}): it is made anew"
                        ));
                        return Ok(None);
                    }
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(checkpoint))
    }

    /// Leaves a checkpoint for the next lab of this kind, unless that is not wanted. The lab stands still for a moment;
    /// the rest is done in the background. A failure is no failure of the lab.
    pub(super) async fn leave_checkpoint(&self, events: &Events) {
        if matches!(self.plan.origin, Origin::None | Origin::Named(_)) || !self.plan.lab.checkpoint {
            return;
        }
        let taken = match self.kind().await {
            Ok(None) => return,
            Ok(Some(_)) => self.take().await,
            Err(e) => Err(e),
        };
        match taken {
            Ok(taken) => {
                let (store, name) = (self.store(), checkpoint::name_of_kind(&taken.manifest.kind));
                *self.began_as() = Some(name.clone());
                let finish = async move {
                    if let Err(e) = store.prune(LIMIT).await {
                        tracing::warn!("{e}");
                    }
                    finish(store, taken, name).await.map(drop)
                };
                *self.writing.lock().await = Some(tokio::spawn(finish));
            }
            Err(e) => events.note(format!("no checkpoint of this lab is left: {e}")),
        }
    }

    /// Waits until what [`Self::leave_checkpoint`] began is on disk. Returns what went wrong.
    pub(super) async fn written(&self) -> Result<(), Error> {
        let mut writing = self.writing.lock().await;
        let Some(task) = writing.as_mut() else { return Ok(()) };
        let ended = wait(task).await;
        *writing = None;
        ended
    }

    /// Makes the lab what it was when this was saved. Nothing must be made yet.
    pub(super) async fn restore(&self, checkpoint: &Checkpoint, events: &Events) -> Result<(), Error> {
        let (lab, saved) = (&self.plan.lab, &checkpoint.manifest);
        let began = Instant::now();
        self.provider.preflight(lab, true, events).await?;
        let mut plans = self.host_plans()?;
        self.start_wire(&plans).await?;
        plans.retain_mut(|plan| {
            plan.saved = checkpoint.machine(&plan.name);
            plan.saved.is_some()
        });
        events.phase(format!("restoring {}", count(plans.len(), "host")));
        let turns = Semaphore::new(AT_ONCE * std::thread::available_parallelism().map_or(1, usize::from));
        let started = try_join_all(plans.iter().map(async |plan| {
            // Never closed.
            let _turn = turns.acquire().await;
            let started = self.start_machine(plan).await?;
            Ok::<_, Error>((plan.name.as_str(), started))
        }))
        .await?;
        let wire = self.wire().ok_or_else(|| Error::NotUp(lab.name.clone()))?;
        wire.restore(saved.wire.clone()).await.map_err(|e| Error::Wire(e.to_string()))?;
        let machines: Vec<Saving> = self.parts().machines.values().filter_map(|m| m.saving()).collect();
        let run = async {
            try_join_all(machines.iter().map(Saving::resume)).await?;
            tracing::info!("machines run after {:.3} s", began.elapsed().as_secs_f64());
            Ok(())
        };
        // Called before they run, an agent finds its port still connected.
        let wake = try_join_all(started.into_iter().map(async |(name, (agent, ended, _))| {
            let agent = AgentClient::dial(agent).await.map_err(Error::agent(name))?;
            let socket = self.dir.docker_socket(name);
            let api = saved.hosts.get(name).map_or("", |h| &h.api);
            self.parts.admit(RunningHost::wake(name, agent, socket, api).await?, ended);
            events.host(name, "goes on");
            Ok::<_, Error>(())
        }));
        tokio::try_join!(run, wake)?;
        for host in self.hosts().values() {
            host.set_clock().await?;
        }
        let mut parts = self.parts();
        parts.hosts.ended = saved.ended.clone();
        parts.nodes_gone = saved.nodes_gone.clone();
        parts.done = saved.done.clone();
        drop(parts);
        checkpoint.touch();
        *self.began_as() = Some(checkpoint.name.clone());
        tracing::info!("lab restored after {:.3} s", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Makes the lab what it was at the end of `up`, or when this checkpoint of it was saved. What it is now is lost. Waits
    /// for a run of checks to end.
    ///
    /// # Errors
    /// There is no such checkpoint, or it is of another lab; then nothing has changed. Else the hosts that could not be
    /// restored are down.
    pub async fn reset(&self, name: Option<&str>, events: &Events) -> Result<(), Error> {
        let _alone = self.alone().await;
        self.reset_alone(name, events).await
    }

    /// [`Self::reset`] for a caller that holds [`Self::alone`].
    pub(crate) async fn reset_alone(&self, name: Option<&str>, events: &Events) -> Result<(), Error> {
        self.written().await?;
        let lab = &self.plan.lab;
        let Some((here, _)) = self.kind().await? else { return Err(self.cannot_be_saved()) };
        let name = match (name, self.began_as().clone()) {
            (Some(name), _) => name.to_owned(),
            (None, Some(name)) => name,
            (None, None) => return Err(Error::NoOrigin(lab.name.clone())),
        };
        let checkpoint = self.store().require(&name).await?;
        checkpoint.check_fits(&here)?;
        if !checkpoint::is_same(&checkpoint.manifest.plan.lab, lab) {
            let why =
                format!("it is of a lab with other hosts, networks or containers than {} has", lab.name);
            return Err(labctl_state::Error::Checkpoint { name, why }.into());
        }
        let warnings = self.take_apart(self.parts.clear(lab, self.dir.name())).await;
        warnings.iter().for_each(|w| tracing::warn!("{w}"));
        let began_as = self.began_as().clone();
        let restored = self.restore(&checkpoint, events).await;
        *self.began_as() = began_as;
        if let Err(e) = &restored {
            let unused = self.parts().give_up(lab, &format!("it could not be reset: {e}"));
            self.take_apart(unused).await.iter().for_each(|w| tracing::warn!("{w}"));
        }
        restored
    }

    /// Undoes what a failed [`Self::restore`] has made.
    pub(super) async fn give_up_restoring(&self) {
        let parts: Parts = self.parts.clear(&self.plan.lab, self.dir.name());
        self.take_apart(parts).await.iter().for_each(|w| tracing::warn!("{w}"));
    }
}

async fn wait(task: &mut JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    task.await.map_err(|e| Error::Control(e.to_string()))?
}

/// Stops all machines, copies them and the wire, and lets each go on as soon as it is copied, whatever happens. Returns
/// for how long the last one stood still.
async fn stand_still(
    machines: Vec<(String, Saving)>,
    buffers: Vec<Vec<u8>>,
    dir: PathBuf,
    wire: Arc<Wire>,
) -> Result<(Vec<(String, Saving, Copied)>, WireState, Duration), Error> {
    let began = Instant::now();
    let stopped = join_all(machines.iter().map(|(_, m)| m.stop())).await;
    let stopped = stopped.into_iter().collect::<Result<Vec<()>, _>>();
    let wire = wire.save().await.map_err(|e| Error::Wire(e.to_string()));
    let copies = join_all(machines.into_iter().zip(buffers).map(async |((name, saving), buffer)| {
        let copied = if stopped.is_ok() { Some(saving.take(buffer, &dir).await) } else { None };
        saving.resume().await?;
        Ok::<_, Error>(copied.transpose()?.map(|copied| (name, saving, copied)))
    }));
    let copies = copies.await;
    let pause = began.elapsed();
    stopped?;
    let copies = copies.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok((copies.into_iter().flatten().collect(), wire?, pause))
}

/// Writes what was taken.
async fn finish(store: Store, taken: Taken, name: String) -> Result<Saved, Error> {
    let Taken { staging, mut manifest, machines } = taken;
    let dir = staging.path().to_owned();
    // One after the other: they share a disk.
    for (host, saving, copied) in machines {
        let base = saving.write(copied, &dir).await?;
        if let Some(saved) = manifest.hosts.get_mut(&host) {
            saved.base = base;
        }
    }
    let pause_us = manifest.pause_us;
    store.publish(staging, &name, manifest).await?;
    let bytes = store.list().into_iter().find(|l| l.name == name).map_or(0, |l| l.bytes);
    tracing::info!("checkpoint {name} is on disk: {} KiB", bytes >> 10);
    Ok(Saved { name, pause_us, bytes })
}

/// An age in words: `3 min old`.
pub fn ago(age: Duration) -> String {
    let (number, unit) = match age.as_secs() {
        s @ 0..120 => (s, "s"),
        s @ 120..7200 => (s / 60, "min"),
        s @ 7200..172_800 => (s / 3600, "h"),
        s => (s / 86_400, "days"),
    };
    format!("{number} {unit} old")
}
