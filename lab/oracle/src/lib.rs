//! The oracle: what will reach what in a lab, without running anything.
//!
//! From a validated lab and the steps done so far (`state`) it builds the network as Linux and Docker would have it
//! (`build`): namespaces, links, addresses, routes, rules. A request is walked through that, and its answer back (`walk`).
//! Every word follows from a walk (`cell`). What the oracle does not model it calls unknown, with the reason. No I/O.

mod addressing;
mod aim;
mod build;
mod cell;
mod classes;
mod compare;
mod facts;
mod lint;
mod names;
mod net;
mod netfilter;
mod packet;
mod placement;
mod predict;
mod repair;
mod state;
mod swarm;
mod walk;

pub use cell::{Agreement, Way};
pub use compare::{Comparison, DifferingCell, compare};
pub use lint::{LINTS, lint};
pub use predict::{
    CellPrediction, Checked, Explanation, Place, Predictions, Query, Stage, explain, predict, walks,
};
pub use repair::{ChangedCell, Repair};
pub use walk::Hop;
