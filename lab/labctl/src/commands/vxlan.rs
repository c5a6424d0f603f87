//! `labctl vxlan`

use anstyle::Style;
use labctl_report::{
    table::Table,
    tunnels::{PairReport, ProbeReport, VxlanReport},
};
use labctl_runtime::control::protocol::{Answer, Request};

use crate::{
    context::Context,
    exit::{Error, Exit},
    printer::{Format, plain, style},
    session::ask,
    stop::Stop,
};

const EXAMPLES: &str = "\
For each pair of hosts on a segment, both ways, by each address family that they share there, frames go to a VTEP that
is there for this alone: at port 4789, at the swarm's own data path port if it has another, and at one that no SDN
takes for its own. They differ in one thing
each: random bytes instead of VXLAN, no I flag, a reserved bit set, an unknown VNI, a source that nobody has, no UDP
checksum or a wrong one, the largest size. What Linux and an honest underlay make of each is known:
  wire  what became of it on the segment
  NIC   whether the receiver's NIC got it (all of them must)
  VTEP  whether its kernel let it out of the tunnel; `!` marks what differs

Examples:
  labctl vxlan overlay-attachable
  labctl vxlan overlay-attachable --from host1 --to host2 --port 4790
  labctl vxlan overlay-attachable --format json | jq -r '.pairs[].findings[]'

Exit status: 0 all is as it should be, 1 something differs.";

/// Find out what becomes of VXLAN between the hosts of a lab, and why
///
/// Tells a dead path from a firewall, an SDN that takes VXLAN for its own, a host that drops it, and an MTU that is too
/// small. Works with and without a swarm.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Lab, as `labctl ps` names it
    #[arg(value_name = "LAB")]
    lab: String,
    /// Only from this host
    #[arg(long, value_name = "HOST")]
    from: Option<String>,
    /// Only to this host
    #[arg(long, value_name = "HOST")]
    to: Option<String>,
    /// UDP port to compare with VXLAN's own [default: 14789]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Show every probe, also of pairs that are as they should be
    #[arg(long)]
    all: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let (dir, _) = context.lab(&args.lab)?;
    let mut stop = Stop::new()?;
    let request = Request::Vxlan { from: args.from, to: args.to, port: args.port };
    let found = ask(&dir, &request, &mut stop, |answer| match answer {
        Answer::Vxlan(found) => Some(*found),
        _ => None,
    });
    let report = found.await?;
    match context.printer.format {
        Format::Json => context.printer.json(&report)?,
        Format::Text => context.printer.data(&text(&report, args.all))?,
    }
    Ok(Exit::holds(report.holds))
}

fn text(report: &VxlanReport, all: bool) -> String {
    let (good, bad) = (style::GOOD, style::BAD);
    let shown = report.pairs.iter().filter(|p| all || !p.holds);
    let mut out: String = shown.map(pair).collect();
    let held = report.pairs.iter().filter(|p| p.holds).count();
    let s = if report.holds { good } else { bad };
    out.push_str(&format!("{s}{held} of {} pairs as they should be{s:#}\n", report.pairs.len()));
    out
}

fn pair(pair: &PairReport) -> String {
    let (head, bad) = (style::HEAD, style::BAD);
    let PairReport { from, to, segment, source, destination, .. } = pair;
    let title = format!("{from} > {to}  {source} > {destination} on {segment}");
    let mut table = Table::new(["probe", "port", "bytes", "wire", "NIC", "VTEP", ""]);
    for probe in &pair.probes {
        table.row(row(probe));
    }
    let mut out = format!("{head}{title}{head:#}\n{}", table.render());
    for finding in &pair.findings {
        out.push_str(&format!("{bad}!{bad:#} {}\n", plain(finding)));
    }
    out + "\n"
}

fn row(probe: &ProbeReport) -> Vec<(String, Style)> {
    let plain = Style::new();
    let word = |yes: bool, right: bool| {
        let style = if right { plain } else { style::BAD };
        (if yes { "yes" } else { "no" }.to_owned(), style)
    };
    vec![
        (probe.probe.name().to_owned(), plain),
        (probe.port.to_string(), plain),
        (probe.bytes.to_string(), plain),
        (probe.wire.clone().unwrap_or_else(|| "never there".to_owned()), style::DIM),
        word(probe.nic, probe.nic),
        probe
            .vtep
            .map_or_else(|| ("?".to_owned(), style::CAUTION), |yes| word(yes, yes == probe.vtep_expected)),
        (if probe.holds { "" } else { "!" }.to_owned(), style::BAD),
    ]
}
