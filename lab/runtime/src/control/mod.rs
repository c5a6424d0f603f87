//! The control socket of a lab's supervisor: lines of JSON over a unix socket.

mod client;
pub mod protocol;
mod serve;

pub use client::Client;
pub use serve::{Service, serve};

/// Longest line that either side accepts, in bytes: a report of 250,000 cells fits.
const MAX_LINE: usize = 256 << 20;
