//! Recognises a run's packets.

use std::{collections::HashSet, net::IpAddr};

use vxlan::{
    IcmpView, IpView, TcpFlags, TcpView, UdpView,
    proto::{icmp, icmpv6, ip_protocol},
};

use super::nonce::{Kind, Nonce};
use crate::messages::{Sighting, TcpTrace};

/// Most sightings that one watcher keeps; a large matrix makes a few ten thousand.
pub const MAX_SIGHTINGS: usize = 100_000;

/// A packet of the run; the fields are those of [`Sighting`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trace {
    /// Whether it is the answer or the request.
    pub answer: bool,
    /// For ICMP and UDP: the shot's cell.
    pub cell: Option<u32>,
    /// For TCP: the attempt, by its ports.
    pub tcp: Option<TcpTrace>,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
}

impl Trace {
    /// Makes it a sighting at an interface of an endpoint.
    pub fn seen_at(self, endpoint: String, interface: String, inbound: bool, local: bool) -> Sighting {
        let Self { answer, cell, tcp, source, destination } = self;
        Sighting { endpoint, interface, inbound, local, answer, cell, tcp, source, destination }
    }
}

/// Recognises the packets of one run that pass one place.
#[derive(Debug)]
pub struct Tracer {
    run: u64,
    /// TCP attempts that were seen to begin: only their resets count.
    attempts: HashSet<TcpTrace>,
}

impl Tracer {
    /// A tracer for a run's packets.
    pub fn new(run: u64) -> Self {
        Self { run, attempts: HashSet::new() }
    }

    /// Reads one packet, from its IP header on. `None` if it is not of the run.
    pub fn read(&mut self, packet: &[u8]) -> Option<Trace> {
        let ip = IpView::header_checked(packet).ok()?;
        let (answer, cell, tcp) = match ip.protocol() {
            _ if ip.is_icmp() => {
                let message = IcmpView::new_checked(ip.payload()).ok()?;
                let (nonce, _) = Nonce::read(message.payload()).filter(|(n, _)| n.run == self.run)?;
                let answer = if ip.src().is_ipv4() { icmp::ECHO_REPLY } else { icmpv6::ECHO_REPLY };
                (message.icmp_type() == answer, Some(nonce.cell), None)
            }
            ip_protocol::UDP => {
                let datagram = UdpView::header_checked(ip.payload()).ok()?;
                let (nonce, _) = Nonce::read(datagram.payload()).filter(|(n, _)| n.run == self.run)?;
                (nonce.kind == Kind::Answer, Some(nonce.cell), None)
            }
            ip_protocol::TCP => {
                let (answer, trace) = self.attempt(&TcpView::new_checked(ip.payload()).ok()?)?;
                (answer, None, Some(trace))
            }
            _ => return None,
        };
        Some(Trace { answer, cell, tcp, source: ip.src(), destination: ip.dst() })
    }

    /// Which attempt a segment with SYN or RST belongs to, and whether it comes from the probed port.
    fn attempt(&mut self, segment: &TcpView<'_>) -> Option<(bool, TcpTrace)> {
        let flags = segment.flags();
        let forth = TcpTrace { client: segment.src_port(), server: segment.dst_port() };
        let back = TcpTrace { client: segment.dst_port(), server: segment.src_port() };
        if flags.contains(TcpFlags::SYN) {
            if flags.contains(TcpFlags::ACK) {
                return Some((true, back));
            }
            if self.attempts.len() < MAX_SIGHTINGS {
                self.attempts.insert(forth.clone());
            }
            return Some((false, forth));
        }
        self.attempts.contains(&back).then_some((true, back))
    }
}
