//! Finds checks that need a dockerd which steps have ended.

use super::cells::Scope;
use labctl_model::{
    check::{Check, Fact, Subject, Target},
    inject::Source,
};

/// The host whose dockerd is down though this check needs it: its containers, networks and tasks are read of it.
pub(super) fn missing<'a>(check: &'a Check, scope: &'a Scope) -> Option<&'a str> {
    if scope.undocked.is_empty() {
        return None;
    }
    let host = |host: &'a str| scope.undocked.contains_key(host).then_some(host);
    let container = |name: &str| host(&scope.lab.containers.get(name)?.host);
    match check {
        Check::Matrix(matrix) => matrix.cells.iter().find_map(|cell| {
            let to = match &cell.to {
                Target::Endpoint { name, .. } => container(name),
                Target::Address(_) => None,
            };
            container(&cell.from).or(to)
        }),
        Check::Inject(inject) => {
            let from = match &inject.from {
                Source::Endpoint { name, .. } => container(name),
                Source::Wire(_) => None,
            };
            from.or_else(|| inject.received_by.iter().find_map(|name| container(name)))
        }
        Check::Fact(Fact { subject, .. }) => match subject {
            Subject::Interfaces(name)
            | Subject::Addresses(name)
            | Subject::Hosts(name)
            | Subject::Status(name) => container(name),
            Subject::Exec { command, .. } => container(&command.place),
            Subject::Networks(name) | Subject::NetworkPeers { host: name, .. } => host(name),
            // Another host that has the network, or another manager, may answer.
            Subject::Subnets(_) | Subject::Nodes(_) | Subject::Tasks(_) => None,
        },
    }
}
