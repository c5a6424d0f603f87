//! The cell that `probe` and `explain` are about.

use std::time::Duration;

use labctl_model::{By, Cell, Check, Expected, Family, Lab, Matrix, NoProbe, Probe, Probed, Target};
use labctl_report::{CellReport, Found, MatrixReport, Report};
use labctl_runtime::{Checking, Expectations, control::protocol::Request};
use labctl_state::LabDir;

use crate::{exit::Error, progress::Progress, session, stop::Stop};

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
    #[arg(value_name = "PROBE", default_value = "icmp", value_parser = probe)]
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

fn probe(text: &str) -> Result<Probe, String> {
    text.parse().map_err(|e: NoProbe| format!("{e}; there are icmp, tcp/PORT, udp/PORT and dns/NAME"))
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

    /// Probes it in a lab that is up. With `how.trace` the report has all that was seen of it.
    pub async fn fire(
        &self,
        to: Target,
        timeout: Duration,
        how: Checking,
        dir: &LabDir,
        progress: &mut Progress<'_>,
    ) -> Result<Report, Error> {
        let probe = self.probe.clone();
        if self.size.is_some_and(|s| s > 9000) && !matches!(probe, Probe::Tcp(_)) {
            return Err(Error::Usage(format!("{probe} is sent in one packet, of 48 to 9000 bytes")));
        }
        if matches!(probe, Probe::Dns(_)) && (self.size.is_some() || self.by_name) {
            return Err(Error::Usage("a look-up has neither --size nor --by-name".to_owned()));
        }
        // Nothing is expected: with `no` a `yes` gets its reason as well.
        let cell = Cell { from: self.from.clone(), to, expected: Expected::No, answers: None, line: 0 };
        let matrix = Matrix {
            probe,
            size: self.size,
            by: self.by(),
            family: self.probed(),
            timeout,
            within: Duration::ZERO,
            cells: vec![cell],
            answers: Vec::new(),
            wire: Vec::new(),
            line: 0,
        };
        let expectations = Box::new(Expectations { expect: vec![Check::Matrix(matrix)], steps: Vec::new() });
        let mut stop = Stop::new()?;
        session::check_by(dir, &Request::CheckOther { how, expectations }, progress, &mut stop).await
    }

    /// The address family, as in a table.
    pub fn probed(&self) -> Probed {
        self.family.map_or(Probed::Shared, Probed::Only)
    }
}

/// The only cell of a report, and its matrix.
pub fn only(report: &Report) -> Result<(&MatrixReport, &CellReport), Error> {
    let matrix = report.checks.first().and_then(|check| match &check.found {
        Found::Matrix(matrix) => Some((matrix, matrix.cells.first()?)),
        Found::Fact(_) | Found::Frame(_) => None,
    });
    Ok(matrix.ok_or_else(|| labctl_runtime::Error::Control("the probe ended without a result".to_owned()))?)
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
