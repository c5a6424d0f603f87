//! Builds a frame for the lab as it is now: fills in names and missing fields, and marks it.

use std::net::IpAddr;

use labctl_model::{Family, Lab, Source};
use labctl_protocol::{
    frames::{Marks, Shape},
    messages::Netns,
    probe::nonce::{Kind as NonceKind, Nonce},
};
use vxlan::{Decode, Dissection, Ether, Kind, Layer, MacAddr, Payload, Stack, proto};

use super::{
    Order,
    book::{Book, Interface},
};
use crate::{Error, host::RunningHost};

/// MAC of a station on the wire that is no host: locally administered, used by nobody else.
pub const STATION_MAC: MacAddr = MacAddr([0x06, 0x67, 0x77, 0x01, 0x00, 0x01]);
/// Source MAC of a frame in a tunnel, if none is given. The kernel accepts no frame without one.
pub const INNER_MAC: MacAddr = MacAddr([0x06, 0x67, 0x77, 0x01, 0x00, 0x02]);

/// A frame ready to be sent.
pub struct Written<'a> {
    pub stack: Stack,
    pub bytes: Vec<u8>,
    pub sender: Sender<'a>,
    pub known: Known,
}

/// The sender of a frame.
pub enum Sender<'a> {
    /// An interface of a host or container.
    Interface { host: &'a RunningHost, netns: Netns, interface: String },
    /// A sender without a host.
    Station(Station<'a>),
}

/// A sender directly on a segment, without a host.
pub enum Station<'a> {
    /// A station on this segment that is not part of the lab.
    Stranger(String),
    /// A peer.
    Peer(&'a labctl_peer::Peer),
}

/// How we recognise this frame when we see it again.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its run.
    pub run: u64,
    /// Its own bytes, if it has no mark.
    pub needle: Option<Vec<u8>>,
    /// Its layers.
    pub shape: Shape,
    marks: Marks,
}

impl Known {
    pub fn new(run: u64, needle: Option<Vec<u8>>, shape: Shape) -> Self {
        let marks = Marks::new(run, needle.clone());
        Self { run, needle, shape, marks }
    }

    pub fn marks(&self) -> Marks {
        self.marks.clone()
    }

    /// See [`Marks::find`].
    pub fn find(&self, frame: &[u8]) -> Option<Option<u32>> {
        self.marks.find(frame)
    }
}

/// UDP ports that carry VXLAN in this lab.
pub fn vxlan_ports(lab: &Lab) -> Vec<u16> {
    let own = lab.swarm.as_ref().and_then(|s| s.data_path_port);
    let mut ports = vec![proto::vxlan::PORT];
    ports.extend(own.filter(|port| *port != proto::vxlan::PORT));
    ports
}

/// The mark that follows a frame's own layers, to recognise it.
pub fn mark(run: u64, number: u32) -> Payload {
    Payload(Nonce { kind: NonceKind::Frame, run, cell: number }.bytes().to_vec())
}

/// Builds a frame.
pub async fn write<'a>(book: &mut Book<'a>, order: &Order, run: u64) -> Result<Written<'a>, Error> {
    let text = book.fill(&order.frame).await?;
    let mut stack: Stack =
        text.parse().map_err(|e: vxlan::ParseStackError| Error::Frame(format!("{text}: {e}")))?;
    let sender = match &order.from {
        Source::Wire(segment) => {
            book.view.named("segment", &book.lab.segments, segment)?;
            let own = Family::ALL.into_iter().filter_map(|family| book.free_address(segment, family));
            stack.fill_source(STATION_MAC, &own.collect::<Vec<_>>());
            if let Some(to) = wants_mac(&stack) {
                set_dst(&mut stack, book.next_mac_on(segment, to).await?);
            }
            Sender::Station(Station::Stranger(segment.clone()))
        }
        Source::Endpoint { name, interface } => {
            if !book.lab.is_endpoint(name) {
                return Err(book.view.no_such("host, container or peer", name, book.lab.endpoints()));
            }
            let by: Interface = book.interface(name, interface.as_deref()).await?;
            stack.fill_source(by.mac, &by.ips());
            if let Some(to) = wants_mac(&stack) {
                set_dst(&mut stack, book.next_mac_from(name, &by, to).await?);
            }
            match book.view.peers.get(name) {
                Some(peer) => Sender::Station(Station::Peer(peer)),
                None => {
                    let (host, netns) = book.place(name)?;
                    Sender::Interface { host, netns, interface: by.name }
                }
            }
        }
    };
    fill_inner(&mut stack, book).await;
    let marked = order.mark && !matches!(stack.layers.last(), Some(Layer::Payload(_)));
    if !marked && !order.vary.is_empty() {
        let why = "a frame that varies is known by its mark alone, and this one has none";
        return Err(Error::Frame(format!("{why}\nhint: leave out its payload and --unmarked")));
    }
    if marked {
        stack = stack / mark(run, 0);
    }
    let bytes = stack.build().map_err(|e| Error::Frame(format!("{stack}: {e}")))?;
    let decode = Decode { vxlan_ports: vxlan_ports(book.lab), ..Decode::default() };
    let needle = if marked { None } else { Some(own_bytes(&bytes, &decode)) };
    let known = Known::new(run, needle, Shape::of(&bytes, &decode));
    Ok(Written { stack, bytes, sender, known })
}

/// The IP destination, if the frame's destination MAC must still be looked up.
fn wants_mac(stack: &Stack) -> Option<IpAddr> {
    let mut layers = stack.layers.iter();
    let Some(Layer::Ether(Ether { dst: None, .. })) = layers.next() else { return None };
    goes_to(layers.find(|layer| layer.kind() != Kind::Dot1q)?)
}

/// The destination of an IP header, if it is one station's.
fn goes_to(layer: &Layer) -> Option<IpAddr> {
    match layer {
        Layer::Ipv4(ip) => ip.dst.filter(|dst| !dst.is_multicast() && !dst.is_broadcast()).map(IpAddr::V4),
        Layer::Ipv6(ip) => ip.dst.filter(|dst| !dst.is_multicast()).map(IpAddr::V6),
        _ => None,
    }
}

fn set_dst(stack: &mut Stack, mac: MacAddr) {
    if let Some(Layer::Ether(ether)) = stack.layers.first_mut() {
        ether.dst = Some(mac);
    }
}

/// Fills in the missing MACs of frames in tunnels: the destination if the lab knows who has the address, and some
/// source.
async fn fill_inner(stack: &mut Stack, book: &mut Book<'_>) {
    for at in 1..stack.layers.len() {
        let to = stack.layers.get(at + 1).and_then(goes_to);
        let Layer::Ether(Ether { dst, src, .. }) = &mut stack.layers[at] else { continue };
        src.get_or_insert(INNER_MAC);
        if let (None, Some(to)) = (&dst, to) {
            // A tester may well address somebody who is not there.
            *dst = book.owner_mac(to, None).await.ok();
        }
    }
}

/// The constant bytes of a frame without a mark: everything behind the last Ethernet, VLAN or IP header.
fn own_bytes(bytes: &[u8], decode: &Decode) -> Vec<u8> {
    let dissection = Dissection::of(bytes, decode);
    let layers = &dissection.stack.layers;
    let carries = |layer: &Layer| matches!(layer.kind(), Kind::Ether | Kind::Dot1q | Kind::Ipv4 | Kind::Ipv6);
    let last = layers.iter().rposition(carries).unwrap_or(0);
    let from = dissection.offsets.get(last + 1).or(dissection.offsets.get(last)).copied().unwrap_or(0);
    bytes[from..].to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn own(text: &str) -> Vec<u8> {
        let bytes = text.parse::<Stack>().unwrap().build().unwrap();
        own_bytes(&bytes, &Decode::default())
    }

    #[test]
    fn an_unmarked_frame_is_known_by_what_no_hop_changes() {
        let icmp = own("eth/ip(ttl=64)/icmp(id=7)/payload(text=abc)");
        assert_eq!(icmp.len(), 8 + 3);
        assert_eq!(icmp, own("eth/ip(ttl=63)/icmp(id=7)/payload(text=abc)"));
        assert_eq!(own("eth/ip/udp/vxlan(vni=7)/eth/arp(who=10.0.0.1)").len(), 28);
        assert_eq!(own("eth/ip").len(), 20);
    }

    #[test]
    fn only_what_goes_to_one_station_is_looked_up() {
        let wants = |text: &str| wants_mac(&text.parse().unwrap());
        assert_eq!(wants("eth/dot1q(vid=9)/ip(dst=10.0.0.1)"), Some([10, 0, 0, 1].into()));
        assert_eq!(wants("eth/ip6(dst=fd00::1)/udp"), Some("fd00::1".parse().unwrap()));
        for text in [
            "eth(dst=02:00:00:00:00:01)/ip(dst=10.0.0.1)",
            "eth/ip(dst=224.0.0.1)",
            "eth/ip6(dst=ff02::1)",
            "eth/ip",
            "eth/arp(who=10.0.0.1)",
        ] {
            assert_eq!(wants(text), None, "{text}");
        }
    }
}
