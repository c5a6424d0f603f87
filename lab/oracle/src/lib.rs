//! The oracle: what will reach what in a lab, without running anything.
//!
//! From a validated lab and the steps done so far (`state`) it builds the network as Linux and Docker would have it
//! (`build`): namespaces, links, addresses, routes, rules. A request is walked through that, and its answer back
//! (`labctl_dataplane`).
//! Every word follows from a walk (`cell`). What the oracle does not model it calls unknown, with the reason. No I/O.

mod addressing;
mod aim;
mod build;
mod cell;
mod classes;
mod compare;
mod effort;
mod explain;
mod facts;
mod frame;
mod lint;
mod names;
mod placement;
mod predict;
mod query;
mod repair;
mod state;
mod summary;
mod swarm;

pub use cell::{Agreement, Way};
pub use compare::{Comparison, DifferingCell, compare};
pub use explain::{Explanation, explain};
pub use labctl_dataplane::walk::Hop;
pub use lint::{LINTS, lint};
pub use predict::{CellPrediction, Checked, Place, Predictions, Stage, predict, walks};
pub use query::Query;
pub use repair::{ChangedCell, Repair};
pub use summary::{CountedStage, Counts, GroupPair, Summary, Tally, summarize};
