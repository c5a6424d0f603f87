//! What ICMP brings back for a shot: an echo reply, or an error that quotes one of our packets.

use std::net::{Ipv4Addr, SocketAddrV4};

use tokio::time::Instant;
use vxlan::{
    IcmpView, Ipv4View,
    proto::{
        icmp::{self, unreachable},
        ip_protocol,
    },
};

use super::nonce::Nonce;
use crate::messages::Outcome;

/// Assigns an answer, or the packet quoted in an ICMP error, to its shot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Identifier and sequence number of an echo.
    Echo(u16, u16),
    /// Protocol, our port, and the far end.
    Port(u8, u16, SocketAddrV4),
}

/// What ICMP told about a shot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The echo came back, at this time.
    Reply(Instant),
    /// An ICMP error.
    Error {
        /// Who sent it.
        from: Ipv4Addr,
        /// ICMP type.
        icmp_type: u8,
        /// ICMP code.
        icmp_code: u8,
    },
}

/// The outcome of the shot that an ICMP error quotes.
pub fn outcome(from: Ipv4Addr, icmp_type: u8, icmp_code: u8) -> Outcome {
    match (icmp_type, icmp_code) {
        (icmp::UNREACHABLE, unreachable::PORT) => Outcome::Refused { from: Some(from) },
        _ => Outcome::Unreachable { from: Some(from), icmp_type, icmp_code },
    }
}

/// Reads an ICMP message of this run from a raw socket, with its IP header.
pub fn read(packet: &[u8], run: u64) -> Option<(Key, Heard)> {
    let ip = Ipv4View::header_checked(packet).ok()?;
    let message = IcmpView::new_checked(ip.payload()).ok()?;
    if message.icmp_type() == icmp::ECHO_REPLY {
        let (nonce, _) = Nonce::read(message.payload())?;
        let key = Key::Echo(message.id(), message.seq());
        return (nonce.run == run).then(|| (key, Heard::Reply(Instant::now())));
    }
    if ![icmp::UNREACHABLE, icmp::TIME_EXCEEDED, icmp::PARAMETER_PROBLEM].contains(&message.icmp_type()) {
        return None;
    }
    let heard = Heard::Error { from: ip.src(), icmp_type: message.icmp_type(), icmp_code: message.code() };
    Some((quoted(message.payload())?, heard))
}

/// Which shot an ICMP error quotes: an IP header and at least the 8 octets that follow it (RFC 792).
fn quoted(quote: &[u8]) -> Option<Key> {
    let ip = Ipv4View::header_checked(quote).ok()?;
    let head = ip.payload();
    let word = |at: usize| Some(u16::from_be_bytes(*head.get(at..)?.first_chunk()?));
    match ip.protocol() {
        ip_protocol::ICMP => Some(Key::Echo(word(4)?, word(6)?)),
        ip_protocol::TCP | ip_protocol::UDP => {
            Some(Key::Port(ip.protocol(), word(0)?, SocketAddrV4::new(ip.dst(), word(2)?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::probe::nonce::Kind;
    use vxlan::reply;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const R: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

    fn error_about(packet: &[u8]) -> Vec<u8> {
        reply::ipv4(R, A, 1, 64, &icmp::message(3, 1, [0; 4], packet))
    }

    #[test]
    fn an_echo_reply_counts_only_with_the_runs_nonce() {
        let nonce = Nonce { kind: Kind::Request, run: 5, cell: 9 }.bytes();
        let packet = reply::ipv4(B, A, 1, 64, &icmp::echo_reply(7, 8, &nonce));
        let (key, heard) = read(&packet, 5).unwrap();
        assert_eq!(key, Key::Echo(7, 8));
        assert!(matches!(heard, Heard::Reply(_)));
        assert_eq!(read(&packet, 6), None);
        assert_eq!(read(&reply::ipv4(B, A, 1, 64, &icmp::echo_reply(7, 8, b"ping")), 5), None);
    }

    #[test]
    fn errors_are_matched_by_the_packet_they_quote() {
        let heard = Heard::Error { from: R, icmp_type: 3, icmp_code: 1 };
        let echo = reply::ipv4(A, B, 1, 64, &icmp::echo_request(7, 8, b""));
        assert_eq!(read(&error_about(&echo), 5), Some((Key::Echo(7, 8), heard)));
        // Only eight octets of the datagram, as RFC 792 asks for at least.
        let udp = reply::ipv4(A, B, 17, 64, &[0x9C, 0x40, 0, 53, 0, 8, 0, 0]);
        let key = Key::Port(17, 40_000, SocketAddrV4::new(B, 53));
        assert_eq!(read(&error_about(&udp), 5), Some((key, heard)));
        assert_eq!(read(&error_about(&udp[..22]), 5), None, "no whole port");
        assert_eq!(read(&error_about(&[]), 5), None);
    }
}
