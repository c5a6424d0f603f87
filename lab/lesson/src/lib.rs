//! Lessons: a folder with `lesson.yaml`, a topology, and a text in Markdown for each step.
//!
//! A step breaks something in the lab and says what must hold again. Hints are chosen by what the lab shows now. The texts
//! hold commands with what they print, so that a lesson can be proved as a whole.

mod act;
mod hint;
mod lesson;
mod library;
mod raw;
mod text;

pub use act::Act;
pub use hint::{Hint, choose};
pub use lesson::{FILE, Lesson, Step};
pub use library::{NotFound, find, list};
pub use text::{LAB, Text, Typed, fits};
