//! Judges a matrix: sorts what all probers report by its cells, and sums up each.

use std::{collections::BTreeMap, net::IpAddr};

use labctl_model::{Cell, Lab, Matrix, No, Observed, Target};
use labctl_protocol::messages::{Outcome, ShotResult, Sighting};

use crate::{
    Cause, CellReport, MatrixReport, Passage,
    answers::{self, Subnets},
    shots::Aim,
    snapshot::Snapshot,
    verdict::{self, Verdict},
};

/// What all probers reported of a run.
pub struct Told {
    /// Of the shots.
    pub results: Vec<ShotResult>,
    /// Of their packets.
    pub sightings: Vec<Sighting>,
    /// Endpoints where nobody could listen or watch, and why: they ended since the snapshot, or their agent or dockerd
    /// does not answer.
    pub absent: BTreeMap<String, String>,
}

/// Judges every cell of a matrix.
pub fn judge(
    lab: &Lab,
    matrix: &Matrix,
    snapshot: &Snapshot,
    subnets: &Subnets,
    aims: &[Aim],
    told: Told,
) -> MatrixReport {
    let Told { results, sightings, absent } = told;
    let mut senders: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    for (cell, aim) in matrix.cells.iter().zip(aims) {
        for shot in &aim.shots {
            let own = snapshot.addresses(lab, &cell.from).iter().map(|(_, a)| *a).collect();
            senders.insert(*shot, own);
        }
    }
    let seen = by_cell(&results, &sightings, &senders);
    let results: BTreeMap<u32, ShotResult> = results.into_iter().map(|r| (r.cell, r)).collect();
    let none = Vec::new();
    let unanswered = ShotResult {
        cell: 0,
        address: None,
        resolved: Vec::new(),
        source_port: None,
        outcome: Outcome::Failed { why: "the agent gave no result for this cell".into() },
    };
    let judged = matrix.cells.iter().zip(aims).map(|(cell, aim)| {
        let verdicts: Vec<Verdict> = match &aim.foregone {
            Some((observed, detail)) => vec![Verdict::bare(*observed, detail)],
            None => {
                let one = |number: &u32| {
                    let result = results.get(number).unwrap_or(&unanswered);
                    let seen = seen.get(number).unwrap_or(&none);
                    let verdict = verdict::judge(lab, &matrix.probe, cell, aim, snapshot, result, seen);
                    verdict.unless_absent(&matrix.probe, aim, &absent)
                };
                aim.shots.iter().map(one).collect()
            }
        };
        let mut report = answers::sum_up(cell, verdicts);
        report.causes = causes(lab, snapshot, &absent, cell, &report);
        report.causes.dedup();
        report.marks.clone_from(&aim.shots);
        let passed = aim.shots.iter().filter_map(|shot| seen.get(shot)).flatten();
        report.passages = passed.map(|sighting| passage(snapshot, sighting)).collect();
        report
    });
    let mut cells: Vec<CellReport> = judged.collect();
    answers::check(lab, matrix, snapshot, subnets, &mut cells);
    MatrixReport::new(matrix, cells)
}

fn passage(snapshot: &Snapshot, s: &Sighting) -> Passage {
    Passage {
        endpoint: s.endpoint.clone(),
        interface: s.interface.clone(),
        network: snapshot.network_of_bridge(&s.interface).map(str::to_owned),
        inbound: s.inbound,
        answer: s.answer,
        source: s.source,
        destination: s.destination,
    }
}

/// What explains that a cell is `down`, or could not be probed: what does not run, or does not answer, at its ends.
fn causes(
    lab: &Lab,
    snapshot: &Snapshot,
    absent: &BTreeMap<String, String>,
    cell: &Cell,
    report: &CellReport,
) -> Vec<Cause> {
    let to = match &cell.to {
        Target::Endpoint { name, .. } => Some(name.as_str()),
        Target::Address(address) => snapshot.owner(lab, *address),
    };
    let ends = [Some(cell.from.as_str()), to].into_iter().flatten();
    let home = |end| snapshot.home_of(lab, end).map(str::to_owned);
    match report.observed {
        Observed::No(No::Down) => ends
            .filter_map(|end| {
                if let Some(host) = home(end).filter(|host| snapshot.down.contains(host)) {
                    return Some(Cause::HostDown { host });
                }
                let stopped = snapshot.containers.get(end).filter(|_| !snapshot.runs(lab, end))?;
                Some(Cause::NotRunning { container: end.to_owned(), status: stopped.status.clone() })
            })
            .collect(),
        Observed::Failed => ends
            .filter_map(|end| {
                let host = home(end)?;
                let whys = [snapshot.unseen.get(&host), absent.get(&host)].into_iter().flatten();
                let why = whys.into_iter().find(|why| report.detail.contains(why.as_str()))?.clone();
                Some(Cause::Unseen { host, why })
            })
            .collect(),
        Observed::Yes | Observed::No(_) => Vec::new(),
    }
}

/// Sorts sightings by their cell. A TCP SYN carries no nonce: there the source port tells the cell; it survives
/// masquerading unless it is taken. If several shots share a port, the sender's address decides unless it was
/// masqueraded, else the probed address unless it was that of a published port.
fn by_cell<'a>(
    results: &[ShotResult],
    sightings: &'a [Sighting],
    senders: &BTreeMap<u32, Vec<IpAddr>>,
) -> BTreeMap<u32, Vec<&'a Sighting>> {
    let mut map: BTreeMap<u32, Vec<&Sighting>> = BTreeMap::new();
    let mut by_port: BTreeMap<u16, Vec<&ShotResult>> = BTreeMap::new();
    for result in results {
        if let Some(port) = result.source_port {
            by_port.entry(port).or_default().push(result);
        }
    }
    for sighting in sightings {
        if let Some(cell) = sighting.cell {
            map.entry(cell).or_default().push(sighting);
        } else if let Some(trace) = &sighting.tcp {
            let shots = by_port.get(&trace.client).map(Vec::as_slice).unwrap_or_default();
            let (own, peer) = match sighting.answer {
                true => (sighting.destination, sighting.source),
                false => (sighting.source, sighting.destination),
            };
            let sent = |s: &&ShotResult| senders.get(&s.cell).is_some_and(|a| a.contains(&own));
            let senders: Vec<&ShotResult> = shots.iter().copied().filter(sent).collect();
            let likely = if senders.is_empty() { shots } else { &senders };
            for shot in likely.iter().filter(|s| likely.len() == 1 || s.address == Some(peer)) {
                map.entry(shot.cell).or_default().push(sighting);
            }
        }
    }
    map
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use labctl_model::{Check, No, Observed};

    use super::*;

    const LAB: &str = "
name: t
segments: { lan: { subnet: 10.0.0.0/24 } }
hosts: { a: { lan: 10.0.0.1 }, b: { lan: 10.0.0.2 }, c: { lan: 10.0.0.3 } }
expect:
  - { probe: icmp, from: a, to: [b, c], verdict: no }
";

    #[test]
    fn a_no_holds_only_where_somebody_could_watch() {
        let lab = labctl_topology::parse(LAB, "t.yaml").unwrap();
        let Check::Matrix(matrix) = &lab.expect[0] else { panic!() };
        let snapshot = Snapshot::default();
        let (_, aims) = crate::shots::plan(&lab, matrix, &snapshot);
        let silent = |cell| ShotResult {
            cell,
            address: None,
            resolved: Vec::new(),
            source_port: None,
            outcome: Outcome::Silent,
        };
        let told = Told {
            results: vec![silent(0), silent(1)],
            sightings: Vec::new(),
            absent: BTreeMap::from([("b".to_owned(), "it ended".to_owned())]),
        };
        let reports = judge(&lab, matrix, &snapshot, &Subnets::new(), &aims, told).cells;
        assert_eq!(reports[0].observed, Observed::Failed);
        assert_eq!(reports[0].detail, "nobody could listen or watch in b: it ended");
        assert!(!reports[0].holds);
        assert_eq!(reports[1].observed, Observed::No(No::Silent));
        assert!(reports[1].holds);
    }
}
