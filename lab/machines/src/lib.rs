//! From a lab's host to a running machine with an agent: the runtimes, what is on disk of a lab, and clearing it.

pub mod clear;
pub mod console;
pub mod dind;
pub mod doctor;
mod error;
mod event;
pub mod forward;
pub mod images;
pub mod install;
mod inventory;
pub mod kernel;
pub mod limits;
pub mod machine;
mod room;
mod runtime;
pub mod runtimes;
mod spawn;
pub mod ssh;
pub mod state;
pub mod sys;
mod tail;
pub mod vm;

pub use error::{Error, INTERRUPTED, Need};
pub use event::{Event, Events};
pub use inventory::{Machines, MachinesError, Power as PowerCommands, SshMachine};
pub use runtime::Runtime;
pub use state::{Dirs, LabDir, Origin, Plan};
