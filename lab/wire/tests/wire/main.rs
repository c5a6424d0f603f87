//! The wire, by real sockets. One binary: each costs a link.
#![allow(clippy::unwrap_used)]

mod blocks;
mod capture;
mod common;
mod gateway;
mod groups;
mod inject;
mod load;
mod offload;
mod policies;
mod switching;
mod tap;
