//! Finds checks that need a dockerd which steps have ended.

use super::cells::Scope;
use labctl_model::check::{Check, Fact, Subject};

/// The host whose dockerd is down though this check needs it: nobody else knows the answer.
pub(super) fn missing<'a>(check: &'a Check, scope: &'a Scope) -> Option<&'a str> {
    let Check::Fact(Fact { subject, .. }) = check else { return None };
    let host = match subject {
        Subject::Status(name) => scope.lab.containers.get(name)?.host.as_str(),
        Subject::Networks(name) | Subject::NetworkPeers { host: name, .. } => name,
        // What runs there is known from before. Another host that has the network, or another manager, may answer.
        _ => return None,
    };
    scope.undocked.contains_key(host).then_some(host)
}
