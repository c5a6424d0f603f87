//! Reports for CI servers and of repeated runs. Text for people is the runtime's own.

pub mod junit;
pub mod repeat;

pub use labctl_report::{cells, count, duration, table, text as report};

#[cfg(test)]
mod tests;
