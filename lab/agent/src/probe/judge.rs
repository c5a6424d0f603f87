//! Turns socket and ICMP errors into outcomes.

use std::{io, net::IpAddr};

use labctl_model::OfFamily;
use labctl_protocol::{
    messages::Outcome,
    probe::heard::{self, Heard},
};
use nix::errno::Errno;
use tokio::time::Instant;

use super::space::{Expected, Space, Unresolved};

/// An error that our own kernel knows without a message.
fn own((icmp_type, icmp_code): (u8, u8)) -> Outcome {
    Outcome::Unreachable { from: None, icmp_type, icmp_code }
}

/// The outcome of a shot whose next hop is not known.
fn unresolved(why: Unresolved) -> Outcome {
    match why {
        Unresolved::Silent(hop) => Outcome::NeighborFailed { next_hop: Some(hop) },
        Unresolved::NoRoom => Outcome::Failed {
            why: "its kernel has no room for another neighbour and sent nothing: probe fewer pairs at once, or raise \
                  net.ipv4.neigh.default.gc_thresh3 (for IPv6 net.ipv6) of the machine whose kernel it is"
                .to_owned(),
        },
    }
}

/// The outcome of a shot that got an ICMP error.
pub async fn icmp(space: &Space, to: IpAddr, from: IpAddr, icmp_type: u8, icmp_code: u8) -> Outcome {
    // Our own kernel sends this to itself when ARP or neighbour discovery fails.
    if (icmp_type, icmp_code) == heard::host_unreachable(from.family())
        && space.is_local(from)
        && let Some(Unresolved::Silent(hop)) = space.unresolved(to, Instant::now()).await
    {
        return Outcome::NeighborFailed { next_hop: Some(hop) };
    }
    heard::outcome(from, icmp_type, icmp_code)
}

/// The outcome of a shot whose socket failed.
pub async fn socket(space: &Space, to: IpAddr, expected: Option<&mut Expected>, error: io::Error) -> Outcome {
    if let Some(Heard::Error { from, icmp_type, icmp_code }) = expected.and_then(Expected::so_far) {
        return icmp(space, to, from, icmp_type, icmp_code).await;
    }
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED | Errno::ECONNRESET) => Outcome::Refused { from: Some(to) },
        // EINVAL is the answer of a blackhole route on this host.
        // Without any IPv6 address, there is none to send from.
        Some(Errno::ENETUNREACH | Errno::EINVAL | Errno::EADDRNOTAVAIL) => Outcome::NoRoute,
        Some(Errno::EHOSTUNREACH) => match space.unresolved(to, Instant::now()).await {
            Some(why) => unresolved(why),
            None => own(heard::host_unreachable(to.family())),
        },
        // A prohibit route, or a rule of this host that drops what it sends.
        Some(Errno::EACCES | Errno::EPERM) => own(heard::prohibited(to.family())),
        Some(Errno::EMSGSIZE) => own(heard::too_big(to.family())),
        Some(Errno::ETIMEDOUT) => Outcome::Silent,
        _ => Outcome::Failed { why: error.to_string() },
    }
}

/// The outcome of a shot without any answer before its deadline.
pub async fn silence(space: &Space, to: IpAddr, deadline: Instant) -> Outcome {
    match space.unresolved(to, deadline).await {
        Some(why) => unresolved(why),
        None => Outcome::Silent,
    }
}
