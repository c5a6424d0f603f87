//! The model of a lab: a [`Lab`] in which names resolve, addresses fit, and every default is filled in. What checks that is
//! `labctl_topology`, which makes one of YAML.

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
pub mod options;
pub mod service;
pub mod step;
pub mod swarm;
pub mod traffic;

pub use check::*;
pub use draft::{Draft, DraftError, Name};
pub use engine::{Engine, EngineChoice, Suite, Version, Versions};
pub use family::{Family, LEAST_MTU_V6, OfFamily, PerFamily, Probed, first_host, is_link_local};
pub use host::*;
pub use image::DebianImage;
pub use inject::*;
pub use lab::*;
pub use lines::Lines;
pub use options::*;
pub use service::*;
pub use step::*;
pub use swarm::*;
pub use traffic::{NoTraffic, Protocol, Traffic};
