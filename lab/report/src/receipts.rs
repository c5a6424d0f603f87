//! Decides whether a frame that was seen is the one that was sent, and in which tunnel it was.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use labctl_protocol::{frames::Shape, messages::SeenFrame};
use vxlan::{Decode, Dissection};

use crate::sent::{How, Receipt};

/// In which form a sent frame was seen; `None` if `seen` is another frame, such as an ICMP error that quotes it.
pub fn seen_as(sent: &Shape, seen: &Shape) -> Option<How> {
    if sent.icmp_type != seen.icmp_type {
        return None;
    }
    if sent.kinds == seen.kinds {
        return Some(How::AsSent);
    }
    // One can only begin inside the other behind a tunnel's header.
    let within = |outer: &Shape, inner: &Shape| {
        let around = outer.tunnels.iter().find(|(at, _)| outer.kinds[at + 1..] == inner.kinds[..]);
        around.map(|(_, vni)| *vni)
    };
    within(sent, seen)
        .map(|vni| How::Decapsulated { vni })
        .or_else(|| within(seen, sent).map(|vni| How::Encapsulated { vni }))
}

/// What one host's agent saw of a frame.
pub fn of_host(host: &str, seen: &[SeenFrame], sent: &Shape, decode: &Decode) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for sighting in seen {
        let bytes = from_base64(&sighting.frame);
        let Some(how) = seen_as(sent, &Shape::of(&bytes, decode)) else { continue };
        let frame = Dissection::of(&bytes, decode).stack.to_string();
        receipts.extend(sighting.endpoints.iter().map(|endpoint| Receipt {
            host: host.to_owned(),
            endpoint: endpoint.clone(),
            interface: sighting.interface.clone(),
            received: sighting.inbound && sighting.for_us,
            inbound: sighting.inbound,
            how,
            count: sighting.count,
            frame: frame.clone(),
        }));
    }
    receipts
}

/// Decodes a frame from base64, as the protocols carry it.
fn from_base64(frame: &str) -> Vec<u8> {
    // The agent encoded it, so it is valid.
    BASE64_STANDARD.decode(frame).unwrap_or_default()
}

/// How often an endpoint received a frame. A frame that passes several of its interfaces counts once.
pub fn received(receipts: &[Receipt], endpoint: &str) -> u64 {
    let counts = receipts.iter().filter(|r| r.received && r.endpoint == endpoint).map(|r| r.count);
    counts.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vxlan::Stack;

    fn how(sent: &str, seen: &str) -> Option<How> {
        let shape =
            |text: &str| Shape::of(&text.parse::<Stack>().unwrap().build().unwrap(), &Decode::default());
        seen_as(&shape(sent), &shape(seen))
    }

    const CRAFTED: &str = "eth/ip/udp/vxlan(vni=7)/eth/ip/icmp/payload(size=20)";
    const INNER: &str = "eth/ip/icmp/payload(size=20)";
    const DATAGRAM: &str = "eth/ip/udp/payload(size=20)";

    #[test]
    fn a_frame_is_known_in_and_out_of_tunnels() {
        let tagged = "eth/dot1q(vid=9)/ip(ttl=3)/udp/vxlan(vni=7)/eth/ip/icmp/payload(size=20)";
        assert_eq!(how(CRAFTED, tagged), Some(How::AsSent));
        assert_eq!(how(CRAFTED, INNER), Some(How::Decapsulated { vni: 7 }));
        assert_eq!(how(INNER, CRAFTED), Some(How::Encapsulated { vni: 7 }));
        assert_eq!(how(DATAGRAM, CRAFTED), None);
    }

    #[test]
    fn answers_and_errors_about_it_are_not_it() {
        assert_eq!(how(CRAFTED, "eth/ip/icmp(type=echo-reply)/payload(size=20)"), None);
        let quoted = "eth/ip/icmp(type=unreachable,code=3)/payload(size=48)";
        assert_eq!(how(INNER, quoted), None);
        assert_eq!(how(DATAGRAM, quoted), None);
        assert_eq!(how(DATAGRAM, "eth/ip/tcp/payload(size=20)"), None);
    }
}
