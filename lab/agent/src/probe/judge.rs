//! Turns socket and ICMP errors into outcomes.

use std::{io, net::Ipv4Addr};

use labctl_protocol::{
    messages::Outcome,
    probe::heard::{self, Heard},
};
use nix::errno::Errno;
use tokio::time::Instant;
use vxlan::proto::icmp::{self, unreachable};

use super::space::{Expected, Space};

fn prohibited(from: Option<Ipv4Addr>) -> Outcome {
    Outcome::Unreachable { from, icmp_type: icmp::UNREACHABLE, icmp_code: unreachable::ADMIN_PROHIBITED }
}

/// The outcome of a shot that got an ICMP error.
pub async fn icmp(space: &Space, to: Ipv4Addr, from: Ipv4Addr, icmp_type: u8, icmp_code: u8) -> Outcome {
    // Our own kernel sends this to itself when ARP fails.
    if (icmp_type, icmp_code) == (icmp::UNREACHABLE, unreachable::HOST)
        && space.is_local(from)
        && let Some(hop) = space.unresolved(to, Instant::now()).await
    {
        return Outcome::ArpFailed { next_hop: Some(hop) };
    }
    heard::outcome(from, icmp_type, icmp_code)
}

/// The outcome of a shot whose socket failed.
pub async fn socket(
    space: &Space,
    to: Ipv4Addr,
    expected: Option<&mut Expected>,
    error: io::Error,
) -> Outcome {
    if let Some(Heard::Error { from, icmp_type, icmp_code }) = expected.and_then(Expected::so_far) {
        return icmp(space, to, from, icmp_type, icmp_code).await;
    }
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED | Errno::ECONNRESET) => Outcome::Refused { from: Some(to) },
        // EINVAL is the answer of a blackhole route on this host.
        Some(Errno::ENETUNREACH | Errno::EINVAL) => Outcome::NoRoute,
        Some(Errno::EHOSTUNREACH) => match space.unresolved(to, Instant::now()).await {
            Some(hop) => Outcome::ArpFailed { next_hop: Some(hop) },
            None => Outcome::Unreachable {
                from: None,
                icmp_type: icmp::UNREACHABLE,
                icmp_code: unreachable::HOST,
            },
        },
        // A prohibit route, or a rule of this host that drops what it sends.
        Some(Errno::EACCES | Errno::EPERM) => prohibited(None),
        Some(Errno::EMSGSIZE) => Outcome::Unreachable {
            from: None,
            icmp_type: icmp::UNREACHABLE,
            icmp_code: unreachable::FRAGMENTATION_NEEDED,
        },
        Some(Errno::ETIMEDOUT) => Outcome::Silent,
        _ => Outcome::Failed { why: error.to_string() },
    }
}

/// The outcome of a shot without any answer before its deadline.
pub async fn silence(space: &Space, to: Ipv4Addr, deadline: Instant) -> Outcome {
    match space.unresolved(to, deadline).await {
        Some(hop) => Outcome::ArpFailed { next_hop: Some(hop) },
        None => Outcome::Silent,
    }
}
