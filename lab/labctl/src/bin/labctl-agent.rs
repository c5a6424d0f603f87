//! The agent of a lab host: init of a vm, agent, or a container that waits.

use std::process::ExitCode;

fn main() -> ExitCode {
    labctl_agent::cli::run()
}
