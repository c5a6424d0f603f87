//! How much is predicted at once: nobody shall wait longer than two seconds, whatever a topology asks for.

use crate::cell::Scene;

/// Most work for one question to the oracle, in walks of some 10 µs.
const MOST: usize = 100_000;

/// Why what comes after that is unknown.
pub const SPENT: &str = "more than is predicted at once; `labctl explain` predicts any one cell";

/// The work that was done for a question.
#[derive(Debug, Default)]
pub struct Effort {
    /// That of the scenes that are over.
    before: usize,
}

impl Effort {
    /// Builds no further scene, if it is.
    pub fn is_spent(&self) -> bool {
        self.before >= MOST
    }

    /// Whether it is, with what was done in this scene.
    pub fn is_spent_with(&self, scene: &Scene<'_>) -> bool {
        self.before + scene.work() >= MOST
    }

    /// Counts the work of a scene that is over.
    pub fn add(&mut self, scene: &Scene<'_>) {
        self.before += scene.work();
    }
}
