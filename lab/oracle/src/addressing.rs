//! Docker's own address management: which subnet a network gets, and which address an endpoint.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::{IpNet, Ipv4Net};
use labctl_model::IpamPool;

/// Most subnets of one pool that are looked at.
const MOST_SUBNETS: usize = 1 << 16;

/// The addresses of one subnet.
#[derive(Clone, Debug)]
pub struct Pool {
    /// The subnet.
    pub subnet: IpNet,
    /// Where addresses come from.
    range: IpNet,
    /// The gateway's.
    pub gateway: IpAddr,
    taken: BTreeSet<u128>,
    /// Whether the next address is the one after the last, as a swarm has it; else it is the lowest that is free.
    serial: bool,
    last: Option<u128>,
}

impl Pool {
    /// A pool as a topology describes it.
    pub fn described(described: &IpamPool, serial: bool) -> Self {
        let subnet = described.subnet.trunc();
        let range = described.ip_range.map_or(subnet, |r| r.trunc());
        let aux = described.aux_addresses.values().map(|a| number(*a)).collect();
        Self::make(subnet, range, described.gateway, aux, serial)
    }

    /// A pool of which only the subnet is known.
    pub fn new(subnet: IpNet, serial: bool) -> Self {
        Self::make(subnet, subnet, None, BTreeSet::new(), serial)
    }

    fn make(
        subnet: IpNet,
        range: IpNet,
        gateway: Option<IpAddr>,
        mut taken: BTreeSet<u128>,
        serial: bool,
    ) -> Self {
        taken.insert(number(subnet.network()));
        if subnet.addr().is_ipv4() {
            taken.insert(number(subnet.broadcast()));
        }
        let mut pool = Self { subnet, range, gateway: subnet.network(), taken, serial, last: None };
        match gateway {
            Some(gateway) => drop(pool.request(gateway)),
            // The first of the range; it counts as the last that was given.
            None => drop(pool.allocate().map(|first| pool.gateway = first)),
        }
        pool.gateway = gateway.unwrap_or(pool.gateway);
        pool
    }

    /// Gives out an address; `None` where all are taken.
    pub fn allocate(&mut self) -> Option<IpAddr> {
        let (first, end) = (number(self.range.network()), number(self.range.broadcast()));
        let from = self.last.filter(|_| self.serial).map_or(first, |last| last.saturating_add(1)).max(first);
        let free = |n: &u128| !self.taken.contains(n);
        // At most as many are looked at as are taken, and one more.
        let found = (from..=end).find(free).or_else(|| (first..from.min(end)).find(free))?;
        self.taken.insert(found);
        self.last = Some(found);
        Some(address(found, self.subnet))
    }

    /// Gives out this address; false where it is taken.
    pub fn request(&mut self, wanted: IpAddr) -> bool {
        self.subnet.contains(&wanted) && self.taken.insert(number(wanted))
    }

    /// Takes an address back.
    pub fn release(&mut self, given: IpAddr) {
        if given != self.gateway {
            self.taken.remove(&number(given));
        }
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn address(number: u128, like: IpNet) -> IpAddr {
    match like {
        IpNet::V4(_) => std::net::Ipv4Addr::from(number as u32).into(),
        IpNet::V6(_) => std::net::Ipv6Addr::from(number).into(),
    }
}

/// Docker's pools for local networks (moby libnetwork/ipamutils/utils.go, `localScopeDefaultNetworks`).
pub fn default_pools() -> Vec<IpNet> {
    let cut = |base: [u8; 4], len: u8, size: u8| {
        let base = Ipv4Net::new(base.into(), len).into_iter();
        base.flat_map(move |net| net.subnets(size).into_iter().flatten())
    };
    let first = [17, 18, 19].into_iter().flat_map(|b| cut([172, b, 0, 0], 16, 16));
    let middle = [20, 24, 28].into_iter().flat_map(|b| cut([172, b, 0, 0], 14, 16));
    first.chain(middle).chain(cut([192, 168, 0, 0], 16, 20)).map(IpNet::V4).collect()
}

/// The pools of `default-address-pools` in daemon.json; `None` where it is not what dockerd takes.
pub fn configured_pools(value: &serde_json::Value) -> Option<Vec<IpNet>> {
    let mut all = Vec::new();
    for pool in value.as_array()? {
        let base: IpNet = pool.get("base")?.as_str()?.parse().ok()?;
        let size = u8::try_from(pool.get("size")?.as_u64()?).ok()?;
        all.extend(base.subnets(size).ok()?.take(MOST_SUBNETS));
    }
    Some(all)
}

/// Whether two networks have an address in common.
pub fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// The first pool from `start` on, round and round, that meets none of these networks. With its place.
pub fn choose(pools: &[IpNet], start: usize, taken: &[IpNet]) -> Option<(usize, IpNet)> {
    let overlaps = |a: &IpNet| taken.iter().any(|b| overlap(*a, *b));
    let places = (start..pools.len()).chain(0..start.min(pools.len()));
    places.map(|i| (i, pools[i])).find(|(_, net)| !overlaps(net))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn addresses(pool: &mut Pool, n: usize) -> Vec<String> {
        (0..n).map(|_| pool.allocate().map_or("none".into(), |a| a.to_string())).collect()
    }

    #[test]
    fn a_local_network_gives_the_lowest_free_and_a_swarm_the_next() {
        let mut local = Pool::new(net("10.0.0.0/29"), false);
        let mut swarm = Pool::new(net("10.0.0.0/29"), true);
        for pool in [&mut local, &mut swarm] {
            assert_eq!(pool.gateway.to_string(), "10.0.0.1");
            assert_eq!(addresses(pool, 2), ["10.0.0.2", "10.0.0.3"]);
            pool.release("10.0.0.2".parse().unwrap());
        }
        assert_eq!(addresses(&mut local, 1), ["10.0.0.2"]);
        assert_eq!(addresses(&mut swarm, 4), ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"]);
        assert_eq!(addresses(&mut swarm, 1), ["none"]);
    }

    #[test]
    fn ranges_and_reserved_addresses_are_kept() {
        let lab = "
name: t
hosts: { a: {} }
networks:
  n:
    hosts: [a]
    ipam: { config: [ { subnet: 172.30.3.0/24, gateway: 172.30.3.1, ip_range: 172.30.3.128/30, aux_addresses: { p: 172.30.3.128 } } ] }
";
        let lab = labctl_topology::parse(lab, "t.yaml").unwrap();
        let mut pool = Pool::described(&lab.networks["n"].ipam[0], false);
        assert_eq!(addresses(&mut pool, 4), ["172.30.3.129", "172.30.3.130", "172.30.3.131", "none"]);
        assert!(!pool.request("172.30.3.129".parse().unwrap()), "it is given");
        assert!(pool.request("172.30.3.9".parse().unwrap()), "outside of the range it may be asked for");
    }

    #[test]
    fn dockers_pools_are_31_and_what_is_taken_is_passed_over() {
        let pools = default_pools();
        assert_eq!(pools.len(), 31);
        assert_eq!((pools[0], pools[15]), (net("172.17.0.0/16"), net("192.168.0.0/20")));
        assert_eq!(choose(&pools, 0, &[net("172.17.3.0/24")]), Some((1, net("172.18.0.0/16"))));
        assert_eq!(choose(&pools, 30, &[net("192.168.240.0/20")]), Some((0, net("172.17.0.0/16"))));
        assert_eq!(choose(&pools, 0, &[net("0.0.0.0/0")]), None);
    }
}
