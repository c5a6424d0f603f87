//! Labs of real kernels and real Docker. One binary: each costs a link.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod act;
mod checkpoint;
mod clones;
mod dind;
mod engines;
mod flagship;
mod hurt;
mod lesson;
mod library;
mod life;
mod peers;
mod send;
mod ssh;
mod trouble;
mod truth;
mod vagrant;
mod vanilla;
