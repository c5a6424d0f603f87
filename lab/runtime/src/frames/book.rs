//! Values that only the running lab knows: VNIs, MACs and addresses.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
};

use ipnet::IpNet;
use labctl_model::{Draft, Family, Host, Lab, Name, Nic, OfFamily, is_link_local, lab::Segment};
use labctl_protocol::messages::{Netns, NetnsFacts};
use labctl_report::{seen::docker_name, snapshot::Snapshot};
use vxlan::MacAddr;

use crate::{Error, host::RunningHost, peers, swarm, view::View};

/// Looks things up in one lab at one moment.
pub struct Book<'a> {
    pub view: &'a View<'a>,
    pub lab: &'a Lab,
    snapshot: &'a Snapshot,
    facts: HashMap<(String, Netns), NetnsFacts>,
}

/// An interface that can send.
pub struct Interface {
    pub name: String,
    pub mac: MacAddr,
    /// Its addresses; IPv6's link-local ones last.
    pub addresses: Vec<IpNet>,
}

impl Interface {
    /// Its addresses without prefix lengths.
    pub fn ips(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(IpNet::addr).collect()
    }
}

impl<'a> Book<'a> {
    pub fn new(view: &'a View<'a>, snapshot: &'a Snapshot) -> Self {
        Self { view, lab: view.lab, snapshot, facts: HashMap::new() }
    }

    /// Fills in a template's names with their current values.
    pub async fn fill(&mut self, template: &Draft) -> Result<String, Error> {
        let mut values = HashMap::new();
        for (_, name) in template.names().map_err(|e| Error::Frame(e.to_string()))? {
            if let Entry::Vacant(vacant) = values.entry(name) {
                let value = self.value(vacant.key()).await?;
                vacant.insert(value);
            }
        }
        let value = |name: &Name| values.get(name).cloned().ok_or_else(|| unknown(template.as_str()));
        template.fill(value)
    }

    async fn value(&mut self, name: &Name) -> Result<String, Error> {
        self.known(name)?;
        match name {
            Name::Vni(network) => Ok(vni(self.view, network).await?.to_string()),
            Name::Vtep(host) => {
                let node = self.lab.swarm.as_ref().and_then(|s| s.nodes.get(host));
                let address = node.map(|n| n.data_path.unwrap_or(n.advertise));
                address
                    .map(|a| a.to_string())
                    .ok_or_else(|| unknown(&format!("host {host}, which is in no swarm,")))
            }
            Name::Ip { endpoint, at, family } => {
                Ok(self.address(endpoint, at.as_deref(), *family)?.to_string())
            }
            Name::Mac { endpoint, at } => Ok(self.mac(endpoint, at.as_deref()).await?.to_string()),
        }
    }

    /// Checks a name: a topology's names were checked when it was read, a command line's are checked now.
    fn known(&self, name: &Name) -> Result<(), Error> {
        let (lab, view) = (self.lab, self.view);
        match name {
            Name::Vni(network) => view.network(network).map(drop),
            Name::Vtep(host) => view.named("host", &lab.hosts, host).map(drop),
            Name::Mac { endpoint, .. } | Name::Ip { endpoint, .. } => {
                let there = self.snapshot.endpoints(lab).any(|e| e == endpoint);
                if there || lab.services.contains_key(endpoint) {
                    return Ok(());
                }
                Err(view.no_such("host, container or peer", endpoint, self.snapshot.endpoints(lab)))
            }
        }
    }

    /// An address of an endpoint: on a network or segment, or its first one. Without `family`, IPv4 if it has that there.
    pub fn address(&self, endpoint: &str, at: Option<&str>, family: Option<Family>) -> Result<IpAddr, Error> {
        let all = self.snapshot.addresses(self.lab, endpoint);
        let on = |place: &String| at.is_none_or(|at| place == at || place == docker_name(self.lab, at));
        // If there are several, prefer a network of the topology: docker_gwbridge is Docker's own.
        let known = |place: &String| {
            self.lab.segments.contains_key(place)
                || self.lab.networks.values().any(|n| n.docker_name == *place)
        };
        let of = |family: Family| {
            let mut there = all.iter().filter(|(place, address)| on(place) && address.family() == family);
            there.clone().find(|(place, _)| known(place)).or_else(|| there.next())
        };
        let found = match family {
            Some(family) => of(family),
            None => Family::ALL.into_iter().find_map(of),
        };
        found.map(|(_, address)| *address).ok_or_else(|| {
            if let Some(why) = self.snapshot.why_unseen(self.lab, endpoint) {
                return Error::Frame(why.to_owned());
            }
            let place = at.map(|at| format!(" on {at}")).unwrap_or_default();
            let kind = family.map_or("address".to_owned(), |family| format!("{family} address"));
            Error::Frame(format!(
                "{endpoint} has no {kind}{place} now\nhint: `labctl ps` shows whether it runs"
            ))
        })
    }

    /// The MAC of the interface that has this address.
    async fn mac(&mut self, endpoint: &str, at: Option<&str>) -> Result<MacAddr, Error> {
        let nics = match (self.lab.hosts.get(endpoint), self.lab.peers.get(endpoint)) {
            (Some(host), _) => host.nics.as_slice(),
            (None, Some(peer)) => std::slice::from_ref(&peer.nic),
            (None, None) => &[],
        };
        if !nics.is_empty() {
            let nic = nics.iter().find(|n| at.is_none_or(|at| n.segment == at));
            return nic.map(|n| MacAddr(n.mac)).ok_or_else(|| unknown(endpoint));
        }
        let address = self.address(endpoint, at, None)?;
        let (host, netns) = self.place(endpoint)?;
        let facts = self.facts(host, &netns).await?;
        mac_with(&facts, address)
            .ok_or_else(|| unknown(&format!("the interface of {endpoint} with {address}")))
    }

    /// The host and namespace of a running endpoint.
    pub fn place(&self, endpoint: &str) -> Result<(&'a RunningHost, Netns), Error> {
        let netns = self.snapshot.netns(self.lab, endpoint);
        let home = self.snapshot.home_of(self.lab, endpoint).unwrap_or(endpoint);
        let netns = netns.ok_or_else(|| {
            if let Some(why) = self.snapshot.why_unseen(self.lab, endpoint) {
                return Error::Frame(why.to_owned());
            }
            Error::Frame(format!(
                "{endpoint} does not run\nhint: `labctl docker {} {home} -- ps -a` shows why",
                self.lab.name
            ))
        })?;
        Ok((self.view.host(home)?, netns))
    }

    /// The requested interface of an endpoint, else its first: a host's first NIC or the bridge that this is a port of, or a
    /// container's interface on its first network. A port of a bridge has the addresses of the bridge.
    pub async fn interface(&mut self, endpoint: &str, wanted: Option<&str>) -> Result<Interface, Error> {
        let lab = self.lab;
        let no_such = |name: &str, known: &[String]| {
            let known = known.iter().map(String::as_str);
            self.view.no_such("interface", &format!("{endpoint}:{name}"), known)
        };
        if let Some(nic) = lab.peers.get(endpoint).map(|peer| &peer.nic) {
            if let Some(other) = wanted.filter(|name| *name != nic.name) {
                return Err(no_such(other, std::slice::from_ref(&nic.name)));
            }
            let addresses = nic.addresses.iter().collect();
            return Ok(Interface { name: nic.name.clone(), mac: MacAddr(nic.mac), addresses });
        }
        let (host, netns) = self.place(endpoint)?;
        let facts = self.facts(host, &netns).await?;
        let home = self.home(endpoint);
        let bridge_of =
            |nic: &str| home.and_then(|home| home.bridge_of(nic)).map(|bridge| bridge.name.clone());
        let first = match home {
            Some(home) => home.nics.first().map(|n| bridge_of(&n.name).unwrap_or_else(|| n.name.clone())),
            None => {
                let address = self.address(endpoint, None, None).ok();
                let with = facts.addresses.iter().find(|(_, net)| Some(net.addr()) == address);
                let any = || facts.interfaces.iter().find(|i| *i != "lo").cloned();
                with.map(|(name, _)| name.clone()).or_else(any)
            }
        };
        let name = wanted.map(str::to_owned).or(first);
        let name = name.ok_or_else(|| Error::Frame(format!("{endpoint} has no interface but lo")))?;
        let speaks = bridge_of(&name).unwrap_or_else(|| name.clone());
        let mac = facts.macs.get(&speaks).ok_or_else(|| no_such(&speaks, &facts.interfaces))?;
        let addresses = all_addresses(&facts).filter(|(of, _)| *of == speaks).map(|(_, net)| *net).collect();
        Ok(Interface { name, mac: MacAddr(*mac), addresses })
    }

    /// The next-hop MAC for an address, for a station on a segment: its owner's, else the gateway's.
    pub async fn next_mac_on(&mut self, segment: &str, to: IpAddr) -> Result<MacAddr, Error> {
        let lan = self.lab.segments.get(segment);
        let near = |s: &Segment| s.subnet.covers(to) || is_link_local(to);
        if lan.is_some_and(|s| near(s) && s.gateway.get(to.family()) != Some(to)) {
            return self.owner_mac(to, None).await;
        }
        let stats = self.view.wire()?.stats().await.map_err(|e| Error::Wire(e.to_string()))?;
        let gateway = stats.segments.get(segment).and_then(|s| s.gateway_mac);
        gateway.map(MacAddr).ok_or_else(|| no_mac(to, &format!("segment {segment} has no gateway")))
    }

    /// The next-hop MAC for an address, for an endpoint and one of its interfaces.
    pub async fn next_mac_from(
        &mut self,
        endpoint: &str,
        by: &Interface,
        to: IpAddr,
    ) -> Result<MacAddr, Error> {
        if let Some(peer) = self.lab.peers.get(endpoint) {
            let hop = peers::next_hop(self.lab, endpoint, to);
            let hop = hop.ok_or_else(|| no_mac(to, &format!("{endpoint} has no route to it")))?;
            return self.next_mac_on(&peer.nic.segment, hop).await;
        }
        if let Some(segment) = self.home(endpoint).and_then(|home| self.segment_towards(home, &by.name, to)) {
            return self.next_mac_on(segment, to).await;
        }
        let (host, _) = self.place(endpoint)?;
        if by.addresses.iter().any(|net| net.contains(&to)) {
            return self.owner_mac(to, Some(&host.name)).await;
        }
        let Some(net) = by.addresses.iter().find(|net| net.addr().family() == to.family()) else {
            return Err(no_mac(to, &format!("{} has no {} address", by.name, to.family())));
        };
        // Its router is the host itself: the bridge with an address in the same subnet.
        let facts = self.facts(host, &Netns::Host).await?;
        let bridge = facts.addresses.iter().find(|(_, there)| there.trunc() == net.trunc());
        bridge.and_then(|(name, _)| facts.macs.get(name)).map(|mac| MacAddr(*mac)).ok_or_else(|| {
            no_mac(to, &format!("it is not in {}, and the way out of there is not known", net.trunc()))
        })
    }

    /// The host whose interfaces an endpoint has: itself, or the one whose namespace it shares.
    fn home(&self, endpoint: &str) -> Option<&'a Host> {
        self.lab.hosts.get(self.lab.namespace_of(endpoint).unwrap_or(endpoint))
    }

    /// The segment behind a NIC of a host; behind a bridge the one with the address, else one with a way out to it.
    fn segment_towards(&self, host: &'a Host, interface: &str, to: IpAddr) -> Option<&'a str> {
        let through =
            |name: &str| name == interface || host.bridge_of(name).is_some_and(|b| b.name == interface);
        let nics = || host.nics.iter().filter(|nic| through(&nic.name));
        let segment = |nic: &&Nic| self.lab.segments.get(&nic.segment);
        let near = |nic: &&Nic| segment(nic).is_some_and(|s| s.subnet.covers(to));
        let leads_out = |nic: &&Nic| segment(nic).is_some_and(|s| s.gateway.has(to.family()));
        let found = nics().find(near).or_else(|| nics().find(leads_out)).or_else(|| nics().next());
        found.map(|nic| nic.segment.as_str())
    }

    /// The MAC of the owner of an address. If there are several, as for docker0, prefers one on the host `near`.
    pub async fn owner_mac(&mut self, address: IpAddr, near: Option<&str>) -> Result<MacAddr, Error> {
        let (lab, snapshot) = (self.lab, self.snapshot);
        let nics = lab.hosts.values().flat_map(|h| &h.nics).chain(lab.peers.values().map(|p| &p.nic));
        if let Some(nic) = nics.into_iter().find(|n| n.has(address)) {
            return Ok(MacAddr(nic.mac));
        }
        let mut hosts: Vec<&RunningHost> = self.view.hosts.values().map(|h| &**h).collect();
        hosts.sort_by_key(|h| near != Some(h.name.as_str()));
        let has_nics = |e: &str| lab.hosts.contains_key(e) || lab.peers.contains_key(e);
        let mut endpoints: Vec<&str> = snapshot.endpoints(lab).filter(|e| !has_nics(e)).collect();
        endpoints.sort_by_key(|e| near.is_none() || snapshot.home_of(lab, e) != near);
        let has = |e: &&str| snapshot.addresses(lab, e).iter().any(|(_, a)| *a == address);
        let owner = endpoints.into_iter().find(has);
        // Interfaces such as docker0 and stacked ones come before containers, except containers that are near.
        if !owner.is_some_and(|owner| near.is_some() && snapshot.home_of(lab, owner) == near) {
            for host in hosts {
                // A host that does not answer is skipped.
                let Ok(facts) = self.facts(host, &Netns::Host).await else { continue };
                if let Some(mac) = mac_with(&facts, address) {
                    return Ok(mac);
                }
            }
        }
        let owner = owner.ok_or_else(|| no_mac(address, "nobody in the lab has that address"))?;
        let (host, netns) = self.place(owner)?;
        let facts = self.facts(host, &netns).await?;
        mac_with(&facts, address).ok_or_else(|| no_mac(address, &format!("no interface of {owner} has it")))
    }

    async fn facts(&mut self, host: &RunningHost, netns: &Netns) -> Result<NetnsFacts, Error> {
        let key = (host.name.clone(), netns.clone());
        if let Some(facts) = self.facts.get(&key) {
            return Ok(facts.clone());
        }
        let facts = host.agent.facts(netns.clone()).await.map_err(host.failed())?;
        self.facts.insert(key, facts.clone());
        Ok(facts)
    }

    /// The last free address of a segment, for a station that is no host.
    pub fn free_address(&self, segment: &str, family: Family) -> Option<IpAddr> {
        let lan = self.lab.segments.get(segment)?;
        let subnet = lan.subnet.get(family)?;
        // From the end: there is at least one unless thousands of addresses are taken.
        let from_end: Box<dyn Iterator<Item = IpAddr>> = match (subnet.network(), subnet.broadcast()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                Box::new((u32::from(first) + 1..u32::from(last)).rev().map(|n| IpAddr::V4(n.into())))
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                Box::new((u128::from(first) + 1..u128::from(last)).rev().map(|n| IpAddr::V6(n.into())))
            }
            _ => return None,
        };
        let mut free = from_end.filter(|address| {
            lan.gateway.get(family) != Some(*address) && self.snapshot.owner(self.lab, *address).is_none()
        });
        free.next()
    }
}

/// The VNI of an overlay, as a manager of the swarm knows it.
pub async fn vni(view: &View<'_>, network: &str) -> Result<u32, Error> {
    let (manager, _) = swarm::soon(swarm::manager(view)).await?;
    let vni = manager.docker.vni(docker_name(view.lab, network)).await?;
    vni.ok_or_else(|| {
        Error::Frame(format!("the VNI of network {network} is not known\nhint: is the network there? `labctl docker {} {} -- network ls`", view.lab.name, manager.name))
    })
}

/// Interfaces and their addresses, link-local ones last.
fn all_addresses(facts: &NetnsFacts) -> impl Iterator<Item = &(String, IpNet)> {
    facts.addresses.iter().chain(&facts.link_local)
}

fn mac_with(facts: &NetnsFacts, address: IpAddr) -> Option<MacAddr> {
    let (name, _) = all_addresses(facts).find(|(_, net)| net.addr() == address)?;
    facts.macs.get(name).map(|mac| MacAddr(*mac))
}

fn no_mac(address: IpAddr, why: &str) -> Error {
    Error::Frame(format!(
        "the MAC for {address} is not known: {why}\nhint: give it: `eth(dst=02:00:00:00:00:01)`"
    ))
}

fn unknown(what: &str) -> Error {
    Error::Frame(format!("{what} has no such value now"))
}
