//! Explains one cell: its walks, and what would repair it.

use labctl_model::{Lab, Observed};
use serde::Serialize;

use crate::{
    cell::{self, Foretold, Scene, Way},
    predict::{caption, one_each},
    query::Query,
    repair::{self, Repair},
    state::State,
};

/// The walk behind a cell.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Source.
    pub from: String,
    /// Destination.
    pub to: String,
    /// What is probed.
    pub probe: String,
    /// The step after which it is; `None` for the lab as it comes up.
    pub step: Option<String>,
    /// The word, several with `|` between them, or `unknown`.
    pub predicted: String,
    /// Why nobody can say.
    pub unknown: Option<String>,
    /// The walks, one for each word.
    pub walks: Vec<Way>,
    /// If it is not `yes`: single changes to the topology by which it becomes that.
    pub repairs: Vec<Repair>,
}

/// Explains a cell, whether the lab expects anything of it or not.
pub fn explain(lab: &Lab, query: &Query) -> Explanation {
    let mut state = State::new(lab);
    let steps = &lab.steps[..query.step.min(lab.steps.len())];
    steps.iter().for_each(|step| state.apply(step));
    let scene = Scene::new(&state);
    let cell = cell::asked(&query.from, query.to.clone());
    let matrix = query.matrix(vec![cell.clone()]);
    let prediction = scene.predict(&matrix, &cell, &scene.listeners(&matrix));
    let predicted = prediction.foretold.text();
    let (unknown, broken) = match prediction.foretold {
        Foretold::Unknown(why) => (Some(why), false),
        Foretold::Words(words) => (None, words.iter().any(|w| *w != Observed::Yes.word())),
    };
    Explanation {
        from: query.from.clone(),
        to: query.to.to_string(),
        probe: caption(&matrix),
        step: steps.last().map(|s| s.name.clone()),
        predicted,
        unknown,
        walks: one_each(prediction.ways),
        repairs: if broken { repair::repairs(lab, query) } else { Vec::new() },
    }
}
