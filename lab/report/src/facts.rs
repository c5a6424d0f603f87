//! Judges facts: what was read of a running lab rather than probed.

use std::net::IpAddr;

use labctl_model::{Command, Fact, Must, Subject};

use crate::FactReport;

/// Reports a fact: what was `read` of its subject, compared with what it must be; `same` was read of the subject that
/// [`other`] names. An error says why something could not be read.
pub fn judge(
    fact: &Fact,
    read: Result<Vec<String>, String>,
    same: Result<Vec<String>, String>,
) -> FactReport {
    let (observed, error) = match (read, same) {
        (Ok(list), Ok(same)) => return report(fact, holds(&list, &fact.must, &same), list, None),
        (Ok(list), Err(e)) => (list, e),
        (Err(e), _) => (Vec::new(), e),
    };
    report(fact, false, observed, Some(format!("could not be read: {error}")))
}

/// The subject that must read the same, if there is one.
pub fn other(fact: &Fact) -> Option<Subject> {
    match &fact.must {
        Must::Same(other) => Some(about(&fact.subject, other)),
        _ => None,
    }
}

fn report(fact: &Fact, holds: bool, observed: Vec<String>, error: Option<String>) -> FactReport {
    FactReport {
        subject: subject_words(&fact.subject),
        expected: must_words(&fact.must),
        observed,
        printed: matches!(fact.subject, Subject::Exec { .. }),
        holds,
        error,
        line: fact.line,
    }
}

fn holds(list: &[String], must: &Must, same: &[String]) -> bool {
    let equal = |wanted: &[String]| {
        let sorted = |l: &[String]| l.iter().cloned().collect::<std::collections::BTreeSet<_>>();
        sorted(list) == sorted(wanted)
    };
    match must {
        Must::Equal(wanted) => equal(wanted),
        Must::Same(_) => equal(same),
        Must::Print(text) => list.join("\n").contains(text),
        Must::Contain(wanted) => wanted.iter().all(|w| list.contains(w)),
        Must::Lack(unwanted) => !unwanted.iter().any(|w| list.contains(w)),
        Must::Inside(outer) => {
            !list.is_empty()
                && list.iter().all(|item| match item.parse::<ipnet::IpNet>() {
                    Ok(net) => outer.contains(&net),
                    Err(_) => item.parse::<IpAddr>().is_ok_and(|a| outer.contains(&a)),
                })
        }
    }
}

/// The same subject of another endpoint.
fn about(subject: &Subject, other: &str) -> Subject {
    let other = other.to_owned();
    match subject {
        Subject::Interfaces(_) => Subject::Interfaces(other),
        Subject::Addresses(_) => Subject::Addresses(other),
        Subject::Hosts(_) => Subject::Hosts(other),
        Subject::Networks(_) => Subject::Networks(other),
        Subject::Subnets(_) => Subject::Subnets(other),
        Subject::Status(_) => Subject::Status(other),
        Subject::Exec { command, exits } => {
            let command = Command { place: other, ..command.clone() };
            Subject::Exec { command, exits: *exits }
        }
        Subject::Nodes(_) => Subject::Nodes(other),
        Subject::Tasks(_) => Subject::Tasks(other),
        Subject::NetworkPeers { .. } => {
            let (network, host) = other.split_once('@').unwrap_or((&other, ""));
            Subject::NetworkPeers { network: network.to_owned(), host: host.to_owned() }
        }
        Subject::Resolves { .. } => {
            let (name, from) = other.rsplit_once('@').unwrap_or((&other, ""));
            Subject::Resolves { name: name.to_owned(), from: from.to_owned() }
        }
    }
}

fn subject_words(subject: &Subject) -> String {
    match subject {
        Subject::Interfaces(e) => format!("interfaces of {e}"),
        Subject::Addresses(e) => format!("addresses of {e}"),
        Subject::Hosts(e) => format!("names in /etc/hosts of {e}"),
        Subject::Networks(h) => format!("networks of {h}"),
        Subject::Subnets(n) => format!("subnets of network {n}"),
        Subject::Status(c) => format!("status of {c}"),
        Subject::Exec { command, .. } => command.to_string(),
        Subject::Tasks(s) => format!("running tasks of {s}"),
        Subject::Nodes(h) => format!("ready nodes as {h} sees them"),
        Subject::NetworkPeers { network, host } => format!("peers on {network} as {host} knows them"),
        Subject::Resolves { name, from } => format!("what {name} resolves to in {from}"),
    }
}

fn must_words(must: &Must) -> String {
    match must {
        Must::Equal(l) if l.is_empty() => "none".to_owned(),
        Must::Equal(l) => format!("equals {}", l.join(", ")),
        Must::Contain(l) => format!("contains {}", l.join(", ")),
        Must::Lack(l) => format!("lacks {}", l.join(", ")),
        Must::Inside(net) => format!("inside {net}"),
        Must::Same(other) => format!("same as {other}"),
        Must::Print(text) if text.is_empty() => "ends as it should".to_owned(),
        Must::Print(text) => format!("prints {text}"),
    }
}
