//! One file per verb: its options, its help, its body.

pub mod capture;
pub mod check;
pub mod checkpoint;
pub mod completions;
pub mod r#do;
pub mod docker;
pub mod doctor;
pub mod down;
pub mod env;
pub mod exec;
pub mod explain;
pub mod host;
pub mod image;
pub mod logs;
pub mod man;
pub mod predict;
pub mod ps;
pub mod reset;
pub mod schema;
pub mod send;
pub mod supervise;
pub mod test;
pub mod up;
pub mod validate;
pub mod vxlan;
