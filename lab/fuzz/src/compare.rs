//! One lab: predicted, run, and compared cell by cell.

use std::{collections::BTreeSet, fmt, time::Duration};

use anyhow::{Context, Result, bail};
use lab::{Error, Report, RunningLab, Runtime};
use labctl_model::{Check, Lab, Matrix};
use labctl_oracle::{Agreement, Checked, Predictions, Stage, predict};
use serde_json::{Value, json};

use crate::random;

/// Gossip, names and neighbours take this long to settle after a change, as often as `LOOKS`: on a busy machine a node that is
/// cut off is given up after a minute. What still differs then is a difference.
const SETTLE: Duration = Duration::from_secs(10);
const LOOKS: usize = 7;

/// After this long a kernel that limits its errors to a sender tells it again.
const REFILL: Duration = Duration::from_secs(6);

/// What came of a lab.
pub struct Comparison {
    /// Cells for which the oracle had a word.
    pub compared: usize,
    /// Cells of which it could not know.
    pub unknown: usize,
    /// Cells that came out otherwise.
    pub differences: Vec<Difference>,
}

/// What a lab came to.
pub enum Outcome {
    /// It ran.
    Ran(Comparison),
    /// Docker or the kernel refused a part of it that the model allows.
    Refused(String),
}

/// A cell that came out otherwise than predicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub at: Place,
    pub predicted: String,
    pub observed: String,
    pub detail: String,
}

/// A cell of a lab.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// After how many steps.
    pub step: usize,
    /// Which of the checks it is in.
    pub check: usize,
    pub probe: String,
    pub from: String,
    pub to: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { step, probe, from, to, .. } = &self.at;
        let Difference { predicted, observed, detail, .. } = self;
        write!(
            f,
            "step {step}: {probe} {from} -> {to}: predicted {predicted}, observed {observed} ({detail})"
        )
    }
}

/// The whole topology of a random lab: with what is probed, at first and after each step.
pub fn topology(lab: &Value) -> String {
    let mut whole = lab.clone();
    let checks = random::checks(lab);
    for step in whole["steps"].as_array_mut().into_iter().flatten() {
        step["expect"] = checks.clone();
    }
    whole["expect"] = checks;
    whole.to_string()
}

/// The predictions of a lab; `None` if it is not valid.
pub fn predictions(lab: &Value) -> Option<(Lab, Predictions)> {
    let lab = labctl_topology::parse(&topology(lab), "random.yaml").ok()?;
    let predictions = predict(&lab);
    Some((lab, predictions))
}

/// The cells of a stage with their predicted words; `None` where nobody can know.
fn cells(step: usize, stage: &Stage) -> Vec<(Place, Option<BTreeSet<String>>)> {
    let matrices = stage.checks.iter().enumerate().filter_map(|(check, c)| match c {
        Checked::Matrix { probe, cells, .. } => Some((check, probe, cells)),
        Checked::Other { .. } => None,
    });
    let cells = matrices.flat_map(|(check, probe, cells)| cells.iter().map(move |c| (check, probe, c)));
    cells
        .map(|(check, probe, c)| {
            let is_unknown = c.predicted == "unknown"
                || matches!(&c.agreement, Agreement::Unknown(_)) && !c.predicted.contains('|');
            let words = c.predicted.split('|').map(str::to_owned).collect();
            let place = Place { step, check, probe: probe.clone(), from: c.from.clone(), to: c.to.clone() };
            (place, (!is_unknown).then_some(words))
        })
        .collect()
}

/// The word that is predicted at each place.
pub fn words(predictions: &Predictions) -> Vec<(Place, String)> {
    let stages = predictions.scenes.iter().enumerate();
    let all = stages.flat_map(|(step, stage)| cells(step, stage));
    all.filter_map(|(place, words)| Some((place, text(&words?)))).collect()
}

fn text(words: &BTreeSet<String>) -> String {
    words.iter().cloned().collect::<Vec<_>>().join("|")
}

/// Brings a valid lab up on real kernels, and compares.
///
/// # Errors
/// If the machine cannot run labs, or a lab that is up cannot be asked.
pub async fn run(lab: &Value, predictions: &Predictions, runtime: Runtime) -> Result<Outcome> {
    let topology = topology(lab);
    let up = lab::Lab::from_yaml(&topology)?.runtime(runtime).on_event(|_| {}).up().await;
    let running = match up {
        Ok(running) => running,
        Err(e @ Error::Topology(_)) => return Err(e.into()),
        Err(e) => return Ok(Outcome::Refused(e.to_string())),
    };
    let mut all = Comparison { compared: 0, unknown: 0, differences: Vec::new() };
    let steps = lab["steps"].as_array().map_or(&[][..], Vec::as_slice);
    for (number, stage) in predictions.scenes.iter().enumerate() {
        if let Some(step) = number.checked_sub(1).and_then(|n| steps.get(n)) {
            let action = step["do"].as_str().context("a step without an action")?;
            if let Err(e) = running.act(action).await {
                running.down().await?;
                return Ok(Outcome::Refused(format!("{action}: {e}")));
            }
        }
        let expected = cells(number, stage);
        let mut differences = differences(&expected, &running.check().await?);
        for _ in 0..LOOKS {
            if differences.is_empty() {
                break;
            }
            tokio::time::sleep(SETTLE).await;
            differences = self::differences(&expected, &running.check().await?);
        }
        if runtime == Runtime::Dind {
            differences = not_limited(&running, differences).await?;
        }
        let known = expected.iter().filter(|(_, words)| words.is_some()).count();
        all.compared += known;
        all.unknown += expected.len() - known;
        all.differences.extend(differences);
    }
    running.down().await?;
    Ok(Outcome::Ran(all))
}

/// The differences without those that the machine's kernel makes on `dind`: a router without a route tells a sender five times,
/// then once a second (Linux, net/ipv4/route.c, `ip_error`; the sysctl is the whole kernel's). Such a cell is asked alone.
async fn not_limited(running: &RunningLab, differences: Vec<Difference>) -> Result<Vec<Difference>> {
    let mut kept = Vec::new();
    for difference in differences {
        let told = difference.predicted.contains("unreachable") && difference.observed == "silent";
        if told {
            tokio::time::sleep(REFILL).await;
            let answers = running.probe_matrix(alone(running.model(), &difference.at)?).await?;
            let is_predicted = |word: &str| difference.predicted.split('|').any(|p| p == word);
            if matches!(&answers[..], [answer] if is_predicted(answer.verdict.word())) {
                continue;
            }
        }
        kept.push(difference);
    }
    Ok(kept)
}

/// The matrix of a cell, with this cell alone. The checks are the same after every step.
fn alone(lab: &Lab, at: &Place) -> Result<Matrix> {
    let Some(Check::Matrix(matrix)) = lab.expect.get(at.check) else {
        bail!("no matrix is check {}", at.check)
    };
    let mut matrix = matrix.clone();
    matrix.cells.retain(|cell| cell.from == at.from && cell.to.to_string() == at.to);
    Ok(matrix)
}

fn differences(expected: &[(Place, Option<BTreeSet<String>>)], report: &Report) -> Vec<Difference> {
    let pairs = expected.iter().zip(report.cells()).filter_map(|((place, words), cell)| {
        let words = words.as_ref()?;
        let observed = cell.observed.word().to_owned();
        (!words.contains(&observed)).then(|| Difference {
            at: place.clone(),
            predicted: text(words),
            observed,
            detail: cell.detail.clone(),
        })
    });
    pairs.collect()
}

/// The lab with what was found, to be kept: YAML that `labctl` runs.
pub fn kept(lab: &Value, differences: &[Difference]) -> Result<String> {
    let mut whole: Value = serde_json::from_str(&topology(lab))?;
    whole["description"] = json!("found by labctl-fuzz");
    let found: String = differences.iter().map(|d| format!("# {d}\n")).collect();
    Ok(format!("{found}{}", serde_yaml::to_string(&whole)?))
}
