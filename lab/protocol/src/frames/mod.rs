//! Raw frames: how we recognise them, and how a watcher counts them.

mod gather;
mod known;

pub use gather::Gathered;
pub use known::{Marks, Shape};
