//! What ICMP brings back for a shot: an echo reply, or an error that quotes one of our packets.

use std::net::{IpAddr, SocketAddr};

use labctl_model::{Family, OfFamily};
use tokio::time::Instant;
use vxlan::{
    IcmpView, IpView,
    proto::{icmp, icmpv6, ip_protocol},
};

use super::nonce::Nonce;
use crate::messages::Outcome;

/// Types of ICMP and of ICMPv6 messages that report an error about a packet.
const ERRORS: &[u8] = &[icmp::UNREACHABLE, icmp::TIME_EXCEEDED, icmp::PARAMETER_PROBLEM];
const ERRORS_V6: &[u8] =
    &[icmpv6::UNREACHABLE, icmpv6::PACKET_TOO_BIG, icmpv6::TIME_EXCEEDED, icmpv6::PARAMETER_PROBLEM];

/// The types of ICMP messages that are read here, of a family.
pub fn types(family: Family) -> Vec<u8> {
    let (reply, errors) = reply_and_errors(family);
    errors.iter().copied().chain([reply]).collect()
}

fn reply_and_errors(family: Family) -> (u8, &'static [u8]) {
    match family {
        Family::V4 => (icmp::ECHO_REPLY, ERRORS),
        Family::V6 => (icmpv6::ECHO_REPLY, ERRORS_V6),
    }
}

/// Assigns an answer, or the packet quoted in an ICMP error, to its shot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Identifier and sequence number of an echo.
    Echo(u16, u16),
    /// Protocol, our port, and the far end.
    Port(u8, u16, SocketAddr),
}

/// What ICMP told about a shot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The echo came back, at this time.
    Reply(Instant),
    /// An ICMP error.
    Error {
        /// Who sent it.
        from: IpAddr,
        /// ICMP type.
        icmp_type: u8,
        /// ICMP code.
        icmp_code: u8,
    },
}

/// The outcome of the shot that an ICMP error quotes.
pub fn outcome(from: IpAddr, icmp_type: u8, icmp_code: u8) -> Outcome {
    match is_port_unreachable(from.family(), icmp_type, icmp_code) {
        true => Outcome::Refused { from: Some(from) },
        false => Outcome::Unreachable { from: Some(from), icmp_type, icmp_code },
    }
}

/// Whether this is the error about a port on which nobody listens.
pub fn is_port_unreachable(family: Family, icmp_type: u8, icmp_code: u8) -> bool {
    let wanted = match family {
        Family::V4 => (icmp::UNREACHABLE, icmp::unreachable::PORT),
        Family::V6 => (icmpv6::UNREACHABLE, icmpv6::unreachable::PORT),
    };
    (icmp_type, icmp_code) == wanted
}

/// Type and code of the error about a host that does not answer ARP or neighbour discovery.
pub fn host_unreachable(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (icmp::UNREACHABLE, icmp::unreachable::HOST),
        Family::V6 => (icmpv6::UNREACHABLE, icmpv6::unreachable::ADDRESS),
    }
}

/// Type and code of the error about a packet that a filter forbids.
pub fn prohibited(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (icmp::UNREACHABLE, icmp::unreachable::ADMIN_PROHIBITED),
        Family::V6 => (icmpv6::UNREACHABLE, icmpv6::unreachable::ADMIN_PROHIBITED),
    }
}

/// Type and code of the error about a packet that is too big.
pub fn too_big(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (icmp::UNREACHABLE, icmp::unreachable::FRAGMENTATION_NEEDED),
        Family::V6 => (icmpv6::PACKET_TOO_BIG, 0),
    }
}

/// Reads a packet with an ICMP message of this run, from its IP header on.
pub fn read(packet: &[u8], run: u64) -> Option<(Key, Heard)> {
    let ip = IpView::header_checked(packet).ok()?;
    ip.is_icmp().then_some(())?;
    message(ip.payload(), ip.src(), run)
}

/// Reads an ICMP message of this run; its family is that of the sender.
pub fn message(message: &[u8], from: IpAddr, run: u64) -> Option<(Key, Heard)> {
    let message = IcmpView::new_checked(message).ok()?;
    let (reply, errors) = reply_and_errors(from.family());
    if message.icmp_type() == reply {
        let (nonce, _) = Nonce::read(message.payload())?;
        let key = Key::Echo(message.id(), message.seq());
        return (nonce.run == run).then(|| (key, Heard::Reply(Instant::now())));
    }
    if !errors.contains(&message.icmp_type()) {
        return None;
    }
    let heard = Heard::Error { from, icmp_type: message.icmp_type(), icmp_code: message.code() };
    Some((quoted(message.payload())?, heard))
}

/// Which shot an ICMP error quotes: an IP header and at least the 8 octets that follow it (RFC 792).
fn quoted(quote: &[u8]) -> Option<Key> {
    let ip = IpView::header_checked(quote).ok()?;
    let head = ip.payload();
    let word = |at: usize| Some(u16::from_be_bytes(*head.get(at..)?.first_chunk()?));
    match ip.protocol() {
        _ if ip.is_icmp() => Some(Key::Echo(word(4)?, word(6)?)),
        ip_protocol::TCP | ip_protocol::UDP => {
            Some(Key::Port(ip.protocol(), word(0)?, SocketAddr::new(ip.dst(), word(2)?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use vxlan::{checksum::Addresses, reply};

    use super::*;
    use crate::probe::nonce::Kind;

    /// Two ends, and a router between them.
    const LABS: [[&str; 3]; 2] = [["10.0.0.1", "10.0.0.2", "10.0.0.254"], ["fd00::1", "fd00::2", "fd00::fe"]];

    fn packet(src: IpAddr, dst: IpAddr, message: impl Fn(Addresses) -> Vec<u8>) -> Vec<u8> {
        let ends = Addresses::of(src, dst).unwrap();
        reply::ip(ends, ends.icmp(), 64, &message(ends))
    }

    fn each_family(test: impl Fn(IpAddr, IpAddr, IpAddr)) {
        for [a, b, r] in LABS {
            test(a.parse().unwrap(), b.parse().unwrap(), r.parse().unwrap());
        }
    }

    #[test]
    fn an_echo_reply_counts_only_with_the_runs_nonce() {
        each_family(|a, b, _| {
            let nonce = Nonce { kind: Kind::Request, run: 5, cell: 9 }.bytes();
            let kind = if a.is_ipv4() { icmp::ECHO_REPLY } else { icmpv6::ECHO_REPLY };
            let reply =
                |payload: &[u8]| packet(b, a, |ends| ends.icmp_message(kind, 0, [0, 7, 0, 8], payload));
            let (key, heard) = read(&reply(&nonce), 5).unwrap();
            assert_eq!(key, Key::Echo(7, 8));
            assert!(matches!(heard, Heard::Reply(_)));
            assert_eq!(read(&reply(&nonce), 6), None);
            assert_eq!(read(&reply(b"ping"), 5), None);
        });
    }

    #[test]
    fn errors_are_matched_by_the_packet_they_quote() {
        each_family(|a, b, r| {
            let (icmp_type, icmp_code) = host_unreachable(a.family());
            let about =
                |quoted: &[u8]| packet(r, a, |ends| ends.icmp_message(icmp_type, icmp_code, [0; 4], quoted));
            let heard = Heard::Error { from: r, icmp_type, icmp_code };
            let echo = packet(a, b, |ends| ends.echo_request(7, 8, b""));
            assert_eq!(read(&about(&echo), 5), Some((Key::Echo(7, 8), heard)));
            // Only eight octets of the datagram, as RFC 792 asks for at least.
            let ends = Addresses::of(a, b).unwrap();
            let udp = reply::ip(ends, 17, 64, &[0x9C, 0x40, 0, 53, 0, 8, 0, 0]);
            let key = Key::Port(17, 40_000, SocketAddr::new(b, 53));
            assert_eq!(read(&about(&udp), 5), Some((key, heard)));
            assert_eq!(read(&about(&udp[..udp.len() - 6]), 5), None, "no whole port");
            assert_eq!(read(&about(&[]), 5), None);
        });
    }
}
