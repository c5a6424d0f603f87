//! The model of a lab: from YAML to spanned structs to a validated [`Lab`].
//!
//! Two stages. `raw` is the topology as it is written, every scalar with its place; `validate` turns that into a
//! [`Lab`], in which names resolve and addresses fit. Mistakes of both stages are collected as [`Diagnostics`].

pub mod check;
mod diagnostic;
mod filter;
mod helpers;
pub mod image;
pub mod inject;
mod input;
pub mod lab;
mod lines;
mod locate;
mod printable;
mod raw;
mod read;
mod schema;
pub mod service;
pub mod step;
pub mod swarm;
pub mod template;
mod validate;

pub use check::*;
pub use diagnostic::{Diagnostics, Report};
pub use filter::{Filter, NoFilter};
pub use image::DebianImage;
pub use inject::*;
pub use lab::*;
pub use lines::Lines;
pub use locate::{Remark, locate};
pub use printable::{is_hostile, plain, plain_lines, styled_lines};
pub use read::{LoadError, MAX_FILE_SIZE};
pub use schema::schema;
pub use service::*;
pub use step::*;
pub use swarm::*;
pub use template::{Name, Template, TemplateError};
