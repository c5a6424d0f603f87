//! `labctl ps`

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use labctl_report::{duration, table::Table};
use labctl_runtime::control::{
    Client,
    protocol::{Answer, HostStatus, Request, Stage, Status},
};
use labctl_state::LabDir;

use crate::{
    context::Context,
    exit::{Error, Exit},
    printer::{Format, style},
    session::answer,
    topology::shorten,
};

const EXAMPLES: &str = "\
Examples:
  labctl ps
  labctl ps --hosts
  labctl ps --format json | jq -r '.[].lab'";

/// A supervisor that is silent for this long counts as stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to retry a supervisor that has no socket yet, or no longer.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// List the labs that there are
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Also list their hosts, with NICs and containers, and their peers
    #[arg(long)]
    hosts: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let mut labs = Vec::new();
    for dir in labctl_state::list(&context.dirs)? {
        match status(&dir).await {
            Ok(status) => labs.push(status),
            Err(e) => context.printer.warn(&format!("lab `{}`: {e}", dir.name())),
        }
    }
    if context.printer.format == Format::Json {
        context.printer.json(&labs)?;
        return Ok(Exit::OK);
    }
    if labs.is_empty() {
        context.printer.say("no lab is up");
        return Ok(Exit::OK);
    }
    context.printer.data(&overview(&labs))?;
    for lab in labs.iter().filter(|l| !l.impaired.is_empty()) {
        let (head, caution) = (style::HEAD, style::CAUTION);
        let list: String = lab.impaired.iter().map(|i| format!("  {caution}{i}{caution:#}\n")).collect();
        context.printer.data(&format!("\n{head}on the wire of {}{head:#}\n{list}", lab.lab))?;
    }
    if args.hosts {
        context.printer.data(&format!("\n{}", hosts(&labs)))?;
    }
    Ok(Exit::OK)
}

/// The status from the supervisor, or from the plan if the supervisor is gone.
async fn status(dir: &LabDir) -> Result<Status, Error> {
    let ask = async {
        // A supervisor that has just started or was just killed holds its lock but does not listen.
        let mut client = loop {
            match Client::connect(dir).await {
                Ok(client) => break client,
                Err(_) if !dir.is_alive() => return dead(dir),
                Err(_) => tokio::time::sleep(ASK_EVERY).await,
            }
        };
        client.send(&Request::Status).await?;
        loop {
            if let Answer::Status(status) = answer(dir, &mut client).await? {
                return Ok(*status);
            }
        }
    };
    let silent = || {
        Error::Environment(format!(
            "its supervisor does not answer\nhint: its log is {}",
            dir.log().display()
        ))
    };
    tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err(silent()))
}

fn dead(dir: &LabDir) -> Result<Status, Error> {
    let plan = dir.plan()?;
    let host = |name: &String| HostStatus {
        nics: Vec::new(),
        containers: plan
            .lab
            .containers
            .iter()
            .filter(|(_, c)| c.host == *name)
            .map(|(n, _)| n.clone())
            .collect(),
        docker_socket: dir.docker_socket(name),
        console: Some(dir.console(name)),
        pid: None,
        down: None,
    };
    Ok(Status {
        lab: dir.name().to_owned(),
        runtime: plan.runtime,
        topology: plan.topology.clone(),
        stage: Stage::Dead,
        supervisor: 0,
        since: plan.since,
        hosts: plan.lab.hosts.keys().map(|h| (h.clone(), host(h))).collect::<BTreeMap<_, _>>(),
        peers: plan.lab.peers.iter().map(|(n, p)| (n.clone(), p.nic.to_string())).collect(),
        segments: plan.lab.segments.keys().cloned().collect(),
        impaired: Vec::new(),
    })
}

fn overview(labs: &[Status]) -> String {
    let mut table = Table::new(["LAB", "STAGE", "RUNTIME", "HOSTS", "CONTAINERS", "AGE", "TOPOLOGY"]);
    for lab in labs {
        let (stage, s) = match lab.stage {
            Stage::Up => ("up", style::GOOD),
            Stage::Partial => ("partial", style::BAD),
            Stage::Starting => ("starting", style::CAUTION),
            Stage::Stopping => ("stopping", style::CAUTION),
            Stage::Dead => ("dead", style::BAD),
        };
        let containers: usize = lab.hosts.values().map(|h| h.containers.len()).sum();
        let down = lab.hosts.values().filter(|h| h.down.is_some()).count();
        let hosts = match down {
            0 => (lab.hosts.len().to_string(), anstyle::Style::new()),
            _ => (format!("{}, {down} down", lab.hosts.len()), style::BAD),
        };
        let head = [
            (lab.lab.clone(), style::HEAD),
            (stage.to_owned(), s),
            (lab.runtime.to_string(), anstyle::Style::new()),
            hosts,
        ];
        let rest = [containers.to_string(), age(lab.since), shorten(&lab.topology)];
        table.row(head.into_iter().chain(rest.into_iter().map(|t| (t, anstyle::Style::new()))));
    }
    table.render()
}

fn hosts(labs: &[Status]) -> String {
    let mut table = Table::new(["LAB", "HOST", "PID", "NICS", "CONTAINERS"]);
    for lab in labs {
        for (name, host) in &lab.hosts {
            table.plain_row([
                lab.lab.clone(),
                name.clone(),
                match (&host.down, host.pid) {
                    (Some(why), _) => format!("down: {why}"),
                    (None, Some(pid)) => pid.to_string(),
                    (None, None) => "-".to_owned(),
                },
                host.nics.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                host.containers.join(", "),
            ]);
        }
        for (name, nic) in &lab.peers {
            table.plain_row([lab.lab.clone(), name.clone(), "peer".into(), nic.clone(), String::new()]);
        }
    }
    table.render()
}

fn age(since: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    duration(Duration::from_secs(now.saturating_sub(since)))
}
