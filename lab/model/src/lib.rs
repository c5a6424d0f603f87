//! The model of a lab: from YAML to spanned structs to a validated [`Lab`].
//!
//! Two stages. `raw` is the topology as it is written, every scalar with its place; `validate` turns that into a
//! [`Lab`], in which names resolve and addresses fit. Mistakes of both stages are collected as [`Diagnostics`].

pub mod check;
pub mod draft;
pub mod engine;
pub mod family;
mod helpers;
pub mod host;
pub mod image;
pub mod inject;
pub mod lab;
mod lines;
mod raw;
mod read;
mod scalars;
mod schema;
pub mod service;
pub mod step;
pub mod swarm;
pub mod traffic;
mod validate;

pub use check::*;
pub use draft::{Draft, DraftError, Name};
pub use engine::{Engine, EngineChoice, Suite, Version, Versions};
pub use family::{Family, LEAST_MTU_V6, OfFamily, PerFamily, Probed, first_host, is_link_local};
pub use host::*;
pub use image::DebianImage;
pub use inject::*;
pub use lab::*;
pub use labctl_yaml::{
    Diagnostics, Mistake, Places, Remark, UNUSED_ALLOW, Warning, is_hostile, plain, plain_lines, styled_lines,
};
pub use lines::Lines;
pub use read::{LoadError, MAX_FILE_SIZE};
pub use schema::schema;
pub use service::*;
pub use step::*;
pub use swarm::*;
pub use traffic::{NoTraffic, Protocol, Traffic};
