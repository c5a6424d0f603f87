//! Runs a topology's expectations: its checks, then its steps with theirs.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use labctl_machines::{Event, Events};
use labctl_model::{Action, Check, Step};
use labctl_protocol::polling::Polling;
use labctl_report::{
    ActionsReport, CheckReport, Environment, Found, HostEnvironment, Report, StepReport, count,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, actions,
    evidence::Evidence,
    facts,
    frames::{self, WireWatch},
    host::RunningHost,
    lab::RunningLab,
    probe,
    view::View,
    wire,
};

/// Pause between two looks at something that may still settle.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How a lab's expectations are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checking {
    /// Also run the steps, which change the lab.
    pub steps: bool,
    /// How many more times to probe each matrix once it holds. It must hold each time.
    pub again: u32,
    /// Save the lab when something first does not hold.
    pub keep_failed: bool,
    /// Note in each cell where its packets passed, and keep what the segments carried even if it holds.
    pub trace: bool,
}

/// What is expected of a lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expectations {
    /// What must hold as it is.
    pub expect: Vec<Check>,
    /// Changes to it, each with what must hold after it.
    pub steps: Vec<Step>,
}

impl RunningLab {
    /// Runs what the topology expects and, if asked, its steps.
    ///
    /// # Errors
    /// The lab is being taken down. Failed checks and silent hosts are in the report, not errors.
    pub async fn check(&self, how: Checking, events: &Events) -> Result<Report, Error> {
        let lab = &self.plan().lab;
        self.check_these(&lab.expect, &lab.steps, how, events).await
    }

    /// Runs these checks and, if asked, these steps. Their names must be the lab's.
    ///
    /// # Errors
    /// As [`RunningLab::check`].
    pub async fn check_these(
        &self,
        expect: &[Check],
        steps: &[Step],
        how: Checking,
        events: &Events,
    ) -> Result<Report, Error> {
        let _one_at_a_time = self.alone().await;
        let lab = &self.plan().lab;
        let began = Instant::now();
        let mut report = Report::new(&lab.name, &self.plan().runtime.to_string());
        report.environment = Some(environment(&self.view()));
        report.after = self.done();
        let keep_failed = how.keep_failed && self.can_be_kept(events).await;
        events.phase(format!("probing {}", probes(expect)));
        let run = Run { lab: self, how: Checking { keep_failed, ..how }, events, kept: OnceLock::new() };
        report.checks = run.checks(expect, "").await?;
        if how.steps {
            for (index, step) in steps.iter().enumerate() {
                events.send(Event::Step { step: index, of: steps.len(), name: step.name.clone() });
                report.steps.push(run.step(index, step).await?);
            }
        }
        report.checkpoint = run.kept.into_inner().flatten();
        report.took_ms = millis(began.elapsed());
        report.conclude();
        Ok(report)
    }

    /// Runs one action on its own, outside a step.
    ///
    /// # Errors
    /// The action is refused, or something is broken.
    pub async fn act(&self, action: &Action, events: &Events) -> Result<(), Error> {
        // A host must not vanish while a run probes it. A run copes with all other changes.
        let _no_run = match action {
            Action::Power { .. } | Action::Reset => Some(self.alone().await),
            _ => None,
        };
        actions::run(self, action, events).await
    }
}

/// What the lab's hosts run, now.
fn environment(view: &View<'_>) -> Environment {
    let host = |(name, host): (&String, &Arc<RunningHost>)| {
        let described = || view.lab.hosts.get(name).map(|h| h.engine.to_string());
        let engine = host.engine.clone().or_else(described).unwrap_or_default();
        let (kernel, api) = (host.agent.hello().kernel.clone(), host.docker.newest());
        (name.clone(), HostEnvironment { kernel, engine, api })
    };
    Environment {
        labctl: env!("CARGO_PKG_VERSION").to_owned(),
        began: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        hosts: view.hosts.iter().map(host).collect(),
    }
}

/// A run of expectations.
struct Run<'a> {
    lab: &'a RunningLab,
    how: Checking,
    events: &'a Events,
    /// Filled once something did not hold: the checkpoint's name, unless the save failed.
    kept: OnceLock<Option<String>>,
}

impl Run<'_> {
    async fn step(&self, index: usize, step: &Step) -> Result<StepReport, Error> {
        let began = Instant::now();
        let done = actions::run_all(self.lab, step, self.events).await;
        self.keep_unless(done.holds).await;
        let actions =
            ActionsReport { holds: done.holds, message: done.message, took_ms: millis(began.elapsed()) };
        let began = Instant::now();
        let checks = self.checks(&step.expect, &format!("step{}-", index + 1)).await?;
        let settled_ms = checks.iter().all(|c| c.holds).then(|| millis(began.elapsed()));
        Ok(StepReport { name: step.name.clone(), line: step.line, holds: false, actions, settled_ms, checks })
    }

    /// Runs checks in order. The file names of their captures begin with `stem`.
    async fn checks(&self, checks: &[Check], stem: &str) -> Result<Vec<CheckReport>, Error> {
        let began = Instant::now();
        let mut reports = Vec::with_capacity(checks.len());
        for (index, check) in checks.iter().enumerate() {
            let report = one(self.lab, check, self.how, began, &format!("{stem}check{}", index + 1)).await?;
            self.keep_unless(report.holds).await;
            reports.push(report);
        }
        Ok(reports)
    }

    /// Saves the lab as it is, if this is the first that does not hold. If that fails, the results stay as they are.
    async fn keep_unless(&self, holds: bool) {
        if holds || !self.how.keep_failed || self.kept.get().is_some() {
            return;
        }
        let kept = match self.lab.keep_failed().await {
            Ok(name) => Some(name),
            Err(e) => {
                self.events.note(format!("the lab that does not hold is not kept: {e}"));
                None
            }
        };
        // Empty until here.
        let _ = self.kept.set(kept);
    }
}

/// Looks at a check until it holds or its time is over. `began` is when the work before the checks ended, such as the
/// actions of a step.
async fn one(
    running: &RunningLab,
    check: &Check,
    how: Checking,
    began: Instant,
    stem: &str,
) -> Result<CheckReport, Error> {
    let (within, line, watched, mut again) = match check {
        Check::Matrix(m) => (m.within, m.line, m.wire.as_slice(), how.again),
        Check::Fact(f) => (f.within, f.line, [].as_slice(), 0),
        // It waits for arrival itself: sending again would be another frame.
        Check::Inject(i) => (Duration::ZERO, i.line, i.wire.as_slice(), 0),
    };
    let watch = WireWatch::begin(&running.view(), watched).await;
    let wait = Polling::new(within, LOOK_AGAIN);
    let (mut looks, mut captures, mut settled_ms) = (0, Vec::new(), None);
    let found = loop {
        looks += 1;
        // A look that began in time may have waited for something not yet ready, and so not show the final state.
        let last = wait.is_over();
        let evidence = match check {
            Check::Matrix(_) => Some(Evidence::begin(&running.view()).await?),
            Check::Fact(_) | Check::Inject(_) => None,
        };
        let found = look(running, check, how.trace).await;
        let holds = found.holds();
        if holds && settled_ms.is_none() {
            settled_ms = Some(millis(began.elapsed()));
        }
        if holds && again > 0 {
            again -= 1;
            continue;
        }
        // Once it has held, it gets no more time.
        if holds || last || settled_ms.is_some() {
            if let Some(evidence) = evidence.filter(|_| !holds || how.trace) {
                captures = keep(running, evidence, stem).await;
            }
            break found;
        }
        wait.pause().await;
    };
    let sent = !matches!(&found, Found::Frame(frame) if frame.error.is_some());
    let (within_ms, wire) = (millis(within), watch.end(sent).await);
    let mut report = CheckReport { line, holds: false, within_ms, settled_ms, looks, captures, found, wire };
    report.conclude();
    Ok(report)
}

/// Keeps what the segments carried. If that fails, the check's result stays as it is.
async fn keep(running: &RunningLab, evidence: Evidence, stem: &str) -> Vec<PathBuf> {
    let kept = evidence.keep(&running.plan().lab, &running.dir().captures(), stem).await;
    kept.unwrap_or_else(|error| {
        tracing::warn!("what the wire carried is not kept: {error}");
        Vec::new()
    })
}

/// Looks at a check once. A host that does not answer is noted in the result; other hosts' results stay valid.
async fn look(running: &RunningLab, check: &Check, trace: bool) -> Found {
    let view = &running.view();
    match check {
        Check::Matrix(matrix) => {
            let counters = async || view.wire().ok()?.stats().await.ok();
            let before = counters().await;
            let mut found = probe::matrix(view, matrix, trace).await;
            if let (Some(before), Some(after)) = (before, counters().await) {
                wire::explain(view.lab, &wire::dropped(view.lab, &before, &after), &mut found.cells);
            }
            Found::Matrix(found)
        }
        Check::Inject(inject) => Found::Frame(frames::check(view, inject).await),
        Check::Fact(fact) => Found::Fact(facts::check(view, fact).await),
    }
}

fn probes(checks: &[Check]) -> String {
    let cells: usize = checks.iter().map(|c| if let Check::Matrix(m) = c { m.cells.len() } else { 0 }).sum();
    count(cells, "cell")
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
