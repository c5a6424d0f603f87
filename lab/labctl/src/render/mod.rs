//! Reports as text for people, which is the runtime's own, and for CI servers.

pub mod junit;
pub mod repeat;

pub use lab_runtime::report::{cells, count, duration, table, text as report};

#[cfg(test)]
mod tests;
