//! `labctl send`

use std::time::Duration;

use labctl_model::{Draft, Source};
use labctl_report::{
    count,
    sent::{Arrival, SendReport},
    table::Table,
};
use labctl_runtime::control::protocol::{Answer, Request, Send};
use labctl_state::Plan;
use vxlan::Vary;

use super::exec;
use crate::{
    context::Context,
    exit::{Error, Exit},
    printer::{Format, plain, style},
    session::ask,
    stop::Stop,
};

const EXAMPLES: &str = "\
A frame is written as a capture prints it: layers, outermost first, each with the fields that matter:
  eth(dst=02:42:0a:03:01:03)/ip(dst=10.3.1.3)/udp(dport=4789)/vxlan(vni=4097)/eth/arp(who=10.3.1.3)
What is left out is filled in: the sender's MAC and address, the MAC of who has the destination address,
lengths, checksums, port numbers. What is given stays, right or wrong.
Names stand for what only the running lab knows; keep them from the shell by single quotes:
  ${vni:NETWORK}  ${vtep:HOST}  ${mac:ENDPOINT}  ${ip:ENDPOINT}  ${ip4:ENDPOINT}  ${ip6:ENDPOINT}
The last four also with @NETWORK, as ${ip6:c1@front}; ${ip:…} is the IPv4 address of one that has both.

With --vary no two frames are alike: fields count through their values, each by itself, and checksums follow, as does
the outer source port of VXLAN, unless it is given.

Examples:
  labctl send ipvlan-2host host1 'eth/ip(dst=192.168.56.33)/udp(dport=53)' --expect-at c2-1
  labctl send ipvlan-2host wire:lan 'eth(src=02:00:00:00:00:99)/arp(who=192.168.56.3,tell=192.168.56.99)'
  labctl send overlay-attachable wire:lan 'eth/ip(dst=${vtep:host2})/udp/vxlan(vni=${vni:overlay_net})
    /eth(dst=${mac:o2-1})/ip(src=10.3.1.11,dst=${ip:o2-1})/icmp' --expect-at o2-1 --not-at o1-1
  labctl send ipvlan-2host host1 'eth/ip(dst=192.168.56.33)/udp(dport=53)' --vary udp.sport -c 100000 -r max

Exit status: 0 what was expected holds, 1 it does not.";

/// Send any frame from anywhere in a lab, and say who got it
///
/// The frame leaves by an interface of a host, container or peer as it is, past all of its routes and rules, or enters a
/// segment as from a station that is no host's. Every network namespace of the lab and every segment is watched
/// meanwhile, so whoever got it is named: with or without its tunnel.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Lab, as `labctl ps` names it
    #[arg(value_name = "LAB")]
    lab: String,
    /// HOST, CONTAINER, HOST/CONTAINER or PEER, with `:INTERFACE` for another than its first; or `wire:SEGMENT`
    #[arg(value_name = "FROM")]
    from: String,
    /// The frame, in the text form
    #[arg(value_name = "FRAME")]
    frame: String,
    /// Send it so many times
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,
    /// So many a second, or `max`: as fast as they go
    #[arg(short, long, value_name = "N", default_value = "1000", value_parser = rate)]
    rate: Rate,
    /// A field that takes another value in each frame: `udp.sport`, `vxlan.vni=1..100`, `ip#2.dst=10.3.1.1..10.3.1.9`;
    /// repeat for more
    #[arg(long, value_name = "LAYER.FIELD[=FIRST..LAST]")]
    vary: Vec<Vary>,
    /// Host, container or peer that must receive it, each time that it is sent; repeat for more
    #[arg(long, value_name = "HOST[/CONTAINER]|PEER")]
    expect_at: Vec<String>,
    /// Host, container or peer that must not receive it; repeat for more
    #[arg(long, value_name = "HOST[/CONTAINER]|PEER")]
    not_at: Vec<String>,
    /// Wait so long for it to arrive; all of it, where somebody must not receive it
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    within: Duration,
    /// Put no mark behind the frame, and know it by its own last header and payload
    #[arg(long)]
    unmarked: bool,
}

/// Longest time that sending may take, in seconds: the agent's own limit.
const LONGEST: u32 = 60;

/// Frames a second.
#[derive(Clone, Copy, Debug)]
enum Rate {
    Max,
    PerSecond(u32),
}

fn rate(text: &str) -> Result<Rate, String> {
    match text.parse() {
        _ if text == "max" => Ok(Rate::Max),
        Ok(rate @ 1..=1_000_000) => Ok(Rate::PerSecond(rate)),
        _ => Err("neither `max` nor a number from 1 to 1000000".to_owned()),
    }
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let (dir, plan) = context.lab(&args.lab)?;
    readable(&args.frame)?;
    let rate = match args.rate {
        Rate::Max => None,
        Rate::PerSecond(rate) => Some(rate),
    };
    if let Some(rate) = rate.filter(|rate| args.count / rate > LONGEST) {
        let message = format!("{} frames at {rate} a second take more than {LONGEST} s", args.count);
        return Err(Error::Usage(format!("{message}\nhint: fewer with --count, or faster with --rate")));
    }
    let names = |places: &[String]| places.iter().map(|p| place(&plan, p)).collect::<Result<Vec<_>, _>>();
    let order = Send {
        from: from(&plan, &args.from)?.to_string(),
        frame: args.frame,
        count: args.count,
        rate,
        vary: args.vary.iter().map(ToString::to_string).collect(),
        mark: !args.unmarked,
        received_by: names(&args.expect_at)?,
        not_received_by: names(&args.not_at)?,
        within_ms: u64::try_from(args.within.as_millis()).unwrap_or(u64::MAX),
    };
    let mut stop = Stop::new()?;
    let request = Request::Send(Box::new(order));
    let found = ask(&dir, &request, &mut stop, |answer| match answer {
        Answer::Sent(found) => Some(*found),
        _ => None,
    });
    let report = found.await?;
    match context.printer.format {
        Format::Json => context.printer.json(&report)?,
        Format::Text => context.printer.data(&text(&report))?,
    }
    Ok(Exit::holds(report.holds))
}

/// Checks that the text is a frame; else the error marks the place under the text.
fn readable(frame: &str) -> Result<(), Error> {
    Draft::frame(frame).map(drop).map_err(|e| {
        let before = frame[..e.at.start].chars().count();
        let under = frame[e.at.clone()].chars().count().max(1);
        let hint = e.hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        let marks = format!("  {}{}", " ".repeat(before), "^".repeat(under));
        // With several lines, a line of marks could not show the place.
        let shown = if frame.contains('\n') { String::new() } else { format!("\n  {frame}\n{marks}") };
        Error::Usage(format!("{}{shown}{hint}", e.message))
    })
}

/// The source that `text` names; `HOST/CONTAINER` becomes the container's name.
fn from(plan: &Plan, text: &str) -> Result<Source, Error> {
    match Source::parse(text) {
        Source::Endpoint { name, interface } => Ok(Source::Endpoint { name: place(plan, &name)?, interface }),
        wire => Ok(wire),
    }
}

fn place(plan: &Plan, text: &str) -> Result<String, Error> {
    let name = exec::endpoint(plan, text)?;
    if plan.lab.is_endpoint(&name) {
        return Ok(name);
    }
    Err(labctl_runtime::Error::no_such(&plan.lab, "host, container or peer", &name, plan.lab.endpoints())
        .into())
}

fn text(report: &SendReport) -> String {
    let (dim, good, bad) = (style::DIM, style::GOOD, style::BAD);
    let times = if report.count == 1 { String::new() } else { format!(" {} times", report.count) };
    let frame = plain(&report.frame);
    let mut out = format!("sent from {}{times}, {} bytes: {dim}{frame}{dim:#}\n", report.from, report.bytes);
    for passage in &report.wire {
        let fate = if passage.dropped { bad } else { dim };
        let (segment, port) = (&passage.segment, &passage.port);
        out.push_str(&format!(
            "wire {segment}  {port}  {fate}{}{fate:#}{}\n",
            passage.fate,
            many(passage.count)
        ));
    }
    if report.receipts.iter().any(|r| r.received) {
        let mut got = Table::new(["host", "received by", "interface", "how"]);
        for r in report.receipts.iter().filter(|r| r.received) {
            got.plain_row([
                r.host.clone(),
                r.endpoint.clone(),
                r.interface.clone(),
                format!("{}{}", r.how, many(r.count)),
            ]);
        }
        out.push_str(&got.render());
    } else {
        out.push_str("received by nobody\n");
    }
    for (place, missed) in &report.missed {
        out.push_str(&format!(
            "{bad}{place}{bad:#}: {} came faster than they could be looked at, so counts are too low\n",
            count(*missed, "frame")
        ));
    }
    for arrival in &report.expected {
        let (s, word) = if arrival.holds { (good, "ok") } else { (bad, "wrong") };
        out.push_str(&format!(
            "{s}{word}{s:#}{}  {}\n",
            " ".repeat(6 - word.len()),
            expectation(arrival, report.count, report.missed.contains_key(&arrival.endpoint))
        ));
    }
    out
}

fn many(count: u64) -> String {
    if count == 1 { String::new() } else { format!(", {count} times") }
}

fn expectation(arrival: &Arrival, sent: u32, missed: bool) -> String {
    let Arrival { endpoint, must, received, watched, .. } = arrival;
    let wanted = if *must { "must" } else { "must not" };
    let came = match received {
        n if !watched && missed => {
            format!("{n} were counted, and not all that came could be looked at: that proves nothing")
        }
        _ if !watched => "which does not run: that proves nothing".to_owned(),
        0 => "received nothing of it".to_owned(),
        n => format!("received {n} of {}", count(u64::from(sent), "frame")),
    };
    format!("{endpoint} {wanted} receive it: {came}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mistake_is_marked_under_the_frame() {
        let error = readable("eth/ip(dts=10.0.0.1)/udp").unwrap_err();
        assert_eq!(error.exit(), Exit::USAGE);
        let said = error.to_string();
        assert!(
            said.contains("\n  eth/ip(dts=10.0.0.1)/udp\n         ^^^\nhint: did you mean \"dst\"?"),
            "{said}"
        );
        assert!(readable("eth/ip(dst=${ip:c1})").is_ok());
        assert!(readable("eth/\nipp").unwrap_err().to_string().contains("no layer"));
    }
}
