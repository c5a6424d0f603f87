//! Topologies, good and bad. One binary: each costs a link.
#![allow(clippy::unwrap_used)]

mod compose;
mod diagnostics;
mod labs;
mod limits;
mod nonsense;
mod peers;
mod random;
mod schema;
mod swarm;
mod wire;
