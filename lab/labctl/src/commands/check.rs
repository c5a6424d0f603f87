//! `labctl check`

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use labctl_model::Lab;
use labctl_render::{
    junit::{self, Tested},
    predicted,
    repeat::Repeated,
};
use labctl_report::{Report, text};
use labctl_runtime::{Checking, Expectations, control::protocol::Request};
use labctl_state::Plan;

use crate::{
    context::Context,
    exit::{Error, Exit},
    printer::Format,
    progress::Progress,
    session,
    stop::Stop,
    topology::{self, shorten},
};

const EXAMPLES: &str = "\
Examples:
  labctl check ipvlan-2host
  labctl check topologies/ipvlan-2host.yaml
  labctl check ipvlan-2host --steps
  labctl check ipvlan-2host --repeat 20
  labctl check ipvlan-2host --format json | jq '.checks[].found.cells[]? | select(.holds | not)'
  labctl check ipvlan-2host --junit report.xml";

/// Probe a lab that is up, once more
///
/// What is expected is read from the topology again, so an expectation can be mended while the lab runs. If the rest of
/// the topology has changed, the lab is checked as it was brought up, and labctl says so.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Lab, as `labctl ps` names it, or the topology that it came from
    #[arg(value_name = "LAB|FILE")]
    lab: String,
    /// Also do the topology's steps, which change the lab
    #[arg(long)]
    steps: bool,
    /// Probe so many times, and name the cells that did not come out alike each time
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "steps")]
    repeat: NonZeroUsize,
    /// Also write JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let (dir, mut plan) = topology::running(&args.lab, context)?;
    let mut stop = Stop::new()?;
    let how = Checking { steps: args.steps, ..Checking::default() };
    let request = match read_again(&mut plan, context)? {
        Some(expectations) => Request::CheckOther { how, expectations: Box::new(expectations) },
        None => Request::Check(how),
    };
    let mut progress = Progress::new(&context.printer, dir.name());
    let mut reports = Vec::new();
    for _ in 0..args.repeat.get() {
        reports.push(session::check_by(&dir, &request, &mut progress, &mut stop).await?);
    }
    predicted::join(&mut reports, &plan.lab);
    drop(progress);
    let topology = shorten(&plan.topology);
    let Some(all) = Repeated::of(&reports) else { return Ok(Exit::OK) };
    match (context.printer.format, all.runs) {
        (Format::Json, 1) => context.printer.json(all.report)?,
        (Format::Json, _) => context.printer.json(&all)?,
        (Format::Text, runs) => {
            context.printer.data(&text::text(all.report, &topology, context.printer.wide))?;
            context.printer.data(&predicted::beside(all.report))?;
            if runs > 1 {
                context.printer.data(&all.text(&topology))?;
            }
        }
    }
    let exit = Exit::holds(all.holds);
    if let Some(file) = &args.junit {
        let outcome = |report: Report| {
            let took = Duration::from_millis(report.took_ms);
            Tested::Ran { topology: topology.clone(), report: Box::new(report), tries: 1, took }
        };
        context
            .printer
            .document(&junit::xml(&reports.into_iter().map(outcome).collect::<Vec<_>>())?, Some(file))?;
    }
    Ok(exit)
}

/// Reads what the topology expects now, and puts it in the plan; `None` if that is what it expected when the lab came up,
/// or if the file is of another lab by now.
fn read_again(plan: &mut Plan, context: &Context) -> Result<Option<Expectations>, Error> {
    let shown = shorten(&plan.topology);
    if !plan.topology.is_file() {
        context
            .printer
            .warn(&format!("{shown} is not there any more: checked as it was when the lab came up"));
        return Ok(None);
    }
    let now = topology::load(&plan.topology, context)?.lab;
    let changed = differing(&plan.lab, &now);
    if !changed.is_empty() {
        let parts = changed.join(", ");
        context.printer.warn(&format!(
            "{shown} has changed since `up` ({parts}): checked as it was then\nhint: `labctl up --replace {shown}` makes the lab anew"
        ));
        return Ok(None);
    }
    if (&plan.lab.expect, &plan.lab.steps) == (&now.expect, &now.steps) {
        return Ok(None);
    }
    context.printer.say(&format!("{shown} expects something else than at `up`: that is checked"));
    plan.lab.expect.clone_from(&now.expect);
    plan.lab.steps.clone_from(&now.steps);
    Ok(Some(Expectations { expect: now.expect, steps: now.steps }))
}

/// The parts of a topology that are not as they were when the lab came up, apart from what is expected.
fn differing(then: &Lab, now: &Lab) -> Vec<&'static str> {
    let mut hosts = now.hosts.clone();
    for (name, host) in &mut hosts {
        // `--engine` of `up` is not in the file.
        if let Some(before) = then.hosts.get(name) {
            host.engine.clone_from(&before.engine);
        }
    }
    let mut images = now.images.clone();
    for (name, image) in &mut images {
        if let Some(before) = then.images.get(name) {
            image.line = before.line;
        }
    }
    let parts = [
        ("name", then.name == now.name),
        ("segments", then.segments == now.segments),
        ("hosts", then.hosts == hosts),
        ("peers", then.peers == now.peers),
        ("swarm", then.swarm == now.swarm),
        ("images", then.images == images),
        ("networks", then.networks == now.networks),
        ("containers", then.containers == now.containers),
        ("services", then.services == now.services),
    ];
    parts.into_iter().filter(|(_, same)| !same).map(|(part, _)| part).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_expected_may_change_and_nothing_else() {
        let text = "name: t\nsegments: { lan: { subnet: 10.0.0.0/24 } }\nhosts: { a: { lan: 10.0.0.1 }, b: { lan: 10.0.0.2 } }\n\
                    images: { box: { debian: [busybox] } }\nnetworks: { net: { hosts: [a] } }\n\
                    expect:\n  - { from: a, to: b, verdict: yes }\n";
        let lab = |text: &str| labctl_topology::parse(text, "t.yaml").unwrap();
        let then = lab(text);
        assert_eq!(differing(&then, &lab(&text.replace("verdict: yes", "verdict: no"))), [""; 0]);
        // A line more moves everything that is below it.
        assert_eq!(differing(&then, &lab(&format!("# more\n{text}"))), [""; 0]);
        assert_eq!(differing(&then, &lab(&text.replace("10.0.0.2", "10.0.0.3"))), ["hosts"]);
        assert_eq!(differing(&then, &lab(&text.replace("net: {", "net: { internal: true,"))), ["networks"]);
    }
}
