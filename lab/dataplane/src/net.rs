//! The network as a value: namespaces with interfaces, addresses, routes and rules, and the segments between hosts.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;
use labctl_model::{Family, Traffic};

use crate::{
    netfilter::Firewall,
    packet::{Mac, Proto},
};

/// An interface: its namespace and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct At {
    /// Index of the namespace.
    pub ns: usize,
    /// Index of the interface.
    pub iface: usize,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Length of its prefix.
    pub prefix_len: u8,
}

/// Modes of macvlan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacvlanMode {
    /// They meet within the host.
    Bridge,
    /// They do not, and take nothing from each other by the wire either.
    Private,
    /// They meet by the wire, if that reflects.
    Vepa,
    /// One takes all.
    Passthru,
}

/// Modes of ipvlan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvlanMode {
    /// Ethernet to the outside.
    L2,
    /// Routed by the host; no ARP. l3 and l3s.
    L3,
}

/// Flags of ipvlan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvlanFlag {
    /// They meet within the host.
    Bridge,
    /// They do not.
    Private,
    /// They meet by the wire.
    Vepa,
}

/// A VXLAN device of an overlay network.
#[derive(Clone, Debug)]
pub struct Vxlan {
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// The namespace where outer packets are sent and taken: its host's.
    pub outer: usize,
    /// Whether outer packets go by ESP.
    pub encrypted: bool,
    /// The family of outer packets.
    pub family: Family,
    /// What dockerd has told of endpoints elsewhere, by address: MAC, and the node behind which it is.
    pub peers: BTreeMap<IpAddr, (Mac, IpAddr)>,
}

/// What an interface is.
#[derive(Clone, Debug)]
pub enum Link {
    /// `lo`.
    Loopback,
    /// A port of a segment.
    Wire(usize),
    /// One end of a pair.
    Veth(At),
    /// A bridge; its ports are the interfaces that have it as their master.
    Bridge,
    /// macvlan on a parent.
    Macvlan(At, MacvlanMode),
    /// ipvlan on a parent.
    Ipvlan(At, IpvlanMode, IpvlanFlag),
    /// 802.1Q on a parent.
    Vlan(At, u16),
    /// VXLAN.
    Vxlan(Vxlan),
    /// Leads nowhere.
    Dummy,
}

/// An interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: Mac,
    /// Largest IP packet that it sends, in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// What it is.
    pub link: Link,
    /// The bridge that it is a port of, by index in the same namespace.
    pub master: Option<usize>,
    /// What sits on top of it.
    pub above: Vec<At>,
    /// Why nothing can be told of what passes it, if so.
    pub unknown: Option<String>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub to: IpNet,
    /// Next hop; the destination itself if absent.
    pub via: Option<IpAddr>,
    /// Index of the interface.
    pub dev: usize,
    /// Of two routes to one destination the lower counts.
    pub metric: u32,
}

/// A listener that is there in the lab, beside those of the run.
#[derive(Clone, Debug)]
pub struct ProxyAt {
    /// Address that it listens on; all of the family if absent.
    pub ip: Option<IpAddr>,
    /// Address family.
    pub family: Family,
    /// Transport.
    pub proto: Proto,
    /// Port.
    pub port: u16,
    /// Where it connects to; nowhere, if dockerd only keeps the port.
    pub to: Option<std::net::SocketAddr>,
    /// Its answers over UDP come from the address that was asked: from Docker 28 on (moby#48571). Else from the one that the
    /// route to the client has.
    pub answers_as_asked: bool,
}

/// A load balancer of IPVS.
#[derive(Clone, Debug)]
pub struct Balancer {
    /// Virtual address; any address of this namespace if absent.
    pub vip: Option<IpAddr>,
    /// Ports; all if empty.
    pub ports: Vec<(Proto, u16)>,
    /// Addresses of tasks.
    pub backends: Vec<IpAddr>,
    /// The source that backends see.
    pub snat: IpAddr,
    /// What it balances, for people.
    pub service: String,
}

/// Where TCP or UDP ends in somebody that the oracle cannot look into.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Transport and port; all if absent.
    pub port: Option<(Proto, u16)>,
    /// Why it is unknown what happens there.
    pub why: String,
}

/// What a namespace is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A host, a container or a peer: it asks and answers.
    Endpoint,
    /// The stand-in for a gateway and what is behind it.
    StandIn,
    /// Docker's own.
    Inner,
}

/// A network namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its name, for people.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its interfaces; the first is `lo`.
    pub interfaces: Vec<Interface>,
    /// Its routes but the connected and the local ones.
    pub routes: Vec<Route>,
    /// Whether it forwards.
    pub forwards: bool,
    /// Whether it forwards IPv6.
    pub forwards_v6: bool,
    /// Whether its rules see packets that a bridge passes on.
    pub filters_bridged: bool,
    /// Whether its rules see such packets of IPv6.
    pub filters_bridged_v6: bool,
    /// Its rules of IPv4.
    pub firewall: Firewall,
    /// Its rules of IPv6.
    pub firewall_v6: Firewall,
    /// Proxies.
    pub proxies: Vec<ProxyAt>,
    /// Load balancers.
    pub balancers: Vec<Balancer>,
    /// Ports of others.
    pub taken: Vec<Taken>,
    /// Why nothing can be told of what passes it, if so.
    pub unknown: Option<String>,
    /// Prefixes that a stand-in answers for, and those that it does not.
    pub outside: (Vec<IpNet>, Vec<IpNet>),
    /// Largest packet that passes on behind a stand-in, in bytes.
    pub path_mtu: u32,
    /// The interfaces that have addresses: a host may have thousands of ports that have none.
    addressed: Vec<usize>,
}

/// A port of a segment.
#[derive(Clone, Debug)]
pub struct Port {
    /// The NIC.
    pub at: At,
    /// The host, if it is one's.
    pub host: Option<String>,
    /// Whether frames from the NIC pass.
    pub from: bool,
    /// Whether frames to the NIC pass.
    pub to: bool,
}

/// What a segment drops.
#[derive(Clone, Debug)]
pub struct Block {
    /// Packets of this kind,
    pub filter: Traffic,
    /// that come from this host; any if absent,
    pub from: Option<String>,
    /// and go to this one.
    pub to: Option<String>,
}

/// A segment.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Its name.
    pub name: String,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Whether ports take only frames from and for their NIC's own MAC.
    pub port_security: bool,
    /// Ports.
    pub ports: Vec<Port>,
    /// What it drops.
    pub blocks: Vec<Block>,
    /// Whether stations make addresses of a prefix that its router advertises.
    pub advertised: bool,
}

/// The whole network.
#[derive(Clone, Debug, Default)]
pub struct Net {
    /// Namespaces.
    pub spaces: Vec<Namespace>,
    /// Segments.
    pub wires: Vec<Wire>,
    /// VXLAN devices.
    pub tunnels: Vec<At>,
    /// The namespaces that have an address.
    owners: HashMap<IpAddr, Vec<usize>>,
    /// The interfaces that have a MAC.
    macs: HashMap<Mac, Vec<At>>,
}

/// Where a packet goes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// To this namespace itself.
    Local,
    /// Out of an interface, to a next hop.
    Out {
        /// Index of the interface.
        dev: usize,
        /// The neighbour.
        hop: IpAddr,
        /// `192.168.56.0/24 dev eth0`
        by: String,
    },
    /// No route.
    Nowhere,
}

impl Namespace {
    /// A namespace with nothing but `lo`.
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        let lo = Interface {
            name: "lo".into(),
            mac: Mac([0; 6]),
            mtu: 65536,
            addresses: vec![
                Address { ip: [127, 0, 0, 1].into(), prefix_len: 8 },
                Address { ip: std::net::Ipv6Addr::LOCALHOST.into(), prefix_len: 128 },
            ],
            link: Link::Loopback,
            master: None,
            above: Vec::new(),
            unknown: None,
        };
        Self {
            name: name.into(),
            role,
            interfaces: vec![lo],
            routes: Vec::new(),
            forwards: false,
            forwards_v6: false,
            filters_bridged: true,
            filters_bridged_v6: true,
            firewall: Firewall::default(),
            firewall_v6: Firewall::default(),
            proxies: Vec::new(),
            balancers: Vec::new(),
            taken: Vec::new(),
            unknown: None,
            outside: Default::default(),
            path_mtu: u32::MAX,
            addressed: vec![0],
        }
    }

    /// Whether it forwards packets of this address's family.
    pub fn forwards(&self, to: IpAddr) -> bool {
        if to.is_ipv4() { self.forwards } else { self.forwards_v6 }
    }

    /// Whether its rules see packets of this address's family that a bridge passes on.
    pub fn filters_bridged(&self, to: IpAddr) -> bool {
        if to.is_ipv4() { self.filters_bridged } else { self.filters_bridged_v6 }
    }

    /// The rules for packets of this address's family.
    pub fn firewall(&self, to: IpAddr) -> &Firewall {
        if to.is_ipv4() { &self.firewall } else { &self.firewall_v6 }
    }

    /// Whether an address is its own.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.addressed().any(|(_, i)| i.addresses.iter().any(|a| a.ip == ip))
    }

    fn addressed(&self) -> impl Iterator<Item = (usize, &Interface)> {
        self.addressed.iter().map(|dev| (*dev, &self.interfaces[*dev]))
    }

    /// The interface of this name.
    pub fn interface(&self, name: &str) -> Option<usize> {
        self.interfaces.iter().position(|i| i.name == name)
    }

    /// Looks a destination up: its own addresses, then the longest prefix, then the lowest metric, then the oldest
    /// route (Linux, net/ipv4/fib_trie.c). `only` leaves the routes of one interface.
    pub fn route(&self, to: IpAddr, only: Option<usize>) -> Next {
        let owner = |i: &Interface| i.addresses.iter().any(|a| a.ip == to);
        let local = match only {
            Some(dev) => self.interfaces.get(dev).is_some_and(owner),
            None => self.is_local(to),
        };
        if local {
            return Next::Local;
        }
        // Docker's bridges come after a host's own routes.
        let own = self.addressed().filter(|(dev, i)| *dev > 0 && !matches!(i.link, Link::Bridge));
        let bridges = self.addressed().filter(|(_, i)| matches!(i.link, Link::Bridge));
        let connected = |(dev, i): (usize, &Interface)| {
            let routes = i.addresses.iter().filter_map(|a| IpNet::new(a.ip, a.prefix_len).ok());
            // An address alone is no route.
            let routes = routes.filter(|n| n.prefix_len() < n.max_prefix_len());
            routes.map(|n| Route { to: n.trunc(), via: None, dev, metric: 0 }).collect::<Vec<_>>()
        };
        let fits = |r: &Route| r.to.contains(&to) && only.is_none_or(|dev| dev == r.dev);
        let own = own.flat_map(connected).chain(self.routes.iter().cloned());
        let all = own.chain(bridges.flat_map(connected)).filter(fits);
        // The first of equals: `min_by_key` keeps it.
        match all.min_by_key(|r| (u8::MAX - r.to.prefix_len(), r.metric)) {
            None => Next::Nowhere,
            Some(r) => {
                let via = r.via.map(|v| format!(" via {v}")).unwrap_or_default();
                let to_words = if r.to.prefix_len() == 0 { "default".to_owned() } else { r.to.to_string() };
                let by = format!("{to_words}{via} dev {}", self.name_of(r.dev));
                Next::Out { dev: r.dev, hop: r.via.unwrap_or(to), by }
            }
        }
    }

    /// The source that a packet out of this interface gets: its address in the next hop's subnet, else its first, else
    /// any of the namespace (Linux, net/ipv4/devinet.c, inet_select_addr).
    pub fn source(&self, dev: usize, hop: IpAddr) -> Option<IpAddr> {
        let of =
            |i: &Interface| i.addresses.iter().filter(|a| a.ip.is_ipv4() == hop.is_ipv4()).copied().collect();
        let own: Vec<Address> = self.interfaces.get(dev).map(of).unwrap_or_default();
        let near = |a: &&Address| IpNet::new(a.ip, a.prefix_len).is_ok_and(|n| n.contains(&hop));
        let others = || {
            let all = self.addressed().filter(|(dev, _)| *dev > 0).flat_map(|(_, i)| &i.addresses);
            all.filter(|a| a.ip.is_ipv4() == hop.is_ipv4()).map(|a| a.ip).next()
        };
        own.iter().find(near).or(own.first()).map(|a| a.ip).or_else(others)
    }

    /// Name of an interface.
    pub fn name_of(&self, dev: usize) -> &str {
        self.interfaces.get(dev).map_or("?", |i| i.name.as_str())
    }
}

impl Net {
    /// Whether a link is cut anywhere.
    pub fn is_cut(&self) -> bool {
        self.wires.iter().flat_map(|w| &w.ports).any(|p| !p.from || !p.to)
    }

    /// Adds a namespace.
    pub fn add(&mut self, space: Namespace) -> usize {
        self.spaces.push(space);
        self.spaces.len() - 1
    }

    /// Adds an interface to a namespace.
    pub fn plug(&mut self, ns: usize, interface: Interface) -> At {
        let at = At { ns, iface: self.spaces[ns].interfaces.len() };
        if !interface.addresses.is_empty() {
            self.spaces[ns].addressed.push(at.iface);
        }
        if let Link::Macvlan(parent, _) | Link::Ipvlan(parent, ..) | Link::Vlan(parent, _) = interface.link {
            self.spaces[parent.ns].interfaces[parent.iface].above.push(at);
        }
        if matches!(interface.link, Link::Vxlan(_)) {
            self.tunnels.push(at);
        }
        self.spaces[ns].interfaces.push(interface);
        at
    }

    /// Notes who has which address and MAC, after the last change of one.
    pub fn index(&mut self) {
        self.owners.clear();
        self.macs.clear();
        for (ns, space) in self.spaces.iter_mut().enumerate() {
            let with = space.interfaces.iter().enumerate().filter(|(_, i)| !i.addresses.is_empty());
            space.addressed = with.map(|(dev, _)| dev).collect();
            for address in space.interfaces.iter().flat_map(|i| &i.addresses) {
                self.owners.entry(address.ip).or_default().push(ns);
            }
            for (iface, interface) in space.interfaces.iter().enumerate() {
                self.macs.entry(interface.mac).or_default().push(At { ns, iface });
            }
        }
    }

    /// The namespaces that have an address.
    pub fn owners(&self, ip: IpAddr) -> &[usize] {
        self.owners.get(&ip).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a MAC is that of something on top of an interface.
    pub fn is_above(&self, parent: At, mac: Mac) -> bool {
        let with = self.macs.get(&mac).map(Vec::as_slice).unwrap_or_default();
        with.iter()
            .any(|at| std::iter::successors(self.below(*at), |at| self.below(*at)).any(|at| at == parent))
    }

    /// What an interface sits on.
    fn below(&self, at: At) -> Option<At> {
        match self.at(at).link {
            Link::Macvlan(parent, _) | Link::Ipvlan(parent, ..) | Link::Vlan(parent, _) => Some(parent),
            _ => None,
        }
    }

    /// The interface at a place.
    pub fn at(&self, at: At) -> &Interface {
        &self.spaces[at.ns].interfaces[at.iface]
    }

    /// `host1/eth0`
    pub fn place(&self, at: At) -> String {
        format!("{}/{}", self.spaces[at.ns].name, self.at(at).name)
    }
}
