//! The agent of a lab host: one protocol, namespaces, probes, and init of a vm.

pub mod cli;
mod fd;
mod frames;
pub mod init;
pub mod kernel;
mod netlink;
pub mod netns;
pub mod node;
mod ops;
mod pause;
mod probe;
mod runc;
pub mod server;
mod shim;
mod sys;
