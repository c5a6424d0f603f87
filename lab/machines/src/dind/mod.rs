//! The `dind` runtime: every host of a lab is a container with its own dockerd, on this machine's kernel.
//!
//! The node image is the vm's root filesystem, imported into this machine's Docker. A node's only network is the TAPs
//! that its agent makes in its namespace, whose other end is the wire: nothing passes the machine's bridges and their
//! rules. What a lab needs of the kernel is checked before anything is made.

pub mod container;
mod daemon;
pub mod door;
mod fit;
mod import;
mod machine;
mod needs;
mod note;
mod provider;

pub use container::NodeContainer;
pub use daemon::Daemon;
pub use door::Door;
pub use fit::{Unfit, fit};
pub use import::{import, imported, reference};
pub use needs::{Need, What, of as needs_of};
pub use note::sweep;
pub use provider::DindProvider;
