//! The frames, which differ in one thing each.

use std::net::{IpAddr, Ipv4Addr};

use labctl_model::{Family, Nic};
use labctl_report::tunnels::Kind;
use vxlan::{Arp, Ether, Ipv4, MacAddr, Payload, Stack, Udp, Vxlan, proto};

use super::super::order::INNER_MAC;
use crate::Error;

/// The VNI of the receivers' VTEPs, which no swarm reaches: they count up from 4096.
pub const VTEP_VNI: u32 = 0x6c_6162;
/// A VNI that no VTEP has.
const UNKNOWN_VNI: u32 = 0x6c_6163;
/// The MAC of the receivers' VTEPs.
pub const VTEP_MAC: MacAddr = MacAddr([0x06, 0x67, 0x77, 0x01, 0x00, 0x03]);
/// Addresses in the inner frame's question: for documentation (RFC 5737), so that nobody answers.
const INNER_IPS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
/// Addresses of sender and receiver. The outer packets of these probes are IPv4.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The sender's.
    pub source: Ipv4Addr,
    /// The receiver's.
    pub destination: Ipv4Addr,
}

impl Ends {
    /// The IPv4 addresses of two NICs; `None` if one has none.
    pub fn of(by: &Nic, nic: &Nic) -> Option<Self> {
        match (by.address(Family::V4)?, nic.address(Family::V4)?) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Self { source, destination }),
            _ => None,
        }
    }
}

/// Sender and receiver.
pub struct Path<'a> {
    /// The sender's.
    pub by: &'a Nic,
    /// The receiver's.
    pub nic: &'a Nic,
    /// Their addresses.
    pub ends: Ends,
    /// An address of the segment that nobody has.
    pub stranger: Ipv4Addr,
}

/// A marked frame on its way: `tunnel` is what comes between the UDP header and the mark.
fn stack(
    path: &Path<'_>,
    port: u16,
    source: Ipv4Addr,
    checksum: Option<u16>,
    tunnel: Stack,
    mark: Payload,
) -> Stack {
    let mut stack =
        Ether { dst: Some(MacAddr(path.nic.mac)), src: Some(MacAddr(path.by.mac)), ..Ether::default() }
            / Ipv4 { src: Some(source), dst: Some(path.ends.destination), df: true, ..Ipv4::default() }
            / Udp { dst_port: Some(port), checksum, ..Udp::default() };
    stack.layers.extend(tunnel.layers);
    stack / mark
}

/// A VXLAN header with a frame in it that nobody answers.
fn tunnel(header: Vxlan) -> Stack {
    let [who, tell] = INNER_IPS;
    header
        / Ether { dst: Some(VTEP_MAC), src: Some(INNER_MAC), ..Ether::default() }
        / Arp { target_ip: who, sender_ip: Some(tell), ..Arp::default() }
}

/// Builds a probe with `mark`, by which it is recognised.
pub fn build(kind: Kind, path: &Path<'_>, port: u16, mark: Payload) -> Result<Vec<u8>, Error> {
    let own = path.ends.source;
    let header = Vxlan { vni: VTEP_VNI, ..Vxlan::default() };
    let with = |header, mark| stack(path, port, own, None, tunnel(header), mark);
    let stack = match kind {
        Kind::Valid | Kind::WrongChecksum => with(header, mark),
        Kind::Random => {
            let mut random: Vec<u8> = (0..TUNNEL).map(|_| rand::random()).collect();
            // Clear the flags that would make it VXLAN after all.
            random[0] &= !(proto::vxlan::FLAG_VNI | proto::vxlan::FLAG_GROUP_POLICY);
            random.extend(mark.0);
            stack(path, port, own, None, Stack::new(), Payload(random))
        }
        Kind::NoIFlag => with(Vxlan { flags: 0, ..header }, mark),
        Kind::Reserved => with(Vxlan { reserved2: 1, ..header }, mark),
        Kind::UnknownVni => with(Vxlan { vni: UNKNOWN_VNI, ..header }, mark),
        Kind::SpoofedVtep => stack(path, port, path.stranger, None, tunnel(header), mark),
        Kind::ZeroChecksum => stack(path, port, own, Some(0), tunnel(header), mark),
        Kind::Largest => return of_size(path, port, path.by.mtu.into(), mark),
    };
    let mut bytes = stack.build().map_err(unbuilt)?;
    if kind == Kind::WrongChecksum {
        let right = u16::from_be_bytes([bytes[CHECKSUM], bytes[CHECKSUM + 1]]);
        // Zero would mean no checksum.
        let wrong = if right == 0x5555 { 0x5554 } else { right ^ 0x5555 };
        bytes[CHECKSUM..CHECKSUM + 2].copy_from_slice(&wrong.to_be_bytes());
    }
    Ok(bytes)
}

/// Ethernet, IPv4 and UDP headers.
const OVERHEAD: usize = proto::ethernet::HEADER_LEN + proto::ipv4::HEADER_LEN + proto::udp::HEADER_LEN;
/// First byte of the UDP checksum.
const CHECKSUM: usize = OVERHEAD - 2;
/// VXLAN header and the frame in it.
const TUNNEL: usize = proto::vxlan::HEADER_LEN + proto::ethernet::HEADER_LEN + proto::arp::LEN;

/// A valid probe whose IP packet has `size` bytes, or more if that is too few.
pub fn of_size(path: &Path<'_>, port: u16, size: usize, mark: Payload) -> Result<Vec<u8>, Error> {
    let bare = OVERHEAD + TUNNEL + mark.0.len();
    let mut padded = mark.0;
    padded.resize(padded.len() + (size + proto::ethernet::HEADER_LEN).saturating_sub(bare), 0);
    let header = Vxlan { vni: VTEP_VNI, ..Vxlan::default() };
    let stack = stack(path, port, path.ends.source, None, tunnel(header), Payload(padded));
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
            addresses: format!("10.0.0.{last}/24").parse::<ipnet::IpNet>().unwrap().into(),
            peer: Default::default(),
            mtu: 1500,
            mac: [2, 0, 0, 0, 0, last],
        }
    }

    fn layers(kind: Kind) -> (usize, Vec<Layer>) {
        let (by, nic) = (Nic { mtu: 1400, ..nic(1) }, nic(2));
        let ends = Ends::of(&by, &nic).unwrap();
        let path = Path { by: &by, nic: &nic, ends, stranger: [10, 0, 0, 9].into() };
        let bytes = build(kind, &path, 4789, order::mark(7, 3)).unwrap();
        (bytes.len(), Dissection::of(&bytes, &vxlan::Decode::default()).stack.layers)
    }

    #[test]
    fn probes_differ_from_the_valid_one_in_one_thing() {
        let (len, valid) = layers(Kind::Valid);
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
        assert_eq!(differing(Kind::Largest).0, [6]);
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
