//! Address families, and what has one value of each.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// Smallest MTU of a link that carries IPv6, in bytes (RFC 8200 section 5).
pub const LEAST_MTU_V6: u16 = 1280;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "4")]
    V4,
    /// IPv6.
    #[serde(rename = "6")]
    V6,
}

impl Family {
    /// Both, IPv4 first.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The prefix of every address: `0.0.0.0/0` or `::/0`.
    pub fn everything(self) -> IpNet {
        match self {
            Self::V4 => Ipv4Net::default().into(),
            Self::V6 => Ipv6Net::default().into(),
        }
    }

    /// `127.0.0.1` or `::1`.
    pub fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// `0.0.0.0` or `::`.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// Bits of an address: the length of the prefix that is one address alone.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// Bytes of an IP header without options.
    pub fn header_len(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// What belongs to an address family.
pub trait OfFamily {
    /// Its family.
    fn family(&self) -> Family;
}

impl OfFamily for IpAddr {
    fn family(&self) -> Family {
        if self.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl OfFamily for IpNet {
    fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }
}

/// At most one value of each address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(serialize = "T: Serialize + Copy", deserialize = "T: Deserialize<'de> + OfFamily + Copy"))]
#[serde(into = "Vec<T>", from = "Vec<T>")]
pub struct PerFamily<T> {
    v4: Option<T>,
    v6: Option<T>,
}

impl<T> Default for PerFamily<T> {
    fn default() -> Self {
        Self { v4: None, v6: None }
    }
}

impl<T: Copy> PerFamily<T> {
    /// The value of a family.
    pub fn get(&self, family: Family) -> Option<T> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// The values, that of IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<T> {
        [self.v4, self.v6].into_iter().flatten()
    }

    /// The first value: that of IPv4 if there is one.
    pub fn first(&self) -> Option<T> {
        self.v4.or(self.v6)
    }

    /// Whether there is a value of this family.
    pub fn has(&self, family: Family) -> bool {
        self.get(family).is_some()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.first().is_none()
    }
}

impl<T: OfFamily> PerFamily<T> {
    /// Sets the value of a family; returns the one that it had.
    pub fn insert(&mut self, value: T) -> Option<T> {
        match value.family() {
            Family::V4 => self.v4.replace(value),
            Family::V6 => self.v6.replace(value),
        }
    }
}

impl PerFamily<IpNet> {
    /// Whether an address lies in one of these prefixes.
    pub fn covers(&self, address: IpAddr) -> bool {
        self.iter().any(|net| net.contains(&address))
    }
}

impl<T: OfFamily> FromIterator<T> for PerFamily<T> {
    /// Of several values of a family, the last counts.
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut all = Self::default();
        values.into_iter().for_each(|value| drop(all.insert(value)));
        all
    }
}

impl<T: OfFamily> Extend<T> for PerFamily<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        values.into_iter().for_each(|value| drop(self.insert(value)));
    }
}

impl<T: OfFamily> From<T> for PerFamily<T> {
    fn from(value: T) -> Self {
        [value].into_iter().collect()
    }
}

impl<T: OfFamily> From<Vec<T>> for PerFamily<T> {
    fn from(values: Vec<T>) -> Self {
        values.into_iter().collect()
    }
}

impl<T: Copy> From<PerFamily<T>> for Vec<T> {
    fn from(values: PerFamily<T>) -> Self {
        values.iter().collect()
    }
}

impl<T: Copy + fmt::Display> fmt::Display for PerFamily<T> {
    /// The values with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{value}")?;
        }
        Ok(())
    }
}

/// Which families a matrix probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probed {
    /// IPv4 where the two ends share it, else IPv6.
    #[default]
    Shared,
    /// This one.
    Only(Family),
}

impl Probed {
    /// The family that is probed whatever the ends have.
    pub fn family(self) -> Option<Family> {
        match self {
            Self::Shared => None,
            Self::Only(family) => Some(family),
        }
    }
}

/// The first address of a subnet that an interface can have; Docker takes it for the gateway if nobody says otherwise.
pub fn first_host(subnet: IpNet) -> Option<IpAddr> {
    match subnet {
        IpNet::V4(net) => net.hosts().next().map(IpAddr::V4),
        // The first of all is the routers' (RFC 4291 section 2.6.1).
        IpNet::V6(net) => net.hosts().nth(1).map(IpAddr::V6),
    }
}

/// Whether an address is valid on its own link alone: `fe80::/10` (RFC 4291 section 2.5.6).
pub fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.is_unicast_link_local())
}
