//! `labctl explain`

use labctl_model::{By, Family, Lab, Probe, Probed, Target};
use labctl_oracle::Query;
use labctl_render::predicted;

use crate::{
    context::Context,
    engines::Engines,
    exit::{Error, Exit},
    printer::Format,
    topology,
};

const EXAMPLES: &str = "\
Examples:
  labctl explain topologies/ipvlan-2host.yaml host1 c1-1
  labctl explain topologies/ingress.yaml client host3 tcp/8080
  labctl explain topologies/vpn-conflict.yaml host1 172.20.2.52 --step 1
  labctl explain lab.yaml c1 c2@backend icmp --size 1400
  labctl explain lab.yaml web db tcp/5432 --by-name
  labctl explain ipvlan-2host c1-1 host1              of a lab that is up

Each line of the walk is a place (namespace/interface, or a segment), the packet as it is there, and the rule, route or table
that decides. If the cell is not `yes`, single changes to the topology that make it so are below, each with the other
cells that it changes.";

/// Walk one packet through a topology, hop by hop, and say where and why it ends, and what would let it through
///
/// FROM is a host, container or peer. TO is one of these, a service, an address, or NAME@NETWORK, as in the tables of a
/// topology. The cell need not be one that the topology expects anything of.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Topology, or a lab that is up
    #[arg(value_name = "FILE|LAB")]
    what: String,
    /// Who asks
    #[arg(value_name = "FROM")]
    from: String,
    /// Who is asked
    #[arg(value_name = "TO")]
    to: String,
    /// What is sent: icmp, tcp/PORT, udp/PORT or dns/NAME
    #[arg(value_name = "PROBE", default_value = "icmp")]
    probe: Probe,
    /// After so many of the topology's steps
    #[arg(long, value_name = "N", default_value_t = 0)]
    step: usize,
    /// Look TO up by its name
    #[arg(long)]
    by_name: bool,
    /// Address family, 4 or 6; default 4 where both ends have it, else 6
    #[arg(long, value_name = "4|6", value_parser = family)]
    family: Option<Family>,
    /// Bytes: of the packet (icmp, udp), or over the connection (tcp)
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(48..=16_777_216))]
    size: Option<u32>,
    #[command(flatten)]
    engines: Engines,
}

/// Runs the verb.
pub fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let topology = topology::named(&args.what, &args.engines, context)?;
    let lab = &topology.lab;
    let to = ends(lab, &args.from, &args.to, args.by_name)?;
    if args.step > lab.steps.len() {
        let message =
            format!("lab `{}` has {} steps, so there is no step {}", lab.name, lab.steps.len(), args.step);
        return Err(Error::Usage(format!("{message}\nhint: --step 0 is the lab as it comes up")));
    }
    let by = if args.by_name { By::Name } else { By::Address };
    let family = args.family.map_or(Probed::Shared, Probed::Only);
    let query =
        Query { from: args.from, to, probe: args.probe, by, family, size: args.size, step: args.step };
    let explanation = labctl_oracle::explain(lab, &query);
    match context.printer.format {
        Format::Json => context.printer.json(&explanation)?,
        Format::Text => context.printer.data(&predicted::explained(&explanation))?,
    }
    Ok(Exit::OK)
}

/// Reads an address family: `4` or `6`.
pub fn family(text: &str) -> Result<Family, String> {
    match text {
        "4" => Ok(Family::V4),
        "6" => Ok(Family::V6),
        _ => Err("4 or 6".to_owned()),
    }
}

/// Reads who is asked; refuses a name that the lab does not have, and an address by name.
pub fn ends(lab: &Lab, from: &str, to: &str, by_name: bool) -> Result<Target, Error> {
    let target = Target::from(to);
    endpoint(lab, from, &[])?;
    if let Target::Endpoint { name, .. } = &target {
        endpoint(lab, name, &lab.services.keys().map(String::as_str).collect::<Vec<_>>())?;
    }
    if by_name && matches!(target, Target::Address(_)) {
        return Err(Error::Usage(format!("{to} has no name to be reached by\nhint: leave out --by-name")));
    }
    Ok(target)
}

/// Refuses a name that the lab does not have.
fn endpoint(lab: &Lab, name: &str, more: &[&str]) -> Result<(), Error> {
    if lab.is_endpoint(name) || more.contains(&name) {
        return Ok(());
    }
    if lab.services.contains_key(name) {
        let hint = "a service is asked and asks nobody; a container on its network does";
        return Err(Error::Usage(format!("`{name}` is a service\nhint: {hint}")));
    }
    let known: Vec<&str> = lab.endpoints().chain(more.iter().copied()).collect();
    let hint = match labctl_words::nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it has {}", known.into_iter().take(20).collect::<Vec<_>>().join(", ")),
    };
    Err(Error::Usage(format!("lab `{}` has no `{name}`\nhint: {hint}", lab.name)))
}
