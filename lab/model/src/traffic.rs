//! Kinds of packets that the wire can block.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// IANA's port of VXLAN (RFC 7348).
const VXLAN_PORT: u16 = 4789;
/// IP protocols that have a name here.
const PROTOCOLS: [(&str, u8); 5] = [("icmp", 1), ("tcp", 6), ("udp", 17), ("esp", 50), ("icmp6", 58)];

/// IP packets of one kind, of both families. Text form: `udp/4789`, `tcp/2377`, `icmp`, `icmp6`, `esp`, `tcp`, `udp`, `ip/NUMBER`, `vxlan`,
/// `vxlan/PORT`, `too-big`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Traffic {
    /// All packets of an IP protocol, by its number.
    Ip(u8),
    /// Packets to this port.
    Port(Protocol, u16),
    /// UDP to this port whose payload begins with a VXLAN header that Linux accepts: the VNI flag set, every reserved bit
    /// zero (RFC 7348 section 5). Other payloads to that port pass: hypervisors recognise VXLAN in this way.
    Vxlan(u16),
    /// The messages by which a router says how large a packet may be: ICMPv6's Packet Too Big (RFC 4443 section 3.2) and
    /// ICMP's "fragmentation needed" (RFC 1191 section 4).
    TooBig,
}

/// The word for [`Traffic::TooBig`].
const TOO_BIG: &str = "too-big";

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Traffic::Ip(n) => match PROTOCOLS.iter().find(|(_, p)| p == n) {
                Some((name, _)) => f.write_str(name),
                None => write!(f, "ip/{n}"),
            },
            Traffic::Port(Protocol::Tcp, port) => write!(f, "tcp/{port}"),
            Traffic::Port(Protocol::Udp, port) => write!(f, "udp/{port}"),
            Traffic::Vxlan(VXLAN_PORT) => f.write_str("vxlan"),
            Traffic::Vxlan(port) => write!(f, "vxlan/{port}"),
            Traffic::TooBig => f.write_str(TOO_BIG),
        }
    }
}

impl From<Traffic> for String {
    fn from(traffic: Traffic) -> Self {
        traffic.to_string()
    }
}

impl TryFrom<String> for Traffic {
    type Error = NoTraffic;

    fn try_from(text: String) -> Result<Self, NoTraffic> {
        text.parse()
    }
}

/// Why a text names no kind of packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTraffic {
    /// The word before the slash is unknown.
    #[error("nothing on the wire is called `{0}`")]
    Unknown(String),
    /// The text after the slash is no port.
    #[error("`{0}` is no port: 1 to 65535")]
    Port(String),
    /// The text after `ip/` is no protocol number.
    #[error("`{0}` is no IP protocol: 0 to 255")]
    Protocol(String),
    /// `icmp` and `esp` have no ports.
    #[error("{0} has no ports")]
    NoPorts(String),
}

impl FromStr for Traffic {
    type Err = NoTraffic;

    fn from_str(text: &str) -> Result<Self, NoTraffic> {
        let digits = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
        let port = |n: &str| match n.parse() {
            Ok(port) if port > 0 && digits(n) => Ok(port),
            _ => Err(NoTraffic::Port(n.to_owned())),
        };
        match text.split_once('/') {
            None if text == "vxlan" => Ok(Traffic::Vxlan(VXLAN_PORT)),
            None if text == TOO_BIG => Ok(Traffic::TooBig),
            None => match PROTOCOLS.iter().find(|(name, _)| *name == text) {
                Some((_, number)) => Ok(Traffic::Ip(*number)),
                None => Err(NoTraffic::Unknown(text.to_owned())),
            },
            Some(("tcp", n)) => port(n).map(|p| Traffic::Port(Protocol::Tcp, p)),
            Some(("udp", n)) => port(n).map(|p| Traffic::Port(Protocol::Udp, p)),
            Some(("vxlan", n)) => port(n).map(Traffic::Vxlan),
            Some(("ip", n)) => match n.parse() {
                Ok(number) if digits(n) => Ok(Traffic::Ip(number)),
                _ => Err(NoTraffic::Protocol(n.to_owned())),
            },
            Some((name @ ("icmp" | "icmp6" | "esp"), _)) => Err(NoTraffic::NoPorts(name.to_owned())),
            Some((name, _)) => Err(NoTraffic::Unknown(name.to_owned())),
        }
    }
}

impl Traffic {
    /// The words that can stand before the slash.
    pub const WORDS: [&str; 8] = ["udp", "tcp", "vxlan", "esp", "icmp", "icmp6", TOO_BIG, "ip"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_reads_back() {
        let forms = [
            ("udp/4789", Traffic::Port(Protocol::Udp, 4789)),
            ("tcp/2377", Traffic::Port(Protocol::Tcp, 2377)),
            ("esp", Traffic::Ip(50)),
            ("icmp", Traffic::Ip(1)),
            ("icmp6", Traffic::Ip(58)),
            ("tcp", Traffic::Ip(6)),
            ("udp", Traffic::Ip(17)),
            ("ip/2", Traffic::Ip(2)),
            ("vxlan", Traffic::Vxlan(4789)),
            ("vxlan/8472", Traffic::Vxlan(8472)),
            ("too-big", Traffic::TooBig),
        ];
        for (text, filter) in forms {
            assert_eq!(text.parse(), Ok(filter));
            assert_eq!(filter.to_string(), text);
        }
        assert_eq!("ip/50".parse(), Ok(Traffic::Ip(50)), "a number may stand for a name");
    }

    #[test]
    fn what_is_none_says_why() {
        let no = |text: &str| text.parse::<Traffic>().map_err(|e| e.to_string()).err();
        for bad in ["udp/0", "udp/65536", "udp/", "tcp/+1", "vxlan/x"] {
            assert!(no(bad).is_some_and(|e| e.contains("no port")), "{bad}");
        }
        assert!(no("ip/256").is_some_and(|e| e.contains("protocol")));
        assert!(no("esp/1").is_some_and(|e| e.contains("no ports")));
        assert!(no("gre").is_some_and(|e| e.contains("called `gre`")));
    }
}
