//! Validates topologies: `cargo run --profile quick -p labctl-topology --example validate -- FILE…`
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{io::IsTerminal, process::ExitCode};

use labctl_model::Check;
use labctl_topology::LoadError;

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in std::env::args().skip(1) {
        match labctl_topology::load(&path) {
            Ok(lab) => {
                let checks = lab.expect.iter().chain(lab.steps.iter().flat_map(|s| &s.expect));
                let cells = |c: &Check| if let Check::Matrix(m) = c { m.cells.len() } else { 0 };
                println!("{path}: {} is sound: {} cells", lab.name, checks.map(cells).sum::<usize>());
            }
            Err(e) => {
                match e {
                    LoadError::Invalid(d) => eprint!("{}", d.render(std::io::stderr().is_terminal())),
                    other => eprintln!("error: {other}"),
                }
                code = ExitCode::from(2);
            }
        }
    }
    code
}
