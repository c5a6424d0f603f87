//! What is done with the running hosts of a lab: Docker, swarm, probing, frames, steps, and the supervisor that does it.

mod actions;
mod check;
pub mod control;
pub mod error;
mod evidence;
mod exec;
mod facts;
mod filters;
pub mod frames;
mod host;
pub mod lab;
pub mod launch;
mod nics;
mod peers;
pub mod probe;
mod service;
mod services;
pub mod supervisor;
mod swarm;
pub mod teardown;
mod view;
mod wire;

pub use check::{Checking, Expectations};
pub use error::Error;
pub use lab::RunningLab;
pub use launch::UpOptions;
