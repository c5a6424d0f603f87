//! `labctl validate`

use std::path::PathBuf;

use labctl_model::{Check, Lab, LoadError};
use serde_json::json;

use crate::{
    context::Context,
    exit::{Error, Exit},
    printer::{Format, style},
    render::count,
    topology,
};

const EXAMPLES: &str = "\
Examples:
  labctl validate lab.yaml
  labctl validate topologies/";

/// Read topologies and say what is wrong with them, line by line
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Topologies, or folders of them
    #[arg(value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,
}

/// Runs the verb.
pub fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let mut worst = Exit::OK;
    let mut found = Vec::new();
    for file in topology::files(&args.files)? {
        let shown = file.display().to_string();
        match topology::load(&file) {
            Ok(t) => {
                if context.printer.format == Format::Text {
                    let good = style::GOOD;
                    context.printer.data(&format!("{good}ok{good:#}  {shown}: {}", summary(&t.lab)))?;
                }
                found.push(json!({ "file": shown, "lab": t.lab.name, "valid": true }));
            }
            Err(e) => {
                context.printer.error(&e);
                worst = worst.max(e.exit());
                found.push(json!({ "file": shown, "lab": null, "valid": false, "mistakes": mistakes(&e) }));
            }
        }
    }
    if context.printer.format == Format::Json {
        context.printer.json(&found)?;
    }
    Ok(worst)
}

/// The mistakes as JSON, each with its line and column if known.
fn mistakes(error: &Error) -> serde_json::Value {
    match error {
        Error::Topology(LoadError::Invalid(all)) => json!(all.mistakes()),
        e => json!([{ "message": e.to_string() }]),
    }
}

/// A summary such as `lab x: 2 hosts, 4 containers, 30 cells, 1 step`.
fn summary(lab: &Lab) -> String {
    let checks = lab.expect.iter().chain(lab.steps.iter().flat_map(|s| &s.expect));
    let (mut cells, mut facts, mut frames) = (0, 0, 0);
    for check in checks {
        match check {
            Check::Matrix(m) => cells += m.cells.len(),
            Check::Fact(_) => facts += 1,
            Check::Inject(_) => frames += 1,
        }
    }
    let parts = [
        (lab.hosts.len(), "host"),
        (lab.containers.len(), "container"),
        (cells, "cell"),
        (facts, "fact"),
        (frames, "injected frame"),
        (lab.steps.len(), "step"),
    ];
    let said: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| count(*n, what)).collect();
    format!("lab {}: {}", lab.name, said.join(", "))
}
