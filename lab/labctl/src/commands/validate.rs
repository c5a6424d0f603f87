//! `labctl validate`

use std::path::PathBuf;

use labctl_model::{Check, Lab};
use labctl_oracle::Predictions;
use labctl_render::predicted;
use labctl_report::count;
use labctl_topology::LoadError;
use serde_json::json;

use crate::{
    context::Context,
    exit::{Error, Exit},
    printer::{Format, plain, style},
    topology,
};

const EXAMPLES: &str = "\
Examples:
  labctl validate lab.yaml
  labctl validate --strict topologies/

Each warning has an id. A comment silences it: `# labctl: allow(ID)`, on the line that is shown or above it.
docs/oracle.md lists the ids.";

/// Read topologies and say what is wrong with them, line by line
///
/// For a sound topology it also warns of what is legal and will hurt, such as a subnet over a route, and says with how many
/// of its expectations the oracle agrees. `labctl predict` shows more.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Topologies, or folders of them
    #[arg(value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,
    /// Take warnings for mistakes
    #[arg(long)]
    strict: bool,
}

/// Runs the verb.
pub fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let mut worst = Exit::OK;
    let mut found = Vec::new();
    for file in topology::files(&args.files)? {
        let shown = file.display().to_string();
        match topology::load(&file, context) {
            Ok(t) => {
                let warnings = t.places.warn(&labctl_oracle::lint(&t.lab));
                let p = predicted::by_the_way(&t.lab);
                if context.printer.format == Format::Text {
                    let (good, said) = (style::GOOD, summary(&t.lab));
                    let more = agreement(p.as_ref(), &shown);
                    context.printer.data(&format!("{good}ok{good:#}  {shown}: {said}{more}"))?;
                }
                t.notes.iter().for_each(|note| context.printer.say(&plain(note)));
                if let Some(warnings) = &warnings {
                    context.printer.warnings(warnings);
                    worst = if args.strict { worst.max(Exit::USAGE) } else { worst };
                }
                let oracle =
                    p.map(|p| json!({ "agrees": p.agrees, "differs": p.differs, "unknown": p.unknown }));
                let listed = warnings.map(|w| w.mistakes()).unwrap_or_default();
                found.push(json!({ "file": shown, "lab": t.lab.name, "valid": true, "oracle": oracle, "warnings": listed, "notes": t.notes }));
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

/// With how many of a lab's expectations the oracle agrees, as the end of a line.
fn agreement(predictions: Option<&Predictions>, shown: &str) -> String {
    match predictions {
        None => format!("; not predicted here, since it has so many (labctl predict {shown})"),
        Some(p) if p.expectations == 0 => String::new(),
        Some(p) if p.holds => format!("; {}", predicted::summary(p)),
        Some(p) => format!("; {} (labctl predict {shown})", predicted::summary(p)),
    }
}

/// The mistakes as JSON, each with its line and column if known.
fn mistakes(error: &Error) -> serde_json::Value {
    match error {
        Error::Topology(LoadError::Invalid(all)) => json!(all.mistakes()),
        e => json!([{ "message": e.to_string() }]),
    }
}

/// A summary such as `lab x: 2 hosts, 4 containers, 30 cells, 1 step`.
pub fn summary(lab: &Lab) -> String {
    let checks = lab.expect.iter().chain(lab.steps.iter().flat_map(|s| &s.expect));
    let (cells, mut facts, mut frames) = (predicted::expected_cells(lab), 0, 0);
    for check in checks {
        match check {
            Check::Matrix(_) => {}
            Check::Fact(_) => facts += 1,
            Check::Inject(_) => frames += 1,
        }
    }
    let parts = [
        (lab.hosts.len(), "host"),
        (lab.containers.len(), "container"),
        (lab.services.len(), "service"),
        (cells, "cell"),
        (facts, "fact"),
        (frames, "injected frame"),
        (lab.steps.len(), "step"),
    ];
    let said: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| count(*n, what)).collect();
    format!("lab {}: {}", lab.name, said.join(", "))
}
