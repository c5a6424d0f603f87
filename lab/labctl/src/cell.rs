//! The cell that `probe` and `explain` are about.

use labctl_model::{By, Family, Lab, Probe, Probed, Target};

use crate::exit::Error;

/// A cell: who asks whom, and how.
#[derive(Debug, clap::Args)]
pub struct CellArgs {
    /// Who asks
    #[arg(value_name = "FROM")]
    pub from: String,
    /// Who is asked
    #[arg(value_name = "TO")]
    pub to: String,
    /// What is sent: icmp, tcp/PORT, udp/PORT or dns/NAME
    #[arg(value_name = "PROBE", default_value = "icmp")]
    pub probe: Probe,
    /// Look TO up by its name
    #[arg(long)]
    pub by_name: bool,
    /// Address family, 4 or 6; default 4 where both ends have it, else 6
    #[arg(long, value_name = "4|6", value_parser = family)]
    pub family: Option<Family>,
    /// Bytes: of the packet (icmp, udp), or over the connection (tcp)
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(48..=16_777_216))]
    pub size: Option<u32>,
}

impl CellArgs {
    /// Who is asked; refuses a name that the lab does not have, and an address by name.
    pub fn target(&self, lab: &Lab) -> Result<Target, Error> {
        let target = Target::from(self.to.as_str());
        endpoint(lab, &self.from, &[])?;
        if let Target::Endpoint { name, .. } = &target {
            endpoint(lab, name, &lab.services.keys().map(String::as_str).collect::<Vec<_>>())?;
        }
        if self.by_name && matches!(target, Target::Address(_)) {
            let to = &self.to;
            return Err(Error::Usage(format!(
                "{to} has no name to be reached by\nhint: leave out --by-name"
            )));
        }
        Ok(target)
    }

    /// Whether by address or by name.
    pub fn by(&self) -> By {
        if self.by_name { By::Name } else { By::Address }
    }

    /// The address family, as in a table.
    pub fn probed(&self) -> Probed {
        self.family.map_or(Probed::Shared, Probed::Only)
    }
}

/// Reads an address family: `4` or `6`.
fn family(text: &str) -> Result<Family, String> {
    match text {
        "4" => Ok(Family::V4),
        "6" => Ok(Family::V6),
        _ => Err("4 or 6".to_owned()),
    }
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
