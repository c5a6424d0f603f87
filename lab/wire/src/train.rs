//! Trains: consecutive datagrams of one flow, written as one frame that the receiving kernel splits again.
//!
//! Most of a frame's cost is the receiving kernel's path from device to socket. A kernel that receives from a NIC
//! therefore merges a flow's packets (GRO). This module does the same for a TAP that supports it (Linux 6.2,
//! VIRTIO_NET_HDR_GSO_UDP_L4). It merges only packets of the sending kernel's own UDP, in a flood, and only if the split
//! gives the very same packets: equal lengths, identifications that count up, checksums left to the receiver.

use std::io::IoSlice;

use vxlan::checksum;

use crate::{inbox::PREFIX_LEN, offload};

/// Bytes of the headers: Ethernet without a tag, IPv4 without options, UDP.
const HEADERS: usize = 14 + 20 + 8;
/// Datagrams of a train. Fewer are no flood; not all kernels take more (UDP_MAX_SEGMENTS).
const LEAST: usize = 4;
const MOST: usize = 64;
/// Most bytes of an IP packet.
const LONGEST: usize = 65_535;

const IP: usize = 14;
const UDP: usize = 34;
const GSO_UDP_L4: u8 = 5;

/// A train at the front of an outbox.
#[derive(Debug)]
pub(crate) struct Train<'a> {
    records: &'a [u8],
    /// Bytes from one to the next.
    stride: usize,
    count: usize,
}

/// The parts in which a train is written: the headers, then each datagram's payload.
pub(crate) struct Parts<'a> {
    slices: [IoSlice<'a>; 1 + MOST],
    used: usize,
}

impl<'a> Parts<'a> {
    /// The parts in use, in order.
    pub(crate) fn used(&self) -> &[IoSlice<'a>] {
        &self.slices[..self.used]
    }
}

/// The offload header, and the headers of the one large packet.
pub(crate) type Head = [u8; offload::HEADER_LEN + HEADERS];

impl<'a> Train<'a> {
    /// Finds the train at the front of `records`: frames as in an outbox, each behind its length and its header.
    pub(crate) fn find(records: &'a [u8]) -> Option<Self> {
        let (prefix, _) = records.split_first_chunk::<PREFIX_LEN>()?;
        let stride = PREFIX_LEN + usize::try_from(u32::from_be_bytes(*prefix)).ok()?;
        let first = records.get(..stride)?;
        let frame = first.get(PREFIX_LEN + offload::HEADER_LEN..)?;
        if !can_lead(&first[PREFIX_LEN..], frame) {
            return None;
        }
        let payload = frame.len() - HEADERS;
        let most = MOST.min((LONGEST - (HEADERS - IP)) / payload);
        let follows = |n: usize| {
            let record = records.get(n * stride..(n + 1) * stride)?;
            follows(first, record, n).then_some(())
        };
        let count = 1 + (1..most).take_while(|n| follows(*n).is_some()).count();
        (count >= LEAST).then_some(Self { records, stride, count })
    }

    /// Bytes of the outbox that it replaces.
    pub(crate) fn len(&self) -> usize {
        self.count * self.stride
    }

    /// Builds the headers that it begins with.
    pub(crate) fn head(&self) -> Head {
        let mut head = [0; offload::HEADER_LEN + HEADERS];
        head.copy_from_slice(&self.records[PREFIX_LEN..][..offload::HEADER_LEN + HEADERS]);
        let (header, frame) = head.split_at_mut(offload::HEADER_LEN);
        let payload = self.stride - PREFIX_LEN - offload::HEADER_LEN - HEADERS;
        // All fit 16 bits: the packet has at most LONGEST bytes.
        let udp_len = (8 + self.count * payload) as u16;
        header[1] = GSO_UDP_L4;
        header[2..4].copy_from_slice(&(HEADERS as u16).to_ne_bytes());
        header[4..6].copy_from_slice(&(payload as u16).to_ne_bytes());
        frame[IP + 2..IP + 4].copy_from_slice(&(20 + udp_len).to_be_bytes());
        let sum = checksum::of_with_field_zero(&frame[IP..UDP], 10);
        frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
        frame[UDP + 4..UDP + 6].copy_from_slice(&udp_len.to_be_bytes());
        let pseudo = checksum::Sum::default().bytes(&frame[IP + 12..IP + 20]).word(17).word(udp_len);
        frame[UDP + 6..UDP + 8].copy_from_slice(&(!pseudo.finish()).to_be_bytes());
        head
    }

    /// The whole train, without a copy.
    pub(crate) fn parts<'b>(&'b self, head: &'b Head) -> Parts<'b> {
        let mut slices = [IoSlice::new(&[]); 1 + MOST];
        slices[0] = IoSlice::new(head);
        for (slice, record) in slices[1..].iter_mut().zip(self.records[..self.len()].chunks(self.stride)) {
            *slice = IoSlice::new(&record[PREFIX_LEN + offload::HEADER_LEN + HEADERS..]);
        }
        Parts { slices, used: 1 + self.count }
    }
}

/// Whether a datagram can begin a train: unfragmented IPv4, UDP with its checksum left out, no trailing bytes.
fn can_lead(header: &[u8], frame: &[u8]) -> bool {
    let word = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let start_and_field = [(UDP as u16).to_ne_bytes(), 6u16.to_ne_bytes()].concat();
    frame.len() > HEADERS
        && header[..2] == [1, 0]
        && header[6..offload::HEADER_LEN] == start_and_field
        && frame[12..15] == [8, 0, 0x45]
        && frame[IP + 9] == 17
        && word(IP + 6) & 0xbfff == 0
        && word(IP + 2) == frame.len() - IP
        && word(UDP + 4) == frame.len() - UDP
        && checksum::of(&frame[IP..UDP]) == 0
}

/// Whether `record` equals the `n`-th datagram after `first` that splitting a train would give.
fn follows(first: &[u8], record: &[u8], n: usize) -> bool {
    let frame = PREFIX_LEN + offload::HEADER_LEN;
    let same = |from: usize, to: usize| first[from..to] == record[from..to];
    let (ip, end) = (frame + IP, frame + HEADERS);
    let id = |bytes: &[u8]| u16::from_be_bytes([bytes[ip + 4], bytes[ip + 5]]);
    same(0, ip + 4)
        && id(record) == id(first).wrapping_add(n as u16)
        && same(ip + 6, ip + 10)
        && same(ip + 12, end)
        && checksum::of(&record[ip..frame + UDP]) == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A record of an outbox: a datagram of the sending kernel's own UDP.
    fn record(id: u16, payload: &[u8]) -> Vec<u8> {
        let text = format!(
            "eth(dst=02:00:00:00:00:0b,src=02:00:00:00:00:0a)/ip(src=10.0.0.1,dst=10.0.0.2,id={id})/\
             udp(sport=1,dport=2)/payload(size={})",
            payload.len()
        );
        let mut frame = text.parse::<vxlan::Stack>().unwrap().build().unwrap();
        frame[HEADERS..].copy_from_slice(payload);
        let len = (8 + payload.len()) as u16;
        let pseudo = checksum::Sum::default().bytes(&frame[26..34]).word(17).word(len);
        frame[40..42].copy_from_slice(&(!pseudo.finish()).to_be_bytes());
        let mut header = [0; offload::HEADER_LEN];
        header[0] = 1;
        header[6..8].copy_from_slice(&34u16.to_ne_bytes());
        header[8..10].copy_from_slice(&6u16.to_ne_bytes());
        let prefix = ((header.len() + frame.len()) as u32).to_be_bytes();
        [&prefix[..], &header, &frame].concat()
    }

    fn flood(count: u16) -> Vec<Vec<u8>> {
        (0..count).map(|n| record(65_530u16.wrapping_add(n), &[n as u8; 64])).collect()
    }

    #[test]
    fn a_flood_is_coupled_and_its_headers_are_those_of_one_packet() {
        let records = flood(100).concat();
        let train = Train::find(&records).unwrap();
        assert_eq!((train.count, train.len()), (MOST, MOST * 120));
        let head = train.head();
        let written: Vec<u8> = train.parts(&head).used().iter().flat_map(|part| part.to_vec()).collect();
        let frame = &written[offload::HEADER_LEN..];
        assert_eq!(frame.len(), HEADERS + MOST * 64);
        let ip = vxlan::Ipv4View::new_checked(&frame[IP..]).unwrap();
        assert!(ip.checksum_ok() && usize::from(ip.total_len()) == frame.len() - IP && ip.id() == 65_530);
        let payloads: Vec<u8> = (0..MOST as u8).flat_map(|n| [n; 64]).collect();
        assert_eq!(frame[HEADERS..], payloads);
        // Completed as the header says, the checksum is that of the whole.
        let mut whole = frame.to_vec();
        let sum = checksum::of(&whole[UDP..]);
        whole[UDP + 6..UDP + 8].copy_from_slice(&sum.to_be_bytes());
        let ip = vxlan::Ipv4View::new_checked(&whole[IP..]).unwrap();
        assert!(vxlan::UdpView::new_checked(ip.payload()).unwrap().checksum_ok(ip.addresses()));
    }

    #[test]
    fn a_train_ends_where_taking_it_apart_would_change_something() {
        let count = |records: &[Vec<u8>]| Train::find(&records.concat()).map(|train| train.count);
        assert_eq!(count(&flood(3)), None, "no flood");
        assert_eq!(count(&flood(10)), Some(10));
        let change = |change: fn(&mut Vec<u8>)| {
            let mut records = flood(10);
            change(&mut records[6]);
            count(&records)
        };
        assert_eq!(change(|r| *r = record(1, &[6; 64])), Some(6), "another identification");
        assert_eq!(change(|r| *r = record(0, &[6; 63])), Some(6), "another length");
        assert_eq!(change(|r| r[4] = 0), Some(6), "its checksum is there");
        assert_eq!(change(|r| r[14] ^= 1), Some(6), "to another station");
        assert_eq!(change(|r| r[14 + IP + 10] ^= 1), Some(6), "its header's checksum is wrong");
        assert_eq!(change(|r| r[14 + UDP] ^= 1), Some(6), "from another port");
        assert_eq!(change(|r| r.truncate(50)), Some(6), "cut short");
        let all = |change: fn(&mut Vec<u8>)| {
            let mut records = flood(10);
            records.iter_mut().for_each(change);
            count(&records)
        };
        assert_eq!(all(|r| r[4] = 0), None, "crafted");
        assert_eq!(all(|r| r[14 + IP + 6] = 0x20), None, "in pieces, and a wrong sum");
        assert_eq!(all(|r| r[14 + UDP + 5] += 1), None, "a length that is not its own");
        assert_eq!(count(&(0..10).map(|n| record(n, &[])).collect::<Vec<_>>()), None, "nothing to carry");
        assert_eq!(Train::find(&[]).map(|t| t.count), None);
        assert_eq!(Train::find(&[0, 0, 0, 3, 1, 2, 3]).map(|t| t.count), None);
    }
}
