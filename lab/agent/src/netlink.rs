//! Interfaces, addresses, routes and neighbours of one namespace, through rtnetlink(7).

use std::{collections::HashMap, io, net::IpAddr};

use futures::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use labctl_model::Family;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState},
    neighbour_table::{NeighbourTableAttribute, NeighbourTableMessage},
    route::{RouteAddress, RouteAttribute},
};
use nix::errno::Errno;
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
};

use crate::netns::Namespace;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The netlink socket could not be opened.
    #[error("no netlink socket: {0}")]
    Open(#[from] io::Error),
    /// The kernel refused.
    #[error("{what}: {errno}")]
    Kernel {
        /// What was asked for.
        what: String,
        /// What the kernel said.
        errno: io::Error,
    },
    /// Something else went wrong on the socket.
    #[error("{what}: {error}")]
    Socket {
        /// What was asked for.
        what: String,
        /// The error.
        error: rtnetlink::Error,
    },
    /// There is no such interface.
    #[error("there is no interface {0}")]
    NoInterface(String),
}

impl NetlinkError {
    /// Adds what was asked for; a function for `map_err`.
    pub fn of(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        move |error| match error {
            rtnetlink::Error::NetlinkError(message) => Self::Kernel { what, errno: message.to_io() },
            error => Self::Socket { what, error },
        }
    }

    /// The kernel's error number, if it answered.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel { errno, .. } => errno.raw_os_error().map(Errno::from_raw),
            _ => None,
        }
    }
}

/// An interface.
#[derive(Clone, Debug)]
pub struct Link {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// MAC address, if it has one of six octets.
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// Whether it is up and carries frames.
    pub running: bool,
    /// Index of the interface it sits on.
    pub parent: Option<u32>,
    /// Kind of a virtual interface.
    pub kind: Option<InfoKind>,
}

/// An address of an interface.
#[derive(Clone, Debug)]
pub struct Address {
    /// Index of the interface.
    pub index: u32,
    /// The address and its prefix length (on a point-to-point link, the peer's prefix length).
    pub address: IpNet,
    /// Point-to-point peer.
    pub peer: Option<IpAddr>,
    /// What the kernel says of it.
    pub flags: AddressFlags,
    /// The kernel's message, for removal.
    pub message: AddressMessage,
}

/// A netlink socket in one namespace. Clones share it.
#[derive(Clone, Debug)]
pub struct Netlink(pub Handle);

impl Netlink {
    /// Opens a socket in a namespace and serves it on a task, until the last clone is gone.
    pub async fn open(namespace: &Namespace) -> Result<Self, NetlinkError> {
        let (connection, handle, _messages) = namespace.run(rtnetlink::new_connection).await?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// All interfaces, by index.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let links = self.0.link().get().execute().map_ok(link).try_collect();
        links.await.map_err(NetlinkError::of("list interfaces"))
    }

    /// The interface of this name.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links().await?.into_iter().find(|l| l.name == name))
    }

    /// The index of the interface of this name.
    pub async fn index(&self, name: &str) -> Result<u32, NetlinkError> {
        let link = self.link(name).await?;
        Ok(link.ok_or_else(|| NetlinkError::NoInterface(name.to_owned()))?.index)
    }

    /// All addresses of both families.
    pub async fn addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        let request = self.0.address().get();
        let all = request.execute().try_filter_map(async |m| Ok(address(m))).try_collect();
        all.await.map_err(NetlinkError::of("list addresses"))
    }

    /// The next hop towards an address and the interface to it; the next hop is the address itself if it is on a link.
    pub async fn next_hop(&self, to: IpAddr) -> Result<(IpAddr, u32), NetlinkError> {
        let question = route_to(IpNet::from(to)).build();
        let what = || format!("route to {to}");
        let route =
            self.0.route().get(question).execute().try_next().await.map_err(NetlinkError::of(what()))?;
        let (mut hop, mut index) = (to, 0);
        for attribute in route.map(|r| r.attributes).unwrap_or_default() {
            match attribute {
                RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => hop = gateway.into(),
                RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => hop = gateway.into(),
                RouteAttribute::Oif(oif) => index = oif,
                _ => {}
            }
        }
        Ok((hop, index))
    }

    /// State of every neighbour of a family, by interface and address.
    pub async fn neighbours(
        &self,
        family: Family,
    ) -> Result<HashMap<(u32, IpAddr), NeighbourState>, NetlinkError> {
        let family = match family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        let all = self.0.neighbours().get().set_address_family(family).execute();
        let list = all.try_filter_map(async |m| {
            let address = m.attributes.iter().find_map(|a| match a {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => Some(IpAddr::from(*a)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => Some(IpAddr::from(*a)),
                _ => None,
            });
            Ok(address.map(|address| ((m.header.ifindex, address), m.header.state)))
        });
        list.try_collect().await.map_err(NetlinkError::of("list neighbours"))
    }

    /// How often the kernel had no room for another neighbour of a family since it started, all namespaces together
    /// (Linux, net/core/neighbour.c: `table_fulls`).
    pub async fn neighbours_refused(&self, family: Family) -> Result<u64, NetlinkError> {
        let mut message = NeighbourTableMessage::default();
        message.header.family = match family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbourTable(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let what = "read the neighbour tables' counters";
        let answers = self.0.clone().request(request).map_err(NetlinkError::of(what))?;
        let refused = answers.map(|answer| match answer.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbourTable(table)) => {
                let of = |a: &NeighbourTableAttribute| match a {
                    NeighbourTableAttribute::Stats(stats) => Some(stats.table_fulls),
                    _ => None,
                };
                Ok(table.attributes.iter().find_map(of).unwrap_or(0))
            }
            NetlinkPayload::Error(error) => {
                Err(NetlinkError::of(what)(rtnetlink::Error::NetlinkError(error)))
            }
            _ => Ok(0),
        });
        refused.try_fold(0, async |sum: u64, n| Ok(sum.saturating_add(n))).await
    }
}

/// Reads an interface from the kernel's message.
fn link(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: flags.contains(netlink_packet_route::link::LinkFlags::Up),
        running: flags.contains(netlink_packet_route::link::LinkFlags::Running),
        parent: None,
        kind: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(mac) => link.mac = mac.try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Link(parent) => link.parent = Some(parent),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link
}

/// A message about routes to a prefix. The generic builder fails for mixed families alone, and this has one address.
pub fn route_to(to: IpNet) -> RouteMessageBuilder<IpAddr> {
    RouteMessageBuilder::<IpAddr>::new().destination_prefix(to.network(), to.prefix_len()).unwrap_or_default()
}

/// Reads an address from the kernel's message: IFA_LOCAL is our own, IFA_ADDRESS the peer's or the same.
fn address(message: AddressMessage) -> Option<Address> {
    let (mut local, mut far, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(a) => local = Some(*a),
            AddressAttribute::Address(a) => far = Some(*a),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let own = local.or(far)?;
    let address = IpNet::new(own, message.header.prefix_len).ok()?;
    let peer = far.filter(|&far| far != own);
    Some(Address { index: message.header.index, address, peer, flags, message })
}
