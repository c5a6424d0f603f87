//! What hurts a swarm.

use std::net::IpAddr;

use labctl_dataplane::{
    packet::Proto,
    walk::{self, Asked, Cache, Listeners, Outcome},
};
use labctl_model::{Driver, Network};

use super::Linter;
use crate::build;

pub(super) const MTU: &str = "overlay-mtu";
pub(super) const EVEN: &str = "even-managers";
pub(super) const ADVERTISE: &str = "advertise-unreachable";
pub(super) const ENCRYPTED: &str = "encrypted-data-path-port";

impl Linter<'_> {
    pub(super) fn swarm(&mut self) {
        let Some(swarm) = &self.lab.swarm else { return };
        let managers = swarm.managers().count();
        if managers % 2 == 0 {
            self.warn(
                EVEN,
                &["swarm", "managers"],
                format!("{managers} managers survive no more losses than {}", managers - 1),
                "an even number: a majority needs one more",
                "have an odd number of managers; the others can be workers".to_owned(),
            );
        }
        self.mtu();
        self.advertise();
        self.encrypted();
    }

    /// An overlay that believes its path to be wider than it is.
    fn mtu(&mut self) {
        let Some((path, segment)) = self.data_path() else { return };
        let overlays = self.lab.networks.iter().filter(|(_, n)| n.driver == Driver::Overlay);
        let believed = overlays.map(|(key, n)| (key, build::overlay_path_mtu(n)));
        let too_wide: Vec<(String, u32)> =
            believed.filter(|(_, mtu)| *mtu > path).map(|(key, mtu)| (key.clone(), mtu)).collect();
        for (key, mtu) in too_wide {
            self.warn(
                MTU,
                &["networks", &key, "driver_opts", build::MTU_OPTION],
                format!(
                    "overlay `{key}` takes its path for {mtu} bytes wide, and that over `{segment}` carries {path}"
                ),
                "what is larger is lost, or cut in two",
                format!(
                    "driver_opts: {{ {}: \"{path}\" }}, of which Docker takes VXLAN's 50 off",
                    build::MTU_OPTION
                ),
            );
        }
    }

    /// The largest packet that all nodes send to each other's VXLAN, and the segment that decides.
    fn data_path(&self) -> Option<(u32, String)> {
        let nodes = self.state.nodes.iter().filter_map(|(host, node)| {
            let nics = &self.lab.hosts.get(host)?.nics;
            let nic = nics.iter().find(|n| n.has(node.data_path))?;
            let segment = self.lab.segments.get(&nic.segment)?;
            Some((u32::from(segment.mtu.min(nic.mtu)), nic.segment.clone()))
        });
        nodes.min_by_key(|(mtu, _)| *mtu).filter(|_| self.state.nodes.len() > 1)
    }

    /// An address that a node tells the others, and that leads them elsewhere: behind a NAT of its own.
    fn advertise(&mut self) {
        let nodes: Vec<(String, IpAddr, usize)> = self
            .state
            .nodes
            .iter()
            .filter_map(|(host, n)| Some((host.clone(), n.advertise, *self.built.spaces.get(host)?)))
            .collect();
        let cache = Cache::default();
        // By ICMP: a blocked port is no matter of the address.
        let reaches = |from: usize, to: usize, address: IpAddr| {
            let asked = Asked { from, to: address, proto: Proto::Icmp, port: 0, size: None };
            match walk::ask(&self.built.net, &cache, &Listeners::new(), &asked) {
                Ok(trips) => trips
                    .iter()
                    .all(|t| t.outcome == Outcome::Answered && t.got.last().is_some_and(|(ns, _)| *ns == to)),
                Err(_) => true,
            }
        };
        let by_all = |to: usize, address: IpAddr| {
            nodes.iter().filter(|n| n.2 != to).find(|n| !reaches(n.2, to, address)).map(|n| n.0.clone())
        };
        let mut bad = Vec::new();
        for (host, address, ns) in &nodes {
            let Some(other) = by_all(*ns, *address) else { continue };
            let nics = self.lab.hosts.get(host).map(|h| h.nics.as_slice()).unwrap_or_default();
            let mut own = nics.iter().flat_map(|n| n.ips().map(move |ip| (n.segment.clone(), ip)));
            let better = own.find(|(_, ip)| by_all(*ns, *ip).is_none());
            bad.push((host.clone(), *address, other, better));
        }
        for (host, address, other, better) in bad {
            let hint = match better {
                Some((segment, ip)) => format!("advertise_addr: {{ {host}: {segment} }}, which is {ip}"),
                None => "connect the nodes by a segment, and advertise that".to_owned(),
            };
            self.warn(
                ADVERTISE,
                &["swarm", "advertise_addr", &host],
                format!("`{host}` advertises {address}, by which `{other}` does not reach it"),
                "joins, is ready, and is on no overlay",
                hint,
            );
        }
    }

    fn encrypted(&mut self) {
        let port = self.lab.swarm.as_ref().and_then(|s| s.data_path_port).filter(|p| *p != build::VXLAN_PORT);
        let Some(port) = port else { return };
        let old = self
            .state
            .nodes
            .keys()
            .find(|h| self.lab.hosts.get(*h).is_some_and(|h| !h.engine.is_at_least(23)));
        let Some(old) = old.cloned() else { return };
        let encrypted = |n: &Network| n.driver == Driver::Overlay && n.options.contains_key("encrypted");
        for (key, _) in self.lab.networks.iter().filter(|(_, n)| encrypted(n)) {
            self.warn(
                ENCRYPTED,
                &["networks", key, "driver_opts", "encrypted"],
                format!(
                    "encrypted `{key}` carries nothing: Docker 20.10 on `{old}` expects port 4789, not {port}"
                ),
                "moby#45637",
                "leave data_path_port out, or give the host a newer engine".to_owned(),
            );
            self.beside(&["swarm", "data_path_port"], "here");
        }
    }
}
