//! `labctl probe`

use std::time::Duration;

use labctl_model::Observed;
use labctl_report::{CellReport, MatrixReport, cells, duration};
use labctl_runtime::Checking;

use crate::{
    cell::{CellArgs, only},
    context::Context,
    exit::{Error, Exit},
    printer::{Format, plain, style},
    progress::Progress,
    topology,
};

const EXAMPLES: &str = "\
Examples:
  labctl probe ipvlan-2host c1-1 c2-1
  labctl probe ingress client host3 tcp/8080
  labctl probe lab web db tcp/5432 --by-name
  labctl probe lab c1 c2@backend icmp --size 1400
  labctl probe lab c1 8.8.8.8 --format json

Exit status: 0 it was reached, 1 it was not. `labctl explain LAB FROM TO PROBE` walks the packet through the topology.";

/// Probe one path in a lab that is up, and say what came of it, and why
///
/// FROM is a host, container or peer. TO is one of these, a service, an address, or NAME@NETWORK, as in the tables of a
/// topology. The topology need not expect anything of this cell.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Lab, as `labctl ps` names it, or the topology that it came from
    #[arg(value_name = "LAB|FILE")]
    lab: String,
    #[command(flatten)]
    cell: CellArgs,
    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let (dir, plan) = topology::running(&args.lab, context)?;
    let to = args.cell.target(&plan.lab)?;
    let mut progress = Progress::new(&context.printer, dir.name());
    let report = args.cell.fire(to, args.timeout, Checking::default(), &dir, &mut progress).await?;
    drop(progress);
    let (matrix, cell) = only(&report)?;
    match context.printer.format {
        Format::Json => context.printer.json(&serde_json::json!({
            "lab": report.lab, "from": cell.from, "to": cell.to, "probe": matrix.probe.to_string(),
            "observed": cell.observed.word(), "detail": cell.detail, "causes": cell.causes,
            "rtt_us": cell.rtt_us, "answered_by": cell.answered_by, "source": cell.source,
        }))?,
        Format::Text => context.printer.data(&text(matrix, cell))?,
    }
    Ok(Exit::holds(cell.observed == Observed::Yes))
}

/// `c1-1 -> c2-1  icmp  yes, after 412 µs: by network ipvlan_net, 192.168.56.33`.
fn text(matrix: &MatrixReport, cell: &CellReport) -> String {
    let s = if cell.observed == Observed::Yes { style::GOOD } else { style::BAD };
    let after = match cell.rtt_us {
        Some(us @ ..1000) => format!(", after {us} µs"),
        Some(us) => format!(", after {}", duration(Duration::from_micros(us))),
        None => String::new(),
    };
    let mut why: Vec<String> = Vec::new();
    if !cell.detail.is_empty() {
        why.push(plain(&cell.detail));
    }
    why.extend(cell.causes.iter().map(ToString::to_string).filter(|c| !cell.detail.contains(c)));
    let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
    let (from, to, word) = (plain(&cell.from), plain(&cell.to), cell.observed.word());
    format!("{from} -> {to}  {}  {s}{word}{s:#}{after}{why}", plain(&cells::caption(matrix)))
}
