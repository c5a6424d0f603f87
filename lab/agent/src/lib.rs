//! The agent of a lab host: sessions with labctl, namespaces, probes, and init of a vm.

pub mod cli;
mod engine;
mod fd;
mod foreign;
mod frames;
pub mod init;
pub mod kernel;
mod netlink;
pub mod netns;
mod network;
pub mod node;
mod ops;
mod pause;
mod port;
mod probe;
mod runc;
pub mod server;
pub mod session;
mod sys;
