//! Captures, read by others than those who wrote them.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pcap_file::pcapng::{Block, PcapNgReader, blocks::interface_description::InterfaceDescriptionOption};

/// The ports by which ICMP echo requests for this address came in, read by pcap-file and etherparse.
pub fn echo_requests(file: &Path, to: [u8; 4]) -> Vec<String> {
    let bytes = std::fs::read(file).unwrap();
    let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
    let (mut ports, mut found) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.unwrap().0 {
            Block::InterfaceDescription(port) => {
                ports.push(port.options.iter().find_map(|o| match o {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                }));
            }
            Block::EnhancedPacket(packet) => {
                let frame = SlicedPacket::from_ethernet(&packet.data).unwrap();
                let Some(NetSlice::Ipv4(ip)) = &frame.net else { continue };
                let Some(TransportSlice::Icmpv4(icmp)) = &frame.transport else { continue };
                if ip.header().destination() == to && icmp.type_u8() == 8 {
                    found.push(ports[packet.interface_id as usize].clone().unwrap());
                }
            }
            _ => {}
        }
    }
    found
}
