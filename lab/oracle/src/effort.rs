//! How much is predicted at once: nobody shall wait longer than two seconds, whatever a topology asks for.

use crate::cell::Scene;

/// Most work for one question to the oracle, in walks of some 10 µs.
const MOST_WALKS: usize = 100_000;

/// Why what comes after that is unknown.
pub const SPENT: &str = "more than is predicted at once: ask for less, or for one cell by `labctl explain`";

/// The work that was done for a question.
#[derive(Debug, Default)]
pub struct Effort {
    /// That of the scenes that are over.
    before: usize,
}

impl Effort {
    /// Whether the work of the scenes that are over is as much as one question gets.
    pub fn is_spent(&self) -> bool {
        self.before >= MOST_WALKS
    }

    /// The same, with the work of this scene.
    pub fn is_spent_with(&self, scene: &Scene<'_>) -> bool {
        self.before + scene.work() >= MOST_WALKS
    }

    /// Counts the work of a scene that is over.
    pub fn add(&mut self, scene: &Scene<'_>) {
        self.before += scene.work();
    }
}
