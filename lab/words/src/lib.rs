//! Words for people: foreign text made safe for a terminal, and the wording of hints.

mod names;
mod printable;

pub use names::{known, list, nearest};
pub use printable::{is_hostile, plain, plain_lines, styled_lines};
