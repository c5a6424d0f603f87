//! Topologies: from YAML to a [`Lab`](labctl_model::Lab).
//!
//! Two stages. `raw` is the topology as it is written, every scalar with its place; `validate` turns that into a lab, in
//! which names resolve and addresses fit. Mistakes of both stages are collected as
//! [`Diagnostics`](labctl_yaml::Diagnostics).

mod include;
mod raw;
mod read;
mod scalars;
mod schema;
mod validate;

pub use include::variables as compose_variables;
pub use raw::Check as WrittenCheck;
pub use read::{LoadError, MAX_FILE_SIZE, Topology, load, parse, read_text};
pub use schema::schema;
pub use validate::{ACTION_FORMS, parse_action, read_action, read_checks};
