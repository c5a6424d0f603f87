//! Kinds of packets that the wire can block.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::lab::Protocol;

/// IANA's port of VXLAN (RFC 7348).
const VXLAN_PORT: u16 = 4789;
/// IP protocols that have a name here.
const PROTOCOLS: [(&str, u8); 4] = [("icmp", 1), ("tcp", 6), ("udp", 17), ("esp", 50)];

/// IPv4 packets of one kind. Text form: `udp/4789`, `tcp/2377`, `icmp`, `esp`, `tcp`, `udp`, `ip/NUMBER`, `vxlan`,
/// `vxlan/PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Filter {
    /// All packets of an IP protocol, by its number.
    Ip(u8),
    /// Packets to this port.
    Port(Protocol, u16),
    /// UDP to this port whose payload begins with a VXLAN header that Linux accepts: the VNI flag set, every reserved bit
    /// zero (RFC 7348 section 5). Other payloads to that port pass: hypervisors recognise VXLAN in this way.
    Vxlan(u16),
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Filter::Ip(n) => match PROTOCOLS.iter().find(|(_, p)| p == n) {
                Some((name, _)) => f.write_str(name),
                None => write!(f, "ip/{n}"),
            },
            Filter::Port(Protocol::Tcp, port) => write!(f, "tcp/{port}"),
            Filter::Port(Protocol::Udp, port) => write!(f, "udp/{port}"),
            Filter::Vxlan(VXLAN_PORT) => f.write_str("vxlan"),
            Filter::Vxlan(port) => write!(f, "vxlan/{port}"),
        }
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.to_string()
    }
}

impl TryFrom<String> for Filter {
    type Error = NoFilter;

    fn try_from(text: String) -> Result<Self, NoFilter> {
        text.parse()
    }
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoFilter {
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

impl FromStr for Filter {
    type Err = NoFilter;

    fn from_str(text: &str) -> Result<Self, NoFilter> {
        let digits = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
        let port = |n: &str| match n.parse() {
            Ok(port) if port > 0 && digits(n) => Ok(port),
            _ => Err(NoFilter::Port(n.to_owned())),
        };
        match text.split_once('/') {
            None if text == "vxlan" => Ok(Filter::Vxlan(VXLAN_PORT)),
            None => match PROTOCOLS.iter().find(|(name, _)| *name == text) {
                Some((_, number)) => Ok(Filter::Ip(*number)),
                None => Err(NoFilter::Unknown(text.to_owned())),
            },
            Some(("tcp", n)) => port(n).map(|p| Filter::Port(Protocol::Tcp, p)),
            Some(("udp", n)) => port(n).map(|p| Filter::Port(Protocol::Udp, p)),
            Some(("vxlan", n)) => port(n).map(Filter::Vxlan),
            Some(("ip", n)) => match n.parse() {
                Ok(number) if digits(n) => Ok(Filter::Ip(number)),
                _ => Err(NoFilter::Protocol(n.to_owned())),
            },
            Some((name @ ("icmp" | "esp"), _)) => Err(NoFilter::NoPorts(name.to_owned())),
            Some((name, _)) => Err(NoFilter::Unknown(name.to_owned())),
        }
    }
}

impl Filter {
    /// The words that can stand before the slash.
    pub(crate) const WORDS: [&str; 6] = ["udp", "tcp", "vxlan", "esp", "icmp", "ip"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_reads_back() {
        let forms = [
            ("udp/4789", Filter::Port(Protocol::Udp, 4789)),
            ("tcp/2377", Filter::Port(Protocol::Tcp, 2377)),
            ("esp", Filter::Ip(50)),
            ("icmp", Filter::Ip(1)),
            ("tcp", Filter::Ip(6)),
            ("udp", Filter::Ip(17)),
            ("ip/2", Filter::Ip(2)),
            ("vxlan", Filter::Vxlan(4789)),
            ("vxlan/8472", Filter::Vxlan(8472)),
        ];
        for (text, filter) in forms {
            assert_eq!(text.parse(), Ok(filter));
            assert_eq!(filter.to_string(), text);
        }
        assert_eq!("ip/50".parse(), Ok(Filter::Ip(50)), "a number may stand for a name");
    }

    #[test]
    fn what_is_none_says_why() {
        let no = |text: &str| text.parse::<Filter>().map_err(|e| e.to_string()).err();
        for bad in ["udp/0", "udp/65536", "udp/", "tcp/+1", "vxlan/x"] {
            assert!(no(bad).is_some_and(|e| e.contains("no port")), "{bad}");
        }
        assert!(no("ip/256").is_some_and(|e| e.contains("protocol")));
        assert!(no("esp/1").is_some_and(|e| e.contains("no ports")));
        assert!(no("gre").is_some_and(|e| e.contains("called `gre`")));
    }
}
