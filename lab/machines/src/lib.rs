//! From a lab's host to a running machine with an agent: the runtimes, and clearing what is on disk of a lab.

pub mod clear;
pub mod console;
pub mod dind;
mod error;
mod event;
pub mod forward;
pub mod images;
pub mod install;
pub mod kernel;
pub mod limits;
pub mod machine;
pub mod qemu;
pub mod runtimes;
mod spawn;
pub mod ssh;
pub mod sys;
mod tail;
pub mod vagrant;
pub mod vm;

pub use error::Error;
pub use event::{Event, Events};
