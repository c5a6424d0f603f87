//! Node images, which the hosts of a lab boot, and container images, which their dockerds load.
//!
//! A node image is a folder `CACHE/images/ENGINE-HASH/`; the hash covers everything that decides its contents:
//!
//! | file | what |
//! |---|---|
//! | `vmlinux` | Debian's cloud kernel, uncompressed ELF, booted through its PVH entry |
//! | `modules.cpio` | the kernel modules that are loaded ahead, part of the initial RAM disk (see `modules.txt`) |
//! | `root.ext4` | the read-only root, with dockerd from Debian's packages, or from a tarball |
//! | `root.tar.zst` | the same root without kernel modules, for containers as hosts |
//! | `image.json` | what the image is, sizes and contents of the files |
//! | `seen.json` | which files were found intact, and when they last changed |
//!
//! The agent is not part of an image, so a new agent needs no new image: [`NodeImage::initrd`] joins the two.

pub mod added;
mod archive;
mod bootstrap;
pub mod boxes;
mod build;
pub mod builtin;
pub mod cache;
pub mod container;
mod cpio;
pub mod durable;
mod error;
pub mod hash;
mod initrd;
mod kernel;
pub mod load;
mod modules;
mod own;
mod progress;
mod recipe;
mod sources;
mod store;

pub use build::{BuildOptions, build};
pub use error::Error;
pub use own::{OwnOptions, build_own};
pub use progress::Progress;
pub use recipe::image_id;
pub use store::{Listed, NodeImage, find, ls, own_engines, require, rm};
