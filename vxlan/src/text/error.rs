//! What is wrong with a text, and where.

/// Text that is not a stack.
///
/// ```
/// let error = "eth/ipx(dst=10.3.1.3)".parse::<vxlan::Stack>().unwrap_err();
/// assert_eq!(error.column, 5);
/// assert_eq!(error.to_string(), "column 5: no layer \"ipx\"; hint: did you mean \"ip\"?");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct ParseStackError {
    /// Number of the wrong character, from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: TextProblem,
}

/// The reason of a [`ParseStackError`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextProblem {
    /// The word names no layer.
    #[error("no layer {word:?}; hint: {}", hint(.nearest, .known))]
    NoSuchLayer {
        /// The word.
        word: String,
        /// The name it is nearest to, if near to any.
        nearest: Option<&'static str>,
        /// All names.
        known: Vec<&'static str>,
    },
    /// The word names no field of the layer.
    #[error("{layer} has no field {word:?}; hint: {}", hint(.nearest, .known))]
    NoSuchField {
        /// The layer.
        layer: &'static str,
        /// The word.
        word: String,
        /// The key it is nearest to, if near to any.
        nearest: Option<&'static str>,
        /// All keys of the layer.
        known: Vec<&'static str>,
    },
    /// The field was set before, perhaps by another of its names.
    #[error("{layer}: {field} is set twice")]
    SetTwice {
        /// The layer.
        layer: &'static str,
        /// The key.
        field: String,
    },
    /// The field cannot have this value.
    #[error("{layer}: {field}: {why}")]
    BadValue {
        /// The layer.
        layer: &'static str,
        /// The key.
        field: String,
        /// What is wrong; contains the value.
        why: String,
    },
    /// Something else should be here.
    #[error("{found} where {wanted} should be")]
    Unexpected {
        /// What is here.
        found: String,
        /// What should be.
        wanted: &'static str,
    },
    /// A quoted text does not end.
    #[error("no closing quote")]
    OpenQuote,
    /// More layers than [`MAX_LAYERS`](crate::MAX_LAYERS).
    #[error("more than {0} layers")]
    TooManyLayers(usize),
}

fn hint(nearest: &Option<&'static str>, known: &[&'static str]) -> String {
    match nearest {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => format!("there are {}", known.join(", ")),
    }
}

/// The known word that `word` may be a typing error for.
pub(crate) fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    let distance = |known: &str| strsim::osa_distance(word, known);
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    let best = known.iter().min_by_key(|known| distance(known))?;
    (distance(best) <= allowed).then_some(best)
}
