//! The forms of a report that only the command line has: JUnit XML, and the summary of repeated runs. The text for people is
//! made in `labctl_report`.

pub mod junit;
pub mod repeat;

pub use labctl_report::{cells, count, duration, table, text as report};

#[cfg(test)]
mod tests;
