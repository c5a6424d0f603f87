//! What verbs do with a lab: bring it up, check it, take it down.

use labctl_model::{Action, Lab};
use labctl_runtime::{
    Checking, Event, LabDir, RuntimeChoice, UpOptions,
    control::{
        Client,
        protocol::{Answer, Request},
    },
    image, install, launch, limits,
    report::Report,
    teardown,
};

use crate::{
    context::{Context, agent, own_exe},
    exit::Error,
    progress::Progress,
    stop::Stop,
    topology::Topology,
};

/// How a lab is brought up.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Manner {
    /// What the hosts run on
    #[arg(long, value_enum, default_value_t, value_name = "RUNTIME", env = "LABCTL_RUNTIME")]
    pub runtime: Runtime,
    /// Boot the hosts instead of restoring a saved machine
    #[arg(long)]
    pub cold: bool,
    /// Leave labs as they are, also one that does not come up: `exec`, `docker` and `logs` work on what there is
    #[arg(long)]
    pub keep: bool,
}

/// What the hosts run on.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub enum Runtime {
    /// The best that this machine can do
    #[default]
    Auto,
    /// A QEMU machine each: own kernel, no privileges needed
    Vm,
    /// A container each, on this machine's kernel and Docker: lighter, limited to what that kernel can do, and no
    /// protection: root in it is root of this machine
    Dind,
}

impl From<Runtime> for RuntimeChoice {
    fn from(runtime: Runtime) -> Self {
        match runtime {
            Runtime::Auto => RuntimeChoice::Auto,
            Runtime::Vm => RuntimeChoice::Vm,
            Runtime::Dind => RuntimeChoice::Dind,
        }
    }
}

/// Brings a lab up. If that fails, nothing of it is left, unless `--keep` was given. If interrupted, nothing is left.
pub async fn bring_up(
    context: &Context,
    topology: &Topology,
    manner: Manner,
    progress: &mut Progress<'_>,
    stop: &mut Stop,
) -> Result<LabDir, Error> {
    let lab = &topology.lab;
    // Before anything is made, even a node image.
    limits::allow_files(lab)?;
    let agent = agent()?;
    install::try_agent(&agent).await?;
    let chosen = RuntimeChoice::from(manner.runtime)
        .resolve(lab, topology.shown.as_ref(), &context.dirs.cache, &agent, manner.cold)
        .await?;
    if let Some(why) = &chosen.why {
        progress.event(&Event::Note(why.clone()));
    }
    let options = UpOptions {
        lab: topology.lab.clone(),
        topology: topology.path.clone(),
        runtime: chosen.choice(),
        cold: manner.cold,
        keep: manner.keep,
        agent,
    };
    tokio::select! {
        built = make_images(context, &topology.lab, &topology.shown, progress) => built?,
        () = stop.wait() => return Err(Error::Interrupted),
    }
    // Must not be interrupted: until it returns, we do not know whether a lab of this name is ours to take down.
    let dir = launch::begin(&context.dirs, options, &own_exe()?).await?;
    let followed = tokio::select! {
        done = follow(&dir, progress) => done,
        () = stop.wait() => Err(Error::Interrupted),
    };
    match followed {
        Ok(()) => Ok(dir),
        Err(e) if is_taken_down(&e) => Err(e),
        Err(e) if manner.keep && !matches!(e, Error::Interrupted) => {
            let (lab, file) = (&topology.lab.name, &topology.shown);
            progress.phase(&format!(
                "left as it is: `labctl ps`, `labctl logs {lab}`; `labctl down {file}` takes it away"
            ));
            Err(e)
        }
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
    topology: &str,
    progress: &mut Progress<'_>,
) -> Result<(), Error> {
    let cache = &context.dirs.cache;
    match progress.showing(async |events| image::ensure(cache, lab, events).await).await {
        Err(image::Error::OfPackages { name, line, source }) => {
            Err(Error::Packages { name, place: format!("{topology}:{line}"), source: *source })
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
    let run = async {
        let mut client = Client::connect(dir).await?;
        client.send(&Request::Check(how)).await?;
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

/// Does one action of a step in a lab that is up.
pub async fn act(context: &Context, dir: &LabDir, action: Action) -> Result<(), Error> {
    let mut stop = Stop::new()?;
    let mut progress = Progress::new(&context.printer, dir.name());
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
            Err(labctl_runtime::Error::NoSuchLab { .. }) => {}
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
