//! A lab that is described and not up yet.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use labctl_machines::{Event, clear::clear, images, install, runtimes};
use labctl_model::EngineChoice;
use labctl_runtime::{UpOptions, launch};
use labctl_state::{Dirs, LabDir, Machines, Origin, Runtime};
use labctl_topology::Topology;
use labctl_yaml::Places;

use crate::{
    Error, RunningLab,
    builder::Calls,
    home::{Held, Home},
};

/// A lab whose topology was parsed without mistakes. [`Lab::up`] brings it up.
///
/// Made by [`Lab::from_file`], [`Lab::from_yaml`] or [`Lab::builder`].
#[must_use = "nothing is made before `up`"]
pub struct Lab {
    model: labctl_model::Lab,
    places: Places,
    topology: PathBuf,
    runtime: Option<Runtime>,
    cold: bool,
    origin: Origin,
    state: Option<PathBuf>,
    cache: Option<PathBuf>,
    agent: Option<PathBuf>,
    machines: Option<Machines>,
    captures: Option<PathBuf>,
    tell: Box<dyn FnMut(Event) + Send>,
}

impl Lab {
    /// Reads a topology from a file.
    ///
    /// # Errors
    /// [`Error::Topology`] if the file cannot be read, or with all its mistakes.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let read = Topology::load(path, &EngineChoice::default())?;
        Ok(Self::new(read, std::path::absolute(path).unwrap_or_else(|_| path.to_owned())))
    }

    /// Reads a topology from text.
    ///
    /// ```
    /// let lab = lab::Lab::from_yaml("{ name: one, hosts: { host1: {} } }")?;
    /// assert!(lab.model().hosts.contains_key("host1"));
    ///
    /// let mistake = lab::Lab::from_yaml("{ name: one, hots: { host1: {} } }").unwrap_err();
    /// assert!(mistake.to_string().contains("did you mean `hosts`?"), "{mistake}");
    /// # Ok::<(), lab::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Topology`] with all its mistakes.
    pub fn from_yaml(text: &str) -> Result<Self, Error> {
        const NAME: &str = "topology";
        Ok(Self::new(Topology::parse(text, NAME, &EngineChoice::default())?, NAME.into()))
    }

    fn new(read: Topology, topology: PathBuf) -> Self {
        Self {
            model: read.lab,
            places: read.places,
            topology,
            runtime: None,
            cold: false,
            origin: Origin::None,
            state: None,
            cache: None,
            agent: None,
            machines: None,
            captures: None,
            tell: Box::new(trace),
        }
    }

    /// Takes the lines of a builder's calls for those of the text that it wrote: nobody sees that.
    pub(crate) fn called(mut self, calls: &Calls) -> Self {
        let mut all = calls.expect.iter().chain(&calls.steps);
        let Some(file) =
            all.next().map(|call| call.file()).filter(|file| all.all(|call| call.file() == *file))
        else {
            return self;
        };
        if self.model.expect.len() == calls.expect.len() && self.model.steps.len() == calls.steps.len() {
            self.topology = file.into();
            self.model
                .expect
                .iter_mut()
                .zip(&calls.expect)
                .for_each(|(check, call)| check.set_line(call.line()));
            for (step, call) in self.model.steps.iter_mut().zip(&calls.steps) {
                step.line = call.line();
                step.expect.iter_mut().for_each(|check| check.set_line(call.line()));
            }
        }
        self
    }

    /// The lab's model: hosts, networks, containers, what must hold.
    pub fn model(&self) -> &labctl_model::Lab {
        &self.model
    }

    /// Chooses what the hosts run on; by default, the best that this machine can do.
    pub fn runtime(self, runtime: Runtime) -> Self {
        Self { runtime: Some(runtime), ..self }
    }

    /// Sets the machines for [`Runtime::Ssh`], as `labctl up --machines FILE` does (docs/runtimes/ssh.md).
    ///
    /// # Errors
    /// The file cannot be read, or has mistakes.
    pub fn machines(self, file: impl AsRef<Path>) -> Result<Self, Error> {
        let machines = Machines::load(file.as_ref()).map_err(labctl_machines::Error::from)?;
        Ok(Self { machines: Some(machines), ..self })
    }

    /// Boots the hosts instead of restoring a saved machine.
    pub fn cold(self, cold: bool) -> Self {
        Self { cold, ..self }
    }

    /// Takes the lab from the checkpoint that an earlier one of its kind left, within a second, or leaves one for the next:
    /// so each test of many begins with the same lab (docs/checkpoints.md). [`RunningLab::reset`] then goes back to it. By
    /// default, the lab is made anew. On a runtime that cannot save labs this changes nothing.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), lab::Error> {
    /// let lab = lab::Lab::from_file("lab.yaml")?.from_checkpoint(true).up().await?;
    /// lab.act("kill host2").await?;
    /// lab.reset().await?;
    /// assert!(lab.check().await?.holds);
    /// # Ok(()) }
    /// ```
    pub fn from_checkpoint(self, yes: bool) -> Self {
        Self { origin: if yes { Origin::Kind } else { Origin::None }, ..self }
    }

    /// Runs Docker as its packager ships it: without the shortcuts that emulated machines have (docs/vanilla.md).
    pub fn vanilla(self, vanilla: bool) -> Self {
        Self { model: labctl_model::Lab { vanilla, ..self.model }, ..self }
    }

    /// Sets where the lab's folder is made. It holds sockets, consoles and what `labctl down` reads after a crash. By
    /// default `LABCTL_STATE_DIR`, else `labctl` in the XDG state folder.
    pub fn state_dir(self, dir: impl Into<PathBuf>) -> Self {
        Self { state: Some(dir.into()), ..self }
    }

    /// Sets where captures of the wire are kept, which a matrix that does not hold leaves: they outlive the lab. By default
    /// `LABCTL_CAPTURES`, else `labctl-captures` in the folder for temporary files.
    pub fn captures(self, dir: impl Into<PathBuf>) -> Self {
        Self { captures: Some(dir.into()), ..self }
    }

    /// Sets where node images and saved machines are kept. By default `LABCTL_CACHE_DIR`, else `labctl` in the XDG cache
    /// folder, as for labctl itself.
    pub fn cache_dir(self, dir: impl Into<PathBuf>) -> Self {
        Self { cache: Some(dir.into()), ..self }
    }

    /// Sets the agent's binary. By default `LABCTL_AGENT`, else `labctl-agent` beside this program, one folder above, or in
    /// `PATH`.
    pub fn agent(self, path: impl Into<PathBuf>) -> Self {
        Self { agent: Some(path.into()), ..self }
    }

    /// Calls `tell` with every event while the lab lives; by default, events go to `tracing`.
    pub fn on_event(self, tell: impl FnMut(Event) + Send + 'static) -> Self {
        Self { tell: Box::new(tell), ..self }
    }

    /// Brings the lab up: hosts, networks, containers, swarm, services. Makes a missing node image first, which takes half
    /// a minute, once.
    ///
    /// Labs of equal names, in one program or several, do not disturb each other: each has its own folder, wire and
    /// machines. If this fails, or is dropped before it is done, nothing of the lab is left.
    ///
    /// # Errors
    /// If this machine lacks something, or Docker refuses what the topology asks for.
    pub async fn up(self) -> Result<RunningLab, Error> {
        let dirs =
            Dirs {
                cache: cache_folder(self.cache)?,
                state: folder(self.state, "LABCTL_STATE_DIR", install::default_state()).ok_or(
                    Error::NoHome { what: "labs", variable: "LABCTL_STATE_DIR", method: "state_dir" },
                )?,
            };
        let agent = match self.agent {
            Some(agent) => install::find_agent(Some(agent), &[])?,
            None => install::find_agent_of_this_program()?,
        };
        let captures =
            folder(self.captures, "LABCTL_CAPTURES", Some(env::temp_dir().join("labctl-captures")));
        let name = self.model.name.clone();
        let (model, topology, asked, cold) = (self.model, self.topology, self.runtime, self.cold);
        let places = self.places;
        let (origin, machines) = (self.origin, self.machines);
        let home = Home::start(&name)?;
        let events = home.events(self.tell);
        let (held, told) = (home.held(), events.clone());
        let made = home.run(async move {
            // Before anything is made, even a node image.
            install::try_agent(&agent).await?;
            let chosen =
                runtimes::resolve(asked, machines.as_ref(), &model, &places, &dirs.cache, &agent, cold)
                    .await?;
            if let Some(why) = chosen.why {
                told.note(why);
            }
            let options = UpOptions {
                lab: chosen.lab,
                topology,
                runtime: chosen.runtime,
                cold,
                keep: false,
                origin,
                agent,
                machines,
            };
            images::ensure(&dirs.cache, &options.lab, options.runtime, &told).await?;
            clear_dead(&dirs, &name).await;
            let dir = LabDir::of(&dirs, &format!("{name}.{:06x}", rand::random::<u32>() >> 8));
            let (plan, lock) = launch::claim(&dir, &dirs, &options).await?;
            let provider = runtimes::provider(&plan, &dir);
            let (lab, lock) =
                (Arc::new(labctl_runtime::RunningLab::new(plan, dir.clone(), provider)), Arc::new(lock));
            // No await since the folder was made. From here on the thread takes down whatever exists.
            *held.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(Held { lab: lab.clone(), dir, lock: lock.clone() });
            lab.bring_up(&told).await?;
            Ok::<_, Error>((lab, lock))
        });
        match made.await {
            Ok((lab, lock)) => {
                home.attend(lab.clone(), lock);
                Ok(RunningLab::new(home, lab, events, captures))
            }
            Err(e) => {
                home.end().await.iter().for_each(|w| tracing::warn!("{w}"));
                Err(e)
            }
        }
    }
}

impl fmt::Debug for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lab").field("name", &self.model.name).finish_non_exhaustive()
    }
}

/// The folder where node images are kept.
pub(crate) fn cache_folder(given: Option<PathBuf>) -> Result<PathBuf, Error> {
    const VARIABLE: &str = "LABCTL_CACHE_DIR";
    folder(given, VARIABLE, install::default_cache()).ok_or(Error::NoHome {
        what: "node images",
        variable: VARIABLE,
        method: "cache_dir",
    })
}

fn folder(given: Option<PathBuf>, variable: &str, default: Option<PathBuf>) -> Option<PathBuf> {
    let dir = given.or_else(|| env::var_os(variable).map(PathBuf::from)).or(default)?;
    Some(std::path::absolute(&dir).unwrap_or(dir))
}

/// Clears labs of this name that a killed program left behind.
async fn clear_dead(dirs: &Dirs, name: &str) {
    for dir in labctl_state::list(dirs).unwrap_or_default() {
        let ours = dir.name().strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        // A folder without a plan is just being made. The lock keeps others out while we clear.
        if ours
            && dir.has_plan()
            && let Ok(Some(lock)) = dir.lock()
        {
            clear(&dir, &lock).await;
        }
    }
}

pub(crate) fn trace(event: Event) {
    match event {
        Event::Phase(text) => tracing::info!("{text}"),
        Event::Host { host, stage } => tracing::info!("{host}: {stage}"),
        Event::Step { step, of, name } => tracing::info!("step {}/{of} {name}", step + 1),
        Event::Note(text) => tracing::warn!("{text}"),
    }
}
