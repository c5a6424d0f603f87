//! Features of a kernel that hosts in containers need of it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// A kernel feature that a lab may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// TAP devices: the NICs of a host.
    Tun,
    /// Linux bridges.
    Bridge,
    /// Pairs of interfaces.
    Veth,
    /// Interfaces without a far end: parents of internal macvlan and ipvlan networks.
    Dummy,
    /// macvlan interfaces.
    Macvlan,
    /// ipvlan interfaces.
    Ipvlan,
    /// 802.1Q sub-interfaces.
    Vlan,
    /// VXLAN interfaces.
    Vxlan,
    /// IPVS: virtual addresses of services, and the routing mesh.
    IpVs,
    /// IPsec ESP, with the cipher that encrypted overlays use.
    Esp,
    /// The iptables match `bpf`, with which Docker from 23.0 finds the packets to encrypt.
    BpfMatch,
    /// The iptables match `u32`, which older versions use for that.
    U32Match,
    /// iptables for frames that cross a bridge.
    BridgeNetfilter,
    /// overlayfs: containers' layers.
    Overlayfs,
    /// Addresses of IPv6.
    Ipv6,
}

impl Feature {
    /// All of them.
    pub const ALL: [Feature; 15] = [
        Feature::Tun,
        Feature::Bridge,
        Feature::Veth,
        Feature::Dummy,
        Feature::Macvlan,
        Feature::Ipvlan,
        Feature::Vlan,
        Feature::Vxlan,
        Feature::IpVs,
        Feature::Esp,
        Feature::BpfMatch,
        Feature::U32Match,
        Feature::BridgeNetfilter,
        Feature::Overlayfs,
        Feature::Ipv6,
    ];

    /// Its name in Linux, mostly that of the module.
    pub fn name(self) -> &'static str {
        match self {
            Feature::Tun => "tun",
            Feature::Bridge => "bridge",
            Feature::Veth => "veth",
            Feature::Dummy => "dummy",
            Feature::Macvlan => "macvlan",
            Feature::Ipvlan => "ipvlan",
            Feature::Vlan => "8021q",
            Feature::Vxlan => "vxlan",
            Feature::IpVs => "ip_vs",
            Feature::Esp => "esp4",
            Feature::BpfMatch => "xt_bpf",
            Feature::U32Match => "xt_u32",
            Feature::BridgeNetfilter => "br_netfilter",
            Feature::Overlayfs => "overlay",
            Feature::Ipv6 => "ipv6",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a kernel setting belongs to a network namespace: all of `net` but the sizes of the neighbour tables, which
/// all namespaces share although each shows them.
pub fn is_own_sysctl(key: &str) -> bool {
    let key = key.replace('/', ".");
    key.starts_with("net.") && !key.contains(".gc_thresh")
}

/// For each feature: `None` if the kernel has it, else the kernel's error.
pub type Findings = BTreeMap<Feature, Option<String>>;
