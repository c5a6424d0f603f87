//! VXLAN: frames into packets, and out of them.

use labctl_model::OfFamily;

use super::{Complaint, Fate, Unknown, Walker, ip::unspecified, link::Flood};
use crate::{
    net::{At, Link, Next},
    packet::{Body, Frame, Kind, Packet, Proto, Tuple, asks},
};

/// Bytes that VXLAN adds beside the outer IP header: Ethernet, VXLAN and UDP headers (RFC 7348).
const VXLAN_BYTES: u32 = 30;
/// Bytes that ESP adds at most, with AES-GCM and an ICV of 16 bytes (RFC 4106).
const ESP_BYTES: u32 = 36;
/// Source port of outer packets; Linux takes a hash of the inner flow.
const OUTER_SPORT: u16 = 50_000;

impl Walker<'_> {
    pub(super) fn encapsulate(&mut self, at: At, frame: Frame) -> Result<Fate, Unknown> {
        let net = self.net;
        let (Link::Vxlan(vxlan), Body::Ip(inner)) = (&net.at(at).link, &frame.body) else {
            return Ok(Fate::Lost("no tunnel".to_owned()));
        };
        let behind = vxlan.peers.values().find(|(mac, _)| Some(*mac) == frame.dst).map(|(_, vtep)| *vtep);
        let Some(vtep) = behind else {
            return Ok(Fate::Lost(format!("{}: no node is known for that MAC", net.place(at))));
        };
        if vtep.family() != vxlan.family {
            return Ok(Fate::Lost(format!(
                "{}: this Docker sends no VXLAN by {}",
                net.place(at),
                vtep.family()
            )));
        }
        let (proto, more) = if vxlan.encrypted { (Proto::Esp, ESP_BYTES) } else { (Proto::Udp, 0) };
        let (sport, dport) = if vxlan.encrypted { (0, 0) } else { (OUTER_SPORT, vxlan.port) };
        let added = VXLAN_BYTES + vtep.family().header_len() as u32 + more;
        // Docker's MTU leaves no room for IPv6: the tunnel says so itself (Linux, net/ipv4/ip_tunnel_core.c,
        // skb_tunnel_check_pmtu).
        if let (true, Next::Out { dev, .. }) = (vtep.is_ipv6(), net.spaces[vxlan.outer].route(vtep, None)) {
            let room = net.at(At { ns: vxlan.outer, iface: dev }).mtu.saturating_sub(added);
            if inner.size > room && !inner.may_fragment {
                let (ns, what) = (at.ns, Complaint::TooBig(room));
                return Ok(Fate::Returned { ns, what, packet: inner.clone() });
            }
        }
        let size = inner.size + added;
        self.note_frame(net.place(at), &frame, format!("its table: {} is behind {vtep}", words(frame.dst)));
        let packet = Packet {
            tuple: Tuple { proto, src: unspecified(vtep), sport, dst: vtep, dport },
            size,
            may_fragment: true,
            kind: Kind::Tunnel { vni: vxlan.vni, port: vxlan.port, frame: Box::new(frame) },
        };
        // The inner sender learns nothing of what goes wrong outside.
        Ok(match self.send(vxlan.outer, packet)? {
            Fate::NoRoute => Fate::Lost(format!("{}: no route to {vtep}", net.spaces[vxlan.outer].name)),
            Fate::Arp { hop, why } => {
                Fate::Lost(format!("{}: {} for {hop}: {why}", net.spaces[vxlan.outer].name, asks(hop)))
            }
            Fate::Returned { ns, what, packet } if matches!(packet.kind, Kind::Tunnel { .. }) => {
                Fate::Lost(format!("{}: {what} for {vtep}", net.spaces[ns].name))
            }
            Fate::Dropped { packet, why, .. } if matches!(packet.kind, Kind::Tunnel { .. }) => {
                Fate::Lost(why)
            }
            fate => fate,
        })
    }

    /// Linux, drivers/net/vxlan/vxlan_core.c, vxlan_rcv.
    pub(super) fn decapsulate(&mut self, ns: usize, packet: Packet) -> Result<Fate, Unknown> {
        let net = self.net;
        let outer = packet.tuple;
        let Kind::Tunnel { vni, port, frame } = packet.kind else {
            return Ok(Fate::Lost("no tunnel".to_owned()));
        };
        let device = net.tunnels.iter().find_map(|at| match &net.at(*at).link {
            Link::Vxlan(v)
                if (v.outer, v.vni, v.port) == (ns, vni, port) && v.family == outer.src.family() =>
            {
                Some((*at, v))
            }
            _ => None,
        });
        let name = &net.spaces[ns].name;
        let Some((at, vxlan)) = device else {
            return Ok(Fate::Lost(format!("{name}: no device for VXLAN {vni}")));
        };
        if vxlan.encrypted != (outer.proto == Proto::Esp) {
            return Ok(Fate::Lost(format!("{name}: VXLAN {vni} in clear is dropped")));
        }
        let elsewhere = vxlan.peers.values().find(|(mac, vtep)| *mac == frame.src && *vtep != outer.src);
        if let Some((mac, vtep)) = elsewhere {
            let why = format!(
                "{}: {mac} is known to be behind {vtep}, and this came from {}",
                net.place(at),
                outer.src
            );
            return Ok(Fate::Lost(why));
        }
        self.note_frame(net.place(at), &frame, format!("taken out of VXLAN {vni}"));
        let branches = {
            let answers = |ns: usize, packet: &Packet| self.answers(ns, packet);
            Flood::arrive(net, self.cache, &answers, at, *frame)
        };
        self.land(branches)
    }
}

fn words(mac: Option<crate::packet::Mac>) -> String {
    mac.map_or_else(|| "everybody".to_owned(), |m| m.to_string())
}
