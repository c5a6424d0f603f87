//! Who answered, and which source they saw: summed up over the requests of a cell and compared with the topology.

use std::{collections::BTreeMap, net::IpAddr};

use indexmap::{IndexMap, IndexSet};
use ipnet::IpNet;
use labctl_model::{Answers, Cell, Lab, Matrix, Observed, SourceSeen};

use crate::{CellReport, snapshot::Snapshot, verdict::Verdict};

/// Subnets of the networks that a matrix expects sources to be in, by the topology's name.
pub type Subnets = BTreeMap<String, Vec<IpNet>>;

/// Sums up all requests of a cell in one report.
pub fn sum_up(cell: &Cell, verdicts: Vec<Verdict>) -> CellReport {
    let wrong = |v: &&Verdict| !v.observed.meets(cell.expected);
    let (requests, failed) = (verdicts.len(), verdicts.iter().filter(wrong).count());
    let mut takers: IndexMap<&str, usize> = IndexMap::new();
    let mut source: IndexSet<IpAddr> = IndexSet::new();
    for verdict in &verdicts {
        if let Some(by) = &verdict.by {
            *takers.entry(by).or_default() += 1;
        }
        source.extend(verdict.source);
    }
    let first = verdicts.iter().find(wrong).or(verdicts.first());
    let (observed, detail) =
        first.map_or((Observed::Failed, String::new()), |v| (v.observed, v.detail.clone()));
    let detail = match (requests, failed) {
        (1, _) => detail,
        (_, 0) => {
            let times = |(by, n): (&&str, &usize)| format!("{by} {n} of {requests} times");
            let by = takers.iter().map(times).collect::<Vec<_>>().join(", ");
            let saw = listed(&source.iter().map(ToString::to_string).collect::<Vec<_>>(), "and");
            match (takers.is_empty(), source.is_empty()) {
                (true, _) => detail,
                (false, true) => format!("answered by {by}"),
                (false, false) => format!("answered by {by}; {saw} seen as the source"),
            }
        }
        _ => format!("{failed} of {requests} requests: {detail}"),
    };
    CellReport {
        from: cell.from.clone(),
        to: cell.to.to_string(),
        expected: cell.expected,
        observed,
        holds: false,
        detail,
        causes: Vec::new(),
        rtt_us: first.and_then(|v| v.rtt_us),
        answered_by: takers.keys().map(|t| (*t).to_owned()).collect(),
        source: source.into_iter().collect(),
        unmet: None,
        predicted: None,
        marks: Vec::new(),
        passages: Vec::new(),
        line: cell.line,
    }
}

/// Notes in a matrix's reports, which are in the order of its cells, which answers are not as the topology asks.
pub fn check(lab: &Lab, matrix: &Matrix, snapshot: &Snapshot, subnets: &Subnets, reports: &mut [CellReport]) {
    for (cell, report) in matrix.cells.iter().zip(reports.iter_mut()) {
        let asked = cell.answers.and_then(|index| matrix.answers.get(index));
        if let (Some(asked), Observed::Yes) = (asked, report.observed) {
            report.unmet = unmet(lab, snapshot, subnets, asked, report);
        }
    }
    for (index, asked) in matrix.answers.iter().enumerate().filter(|(_, a)| a.every) {
        let share: Vec<usize> = (0..matrix.cells.len())
            .filter(|n| matrix.cells.get(*n).is_some_and(|c| c.answers == Some(index)))
            .collect();
        let takers: IndexSet<&String> =
            share.iter().filter_map(|n| reports.get(*n)).flat_map(|r| &r.answered_by).collect();
        let never = asked.by.iter().filter(|name| !takers.iter().any(|t| is(snapshot, t, name)));
        let never: Vec<String> = never.cloned().collect();
        if never.is_empty() {
            continue;
        }
        let requests = share.len() * asked.requests as usize;
        let why = format!("{} never answered in {requests} requests", listed(&never, "and"));
        for number in share {
            if let Some(report) = reports.get_mut(number)
                && report.observed == Observed::Yes
            {
                report.unmet.get_or_insert_with(|| why.clone());
            }
        }
    }
}

/// Which part of a cell's answers is not as asked.
fn unmet(
    lab: &Lab,
    snapshot: &Snapshot,
    subnets: &Subnets,
    asked: &Answers,
    report: &CellReport,
) -> Option<String> {
    let wanted = listed(&asked.by, "or");
    if !asked.by.is_empty() {
        if report.answered_by.is_empty() {
            return Some(format!("nobody said who answered, which was to be {wanted}"));
        }
        let stranger = report.answered_by.iter().find(|t| !asked.by.iter().any(|name| is(snapshot, t, name)));
        if let Some(taker) = stranger {
            return Some(format!("{taker} answered, not {wanted}"));
        }
    }
    let source = asked.source.as_ref()?;
    if report.source.is_empty() {
        return Some(format!("it is not known whom the backend saw as the source, which was to be {source}"));
    }
    let stranger = report.source.iter().find(|a| !admits(lab, snapshot, subnets, source, **a))?;
    let meaning = match source {
        SourceSeen::Address(_) | SourceSeen::Subnet(_) => String::new(),
        SourceSeen::Endpoint(name) => {
            meaning(snapshot.addresses(lab, name).into_iter().map(|(_, a)| a.to_string()))
        }
        SourceSeen::Network(name) => {
            meaning(subnets.get(name).into_iter().flatten().map(ToString::to_string))
        }
    };
    let by = listed(&report.answered_by, "and");
    let by = if by.is_empty() { "the backend".to_owned() } else { by };
    Some(format!("{by} saw {stranger} as the source, not {source}{meaning}"))
}

fn meaning(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { " (which has no address)".into() } else { format!(" ({})", parts.join(", ")) }
}

/// Whether this name is the one who answered, or the service whose task it is.
fn is(snapshot: &Snapshot, taker: &str, name: &str) -> bool {
    taker == name || snapshot.tasks.get(taker).is_some_and(|t| t.service == name)
}

fn admits(lab: &Lab, snapshot: &Snapshot, subnets: &Subnets, source: &SourceSeen, address: IpAddr) -> bool {
    match source {
        SourceSeen::Address(wanted) => *wanted == address,
        SourceSeen::Subnet(net) => net.contains(&address),
        SourceSeen::Endpoint(name) => snapshot.addresses(lab, name).iter().any(|(_, a)| *a == address),
        SourceSeen::Network(name) => {
            subnets.get(name).is_some_and(|all| all.iter().any(|n| n.contains(&address)))
        }
    }
}

/// `a`, `a or b`, `a, b or c`.
fn listed(words: &[String], last: &str) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., end] => format!("{} {last} {end}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use labctl_model::Check;

    use super::*;
    use crate::snapshot::TaskAt;

    const LAB: &str = "
name: t
segments: { lan: { subnet: 10.1.0.0/24 } }
hosts: { a: { lan: 10.1.0.1 }, b: { lan: 10.1.0.2 } }
swarm: {}
peers: { client: { lan: 10.1.0.20 } }
services: { web: { ports: [ '8080:80' ], deploy: { replicas: 2 } } }
expect:
  - { probe: tcp/8080, from: client, to: [a, b], verdict: yes, ";

    fn yes(by: &str, source: &str) -> Verdict {
        let (by, source) = (Some(by.to_owned()), Some(source.parse().unwrap()));
        Verdict { by, source, ..Verdict::bare(Observed::Yes, "") }
    }

    /// What is unmet of two cells with these verdicts.
    fn unmet_of(asked: &str, cells: [Vec<Verdict>; 2]) -> Vec<Option<String>> {
        let lab = labctl_topology::parse(&format!("{LAB}{asked} }}\n"), "t.yaml").unwrap();
        let Check::Matrix(matrix) = &lab.expect[0] else { panic!() };
        let mut snapshot = Snapshot::default();
        for task in ["web.1", "web.2"] {
            snapshot.tasks.insert(task.into(), TaskAt { service: "web".into(), host: "a".into() });
        }
        let subnets = Subnets::from([("ingress".to_owned(), vec!["10.0.0.0/24".parse().unwrap()])]);
        let mut reports: Vec<_> = matrix.cells.iter().zip(cells).map(|(c, v)| sum_up(c, v)).collect();
        check(&lab, matrix, &snapshot, &subnets, &mut reports);
        reports.into_iter().map(|r| r.unmet).collect()
    }

    #[test]
    fn each_answer_must_come_from_one_that_is_named() {
        let cells = || [vec![yes("web.1", "10.0.0.2")], vec![yes("web.2", "10.0.0.3")]];
        assert_eq!(unmet_of("answered_by: web", cells()), [None, None]);
        assert_eq!(unmet_of("answered_by: [web.1, web.2]", cells()), [None, None]);
        let second = Some("web.2 answered, not web.1".to_owned());
        assert_eq!(unmet_of("answered_by: web.1", cells()), [None, second]);
    }

    #[test]
    fn with_requests_each_that_is_named_must_answer_somewhere() {
        let one = || vec![yes("web.1", "10.0.0.2"); 2];
        let both = [one(), vec![yes("web.1", "10.0.0.2"), yes("web.2", "10.0.0.2")]];
        assert_eq!(unmet_of("answered_by: [web.1, web.2], requests: 2", both), [None, None]);
        let never = Some("web.2 never answered in 4 requests".to_owned());
        assert_eq!(
            unmet_of("answered_by: [web.1, web.2], requests: 2", [one(), one()]),
            [never.clone(), never]
        );
    }

    #[test]
    fn sources_are_held_against_addresses_endpoints_subnets_and_networks() {
        let cells = || [vec![yes("web.1", "10.0.0.2")], vec![yes("web.1", "10.1.0.20")]];
        let (first, second) = ([true, false], [false, true]);
        for (source, holds) in [
            ("10.0.0.2", first),
            ("10.0.0.0/24", first),
            ("ingress", first),
            ("client", second),
            ("10.1.0.20", second),
        ] {
            let unmet = unmet_of(&format!("source: {source}"), cells());
            assert_eq!(unmet.iter().map(Option::is_none).collect::<Vec<_>>(), holds, "{source}: {unmet:?}");
        }
        let said = unmet_of("source: client", cells())[0].clone().unwrap();
        assert_eq!(said, "web.1 saw 10.0.0.2 as the source, not client (10.1.0.20)");
    }

    #[test]
    fn one_request_of_several_that_fails_is_what_came_out() {
        let lab = labctl_topology::parse(&format!("{LAB} requests: 2 }}\n"), "t.yaml").unwrap();
        let Check::Matrix(matrix) = &lab.expect[0] else { panic!() };
        let refused = Verdict::bare(Observed::No(labctl_model::No::Refused), "refused by a");
        let report = sum_up(&matrix.cells[0], vec![yes("web.1", "10.0.0.2"), refused]);
        assert_eq!(report.observed, Observed::No(labctl_model::No::Refused));
        assert_eq!(report.detail, "1 of 2 requests: refused by a");
    }
}
