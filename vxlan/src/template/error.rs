//! Errors of templates and their fields.

use std::ops::Range;

use crate::stack::BuildError;

/// A template that cannot be made, or a field that does not exist or cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The stack cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// There is no layer of that name.
    #[error("no layer {name:?} in this stack; hint: there are {}", .known.join(", "))]
    NoLayer {
        /// What was asked for.
        name: String,
        /// The stack's layers, outermost first.
        known: Vec<&'static str>,
    },
    /// There is no field of that name, or it cannot vary.
    #[error("{name}: no such field, or one that cannot vary; hint: there are {}", .known.join(", "))]
    NoField {
        /// What was asked for.
        name: String,
        /// Keys of the layer that can vary.
        known: Vec<&'static str>,
    },
    /// The payload does not have these bytes.
    #[error("{name}: no bytes {bytes:?} in a payload of {have}")]
    NoBytes {
        /// What was asked for.
        name: String,
        /// The bytes asked for.
        bytes: Range<usize>,
        /// Bytes of the payload.
        have: usize,
    },
    /// The value is more than the field's bits hold.
    #[error("{name}: {value} is more than {max}")]
    TooLarge {
        /// The field.
        name: String,
        /// The value.
        value: u128,
        /// The most that fits.
        max: u128,
    },
    /// The field has another length, or is not whole bytes.
    #[error("{name}: {have} bytes for a field of {need}, or a field that is no whole bytes")]
    Length {
        /// The field.
        name: String,
        /// Bytes given.
        have: usize,
        /// Bytes of the field.
        need: usize,
    },
    /// The field belongs to another template.
    #[error("a field of another template")]
    NotMine,
}
