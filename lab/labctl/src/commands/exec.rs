//! `labctl exec`

use std::io::{self, IsTerminal};

use base64::{Engine, prelude::BASE64_STANDARD};
use labctl_model::{Command, Tools};
use labctl_protocol::messages::{ExecIn, ExecOut};
use labctl_runtime::control::{
    Client,
    protocol::{Answer, Request},
};
use labctl_state::{LabDir, Plan};
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
};

use crate::{
    context::{Context, require_host},
    exit::{Error, Exit},
    session::answer,
    stop::Stop,
    sys,
};

const EXAMPLES: &str = "\
Examples:
  labctl exec ipvlan-2host host1 -- ip -details link
  labctl exec --host-tools ipvlan-2host host1/c1-1 -- ip neighbour
  labctl exec ipvlan-2host host1 -- bash
  labctl exec --host-tools ingress web.1 -- ip route              a task of a service
  labctl exec ingress host1/by-hand -- sh                         whatever `docker ps` on host1 lists
  labctl exec redis-cluster host1/r1 -- redis-cli -p 6371 info";

/// Run a command in a host or container
///
/// In a container it is a program of the container's own, among its files. With --host-tools it is the host's, among the
/// host's files, and only the network is the container's: so an image needs no tools, not even a shell, for its network
/// to be looked at. On a terminal the command gets one too. Its exit status becomes that of labctl. What it prints is
/// passed on byte by byte, as ssh does: pipe it through `cat -v` where you do not trust it with your terminal.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// In a container's network, run the host's program
    #[arg(long)]
    host_tools: bool,
    /// Lab, as `labctl ps` names it
    #[arg(value_name = "LAB")]
    lab: String,
    /// Where: a host, a container, or a task of a service, as `web.1`
    #[arg(value_name = "HOST[/CONTAINER]|CONTAINER|TASK")]
    place: String,
    /// Command and its arguments
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let (dir, plan) = context.lab(&args.lab)?;
    // What the topology does not have may be a task, or a container that somebody ran by hand: the host knows.
    let unknown = |(host, name): (&str, &str)| {
        plan.lab.hosts.contains_key(host) && !plan.lab.containers.contains_key(name)
    };
    let place = match args.place.split_once('/').is_some_and(unknown) {
        true => args.place,
        false => endpoint(&plan, &args.place)?,
    };
    let tools = if args.host_tools { Tools::Host } else { Tools::Own };
    in_lab(context, &dir, Command { place, tools, argv: args.command }).await
}

/// Finds the host or container that `HOST`, `CONTAINER` or `HOST/CONTAINER` names.
pub fn endpoint(plan: &Plan, place: &str) -> Result<String, Error> {
    let Some((host, container)) = place.split_once('/') else { return Ok(place.to_owned()) };
    require_host(plan, host)?;
    let containers = &plan.lab.containers;
    if containers.get(container).is_some_and(|c| c.host == host) {
        return Ok(container.to_owned());
    }
    let there: Vec<_> =
        containers.iter().filter(|(_, c)| c.host == host).map(|(name, _)| format!("{host}/{name}")).collect();
    let known = there.iter().map(String::as_str);
    Err(labctl_runtime::Error::no_such(&plan.lab, "container", place, known).into())
}

/// Runs a command, on this terminal if there is one, and returns its exit status.
pub async fn in_lab(context: &Context, dir: &LabDir, command: Command) -> Result<Exit, Error> {
    let mut stop = Stop::new()?;
    let mut resized = signal(SignalKind::window_change())
        .map_err(|e| Error::Environment(format!("cannot listen for signals: {e}")))?;
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let tty = if terminal { Some(sys::terminal_size().unwrap_or((24, 80))) } else { None };
    let mut client = Client::connect(dir).await?;
    client.send(&Request::Exec { command, tty }).await?;
    let _raw =
        if terminal { Some(sys::Raw::enter().map_err(Error::file("set up", "the terminal"))?) } else { None };
    let (mut input, mut chunk, mut open) = (tokio::io::stdin(), vec![0; 16 << 10], true);
    let mut status = None;
    while !context.printer.is_closed() {
        tokio::select! {
            out = answer(dir, &mut client) => match out? {
                Answer::Exec(ExecOut::Stdout(data)) => context.printer.bytes(&decode(&data)?)?,
                Answer::Exec(ExecOut::Stderr(data)) => context.printer.error_bytes(&decode(&data)?),
                Answer::Exec(ExecOut::Exit(code)) => status = Some(code),
                Answer::Done => break,
                _ => {}
            },
            read = input.read(&mut chunk), if open && status.is_none() => {
                let n = read.map_err(Error::file("read", "stdin"))?;
                open = n > 0;
                let said = if open { ExecIn::Stdin(BASE64_STANDARD.encode(&chunk[..n])) } else { ExecIn::Eof };
                client.send_exec(&said).await?;
            }
            _ = resized.recv(), if terminal => {
                if let Some((rows, columns)) = sys::terminal_size() {
                    client.send_exec(&ExecIn::Resize(rows, columns)).await?;
                }
            }
            () = stop.wait() => return Err(Error::Interrupted),
        }
    }
    match status {
        Some(code) => Ok(Exit(u8::try_from(code).unwrap_or(1))),
        None if context.printer.is_closed() => Ok(Exit::OK),
        None => Err(labctl_runtime::Error::Control("the command ended without a status".to_owned()).into()),
    }
}

fn decode(data: &str) -> Result<Vec<u8>, Error> {
    BASE64_STANDARD.decode(data).map_err(|e| labctl_runtime::Error::Control(e.to_string()).into())
}
