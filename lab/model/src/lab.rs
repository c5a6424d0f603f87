//! The validated lab: what every later stage sees. Nothing here can be inconsistent: names resolve, addresses lie in
//! their subnets, and every default is filled in. Order is the topology's own everywhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use indexmap::IndexMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    check::Check,
    engine::{Engine, Versions},
    family::{Family, OfFamily, PerFamily},
    host::{Host, Peer},
    image::DebianImage,
    lines::Lines,
    options::{Device, Restart, RunOptions},
    service::Service,
    step::{Action, Step},
    swarm::Swarm,
    traffic::{Protocol, Traffic},
};

/// A whole lab, validated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lab {
    /// Name of the lab: 1 to 32 of `[a-z0-9-]`, beginning with a letter.
    pub name: String,
    /// What the lab shows, in a sentence; may be empty.
    pub description: String,
    /// Whether hosts run Docker without labctl's shortcuts (docs/vanilla.md).
    #[serde(default)]
    pub vanilla: bool,
    /// Whether `up` may take it from a checkpoint, and leave one (docs/checkpoints.md).
    pub checkpoint: bool,
    /// The versions of Docker that it is for; all if absent.
    #[serde(default)]
    pub engines: Option<Versions>,
    /// L2 underlay networks by name.
    pub segments: IndexMap<String, Segment>,
    /// Lab hosts by name.
    pub hosts: IndexMap<String, Host>,
    /// Endpoints that live on the wire, by name.
    #[serde(default)]
    pub peers: IndexMap<String, Peer>,
    /// The swarm, where hosts form one.
    pub swarm: Option<Swarm>,
    /// Container images that are made of Debian packages, by name without `:latest`.
    pub images: IndexMap<String, DebianImage>,
    /// Docker networks by name (the name Docker knows them by).
    pub networks: IndexMap<String, Network>,
    /// Containers by name (the name Docker knows them by).
    pub containers: IndexMap<String, Container>,
    /// Services by name (the name Docker knows them by).
    pub services: IndexMap<String, Service>,
    /// What must hold once the lab is up.
    pub expect: Vec<Check>,
    /// Changes to the running lab, in order, each with what must hold after it.
    pub steps: Vec<Step>,
    /// What was done to it since it came up; of no topology, only of a lab that runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<Action>,
    /// Lines of the topology where all of this is written.
    pub lines: Lines,
}

impl Lab {
    /// The same lab once this was done to it.
    pub fn after(&self, done: &[Action]) -> Self {
        Self { done: done.to_vec(), ..self.clone() }
    }

    /// The first host whose engine the topology is not for.
    pub fn unfit(&self) -> Option<(&str, &Engine)> {
        let wanted = self.engines.as_ref()?;
        let mut hosts = self.hosts.iter().map(|(name, host)| (name.as_str(), &host.engine));
        hosts.find(|(_, engine)| !wanted.contain(engine.docker()))
    }
}

/// An L2 underlay network: one learning switch of the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// The subnets its NICs take their addresses from, of each family that it carries.
    pub subnet: PerFamily<IpNet>,
    /// The addresses that the lab's own stand-in answers for; hosts take the first segment's gateway as default route.
    pub gateway: PerFamily<IpAddr>,
    /// Largest IP packet in bytes that the segment carries (default 1500; 576 to 9000).
    pub mtu: u16,
    /// Drop frames whose source MAC is not that of the host NIC on that port, as a hypervisor's vSwitch does.
    pub port_security: bool,
    /// Prefixes behind the gateway: the stand-in answers ICMP echo for them. Default: everything of the gateway's
    /// families (any address outside the lab's segments), empty without a gateway.
    pub outside: Vec<IpNet>,
    /// Packets that it drops from the start.
    pub block: Vec<Traffic>,
    /// Largest IP packet in bytes that passes on behind the gateway; the stand-in sends larger ones back. The segment's own if
    /// absent.
    #[serde(default)]
    pub path_mtu: Option<u16>,
    /// What the stand-in advertises as an IPv6 router; it does not if absent.
    #[serde(default)]
    pub ra: Option<Advertised>,
    /// Whether frames to IPv6 groups go only where somebody listens.
    #[serde(default)]
    pub mld: bool,
}

/// What a router advertises beside itself, the subnet and the MTU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advertised {
    /// Name servers (RFC 8106).
    pub dns: Vec<Ipv6Addr>,
}

/// A Docker network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Its name in Docker (differs from the key if the topology gives `name:`).
    pub docker_name: String,
    /// The driver and what it needs.
    pub driver: Driver,
    /// `com.docker.…` and driver options as Docker gets them, without the parent.
    pub options: IndexMap<String, String>,
    /// Address pools; empty lets Docker choose.
    pub ipam: Vec<IpamPool>,
    /// Whether it has IPv4 (Docker 28 and later); Docker's default if absent.
    pub enable_ipv4: Option<bool>,
    /// Whether it has IPv6; Docker's default if absent.
    pub enable_ipv6: Option<bool>,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether plain containers may join an overlay.
    pub attachable: bool,
    /// Whether it is the routing mesh's network and replaces the one that Docker makes.
    pub ingress: bool,
    /// Labels, as compose sets them.
    pub labels: IndexMap<String, String>,
    /// The hosts it is made on: those that the topology names, else those with a container on it. An overlay has every
    /// node of the swarm and is made once, on a manager.
    pub hosts: Vec<String>,
    /// Made only by a step (`do: create network NAME`).
    pub deferred: bool,
}

/// A network driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A Linux bridge on one host.
    Bridge,
    /// macvlan on a parent interface.
    Macvlan {
        /// The parent; without one, the network is internal on a dummy interface.
        parent: Option<Parent>,
    },
    /// ipvlan on a parent interface.
    Ipvlan {
        /// The parent; without one, the network is internal on a dummy interface.
        parent: Option<Parent>,
    },
    /// VXLAN across a swarm.
    Overlay,
}

/// What a macvlan or ipvlan network sits on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parent {
    /// The host's NIC on this segment, and the VLAN on top of it if any.
    Segment {
        /// Name of the segment.
        segment: String,
        /// 802.1Q VLAN id, 1 to 4094.
        vlan: Option<u16>,
    },
    /// An interface by its name in the host, as given to Docker.
    Interface(String),
}

/// One entry of `ipam.config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamPool {
    /// The subnet.
    pub subnet: IpNet,
    /// Gateway; if absent, Docker takes the first address.
    pub gateway: Option<IpAddr>,
    /// Part of the subnet that containers get addresses from.
    pub ip_range: Option<IpNet>,
    /// Addresses that Docker must not hand out, by name.
    pub aux_addresses: IndexMap<String, IpAddr>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// The lab host it runs on.
    pub host: String,
    /// Image; the built-in one if the topology names none (see [`BUILTIN_IMAGE`]).
    pub image: String,
    /// Command; empty means the image's own.
    pub command: Vec<String>,
    /// Host name inside; Docker's default if absent.
    pub hostname: Option<String>,
    /// Environment.
    pub environment: IndexMap<String, String>,
    /// How it is attached.
    pub attach: Attach,
    /// `--link target:alias`, in order.
    pub links: Vec<Link>,
    /// Published ports.
    pub ports: Vec<Publish>,
    /// Added Linux capabilities.
    pub cap_add: Vec<String>,
    /// Namespaced kernel settings.
    pub sysctls: IndexMap<String, String>,
    /// When Docker starts it again; never if absent.
    pub restart: Option<Restart>,
    /// All capabilities and all devices of the host.
    pub privileged: bool,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// What it shares with services.
    pub run: RunOptions,
    /// Made only by a step (`do: create NAME`).
    pub deferred: bool,
}

/// The image that labctl builds itself: static, no shell.
pub const BUILTIN_IMAGE: &str = "labctl/pause:latest";

/// How a container is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// The default bridge (`docker0`), with a requested address if any (Docker refuses that: S25 shows it).
    DefaultBridge {
        /// Address asked for.
        ipv4_address: Option<Ipv4Addr>,
    },
    /// User-defined networks, in order: it is created on the first; the rest are connected before start.
    Networks(IndexMap<String, Attachment>),
    /// The host's own network namespace.
    Host,
    /// Only `lo`.
    None,
    /// The network namespace of another container.
    Container(String),
}

/// One attachment to a user-defined network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Static IPv4 address.
    pub ipv4_address: Option<Ipv4Addr>,
    /// Static IPv6 address.
    pub ipv6_address: Option<Ipv6Addr>,
    /// Further names on this network.
    pub aliases: Vec<String>,
    /// Static MAC.
    pub mac_address: Option<String>,
    /// Of several networks the one with the highest has the default route. Default 0 (from Docker 28).
    #[serde(default)]
    pub gw_priority: Option<i64>,
    /// Name of its interface (from Docker 28).
    #[serde(default)]
    pub interface_name: Option<String>,
}

impl Network {
    /// The address pools of a family.
    pub fn pools(&self, family: Family) -> impl Iterator<Item = &IpamPool> {
        self.ipam.iter().filter(move |p| p.subnet.family() == family)
    }
}

impl Attachment {
    /// The static addresses.
    pub fn addresses(&self) -> PerFamily<IpAddr> {
        let v4 = self.ipv4_address.map(IpAddr::V4);
        v4.into_iter().chain(self.ipv6_address.map(IpAddr::V6)).collect()
    }

    /// Sets a static address.
    pub fn set_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.ipv4_address = Some(address),
            IpAddr::V6(address) => self.ipv6_address = Some(address),
        }
    }
}

/// A `--link`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The container linked to.
    pub target: String,
    /// The target's name inside the container.
    pub alias: String,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Address of the host to bind; all if absent.
    pub host_ip: Option<IpAddr>,
    /// Port on the host; Docker chooses if absent.
    pub published: Option<u16>,
    /// Port in the container.
    pub target: u16,
    /// Transport.
    pub protocol: Protocol,
}

impl Lab {
    /// Every endpoint that probes and is probed: hosts first, then containers, then peers, in the topology's order.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.hosts.keys().chain(self.containers.keys()).chain(self.peers.keys()).map(String::as_str)
    }

    /// The topology's description of a container image, if it has one of that name.
    pub fn image(&self, name: &str) -> Option<&DebianImage> {
        self.images.get(name.strip_suffix(":latest").unwrap_or(name))
    }

    /// Whether this names a host, a container or a peer.
    pub fn is_endpoint(&self, name: &str) -> bool {
        self.hosts.contains_key(name) || self.containers.contains_key(name) || self.peers.contains_key(name)
    }

    /// The host that an endpoint lives on: a host is its own. `None` for peers, which have no host, and for names of no
    /// endpoint.
    pub fn host_of<'a>(&'a self, endpoint: &'a str) -> Option<&'a str> {
        if self.hosts.contains_key(endpoint) {
            return Some(endpoint);
        }
        self.containers.get(endpoint).map(|c| c.host.as_str())
    }
}
