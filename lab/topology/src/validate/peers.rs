//! Peers: one NIC each, and where their packets go.

use std::net::IpAddr;

use indexmap::IndexMap;
use labctl_model::{
    family::{OfFamily, PerFamily},
    host::{Nic, Peer},
    lab::{Lab, Segment},
};
use labctl_yaml::{At, Cx, Diagnostic};

use super::{entries, hosts, names, segments};
use crate::raw;

pub(super) fn read(t: &raw::Topology, lab: &Lab, cx: &mut Cx) -> IndexMap<String, Peer> {
    let all = t.peers.iter().flat_map(|m| &m.0).enumerate();
    all.filter_map(|(i, (name, p))| Some((name.value.clone(), peer(t, i, name, p.as_ref()?, lab, cx)?)))
        .collect()
}

fn peer(
    t: &raw::Topology,
    index: usize,
    name: &At<String>,
    p: &raw::Peer,
    lab: &Lab,
    cx: &mut Cx,
) -> Option<Peer> {
    let Some((segment, nic)) = p.nics.first() else {
        let d = Diagnostic::new(name.at, format!("peer `{}` is on no segment", name.value));
        cx.error(d.hint(match lab.segments.first() {
            Some((lan, s)) => {
                let hosts = || s.subnet.first().into_iter().flat_map(|net| net.hosts());
                let free = hosts().find(|a| s.gateway.get(a.family()) != Some(*a));
                let address = hosts().nth(19).or(free).map(|a| a.to_string());
                format!("`{}: {{ {lan}: {} }}`, for one", name.value, address.unwrap_or_default())
            }
            None => "it lives on the wire, so the lab needs a segment".into(),
        }));
        return None;
    };
    if let Some((second, _)) = p.nics.get(1) {
        let d = Diagnostic::new(second.at, format!("peer `{}` is on two segments", name.value));
        cx.error(
            d.other(segment.at, "the first").hint("a peer has one NIC: make two peers, or a host of it"),
        );
    }
    if let Some(other) = nic.peer.as_ref().and_then(|p| p.0.first()) {
        let d = Diagnostic::new(other.at, "a peer is no end of a point-to-point link");
        cx.error(d.hint("only hosts' NICs can be"));
    }
    // A segment that is not sound is noted already.
    let s = lab.segments.get(&segment.value)?;
    let written = entries(&t.segments).find(|(k, _)| k.value == segment.value).map(|(_, s)| &s.subnet);
    let (addresses, _) = hosts::nic_addresses(segment, nic, s, written, cx)?;
    let interface = match &nic.interface {
        Some(interface) => {
            names::interface(interface, cx);
            interface.value.clone()
        }
        None => "eth0".to_owned(),
    };
    let nic = Nic {
        name: interface,
        segment: segment.value.clone(),
        addresses,
        peer: PerFamily::default(),
        mtu: hosts::nic_mtu(nic, s, addresses, cx),
        mac: hosts::mac(lab.segments.get_index_of(&segment.value).unwrap_or(0), FIRST_MAC + index),
    };
    let routes = p.keys.routes.iter().flatten();
    for metric in routes.clone().filter_map(|r| r.metric.as_ref()) {
        let d = Diagnostic::new(metric.at, "a peer's route has no metric");
        cx.error(d.hint("it has one NIC and takes the longest prefix: leave `metric` out"));
    }
    let routes =
        routes.filter_map(|r| hosts::configured_route(r, std::slice::from_ref(&nic), &[], cx)).collect();
    Some(Peer { gateway: gateway(p, s, &nic, cx), nic, routes })
}

/// First number for MACs of peers; hosts use lower ones.
const FIRST_MAC: usize = 0x8000;

fn gateway(p: &raw::Peer, segment: &Segment, nic: &Nic, cx: &mut Cx) -> PerFamily<IpAddr> {
    let Some(list) = &p.keys.gateway else { return segment.gateway };
    let mut all = segment.gateway;
    for gateway in segments::one_of_each("the gateway of a peer", list, cx).into_iter().flatten() {
        let family = gateway.value.family();
        let subnet = segment.subnet.get(family);
        if nic.has(gateway.value) {
            let d = Diagnostic::new(gateway.at, format!("{} is the peer's own address", gateway.value));
            cx.error(d.hint("the gateway is a host or the segment's own"));
        } else if !nic.addresses.has(family) {
            let message = format!("{} is {family}, and the peer has no {family} address", gateway.value);
            cx.error(
                Diagnostic::new(gateway.at, message).hint("a next hop is of the same family as the sender"),
            );
        } else if let Some(subnet) = subnet.filter(|s| !s.contains(&gateway.value)) {
            let message = format!("{} cannot be a next hop: it is not on `{}`", gateway.value, nic.segment);
            cx.error(Diagnostic::new(gateway.at, message).hint(segments::range(subnet)));
        }
        all.insert(gateway.value);
    }
    all
}
