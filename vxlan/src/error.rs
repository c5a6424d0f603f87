//! Errors of readers: layer, field, offset and reason.

/// Bytes that cannot be read as the given protocol.
///
/// ```
/// use vxlan::UdpView;
/// let error = UdpView::new_checked(&[0; 3]).unwrap_err();
/// assert_eq!(error.to_string(), "udp.header at offset 0: 3 bytes, 8 are needed");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{layer}.{field} at offset {offset}: {problem}")]
pub struct ReadError {
    /// Name of the layer, as in the text form (`eth`, `ip`, `udp`, …).
    pub layer: &'static str,
    /// Name of the field; `header` if the bytes end within the fixed part.
    pub field: &'static str,
    /// Offset of the field in the bytes given to the reader.
    pub offset: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// The reason of a [`ReadError`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The bytes end too early.
    #[error("{have} bytes, {need} are needed")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Least number of bytes needed.
        need: usize,
    },
    /// A field has a value that is not allowed.
    #[error("{found}, must be {allowed}")]
    Value {
        /// The value found.
        found: usize,
        /// The allowed values, in words.
        allowed: &'static str,
    },
    /// More layers than a reader follows.
    #[error("more than {limit} layers")]
    TooDeep {
        /// The most layers that are read.
        limit: usize,
    },
}

impl ReadError {
    /// The bytes end within `layer`'s header.
    pub(crate) fn truncated(layer: &'static str, have: usize, need: usize) -> Self {
        Self { layer, field: "header", offset: 0, problem: Problem::Truncated { have, need } }
    }

    /// `field`, at `offset`, holds `found`.
    pub(crate) fn value(
        layer: &'static str,
        field: &'static str,
        offset: usize,
        found: usize,
        allowed: &'static str,
    ) -> Self {
        Self { layer, field, offset, problem: Problem::Value { found, allowed } }
    }

    /// The same error seen from `base` bytes further out.
    #[must_use]
    pub fn at(mut self, base: usize) -> Self {
        self.offset = self.offset.saturating_add(base);
        self
    }
}
