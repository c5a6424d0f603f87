//! `labctl`: overlay and VXLAN swarm labs from YAML.

mod captures;
mod cell;
mod cli;
mod commands;
mod context;
mod doctor;
mod engines;
mod exit;
mod printer;
mod progress;
mod session;
mod stop;
mod sys;
mod topology;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
