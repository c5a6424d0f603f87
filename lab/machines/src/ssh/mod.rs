//! The `ssh` runtime: every host of a lab is a machine that exists. The user's own OpenSSH client reaches it.
//!
//! Nothing of the machine is labctl's. What a lab makes there is noted before it is made: on this machine, that the agent
//! was copied; on the other one, in the agent's notes, what it changed; and containers, networks and services carry a
//! label. [`sweep`] removes exactly that.

mod clear;
mod connection;
mod fit;
mod preflight;
mod provider;
mod survey;
mod way;

pub use clear::{sweep, sweep_machines};
pub(crate) use connection::Connection;
pub use provider::SshProvider;
pub use survey::adopt;
