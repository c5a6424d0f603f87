//! The `vm` runtime: every host of a lab is a small QEMU machine with its own kernel.

mod anew;
mod provider;
mod template;

pub use provider::VmProvider;
pub use template::Template;
