//! What verbs do with a lab: bring it up, check it, take it down.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use labctl_machines::{Error as MachineError, Event, images, install, limits, runtimes};
use labctl_model::{Action, Check, Lab, engine};
use labctl_report::Report;
use labctl_runtime::{
    Checking, Expectations, UpOptions,
    control::{
        Client,
        protocol::{Answer, Request},
    },
    launch, teardown,
};
use labctl_state::{LabDir, Machines, Origin, Runtime};

use crate::{
    context::{Context, agent, own_exe},
    engines,
    exit::Error,
    progress::Progress,
    stop::Stop,
    topology::TopologyFile,
};

/// How a lab is brought up.
#[derive(Clone, Debug, clap::Args)]
pub struct Manner {
    /// What the hosts run on
    #[arg(long, value_enum, default_value_t, value_name = "RUNTIME", env = "LABCTL_RUNTIME")]
    pub runtime: Asked,
    #[command(flatten)]
    pub existing: Existing,
    /// Boot the hosts instead of restoring a saved machine
    #[arg(long)]
    pub cold: bool,
    /// Run Docker as its packager ships it: without the shortcuts that emulated machines have
    #[arg(long)]
    pub vanilla: bool,
    /// Take the lab from the checkpoint that an earlier one of its kind left; if there is none, leave one. `up` does so
    /// unless told otherwise, `test` only if asked
    #[arg(long, env = "LABCTL_CHECKPOINT", value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub checkpoint: Option<bool>,
    /// Make the lab anew, and leave no checkpoint
    #[arg(long, conflicts_with = "fresh")]
    pub no_checkpoint: bool,
    /// Make the lab anew, and leave another checkpoint
    #[arg(long)]
    pub fresh: bool,
    /// Leave labs as they are, also one that does not come up: `exec`, `docker` and `logs` work on what there is
    #[arg(long)]
    pub keep: bool,
}

/// What `--runtime ssh` may use, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Existing {
    /// The machines for `--runtime ssh`: where each host is, and its NICs (docs/runtimes/ssh.md)
    #[arg(long, value_name = "FILE", env = "LABCTL_MACHINES")]
    pub machines: Option<PathBuf>,
    /// On machines that exist, cut and block by rules of nftables there
    #[arg(long)]
    pub allow_impair: bool,
    /// On machines that exist, probe addresses outside of the topology's segments and networks too
    #[arg(long)]
    pub allow_outside: bool,
}

impl Existing {
    /// The machines, if a file of them is given.
    pub fn machines(&self) -> Result<Option<Machines>, Error> {
        let Some(file) = &self.machines else { return Ok(None) };
        let mut machines = Machines::load(file).map_err(MachineError::from)?;
        machines.allow_impair = self.allow_impair;
        machines.allow_outside = self.allow_outside;
        Ok(Some(machines))
    }
}

impl Manner {
    /// Which checkpoint a lab is taken from.
    fn origin(&self) -> Origin {
        match (self.fresh, self.checkpoint) {
            (true, _) => Origin::Fresh,
            (_, Some(true)) if !self.no_checkpoint => Origin::Kind,
            _ => Origin::None,
        }
    }
}

/// The runtime that a user asks for.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub enum Asked {
    /// The best that this machine can do
    #[default]
    Auto,
    /// A QEMU machine each: own kernel, no privileges needed
    Vm,
    /// A container each, on this machine's kernel and Docker: lighter, limited to what that kernel can do, and no
    /// protection: root in it is root of this machine
    Dind,
    /// Machines that exist, by your own ssh: `--machines` says where they are
    Ssh,
    /// Machines that Vagrant makes, by libvirt, or by VirtualBox if VAGRANT_DEFAULT_PROVIDER says so
    Vagrant,
}

impl From<Asked> for Option<Runtime> {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Auto => None,
            Asked::Vm => Some(Runtime::Vm),
            Asked::Dind => Some(Runtime::Dind),
            Asked::Ssh => Some(Runtime::Ssh),
            Asked::Vagrant => Some(Runtime::Vagrant),
        }
    }
}

/// Brings a lab up. If that fails, nothing of it is left, unless `--keep` was given. If interrupted, nothing is left.
pub async fn bring_up(
    context: &Context,
    topology: &TopologyFile,
    manner: &Manner,
    progress: &mut Progress<'_>,
    stop: &mut Stop,
) -> Result<LabDir, Error> {
    let lab = &topology.lab;
    for (host, described) in &lab.hosts {
        let word = topology.places.scalar(&["hosts", host, "engine"]).filter(|word| engine::is_number(word));
        if let Some(word) = word {
            let said = engines::stands_for(word, &described.engine);
            progress.event(&Event::Note(format!("{host}: {said}")));
        }
    }
    // Before anything is made, even a node image.
    limits::allow_files(lab)?;
    let agent = agent()?;
    install::try_agent(&agent).await?;
    let asked = Option::<Runtime>::from(manner.runtime);
    // A file that LABCTL_MACHINES names does not count for other runtimes.
    let machines = if asked == Some(Runtime::Ssh) { manner.existing.machines()? } else { None };
    let chosen = runtimes::resolve(
        asked,
        machines.as_ref(),
        lab,
        &topology.places,
        &context.dirs.cache,
        &agent,
        manner.cold,
    )
    .await?;
    if let Some(why) = &chosen.why {
        progress.event(&Event::Note(why.clone()));
    }
    let options = UpOptions {
        lab: Lab { vanilla: manner.vanilla || lab.vanilla, ..chosen.lab },
        topology: topology.path.clone(),
        runtime: chosen.runtime,
        cold: manner.cold,
        keep: manner.keep,
        origin: manner.origin(),
        agent,
        machines,
    };
    tokio::select! {
        built = make_images(context, &topology.lab, chosen.runtime, &topology.shown, progress) => built?,
        () = stop.wait() => return Err(Error::Interrupted),
    }
    match begin(context, options, progress, stop).await {
        Err(e) if manner.keep && !matches!(e, Error::Interrupted) && !is_taken_down(&e) => {
            let (lab, file) = (&topology.lab.name, &topology.shown);
            progress.phase(&format!(
                "left as it is: `labctl ps`, `labctl logs {lab}`; `labctl down {file}` takes it away"
            ));
            Err(e)
        }
        // What the supervisor says: so there was something to look at.
        Err(e @ Error::Runtime(labctl_runtime::Error::Remote(_))) if !is_taken_down(&e) => {
            let lab = &topology.lab.name;
            progress
                .event(&Event::Note(format!("with `--keep` lab {lab} would be left as it is, for a look")));
            Err(e)
        }
        done => done,
    }
}

/// Starts a lab's supervisor and follows it until the lab is up. If that fails, nothing of the lab is left, unless the
/// options say to keep it.
pub async fn begin(
    context: &Context,
    options: UpOptions,
    progress: &mut Progress<'_>,
    stop: &mut Stop,
) -> Result<LabDir, Error> {
    let keep = options.keep;
    // Must not be interrupted: until it returns, we do not know whether a lab of this name is ours to take down.
    let dir = launch::begin(&context.dirs, options, &own_exe()?).await?;
    let followed = tokio::select! {
        done = follow(&dir, progress) => done,
        () = stop.wait() => Err(Error::Interrupted),
    };
    match followed {
        Ok(()) => Ok(dir),
        Err(e) if is_taken_down(&e) => Err(e),
        Err(e) if keep && !matches!(e, Error::Interrupted) => Err(e),
        Err(e) => {
            clear(context, &dir, progress, stop).await;
            Err(e)
        }
    }
}

/// Makes what is missing: the node images that a lab's hosts need, and the container images that the topology builds
/// from Debian packages.
async fn make_images(
    context: &Context,
    lab: &Lab,
    runtime: Runtime,
    topology: &str,
    progress: &mut Progress<'_>,
) -> Result<(), Error> {
    let cache = &context.dirs.cache;
    match progress.showing(async |events| images::ensure(cache, lab, runtime, events).await).await {
        Err(MachineError::OfPackages { name, line, source }) => {
            Err(Error::Packages { name, place: format!("{topology}:{line}"), source })
        }
        done => Ok(done?),
    }
}

/// Whether another command took the lab down. A lab of that name is then not ours.
pub fn is_taken_down(error: &Error) -> bool {
    matches!(error, Error::Runtime(e) if e.is_taken_down())
}

/// Runs a lab's expectations.
pub async fn check(
    dir: &LabDir,
    how: Checking,
    progress: &mut Progress<'_>,
    stop: &mut Stop,
) -> Result<Report, Error> {
    check_by(dir, &Request::Check(how), progress, stop).await
}

/// Runs these checks in a lab, in place of its own expectations.
pub async fn verify(
    dir: &LabDir,
    checks: Vec<Check>,
    progress: &mut Progress<'_>,
    stop: &mut Stop,
) -> Result<Report, Error> {
    let expectations = Box::new(Expectations { expect: checks, steps: Vec::new() });
    check_by(dir, &Request::CheckOther { how: Checking::default(), expectations }, progress, stop).await
}

/// Runs the expectations that a request asks for.
pub async fn check_by(
    dir: &LabDir,
    request: &Request,
    progress: &mut Progress<'_>,
    stop: &mut Stop,
) -> Result<Report, Error> {
    let run = async {
        let mut client = Client::connect(dir).await?;
        client.send(request).await?;
        let mut report = None;
        loop {
            match answer(dir, &mut client).await? {
                Answer::Event(event) => progress.event(&event),
                Answer::Report(found) => report = Some(*found),
                Answer::Done => break,
                _ => {}
            }
        }
        report.ok_or_else(|| {
            labctl_runtime::Error::Control("the check ended without a report".to_owned()).into()
        })
    };
    tokio::select! {
        found = run => found,
        () = stop.wait() => Err(Error::Interrupted),
    }
}

/// Makes a lab what it was at the end of `up`, or when a checkpoint of it was saved.
pub async fn reset(dir: &LabDir, name: Option<String>, stop: &mut Stop) -> Result<(), Error> {
    let take = |answer| matches!(answer, Answer::Reset).then_some(());
    ask(dir, &Request::Reset { name }, stop, take).await
}

/// Does one action of a step in a lab that is up.
pub async fn act(
    dir: &LabDir,
    action: Action,
    progress: &mut Progress<'_>,
    stop: &mut Stop,
) -> Result<(), Error> {
    let request = async {
        let mut client = Client::connect(dir).await?;
        client.send(&Request::Do { action }).await?;
        loop {
            match answer(dir, &mut client).await? {
                Answer::Event(event) => progress.event(&event),
                Answer::Done => return Ok(()),
                _ => {}
            }
        }
    };
    tokio::select! {
        ended = request => ended,
        () = stop.wait() => Err(Error::Interrupted),
    }
}

/// Asks a lab for one report and waits for it. `take` recognizes it among the answers.
pub async fn ask<T>(
    dir: &LabDir,
    request: &Request,
    stop: &mut Stop,
    take: impl Fn(Answer) -> Option<T>,
) -> Result<T, Error> {
    let asked = async {
        let mut client = Client::connect(dir).await?;
        client.send(request).await?;
        let mut report = None;
        loop {
            match answer(dir, &mut client).await? {
                Answer::Done => break,
                other => report = take(other).or(report),
            }
        }
        report.ok_or_else(|| labctl_runtime::Error::Control("it ended without a report".to_owned()).into())
    };
    tokio::select! {
        report = asked => report,
        () = stop.wait() => Err(Error::Interrupted),
    }
}

/// Takes down a lab that this command made, and warns of what could not be cleared. A second Ctrl-C stops this.
pub async fn clear(context: &Context, dir: &LabDir, progress: &mut Progress<'_>, stop: &mut Stop) {
    progress.phase("taking it down");
    tokio::select! {
        done = teardown::down(&context.dirs, dir.name()) => match done {
            Ok(warnings) => warnings.iter().for_each(|w| context.printer.warn(w)),
            // The supervisor itself clears a lab that did not come up.
            Err(labctl_runtime::Error::State(labctl_state::Error::NoSuchLab { .. })) => {}
            Err(e) => context.printer.warn(&e.to_string()),
        },
        () = stop.wait() => {
            context.printer.warn(&format!("not all is cleared\nhint: `labctl down {}` does it", dir.name()));
        }
    }
}

/// Returns the next answer. A failure or a vanished supervisor is an error.
pub async fn answer(dir: &LabDir, client: &mut Client) -> Result<Answer, Error> {
    match client.next().await? {
        Some(Answer::Error(failure)) => Err(labctl_runtime::Error::Remote(failure).into()),
        Some(answer) => Ok(answer),
        None => Err(dir.gone().into()),
    }
}

async fn follow(dir: &LabDir, progress: &mut Progress<'_>) -> Result<(), Error> {
    let mut client = Client::connect(dir).await?;
    client.send(&Request::Follow { own: true }).await?;
    loop {
        match answer(dir, &mut client).await? {
            Answer::Event(event) => progress.event(&event),
            Answer::Done => return Ok(()),
            _ => {}
        }
    }
}
