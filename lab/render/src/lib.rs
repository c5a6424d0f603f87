//! Forms of a report that only the command line has: JUnit XML, GitHub's annotations, pages, the summary of repeated runs,
//! what changed since an earlier run; and drawings, predictions and the texts of lessons. The text of reports for people is
//! made in `labctl_report`. No I/O.

pub mod beside;
pub mod compare;
pub mod counted;
pub mod engines;
pub mod github;
pub mod graph;
pub mod junit;
pub mod markdown;
pub mod page;
pub mod predicted;
pub mod repeat;
#[cfg(test)]
mod tests;

/// A report could not be written in a form.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {form}: {why}")]
pub struct Error {
    form: &'static str,
    why: String,
}

impl Error {
    /// For `map_err`.
    fn in_form<E: std::fmt::Display>(form: &'static str) -> impl FnOnce(E) -> Self {
        move |e| Self { form, why: format!("{e:#}") }
    }
}
