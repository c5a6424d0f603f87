//! What was seen in a lab: judged, and reported. Pure: no I/O, nothing that waits.

pub mod answers;
pub mod cells;
pub mod facts;
pub mod matrix;
pub mod receipts;
mod report;
pub mod seen;
pub mod sent;
pub mod services;
pub mod shots;
pub mod snapshot;
pub mod style;
pub mod table;
pub mod text;
pub mod tunnels;
pub mod verdict;

pub use report::{CellReport, CheckReport, FactReport, Report, StepReport, count, duration};
