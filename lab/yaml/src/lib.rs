//! YAML with the place of everything, for files that people write: a tree with spans ([`parse`]), structs read from it
//! ([`raw!`], [`FromNode`]), and every mistake shown as a good compiler shows it ([`Diagnostics`]).
//!
//! Reading does not stop at the first mistake. [`Cx`] carries the text and what was found so far.

mod control;
mod cx;
mod decode;
mod diagnostic;
mod places;
mod scalar;
mod span;
mod yaml;

pub use control::reject_controls;
pub use cx::{Cx, Foreign, split_words};
pub use decode::{Fields, FromNode, Json, Map, OneOrMany, bare, value_of};
pub use diagnostic::{Collector, Diagnostic, Diagnostics, Mistake, SourceText};
pub use places::{Places, Remark, UNUSED_ALLOW, Warning};
pub use scalar::{Bad, Scalar};
pub use span::{At, Span};
pub use yaml::{Value, Yaml, parse};
