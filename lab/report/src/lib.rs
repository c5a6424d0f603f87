//! What was seen in a lab: judged, and reported. Pure: no I/O, nothing that waits.

pub mod answers;
mod cause;
pub mod cells;
pub mod facts;
pub mod grid;
mod groups;
pub mod matrix;
mod pairs;
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

pub use cause::Cause;
pub use report::{
    ActionsReport, CellReport, CheckReport, Environment, FactReport, Found, HostEnvironment, MatrixReport,
    Passage, Predicted, Report, StepReport, VERSION, count, duration,
};
