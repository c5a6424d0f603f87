//! How the run's listeners name themselves and the source that they see: TCP in one line right after accepting a
//! connection, UDP in its answer after the nonce.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use super::nonce::{Kind, Nonce};
use crate::messages::Taker;

/// How long a connected TCP service may take to greet as one of the run's listeners.
const GREETING: Duration = Duration::from_millis(300);
/// The same if the shot is relayed. A proxy that begins on an emulated, busy processor takes that long; a real service, which
/// does not greet, keeps its cell as long.
const GREETING_RELAYED: Duration = Duration::from_millis(1200);
/// Round trips that are added, which matter if a large matrix keeps all processors busy.
const ROUND_TRIPS: u32 = 5;

/// How long to wait for the greeting of a TCP service that took a round trip to connect to.
pub fn patience(rtt: Duration, relayed: bool) -> Duration {
    let greeting = if relayed { GREETING_RELAYED } else { GREETING };
    greeting + rtt * ROUND_TRIPS
}

/// Longest greeting in bytes.
pub const GREETING_LENGTH: usize = 256;

/// The first line that a TCP listener of a run sends.
pub fn greeting(run: u64, taker: &Taker) -> String {
    format!("labctl {run:016x} {} {}\n", taker.source, taker.name)
}

/// Reads the greeting of a listener of this run.
pub fn greeted(said: &[u8], run: u64) -> Option<Taker> {
    let line = std::str::from_utf8(said).ok()?.lines().next()?;
    let rest = line.strip_prefix("labctl ")?.strip_prefix(&format!("{run:016x} "))?;
    let (source, name) = rest.split_once(' ')?;
    Some(Taker { name: name.to_owned(), source: source.parse().ok()? })
}

/// A UDP listener's answer to a request with this nonce: `length` bytes, or more if its content needs them.
pub fn answer(request: Nonce, taker: &Taker, length: usize) -> Vec<u8> {
    let mut answer = Nonce { kind: Kind::Answer, ..request }.bytes().to_vec();
    answer.extend(in_v6(taker.source).octets());
    answer.extend(taker.name.as_bytes());
    answer.resize(answer.len().max(length), 0);
    answer
}

/// Reads the answer to the request of this cell.
pub fn answered(datagram: &[u8], run: u64, cell: u32) -> Option<Taker> {
    let wanted = Nonce { kind: Kind::Answer, run, cell };
    let (_, said) = Nonce::read(datagram).filter(|(nonce, _)| *nonce == wanted)?;
    let (source, name) = said.split_first_chunk::<16>()?;
    let name = name.split(|b| *b == 0).next()?;
    let source = IpAddr::from(*source).to_canonical();
    Some(Taker { name: String::from_utf8(name.to_vec()).ok()?, source })
}

/// An address of either family as one of IPv6 (RFC 4291 section 2.5.5.2).
fn in_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn taker() -> Taker {
        Taker { name: "c1".into(), source: "172.30.1.1".parse().unwrap() }
    }

    #[test]
    fn only_this_runs_greeting_names_anybody() {
        let said = greeting(0xABC, &taker());
        assert_eq!(greeted(said.as_bytes(), 0xABC), Some(taker()));
        assert_eq!(greeted(said.as_bytes(), 0xABD), None);
        assert_eq!(greeted(b"SSH-2.0-OpenSSH_9.2\r\n", 0xABC), None);
        assert_eq!(greeted(b"", 0xABC), None);
    }

    #[test]
    fn only_the_answer_to_this_request_names_anybody() {
        let request = Nonce { kind: Kind::Request, run: 7, cell: 3 };
        let said = answer(request, &taker(), 100);
        assert_eq!(said.len(), 100);
        assert_eq!(answered(&said, 7, 3), Some(taker()));
        assert_eq!(answered(&said, 7, 4), None);
        let v6 = Taker { name: "c1".into(), source: "fd00::2".parse().unwrap() };
        for taker in [taker(), v6] {
            assert_eq!(answered(&answer(request, &taker, 0), 7, 3), Some(taker));
        }
        assert_eq!(answered(&request.bytes(), 7, 3), None, "a real service may send back what it got");
    }
}
