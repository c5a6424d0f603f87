//! `networks`.

use std::net::IpAddr;

use ipnet::IpNet;
use labctl_yaml::{At, Map, raw};

raw! {
    /// A Docker network, in compose's words.
    Network, "a network" {
        /// `bridge` (default), `macvlan`, `ipvlan` or `overlay`.
        #[schemars(extend("enum" = ["bridge", "macvlan", "ipvlan", "overlay"]))]
        driver: Option<At<String>>,
        /// The name that Docker knows it by; default the key.
        name: Option<At<String>>,
        /// Options of the driver, as `ipvlan_mode: l2`. `parent` is an interface, or a segment for the host's NIC on
        /// it, or `SEGMENT.VLAN`.
        driver_opts: Option<Map<At<String>>>,
        /// Where addresses come from; Docker chooses where it is absent.
        ipam: Option<Ipam>,
        /// Whether it has IPv4; Docker 28 and later can leave it out. Default true.
        enable_ipv4: Option<At<bool>>,
        /// Whether it has IPv6. Default false.
        enable_ipv6: Option<At<bool>>,
        /// No way out of it. Default false.
        internal: Option<At<bool>>,
        /// Whether plain containers may join an overlay. Default false.
        attachable: Option<At<bool>>,
        /// Whether this overlay is the routing mesh's, instead of the one that Docker makes itself. Default false.
        ingress: Option<At<bool>>,
        /// Labels.
        labels: Option<Map<At<String>>>,
        /// The hosts it is made on; default those with a container on it.
        hosts: Option<Vec<At<String>>>,
        /// Made only by a step (`do: create network NAME`).
        deferred: Option<At<bool>>,
    }
}

raw! {
    /// Address management of a network.
    Ipam, "ipam" {
        /// `default`: the only one.
        driver: Option<At<String>>,
        /// The pools.
        config: Option<Vec<Pool>>,
    }
}

raw! {
    /// A pool of addresses.
    Pool, "an entry of ipam.config" {
        /// The subnet, of IPv4 or IPv6.
        subnet: At<IpNet>,
        /// Gateway; Docker takes the first address where it is absent.
        gateway: Option<At<IpAddr>>,
        /// The part of the subnet that containers get addresses from.
        ip_range: Option<At<IpNet>>,
        /// Addresses that Docker must not hand out, by name.
        aux_addresses: Option<Map<At<IpAddr>>>,
    }
}
