//! Predicts a whole lab, steps included, and holds it against what the lab expects.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use labctl_model::{By, Cell, Check, Expected, Lab, Matrix, Probe, Target};
use serde::Serialize;

use crate::{
    cell::{self, Agreement, Foretold, Scene, Way},
    classes::{self, Classes},
    effort::{Effort, SPENT},
    facts, frame,
    state::State,
};

/// A lab's predictions.
#[derive(Clone, Debug, Serialize)]
pub struct Predictions {
    /// The lab.
    pub lab: String,
    /// Whether nothing differs.
    pub holds: bool,
    /// How many expectations there are.
    pub expectations: usize,
    /// With how many the oracle agrees.
    pub agrees: usize,
    /// With how many it does not.
    pub differs: usize,
    /// Of how many it cannot say.
    pub unknown: usize,
    /// The lab as it comes up, then after each of its steps.
    pub scenes: Vec<Stage>,
}

/// The predictions of one `expect`.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// The step; `None` for the lab as it comes up.
    pub step: Option<String>,
    /// Its checks.
    pub checks: Vec<Checked>,
}

/// The prediction of one check.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Checked {
    /// A matrix.
    Matrix {
        /// What is probed: `icmp`, `tcp/80 by name`.
        probe: String,
        /// Its line in the topology.
        line: u32,
        /// Its cells.
        cells: Vec<CellPrediction>,
    },
    /// A fact, a frame, or what a segment must carry.
    Other {
        /// What it is.
        what: &'static str,
        /// Its line in the topology.
        line: u32,
        /// Whether it is as expected.
        agreement: Agreement,
    },
}

/// The prediction of a cell.
#[derive(Clone, Debug, Serialize)]
pub struct CellPrediction {
    /// Source.
    pub from: String,
    /// Destination.
    pub to: String,
    /// What the topology expects.
    pub expected: String,
    /// The word, several with `|` between them, or `unknown`.
    pub predicted: String,
    /// Whether they agree.
    pub agreement: Agreement,
    /// Its line in the topology.
    pub line: u32,
    /// Where they differ: the walks that lead to the prediction.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub walks: Vec<Way>,
}

/// Predicts all that a lab expects. Of a lab that asks for very much, the rest is unknown.
pub fn predict(lab: &Lab) -> Predictions {
    let (mut state, mut effort) = (State::new(lab), Effort::default());
    let mut scenes = vec![Stage { step: None, checks: stage(&state, &lab.expect, &mut effort) }];
    for step in &lab.steps {
        if !effort.is_spent() {
            state.apply(step);
        }
        let checks = stage(&state, &step.expect, &mut effort);
        scenes.push(Stage { step: Some(step.name.clone()), checks });
    }
    let (mut agrees, mut differs, mut unknown) = (0, 0, 0);
    for agreement in scenes.iter().flat_map(|s| &s.checks).flat_map(Checked::agreements) {
        match agreement {
            Agreement::Agrees => agrees += 1,
            Agreement::Differs(_) => differs += 1,
            Agreement::Unknown(_) => unknown += 1,
        }
    }
    Predictions {
        lab: lab.name.clone(),
        holds: differs == 0,
        expectations: agrees + differs + unknown,
        agrees,
        differs,
        unknown,
        scenes,
    }
}

impl Checked {
    /// Whether each of its expectations is met.
    pub fn agreements(&self) -> Vec<&Agreement> {
        match self {
            Checked::Matrix { cells, .. } => cells.iter().map(|c| &c.agreement).collect(),
            Checked::Other { agreement, .. } => vec![agreement],
        }
    }
}

fn stage(state: &State<'_>, checks: &[Check], effort: &mut Effort) -> Vec<Checked> {
    if checks.is_empty() {
        return Vec::new();
    }
    let built = (!effort.is_spent()).then(|| Scene::new(state));
    let (mut all, mut misled) = (Vec::new(), false);
    for check in checks {
        let scene = built.as_ref().filter(|scene| !effort.is_spent_with(scene));
        let spent = || Agreement::Unknown(SPENT.to_owned());
        let wire = match check {
            Check::Matrix(m) => {
                all.push(matrix(scene, m, effort));
                &m.wire
            }
            Check::Fact(f) => {
                let agreement = scene.map_or_else(spent, |scene| facts::agreement(scene, f));
                all.push(Checked::Other { what: "fact", line: f.line, agreement });
                continue;
            }
            Check::Inject(i) => {
                let agreement = match misled {
                    true => {
                        Agreement::Unknown("what a frame with a foreign MAC has taught the switch".to_owned())
                    }
                    false => scene.map_or_else(spent, |scene| frame::agreement(scene, i)),
                };
                misled |= frame::misleads(i);
                all.push(Checked::Other { what: "frame", line: i.line, agreement });
                &i.wire
            }
        };
        all.extend(wire.iter().map(|w| {
            let agreement = Agreement::Unknown("all that a segment carries".to_owned());
            Checked::Other { what: "wire", line: w.line, agreement }
        }));
    }
    built.iter().for_each(|scene| effort.add(scene));
    all
}

/// Predicts a matrix; without a scene all of it is unknown.
fn matrix(scene: Option<&Scene<'_>>, matrix: &Matrix, effort: &Effort) -> Checked {
    let mut at = scene.map(|scene| (scene, scene.listeners(matrix), Fates::new(scene, matrix)));
    let cells = matrix.cells.iter().map(|c| {
        let known = at.as_mut().and_then(|(scene, listeners, fates)| {
            let key = fates.key(c);
            if let Some((predicted, agreement)) = key.as_ref().and_then(|key| fates.known.get(key)) {
                return Some((predicted.clone(), agreement.clone(), Vec::new()));
            }
            if effort.is_spent_with(scene) {
                return None;
            }
            let prediction = scene.predict(matrix, c, listeners);
            let agreement = cell::agreement(scene, matrix, c, &prediction);
            let predicted = prediction.foretold.text();
            if matches!(agreement, Agreement::Differs(_)) {
                return Some((predicted, agreement, one_each(prediction.ways)));
            }
            // Only these: a difference is shown with the walk of its own cell.
            fates.known.extend(key.map(|key| (key, (predicted.clone(), agreement.clone()))));
            Some((predicted, agreement, Vec::new()))
        });
        let (predicted, agreement, walks) = known.unwrap_or_else(|| {
            (Foretold::UNKNOWN.to_owned(), Agreement::Unknown(SPENT.to_owned()), Vec::new())
        });
        CellPrediction {
            from: c.from.clone(),
            to: c.to.to_string(),
            expected: c.expected.to_string(),
            predicted,
            agreement,
            line: c.line,
            walks,
        }
    });
    Checked::Matrix { probe: caption(matrix), line: matrix.line, cells: cells.collect() }
}

/// What is known of a matrix's cells by the classes of their ends.
struct Fates {
    classes: Option<Classes>,
    known: HashMap<Fate, (String, Agreement)>,
}

/// What the fate of a cell hangs on, besides the matrix: its ends' classes, the place in `name@place`, what is expected.
type Fate = (classes::Pair, Option<String>, Expected);

impl Fates {
    /// Fewer cells than these are walked sooner than sorted.
    const WORTH_IT: usize = 500;

    fn new(scene: &Scene<'_>, matrix: &Matrix) -> Self {
        // A name leads to one address: by name, no two of a class are alike.
        let by_name = matrix.by == By::Name || matches!(matrix.probe, Probe::Dns(_));
        let worth_it = !by_name && matrix.cells.len() >= Self::WORTH_IT;
        let classes = worth_it.then(|| Classes::new(scene.state(), scene.built()));
        Self { classes, known: HashMap::new() }
    }

    /// What the fate of a cell hangs on; `None` if on itself alone.
    fn key(&self, cell: &Cell) -> Option<Fate> {
        let classes = self.classes.as_ref().filter(|_| cell.answers.is_none())?;
        let Target::Endpoint { name, at } = &cell.to else { return None };
        Some((classes.pair(&cell.from, name)?, at.clone(), cell.expected))
    }
}

/// What a matrix probes, in words.
pub(crate) fn caption(matrix: &Matrix) -> String {
    let size = matrix.size.map(|s| format!(" of {s} bytes")).unwrap_or_default();
    let by = if matrix.by == By::Name { " by name" } else { "" };
    let over = matrix.family.family().map(|f| format!(" over {f}")).unwrap_or_default();
    format!("{}{size}{over}{by}", matrix.probe)
}

/// A cell of what a lab expects: of its own checks (0) or of those after a step (from 1), which check, which cell.
pub type Place = (usize, usize, usize);

/// Walks the cells at these places: the ways of each, one for each word. Places where there is no cell are left out.
pub fn walks(lab: &Lab, places: &BTreeSet<Place>) -> BTreeMap<Place, Vec<Way>> {
    let mut state = State::new(lab);
    let mut walked = BTreeMap::new();
    for stage in 0..=lab.steps.len() {
        let step = stage.checked_sub(1).and_then(|n| lab.steps.get(n));
        if let Some(step) = step {
            state.apply(step);
        }
        let checks = step.map_or(&lab.expect, |step| &step.expect);
        let here: Vec<_> = places.range((stage, 0, 0)..(stage + 1, 0, 0)).copied().collect();
        if here.is_empty() {
            continue;
        }
        let scene = Scene::new(&state);
        for of_check in here.chunk_by(|a, b| a.1 == b.1) {
            let Some(Check::Matrix(matrix)) = checks.get(of_check[0].1) else { continue };
            let listeners = scene.listeners(matrix);
            walked.extend(of_check.iter().filter_map(|place| {
                let cell = matrix.cells.get(place.2)?;
                Some((*place, one_each(scene.predict(matrix, cell, &listeners).ways)))
            }));
        }
    }
    walked
}

/// One way for each word.
pub(crate) fn one_each(ways: Vec<Way>) -> Vec<Way> {
    let mut kept: Vec<Way> = Vec::new();
    for way in ways {
        if !kept.iter().any(|k| k.verdict == way.verdict) {
            kept.push(way);
        }
    }
    kept
}
