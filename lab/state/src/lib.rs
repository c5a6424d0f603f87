//! What is on disk of a lab: its folder, its lock, what will be made, what was started; checkpoints;
//! and `machines.yaml`, the machines that exist. Starts nothing.

pub mod checkpoint;
mod error;
mod folder;
mod inventory;
mod plan;
mod process;
mod room;
mod runtime;

pub use error::{DiskNeed, Error, INTERRUPTED};
pub use folder::{LabDir, Lock, MAX_SOCKET_PATH, find, list};
pub use inventory::{Machines, MachinesError, PowerCommands, SshMachine};
pub use plan::{Dirs, Origin, Plan};
pub use process::Process;
pub use runtime::Runtime;
