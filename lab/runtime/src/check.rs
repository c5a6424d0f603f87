//! Runs a topology's expectations: its checks, then its steps with theirs.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use labctl_machines::{Event, Events};
use labctl_model::{Action, Check, Step};
use labctl_report::{CellReport, CheckReport, FactReport, Report, StepReport};
use serde::{Deserialize, Serialize};

use crate::{
    Error, actions,
    evidence::Evidence,
    facts,
    frames::{self, WireWatch},
    lab::RunningLab,
    probe, wire,
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
}

impl RunningLab {
    /// Runs what the topology expects and, if asked, its steps.
    ///
    /// # Errors
    /// The lab is being taken down. Failed checks and silent hosts are in the report, not errors.
    pub async fn check(&self, how: Checking, events: &Events) -> Result<Report, Error> {
        let _one_at_a_time = self.alone().await;
        let lab = &self.plan().lab;
        let began = Instant::now();
        let mut report =
            Report { lab: lab.name.clone(), runtime: self.plan().runtime.to_string(), ..Report::default() };
        events.phase(format!("probing {}", probes(&lab.expect)));
        checks(self, &lab.expect, how, None, &mut report).await?;
        if how.steps {
            for (index, step) in lab.steps.iter().enumerate() {
                events.send(Event::Step { step: index, of: lab.steps.len(), name: step.name.clone() });
                run_step(self, index, step, how, events, &mut report).await?;
            }
        }
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
            Action::Power { .. } => Some(self.alone().await),
            _ => None,
        };
        actions::run(self, action, events).await
    }
}

async fn run_step(
    lab: &RunningLab,
    index: usize,
    step: &Step,
    how: Checking,
    events: &Events,
    report: &mut Report,
) -> Result<(), Error> {
    let began = Instant::now();
    let done = actions::run_all(lab, step, events).await;
    let took = began.elapsed();
    let began = Instant::now();
    let held = checks(lab, &step.expect, how, Some(index), report).await?;
    report.steps.push(StepReport {
        step: index,
        name: step.name.clone(),
        holds: done.holds,
        message: done.message,
        took_ms: millis(took),
        settled_ms: held.then(|| millis(began.elapsed())),
        line: step.line,
    });
    Ok(())
}

/// Runs checks in order and returns whether all hold.
async fn checks(
    running: &RunningLab,
    checks: &[Check],
    how: Checking,
    step: Option<usize>,
    report: &mut Report,
) -> Result<bool, Error> {
    let began = Instant::now();
    let mut all = true;
    for (index, check) in checks.iter().enumerate() {
        let (within, line) = match check {
            Check::Matrix(m) => (m.within, m.line),
            Check::Fact(f) => (f.within, f.line),
            // It waits for arrival itself: sending again would be another frame.
            Check::Inject(i) => (Duration::ZERO, i.line),
        };
        let watched = match check {
            Check::Matrix(matrix) => matrix.wire.as_slice(),
            Check::Inject(inject) => inject.wire.as_slice(),
            Check::Fact(_) => &[],
        };
        let watch = WireWatch::begin(&running.view(), watched).await;
        let deadline = Instant::now() + within;
        let (mut looks, mut captures, mut settled, mut sent) = (0, Vec::new(), None, true);
        let mut again = if matches!(check, Check::Matrix(_)) { how.again } else { 0 };
        let holds = loop {
            looks += 1;
            // A look that began in time may have waited for something not yet ready, and so not show the final state.
            let last = Instant::now() >= deadline;
            let evidence = match check {
                Check::Matrix(_) => Some(Evidence::begin(&running.view()).await?),
                Check::Fact(_) | Check::Inject(_) => None,
            };
            let found = look(running, check).await;
            let holds = found.holds();
            if holds && settled.is_none() {
                settled = Some(millis(began.elapsed()));
            }
            if holds && again > 0 {
                again -= 1;
                continue;
            }
            // Once it has held, it gets no more time.
            if holds || last || settled.is_some() {
                if let Some(evidence) = evidence.filter(|_| !holds) {
                    captures = keep(running, evidence, step, index).await;
                }
                match found {
                    Found::Cells(cells) => {
                        report.cells.extend(cells.into_iter().map(|c| CellReport {
                            check: index,
                            step,
                            ..c
                        }));
                    }
                    Found::Fact(fact) => {
                        sent = fact.error.is_none();
                        report.facts.push(FactReport { check: index, step, ..*fact });
                    }
                }
                break holds;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        let carried = watch.end(sent).await;
        let holds = holds && carried.iter().all(|fact| fact.holds);
        report.facts.extend(carried.into_iter().map(|fact| FactReport { check: index, step, ..fact }));
        all &= holds;
        report.checks.push(CheckReport {
            check: index,
            step,
            within_ms: millis(within),
            settled_ms: settled.filter(|_| holds),
            looks,
            captures,
            line,
        });
    }
    Ok(all)
}

/// Keeps what the segments carried. If that fails, the check's result stays as it is.
async fn keep(running: &RunningLab, evidence: Evidence, step: Option<usize>, check: usize) -> Vec<PathBuf> {
    let of_step = step.map(|s| format!("step{}-", s + 1)).unwrap_or_default();
    let stem = format!("{of_step}check{}", check + 1);
    let kept = evidence.keep(&running.plan().lab, &running.dir().captures(), &stem).await;
    kept.unwrap_or_else(|error| {
        tracing::warn!("what the wire carried is not kept: {error}");
        Vec::new()
    })
}

/// Result of one look at a check.
enum Found {
    Cells(Vec<CellReport>),
    Fact(Box<FactReport>),
}

impl Found {
    fn holds(&self) -> bool {
        match self {
            Found::Cells(cells) => cells.iter().all(CellReport::holds),
            Found::Fact(fact) => fact.holds,
        }
    }
}

/// Looks at a check once. A host that does not answer is noted in the result; other hosts' results stay valid.
async fn look(running: &RunningLab, check: &Check) -> Found {
    let view = &running.view();
    match check {
        Check::Matrix(matrix) => {
            let counters = async || view.wire().ok()?.stats().await.ok();
            let before = counters().await;
            let mut cells = probe::matrix(view, matrix).await;
            if let (Some(before), Some(after)) = (before, counters().await) {
                wire::explain(view.lab, &wire::dropped(&before, &after), &mut cells);
            }
            Found::Cells(cells)
        }
        Check::Inject(inject) => {
            let sent = frames::check(view, inject).await;
            Found::Fact(Box::new(sent))
        }
        Check::Fact(fact) => Found::Fact(Box::new(facts::check(view, fact).await)),
    }
}

fn probes(checks: &[Check]) -> String {
    let cells: usize = checks.iter().map(|c| if let Check::Matrix(m) = c { m.cells.len() } else { 0 }).sum();
    format!("{cells} cells")
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
