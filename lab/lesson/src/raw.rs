//! `lesson.yaml` as it is written.

use labctl_topology::WrittenCheck;
use labctl_yaml::{At, OneOrMany, raw};

raw! {
    /// A lesson.
    Lesson, "a lesson" {
        /// What it is about, in a few words.
        title: At<String>,
        /// How long it takes.
        minutes: At<u32>,
        /// The topology's file. Default: `topology.yaml`.
        topology: Option<At<String>>,
        /// Its steps, in order.
        steps: Vec<Step>,
    }
}

raw! {
    /// A step of a lesson.
    Step, "a step of a lesson" {
        /// What it is about, in a few words.
        title: At<String>,
        /// The file of its text.
        text: At<String>,
        /// What breaks when it begins: actions, in the words of a topology's steps.
        r#break: Option<OneOrMany<At<String>>>,
        /// What the lab shows then, in the words of a topology's `expect`.
        broken: Option<Vec<WrittenCheck>>,
        /// What must hold at its end.
        check: Option<Vec<WrittenCheck>>,
        /// Hints, of which the first that fits what the lab shows is given.
        hints: Option<Vec<Hint>>,
        /// One way to repair it: actions.
        solve: Option<OneOrMany<At<String>>>,
    }
}

raw! {
    /// A hint.
    Hint, "a hint" {
        /// For this check of the step alone, counted from 1.
        check: Option<At<u32>>,
        /// For cells with this source alone.
        from: Option<At<String>>,
        /// For cells with this destination alone.
        to: Option<At<String>>,
        /// For cells that came out like this, in a word of the tables.
        verdict: Option<At<String>>,
        /// The hint.
        say: At<String>,
    }
}
