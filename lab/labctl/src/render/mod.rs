//! Forms that only the command line has: JUnit XML, GitHub's annotations, the summary of repeated runs, what changed since
//! an earlier run, predictions, drawings, pages, the texts of lessons. The text of
//! reports for people is made in `labctl_report`.

pub mod compare;
pub mod engines;
pub mod github;
pub mod graph;
pub mod junit;
pub mod markdown;
pub mod page;
pub mod predicted;
pub mod repeat;

pub use labctl_report::{cells, count, duration, table, text as report};

#[cfg(test)]
mod tests;
