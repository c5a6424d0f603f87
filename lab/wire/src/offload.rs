//! Offloads: work that a frame's sender leaves to its receiver, either a checksum to complete or a frame to cut.
//!
//! A TAP announces it in a header before each frame (`struct virtio_net_hdr`; virtio 1.2, section 5.1.6). Another such
//! TAP gets the frame as it is. All others (captures, streams, the stand-in, policies on single frames) get what a cable
//! would have carried: [`Offload::unfold`].

use vxlan::{
    checksum,
    proto::{dot1q, ethernet, ethertype, ip_protocol, ipv6},
};

/// Bytes of the header: without `num_buffers`, which belongs to merged receive buffers.
pub(crate) const HEADER_LEN: usize = 10;
/// Most bytes of an uncut frame: the largest IP packet behind an Ethernet header and two VLAN tags.
pub(crate) const MAX_UNCUT_LEN: usize = 65_535 + 14 + 2 * 4;

// Flags and types of linux/virtio_net.h.
const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// A flag in the type: only the first segment has CWR set, "window reduced" (RFC 3168).
const GSO_ECN: u8 = 0x80;

/// Offsets of fields in their headers, in bytes.
mod at {
    pub(super) const IPV4_LEN: usize = 2;
    pub(super) const IPV4_ID: usize = 4;
    pub(super) const IPV4_SUM: usize = 10;
    pub(super) const IPV4_SRC: usize = 12;
    pub(super) const IPV6_LEN: usize = 4;
    pub(super) const IPV6_SRC: usize = 8;
    pub(super) const TCP_SEQ: usize = 4;
    pub(super) const TCP_OFFSET: usize = 12;
    pub(super) const TCP_FLAGS: usize = 13;
    pub(super) const TCP_SUM: usize = 16;
}

const FIN_PSH: u8 = 0x01 | 0x08;
const CWR: u8 = 0x80;

/// A checksum to complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Checksum {
    /// Offset in the frame of the first byte it covers. It covers all up to the frame's end.
    start: usize,
    /// Offset of its field from `start`. The field holds the sum over the pseudo-header.
    field: usize,
}

/// How to cut a TCP frame into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    /// Payload bytes of each segment but the last.
    size: usize,
    /// Bytes before the payload; each segment begins with a copy of them.
    headers: usize,
    /// Where IP begins.
    ip: usize,
    ipv6: bool,
    ecn: bool,
}

/// The work left for one frame; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offload {
    checksum: Option<Checksum>,
    cut: Option<Cut>,
}

impl Offload {
    /// Reads the header of a frame. `None` if the header does not fit the frame.
    pub(crate) fn read(header: &[u8; HEADER_LEN], frame: &[u8]) -> Option<Self> {
        let word = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
        if header[0] & NEEDS_CSUM == 0 {
            // A frame to cut always has a checksum to complete, too.
            return (header[1] == GSO_NONE).then(Self::default);
        }
        let sum = Checksum { start: word(6), field: word(8) };
        frame.get(sum.start + sum.field..sum.start + sum.field + 2)?;
        let ipv6 = match header[1] & !GSO_ECN {
            GSO_NONE => return Some(Self { checksum: Some(sum), cut: None }),
            GSO_TCPV4 => false,
            GSO_TCPV6 => true,
            _ => return None,
        };
        let words = usize::from(frame.get(sum.start + at::TCP_OFFSET)? >> 4);
        let (headers, ip) = (sum.start + 4 * words, ip_begins(frame)?);
        let cut = Cut { size: word(4), headers, ip, ipv6, ecn: header[1] & GSO_ECN != 0 };
        let first = *frame.get(ip)?;
        let ip_is_sound = match ipv6 {
            true => first >> 4 == 6 && ip + ipv6::HEADER_LEN <= sum.start,
            false => {
                first >> 4 == 4 && ip + 4 * usize::from(first & 0xf) == sum.start && sum.start >= ip + 20
            }
        };
        let sound =
            ip_is_sound && cut.size > 0 && words >= 5 && sum.field == at::TCP_SUM && headers < frame.len();
        sound.then_some(Self { checksum: Some(sum), cut: Some(cut) })
    }

    /// Writes the header of a frame.
    pub(crate) fn header(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        // All came from 16 bits, except the headers' length, which is only a hint.
        let mut put = |at: usize, n: usize| {
            header[at..at + 2].copy_from_slice(&u16::try_from(n).unwrap_or(u16::MAX).to_ne_bytes());
        };
        let Some(sum) = self.checksum else { return header };
        put(6, sum.start);
        put(8, sum.field);
        if let Some(cut) = self.cut {
            put(2, cut.headers);
            put(4, cut.size);
            header[1] = if cut.ipv6 { GSO_TCPV6 } else { GSO_TCPV4 } | if cut.ecn { GSO_ECN } else { 0 };
        }
        header[0] = NEEDS_CSUM;
        header
    }

    /// Whether the frame is what a cable would carry.
    pub(crate) fn is_none(&self) -> bool {
        self.checksum.is_none()
    }

    /// Whether the frame is still to be cut.
    pub(crate) fn is_uncut(&self) -> bool {
        self.cut.is_some()
    }

    /// How many frames a cable would carry for a frame of `len` bytes.
    pub(crate) fn count(&self, len: usize) -> usize {
        self.cut.map_or(1, |cut| (len - cut.headers).div_ceil(cut.size))
    }

    /// Bytes of those frames together.
    pub(crate) fn total(&self, len: usize) -> usize {
        len + self.cut.map_or(0, |cut| (self.count(len) - 1) * cut.headers)
    }

    /// Bytes of the longest of those frames.
    pub(crate) fn longest(&self, len: usize) -> usize {
        self.cut.map_or(len, |cut| len.min(cut.headers + cut.size))
    }

    /// Does the work: calls `each` with the frames that a cable would carry, in order.
    pub(crate) fn unfold(&self, frame: &[u8], mut each: impl FnMut(&[u8])) {
        let Some(sum) = self.checksum else { return each(frame) };
        let Some(cut) = self.cut else {
            let mut whole = frame.to_vec();
            complete(&mut whole, sum);
            return each(&whole);
        };
        let (headers, payload) = frame.split_at(cut.headers);
        let mut segment = Vec::with_capacity(cut.headers + cut.size);
        let last = self.count(frame.len()) - 1;
        for (n, part) in payload.chunks(cut.size).enumerate() {
            segment.clear();
            segment.extend_from_slice(headers);
            segment.extend_from_slice(part);
            head(&mut segment, sum.start, cut, n, last);
            each(&segment);
        }
    }
}

/// Completes a prepared checksum. Zero is sent as all ones, which is the same sum: in UDP, zero means "no checksum".
fn complete(frame: &mut [u8], sum: Checksum) {
    let value = match checksum::of(&frame[sum.start..]) {
        0 => 0xffff,
        value => value,
    };
    put16(frame, sum.start + sum.field, value);
}

/// Adjusts copied headers for segment `n` of 0 to `last`. `tcp` is the offset of TCP.
fn head(frame: &mut [u8], tcp: usize, cut: Cut, n: usize, last: usize) {
    let (ip, len) = (cut.ip, frame.len());
    // No length exceeds that of the uncut frame, whose length was an IP packet's.
    let addresses = if cut.ipv6 {
        put16(frame, ip + at::IPV6_LEN, (len - ip - ipv6::HEADER_LEN) as u16);
        ip + at::IPV6_SRC..ip + ipv6::HEADER_LEN
    } else {
        put16(frame, ip + at::IPV4_LEN, (len - ip) as u16);
        let id = u16::from_be_bytes([frame[ip + at::IPV4_ID], frame[ip + at::IPV4_ID + 1]]);
        put16(frame, ip + at::IPV4_ID, id.wrapping_add(n as u16));
        let sum = checksum::of_with_field_zero(&frame[ip..tcp], at::IPV4_SUM);
        put16(frame, ip + at::IPV4_SUM, sum);
        ip + at::IPV4_SRC..ip + at::IPV4_SRC + 8
    };
    if let Some(seq) = frame[tcp + at::TCP_SEQ..].first_chunk_mut() {
        *seq = u32::from_be_bytes(*seq).wrapping_add((n * cut.size) as u32).to_be_bytes();
    }
    if n < last {
        frame[tcp + at::TCP_FLAGS] &= !FIN_PSH;
    }
    if n > 0 {
        frame[tcp + at::TCP_FLAGS] &= !CWR;
    }
    let pseudo = checksum::Sum::default()
        .bytes(&frame[addresses])
        .word(ip_protocol::TCP.into())
        .bytes(&((len - tcp) as u32).to_be_bytes());
    put16(frame, tcp + at::TCP_SUM, 0);
    let sum = pseudo.bytes(&frame[tcp..]).finish();
    put16(frame, tcp + at::TCP_SUM, sum);
}

/// Offset of the network layer, behind up to two VLAN tags.
fn ip_begins(frame: &[u8]) -> Option<usize> {
    let mut begin = ethernet::HEADER_LEN;
    for _ in 0..2 {
        let kind = frame.get(begin - 2..begin)?;
        if ![ethertype::DOT1Q, ethertype::DOT1AD].map(u16::to_be_bytes).iter().any(|tag| tag == kind) {
            break;
        }
        begin += dot1q::TAG_LEN;
    }
    Some(begin)
}

fn put16(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use vxlan::{EthernetFrame, Ipv4View, TcpFlags, TcpView, checksum::Addresses};

    /// TCP of a sender that leaves its checksum, and where `size` is given its cutting, to others: header and frame.
    fn tcp(payload: &[u8], size: Option<u16>, flags: TcpFlags) -> ([u8; HEADER_LEN], Vec<u8>) {
        let text = format!(
            "eth(dst=02:00:00:00:00:0b,src=02:00:00:00:00:0a)/ip(src=10.0.0.1,dst=10.0.0.2,id=65535)/\
             tcp(sport=1,dport=2,seq=4294967000,flags={flags})/payload(size={})",
            payload.len()
        );
        let mut frame = text.parse::<vxlan::Stack>().unwrap().build().unwrap();
        let at = frame.len() - payload.len();
        frame[at..].copy_from_slice(payload);
        let pseudo = checksum::Sum::default().bytes(&frame[26..34]).word(6).word((frame.len() - 34) as u16);
        put16(&mut frame, 34 + at::TCP_SUM, !pseudo.finish());
        let mut header = [0; HEADER_LEN];
        header[0] = NEEDS_CSUM;
        if let Some(size) = size {
            header[1] = GSO_TCPV4;
            header[4..6].copy_from_slice(&size.to_ne_bytes());
        }
        header[6..8].copy_from_slice(&34u16.to_ne_bytes());
        header[8..10].copy_from_slice(&16u16.to_ne_bytes());
        (header, frame)
    }

    proptest! {
        #[test]
        fn what_is_cut_is_whole_and_sound(
            payload in proptest::collection::vec(any::<u8>(), 1..9000),
            size in 100u16..1460,
        ) {
            let flags = TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN | TcpFlags::CWR;
            let (header, frame) = tcp(&payload, Some(size), flags);
            let offload = Offload::read(&header, &frame).unwrap();
            let (mut bytes, mut sent, mut count) = (0, Vec::new(), 0);
            let last = payload.len().div_ceil(size.into()) - 1;
            offload.unfold(&frame, |segment| {
                let eth = EthernetFrame::new_checked(segment).unwrap();
                let ip = Ipv4View::new_checked(eth.payload()).unwrap();
                let tcp = TcpView::new_checked(ip.payload()).unwrap();
                assert!(ip.checksum_ok() && tcp.checksum_ok(ip.addresses()));
                assert_eq!(usize::from(ip.total_len()) + 14, segment.len());
                assert_eq!(ip.id(), 65535u16.wrapping_add(count as u16));
                assert_eq!(tcp.seq(), 4_294_967_000u32.wrapping_add(sent.len() as u32));
                assert_eq!(tcp.flags().contains(TcpFlags::FIN | TcpFlags::PSH), count == last);
                assert_eq!(tcp.flags().contains(TcpFlags::CWR), count == 0);
                assert!(tcp.flags().contains(TcpFlags::ACK));
                assert!(segment.len() <= offload.longest(frame.len()));
                sent.extend_from_slice(tcp.payload());
                bytes += segment.len();
                count += 1;
            });
            prop_assert_eq!(sent, payload);
            prop_assert_eq!((count, bytes), (offload.count(frame.len()), offload.total(frame.len())));
            let again = Offload::read(&offload.header(), &frame);
            prop_assert_eq!(again, Some(offload));
        }

        #[test]
        fn a_checksum_is_completed(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (header, frame) = tcp(&payload, None, TcpFlags::ACK);
            let offload = Offload::read(&header, &frame).unwrap();
            prop_assert_eq!((offload.count(frame.len()), offload.total(frame.len())), (1, frame.len()));
            offload.unfold(&frame, |whole| {
                let eth = EthernetFrame::new_checked(whole).unwrap();
                let ip = Ipv4View::new_checked(eth.payload()).unwrap();
                assert!(TcpView::new_checked(ip.payload()).unwrap().checksum_ok(ip.addresses()));
                assert_eq!(whole.len(), frame.len());
            });
            prop_assert_eq!(offload.header(), header);
        }

        #[test]
        fn no_header_panics(
            header in any::<[u8; HEADER_LEN]>(),
            known in any::<bool>(),
            frame in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let (mut header, frame) = if known {
                let (sound, frame) = tcp(&frame, Some(50), TcpFlags::ACK);
                let mut odd = sound;
                // One field is what it is not.
                let field = usize::from(header[9]) % HEADER_LEN;
                odd[field] = header[field];
                (odd, frame)
            } else {
                (header, frame)
            };
            header[0] |= NEEDS_CSUM;
            if let Some(offload) = Offload::read(&header, &frame) {
                let mut count = 0;
                offload.unfold(&frame, |_| count += 1);
                prop_assert_eq!(count, offload.count(frame.len()));
            }
        }
    }

    #[test]
    fn a_frame_without_anything_left_to_do_is_itself() {
        let offload = Offload::read(&[0; HEADER_LEN], &[7; 60]).unwrap();
        assert!(offload.is_none());
        offload.unfold(&[7; 60], |frame| assert_eq!(frame, [7; 60]));
        // The receiving kernel's word that a checksum was right is nothing that is left to do.
        let mut valid = [0; HEADER_LEN];
        valid[0] = 2;
        assert!(Offload::read(&valid, &[7; 60]).unwrap().is_none());
        assert_eq!(offload.header(), [0; HEADER_LEN]);
    }

    #[test]
    fn both_generations_of_ip_and_tags_are_cut() {
        let (mut header, plain) = tcp(&[7; 300], Some(100), TcpFlags::ACK);
        // 802.1Q, which moves all behind it.
        let tagged = [&plain[..12], &[0x81, 0, 0, 5], &plain[12..]].concat();
        header[6..8].copy_from_slice(&38u16.to_ne_bytes());
        let offload = Offload::read(&header, &tagged).unwrap();
        let mut lens = Vec::new();
        offload.unfold(&tagged, |frame| {
            let packet = Ipv4View::new_checked(EthernetFrame::new_checked(frame).unwrap().payload()).unwrap();
            assert!(TcpView::new_checked(packet.payload()).unwrap().checksum_ok(packet.addresses()));
            lens.push(frame.len());
        });
        assert_eq!(lens, [158; 3]);

        let text = "eth/ip6(src=fd00::1,dst=fd00::2)/tcp(sport=1,dport=2,flags=A)/payload(size=250)";
        let frame = text.parse::<vxlan::Stack>().unwrap().build().unwrap();
        header[1] = GSO_TCPV6;
        header[6..8].copy_from_slice(&54u16.to_ne_bytes());
        let mut sizes = Vec::new();
        Offload::read(&header, &frame).unwrap().unfold(&frame, |frame| {
            let packet = EthernetFrame::new_checked(frame).unwrap().payload();
            let ip = ipv6::parse(packet).unwrap();
            assert_eq!(usize::from(ip.get_payload_length()), packet.len() - ipv6::HEADER_LEN);
            let tcp = TcpView::new_checked(&packet[ipv6::HEADER_LEN..]).unwrap();
            let ends = Addresses::V6 { src: ip.get_source(), dst: ip.get_destination() };
            assert!(tcp.checksum_ok(ends));
            sizes.push(tcp.payload().len());
        });
        assert_eq!(sizes, [100, 100, 50]);
    }
}
