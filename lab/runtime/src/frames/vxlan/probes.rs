//! The frames, which differ in one thing each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use labctl_model::{Family, Nic, OfFamily};
use labctl_report::tunnels::Kind;
use vxlan::{
    Arp, Ether, Icmpv6, Ipv4, Ipv6, MacAddr, Payload, Stack, Udp, Vxlan,
    checksum::Addresses,
    proto::{self, icmpv6},
};

use super::super::order::INNER_MAC;
use crate::Error;

/// The VNI of the receivers' VTEPs, which no swarm reaches: they count up from 4096.
pub const VTEP_VNI: u32 = 0x6c_6162;
/// A VNI that no VTEP has.
const UNKNOWN_VNI: u32 = 0x6c_6163;
/// The MAC of the receivers' VTEPs.
pub const VTEP_MAC: MacAddr = MacAddr([0x06, 0x67, 0x77, 0x01, 0x00, 0x03]);
/// Addresses in the inner frame's question: for documentation (RFC 5737, RFC 3849), so that nobody answers.
const INNER_IPS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
const INNER_IPS_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)];

/// The addresses of a family of sender and receiver; `None` if one has none.
pub fn ends(by: &Nic, nic: &Nic, family: Family) -> Option<Addresses> {
    Addresses::of(by.address(family)?, nic.address(family)?)
}

/// Sender and receiver.
pub struct Path<'a> {
    /// The sender's.
    pub by: &'a Nic,
    /// The receiver's.
    pub nic: &'a Nic,
    /// Their addresses.
    pub ends: Addresses,
    /// An address of the segment that nobody has.
    pub stranger: IpAddr,
}

/// A marked frame on its way: `tunnel` is what comes between the UDP header and the mark.
fn stack(
    path: &Path<'_>,
    port: u16,
    source: IpAddr,
    checksum: Option<u16>,
    tunnel: Stack,
    mark: Payload,
) -> Stack {
    let ether =
        Ether { dst: Some(MacAddr(path.nic.mac)), src: Some(MacAddr(path.by.mac)), ..Ether::default() };
    let mut stack = match Addresses::of(source, path.ends.dst()).unwrap_or(path.ends) {
        Addresses::V4 { src, dst } => {
            ether / Ipv4 { src: Some(src), dst: Some(dst), df: true, ..Ipv4::default() }
        }
        Addresses::V6 { src, dst } => ether / Ipv6 { src: Some(src), dst: Some(dst), ..Ipv6::default() },
    };
    stack = stack / Udp { dst_port: Some(port), checksum, ..Udp::default() };
    stack.layers.extend(tunnel.layers);
    stack / mark
}

/// A VXLAN header with a frame in it that nobody answers: a question for an address of this family.
fn tunnel(header: Vxlan, family: Family) -> Stack {
    let ether = Ether { dst: Some(VTEP_MAC), src: Some(INNER_MAC), ..Ether::default() };
    match family {
        Family::V4 => {
            let [who, tell] = INNER_IPS;
            header / ether / Arp { target_ip: who, sender_ip: Some(tell), ..Arp::default() }
        }
        Family::V6 => {
            let [who, tell] = INNER_IPS_V6;
            let (src, dst) = (Some(tell), Some(icmpv6::solicited_node(who)));
            header
                / ether
                / Ipv6 { src, dst, hop_limit: icmpv6::ON_LINK_HOPS, ..Ipv6::default() }
                / Icmpv6 { icmp_type: icmpv6::NEIGHBOR_SOLICITATION, ..Icmpv6::default() }
                / Payload(who.octets().to_vec())
        }
    }
}

/// Builds a probe with `mark`, by which it is recognised.
pub fn build(kind: Kind, path: &Path<'_>, port: u16, mark: Payload) -> Result<Vec<u8>, Error> {
    let own = path.ends.src();
    let family = own.family();
    let header = Vxlan { vni: VTEP_VNI, ..Vxlan::default() };
    let with = |header, mark| stack(path, port, own, None, tunnel(header, family), mark);
    let stack = match kind {
        Kind::Valid | Kind::WrongChecksum => with(header, mark),
        Kind::Random => {
            let mut random: Vec<u8> = (0..tunnel_len(family)).map(|_| rand::random()).collect();
            // Clear the flags that would make it VXLAN after all.
            random[0] &= !(proto::vxlan::FLAG_VNI | proto::vxlan::FLAG_GROUP_POLICY);
            random.extend(mark.0);
            stack(path, port, own, None, Stack::new(), Payload(random))
        }
        Kind::NoIFlag => with(Vxlan { flags: 0, ..header }, mark),
        Kind::Reserved => with(Vxlan { reserved2: 1, ..header }, mark),
        Kind::UnknownVni => with(Vxlan { vni: UNKNOWN_VNI, ..header }, mark),
        Kind::SpoofedVtep => stack(path, port, path.stranger, None, tunnel(header, family), mark),
        Kind::ZeroChecksum => stack(path, port, own, Some(0), tunnel(header, family), mark),
        Kind::Largest => return of_size(path, port, path.by.mtu.into(), mark),
    };
    let mut bytes = stack.build().map_err(unbuilt)?;
    if kind == Kind::WrongChecksum {
        // The last two bytes of the UDP header.
        let at = overhead(family) - 2;
        let right = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        // Zero would mean no checksum.
        let wrong = if right == 0x5555 { 0x5554 } else { right ^ 0x5555 };
        bytes[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
    }
    Ok(bytes)
}

/// Bytes of Ethernet, IP and UDP headers.
fn overhead(family: Family) -> usize {
    proto::ethernet::HEADER_LEN + family.header_len() + proto::udp::HEADER_LEN
}

/// Bytes of a VXLAN header and the frame in it.
fn tunnel_len(family: Family) -> usize {
    let question = match family {
        Family::V4 => proto::arp::LEN,
        Family::V6 => proto::ipv6::HEADER_LEN + icmpv6::HEADER_LEN + 16,
    };
    proto::vxlan::HEADER_LEN + proto::ethernet::HEADER_LEN + question
}

/// A valid probe whose IP packet has `size` bytes, or more if that is too few.
pub fn of_size(path: &Path<'_>, port: u16, size: usize, mark: Payload) -> Result<Vec<u8>, Error> {
    let family = path.ends.src().family();
    let bare = overhead(family) + tunnel_len(family) + mark.0.len();
    let mut padded = mark.0;
    padded.resize(padded.len() + (size + proto::ethernet::HEADER_LEN).saturating_sub(bare), 0);
    let header = Vxlan { vni: VTEP_VNI, ..Vxlan::default() };
    let stack = stack(path, port, path.ends.src(), None, tunnel(header, family), Payload(padded));
    stack.build().map_err(unbuilt)
}

/// Evenly spaced sizes between two, without these two.
pub fn ladder(good: usize, bad: usize, steps: usize) -> Vec<usize> {
    let open = bad - good - 1;
    let steps = steps.min(open);
    let mut sizes: Vec<usize> = (1..=steps).map(|n| good + (open * n).div_ceil(steps.max(1))).collect();
    sizes.dedup();
    sizes
}

fn unbuilt(error: vxlan::BuildError) -> Error {
    Error::Frame(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::frames::order;
    use vxlan::{Dissection, Layer};

    fn nic(last: u8) -> Nic {
        Nic {
            name: "eth0".into(),
            segment: "lan".into(),
            addresses: [format!("10.0.0.{last}/24"), format!("fd00::{last}/64")]
                .map(|net| net.parse::<ipnet::IpNet>().unwrap())
                .into_iter()
                .collect(),
            peer: Default::default(),
            mtu: 1500,
            mac: [2, 0, 0, 0, 0, last],
        }
    }

    fn layers(kind: Kind, family: Family) -> (usize, Vec<Layer>) {
        let (by, nic) = (Nic { mtu: 1400, ..nic(1) }, nic(2));
        let ends = ends(&by, &nic, family).unwrap();
        let stranger = match family {
            Family::V4 => "10.0.0.9",
            Family::V6 => "fd00::9",
        };
        let path = Path { by: &by, nic: &nic, ends, stranger: stranger.parse().unwrap() };
        let bytes = build(kind, &path, 4789, order::mark(7, 3)).unwrap();
        (bytes.len(), Dissection::of(&bytes, &vxlan::Decode::default()).stack.layers)
    }

    #[test]
    fn probes_differ_from_the_valid_one_in_one_thing() {
        Family::ALL.into_iter().for_each(probes_differ);
    }

    fn probes_differ(family: Family) {
        let layers = |kind| layers(kind, family);
        let (len, valid) = layers(Kind::Valid);
        assert!(valid.iter().all(|layer| layer.wrong().is_empty()), "{valid:?}");
        let mark = valid.len() - 1;
        let differing = |kind| {
            let (other, layers) = layers(kind);
            assert!(kind == Kind::Largest || other == len, "{kind:?} is as long");
            let differ: Vec<usize> = (0..valid.len()).filter(|n| valid.get(*n) != layers.get(*n)).collect();
            (differ, layers)
        };
        // Layers: eth, ip, udp, vxlan, eth, arp, mark. The outer source port follows the inner flow, which stays.
        for kind in [Kind::NoIFlag, Kind::Reserved, Kind::UnknownVni] {
            assert_eq!(differing(kind).0, [3], "{kind:?}");
        }
        assert_eq!(differing(Kind::SpoofedVtep).0, [1]);
        assert_eq!(differing(Kind::ZeroChecksum).0, [2]);
        assert_eq!(differing(Kind::WrongChecksum).0, [2]);
        assert!(differing(Kind::WrongChecksum).1[2].wrong().iter().any(|wrong| wrong.field == "sum"));
        assert!(differing(Kind::ZeroChecksum).1[2].wrong().is_empty(), "none is not wrong");
        assert_eq!(differing(Kind::Largest).0, [mark]);
        assert_eq!(layers(Kind::Largest).0, 1400 + 14);
        let random = differing(Kind::Random).1;
        assert!(matches!(&random[3], Layer::Vxlan(header) if header.flags & 0x88 == 0), "{random:?}");
    }

    #[test]
    fn a_ladder_closes_in_from_both_sides() {
        assert_eq!(ladder(100, 105, 16), [101, 102, 103, 104]);
        let wide = ladder(100, 1500, 16);
        assert!(wide.len() == 16 && wide[0] > 100 && wide[15] == 1499, "{wide:?}");
        // What `largest` does, for every place where a path could end.
        for limit in 100..1500 {
            let (mut good, mut bad) = (100, 1500);
            let mut rounds = 0;
            while bad > good + 1 {
                let sizes = ladder(good, bad, 16);
                match sizes.iter().position(|size| *size > limit) {
                    Some(n) => {
                        bad = sizes[n];
                        good = if n > 0 { sizes[n - 1] } else { good };
                    }
                    None => good = sizes[sizes.len() - 1],
                }
                rounds += 1;
            }
            assert!(good == limit && rounds <= 4, "{limit}: {good} after {rounds}");
        }
    }
}
