//! What the agent does for labctl besides probing.

pub mod addresses;
pub mod configure;
pub mod exec;
pub mod facts;
pub mod files;
pub mod power;
