//! Packets and frames, as far as their way depends on them.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// Bytes of neighbour discovery: IPv6, ICMPv6, the target, and a MAC (RFC 4861 section 4.3).
const DISCOVERY: u32 = 40 + 8 + 16 + 8;

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A protocol above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proto {
    /// ICMP or ICMPv6.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ESP: no ports.
    Esp,
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Proto::Icmp => "icmp",
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
            Proto::Esp => "esp",
        })
    }
}

/// What connection tracking tells flows apart by. ICMP echo has its identifier in both ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Protocol.
    pub proto: Proto,
    /// Source address.
    pub src: IpAddr,
    /// Source port.
    pub sport: u16,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: u16,
}

impl Tuple {
    /// The tuple of an answer.
    pub fn inverse(self) -> Self {
        Self { src: self.dst, sport: self.dport, dst: self.src, dport: self.sport, ..self }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.proto {
            Proto::Icmp | Proto::Esp => write!(f, "{} {} > {}", self.proto, self.src, self.dst),
            Proto::Tcp | Proto::Udp => {
                write!(f, "{} {}:{} > {}:{}", self.proto, self.src, self.sport, self.dst, self.dport)
            }
        }
    }
}

/// Why a router or a destination returns a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// No route.
    Net,
    /// No neighbour, or nobody behind the gateway.
    Host,
    /// Larger than the next hop takes, and not to be cut in two: it takes this many bytes.
    TooBig(u32),
    /// Nobody listens: a TCP reset or ICMP port unreachable.
    Port,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Complaint::Net => f.write_str("network unreachable"),
            Complaint::Host => f.write_str("host unreachable"),
            Complaint::TooBig(mtu) => write!(f, "too big: at most {mtu} bytes"),
            Complaint::Port => f.write_str("refused"),
        }
    }
}

/// What a packet is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Data of a flow, there or back.
    Data,
    /// An answer that something went wrong with the packet of this tuple, as its sender sees it.
    Complaint(Complaint, Tuple),
    /// A frame in VXLAN.
    Tunnel {
        /// VXLAN network identifier.
        vni: u32,
        /// UDP port of VXLAN; also where ESP hides it.
        port: u16,
        /// The frame.
        frame: Box<Frame>,
    },
}

/// An IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Addresses and ports.
    pub tuple: Tuple,
    /// What it is for.
    pub kind: Kind,
    /// Bytes, headers included.
    pub size: u32,
    /// Whether it may be cut in two on its way.
    pub may_fragment: bool,
}

impl Packet {
    /// Neighbour discovery as ip6tables sees it; `None` of ARP, which is no IP. Connection tracking leaves it out (Linux,
    /// net/netfilter/nf_conntrack_proto_icmpv6.c, `noct_valid_new`).
    pub fn of_discovery(body: &Body) -> Option<Self> {
        let (src, dst) = match body {
            Body::Ask { sender, target: IpAddr::V6(target) } => {
                // To the group of those whose address ends so (RFC 4291, section 2.7.1).
                let low = u128::from(*target) & 0xff_ffff;
                let group = u128::from(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0)) | low;
                (*sender, IpAddr::V6(group.into()))
            }
            Body::Tell { sender, target } if target.is_ipv6() => (*sender, *target),
            _ => return None,
        };
        let tuple = Tuple { proto: Proto::Icmp, src, sport: 0, dst, dport: 0 };
        Some(Self { tuple, kind: Kind::Data, size: DISCOVERY, may_fragment: false })
    }

    /// A packet in words: addresses, and what is inside.
    pub fn words(&self) -> String {
        match &self.kind {
            Kind::Data => self.tuple.to_string(),
            Kind::Complaint(what, _) => format!("{what}, {} > {}", self.tuple.src, self.tuple.dst),
            Kind::Tunnel { vni, frame, .. } => {
                let outer = match self.tuple.proto {
                    Proto::Esp => "esp".to_owned(),
                    _ => format!("udp/{}", self.tuple.dport),
                };
                let (src, dst) = (self.tuple.src, self.tuple.dst);
                format!("{outer} {src} > {dst}, vxlan {vni}, {}", frame.words())
            }
        }
    }

    /// Source and destination, innermost if it is a tunnel; `None` of a complaint.
    pub fn ends(&self) -> Option<[IpAddr; 2]> {
        match &self.kind {
            Kind::Data => Some([self.tuple.src, self.tuple.dst]),
            Kind::Complaint(..) => None,
            Kind::Tunnel { frame, .. } => frame.ends(),
        }
    }
}

/// How a neighbour with this address is looked for.
pub fn asks(hop: IpAddr) -> &'static str {
    if hop.is_ipv4() { "ARP" } else { "neighbour discovery" }
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Who has `target`? Asked by the owner of `sender`. The same for IPv6's neighbour discovery.
    Ask {
        /// Address of the one who asks.
        sender: IpAddr,
        /// Address that is looked for.
        target: IpAddr,
    },
    /// The answer to it, to the owner of `target`.
    Tell {
        /// Address that was looked for.
        sender: IpAddr,
        /// Address of the one who asked.
        target: IpAddr,
    },
    /// IP.
    Ip(Packet),
}

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Source.
    pub src: Mac,
    /// Destination; `None` for a broadcast.
    pub dst: Option<Mac>,
    /// 802.1Q tag.
    pub vlan: Option<u16>,
    /// What it carries.
    pub body: Body,
}

impl Frame {
    /// A frame in words.
    pub fn words(&self) -> String {
        match &self.body {
            Body::Ask { sender, target } => format!("{}: who has {target}? tell {sender}", asks(*target)),
            Body::Tell { sender, .. } => format!("{}: {sender} is at {}", asks(*sender), self.src),
            Body::Ip(packet) => packet.words(),
        }
    }

    /// Source and destination of the packet that it carries, as [`Packet::ends`].
    pub fn ends(&self) -> Option<[IpAddr; 2]> {
        match &self.body {
            Body::Ask { .. } | Body::Tell { .. } => None,
            Body::Ip(packet) => packet.ends(),
        }
    }

    /// The address that it is for, above Ethernet.
    pub fn target(&self) -> IpAddr {
        match &self.body {
            Body::Ask { target, .. } | Body::Tell { target, .. } => *target,
            Body::Ip(packet) => packet.tuple.dst,
        }
    }
}
