//! `labctl validate`

use std::path::PathBuf;

use labctl_model::{Check, Lab, LoadError};
use serde_json::json;

use crate::{
    context::Context,
    exit::{Error, Exit},
    printer::{Format, style},
    render::{count, predicted},
    topology,
};

const EXAMPLES: &str = "\
Examples:
  labctl validate lab.yaml
  labctl validate topologies/";

/// Read topologies and say what is wrong with them, line by line
///
/// For a sound topology it also says with how many of its expectations the oracle agrees. `labctl predict` shows more.
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
                let p = labctl_oracle::predict(&t.lab);
                if context.printer.format == Format::Text {
                    let good = style::GOOD;
                    let more = match (p.expectations, p.holds) {
                        (0, _) => String::new(),
                        (_, true) => format!("; {}", predicted::summary(&p)),
                        (_, false) => format!("; {} (labctl predict {shown})", predicted::summary(&p)),
                    };
                    context.printer.data(&format!("{good}ok{good:#}  {shown}: {}{more}", summary(&t.lab)))?;
                }
                let oracle = json!({ "agrees": p.agrees, "differs": p.differs, "unknown": p.unknown });
                found.push(json!({ "file": shown, "lab": t.lab.name, "valid": true, "oracle": oracle }));
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
        Error::Topology(LoadError::Invalid(all)) => json!(all.reports()),
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
