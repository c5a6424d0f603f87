//! The agent, in namespaces of the tests' own. One binary: each costs a link.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
mod frames;
mod host;
mod names;
mod net;
mod probe;
mod session;
