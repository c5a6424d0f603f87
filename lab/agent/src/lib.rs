//! The agent of a lab host: one protocol, namespaces, probes, and init of a vm.

pub mod cli;
pub mod client;
mod fd;
pub mod frames;
pub mod init;
pub mod kernel;
mod lines;
mod mux;
mod netlink;
pub mod netns;
pub mod node;
mod ops;
mod pause;
pub mod preamble;
pub mod probe;
pub mod protocol;
mod runc;
pub mod server;
mod shim;
mod sys;
